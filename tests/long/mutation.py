"""Mutants of the graph layer: one change in the code at a time, each of which some test must notice.

    python -m tests.long.mutation reach choose         # 40 mutants of each room, drawn at random
    python -m tests.long.mutation modules --most 1000  # all mutants of one
    python -m tests.long.mutation all --most 12        # 12 of every room

Comparisons, arithmetic, boolean operators and small ints are changed, in a copy of the repository. The tests of the
room then run until one fails: first those that killed most, then the fastest, and none over 10 seconds. A mutant
survives if all pass. Printed are the survivors and the share killed of those that are not equivalent to the code;
``mutation_equivalent.toml`` lists the equivalent ones that were found, and why they are. A mutant is named by its line
and its change, so a changed line must be judged anew.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[2]
# Room: its file, and the tests that must notice.
ROOMS = {
    "modules": ("modgraph/modules.py", ["tests/test_modules.py", "tests/test_by_influence.py"]),
    "reach": ("modgraph/reach.py", ["tests/test_reach.py"]),
    "choose": ("modgraph/cluster/choose.py", ["tests/test_cluster.py"]),
    "rows": ("modgraph/cluster/rows.py", ["tests/test_cluster.py"]),
    "tree": ("modgraph/cluster/tree.py", ["tests/test_cluster.py"]),
    "methods": ("modgraph/cluster/methods.py", ["tests/test_modules.py", "tests/test_description.py"]),
    "description": ("modgraph/cluster/description.py", ["tests/test_description.py"]),
    "search": ("modgraph/cluster/description_search.py", ["tests/test_description.py"]),
    "sparse": ("modgraph/cluster/sparse.py", ["tests/test_sparse_linkage.py"]),
    "leiden": ("modgraph/cluster/leiden.py", ["tests/test_leiden.py"]),
    "degrees": ("modgraph/cluster/degrees.py", ["tests/test_description.py"]),
    "coclusters": ("modgraph/cluster/coclusters.py", ["tests/test_by_influence.py"]),
    "tree_kernels": ("modgraph/cluster/tree_kernels.py", ["tests/test_cluster.py"]),
    "description_kernels": ("modgraph/cluster/description_kernels.py", ["tests/test_description.py"]),
    "sparse_kernels": ("modgraph/cluster/sparse_kernels.py", ["tests/test_sparse_linkage.py"]),
    "score": ("modgraph/score.py", ["tests/test_score.py"]),
    "prune": ("modgraph/sculpt/prune.py", ["tests/test_sculpt_prune.py"]),
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
# What the tests import: loaded once, so that a mutant's process needn't.
LIBRARIES = (
    "igraph", "leidenalg", "networkx", "numba", "numpy", "scipy.cluster.hierarchy", "scipy.optimize", "scipy.sparse",
    "scipy.spatial.distance", "scipy.special", "scipy.stats", "sklearn.cluster", "sklearn.metrics", "torch",
)  # fmt: skip
MEMORY = 24 * 2**30  # address space of a mutant's process, in bytes
PATIENCE = 3  # a mutant whose tests take so many times as long as the code's counts as killed
SPARE_SECONDS = 20
LONGEST_TEST = 10  # in seconds; slower tests are left out


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the change and the code of each mutant."""
    tree = ast.parse(source)
    # Annotations are never evaluated: changes there are no mutants.
    fields = (getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns"))
    skipped = {id(node) for field in fields if isinstance(field, ast.AST) for node in ast.walk(field)}
    for number, original in enumerate(ast.walk(tree)):
        if id(original) in skipped:
            continue
        for part in range(len(original.ops) if isinstance(original, ast.Compare) else 1):
            changed = copy.deepcopy(tree)
            node = list(ast.walk(changed))[number]
            if isinstance(node, ast.Constant) and type(node.value) is int:
                node.value += 1
            elif isinstance(node, ast.Compare) and type(node.ops[part]) in SWAPS:
                node.ops[part] = SWAPS[type(node.ops[part])]()  # type: ignore[call-overload]
            elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPS:
                node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
            else:
                continue
            change = f"{ast.unparse(original)} -> {ast.unparse(node)}, column {node.end_col_offset}"
            yield node.lineno, change, ast.unparse(changed)


class Times:
    """The tests of a room: the processor time of each, in microseconds, and how many mutants each has killed.

    As a pytest plugin it measures them, runs first those that killed most and then the fastest, and shrinks no example.
    """

    def __init__(self) -> None:
        self.microseconds = Counter[str]()
        self.kills = Counter[str]()

    def pytest_configure(self) -> None:
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", settings.get_profile("modgraph"), phases=phases)
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self.microseconds[item.nodeid] <= LONGEST_TEST * 1e6]
        items.sort(key=lambda item: (-self.kills[item.nodeid], self.microseconds[item.nodeid]))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        start = time.process_time()
        result = yield
        self.microseconds[item.nodeid] = int((time.process_time() - start) * 1e6)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.kills[report.nodeid] += report.failed


