"""safetensors: a JSON header, then the numbers of each tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.dag import LayeredDAG
from modgraph.io import chain
from modgraph.io.request import Request
from modgraph.io.tensor import Tensor

NAME = "a safetensors file"
_HEADER_BYTES = 1 << 26  # as many as the format allows, at most
# What the format calls its types. BF16 is widened by hand, because NumPy doesn't have it.
_NAMES = "BOOL:?,U8:u1,I8:i1,I16:<i2,U16:<u2,I32:<i4,U32:<u4,I64:<i8,U64:<u8,F16:<f2,BF16:<u2,F32:<f4,F64:<f8"
_TYPES = dict(pair.split(":") for pair in _NAMES.split(","))


def matches(start: bytes, path: Path) -> bool:
    """Whether a header follows its own length."""
    del path
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32


def read(request: Request) -> LayeredDAG:
    """Build the graph of the tensors."""
    return chain.from_tensors(read_tensors(request.path), request, ordered=False)


def blocks(request: Request) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the parts that can be read by themselves."""
    return chain.blocks(read_tensors(request.path), ordered=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
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
    tensors = {name: _tensor(path, name, entry, data=8 + length, places=places) for name, entry in header.items()}
    end_before = 0
    for begin, end, name in sorted(places):
        if begin < end_before or 8 + length + end > total:
            raise ValueError(f"{name!r} must lie in the file, and share no bytes with another tensor")
        end_before = end
    return tensors


def _tensor(path: Path, name: str, entry: Any, *, data: int, places: list[tuple[int, int, str]]) -> Tensor:
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
        return (block.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else block

    return Tensor(name=name, shape=shape or (1,), itemsize=max(dtype.itemsize, 4), rows=rows)
