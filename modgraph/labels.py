"""Renumbering of labels: clusters and modules are numbered 0, 1, … in the order of their first units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import IntArray


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
