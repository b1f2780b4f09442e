"""Files of arrays by name: ``.npz``, ``.safetensors``, Flax's ``.msgpack``; and the text format ``.nnet``.

No code in them is run, and no objects are unpickled.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.build import finish
from modgraph.io.chain import tensor_reader
from modgraph.io.limits import checked_members, read_header, spend
from modgraph.io.ops import Operations
from modgraph.io.request import File, Reader, Request
from modgraph.io.state import flattened
from modgraph.io.tensor import Tensor, from_array, widened

# --- NumPy's archives -------------------------------------------------------------------------------------------------


def _npz(path: Path) -> dict[str, Tensor]:
    """Read the headers of all arrays; the numbers are read when they are asked for."""
    archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))  # no open file that somebody would have to close
    tensors = {}
    for member in checked_members(archive):
        if not member.filename.endswith(".npy"):
            raise ValueError(f"the archive must hold .npy files only (got {member.filename!r})")
        name = member.filename.removesuffix(".npy")
        tensors[name] = _npy(archive, member, name)
    return tensors


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Tensor:
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


NPZ = tensor_reader(
    "a .npz file",
    matches=lambda file: bool(file.members) and all(name.endswith(".npy") for name in file.members),
    tensors=_npz,
    ordered=True,
)

# --- safetensors: a JSON header, then the numbers of each tensor ------------------------------------------------------

_HEADER_BYTES = 1 << 26  # as many as the format allows, at most
# What the format calls its types. BF16 is widened by hand, because NumPy doesn't have it.
_NAMES = "BOOL:?,U8:u1,I8:i1,I16:<i2,U16:<u2,I32:<i4,U32:<u4,I64:<i8,U64:<u8,F16:<f2,BF16:<u2,F32:<f4,F64:<f8"
_TYPES = dict(pair.split(":") for pair in _NAMES.split(","))


def _safetensors(path: Path) -> dict[str, Tensor]:
    """Read the header; the numbers are read when they are asked for."""
    total = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(total - 8, _HEADER_BYTES):
            raise ValueError(f"the header must fit the file (it claims {length} bytes)")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header must be a JSON object")
    header.pop("__metadata__", None)
    places: list[tuple[int, int, str]] = []
    tensors = {name: _entry(path, name, entry, data=8 + length, places=places) for name, entry in header.items()}
    end_before = 0
    for begin, end, name in sorted(places):
        if begin < end_before or 8 + length + end > total:
            raise ValueError(f"{name!r} must lie in the file, and share no bytes with another tensor")
        end_before = end
    return tensors


def _entry(path: Path, name: str, entry: Any, *, data: int, places: list[tuple[int, int, str]]) -> Tensor:
    """Check one entry of the header, and append where its numbers are to `places`."""
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the header must give dtype, shape and data_offsets of {name!r}") from None
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)) or len(shape) > 8:
        raise ValueError(f"shape and data_offsets of {name!r} must be ints ≥ 0")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f"{name!r} must be of a type in {sorted(_TYPES)} (got {kind!r})")
    dtype = np.dtype(_TYPES[kind])
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} must lie in the file and be as large as its shape {shape} says")
    places.append((begin, end, name))
    row = math.prod(shape[1:]) * dtype.itemsize

    def rows(first: int, last: int) -> NDArray[Any]:
        with path.open("rb") as file:
            file.seek(data + begin + first * row)
            block = np.frombuffer(file.read((last - first) * row), dtype=dtype).reshape((last - first, *shape[1:]))
        return widened(block) if kind == "BF16" else block

    return Tensor(name=name, shape=shape or (1,), itemsize=max(dtype.itemsize, 4), rows=rows)


SAFETENSORS = tensor_reader(
    "a safetensors file",
    matches=lambda file: file.start[8:9] == b"{" and int.from_bytes(file.start[:8], "little") < 1 << 32,
    tensors=_safetensors,
    ordered=False,
)

# --- msgpack, as flax.serialization writes parameters -----------------------------------------------------------------

_OBJECT_BYTES = 64  # that one byte of msgpack takes in memory, at most
_NOT_OF_THE_MODEL = ("opt_state", "step")  # what a state of training holds besides
_ARRAY, _SCALAR = 1, 3  # Flax's kinds of extensions
_MAPPINGS = {*map(bytes, zip(range(0x80, 0x90))), b"\xde", b"\xdf"}  # first bytes


def _msgpack(path: Path) -> dict[str, Tensor]:
    """Read all arrays, by the names that lead to them."""
    msgpack: Any = require("msgpack", purpose="reading msgpack files", extra="jax")

    def array(kind: int, content: bytes) -> NDArray[Any]:
        if kind not in (_ARRAY, _SCALAR):
            raise ValueError(f"it must hold arrays of real numbers (got an extension of kind {kind})")
        shape, dtype, data = msgpack.unpackb(content, raw=True)
        name = dtype.decode("ascii")
        numbers = np.frombuffer(data, dtype="<u2" if name == "bfloat16" else np.dtype(name)).reshape(shape)
        return widened(numbers) if name == "bfloat16" else numbers

    content = path.read_bytes()
    spend(_OBJECT_BYTES * min(len(content), 1 << 20) + 3 * len(content), "the file")
    tree = msgpack.unpackb(content, ext_hook=array, raw=False, strict_map_key=False)
    return flattened({name: part for name, part in tree.items() if name not in _NOT_OF_THE_MODEL})


MSGPACK = tensor_reader(
    "a msgpack file",
    matches=lambda file: file.suffix == ".msgpack" and file.start[:1] in _MAPPINGS,
    tensors=_msgpack,
    ordered=False,
)

# --- The text format of the ACAS Xu networks: ReLU between layers, inputs and outputs normalised ----------------------


def _nnet(request: Request) -> LayeredDAG:
    """Build the graph; what inputs are divided by becomes part of the weights."""
    lines = [line.strip().rstrip(",") for line in request.path.read_text(encoding="utf-8").splitlines()]
    rows = [line.split(",") for line in lines if line and not line.startswith("//")]
    (n_layers, n_inputs, *_), sizes = [int(n) for n in rows[0]], [int(n) for n in rows[1]]
    # Then a line that nobody uses, the least and most inputs, means and ranges of the inputs and of the outputs.
    means, ranges = (np.array(rows[at], dtype=np.float64) for at in (5, 6))
    numbers = iter([np.array(row, dtype=np.float64) for row in rows[7:]])
    n_lines = 2 * sum(sizes[1:])
    if len(sizes) != n_layers + 1 or sizes[0] != n_inputs or len(rows) != 7 + n_lines:
        raise ValueError(f"it must hold {n_lines} lines of weights and biases for layers of {sizes[:20]} units")
    ops = Operations(threshold=request.threshold)
    value = ops.input("inputs", size=n_inputs)
    value = ops.scaled("the means and ranges", value, 1 / ranges[:-1], -means[:-1] / ranges[:-1])
    for at, size in enumerate(sizes[1:]):
        weight, bias = ([next(numbers) for _ in range(size)] for _ in range(2))
        value = ops.weigh(f"layer {at + 1}", value, np.stack(weight), np.concatenate(bias))
        value = ops.apply(value, "relu") if at < n_layers - 1 else value
    return finish(ops, [ops.scaled("the output's mean and range", value, ranges[-1], means[-1])])


def _is_nnet(file: File) -> bool:
    return file.suffix == ".nnet" and bool(re.match(rb"\s*[/\d]", file.start))


NNET = Reader(name="a .nnet file", matches=_is_nnet, read=_nnet)
