"""Compiled loop of `modgraph.cluster.tree.tied_tree`. Importing this room loads numba, which takes half a second."""

from __future__ import annotations

import numpy as np

from modgraph.arrays import IntArray
from modgraph.compiled import njit

# Distances are integers; the distance 1 is 2 to this power, which is fine enough to tell different cosines apart. From
# 2¹⁶ rows on the power is smaller, so that sums over all pairs of rows stay inside 64 bits.
DISTANCE_BITS = 30


@njit(cache=True, nogil=True)
def tied_merges(
    overlap: IntArray, copies: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Join all clusters at the smallest average distance, again and again until one is left.

    The nearest other cluster of each cluster is stored. Average distances never shrink when clusters are joined, so
    an entry is stale only where the nearest cluster was itself joined: O(n) a step, O(n²) in all unless most clusters
    share a nearest neighbour.

    Parameters
    ----------
    overlap : ndarray of int64, shape (n, n)
        Columns that each pair of rows has in common; no two rows are equal.
    copies : ndarray of int64, shape (n,)
        How often each row occurs.

    Returns
    -------
    pairs, steps, between, distance_sums, closest : ndarray of int64
        As in `modgraph.cluster.tree.MergeTree`.
    """
    n = len(copies)
    bits = int(np.ceil(np.log2(copies.sum() + 1)))
    one = np.int64(1) << min(DISTANCE_BITS, 62 - 2 * bits)
    distance_sum = np.empty((n, n), np.int64)  # between clusters: the sum of the distances of all their pairs
    closest = [(0, 0)][:0]
    smallest = one
    for a in range(n):
        for b in range(n):
            # The square of a cosine is rational: rounded once, equal ones stay equal.
            square = overlap[a, b] * overlap[a, b] / (overlap[a, a] * overlap[b, b])
            distance = one - np.int64(np.rint(np.sqrt(square) * one))
            if a < b and distance <= smallest:
                if distance < smallest:
                    smallest = distance
                    closest.clear()
                closest.append((a, b))
            distance_sum[a, b] = distance * copies[a] * copies[b]
    distance_sums = distance_sum.sum(axis=1)
    size = copies.copy()
    pairs = np.empty((n - 1, 2), np.int64)
    steps = np.empty(n - 1, np.int64)
    between = np.empty(n - 1, np.int64)
    is_active = np.ones(n, np.bool_)
    is_stale = np.ones(n, np.bool_)
    is_joined = np.zeros(n, np.bool_)
    nearest = np.full(n, -1)
    nearest_height = np.full(n, np.inf)
    members = np.empty(n, np.int64)
    n_merged = step = 0
    while n_merged < n - 1:
        for a in range(n):
            if is_active[a] and is_stale[a]:
                nearest_height[a] = np.inf
                for b in range(n):
                    if is_active[b] and b != a:
                        average = distance_sum[a, b] / (size[a] * size[b])
                        if average < nearest_height[a]:
                            nearest_height[a] = average
                            nearest[a] = b
        height = np.inf
        for a in range(n):
            if is_active[a]:
                is_stale[a] = is_joined[a] = False
                height = min(height, nearest_height[a])
        step += 1
        for head in range(n):
            if not is_active[head] or is_joined[head] or nearest_height[head] != height:
                continue
            # Collect the clusters that pairs at the smallest distance link to `head`, then join them.
            members[0] = head
            is_joined[head] = True
            n_found, n_visited = 1, 0
            while n_visited < n_found:
                a = members[n_visited]
                n_visited += 1
                for b in range(n):
                    candidate = is_active[b] and not is_joined[b] and nearest_height[b] == height
                    if candidate and distance_sum[a, b] / (size[a] * size[b]) == height:
                        is_joined[b] = True
                        members[n_found] = b
                        n_found += 1
            for other in members[1:n_found]:
                pairs[n_merged] = head, other
                steps[n_merged] = step
                between[n_merged] = distance_sum[head, other]
                n_merged += 1
                is_active[other] = False
                size[head] += size[other]
                for b in range(n):
                    distance_sum[head, b] += distance_sum[other, b]
                    distance_sum[b, head] = distance_sum[head, b]
        for a in range(n):
            is_stale[a] = is_joined[a] or is_joined[nearest[a]]
    return pairs, steps, between, distance_sums, np.array(closest)
