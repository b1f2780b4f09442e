"""Renumbering of labels: clusters and modules are numbered 0, 1, … in the order of their first units."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import FloatArray, IntArray


def by_first_unit(labels: NDArray[Any]) -> IntArray:
    """Renumber labels, shape (n,), 0, 1, … in the order in which they first appear.

    Examples
    --------
    >>> by_first_unit(np.array(["b", "a", "b", "c"])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def joined(one: IntArray, two: IntArray, *, n: int) -> IntArray:
    """Label n elements so that those which pairs join, directly or through others, share a label.

    Examples
    --------
    >>> joined(np.array([1, 3]), np.array([3, 4]), n=5).tolist()
    [0, 1, 2, 1, 1]
    """
    label = np.arange(n)
    while (label[one] != label[two]).any():
        lowest = np.minimum(label[one], label[two])
        for ends in (label[one], label[two]):
            np.minimum.at(label, ends, lowest)
        label = roots(label)
    return label


def roots(parent: IntArray) -> IntArray:
    """Replace every element's parent by the root of its tree (pointer doubling); a root is its own parent.

    Examples
    --------
    >>> roots(np.array([0, 0, 1, 3])).tolist()
    [0, 0, 0, 3]
    """
    while True:
        grandparent = parent[parent]
        if (grandparent == parent).all():
            return parent
        parent = grandparent


def refined(
    facts: Sequence[Hashable], *links: tuple[IntArray, IntArray], weights: FloatArray | IntArray | None = None
) -> IntArray:
    """Rank elements by all that tells them apart: their own facts and, round by round, their neighbours.

    Colour refinement (Weisfeiler and Leman 1968). Each of `links` holds an element and its neighbour for every edge;
    an edge has the same weight in all of them. Elements that no chain of facts tells apart share a rank; ranks, shape
    (n,), don't depend on the order of the elements.

    Examples
    --------
    >>> refined(["end", "middle", "middle", "end"], (np.array([0, 1, 2]), np.array([1, 2, 3]))).tolist()
    [1, 3, 2, 0]
    """
    label = (
        np.zeros(len(links[0][0]), dtype=np.int64) if weights is None else np.unique(weights, return_inverse=True)[1]
    )
    keys: Sequence[Any] = facts
    n_ranks = 0
    while True:
        rank_of = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        ranks = np.array([rank_of[key] for key in keys], dtype=np.int64)
        if len(rank_of) == n_ranks:
            return ranks
        n_ranks = len(rank_of)
        seen = []
        for elements, neighbours in links:
            code = label * n_ranks + ranks[neighbours]
            code = code[np.lexsort((code, elements))].tolist()
            stops = np.bincount(elements, minlength=len(keys)).cumsum().tolist()
            seen.append([tuple(code[start:stop]) for start, stop in zip([0, *stops], stops, strict=False)])
        keys = [*zip(ranks.tolist(), *seen, strict=True)]
