"""Compiled loops of `modgraph.cluster.sparse`. Importing this room loads numba, which takes half a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import FloatArray, IntArray
from modgraph.compiled import njit

Bits = NDArray[np.uint64]


@njit(cache=True, nogil=True)
def packed_step(pointers: IntArray, targets: IntArray, before: Bits) -> Bits:  # pragma: no cover (compiled)
    """Return what each unit reaches within h + 1 hops, given what it reaches within h.

    Parameters
    ----------
    pointers, targets : ndarray of int
        The edges of each unit.
    before : ndarray of uint64, shape (n_units, n_words)
        A bit for each unit, 64 to the word.

    Returns
    -------
    ndarray of uint64, of the same shape
    """
    after = np.zeros_like(before)
    for unit in range(len(before)):
        for target in targets[pointers[unit] : pointers[unit + 1]]:
            for word in range(before.shape[1]):
                after[unit, word] |= before[target, word]
            after[unit, target >> 6] |= np.uint64(1) << np.uint64(target & 63)
    return after


@njit(cache=True, nogil=True)
def packed_overlaps(rows: Bits) -> IntArray:  # pragma: no cover (compiled)
    """Count the bits that each pair of rows has in common; shape (n_rows, n_rows)."""
    n = len(rows)
    overlap = np.empty((n, n), np.int64)
    for a in range(n):
        for b in range(a + 1):
            total = np.uint64(0)
            for word in range(rows.shape[1]):
                bits = rows[a, word] & rows[b, word]
                bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
                bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
                bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                total += (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)
            overlap[a, b] = overlap[b, a] = total
    return overlap


@njit(cache=True, nogil=True)
def equal_rows(pointers: IntArray, columns: IntArray, order: IntArray, sums: Bits) -> IntArray:  # pragma: no cover
    """Find for each row of a sparse matrix the first row in `order` that equals it.

    Parameters
    ----------
    pointers, columns : ndarray of int
        Rows of sorted columns.
    order : ndarray of int, shape (n_rows,)
        The rows sorted by `sums`.
    sums : ndarray of uint64, shape (n_rows,)
        Equal rows have equal sums; different rows may.

    Returns
    -------
    ndarray of int, shape (n_rows,)
    """
    n = len(order)
    same = np.empty(n, np.int64)
    group = 0
    for position in range(n):
        row = order[position]
        if sums[order[group]] != sums[row]:
            group = position
        same[row] = row
        length = pointers[row + 1] - pointers[row]
        for earlier in order[group:position]:
            if same[earlier] != earlier or pointers[earlier + 1] - pointers[earlier] != length:
                continue
            equal = True
            for place in range(length):
                if columns[pointers[earlier] + place] != columns[pointers[row] + place]:
                    equal = False
                    break
            if equal:
                same[row] = earlier
                break
    return same


@njit(cache=True, nogil=True)
def count_similar(
    pointers: IntArray, columns: IntArray, column_pointers: IntArray, column_rows: IntArray, limit: int
) -> IntArray:  # pragma: no cover (compiled)
    """Count the other rows that each row has a column in common with; stop above `limit` in all.

    Returns
    -------
    ndarray of int, shape (n_rows + 1,)
        Where each row's pairs begin; shape (0,) where there are more than `limit` pairs.
    """
    n = len(pointers) - 1
    last = np.full(n, -1, np.int64)
    starts = np.zeros(n + 1, np.int64)
    for a in range(n):
        total = starts[a]
        last[a] = a
        for column in columns[pointers[a] : pointers[a + 1]]:
            for b in column_rows[column_pointers[column] : column_pointers[column + 1]]:
                if last[b] != a:
                    last[b] = a
                    total += 1
        if total > limit:
            return np.empty(0, np.int64)
        starts[a + 1] = total
    return starts


@njit(cache=True, nogil=True)
def similar_rows(
    pointers: IntArray,
    columns: IntArray,
    column_pointers: IntArray,
    column_rows: IntArray,
    copies: IntArray,
    starts: IntArray,
    one: int,
) -> tuple[NDArray[np.int32], IntArray]:  # pragma: no cover (compiled)
    """Find the similarity of each row to the other rows that it has a column in common with.

    Parameters
    ----------
    pointers, columns, column_pointers, column_rows : ndarray of int
        The matrix by rows and by columns.
    copies : ndarray of int, shape (n_rows,)
        How often each row occurs.
    starts : ndarray of int, shape (n_rows + 1,)
        From `count_similar`.
    one : int
        The integer that stands for a cosine of 1.

    Returns
    -------
    others : ndarray of int32, shape (n_pairs,)
    similarity : ndarray of int, shape (n_pairs,)
        Sum over all copies.
    """
    n = len(pointers) - 1
    overlap = np.zeros(n, np.int64)
    others = np.empty(starts[n], np.int32)
    similarity = np.empty(starts[n], np.int64)
    for a in range(n):
        at = starts[a]
        for column in columns[pointers[a] : pointers[a + 1]]:
            for b in column_rows[column_pointers[column] : column_pointers[column + 1]]:
                if overlap[b] == 0 and b != a:
                    others[at] = b
                    at += 1
                overlap[b] += 1
        size = pointers[a + 1] - pointers[a]
        overlap[a] = 0
        for position in range(starts[a], at):
            b = others[position]
            square = overlap[b] * overlap[b] / (size * (pointers[b + 1] - pointers[b]))
            similarity[position] = np.int64(np.rint(np.sqrt(square) * one)) * copies[a] * copies[b]
            overlap[b] = 0
    return others, similarity


@njit(cache=True, nogil=True)
def _root(parent: IntArray, element: int) -> int:  # pragma: no cover (compiled)
    while parent[element] != element:
        parent[element] = parent[parent[element]]
        element = parent[element]
    return element


@njit(cache=True, nogil=True)
def _scan(
    cluster: int,
    parent: IntArray,
    size: IntArray,
    starts: IntArray,
    length: IntArray,
    following: IntArray,
    tail: IntArray,
    others: NDArray[np.int32],
    similarity: IntArray,
    total: IntArray,
    adjacent: IntArray,
) -> tuple[int, float]:  # pragma: no cover (compiled)
    """Update a cluster's list of neighbours.

    The list takes the places of its rows' own lists, one after the other. Neighbours that were joined become one entry.

    Returns
    -------
    n_adjacent : int
        Neighbours, which are in `adjacent`, their summed similarities in `total` (the caller sets those to 0 again).
    best : float
        The largest average similarity.
    """
    n_adjacent = 0
    row = cluster
    while row >= 0:
        for position in range(starts[row], starts[row] + length[row]):
            other = _root(parent, others[position])
            if other != cluster:
                if total[other] == 0:
                    adjacent[n_adjacent] = other
                    n_adjacent += 1
                total[other] += similarity[position]
        row = following[row]
    best = 0.0
    row, written = cluster, 0
    capacity = starts[row + 1] - starts[row]
    length[row] = 0
    for other in adjacent[:n_adjacent]:
        best = max(best, total[other] / (size[cluster] * size[other]))
        while written == capacity:
            length[row] = written
            row, written = following[row], 0
            capacity = starts[row + 1] - starts[row]
        others[starts[row] + written] = other
        similarity[starts[row] + written] = total[other]
        written += 1
    length[row] = written
    following[row] = -1
    tail[cluster] = row
    return n_adjacent, best


@njit(cache=True, nogil=True)
def reciprocal_merges(
    starts: IntArray, others: NDArray[np.int32], similarity: IntArray, copies: IntArray, one: int
) -> tuple[IntArray, FloatArray, IntArray]:  # pragma: no cover (compiled)
    """Join clusters that are each other's nearest, all equally near ones at once, until none is like another.

    Average similarities never grow when clusters are joined. So two clusters that are each other's nearest stay so
    while nearer clusters are joined, and merges may happen in any order. A set of clusters is *ready* if pairs at
    the largest similarity of both clusters link them, and that similarity is the same for all.

    Parameters
    ----------
    starts, others, similarity, copies, one
        As for `similar_rows`; `others` and `similarity` are overwritten.

    Returns
    -------
    pairs : ndarray of int, shape (n_rows − 1, 2)
    average : ndarray of float, shape (n_rows − 1,)
        Average similarity at which each merge happens; 0 for the last merges, of clusters without similar ones.
    between : ndarray of int, shape (n_rows − 1,)
        Sum of the distances between the clusters of each merge.
    """
    n = len(copies)
    pairs = np.empty((n - 1, 2), np.int64)
    average = np.zeros(n - 1)
    between = np.empty(n - 1, np.int64)
    parent = np.arange(n)
    size = copies.copy()
    length = starts[1:] - starts[:-1]
    following = np.full(n, -1, np.int64)
    tail = np.arange(n)
    total = np.zeros(n, np.int64)
    adjacent = np.empty(n, np.int64)
    largest = np.full(n, -1.0)  # largest average similarity of each cluster, when last computed
    queue = np.arange(n)
    queued = np.ones(n, np.bool_)
    skipped = np.zeros(n, np.bool_)
    linked = np.zeros(n, np.bool_)
    members = np.empty(n, np.int64)
    queue_start, n_queued, n_merged = 0, n, 0
    while n_queued:
        start = queue[queue_start]
        queue_start = (queue_start + 1) % n
        n_queued -= 1
        queued[start] = False
        if parent[start] != start or skipped[start]:
            continue
        # Collect the clusters linked to `start` at its largest similarity.
        members[0] = start
        linked[start] = True
        n_found, n_visited, height, ready = 1, 0, -1.0, True
        while n_visited < n_found and ready:
            cluster = members[n_visited]
            n_visited += 1
            n_adjacent, best = _scan(
                cluster, parent, size, starts, length, following, tail, others, similarity, total, adjacent
            )
            largest[cluster] = best
            if n_visited == 1:
                height = best
            ready = best == height and best > 0
            for other in adjacent[:n_adjacent]:
                if ready and not linked[other] and total[other] / (size[cluster] * size[other]) == height:
                    linked[other] = True
                    members[n_found] = other
                    n_found += 1
                total[other] = 0
        if not ready:
            for cluster in members[:n_found]:
                linked[cluster] = False
            # Skip clusters whose nearest chain ends at an unready cluster until that cluster is merged or becomes
            # ready.
            for cluster in members[: n_visited - 1]:
                skipped[cluster] = True
            continue
        # Look again at the clusters whose nearest is one of these, and at the new cluster.
        head = members[0]
        for cluster in members[:n_found]:
            row = cluster
            while row >= 0:
                for position in range(starts[row], starts[row] + length[row]):
                    other = _root(parent, others[position])
                    shared = similarity[position] / (size[cluster] * size[other])
                    if not linked[other] and shared == largest[other]:
                        skipped[other] = False
                        if not queued[other]:
                            queued[other] = True
                            queue[(queue_start + n_queued) % n] = other
                            n_queued += 1
                row = following[row]
            if size[cluster] > size[head]:
                head = cluster
        for cluster in members[:n_found]:
            linked[cluster] = False
            if cluster == head:
                continue
            shared = 0
            row = cluster
            while row >= 0:
                for position in range(starts[row], starts[row] + length[row]):
                    if _root(parent, others[position]) == head:
                        shared += similarity[position]
                row = following[row]
            pairs[n_merged] = head, cluster
            average[n_merged] = height
            between[n_merged] = one * size[head] * size[cluster] - shared
            n_merged += 1
            parent[cluster] = head
            size[head] += size[cluster]
            following[tail[head]] = cluster
            tail[head] = tail[cluster]
        skipped[head] = False
        if not queued[head]:
            queued[head] = True
            queue[(queue_start + n_queued) % n] = head
            n_queued += 1
    head = -1
    for cluster in range(n):
        if parent[cluster] == cluster:
            if head < 0:
                head = cluster
            else:
                pairs[n_merged] = head, cluster
                between[n_merged] = one * size[head] * size[cluster]
                size[head] += size[cluster]
                n_merged += 1
    return pairs, average, between
