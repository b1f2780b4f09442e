"""Measure `modgraph detect` in a fresh process, with an empty and with a filled cache of compiled code.

Usage: python -m tests.long.first_calls [--checkout FOLDER]

Writes networks of four layers, of 8, 32 and 60 units: random masks with three edges a unit, and planted modules. Prints
the processor time and the wall time of the command, the shorter of three calls. The filled cache holds what a network
of 80 units a layer compiles. `--checkout` measures the source in another folder, such as that of an earlier commit.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from modgraph import LayeredDAG, save_network
from modgraph.planted import planted_modules

MODULES = {8: 2, 32: 4, 60: 4, 80: 4}
"""Planted modules of each layer, by units of a layer."""

CALLS = 3
"""Calls of which the shortest counts."""


def network(kind: str, size: int) -> LayeredDAG:
    """Return a network of four layers."""
    if kind == "planted":
        return planted_modules([size] * 4, n_modules=MODULES[size], fan_out=3, rewired=0.05, random_state=0)[0]
    rng = np.random.default_rng(0)
    masks = np.zeros((3, size, size), dtype=np.bool_)
    for mask in masks:
        for source in range(size):
            mask[rng.choice(size, 3, replace=False), source] = True
    return LayeredDAG.from_masks(list(masks))


def detect(path: Path, *, cache: Path, checkout: Path) -> tuple[float, float]:
    """Run the command; return processor time and wall time, in seconds."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "modgraph", "detect", str(path)],
        env=environment | threads | {"NUMBA_CACHE_DIR": str(cache)},
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=Path.cwd(), help="folder that holds the package")
    checkout = parser.parse_args().checkout.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {(kind, size): folder / f"{kind}-{size}.npz" for kind in ("random", "planted") for size in MODULES}
        for (kind, size), path in paths.items():
            save_network(network(kind, size), path)
        filled = folder / "filled"
        detect(paths["planted", 80], cache=filled, checkout=checkout)
        for (kind, size), path in paths.items():
            empty = [detect(path, cache=folder / f"{path.stem}-{call}", checkout=checkout) for call in range(CALLS)]
            warm = [detect(path, cache=filled, checkout=checkout) for _ in range(CALLS)]
            figures = [f"{min(seconds):.1f} s" for times in (empty, warm) for seconds in zip(*times, strict=True)]
            print(
                f"four layers of {size}, {kind}: not compiled {figures[0]} of processor ({figures[1]} in all), "
                f"compiled {figures[2]} ({figures[3]})",
                flush=True,
            )


if __name__ == "__main__":
    main()
