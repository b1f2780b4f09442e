"""Masks and lists of edges: their checks, and the sorted edges that a `LayeredDAG` consists of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from modgraph.arrays import FloatArray, IntArray, Matrix, as_matrix
from modgraph.checks import check_finite_vector


def check_layers(layer: ArrayLike) -> IntArray:
    """Return the layers of units; ValueError unless they start at 0 and never decrease or skip a number."""
    layers = np.asarray(layer)
    if layers.ndim != 1 or layers.size == 0 or not np.issubdtype(layers.dtype, np.integer):
        raise ValueError(f"`layer` must be a non-empty vector of ints (got shape {layers.shape}, {layers.dtype})")
    steps = np.diff(layers)
    if layers[0] != 0 or (steps < 0).any() or (steps > 1).any() or layers[-1] == 0:
        raise ValueError(
            "`layer` must start at 0 and never decrease or skip a number, with at least two layers "
            f"(got {layers.tolist() if layers.size <= 20 else layers})"
        )
    return layers


def sorted_edges(edges: ArrayLike, layers: IntArray, weights: ArrayLike | None) -> tuple[IntArray, FloatArray | None]:
    """Check and sort an edge list, shape (n_edges, 2), and its weights; repeats count once."""
    pairs = np.asarray(edges)
    pairs = pairs.reshape(0, 2).astype(np.int64) if pairs.size == 0 else pairs
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"`edges` must be ints of shape (n_edges, 2) (got {pairs.shape}, {pairs.dtype})")
    if pairs.size and (pairs.min() < 0 or pairs.max() >= layers.size):
        raise ValueError(f"`edges` must name units from 0 to {layers.size - 1} (got {pairs.min()} … {pairs.max()})")
    backwards = np.flatnonzero(layers[pairs[:, 0]] >= layers[pairs[:, 1]])
    if backwards.size:
        source, target = pairs[backwards[0]].tolist()
        raise ValueError(
            f"`edges` must lead to a later layer (got {source} → {target}, layers {layers[source]} → {layers[target]})"
        )
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    repeated = np.concatenate([[False], (pairs[1:] == pairs[:-1]).all(axis=1)])[: len(pairs)]
    if weights is None:
        return pairs[~repeated], None
    values = check_finite_vector("weights", weights, length=order.size)
    if repeated.any():
        source, target = pairs[repeated][0].tolist()
        raise ValueError(f"`edges` must not repeat an edge that has a weight (got {source} → {target} twice)")
    return pairs, values[order]


def dense_places(pairs: IntArray, layers: IntArray) -> int:
    """Count the pairs of units in all pairs of layers that are next to each other or joined by an edge."""
    sizes = np.bincount(layers)
    joined = {(level, level + 1) for level in range(sizes.size - 1)}
    joined |= {divmod(both, sizes.size) for both in np.unique(layers[pairs] @ [sizes.size, 1]).tolist()}
    return int(sum(sizes[one] * sizes[two] for one, two in joined))


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