def run(tests: list[str], times: Times, answer: Connection) -> None:
    """Run tests in this process, and send whether they pass, and what was measured."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    # Libraries are imported before pytest could rewrite their assertions, which it says.
    options = ["-qx", "-pno:cacheprovider", "-pno:xdist", "-Wignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *tests], plugins=[times])
    answer.send((code == 0, times.microseconds, times.kills))
    answer.close()
    os._exit(0)  # no clean-up: the libraries' threads were not started here


def passes(tests: list[str], times: Times, limit: float | None) -> bool:
    """Run tests in a process of their own; False where they fail, crash or take longer than `limit` seconds."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=run, args=(tests, times, sender))
    process.start()
    sender.close()
    passed = False
    if receiver.poll(limit):
        with contextlib.suppress(EOFError):  # it crashed
            passed, measured, times.kills = receiver.recv()
            if limit is None:
                times.microseconds = measured
    process.kill()
    process.join()
    return passed


def judge(room: str, *, most: int) -> tuple[int, int, int]:
    """Print the survivors of a room, and return how many mutants were killed, survived, and are equivalent."""
    file, tests = ROOMS[room][0], [ROOMS[room][0], *ROOMS[room][1]]  # with its doctests
    source = (ROOT / file).read_text("utf-8")
    lines = source.splitlines()
    equivalent = tomllib.loads((ROOT / "tests/long/mutation_equivalent.toml").read_text("utf-8")).get(room, {})
    times = Times()
    start = time.perf_counter()
    if not passes(tests, times, None):
        raise SystemExit(f"the tests of {room} fail without a mutant")
    limit = PATIENCE * (time.perf_counter() - start) + SPARE_SECONDS
    found = list(mutants(source))
    counts = {"killed": 0, "survives": 0, "equivalent": 0}
    for line, change, code in random.Random(0).sample(found, min(most, len(found))):
        name = f"{lines[line - 1].strip()} [{change}]"
        Path(file).write_text(code, "utf-8")
        result = "equivalent" if name in equivalent else "survives" if passes(tests, times, limit) else "killed"
        counts[result] += 1
        if result == "survives":
            print(f"    {file}:{line}: {name}", flush=True)
    shutil.copy2(ROOT / file, file)  # with its time, so that compiled code stays valid
    return counts["killed"], counts["survives"], counts["equivalent"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+", choices=[*ROOMS, "all"])
    parser.add_argument("--most", type=int, default=40, help="so many mutants of each room, drawn at random")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", "docs", ".*_cache"))
        os.chdir(folder)
        sys.path[0] = str(folder)
        sys.dont_write_bytecode = True  # a compiled file would be taken for that of the next mutant of the same size
        for library in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(library)
        for module in [module for module in sys.modules if module.partition(".")[0] in ("tests", "modgraph")]:
            del sys.modules[module]  # the tests of the copy are other modules
        total = Counter[str]()
        for room in ROOMS if "all" in arguments.rooms else arguments.rooms:
            start = time.perf_counter()
            killed, survived, equivalent = judge(room, most=arguments.most)
            total.update(killed=killed, judged=killed + survived, equivalent=equivalent)
            share = killed / max(1, killed + survived)
            print(
                f"{room}: {killed} of {killed + survived} killed ({share:.0%}), {equivalent} equivalent, "
                f"{time.perf_counter() - start:.0f} s",
                flush=True,
            )
        share = total["killed"] / max(1, total["judged"])
        print(f"all: {total['killed']} of {total['judged']} killed ({share:.0%}), {total['equivalent']} equivalent")


if __name__ == "__main__":
    main()
