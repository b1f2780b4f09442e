"""Run a command and print the peak memory of it and all its processes.

Usage: python -m tests.long.peak_memory modgraph reproduce all --out results

Adds up the proportional set sizes of the processes every second (Linux), so that shared pages count once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def processes(root: int) -> list[int]:
    """Return a process and all below it."""
    children = Path(f"/proc/{root}/task/{root}/children")
    try:
        below = [int(child) for child in children.read_text().split()]
    except OSError:  # it has ended
        below = []
    return [root, *(process for child in below for process in processes(child))]


def kilobytes(process: int) -> int:
    """Return the proportional set size of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> int:
    if not sys.argv[1:]:
        print("usage: python -m tests.long.peak_memory COMMAND ...: arguments are required", file=sys.stderr)
        return 2
    running = subprocess.Popen(sys.argv[1:])
    peak = 0
    while running.poll() is None:
        peak = max(peak, sum(map(kilobytes, processes(running.pid))))
        time.sleep(1)
    print(f"{peak / 1e6:.2f} GB at most")
    return running.returncode


if __name__ == "__main__":
    sys.exit(main())
