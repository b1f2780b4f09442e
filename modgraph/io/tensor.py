"""Named tensors, read a few rows at a time: dense (out, in) weights become sparse edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray
from modgraph.checks import check_number, require
from modgraph.io.limits import EDGE_BYTES, spend

if TYPE_CHECKING:
    import torch

BLOCK_BYTES = 1 << 24  # of a dense matrix that are looked at at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A tensor that is read when it is asked for: some rows by ``part(slice(first, end))``, all by ``part(...)``."""

    name: str
    shape: tuple[int, ...]
    itemsize: int
    part: Callable[[Any], NDArray[Any]]

    def array(self) -> NDArray[Any]:
        """Read all of it."""
        spend(math.prod(self.shape) * self.itemsize, repr(self.name))
        return self.part(...)


Tensors = Mapping[str, Tensor]
Weights = Tensor | NDArray[Any]


def from_array(name: str, values: Any) -> Tensor:
    """Wrap an array, or what NumPy makes one of; a tensor stays."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    return Tensor(name=name, shape=array.shape, itemsize=array.dtype.itemsize, part=array.__getitem__)


def from_torch(name: str, tensor: torch.Tensor) -> Tensor:
    """Wrap a torch tensor; one that is on no device, or claims more entries than its storage has, is refused."""
    import torch

    if tensor.is_quantized or tensor.is_complex():
        raise ValueError(f"{name!r} must be a real tensor that is not quantised (got {tensor.dtype})")
    if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
        raise ValueError(f"{name!r} must have values (it is on the meta device, or not initialised yet)")
    if tensor.layout != torch.strided:
        spend(tensor.numel() * tensor.element_size(), f"the sparse tensor {name!r}")
        tensor = tensor.to_dense()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name!r} must hold as many values as its shape says (got {tuple(tensor.shape)})")
    wide = tensor.dtype not in (torch.float32, torch.float64, torch.float16) and tensor.dtype.is_floating_point

    def part(index: Any) -> NDArray[Any]:
        chosen = tensor[index].detach().cpu()
        array: NDArray[Any] = (chosen.float() if wide else chosen).numpy()
        return array

    return Tensor(name=name, shape=tuple(tensor.shape), itemsize=max(tensor.element_size(), 4), part=part)


def number_type(name: str) -> np.dtype[Any]:
    """Return a type of numbers by its name."""
    if name == "bfloat16":
        require("ml_dtypes", purpose="reading bfloat16", extra="safetensors")  # adds it to NumPy
    return np.dtype(name)


def check_threshold(threshold: float) -> float:
    """Check that a magnitude is a finite number ≥ 0."""
    return check_number("threshold", threshold, lambda x: 0 <= x < np.inf, wanted="a finite number ≥ 0")


def pruned(layer: str, weight: Tensor, *, mask: Tensor | None = None, threshold: float = 0.0) -> csr_array:
    """Return the edges of weights, (out, in), or of kernels, (out, in, positions …), as their Euclidean norms.

    A mask that isn't 0 makes an edge, also where the weight is 0; without one, weights other than 0 are edges. A weight
    of at most `threshold` is no edge; a threshold of 0 leaves masks as they are. The result may hold explicit zeros.
    """
    name = f"the weights of {layer!r}"
    if len(weight.shape) < 2 or 0 in weight.shape:
        raise ValueError(f"{name} must be a non-empty (out, in) matrix (got shape {weight.shape})")
    if mask is not None and mask.shape != weight.shape:
        raise ValueError(f"the mask of {layer!r} must have its shape {weight.shape} (got {mask.shape})")
    n_rows, n_columns, size = weight.shape[0], math.prod(weight.shape[1:]), math.prod(weight.shape[2:])
    step = max(1, BLOCK_BYTES // (n_columns * weight.itemsize))
    parts = []
    for first in range(0, n_rows, step):
        end = min(first + step, n_rows)
        block = real(name, weight.part(slice(first, end))).reshape(end - first, n_columns)
        if threshold > 0 and block.dtype.kind != "f":
            block = block.astype(np.float64)  # the magnitude of −128 is no int8
        given = block if mask is None else real(f"the mask of {layer!r}", mask.part(slice(first, end)))
        kept = given.reshape(block.shape) != 0
        if threshold > 0:
            kept &= ~(np.abs(block) <= threshold)  # keeps NaN, which is refused below
        places = np.flatnonzero(kept)
        spend(EDGE_BYTES * places.size, name)
        rows, columns = np.divmod(places, n_columns)
        values = block[rows, columns].astype(np.float64)
        for at in np.flatnonzero(~np.isfinite(values))[:1]:
            raise ValueError(f"{name} must be finite (got {values[at]} at ({first + rows[at]}, {columns[at]}))")
        parts.append(((rows + first).astype(np.int32), (columns // size).astype(np.int32), values))
    rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    shape = n_rows, n_columns // size
    if size == 1:
        return csr_array((values, (rows, columns)), shape=shape)
    edges = csr_array((values**2, (rows, columns)), shape=shape)  # adds up what is in one place
    edges.data = np.sqrt(edges.data)
    return edges


def vector(name: str, values: NDArray[Any], *, length: int, mask: NDArray[Any] | None = None) -> FloatArray:
    """Check a bias: `length` finite numbers; masked ones are 0."""
    values = real(name, values)
    if values.size != length or values.ndim == 0:
        raise ValueError(f"{name} must hold {length} real numbers (got shape {values.shape})")
    bias: FloatArray = values.reshape(-1).astype(np.float64)
    if mask is not None:
        if mask.size != length:
            raise ValueError(f"the mask of {name} must have {length} entries (got {mask.size})")
        bias = np.where(mask.reshape(-1) != 0, bias, 0.0)
    if not np.isfinite(bias).all():
        raise ValueError(f"{name} must be finite (got {bias[~np.isfinite(bias)][0]})")
    return bias


def real(name: str, block: NDArray[Any]) -> NDArray[Any]:
    """Check that an array holds real numbers; those that NumPy doesn't have, such as bfloat16, become 32-bit floats."""
    if block.dtype.isbuiltin == 2:  # ml_dtypes added it
        block = block.astype(np.float32)
    if block.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers (got dtype {block.dtype})")
    return block
