"""The ``modgraph`` command, and ``python -m modgraph``: says which extra is missing before it starts."""

from __future__ import annotations

import sys

from modgraph import __version__


def main() -> int:
    """Run the command.

    Returns
    -------
    int
        The exit status (see `modgraph.cli.main`).
    """
    if sys.argv[1:] == ["--version"]:  # without loading the command, which takes most of a second
        sys.stdout.write(f"{__version__}\n")
        return 0
    try:
        from modgraph import cli
    except ImportError as error:
        sys.stderr.write(f"modgraph: {error}\n")
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
