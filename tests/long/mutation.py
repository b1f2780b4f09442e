"""Mutants of the graph layer: one change in the code at a time, each of which some test must notice.

    python -m tests.long.mutation reach choose         # 40 mutants of each room, drawn at random
    python -m tests.long.mutation modules --most 1000  # all mutants of one
    python -m tests.long.mutation all --most 12        # 12 of every room
    python -m tests.long.mutation tree --line 85 92    # all mutants of two lines

Comparisons, arithmetic, boolean operators and small ints are changed, in a copy of the repository. The tests of the
room that run the changed statement then run until one fails: first those that killed most, then the fastest, and none
over 2 seconds. A mutant survives if all pass. Printed are the survivors and the share killed of those that are not
equivalent to the code; ``mutation_equivalent.toml`` lists the equivalent ones that were found, and why they are. A
mutant is named by its line and its change, so a changed line must be judged anew.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest
from _pytest.doctest import DoctestItem
from hypothesis import Phase, settings

from tests.long.mutation_rooms import ROOMS

ROOT = Path(__file__).parents[2]
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
# What the tests import: loaded once, so that a mutant's process needn't.
LIBRARIES = (
    "igraph", "leidenalg", "networkx", "numba", "numpy", "scipy.cluster.hierarchy", "scipy.optimize", "scipy.sparse",
    "scipy.spatial.distance", "scipy.special", "scipy.stats", "sklearn.cluster", "sklearn.metrics",
)  # fmt: skip
MEMORY = 24 * 2**30  # address space of a mutant's process, in bytes
PATIENCE = 3  # a mutant whose tests take so many times as long as the code's counts as killed
SPARE_SECONDS = 10
LONGEST_TEST = 2  # in seconds; slower tests are left out
MUCH_TOO_LONG = 4  # in seconds; a test is stopped
EXAMPLES = 12  # most examples that Hypothesis draws for a test


# Tests that are known to be slower than that: they needn't be tried.
SLOW = (
    "planted_modules_are_found", "rewired_networks", "many_modules_are_not_joined", "more_iterations",
    "ends_where_many_partitions", "degrees_alone_are_no_structure", "without_a_common_column", "same_for_the_same_seed",
    "does_not_matter_with_modules", "modules_agree_with_people", "real_graphs", "drawn_groups_are_not_used",
)  # fmt: skip
# Libraries are imported before pytest could rewrite their assertions, which it says.
OPTIONS = [
    "-qx",
    "-pno:cacheprovider",
    "-pno:xdist",
    "-mnot slow",
    f"-knot ({' or '.join(SLOW)})",
    "-Wignore::pytest.PytestAssertRewriteWarning",
]


class Room(NamedTuple):
    """A file, the tests that must notice a change in it, and the changes that none can notice."""

    file: str
    tests: list[str]
    equivalent: dict[str, str]


class Mutant(NamedTuple):
    """A change in the code: its line, what changes, the lines of its statement, and how to write the changed code."""

    line: int
    change: str
    statement: range | None  # None: runs when the module is imported
    code: Callable[[], str]


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all mutants of a file."""
    tree = ast.parse(source)
    # Annotations are never evaluated: changes there are no mutants.
    fields = (getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns"))
    skipped = {id(node) for field in fields if isinstance(field, ast.AST) for node in ast.walk(field)}
    statement_of = {id(node): statement for node, statement in _statements(tree, None)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        changes: list[tuple[Any, Any, Any]] = []  # what to set: an attribute or item of an object, and its new value
        if isinstance(node, ast.Constant) and type(node.value) is int:
            changes = [(node.__dict__, "value", node.value + 1)]
        elif isinstance(node, ast.Compare):
            changes = [(node.ops, at, SWAPS[type(op)]()) for at, op in enumerate(node.ops) if type(op) in SWAPS]
        elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPS:
            changes = [(node.__dict__, "op", SWAPS[type(node.op)]())]
        for where, key, value in changes:

            def written(part: ast.AST, where: Any = where, key: Any = key, value: Any = value) -> str:
                before = where[key]
                where[key] = value
                text = ast.unparse(part)
                where[key] = before
                return text

            change = f"{ast.unparse(node)} -> {written(node)}, column {node.end_col_offset}"  # type: ignore[attr-defined]
            line: int = node.lineno  # type: ignore[attr-defined]
            yield Mutant(line, change, statement_of[id(node)], functools.partial(written, tree))


def _statements(
    node: ast.AST, statement: range | None, *, inside: bool = False
) -> Iterator[tuple[ast.AST, range | None]]:
    """Yield each node with the lines of its statement: of its head if it has a body, None outside of functions."""
    for name, value in ast.iter_fields(node):
        body = name in ("body", "orelse", "finalbody", "handlers")
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            within = inside or (body and isinstance(node, ast.FunctionDef))
            lines = statement
            if isinstance(child, ast.stmt) and within:
                parts: Any = getattr(child, "body", None)
                end = parts[0].lineno if parts else (child.end_lineno or child.lineno) + 1
                lines = range(child.lineno, max(end, child.lineno + 1))
            yield child, lines
            yield from _statements(child, lines, inside=within)


class Tests:
    """The tests of a room, as a pytest plugin that judges mutants where pytest would run the tests.

    They run once with the code as it is: that says how long each takes and which lines of the room it runs. Then each
    mutant's tests run in a process forked from this one, in which everything is loaded: first those that killed most,
    then the fastest. Hypothesis draws few examples and shrinks none.
    """

    def __init__(self, room: Room, mutants: Sequence[tuple[Mutant, str]], say: Callable[[str], None]) -> None:
        self.room, self.mutants, self.say = room, mutants, say
        self.counts: Counter[str] | None = None  # None: a test fails without a mutant
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, set[int]] = {}  # of the room's file that each test runs
        self.kills = Counter[str]()
        self.failed = ""  # the last test that failed

    def pytest_configure(self) -> None:
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", settings.get_profile("modgraph"), phases=phases)
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            test = getattr(item, "obj", None)
            given = getattr(test, "_hypothesis_internal_use_settings", None)
            if given is not None:
                fewer = settings(given, max_examples=min(EXAMPLES, given.max_examples))
                test._hypothesis_internal_use_settings = fewer  # type: ignore[union-attr]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge all mutants."""
        for item in session.items:
            self.lines[item.nodeid] = lines = set[int]()
            self.seconds[item.nodeid] = self.measured(item, lines)
            if LONGEST_TEST < self.seconds[item.nodeid] < MUCH_TOO_LONG:  # some of it may be loading and tracing
                self.seconds[item.nodeid] = self.measured(item, None)
            if self.failed:
                self.say(f"{self.failed} fails without a mutant")
                return True
        same = Mutant(0, "", range(sys.maxsize), lambda: (ROOT / self.room.file).read_text("utf-8"))
        if not self.survives(self.chosen(session.items, same), same):
            self.say(f"{+self.kills} fails after a change that changes nothing")
            return True
        self.counts = Counter(killed=0, survives=0, equivalent=0)
        self.say(f"{self.room.file}: {sum(self.seconds.values()):.0f} s for the tests without a mutant")
        for mutant, name in self.mutants:
            if name in self.room.equivalent:
                self.counts["equivalent"] += 1
                continue
            items = self.chosen(session.items, mutant)
            survives = not items or self.survives(items, mutant)
            self.counts["survives" if survives else "killed"] += 1
            if survives:
                self.say(f"    {self.room.file}:{mutant.line}: {name}{'' if items else ' (no test runs it)'}")
        return True

    def measured(self, item: pytest.Item, lines: set[int] | None) -> float:
        """Run a test and return how many seconds of processor time it takes; note the lines that it runs.

        A test that takes `MUCH_TOO_LONG` is stopped.
        """

        def note(frame: FrameType, _event: str, _argument: Any) -> Any:
            assert lines is not None
            lines.add(frame.f_lineno)
            return note

        def enter(frame: FrameType, event: str, argument: Any) -> Any:
            return note(frame, event, argument) if frame.f_code.co_filename.endswith(self.room.file) else None

        names = dict(item.dtest.globs) if isinstance(item, DoctestItem) else {}
        start = time.process_time()
        no_tracer: Any = None
        tracer = enter if lines is not None else no_tracer
        threading.settrace(tracer)
        sys.settrace(tracer)
        signal.signal(signal.SIGPROF, _stop)
        signal.setitimer(signal.ITIMER_PROF, MUCH_TOO_LONG)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            sys.settrace(no_tracer)
            threading.settrace(no_tracer)
        if isinstance(item, DoctestItem):
            item.dtest.globs.update(names)  # which it has lost
        seconds = time.process_time() - start
        if seconds > 0.9 * MUCH_TOO_LONG:
            self.failed = ""
        return seconds

    def chosen(self, items: Sequence[pytest.Item], mutant: Mutant) -> list[pytest.Item]:
        """Return the tests that run a mutant's statement, of those that aren't too slow, in the order to run them."""
        chosen = [
            item
            for item in items
            if self.seconds[item.nodeid] <= LONGEST_TEST
            and (mutant.statement is None or any(line in mutant.statement for line in self.lines[item.nodeid]))
        ]
        return sorted(chosen, key=lambda item: (-self.kills[item.nodeid], self.seconds[item.nodeid]))

    def survives(self, items: Sequence[pytest.Item], mutant: Mutant) -> bool:
        """Run tests in a process of their own; False where one fails, or they crash or take too long."""
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=self.in_child, args=(items, mutant, sender))
        process.start()
        sender.close()
        failed = "?"
        if receiver.poll(PATIENCE * sum(self.seconds[item.nodeid] for item in items) + SPARE_SECONDS):
            with contextlib.suppress(EOFError):  # it crashed
                failed = receiver.recv()
        process.kill()
        process.join()
        self.kills[failed] += 1
        return not failed

    def in_child(self, items: Sequence[pytest.Item], mutant: Mutant, answer: Connection) -> None:
        """Put the mutant in place of the code, run tests until one fails, and send its name."""
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if mutant.statement is None:
            # It changes what happens when the room is imported: import all anew.
            Path(self.room.file).write_text(mutant.code(), "utf-8")
            forget(self.room.file)
            order = Order([item.nodeid for item in items])
            failed = order.failed if pytest.main([*OPTIONS, *self.room.tests], plugins=[order]) else ""
        else:
            put_in_place(mutant.code(), self.room.file)
            for item in items:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if self.failed:
                    break
            failed = self.failed
        answer.send(failed)
        answer.close()
        os._exit(0)  # no clean-up: the libraries' threads were not started here


