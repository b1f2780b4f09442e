"""The ``modgraph`` command: files in, files or standard output out."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

try:
    import typer
except ImportError as error:  # the command is there without its extra, too
    raise ImportError("the command needs typer: pip install 'modgraph-nn[cli]'") from error

from modgraph.cli import networks, sculpting

app = typer.Typer(
    name="modgraph",
    help="Uncover the hierarchical modules of pruned neural networks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (
    networks.detect,
    networks.score,
    networks.draw,
    networks.report,
    networks.convert,
    networks.info,
    sculpting.sculpt,
    sculpting.reproduce,
):
    app.command()(_command)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from modgraph import __version__

        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        0; 2 for bad input, with one sentence on standard error; 130 when interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(given, prog_name="modgraph", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        # Whoever read has left; nothing may be written on the way out either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        typer.echo(f"modgraph: {_sentence(error)}", err=True)
        return 2


def _sentence(error: Exception) -> str:
    """Say what was wrong in one line."""
    message = str(error.format_message() if hasattr(error, "format_message") else error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {str(error.filename)!r}"
    elif not isinstance(error, ValueError | OSError | ImportError) and not hasattr(error, "format_message"):
        message = f"this should not have happened ({type(error).__name__}: {message}); --debug shows where"
    return " ".join(message.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
