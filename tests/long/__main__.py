"""Run the long checks one after another, each in its own process.

Usage: python -m tests.long [NAME ...] [--list]

Without names: all checks. A check is a module of this folder with a docstring and a function `main`, which returns 0 or
None if all is well; modules without `main` are helpers. Checks that can't run without arguments (a checkpoint, a
command) are skipped and named at the end.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


def checks() -> dict[str, str]:
    """Return the name of every check and the first line of its docstring."""
    found = {}
    for path in sorted(FOLDER.glob("[!_]*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def run(name: str) -> str:
    """Run one check, showing what it prints, and return how it ended: "passed", "skipped" or "failed"."""
    print(f"--- {name}", flush=True)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", f"tests.long.{name}"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    needs_arguments = done.returncode == 2 and "arguments are required" in done.stderr
    result = "skipped" if needs_arguments else "failed" if done.returncode else "passed"
    if result != "skipped":
        print(done.stderr, end="", file=sys.stderr)
    print(f"--- {name}: {result} after {time.perf_counter() - start:.0f} s", flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="list the checks and run none")
    options = parser.parse_args()
    known = checks()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"there is no check {unknown[0]!r} (see --list)")
    if options.list:
        for name, line in known.items():
            print(f"{name:24} {line}")
        return 0
    results = {name: run(name) for name in options.names or known}
    for result in ("passed", "skipped", "failed"):
        print(f"{result}: {', '.join(name for name in results if results[name] == result) or 'none'}")
    return int("failed" in results.values())


if __name__ == "__main__":
    sys.exit(main())
