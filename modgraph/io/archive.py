"""Zip archives and NumPy's headers: checked before anything is unpacked."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from modgraph.io.budget import spend

_DEFLATE_RATIO = 1032  # deflate can't make data smaller than that
_HEADER_BYTES = 1 << 16
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


def read_header(file: BinaryIO | Any, name: str, *, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array that takes `size` bytes with it: shape, whether columns come first, type."""
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read_array_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read_array_header(file, max_header_size=_HEADER_BYTES)
    except Exception as error:
        raise ValueError(f"{name!r} must be an array in NumPy's format ({error})") from None
    if dtype.hasobject or not re.fullmatch(r"[<>=|]?[biufSU]\d{1,6}", dtype.str):
        raise ValueError(f"{name!r} must hold numbers or texts, not objects (got type {dtype})")
    if len(shape) > 8 or any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"{name!r} must be as large as its shape {shape} says")
    return shape, columns_first, dtype
