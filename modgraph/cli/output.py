"""What commands write: JSON and text on standard output; progress and notes on standard error."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import typer

from modgraph.dag import LayeredDAG
from modgraph.io.hierarchy import plain

GIVEN: list[str] = []
"""The arguments of the command, as given."""


class Answer(NamedTuple):
    """What a command found: a document for programs, and lines for people (bytes are written as they are)."""

    document: dict[str, Any] | None
    lines: Iterable[str | bytes] = ()

    def write(self, *, as_json: bool) -> None:
        """Write it to standard output."""
        if as_json:
            if self.document is None:
                raise ValueError("`--json` and the picture can't both go to standard output")
            # Non-ASCII characters are escaped where the output isn't UTF-8.
            is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
            typer.echo(json.dumps(self.document, default=plain, ensure_ascii=not is_utf8))
            return
        for line in self.lines:
            typer.echo(line, nl=isinstance(line, str))


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


def print_notes(dag: LayeredDAG) -> None:
    """Write what reading the network could not know or left out to standard error."""
    for note in dag.notes:
        typer.echo(f"note: {note}", err=True)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None] | None]:
    """Show what is being done on standard error, and yield a callable that changes the text; None if not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(what)) as status:
        yield lambda text: status.update(escape(text))


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
