"""Masks of a multi-layer perceptron as sorted edges."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from modgraph.arrays import FloatArray, IntArray, Matrix, as_matrix
from modgraph.checks import check_finite_vector


class MaskEdges(NamedTuple):
    """The edges of masks, sorted by source, then target."""

    sources: IntArray
    targets: IntArray
    weights: FloatArray | None
    sizes: list[int]  # units in each layer
    dense_edges: int  # entries of all masks


def mask_edges(masks: Sequence[Matrix], weights: Sequence[Matrix] | None) -> MaskEdges:
    """Find the edges, where masks are not zero, and their weights; ValueError as in `LayeredDAG.from_masks`."""
    matrices = _matrices("masks", masks)
    values = None if weights is None else _matrices("weights", weights)
    shapes = [matrix.shape for matrix in matrices]
    if values is not None and [matrix.shape for matrix in values] != shapes:
        raise ValueError(
            f"`weights` must have the shapes of `masks` (got {[matrix.shape for matrix in values]} for {shapes})"
        )
    sizes = [shapes[0][1], *(rows for rows, _ in shapes)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    sources, targets, kept = [], [], []
    for position, matrix in enumerate(matrices):
        # Transposed, so that edges are sorted by source, then target.
        source, target = _sorted_entries(matrix) if issparse(matrix) else np.nonzero(matrix.T)
        sources.append(source + starts[position])
        targets.append(target + starts[position + 1])
        if values is not None:
            picked = values[position][target, source]
            picked = picked.toarray().reshape(-1) if issparse(picked) else picked
            kept.append(np.asarray(picked, dtype=np.float64))
    return MaskEdges(
        sources=np.concatenate(sources),
        targets=np.concatenate(targets),
        weights=np.concatenate(kept) if kept else None,
        sizes=sizes,
        dense_edges=sum(rows * columns for rows, columns in shapes),
    )


def join_biases(biases: Sequence[ArrayLike], *, sizes: Sequence[int]) -> FloatArray:
    """Join the biases of all layers; inputs have 0."""
    if len(biases) != len(sizes) - 1:
        raise ValueError(f"`biases` must be {len(sizes) - 1} vectors, one a weight layer (got {len(biases)})")
    vectors = [check_finite_vector(f"biases[{at}]", vector, length=sizes[at + 1]) for at, vector in enumerate(biases)]
    return np.concatenate([np.zeros(sizes[0]), *vectors])


def _matrices(name: str, arrays: Sequence[Matrix]) -> list[Matrix]:
    """Return `arrays` as finite numpy or CSR matrices whose shapes chain."""
    matrices = [as_matrix(array) for array in arrays]
    if not matrices:
        raise ValueError(f"`{name}` must hold at least one (out, in) array (got none)")
    for position, matrix in enumerate(matrices):
        _check_matrix(f"{name}[{position}]", matrix)
    for position, (one, two) in enumerate(itertools.pairwise(matrices)):
        if two.shape[1] != one.shape[0]:
            raise ValueError(
                f"`{name}` must chain: `{name}[{position + 1}]` must have {one.shape[0]} columns, "
                f"one for each row of `{name}[{position}]` (got shape {two.shape})"
            )
    return matrices


def _check_matrix(name: str, matrix: Matrix) -> None:
    """Raise an error unless a matrix has rows and columns of finite real numbers."""
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"`{name}` must be a non-empty (out, in) array (got shape {matrix.shape})")
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must hold real numbers (got dtype {matrix.dtype})")
    # Sparse matrices list the entries that are not zero, dense ones all entries.
    entries = matrix.tocoo().data if issparse(matrix) else matrix.ravel()
    with np.errstate(over="ignore"):
        finite = np.isfinite(entries.astype(np.float64, copy=False))
    if not finite.all():
        place = int(np.argmin(finite))
        row, column = divmod(place, matrix.shape[1])
        if issparse(matrix):
            row, column = (int(at[place]) for at in matrix.tocoo().coords)
        raise ValueError(f"`{name}` must be finite (got {entries[place]} at ({row}, {column}))")


def _sorted_entries(matrix: csr_array) -> tuple[IntArray, IntArray]:
    """Return column and row of each nonzero entry of a sparse matrix, sorted by column, then row."""
    by_column = matrix.tocsc()
    by_column.eliminate_zeros()
    columns = np.repeat(np.arange(matrix.shape[1]), np.diff(by_column.indptr))
    return columns, by_column.indices.astype(np.int64)
