"""Files of arrays by name: ``.npz``, ``.safetensors``, Flax's ``.msgpack``; and the text format ``.nnet``.

No code in them is run, and no objects are unpickled.
"""

from __future__ import annotations

import io
import math
import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.chain import tensor_reader
from modgraph.io.limits import checked_members, read_header, spend
from modgraph.io.ops import Operations, finish
from modgraph.io.request import Reader, Request
from modgraph.io.state import flattened
from modgraph.io.tensor import Tensor, number_type

# --- NumPy's archives -------------------------------------------------------------------------------------------------


def _npz(path: Path) -> dict[str, Tensor]:
    """Read the headers of all arrays; the numbers are read when they are asked for."""
    arrays: Any = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)  # no open file to close
    tensors: dict[str, Tensor] = {}

    @lru_cache(maxsize=2)  # a weight and its mask
    def array(name: str) -> NDArray[Any]:
        spend(math.prod(tensors[name].shape) * tensors[name].itemsize, repr(name))
        numbers: NDArray[Any] = arrays[f"{name}.npy"]
        return numbers

    def part(name: str, index: Any) -> NDArray[Any]:
        chosen: NDArray[Any] = array(name)[index]
        return chosen

    for member in checked_members(arrays.zip):
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise ValueError(f"the archive must hold .npy files only (got {name!r})")
        with arrays.zip.open(member) as file:
            shape, dtype = read_header(file, name, size=member.file_size)
        tensors[name] = Tensor(name=name, shape=shape, itemsize=dtype.itemsize, part=partial(part, name))
    return tensors


NPZ = tensor_reader(
    "a .npz file",
    matches=lambda file: bool(file.members) and all(name.endswith(".npy") for name in file.members),
    tensors=_npz,
    ordered=True,
)

# --- safetensors ------------------------------------------------------------------------------------------------------

_MOST_MAPPED = 1 << 22  # bytes: what was read counts as memory of this process until the file is closed


def _safetensors(path: Path) -> dict[str, Tensor]:
    """Read the header, which the library checks; the numbers are read when they are asked for."""
    library = require("safetensors", purpose="reading safetensors files", extra="safetensors")
    require("ml_dtypes", purpose="reading safetensors files", extra="safetensors")  # NumPy has no bfloat16

    def opened() -> Any:
        try:
            return library.safe_open(path, framework="numpy")
        except library.SafetensorError as error:
            raise ValueError(str(error)) from None

    file, n_read = opened(), 0

    def part(name: str, index: Any) -> NDArray[Any]:
        nonlocal file, n_read
        if n_read > _MOST_MAPPED:
            file, n_read = opened(), 0
        numbers: NDArray[Any] = file.get_slice(name)[index]
        n_read += numbers.nbytes
        return numbers

    tensors = {}
    for name in file.keys():  # noqa: SIM118 (the file is no mapping)
        about = file.get_slice(name)
        if not re.fullmatch(r"BOOL|BF16|F(16|32|64)|[UI](8|16|32|64)", about.get_dtype()):
            raise ValueError(f"{name!r} must hold real numbers of 8 to 64 bits (got {about.get_dtype()})")
        tensors[name] = Tensor(name=name, shape=tuple(about.get_shape()), itemsize=8, part=partial(part, name))
    return tensors


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
        shape, name, data = msgpack.unpackb(content)
        return np.frombuffer(data, dtype=number_type(name)).reshape(shape)

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


NNET = Reader(
    name="a .nnet file",
    matches=lambda file: file.suffix == ".nnet" and bool(re.match(rb"\s*[/\d]", file.start)),
    read=_nnet,
)
