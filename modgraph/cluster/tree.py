"""Trees of average linkage, and the two ways to grow them.

A tree says which clusters were joined, in which step, and how far apart they were. `published_tree` joins one pair a
step and breaks ties by the order of the units, as the paper's code does. `tied_tree` joins all pairs at the smallest
distance at once, so that the order of the units never matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from modgraph.arrays import IntArray
from modgraph.cluster.tree_kernels import tied_merges
from modgraph.compiled import plain
from modgraph.labels import roots


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MergeTree:
    """Rows joined into ever larger clusters, until one is left.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_rows − 1, 2)
        One row of each of the two joined clusters. Later merges name the joined cluster by the first of them.
    steps : ndarray of int, shape (n_rows − 1,)
        The step in which each merge happens, 1 … n_steps, never decreasing. Merges of one step happen together.
    between : list of int or float, length n_rows − 1
        For each merge the sum of the distances between the rows of one cluster and those of the other.
    distance_sums : list of int or float, length n_rows
        Each row's sum of distances to all others.
    closest : ndarray of int, shape (n_pairs, 2)
        The pairs of rows at the smallest distance.
    """

    pairs: IntArray
    steps: IntArray
    between: list[int] | list[float]
    distance_sums: list[int] | list[float]
    closest: IntArray

    @property
    def n_rows(self) -> int:
        """Number of rows that were clustered."""
        return len(self.distance_sums)

    @property
    def n_steps(self) -> int:
        """Number of steps until one cluster is left."""
        return int(self.steps[-1])

    def cut(self, step: int) -> IntArray:
        """Label the clusters that exist after `step` steps (0: every row alone).

        Returns
        -------
        ndarray of int, shape (n_rows,)
            Each row's cluster, named by one of its rows.
        """
        parent = np.arange(self.n_rows)
        done = self.pairs[: np.searchsorted(self.steps, step, side="right")]
        parent[done[:, 1]] = done[:, 0]
        return roots(parent)

    def modularity_curve(self) -> tuple[list[int], list[float]]:
        """Compute the published M(k) along the merges.

        With the distances D scaled to sum 1, M = Σ_c [W_c − r_c²], where W_c is the sum of D inside cluster c and
        r_c the sum of its rows. Joining c and d adds 2 D_cd − 2 r_c r_d, where D_cd is the sum of D between them:
        O(1) a merge. With integer distances the curve is exact before it is rounded.

        Returns
        -------
        counts : list of int, length n_steps + 1
            Number of clusters after 0, 1, … steps.
        curve : list of float, length n_steps + 1
            M at those cuts, rounded to 8 decimals as published; 0 where all distances are 0.
        """
        total = sum(self.distance_sums)
        scale = total * total or 1
        value = -sum(r * r for r in self.distance_sums)
        sums = list(self.distance_sums)
        counts, curve = [self.n_rows], [round(value / scale, 8)]
        pairs, steps = self.pairs.tolist(), self.steps.tolist()
        for number, ((one, two), between) in enumerate(zip(pairs, self.between, strict=True), start=1):
            value += 2 * (between * total - sums[one] * sums[two])
            sums[one] += sums[two]
            if number == len(pairs) or steps[number] > steps[number - 1]:
                counts.append(self.n_rows - number)
                curve.append(round(value / scale, 8))
        return counts, curve


def published_tree(overlap: IntArray) -> MergeTree:
    """Grow the tree as the paper does: floating-point cosine distances, ties broken by the order of the rows.

    Parameters
    ----------
    overlap : ndarray of int, shape (n_rows, n_rows)
        Columns that each pair of rows has in common; n_rows ≥ 2, no row without a column.

    Returns
    -------
    MergeTree
    """
    n_rows = len(overlap)
    norms = np.sqrt(np.diag(overlap))
    distance = np.clip(1.0 - overlap / np.outer(norms, norms), 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    merges = scipy.cluster.hierarchy.linkage(
        scipy.spatial.distance.squareform(distance, checks=False), method="average"
    )
    children = merges[:, :2].astype(np.int64)
    size = np.concatenate([np.ones(n_rows), merges[:, 3]])
    first_row = list(range(n_rows))
    for child in children[:, 0].tolist():
        first_row.append(first_row[child])
    pairs = np.array(first_row)[children]
    return MergeTree(
        pairs=pairs,
        steps=np.arange(1, n_rows),
        between=(merges[:, 2] * size[children].prod(axis=1)).tolist(),
        distance_sums=distance.sum(axis=1).tolist(),
        closest=pairs[:1],
    )


def tied_tree(overlap: IntArray, copies: IntArray) -> MergeTree:
    """Grow the tree so that the order of the rows doesn't matter: join all pairs at the smallest distance at once.

    Distances are cosine distances in integers, so that their sums are exact and equal averages compare equal. Joining
    ties together follows Fernández and Gómez (Journal of Classification 25, 2008, "multidendrograms").

    Parameters
    ----------
    overlap : ndarray of int, shape (n_rows, n_rows)
        Columns that each pair of rows has in common; n_rows ≥ 2, no row without a column, no two rows equal.
    copies : ndarray of int ≥ 1, shape (n_rows,)
        How often each row occurs. Above distance 0 the tree is that of the repeated rows.

    Returns
    -------
    MergeTree
    """
    with plain(largest=len(copies)):
        pairs, steps, between, distance_sums, closest = tied_merges(overlap, copies)
    return MergeTree(
        pairs=pairs, steps=steps, between=between.tolist(), distance_sums=distance_sums.tolist(), closest=closest
    )
