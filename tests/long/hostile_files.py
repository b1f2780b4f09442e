"""Read every hostile file in a process of its own, with limits on memory and time, and print what it took.

A file may take 1 GB of address space and 10 s. Importing torch and onnx takes more address space than that by itself,
so this program imports them once and then forks for each file; the limit of a child is what it has at its start, plus
1 GB. The process of the HDF5 library inherits it.

Usage: python -m tests.long.hostile_files [--only TEXT]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

MEMORY = 1 << 30  # bytes
SECONDS = 10


def read(path: Path, answer: Connection) -> None:
    """Set the limits, read a file and send seconds, megabytes and what was said."""
    from modgraph.io import load_network

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        said = repr(load_network(path))
    except (ValueError, OSError) as error:
        said = str(error).replace(str(path), "FILE")
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    peak = max(more, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    answer.send((time.perf_counter() - start, peak / 1024, said))


def attempt(path: Path) -> tuple[bool, float, float, str]:
    """Read one file; returns whether that went well, seconds, megabytes and what was said."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=read, args=(path, there))
    start = time.perf_counter()
    child.start()
    there.close()
    child.join()
    if child.exitcode != 0:
        reason = "took too long" if child.exitcode == -signal.SIGALRM else f"ended with {child.exitcode}"
        return False, time.perf_counter() - start, float("nan"), reason
    seconds, megabytes, said = here.recv()
    return "more memory than there is" not in said and "MemoryError" not in said, seconds, megabytes, said


def main() -> int:
    import skops.io  # noqa: F401 (before the limits)

    import modgraph.io.onnx_graph  # noqa: F401
    from tests.hostile import FILES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names to try")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    bad = 0
    print(f"{'file':45} {'bytes':>9} {'s':>5} {'MB':>6}  what was said")
    names = [name for name in FILES if options.only in name]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path = FILES[name](Path(folder))
            size = path.stat().st_size if path.is_file() else 0
            good, seconds, megabytes, said = attempt(path)
        bad += not good
        mark = "" if good else "OVER: "
        print(f"{name:45} {size:9} {seconds:5.1f} {megabytes:6.0f}  {mark}{said[:160]}", flush=True)
    print(f"{len(names)} files, {bad} over {MEMORY >> 20} MB or {SECONDS} s or unclear")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
