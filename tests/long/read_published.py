"""Write every published network as .npz, .pt, .safetensors and ONNX, read it back, and compare the modules.

Usage: python -m tests.long.read_published [--clustering published]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from modgraph import detect_modules
from modgraph.io import load_network
from tests.io_networks import Network, write
from tests.networks import FOLDER, published_dag, published_index

FORMATS = ("npz with masks", "pt", "safetensors", "onnx Gemm", "onnx MatMul")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clustering", default="published")
    options = parser.parse_args()
    index = published_index()
    different = dict.fromkeys(("as published", *FORMATS), 0)
    seconds = dict.fromkeys(different, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for entry in index:
            expected = detect_modules(published_dag(entry), clustering=options.clustering, hops=entry["hops"]).labels
            with np.load(FOLDER / entry["file"]) as arrays:
                layers = range(len(entry["layer_sizes"]) - 1)
                masks = [arrays[f"mask{at}"] for at in layers]
                weights = [np.where(mask, arrays[f"weight{at}"], 0) for at, mask in enumerate(masks)]
                net = Network(masks=masks, weights=weights, biases=[arrays[f"bias{at}"] for at in layers])
            for kind in different:
                file = FOLDER / entry["file"] if kind == "as published" else write(net, kind, Path(folder))
                started = time.perf_counter()
                dag = load_network(file)
                seconds[kind] += time.perf_counter() - started
                found = detect_modules(dag, clustering=options.clustering, hops=entry["hops"]).labels
                different[kind] += int(found.shape != expected.shape or (found != expected).any())
    for kind, number in different.items():
        print(f"{kind}: {len(index)} networks read in {seconds[kind]:.1f} s, labels differ in {number}")
    return int(any(different.values()))


if __name__ == "__main__":
    sys.exit(main())
