"""Named tensors of a file, read a few rows at a time; and what a file may claim about their sizes."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from modgraph.io.matrix import DEFLATE_RATIO, Rows

if TYPE_CHECKING:
    import torch

# What safetensors calls its types; BF16 and the 8-bit floats are widened by hand.
_SAFETENSORS = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "I64": "<i8",
    "U64": "<u8",
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
}
_HEADER_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A tensor whose rows are read when they are asked for: ``rows(first, end)``, shape (end − first, …)."""

    shape: tuple[int, ...]
    itemsize: int
    rows: Rows

    def array(self) -> NDArray[Any]:
        """Read all of it."""
        return self.rows(0, self.shape[0]) if self.shape else self.rows(0, 1)


Tensors = Mapping[str, Tensor]


def from_array(array: NDArray[Any]) -> Tensor:
    """Wrap an array."""
    return Tensor(
        shape=array.shape,
        itemsize=array.dtype.itemsize,
        rows=lambda first, end: array[first:end] if array.ndim else array,
    )


def from_torch(name: str, tensor: torch.Tensor) -> Tensor:
    """Wrap a torch tensor.

    Raises
    ------
    ValueError
        If it is on no device, or claims more entries than its storage has.
    """
    import torch

    if tensor.is_quantized or tensor.is_complex():
        raise ValueError(f"{name!r} must be a real tensor that is not quantised (got {tensor.dtype})")
    if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
        raise ValueError(f"{name!r} must have values (it is on the meta device, or not initialised yet)")
    if tensor.layout != torch.strided:
        stored = tensor.values() if tensor.layout != torch.sparse_coo else tensor.coalesce().values()
        if tensor.numel() > DEFLATE_RATIO * (stored.numel() + 64):
            raise ValueError(f"{name!r} must not be that sparse (got {stored.numel()} of {tensor.numel()} entries)")
        tensor = tensor.to_dense()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name!r} must hold as many values as its shape says (got {tuple(tensor.shape)})")
    wide = tensor.dtype not in (torch.float32, torch.float64, torch.float16) and tensor.dtype.is_floating_point

    def rows(first: int, end: int) -> NDArray[Any]:
        part = (tensor[first:end] if tensor.ndim else tensor).detach().cpu()
        array: NDArray[Any] = (part.float() if wide else part).numpy()
        return array

    return Tensor(shape=tuple(tensor.shape), itemsize=max(tensor.element_size(), 4), rows=rows)


# --- safetensors ------------------------------------------------------------------------------------------------------


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the header of a safetensors file; the data follow when they are asked for.

    Raises
    ------
    ValueError
        If the header is broken, or places a tensor anywhere but in the file.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(total - 8, _HEADER_BYTES):
            raise ValueError(f"the header must fit the file (it claims {length} bytes)")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header must be a JSON object")
    header.pop("__metadata__", None)
    start = 8 + length
    return {name: _safetensor(path, name, entry, start=start, room=total - start) for name, entry in header.items()}


def _safetensor(path: Path, name: str, entry: Any, *, start: int, room: int) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the header must give dtype, shape and data_offsets of {name!r}") from None
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)) or len(shape) > 8:
        raise ValueError(f"shape and data_offsets of {name!r} must be ints ≥ 0")
    if dtype not in _SAFETENSORS:
        raise ValueError(f"{name!r} must be of a type in {sorted(_SAFETENSORS)} (got {dtype!r})")
    known = np.dtype(_SAFETENSORS[dtype])
    if end - begin != math.prod(shape) * known.itemsize or end > room:
        raise ValueError(f"{name!r} must lie in the file and be as large as its shape {shape} says")
    row = math.prod(shape[1:]) * known.itemsize
    where = start + begin

    def rows(first: int, last: int) -> NDArray[Any]:
        with path.open("rb") as file:
            file.seek(where + first * row)
            block = np.frombuffer(file.read((last - first) * row), dtype=known).reshape((last - first, *shape[1:]))
        return (block.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else block

    return Tensor(shape=shape or (1,), itemsize=max(known.itemsize, 4), rows=rows)


# --- NumPy ------------------------------------------------------------------------------------------------------------


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read the arrays of a ``.npz`` file; nothing is unpickled.

    Raises
    ------
    ValueError
        If an array holds objects, or its size is not what its header says.
    """
    tensors = {}
    with zipfile.ZipFile(path) as archive:
        for member in checked_members(archive):
            if not member.filename.endswith(".npy"):
                raise ValueError(f"the archive must hold .npy files only (got {member.filename!r})")
            with archive.open(member) as file:
                tensors[member.filename[:-4]] = from_array(read_npy(file, member.filename, size=member.file_size))
    return tensors


def checked_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """List the members of an archive, whose claimed sizes its own size allows.

    Raises
    ------
    ValueError
        If a member is there twice or claims more bytes than deflate can give.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    total = os.fstat(archive.fp.fileno()).st_size if archive.fp is not None else 0
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("the archive must not hold a name twice")
    if sum(member.file_size for member in members) > DEFLATE_RATIO * total:
        raise ValueError("the archive must not claim more bytes than it can hold")
    for member in members:
        if member.file_size > DEFLATE_RATIO * (member.compress_size + 16):
            raise ValueError(f"{member.filename!r} must not claim more bytes than it can hold")
    return members


def read_npy(file: BinaryIO | Any, name: str, *, size: int) -> NDArray[Any]:
    """Read one array of `size` bytes, header included."""
    if file.read(6) != b"\x93NUMPY":
        raise ValueError(f"{name!r} must be an array in NumPy's format")
    major = file.read(2)[0]
    width = 2 if major == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > min(size, 1 << 16):
        raise ValueError(f"the header of {name!r} must be shorter (it claims {length} bytes)")
    header = ast.literal_eval(file.read(length).decode("latin1").strip())
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"the header of {name!r} must give descr, fortran_order and shape")
    if not isinstance(header["descr"], str) or not re.fullmatch(r"[<>=|]?[biufSU]\d{1,6}", header["descr"]):
        raise ValueError(f"{name!r} must hold numbers or texts, not objects (got descr {header['descr']!r})")
    dtype, shape = np.dtype(header["descr"]), header["shape"]
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"the shape of {name!r} must be ints ≥ 0 (got {shape!r})")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != size - 8 - width - length:
        raise ValueError(f"{name!r} must be as large as its shape {shape} says")
    data = file.read(n_bytes)
    if len(data) != n_bytes:
        raise ValueError(f"{name!r} must be as large as its shape {shape} says")
    array = np.frombuffer(data, dtype=dtype) if n_bytes else np.empty(math.prod(shape), dtype=dtype)
    return array.reshape(shape, order="F" if header["fortran_order"] else "C")
