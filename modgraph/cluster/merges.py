"""The inner loop of `tied_tree`, compiled (imported on first use: numba takes half a second to load)."""

from __future__ import annotations

import numpy as np
from numba import njit

from modgraph.dag import IntArray


@njit(cache=True)
def tied_merges(apart: IntArray, size: IntArray) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover
    """Join all clusters at the smallest average distance, again and again until one is left.

    Each cluster remembers its nearest other cluster. Averages only ever grow, so that memory is stale only where the
    nearest one was itself joined: O(n) a step, O(n²) in all unless most clusters share a nearest neighbour.

    Parameters
    ----------
    apart : ndarray of int64, shape (n, n)
        Sums of distances between clusters; overwritten.
    size : ndarray of int64, shape (n,)
        Units in each cluster; overwritten.

    Returns
    -------
    pairs : ndarray of int64, shape (n − 1, 2)
    steps : ndarray of int64, shape (n − 1,)
    between : ndarray of int64, shape (n − 1,)
        As in `modgraph.cluster.tree.MergeTree`.
    """
    n = len(size)
    pairs = np.empty((n - 1, 2), np.int64)
    steps = np.empty(n - 1, np.int64)
    between = np.empty(n - 1, np.int64)
    active = np.ones(n, np.bool_)
    stale = np.ones(n, np.bool_)
    touched = np.zeros(n, np.bool_)
    nearest = np.full(n, -1)
    distance = np.full(n, np.inf)
    stack = np.empty(n, np.int64)
    merged = step = 0
    while merged < n - 1:
        for a in range(n):
            if active[a] and stale[a]:
                distance[a] = np.inf
                for b in range(n):
                    if active[b] and b != a:
                        average = apart[a, b] / (size[a] * size[b])
                        if average < distance[a]:
                            distance[a] = average
                            nearest[a] = b
        height = np.inf
        for a in range(n):
            if active[a]:
                stale[a] = touched[a] = False
                height = min(height, distance[a])
        step += 1
        for head in range(n):
            if not active[head] or touched[head] or distance[head] != height:
                continue
            # Walk the component of `head` under "at the smallest distance", then join it.
            stack[0] = head
            touched[head] = True
            found, walked = 1, 0
            while walked < found:
                a = stack[walked]
                walked += 1
                for b in range(n):
                    candidate = active[b] and not touched[b] and distance[b] == height
                    if candidate and apart[a, b] / (size[a] * size[b]) == height:
                        touched[b] = True
                        stack[found] = b
                        found += 1
            for other in stack[1:found]:
                pairs[merged] = head, other
                steps[merged] = step
                between[merged] = apart[head, other]
                merged += 1
                active[other] = False
                size[head] += size[other]
                for b in range(n):
                    apart[head, b] += apart[other, b]
                    apart[b, head] = apart[head, b]
        for a in range(n):
            stale[a] = touched[a] or touched[nearest[a]]
    return pairs, steps, between
