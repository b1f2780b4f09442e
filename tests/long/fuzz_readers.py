"""Give the readers broken files: mutations of real ones, each in a process of its own kind that may not crash or hang.

Every input must give a graph or a ValueError, within half a minute. With --atheris, libFuzzer chooses the mutations by
what code they reach (pip install atheris); otherwise they are drawn at random, the same on every run.

Usage: python -m tests.long.fuzz_readers [--inputs 100000] [--kinds npz,pt,...] [--atheris] [--jobs 2]
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SUFFIXES = {
    "npz": ".npz",
    "npz with masks": ".npz",
    "pt": ".pt",
    "pt legacy": ".pth",
    "pt2": ".pt2",
    "safetensors": ".safetensors",
    "onnx Gemm": ".onnx",
    "onnx Constant": ".onnx",
    "torch's onnx": ".onnx",
    "keras": ".keras",
    "h5": ".h5",
    "skops": ".skops",
    "hierarchy": ".json",
    "graphml": ".graphml",
    "gml": ".gml",
    "csv": ".csv",
    "nnet": ".nnet",
    "msgpack": ".msgpack",
}
SECONDS = 30  # for one input; HDF5 files are given up after 8
SLOW = {
    "h5": 0.003,
    "keras": 0.1,
    "skops": 0.3,
}  # their part of the inputs of the others: HDF5 needs a process for each


def mutated(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """Flip, cut, insert, copy and overwrite, a few times."""
    result = bytearray(data)
    for _ in range(rng.geometric(0.4)):
        at = int(rng.integers(len(result) + 1))
        match int(rng.integers(7)):
            case 0 if at < len(result):
                result[at] ^= 1 << int(rng.integers(8))
            case 1:
                del result[at : at + int(rng.geometric(0.05))]
            case 2:
                result[at:at] = rng.bytes(int(rng.geometric(0.2)))
            case 3:
                place, size = int(rng.integers(len(result) + 1)), int(rng.geometric(0.05))
                result[at : at + size] = result[place : place + size]
            case 4:
                special = [b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 8, b"\x00" * 8]
                number = special[int(rng.integers(len(special)))]
                result[at : at + len(number)] = number
            case 5:
                other = others[int(rng.integers(len(others)))]
                place = int(rng.integers(len(other) + 1))
                result[at : at + 64] = other[place : place + 64]
            case _:
                # Digits and letters, where texts say names, shapes and sizes.
                texts = [i for i, byte in enumerate(result[at : at + 200], at) if chr(byte).isalnum()]
                if texts:
                    result[texts[int(rng.integers(len(texts)))]] = b"0129aeflnrstuxAZ-"[int(rng.integers(17))]
    return bytes(result)


def one(content: bytes, file: Path) -> bool:
    """Read one input; whether it gave a graph."""
    from modgraph.io import load_network

    file.write_bytes(content)
    signal.alarm(SECONDS)
    try:
        load_network(file)
    except ValueError:
        return False
    finally:
        signal.alarm(0)
    return True


def work(kind: str, *, inputs: int, seed: int, folder: Path, atheris: bool) -> None:
    """Fuzz one reader; ends the process on anything but a graph or a ValueError."""
    faulthandler.enable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang ends the process
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(None):
        from tests.io_networks import network, write

        corpus = []
        for number, sizes in enumerate([(3, 4, 2), (2, 1), (4, 3, 3, 2)]):
            corpus.append(write(network(sizes, seed=number), kind, folder).read_bytes())
    file = folder / f"fuzzed{SUFFIXES[kind]}"
    if atheris:
        import atheris as fuzzer

        with fuzzer.instrument_imports(include=["modgraph.io"]):
            import modgraph.io  # noqa: F401
        seeds = folder / "corpus"
        seeds.mkdir()
        for number, content in enumerate(corpus):
            (seeds / str(number)).write_bytes(content)
        fuzzer.Setup(
            ["fuzz", str(seeds), f"-runs={inputs}", f"-seed={seed + 1}", "-verbosity=0", f"-timeout={SECONDS}"],
            lambda content: one(content, file) and None,
        )
        fuzzer.Fuzz()
    rng = np.random.default_rng([seed, len(kind)])
    good = 0
    for _ in range(inputs):
        good += one(mutated(corpus[int(rng.integers(len(corpus)))], corpus, rng), file)
    print(good)


def supervise(kind: str, *, inputs: int, seed: int, atheris: bool) -> bool:
    """Run a worker and say how it ended; whether it went well."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.long.fuzz_readers", "--work", kind, "--inputs", str(inputs)]
        command += ["--seed", str(seed), "--folder", folder, *(["--atheris"] if atheris else [])]
        started = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        seconds = time.perf_counter() - started
        if done.returncode == 0:
            graphs = f", {done.stdout.strip()} still were networks" if done.stdout.strip().isdigit() else ""
            print(f"{kind}: {inputs} inputs in {seconds:.0f} s{graphs}", flush=True)
            return True
        left = next(iter(Path(folder).glob("fuzzed*")), None)
        kept = Path(tempfile.gettempdir()) / f"fuzz-{kind.replace(' ', '-')}-{seed}{SUFFIXES[kind]}"
        if left is not None:
            kept.write_bytes(left.read_bytes())
        print(f"{kind}: ended with {done.returncode} after {seconds:.0f} s, input kept in {kept}", flush=True)
        print(done.stderr[-3000:], flush=True)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all kinds together")
    parser.add_argument("--kinds", default=",".join(SUFFIXES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        arguments = {"inputs": options.inputs, "seed": options.seed, "folder": options.folder}
        work(options.work, **arguments, atheris=options.atheris)
        return 0
    kinds = options.kinds.split(",")
    parts = {kind: SLOW.get(kind, 1.0) for kind in kinds}
    each = {kind: math.ceil(options.inputs * part / sum(parts.values())) for kind, part in parts.items()}
    with ThreadPoolExecutor(options.jobs) as pool:
        went_well = pool.map(
            lambda kind: supervise(kind, inputs=each[kind], seed=options.seed, atheris=options.atheris), kinds
        )
        return 0 if all(list(went_well)) else 1


if __name__ == "__main__":
    sys.exit(main())
