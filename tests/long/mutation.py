"""Mutants of the graph layer: one change in the code at a time, each of which some test must notice.

    python -m tests.long.mutation                    # all rooms below: hours
    python -m tests.long.mutation reach choose       # some of them
    python -m tests.long.mutation modules --most 40  # a sample

Comparisons, arithmetic, boolean operators and small ints are changed, in a copy of the repository; the tests of
the room then run with a time limit. A mutant survives if they pass. Printed are the survivors and the share killed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Room: its file, and the tests that must notice.
ROOMS = {
    "modules": ("modgraph/modules.py", ["tests/test_modules.py"]),
    "reach": ("modgraph/reach.py", ["tests/test_reach.py"]),
    "choose": ("modgraph/cluster/choose.py", ["tests/test_cluster.py"]),
    "rows": ("modgraph/cluster/rows.py", ["tests/test_cluster.py"]),
    "tree": ("modgraph/cluster/tree.py", ["tests/test_cluster.py"]),
    "methods": ("modgraph/cluster/methods.py", ["tests/test_modules.py", "tests/test_description.py"]),
    "description": ("modgraph/cluster/description.py", ["tests/test_description.py"]),
    "search": ("modgraph/cluster/description_search.py", ["tests/test_description.py"]),
    "sparse": ("modgraph/cluster/sparse.py", ["tests/test_sparse_linkage.py"]),
    "leiden": ("modgraph/cluster/leiden.py", ["tests/test_leiden.py"]),
    "score": ("modgraph/score.py", ["tests/test_score.py"]),
    "prune": ("modgraph/sculpt/prune.py", ["tests/test_sculpt_prune.py"]),
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
SECONDS = 300  # for the tests of one mutant; a mutant that takes longer counts as killed


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the code of each mutant."""
    tree = ast.parse(source)
    # Annotations are never evaluated: changes there are no mutants.
    fields = (getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns"))
    skipped = {id(node) for field in fields if isinstance(field, ast.AST) for node in ast.walk(field)}
    places = [
        (number, part)
        for number, node in enumerate(ast.walk(tree))
        for part in range(len(node.ops) if isinstance(node, ast.Compare) else 1)
        if id(node) not in skipped
        and (
            isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp)
            or (isinstance(node, ast.Constant) and type(node.value) is int)
        )
    ]
    for number, part in places:
        changed = copy.deepcopy(tree)
        node = list(ast.walk(changed))[number]
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            node.value += 1
        elif isinstance(node, ast.Compare) and type(node.ops[part]) in SWAPS:
            node.ops[part] = SWAPS[type(node.ops[part])]()  # type: ignore[call-overload]
        elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPS:
            node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        else:
            continue
        yield getattr(node, "lineno", 0), ast.unparse(changed)


def passes(folder: Path, tests: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, timeout=SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--most", type=int, help="so many mutants of each room, drawn at random")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        ignored = shutil.ignore_patterns(".git", ".venv", "docs", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=ignored)
        for room in arguments.rooms:
            file, tests = ROOMS[room]
            source = (ROOT / file).read_text()
            if not passes(folder, tests):
                raise SystemExit(f"the tests of {room} fail, or take over {SECONDS} s, without a mutant")
            found = list(mutants(source))
            if arguments.most is not None:
                found = random.Random(0).sample(found, min(arguments.most, len(found)))
            survivors = []
            for line, code in found:
                (folder / file).write_text(code)
                if passes(folder, tests):
                    survivors.append(line)
                    print(
                        f"{file}: a mutant of line {line} survives: {source.splitlines()[line - 1].strip()}", flush=True
                    )
            (folder / file).write_text(source)
            killed = len(found) - len(survivors)
            print(f"{room}: {killed} of {len(found)} killed ({killed / max(1, len(found)):.0%})", flush=True)


if __name__ == "__main__":
    main()