class Stopped(BaseException):
    """A test takes too long."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


class Order:
    """As a pytest plugin: the tests to run."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.failed = "?"

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.names), key=lambda item: self.names.index(item.nodeid)
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def put_in_place(code: str, file: str) -> None:
    """Change the code of all functions of a file, and empty their caches."""
    changed: dict[tuple[str, int], CodeType] = {}
    compiled = compile(code, file, "exec")
    for name, place, function in _functions(compiled):
        changed[name, place] = function
    source = compile((ROOT / file).read_text("utf-8"), file, "exec")
    # Functions of one name are told apart by their order.
    key_of = {(name, function.co_firstlineno): (name, place) for name, place, function in _functions(source)}
    for found in gc.get_objects():
        if type(found) is FunctionType and found.__code__.co_filename.endswith(file):
            key = key_of.get((found.__code__.co_qualname, found.__code__.co_firstlineno))
            if key is not None:
                found.__code__ = changed[key]
    for found in gc.get_objects():
        if type(found) is functools._lru_cache_wrapper:
            found.cache_clear()


def _functions(code: CodeType) -> Iterator[tuple[str, int, CodeType]]:
    """Yield the code of all functions, with its name and which one of that name it is."""
    seen = Counter[str]()
    waiting = [code]
    while waiting:
        for part in waiting.pop(0).co_consts:
            if isinstance(part, CodeType):
                yield part.co_qualname, seen[part.co_qualname], part
                seen[part.co_qualname] += 1
                waiting.append(part)


