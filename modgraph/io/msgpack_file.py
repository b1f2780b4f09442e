"""``.msgpack`` files, as flax.serialization writes the parameters of a model; no code in them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io import chain
from modgraph.io.budget import spend
from modgraph.io.request import Request
from modgraph.io.state import flattened
from modgraph.io.tensor import Tensor

NAME = "a msgpack file"
_OBJECT_BYTES = 64  # that one byte of msgpack takes in memory, at most
_NOT_OF_THE_MODEL = ("opt_state", "step")  # what a state of training holds besides
_ARRAY, _SCALAR = 1, 3  # Flax's kinds of extensions


def matches(start: bytes, path: Path) -> bool:
    """Whether the file is called like one, and begins with a mapping."""
    return path.suffix.lower() == ".msgpack" and start[:1] in {*map(bytes, zip(range(0x80, 0x90))), b"\xde", b"\xdf"}


def read(request: Request) -> LayeredDAG:
    """Build the graph of the parameters."""
    return chain.from_tensors(read_tensors(request.path), request, ordered=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all arrays, by the names that lead to them."""
    msgpack: Any = require("msgpack", purpose="reading msgpack files", extra="jax")

    def array(kind: int, content: bytes) -> NDArray[Any]:
        if kind not in (_ARRAY, _SCALAR):
            raise ValueError(f"it must hold arrays of real numbers (got an extension of kind {kind})")
        shape, dtype, data = msgpack.unpackb(content, raw=True)
        name = dtype.decode("ascii")
        numbers = np.frombuffer(data, dtype="<u2" if name == "bfloat16" else np.dtype(name)).reshape(shape)
        return (numbers.astype(np.uint32) << 16).view(np.float32) if name == "bfloat16" else numbers

    content = path.read_bytes()
    spend(_OBJECT_BYTES * min(len(content), 1 << 20) + 3 * len(content), "the file")
    tree = msgpack.unpackb(content, ext_hook=array, raw=False, strict_map_key=False)
    return flattened({name: part for name, part in tree.items() if name not in _NOT_OF_THE_MODEL})
