"""The inner loop of `tied_tree`, compiled (imported on first use: numba takes half a second to load)."""

from __future__ import annotations

import numpy as np
from numba import njit

from modgraph.arrays import IntArray

# A similarity of 1 is 2 to this, in the integers that distances are counted in: fine enough to tell cosines apart. Sums
# over all pairs of rows have to stay inside 64 bits: from 2¹⁶ rows on it is less.
FINEST = 30


@njit(cache=True)
def tied_merges(
    overlap: IntArray, copies: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Join all clusters at the smallest average distance, again and again until one is left.

    Each cluster remembers its nearest other cluster. Averages only ever grow, so that memory is stale only where the
    nearest one was itself joined: O(n) a step, O(n²) in all unless most clusters share a nearest neighbour.

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
    unit = np.int64(1) << min(FINEST, 62 - 2 * bits)
    apart = np.empty((n, n), np.int64)  # between clusters: the sum of the distances of all their pairs
    closest = [(0, 0)][:0]
    smallest = unit
    for a in range(n):
        for b in range(n):
            # The square of a cosine is rational: rounded once, equal ones stay equal.
            square = overlap[a, b] * overlap[a, b] / (overlap[a, a] * overlap[b, b])
            distance = unit - np.int64(np.rint(np.sqrt(square) * unit))
            if a < b and distance <= smallest:
                if distance < smallest:
                    smallest = distance
                    closest.clear()
                closest.append((a, b))
            apart[a, b] = distance * copies[a] * copies[b]
    distance_sums = apart.sum(axis=1)
    size = copies.copy()
    pairs = np.empty((n - 1, 2), np.int64)
    steps = np.empty(n - 1, np.int64)
    between = np.empty(n - 1, np.int64)
    active = np.ones(n, np.bool_)
    stale = np.ones(n, np.bool_)
    touched = np.zeros(n, np.bool_)
    nearest = np.full(n, -1)
    height_of = np.full(n, np.inf)
    stack = np.empty(n, np.int64)
    merged = step = 0
    while merged < n - 1:
        for a in range(n):
            if active[a] and stale[a]:
                height_of[a] = np.inf
                for b in range(n):
                    if active[b] and b != a:
                        average = apart[a, b] / (size[a] * size[b])
                        if average < height_of[a]:
                            height_of[a] = average
                            nearest[a] = b
        height = np.inf
        for a in range(n):
            if active[a]:
                stale[a] = touched[a] = False
                height = min(height, height_of[a])
        step += 1
        for head in range(n):
            if not active[head] or touched[head] or height_of[head] != height:
                continue
            # Walk the component of `head` under "at the smallest distance", then join it.
            stack[0] = head
            touched[head] = True
            found, walked = 1, 0
            while walked < found:
                a = stack[walked]
                walked += 1
                for b in range(n):
                    candidate = active[b] and not touched[b] and height_of[b] == height
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
    return pairs, steps, between, distance_sums, np.array(closest)
