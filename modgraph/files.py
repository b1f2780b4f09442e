"""Files that are never there by half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a place to write `path`, which is replaced once that is done; after an error it is as it was.

    Parameters
    ----------
    path : path-like
        What is written beside the place given goes beside `path`.

    Yields
    ------
    pathlib.Path
        Of the same name.
    """
    target = Path(path)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
        yield Path(folder) / target.name
        for written in Path(folder).iterdir():
            written.replace(target.parent / written.name)


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file as a whole, text as UTF-8.

    Parameters
    ----------
    path : path-like
    content : str or bytes
    """
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
