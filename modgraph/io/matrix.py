"""Weights as they come in: dense (out, in) matrices become sparse ones, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray
from modgraph.io.budget import EDGE_BYTES, spend

BLOCK_BYTES = 1 << 24  # of a dense matrix that are looked at at once

Rows = Callable[[int, int], NDArray[Any]]


def check_threshold(threshold: float) -> float:
    """Check that a magnitude is a finite number ≥ 0."""
    number = isinstance(threshold, int | float | np.integer | np.floating) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold < float("inf"):
        raise ValueError(f"`threshold` must be a finite number ≥ 0 (got {threshold!r})")
    return float(threshold)


def pruned(name: str, weights: NDArray[Any], *, mask: NDArray[Any] | None = None, threshold: float = 0.0) -> csr_array:
    """Return the edges of a dense (out, in) matrix.

    Parameters
    ----------
    name : str
        For errors.
    weights : ndarray, shape (out, in)
    mask : ndarray, shape (out, in), optional
        Nonzero = edge, also where the weight is 0. Without it, weights other than 0 are edges.
    threshold : float ≥ 0
        A weight of at most this magnitude is no edge; 0 leaves masks as they are.

    Returns
    -------
    csr_array of float, shape (out, in)
        May hold explicit zeros, which are edges too.
    """
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a non-empty (out, in) matrix (got shape {weights.shape})")
    for what, array in ((name, weights), (f"the mask of {name}", mask)):
        if array is not None and array.dtype.kind not in "biuf":
            raise ValueError(f"{what} must hold real numbers (got dtype {array.dtype})")
    if mask is not None and mask.shape != weights.shape:
        raise ValueError(f"the mask of {name} must have its shape {weights.shape} (got {mask.shape})")
    return pruned_rows(
        name,
        lambda first, end: weights[first:end],
        shape=weights.shape,
        itemsize=weights.dtype.itemsize,
        mask=None if mask is None else lambda first, end: mask[first:end],
        threshold=threshold,
    )


def pruned_rows(
    name: str,
    rows: Rows,
    *,
    shape: tuple[int, ...],
    itemsize: int,
    mask: Rows | None = None,
    threshold: float = 0.0,
) -> csr_array:
    """Do the same as `pruned` for a matrix whose rows are read when they are asked for."""
    n_rows, n_columns = shape
    step = max(1, BLOCK_BYTES // (n_columns * itemsize))
    counts = np.zeros(n_rows + 1, dtype=np.int64)
    columns, values = [], []
    for first in range(0, n_rows, step):
        end = min(first + step, n_rows)
        block = rows(first, end)
        if threshold > 0 and block.dtype.kind != "f":
            block = block.astype(np.float64)  # the magnitude of −128 is no int8
        kept = np.ones(block.shape, dtype=np.bool_) if mask is not None else block != 0
        if mask is not None:
            kept &= mask(first, end) != 0
        if threshold > 0:
            kept &= ~(np.abs(block) <= threshold)  # keeps NaN, which is refused below
        places = np.flatnonzero(kept)
        spend(EDGE_BYTES * places.size, name)
        found = block.reshape(-1)[places].astype(np.float64)
        if not np.isfinite(found).all():
            at = int(places[~np.isfinite(found)][0])
            value = found[~np.isfinite(found)][0]
            raise ValueError(f"{name} must be finite (got {value} at ({first + at // n_columns}, {at % n_columns}))")
        counts[first + 1 : end + 1] = np.bincount(places // n_columns, minlength=end - first)
        columns.append((places % n_columns).astype(np.int32))
        values.append(found)
    return csr_array((np.concatenate(values), np.concatenate(columns), np.cumsum(counts)), shape=(n_rows, n_columns))


def kernel_norms(matrix: csr_array, *, size: int) -> csr_array:
    """Join every `size` columns: an edge where one of them has one, with their Euclidean norm."""
    n_out, n_in = matrix.shape[0], matrix.shape[1] // size
    rows = np.repeat(np.arange(n_out), np.diff(matrix.indptr))
    pairs, which = np.unique(rows * n_in + matrix.indices // size, return_inverse=True)
    norms = np.sqrt(np.bincount(which, matrix.data**2, minlength=pairs.size))
    return csr_array((norms, (pairs // n_in, pairs % n_in)), shape=(n_out, n_in))


def vector(name: str, values: NDArray[Any], *, length: int, mask: NDArray[Any] | None = None) -> FloatArray:
    """Check a bias: `length` finite numbers; masked ones are 0."""
    if values.dtype.kind not in "biuf" or values.size != length or values.ndim == 0:
        raise ValueError(f"{name} must hold {length} real numbers (got shape {values.shape}, dtype {values.dtype})")
    bias: FloatArray = values.reshape(-1).astype(np.float64)
    if mask is not None:
        if mask.size != length:
            raise ValueError(f"the mask of {name} must have {length} entries (got {mask.size})")
        bias = np.where(mask.reshape(-1) != 0, bias, 0.0)
    if not np.isfinite(bias).all():
        raise ValueError(f"{name} must be finite (got {bias[~np.isfinite(bias)][0]})")
    return bias
