"""How many clusters a layer has: the published modularity curve and its two tests of separability."""

from __future__ import annotations

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.cluster.tree import MergeTree


def choose_clusters(
    tree: MergeTree,
    rows: BoolArray,
    *,
    overlaps: IntArray,
    copies: int = 0,
    modularity_threshold: float,
) -> IntArray:
    """Cut a tree where the published rule says (method: paper, section 3.2).

    The cut with the smallest M wins; of equal ones the one with most clusters. Where that is at an end of the range,
    or no M is as low as −`modularity_threshold`, two tests may overrule it. *All separate*: the closest rows overlap no
    more than by chance. *All one*: the clusters joined last overlap at least as much as by chance. Where several
    pairs are closest, or several branches are joined last, fewer clusters win: *all separate* must hold for every
    closest pair, *all one* for one branch against the rest.

    Parameters
    ----------
    tree : MergeTree
        Of at least two rows.
    rows : ndarray of bool, shape (n_rows, n_columns)
    overlaps : ndarray of int, shape (n_pairs,)
        Columns that each pair of ``tree.closest`` has in common.
    copies : int ≥ 0
        Number of rows left out because they equal one of `rows`. They count where a number of clusters is compared
        with the number of rows; if there are any, the rows can't be all separate.
    modularity_threshold : float, 0…1

    Returns
    -------
    ndarray of int, shape (n_rows,)
        Each row's cluster, named by one of its rows.
    """
    n_units = tree.n_rows + copies
    counts, curve = tree.modularity_curve()
    # M compares 2 … n−1 clusters. Where ties leave no such cut, all rows are separate unless a test overrules it.
    inner = [step for step, count in enumerate(counts) if 2 <= count < n_units]
    chosen = min(inner, key=lambda step: (curve[step], step), default=0)
    decisive = inner and 2 < counts[chosen] < n_units - 1 and curve[chosen] <= -modularity_threshold
    if not decisive:
        separate = None if copies else _all_separate(tree, rows.sum(axis=1), overlaps, n_columns=rows.shape[1])
        one = _all_one(tree, rows)
        if one is not None and (separate is None or one >= separate):
            chosen = tree.n_steps
        elif separate is not None:
            chosen = 0
    return tree.cut(chosen)


def _all_separate(tree: MergeTree, sizes: IntArray, overlaps: IntArray, *, n_columns: int) -> float | None:
    """Return the score of *all separate*, the smallest of the closest pairs; None where one of them fails the test."""
    k_one, k_two = sizes[tree.closest].T
    expected, score = _excess(k_one, k_two, overlaps, n_columns=n_columns)
    separate = (overlaps < 1) | ((overlaps < np.maximum(k_one, k_two)) & (overlaps <= expected))
    return float(-score.max()) if separate.all() else None


def _all_one(tree: MergeTree, rows: BoolArray) -> float | None:
    """Return the score of *all one*, the largest of the branches joined last; None where all fail the test."""
    unions = _unions(rows, tree.cut(tree.n_steps - 1))
    branches_with = unions.sum(axis=0)  # by column
    k_one = unions.sum(axis=1)
    # The union of the other branches has all columns but those that only this branch has.
    only_here = unions @ (branches_with == 1)
    k_two = np.count_nonzero(branches_with) - only_here
    both = k_one - only_here
    expected, score = _excess(k_one, k_two, both, n_columns=rows.shape[1])
    together = (both >= np.maximum(k_one, k_two)) | ((both >= 1) & (both >= expected))
    return float(score[together].max()) if together.any() else None


def _unions(rows: BoolArray, branch: IntArray) -> IntArray:
    """Return 1 where any row of a branch has a column, else 0; shape (n_branches, n_columns)."""
    order = branch.argsort(kind="stable")
    _, first = np.unique(branch[order], return_index=True)
    return np.logical_or.reduceat(rows[order], first).astype(np.int64)


def _excess(k_one: IntArray, k_two: IntArray, both: IntArray, *, n_columns: int) -> tuple[FloatArray, FloatArray]:
    """Return the overlaps expected by chance, and by how many standard deviations `both` exceeds them."""
    expected = k_one * k_two / n_columns
    chance = k_one * k_two / n_columns**2
    deviation = np.sqrt(n_columns * chance * (1 - chance))
    return expected, (both - expected) / np.where(deviation == 0, 1.0, deviation)
