"""Atomic file writes, and a check of what is read."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file of the same name to write to, then replace `path` by it; on error `path` is unchanged.

    A symbolic link stays, and the file that it points to is replaced. A device or a pipe is written into. Other files
    that are written beside the temporary file go beside `path`. An OSError names `path`.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    is_special = target.exists() and not target.is_file()
    try:
        with tempfile.TemporaryDirectory(dir=None if is_special else target.parent, prefix=".part-") as folder:
            yield Path(folder) / target.name
            for written in Path(folder).iterdir():
                if is_special and written.name == target.name:
                    with written.open("rb") as source, target.open("wb") as into:
                        shutil.copyfileobj(source, into)
                    continue
                place = target.parent / written.name
                if place.exists():
                    shutil.copymode(place, written)
                written.replace(place)
    except OSError as error:
        if error.errno is not None and error.filename is not None and ".part-" not in str(error.filename):
            raise  # about another file
        code = errno.EIO if error.errno is None else error.errno
        raise OSError(code, error.strerror or str(error) or os.strerror(code), os.fspath(path)) from error


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file as a whole, text as UTF-8."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def check_regular_file(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if `path` is a pipe or a device, or a link to one; OSError if it is missing or a folder."""
    file = Path(path)
    file.stat()
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not file.is_file():
        raise ValueError(f"`path` must be a regular file, not a pipe or a device (got {os.fspath(path)!r})")
