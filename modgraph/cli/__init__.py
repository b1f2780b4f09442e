"""The ``modgraph`` command: reads files, writes files or standard output.

Each command is a function of the same name, listed in `COMMANDS`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

from modgraph.checks import missing

try:
    import typer
except ImportError as error:
    raise ImportError(missing("typer", purpose="the command", extra="cli")) from error

from modgraph import compiled
from modgraph.cli.experiments import reproduce, sculpt
from modgraph.cli.networks import compare, convert, detect, draw, evidence, info, report, score, verify
from modgraph.cli.options import command
from modgraph.cli.output import GIVEN, Answer, prepare_streams

COMMANDS: dict[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (info, detect, score, evidence, verify, compare, draw, report, convert, sculpt, reproduce)
}

app = typer.Typer(
    name="modgraph",
    help="Uncover the hierarchical modules of pruned neural networks.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS.values():
    app.command()(command(_command))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from modgraph import __version__

        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments` (by default those of the process; without any, the help is shown).

    Returns the exit status: 0 on success, also if the reader of standard output stops reading; 2 for bad input, with
    one sentence on standard error; 130 when interrupted, after one sentence on what is kept.
    """
    given = sys.argv[1:] if arguments is None else arguments
    GIVEN[:] = given
    prepare_streams()
    if sys.stderr.isatty():
        compiled.announce = lambda what: typer.echo(f"{what} (up to half a minute)", err=True)
    try:
        with compiled.interrupts_between_calls():
            result = app(given or ["--help"], prog_name="modgraph", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as stop:
        # typer turns a broken pipe into exit status 1.
        if isinstance(stop.__context__, BrokenPipeError):
            return _reader_gone()
        raise
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        typer.echo(f"modgraph: {_sentence(error)}", err=True)
        return 2


def _reader_gone() -> int:
    """Discard what is still buffered, so that the interpreter doesn't fail when it flushes standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _sentence(error: Exception) -> str:
    """Describe an error in one line."""
    message = str(error.format_message() if hasattr(error, "format_message") else error)
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror if error.filename is None else f"{error.strerror}: {str(error.filename)!r}"
    elif not isinstance(error, ValueError | OSError | ImportError) and not hasattr(error, "format_message"):
        message = f"unexpected error ({type(error).__name__}: {message}); --debug shows where"
    return " ".join(message.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
