"""How many clusters a layer has: the published modularity curve and its two tests of separability."""

from __future__ import annotations

import itertools
import math

import numpy as np

from modgraph.arrays import BoolArray, IntArray
from modgraph.cluster.tree import MergeTree


def choose_clusters(
    tree: MergeTree, rows: BoolArray, *, overlap: IntArray, copies: int = 0, modularity_threshold: float
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
    overlap : ndarray of int, shape (n_rows, n_rows)
        Columns that each pair of rows has in common.
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
        separate = None if copies else _all_separate(tree, overlap, rows.shape[1])
        one = _all_one(tree, rows)
        if one is not None and (separate is None or one >= separate):
            chosen = tree.n_steps
        elif separate is not None:
            chosen = 0
    return tree.cut(chosen)


def _all_separate(tree: MergeTree, overlap: IntArray, n_columns: int) -> float | None:
    """Return the score of *all separate*, the smallest of the closest pairs; None where one of them fails the test."""
    scores = []
    for one, two in tree.closest.tolist():
        k_one, k_two, both = int(overlap[one, one]), int(overlap[two, two]), int(overlap[one, two])
        expected, score = _excess(k_one, k_two, both, n_columns)
        if not (both < 1 or (both < max(k_one, k_two) and both <= expected)):
            return None
        scores.append(-score)
    return min(scores)


def _all_one(tree: MergeTree, rows: BoolArray) -> float | None:
    """Return the score of *all one*, the largest of the branches joined last; None where all fail the test."""
    branch = tree.cut(tree.n_steps - 1)
    order = branch.argsort(kind="stable")
    first = [at for at, (one, two) in enumerate(itertools.pairwise([-1, *branch[order].tolist()])) if one != two]
    unions = np.logical_or.reduceat(rows[order], first)
    # The union of the other branches has a column if more branches have it than this one.
    others = unions.sum(axis=0) > unions
    counts = zip(
        unions.sum(axis=1).tolist(), others.sum(axis=1).tolist(), (unions & others).sum(axis=1).tolist(), strict=True
    )
    scores = []
    for k_one, k_two, both in counts:
        expected, score = _excess(k_one, k_two, both, rows.shape[1])
        if both >= max(k_one, k_two) or (both >= 1 and both >= expected):
            scores.append(score)
    return max(scores, default=None)


def _excess(k_one: int, k_two: int, both: int, n_columns: int) -> tuple[float, float]:
    """Return the overlap expected by chance, and by how many standard deviations `both` exceeds it."""
    expected = k_one * k_two / n_columns
    chance = k_one * k_two / n_columns**2
    deviation = math.sqrt(n_columns * chance * (1 - chance))
    return expected, (both - expected) / (deviation or 1.0)
