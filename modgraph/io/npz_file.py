"""NumPy's ``.npz``: a zip archive of arrays. No objects are unpickled."""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.io.budget import spend
from modgraph.io.chain import from_tensors
from modgraph.io.request import Request
from modgraph.io.tensor import Tensor, from_array

NAME = "a .npz file"
_DEFLATE_RATIO = 1032  # deflate can't make data smaller than that
_HEADER_BYTES = 1 << 16
_MOST_DENSE = 1 << 30  # entries of a dense matrix in `save_network`


def matches(start: bytes, path: Path) -> bool:
    """Whether a zip archive holds arrays only."""
    names = member_names(path) if start.startswith(b"PK\x03\x04") else []
    return bool(names) and all(name.endswith(".npy") for name in names)


def read(request: Request) -> LayeredDAG:
    """Build the graph of the arrays."""
    return from_tensors(read_tensors(request.path), request, ordered=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the headers of all arrays; the numbers are read when they are asked for."""
    archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))  # no open file that somebody would have to close
    tensors = {}
    for member in checked_members(archive):
        if not member.filename.endswith(".npy"):
            raise ValueError(f"the archive must hold .npy files only (got {member.filename!r})")
        name = member.filename.removesuffix(".npy")
        tensors[name] = _tensor(archive, member, name)
    return tensors


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


def _tensor(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Tensor:
    file = archive.open(member)  # stays open, so that the next rows are found without unpacking those before
    shape, columns_first, dtype = read_header(file, member.filename, size=member.file_size)
    start, row = file.tell(), math.prod(shape[1:]) * dtype.itemsize

    def part(first_byte: int, n_bytes: int) -> NDArray[Any]:
        file.seek(start + first_byte)
        data = file.read(n_bytes)
        if len(data) != n_bytes:
            raise ValueError(f"{member.filename!r} must be as large as its shape {shape} says")
        return np.frombuffer(data, dtype=dtype) if n_bytes else np.empty(0, dtype=dtype)

    if columns_first or not shape or row == 0:
        n_bytes = math.prod(shape) * dtype.itemsize
        spend(n_bytes, repr(name))
        return from_array(name, part(0, n_bytes).reshape(shape, order="F" if columns_first else "C"))
    return Tensor(
        name=name,
        shape=shape,
        itemsize=dtype.itemsize,
        rows=lambda first, end: part(first * row, (end - first) * row).reshape(end - first, *shape[1:]),
    )


def save_network(dag: LayeredDAG, path: str | os.PathLike[str]) -> None:
    """Write a network as ``.npz``: ``mask0``, ``weight0``, ``bias0``, … in (out, in) order, names and notes.

    Parameters
    ----------
    dag : LayeredDAG
        No edge may skip a layer, and no layer be empty.
    path : path-like
        Ends in ``.npz``.

    Raises
    ------
    ValueError
        If it can't be written so.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz (got {os.fspath(path)!r})")
    if dag.skips_layers or 0 in dag.layer_sizes:
        raise ValueError("`dag` must have units in every layer and no edge that skips one, to be saved as .npz")
    sizes, starts = dag.layer_sizes, dag.layer_starts
    if max(a * b for a, b in itertools.pairwise(sizes)) > _MOST_DENSE:
        raise ValueError(f"`dag` must have smaller layers, to be saved dense (got {sizes})")
    arrays: dict[str, Any] = {}
    for at in range(dag.n_layers - 1):
        edges = np.flatnonzero(dag.layer[dag.sources] == at)
        places = dag.targets[edges] - starts[at + 1], dag.sources[edges] - starts[at]
        arrays[f"mask{at}"] = np.zeros((sizes[at + 1], sizes[at]), dtype=np.bool_)
        arrays[f"mask{at}"][places] = True
        if dag.weights is not None:
            arrays[f"weight{at}"] = np.zeros((sizes[at + 1], sizes[at]))
            arrays[f"weight{at}"][places] = dag.weights[edges]
        if dag.biases is not None:
            arrays[f"bias{at}"] = dag.biases[starts[at + 1] : starts[at + 2]]
    for name in ("activations", "unit_names", "layer_names", "notes"):
        texts = getattr(dag, name)
        if texts is not None and len(texts) > 0:
            arrays[name] = np.array(texts, dtype=np.str_)
    with replacing(target) as part:
        np.savez_compressed(part, **arrays)
