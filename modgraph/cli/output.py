"""What commands write: JSON and text on standard output; progress and notes on standard error."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from modgraph.dag import LayeredDAG

GIVEN: list[str] = []
"""The arguments of the command, as given."""


@contextmanager
def keeping(folder: Path, pattern: str) -> Iterator[None]:
    """Let an interruption say whether files, which the same command continues from, are kept."""
    try:
        yield
    except KeyboardInterrupt:
        if any(folder.glob(pattern)):
            kept = f"what was done is kept in {folder / pattern}, and the same command goes on from there"
            raise KeyboardInterrupt(kept) from None
        raise


def print_json(document: dict[str, Any]) -> None:
    """Write a document to standard output; non-ASCII characters are escaped where the output isn't UTF-8."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(document, ensure_ascii=not is_utf8))


def print_notes(dag: LayeredDAG) -> None:
    """Write what reading the network could not know or left out to standard error."""
    for note in dag.notes:
        typer.echo(f"note: {note}", err=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show what is being done on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(what)):
        yield


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callable that moves a bar on standard error (networks done, speed, time left); None if not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True), TimeRemainingColumn())
    with Progress("networks", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("networks", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def round_progress() -> Iterator[Callable[..., None] | None]:
    """Yield a callable that shows rounds of sculpting, or networks done, on standard error; None if not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("training the dense network") as status:
        count = itertools.count(1)

        def show(*what: object) -> None:
            told = str(what[0]) if len(what) == 1 else f"{what[0]} of {what[1]} networks"
            status.update(escape(f"round {next(count)}, {told}"))

        yield show


def prepare_streams() -> None:
    """Replace characters that an output can't encode, and make writing to a closed standard output an error."""
    if sys.stdout is None:
        # Take the free file descriptor 1, so that no file opened later gets it.
        os.open(os.devnull, os.O_RDONLY)
        sys.stdout = _ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (open until the process ends)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class _ClosedOutput(io.StringIO):
    """Stands for a standard output that was closed before the program started."""

    def write(self, text: str, /) -> NoReturn:  # noqa: ARG002 (as in every stream)
        raise OSError("standard output is closed")

    @property
    def buffer(self) -> NoReturn:
        raise OSError("standard output is closed")
