"""Measure the memory for reading a safetensors MLP of 10⁸ weights with 1 % of them kept.

The limit is 1.5 × the largest layer plus the sparse result. The file is written row by row and read in a separate
process; its peak memory before reading is subtracted.

Usage: python -m tests.long.read_large [--width 5000] [--layers 4] [--density 0.01]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(path: Path, *, width: int, layers: int, density: float) -> None:
    """Write the file a block of rows at a time."""
    size = 4 * width * width
    header = {
        f"{at}.weight": {"dtype": "F32", "shape": [width, width], "data_offsets": [at * size, (at + 1) * size]}
        for at in range(layers)
    }
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(layers):
            for first in range(0, width, 500):
                rows = min(500, width - first)
                block = rng.standard_normal((rows, width), dtype=np.float32)
                block[rng.random((rows, width), dtype=np.float32) >= density] = 0
                file.write(block.tobytes())


def peak() -> int:
    """Return the largest amount of memory that this process has had so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read(path: str) -> None:
    from modgraph.io import load_network

    before = peak()
    started = time.perf_counter()
    dag = load_network(path)
    seconds = time.perf_counter() - started
    arrays = (dag.sources, dag.targets, dag.weights, dag.layer, dag.unit_index, dag.biases, dag.unit_names)
    result = sum(array.nbytes for array in arrays if array is not None)
    print(json.dumps({"edges": dag.n_edges, "seconds": seconds, "taken": peak() - before, "result": result}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=5000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--density", type=float, default=0.01)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        write(path, width=options.width, layers=options.layers, density=options.density)
        command = [sys.executable, "-m", "tests.long.read_large", "--read", str(path)]
        done = subprocess.run(command, capture_output=True, check=True)
    facts = json.loads(done.stdout)
    layer = 4 * options.width**2
    limit = 1.5 * layer + facts["result"]
    print(
        f"{options.layers * options.width**2:.3g} weights, {facts['edges']} edges: {facts['seconds']:.1f} s, "
        f"{facts['taken'] / 1e6:.0f} MB (a layer is {layer / 1e6:.0f} MB, the result {facts['result'] / 1e6:.0f} MB, "
        f"the limit {limit / 1e6:.0f} MB)"
    )
    return int(facts["taken"] > limit)


if __name__ == "__main__":
    sys.exit(main())