def forget(file: str) -> None:
    """Have all modules of the repository imported anew but compiled ones that don't use `file`."""
    changed = Path(file).stem
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "modgraph")]:
        stem = name.rpartition(".")[2]
        keeps = stem in ("arrays", "compiled", "shown") or stem.endswith("_kernels")
        uses = stem == changed or (changed, stem) == ("description_kernels", "description_search_kernels")
        if not keeps or uses:
            del sys.modules[name]


def judge(name: str, *, most: int, seed: int, lines: list[int], say: Callable[[str], None], answer: Connection) -> None:
    """Print the survivors of a room, and send how many mutants were killed, survived, and are equivalent."""
    file, tests = ROOMS[name]
    source = (ROOT / file).read_text("utf-8")
    code = source.splitlines()
    equivalent = tomllib.loads((ROOT / "tests/long/mutation_equivalent.toml").read_text("utf-8")).get(name, {})
    if name.endswith("_kernels"):
        import numba

        config: Any = numba.config
        config.DISABLE_JIT = True  # plain Python takes less time than compiling
    found = list(mutants(source))
    if lines:
        found = [mutant for mutant in found if mutant.line in lines]
    else:
        found = random.Random(seed).sample(found, min(most, len(found)))
    named = [(mutant, f"{code[mutant.line - 1].strip()} [{mutant.change}]") for mutant in found]
    room = Tests(Room(file, [file, *tests], equivalent), named, say)  # with its doctests
    # Numba doesn't warn where an integer overflows.
    pytest.main([*OPTIONS, "-Wignore::RuntimeWarning", *room.room.tests], plugins=[room])
    answer.send(room.counts)
    answer.close()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+", choices=[*ROOMS, "all"])
    parser.add_argument("--most", type=int, default=40, help="so many mutants of each room, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--line", type=int, nargs="+", default=[], help="all mutants of these lines instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, os.fdopen(os.dup(1), "w", encoding="utf-8") as report:
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
        quiet = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(quiet, stream)

        def say(text: str) -> None:
            print(text, file=report, flush=True)

        total = Counter[str]()
        for room in ROOMS if "all" in arguments.rooms else arguments.rooms:
            start = time.perf_counter()
            counts = in_room(room, most=arguments.most, seed=arguments.seed, lines=arguments.line, say=say)
            total.update(counts)
            say(f"{room}: {summary(counts)}, {time.perf_counter() - start:.0f} s")
        say(f"all: {summary(total)}")


def in_room(name: str, **options: Any) -> Counter[str]:
    """Judge a room in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=judge, args=(name,), kwargs=options | {"answer": sender}
    )
    process.start()
    sender.close()
    try:
        counts: Counter[str] | None = receiver.recv()
    except EOFError:
        counts = None
    process.join()
    return counts or Counter()


def summary(counts: Counter[str]) -> str:
    """Say how many mutants were killed."""
    killed, judged = counts["killed"], counts["killed"] + counts["survives"]
    return f"{killed} of {judged} killed ({killed / max(1, judged):.0%}), {counts['equivalent']} equivalent"


if __name__ == "__main__":
    main()
