"""Average linkage of one layer at any size: equal rows are collapsed, and only similar pairs are stored.

Two units are similar if they reach a unit in common. In a pruned network few pairs do, so the similarities are a sparse
graph. Average linkage needs nothing else: pairs that are not in it are at distance 1, the largest there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray, IntArray, read_only
from modgraph.cluster.sparse_kernels import (
    count_similar,
    equal_rows,
    packed_overlaps,
    packed_step,
    reciprocal_merges,
    similar_rows,
)
from modgraph.cluster.tree import MergeTree, tied_tree
from modgraph.compiled import THREAD_EDGES, in_threads
from modgraph.dag import LayeredDAG

# Most distinct rows whose tree is grown on the full matrix of distances.
DENSE_ROWS = 3000
# The same where the sparse graph would have too many pairs.
DENSE_LIMIT = 6000
# Rows are packed into bits if they have more entries than this in all …
FULL_ENTRIES = 1 << 20
# … and fill more than this share of their columns …
FULL_SHARE = 0.1
# … and the packed rows take no more bytes than this.
PACKED_BYTES = 1 << 29
# Most steps, per row, for finding the similar pairs: one for each pair of rows and column that they have in common.
STEPS_PER_ROW = 1024
# Most similar pairs, per row, that are stored.
PAIRS_PER_ROW = 128
# Steps or pairs in all that are always allowed.
FREE_STEPS = 1 << 24
# Most rows whose sums over pairs of them stay inside 64 bits in `tied_tree`.
MOST_DENSE = 1 << 16
# Rows are multiplied as full matrices if they have at most this many entries, zeros included, and it takes at most this
# many times more products: each takes a hundredth of the time.
DENSE_ENTRIES = 1 << 24
DENSE_STEPS = 64
# Rows are looked at in this many parts to see whether they cost too much, before all of them are made.
TRIED_PARTS = 8
# Layers whose trees are grown at once, at most: each takes memory.
LAYERS_AT_ONCE = 4


Found = TypeVar("Found")
# For each row where its pairs begin; the other rows; the similarities; the integer that stands for similarity 1.
_Similarities = tuple[IntArray, NDArray[np.int32], IntArray, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTree:
    """The linkage tree of the units of one layer.

    Attributes
    ----------
    tree : MergeTree or None
        Of the distinct rows; None where there is only one. Its `closest` is empty where it was grown on a sparse graph.
    row_of : ndarray of int, shape (n_units,)
        The row of the tree that each unit of the layer belongs to.
    hops : int
        Longest path that counts in the rows: shorter than asked for if longer paths make too many pairs similar.
    left_out : int
        Columns left out, the most common ones, because even with one hop too many pairs were similar.
    capped : bool
        Whether the rows were shortened or columns left out. If not, the tree is that of
        `modgraph.cluster.tree.tied_tree`.
    """

    tree: MergeTree | None
    row_of: IntArray
    hops: int
    left_out: int
    capped: bool


def layer_tree(dag: LayeredDAG, level: int, *, hops: int, direction: str = "both") -> LayerTree:
    """Grow the linkage tree of one layer by what its units reach.

    Average linkage on cosine distance, pairs at equal distances joined at once, as `modgraph.cluster.tree.tied_tree`.
    Units with equal rows are collapsed first. Up to `DENSE_ROWS` distinct rows the tree is grown on the full matrix of
    distances, whose overlaps are counted on packed bits where rows are long. Above that it is grown by reciprocal
    nearest neighbours on the sparse graph of similar rows (Murtagh, The Computer Journal 26, 1983; exact, since
    average linkage is reducible), in practice in time linear in the number of similar pairs.

    Where that graph has too many pairs, rows hold only the columns within fewer hops, as many as cost at most
    `STEPS_PER_ROW` steps and `PAIRS_PER_ROW` pairs a row. Where one hop is still too many, the most common columns are
    left out, equally common ones together, until it isn't. `LayerTree.capped` says so.

    Parameters
    ----------
    dag : LayeredDAG
    level : int
        A layer with units.
    hops : int ≥ 1
    direction : {"both", "outwards", "inwards"}
        Whether a unit's row is what it reaches, what reaches it, or both side by side.

    Returns
    -------
    LayerTree

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]]])
    >>> found = layer_tree(dag, 0, hops=1, direction="outwards")
    >>> found.tree.n_rows, found.row_of.tolist(), found.capped
    (3, [0, 0, 1, 2], False)
    """
    return layer_trees(dag, [level], hops=hops, direction=direction)[0]


def layer_trees(dag: LayeredDAG, levels: Sequence[int], *, hops: int, direction: str = "both") -> list[LayerTree]:
    """Grow the trees of several layers, as `layer_tree` does."""
    steps, skips_layers = _steps(dag, direction), dag.skips_layers

    def tree(level: int) -> LayerTree:
        start, stop = dag.layer_starts[level : level + 2].tolist()
        within, complete = _within(steps, start, stop, hops=hops, skips_layers=skips_layers)
        if not complete:
            found = _packed_tree(steps, start, stop, hops=hops)
            if found is not None:
                return LayerTree(tree=found[0], row_of=read_only(found[1]), hops=hops, left_out=0, capped=False)
        (tree, row_of), used, left_out = _affordable(within, _tree)
        exact = complete and used == len(within) and left_out == 0
        return LayerTree(
            tree=tree,
            row_of=read_only(row_of),
            hops=hops if exact else used,
            left_out=left_out,
            capped=not exact,
        )

    return in_threads(tree, levels, at_once=LAYERS_AT_ONCE if dag.n_edges >= THREAD_EDGES else 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimilarityGraph:
    """Which distinct rows of a layer have a column in common, and how alike they are.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_pairs, 2)
        Each pair of rows once.
    cosine : ndarray of float, shape (n_pairs,)
        Over 0, up to 1.
    copies : ndarray of int ≥ 1, shape (n_rows,)
        How many units have each row.
    row_of : ndarray of int, shape (n_units,)
        The row of each unit of the layer.
    capped : bool
        As in `LayerTree`.
    """

    pairs: IntArray
    cosine: FloatArray
    copies: IntArray
    row_of: IntArray
    capped: bool


def similarity_graph(dag: LayeredDAG, level: int, *, hops: int, direction: str = "both") -> SimilarityGraph:
    """Find the similar units of one layer, under the same cap as `layer_tree`.

    Parameters
    ----------
    dag, level, hops, direction
        As for `layer_tree`.

    Returns
    -------
    SimilarityGraph

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]]])
    >>> found = similarity_graph(dag, 0, hops=1, direction="outwards")
    >>> found.pairs.tolist(), found.cosine.round(3).tolist(), found.copies.tolist()
    ([[0, 1], [1, 2]], [0.5, 0.707], [2, 1, 1])
    """
    steps = _steps(dag, direction)
    start, stop = dag.layer_starts[level : level + 2].tolist()
    within, complete = _within(steps, start, stop, hops=hops, skips_layers=dag.skips_layers)

    def similarities(rows: csr_array) -> tuple[_Similarities, IntArray, IntArray] | None:
        distinct, row_of, copies = _distinct(rows)
        found = _similarities(distinct, np.ones_like(copies))
        return None if found is None else (found, row_of, copies)

    (found, row_of, copies), used, left_out = _affordable(within, similarities)
    starts, others, similarity, one = found
    row = np.repeat(np.arange(len(copies)), np.diff(starts))
    once = row < others
    return SimilarityGraph(
        pairs=read_only(np.column_stack([row[once], others[once]])),
        cosine=read_only(similarity[once] / one),
        copies=read_only(copies),
        row_of=read_only(row_of),
        capped=not (complete and used == len(within) and left_out == 0),
    )


def _steps(dag: LayeredDAG, direction: str) -> list[csr_array]:
    """Return the adjacency to follow, one for each direction."""
    if direction not in ("both", "outwards", "inwards"):
        raise ValueError(f'`direction` must be "both", "outwards" or "inwards" (got {direction!r})')
    forwards = dag.adjacency
    steps = [forwards] if direction != "inwards" else []
    if direction != "outwards":
        steps.append(forwards.T.tocsr())
    return steps


def _affordable(
    within: Sequence[csr_array | None], make: Callable[[csr_array], Found | None]
) -> tuple[Found, int, int]:
    """Call `make` with ever sparser rows until it returns something; return that, the hops and the columns left out."""
    for used in range(len(within), 0, -1):
        rows = within[used - 1]
        found = None if rows is None else make(_sorted(rows))
        if found is not None:
            return found, used, 0
    rows = within[0]
    assert rows is not None
    frequency = np.bincount(rows.indices, minlength=rows.shape[1])
    for bound in np.unique(frequency)[::-1].tolist():
        found = make(_sorted(rows[:, frequency < bound]))
        if found is not None:
            return found, 1, int((frequency >= bound).sum())
    raise AssertionError("rows without columns cost nothing")


def _within(
    steps: Sequence[csr_array], start: int, stop: int, *, hops: int, skips_layers: bool
) -> tuple[list[csr_array | None], bool]:
    """Return what some units reach within 1, 2, … hops, and whether the last one is `hops` or as good.

    It stops early where rows fill up or have too many entries in all. The last one is None where it surely costs too
    much to grow a tree of.
    """
    frontiers = [step[start:stop] for step in steps]
    # Columns of different directions are never the same: no unit is both before and after a layer.
    within = [sum(frontiers[1:], frontiers[0])]
    while len(within) < hops:
        size = within[-1].nnz
        full = size > FULL_ENTRIES and size > FULL_SHARE * (stop - start) * np.count_nonzero(
            np.bincount(within[-1].indices)
        )
        if full or size > max(PAIRS_PER_ROW * (stop - start), FREE_STEPS):
            return within, False
        if len(within) == hops - 1 and _surely_costly(within[-1], frontiers, steps):
            return [*within, None], True
        frontiers = [frontier @ step for frontier, step in zip(frontiers, steps, strict=True)]
        if skips_layers:
            frontiers = [frontier > within[-1] for frontier in frontiers]
        if not any(frontier.nnz for frontier in frontiers):
            break
        within.append(sum(frontiers, within[-1]))
    return within, True


def _surely_costly(reached: csr_array, frontiers: Sequence[csr_array], steps: Sequence[csr_array]) -> bool:
    """Say whether half of the rows already show that one hop more makes too many rows similar."""
    n_rows, n_columns = reached.shape
    if n_rows <= DENSE_LIMIT:
        return False
    frequency = np.zeros(n_columns, dtype=np.int64)
    seen = np.zeros(0, dtype=np.uint64)
    bounds = np.linspace(0, n_rows, TRIED_PARTS + 1, dtype=np.int64).tolist()
    for start, stop in itertools.pairwise(bounds[: TRIED_PARTS // 2 + 1]):
        parts = [frontier[start:stop] @ step for frontier, step in zip(frontiers, steps, strict=True)]
        rows = sum(parts, reached[start:stop])
        sums, first = np.unique(_row_sums(rows), return_index=True)
        # Equal rows count once. So do different rows with equal sums, which only makes the answer more careful.
        is_new = ~np.isin(sums, seen)
        frequency += np.bincount(rows[first[is_new]].indices, minlength=n_columns)
        seen = np.concatenate([seen, sums[is_new]])
        many_rows = len(seen) > DENSE_LIMIT or n_rows > MOST_DENSE
        if many_rows and (frequency**2).sum() > max(STEPS_PER_ROW * n_rows, FREE_STEPS):
            return True
    return False


def _sorted(rows: csr_array) -> csr_array:
    """Return boolean rows in canonical form, a copy."""
    rows = rows.copy()
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


def _packed_tree(
    steps: Sequence[csr_array], start: int, stop: int, *, hops: int
) -> tuple[MergeTree | None, IntArray] | None:
    """Grow the tree on packed rows; None where they take too much memory or too many are distinct."""
    n_units = steps[0].shape[0]
    if len(steps) * n_units * n_units // 8 > PACKED_BYTES:
        return None
    sides = []
    for step in steps:
        pointers, targets = step.indptr.astype(np.int64), step.indices.astype(np.int64)
        bits = np.zeros((n_units, -(-n_units // 64)), dtype=np.uint64)
        for _ in range(hops):
            bits = packed_step(pointers, targets, bits)
        sides.append(bits[start:stop])
    rows = np.bitwise_or.reduce(sides)
    _, first, row_of, copies = np.unique(
        rows.view(f"V{rows.itemsize * rows.shape[1]}")[:, 0], return_index=True, return_inverse=True, return_counts=True
    )
    if len(first) > DENSE_LIMIT:
        return None
    return _dense_tree(packed_overlaps(rows[first]), copies), row_of


def _tree(rows: csr_array) -> tuple[MergeTree | None, IntArray] | None:
    """Grow the tree of the distinct rows; return it and the place of each row in it; None where it costs too much."""
    distinct, row_of, copies = _distinct(rows)
    n_rows = distinct.shape[0]
    tree = None
    dense = len(row_of) <= MOST_DENSE
    if n_rows > DENSE_ROWS or not dense:
        tree = _sparse_tree(distinct, copies)
        if tree is None and not (dense and n_rows <= DENSE_LIMIT):
            return None
    if tree is None:
        tree = _dense_tree(_overlaps(distinct), copies)
    return tree, row_of


def _distinct(rows: csr_array) -> tuple[csr_array, IntArray, IntArray]:
    """Collapse equal rows: the distinct ones, which of them each row is, and how often each occurs."""
    sums = _row_sums(rows)
    same = equal_rows(
        rows.indptr.astype(np.int64), rows.indices.astype(np.int64), np.argsort(sums, kind="stable"), sums
    )
    first, row_of, copies = np.unique(same, return_inverse=True, return_counts=True)
    return rows[first], row_of, copies


def _row_sums(rows: csr_array) -> NDArray[np.uint64]:
    """Sum random numbers of the columns of each row: equal sets of columns have equal sums."""
    mixer = np.random.default_rng(0).integers(1 << 64, size=rows.shape[1], dtype=np.uint64)
    # Sums wrap around, and so do differences of them.
    running = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixer[rows.indices], dtype=np.uint64)])
    sums: NDArray[np.uint64] = running[rows.indptr[1:]] - running[rows.indptr[:-1]]
    return sums


def _overlaps(rows: csr_array) -> IntArray:
    """Count the columns that each pair of rows has in common; shape (n_rows, n_rows)."""
    frequency = np.bincount(rows.indices, minlength=rows.shape[1]).astype(np.int64)
    used = np.flatnonzero(frequency)
    entries = rows.shape[0] * len(used)
    if entries <= DENSE_ENTRIES and rows.shape[0] * entries <= DENSE_STEPS * (frequency**2).sum():
        dense = rows[:, used].toarray().astype(np.float32)  # whole numbers below 2²⁴ are exact
        overlap: IntArray = (dense @ dense.T).astype(np.int64)
    else:
        counts = rows.astype(np.int64)
        overlap = (counts @ counts.T).toarray()
    return overlap


def _dense_tree(overlap: IntArray, copies: IntArray) -> MergeTree | None:
    # A row without columns is like no other.
    np.fill_diagonal(overlap, np.maximum(overlap.diagonal(), 1))
    return None if len(copies) == 1 else tied_tree(overlap, copies)


def _sparse_tree(rows: csr_array, copies: IntArray) -> MergeTree | None:
    """Grow the tree of distinct rows from the pairs that have a column in common; None if there are too many."""
    found = _similarities(rows, copies)
    if found is None:
        return None
    starts, others, similarity, one = found
    distance_sums = one * copies * (copies.sum() - copies)
    filled = np.diff(starts) > 0
    distance_sums[filled] -= np.add.reduceat(similarity, starts[:-1][filled])
    pairs, average, between = reciprocal_merges(starts, others, similarity, copies, one)
    order = np.argsort(-average, kind="stable")
    average = average[order]
    return MergeTree(
        pairs=pairs[order],
        steps=np.concatenate([[1], 1 + np.cumsum(average[1:] != average[:-1])]),
        between=between[order].tolist(),
        distance_sums=distance_sums.tolist(),
        closest=np.zeros((0, 2), dtype=np.int64),
    )


def _similarities(rows: csr_array, copies: IntArray) -> _Similarities | None:
    """Find for each row the rows it has a column in common with, their similarities, and the integer for similarity 1.

    None if there are too many pairs.
    """
    n_rows = rows.shape[0]
    frequency = np.bincount(rows.indices).astype(np.int64)
    if (frequency**2).sum() > max(STEPS_PER_ROW * n_rows, FREE_STEPS):
        return None
    by_column = rows.T.tocsr()
    pointers, columns = rows.indptr.astype(np.int64), rows.indices.astype(np.int64)
    column_pointers, column_rows = by_column.indptr.astype(np.int64), by_column.indices.astype(np.int64)
    starts = count_similar(pointers, columns, column_pointers, column_rows, max(PAIRS_PER_ROW * n_rows, FREE_STEPS))
    if not len(starts):
        return None
    # Sums over n² pairs must stay inside 64 bits.
    one = 1 << min(30, 62 - 2 * int(copies.sum()).bit_length())
    others, similarity = similar_rows(pointers, columns, column_pointers, column_rows, copies, starts, one)
    return starts, others, similarity, one
