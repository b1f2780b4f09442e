"""How much memory the content of one file may take: a fixed amount, and more for a larger file.

A few bytes can describe gigabytes: compressed zeros, one tensor under many names, an array doubled again and again.
`load_network` opens one budget for each file, and whatever makes arrays spends from it first. Live objects have none.
Zip archives and NumPy's headers are checked before anything is unpacked.
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

BYTES_FOR_ANY_FILE = 1 << 26
BYTES_FOR_EACH_BYTE = 256  # of the file; a dense layer stored as 16-bit numbers takes a twentieth of this
EDGE_BYTES = 32  # source, target and weight, and room to sort them
UNIT_BYTES = 128  # layer, index, bias, and the name of an activation

_left: ContextVar[int | None] = ContextVar("bytes left", default=None)


@contextmanager
def budget(file_size: int) -> Iterator[None]:
    """Limit what is spent inside the block to what a file of `file_size` bytes may take."""
    token = _left.set(BYTES_FOR_ANY_FILE + BYTES_FOR_EACH_BYTE * file_size)
    try:
        yield
    finally:
        _left.reset(token)


def grant(file_size: int) -> None:
    """Add what one more file, which belongs to the first, may take."""
    left = _left.get()
    if left is not None:
        _left.set(left + BYTES_FOR_EACH_BYTE * file_size)


def bytes_left() -> int | None:
    """Return what is left of the budget; None outside one."""
    return _left.get()


def spend(n_bytes: int, name: str) -> None:
    """Take `n_bytes` from the budget, before they are made; raise ValueError if fewer are left."""
    left = _left.get()
    if left is None:
        return
    if n_bytes > left:
        raise ValueError(f"{name} would take {n_bytes} bytes, more than a file of this size may take ({left} are left)")
    _left.set(left - n_bytes)


# --- Archives ---------------------------------------------------------------------------------------------------------

_DEFLATE_RATIO = 1032  # deflate can't make data smaller than that
_JSON_BYTES = 32  # that one byte of JSON takes in memory, at most


def member_names(path: Path) -> list[str]:
    """List what is in a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:
        raise ValueError(f"`path` must be a whole zip archive (got {str(path)!r})") from error


def checked_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """List the files in an archive; names that are there twice and impossible sizes are refused."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    total = archive.fp.seek(0, os.SEEK_END) if archive.fp is not None else 0
    if len({member.filename for member in members}) < len(members):
        raise ValueError("the archive must not hold a name twice")
    if sum(member.file_size for member in members) > _DEFLATE_RATIO * total:
        raise ValueError("the archive must not claim more bytes than it can hold")
    for member in members:
        if member.file_size > _DEFLATE_RATIO * (member.compress_size + 16):
            raise ValueError(f"{member.filename!r} must not claim more bytes than it can hold")
    return members


def read_json(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    """Read a JSON file in an archive."""
    spend(_JSON_BYTES * member.file_size, repr(member.filename))
    return json.loads(archive.read(member))


def read_header(file: BinaryIO | Any, name: str, *, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array that takes `size` bytes with it, before the numbers: shape and type."""
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except Exception as error:
        raise ValueError(f"{name!r} must be an array in NumPy's format ({error})") from None
    if dtype.hasobject or not re.fullmatch(r"[<>=|]?[biufSU]\d{1,6}", dtype.str):
        raise ValueError(f"{name!r} must hold numbers or texts, not objects (got type {dtype})")
    if len(shape) > 8 or any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"{name!r} must be as large as its shape {shape} says")
    return shape, dtype
