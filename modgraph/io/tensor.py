"""Named tensors, read a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modgraph.io.budget import spend
from modgraph.io.matrix import Rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A tensor whose rows are read when they are asked for: ``rows(first, end)``, shape (end − first, …)."""

    name: str
    shape: tuple[int, ...]
    itemsize: int
    rows: Rows

    def array(self) -> NDArray[Any]:
        """Read all of it."""
        spend(math.prod(self.shape) * self.itemsize, repr(self.name))
        return self.rows(0, self.shape[0]) if self.shape else self.rows(0, 1)


Tensors = Mapping[str, Tensor]


def from_array(name: str, values: Any) -> Tensor:
    """Wrap an array, or what NumPy makes one of."""
    array = np.asarray(values)
    return Tensor(
        name=name,
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
        spend(tensor.numel() * tensor.element_size(), f"the sparse tensor {name!r}")
        tensor = tensor.to_dense()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name!r} must hold as many values as its shape says (got {tuple(tensor.shape)})")
    wide = tensor.dtype not in (torch.float32, torch.float64, torch.float16) and tensor.dtype.is_floating_point

    def rows(first: int, end: int) -> NDArray[Any]:
        part = (tensor[first:end] if tensor.ndim else tensor).detach().cpu()
        array: NDArray[Any] = (part.float() if wide else part).numpy()
        return array

    return Tensor(name=name, shape=tuple(tensor.shape), itemsize=max(tensor.element_size(), 4), rows=rows)
