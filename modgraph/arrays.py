"""Array types of the whole package, and arrays that nobody changes by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

IntArray = NDArray[np.int64]
IndexArray = NDArray[np.int32]  # of units, where there may be as many as edges
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
StrArray = NDArray[np.str_]
Matrix = Any  # array_like, a scipy sparse matrix, or a torch tensor


def as_matrix(matrix: Matrix) -> Any:
    """Convert a matrix of any kind to a numpy array, or a scipy sparse one to a `csr_array` without duplicates.

    A tensor may be on any device, of any dtype and layout, and may require gradients. Memory is shared where possible.
    """
    if issparse(matrix):
        rows = csr_array(matrix)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        return rows
    if hasattr(matrix, "detach"):
        tensor = matrix.detach().cpu()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
        # numpy has no bfloat16.
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return np.asarray(matrix)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` itself, made read-only; it must not be used for writing elsewhere."""
    array.flags.writeable = False
    return array
