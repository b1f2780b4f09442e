"""The inner loops of `modgraph.cluster.description`, compiled (imported on first use: numba takes half a second).

Code lengths are counted in whole numbers of 2⁻²⁰ nat. Sums of them are exact in any order, so equal lengths compare
equal whatever the order of the units.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from modgraph.arrays import FloatArray, IntArray

NAT = 1 << 20
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
# What Stirling's formula lacks of log x!, for small x (index 0 is not used).
_LACK = np.array(
    [0.0] + [math.lgamma(x + 1) - (x * math.log(x) - x + 0.5 * math.log(x) + _HALF_LOG_TAU) for x in range(1, 16)]
)


@njit(cache=True, inline="always")
def _lack(x: int) -> float:  # pragma: no cover
    if x < 16:
        return float(_LACK[x])
    return 1 / (12 * x) - 1 / (360.0 * x * x * x)


@njit(cache=True)
def log_choose(n: int, k: int) -> int:  # pragma: no cover
    """Return log C(n, k), in 2⁻²⁰ nat; accurate for n up to 10¹⁵, where log n! itself has lost those digits."""
    if k <= 0 or k >= n:
        return 0
    if k > n - k:
        k = n - k
    if k == 1:
        return round(math.log(n) * NAT)
    rest = n - k
    value = k * math.log(n / k) - rest * math.log1p(-k / n) + 0.5 * math.log(n / (k * 1.0 * rest)) - _HALF_LOG_TAU
    return round((value + _lack(n) - _lack(k) - _lack(rest)) * NAT)


@njit(cache=True)
def log_number(n: int) -> int:  # pragma: no cover
    """Return log n, in 2⁻²⁰ nat."""
    return round(math.log(n) * NAT)


@njit(cache=True)
def log_factorials(sizes: IntArray) -> int:  # pragma: no cover
    """Return Σ log n!, in 2⁻²⁰ nat, over `sizes`."""
    total = 0
    for n in sizes:
        if n > 1:
            total += round((n * math.log(n) - n + 0.5 * math.log(n) + _HALF_LOG_TAU + _lack(n)) * NAT)
    return total


@njit(cache=True)
def block_edges(
    order: IntArray, bounds: IntArray, pointers: IntArray, neighbours: IntArray, labels: IntArray, n_labels: int
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Count the edges of some blocks with all others.

    Parameters
    ----------
    order : ndarray of int
        Units, block by block.
    bounds : ndarray of int, shape (n_blocks + 1,)
        Where each block begins in `order`.
    pointers, neighbours : ndarray of int
        The neighbours of each unit, of either direction.
    labels : ndarray of int, shape (n_units,)
        The block of each unit, below `n_labels`.

    Returns
    -------
    starts : ndarray of int, shape (n_blocks + 1,)
    others, counts : ndarray of int
        From ``starts[r]`` on: the blocks that block r has edges with, and how many.
    """
    count = np.zeros(n_labels, np.int64)
    starts = np.zeros(len(bounds), np.int64)
    size = 0
    for unit in order:
        size += pointers[unit + 1] - pointers[unit]
    others = np.empty(size, np.int64)
    counts = np.empty(size, np.int64)
    at = 0
    for block in range(len(bounds) - 1):
        for unit in order[bounds[block] : bounds[block + 1]]:
            for other in neighbours[pointers[unit] : pointers[unit + 1]]:
                t = labels[other]
                if count[t] == 0:
                    others[at] = t
                    at += 1
                count[t] += 1
        starts[block + 1] = at
        for position in range(starts[block], at):
            counts[position] = count[others[position]]
            count[others[position]] = 0
    return starts, others[:at].copy(), counts[:at].copy()


@njit(cache=True, inline="always")
def _linked(places: int, edges: int, law: FloatArray) -> int:  # pragma: no cover (compiled)
    """Return the code length of a linked pair of blocks, relative to its places being background."""
    toll: int = round((law[2] - law[0] * places) * NAT)
    length: int = log_choose(places, edges) + log_number(min(places, int(law[3]))) + toll
    return length


@njit(cache=True, inline="always")
def _cost(places: int, edges: int, law: FloatArray) -> int:  # pragma: no cover (compiled)
    """Return the code length of the edges of a pair of blocks, relative to its places being empty background."""
    if edges == 0:
        return 0
    background: int = round(law[1] * edges * NAT)
    return min(background, _linked(places, edges, law))


@njit(cache=True)
def pair_length(
    places: IntArray, edges: IntArray, n_pairs: int, n_places: int, n_edges: int
) -> tuple[int, FloatArray]:  # pragma: no cover (compiled)
    """Return the code length of the edges between two layers, given their blocks.

    Parameters
    ----------
    places, edges : ndarray of int
        For each pair of blocks that has edges: n_r n_s, and how many.
    n_pairs, n_places, n_edges : int
        Pairs of blocks, pairs of units, and edges in all.

    Returns
    -------
    length : int
    law : ndarray of float, shape (4,)
        What changes cost: a place taken out of the background (saved), an edge in the background, a linked pair,
        all in nats; and `n_edges`.
    """
    own = np.empty(len(places), np.int64)
    for i in range(len(places)):
        own[i] = log_choose(places[i], edges[i]) + log_number(min(places[i], n_edges))
    fixed = log_number(1 + min(n_pairs, n_edges))
    m, rest_places, rest_edges = 0, n_places, n_edges
    best = fixed + log_choose(n_places, n_edges)
    law = np.empty(4)
    found = np.empty(4)
    for attempt in range(12):
        law[0] = math.log((rest_places + 1) / (rest_places - rest_edges + 1))
        law[1] = math.log((rest_places - rest_edges + 1) / (rest_edges + 1))
        law[2] = math.log((n_pairs - m + 1) / (m + 1))
        law[3] = n_edges
        if attempt == 0:
            found[:] = law
        before = m, rest_places, rest_edges
        m, rest_places, rest_edges, total = 0, n_places, n_edges, fixed
        for i in range(len(places)):
            toll = round((law[2] - law[0] * places[i]) * NAT)
            if own[i] + toll < round(law[1] * edges[i] * NAT):
                m += 1
                rest_places -= places[i]
                rest_edges -= edges[i]
                total += own[i]
        total += log_choose(n_pairs, m) + log_choose(rest_places, rest_edges)
        if total < best:
            best = total
            found[0] = math.log((rest_places + 1) / (rest_places - rest_edges + 1))
            found[1] = math.log((rest_places - rest_edges + 1) / (rest_edges + 1))
            found[2] = math.log((n_pairs - m + 1) / (m + 1))
            found[3] = n_edges
        if before == (m, rest_places, rest_edges):
            break
    return best, found


@njit(cache=True)
def linked_pairs(
    starts: IntArray, others: IntArray, counts: IntArray, own: IntArray, sizes: IntArray, laws: FloatArray
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Keep the pairs of blocks that are linked, or would be with one unit and one edge more.

    Parameters
    ----------
    starts, others, counts : ndarray of int
        From `block_edges`, for the blocks of one layer.
    own : ndarray of int
        Units in each block of that layer.
    sizes : ndarray of int, shape (n_labels,)
        Units in each of all blocks.
    laws : ndarray of float, shape (n_labels, 4)
        From `pair_length`, by the block at the other end.

    Returns
    -------
    starts, others, counts : ndarray of int
        As given, without the pairs that aren't.
    """
    kept_starts = np.zeros_like(starts)
    kept = np.empty(len(others), np.int64)
    at = 0
    for r in range(len(own)):
        for position in range(starts[r], starts[r + 1]):
            t = others[position]
            edges = counts[position]
            now = _linked(own[r] * sizes[t], edges, laws[t]) < round(laws[t, 1] * edges * NAT)
            if not now:
                more = _linked((own[r] + 1) * sizes[t], edges + 1, laws[t])
                now = more < round(laws[t, 1] * (edges + 1) * NAT)
            if now:
                kept[at] = position
                at += 1
        kept_starts[r + 1] = at
    return kept_starts, others[kept[:at]], counts[kept[:at]]


@njit(cache=True)
def transposed(
    starts: IntArray, others: IntArray, counts: IntArray, n_labels: int
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """List the same pairs by the block at the other end."""
    back = np.zeros(n_labels + 1, np.int64)
    for t in others:
        back[t + 1] += 1
    back = np.cumsum(back)
    at = back.copy()
    blocks = np.empty(len(others), np.int64)
    edges = np.empty(len(others), np.int64)
    for r in range(len(starts) - 1):
        for position in range(starts[r], starts[r + 1]):
            t = others[position]
            blocks[at[t]] = r
            edges[at[t]] = counts[position]
            at[t] += 1
    return back, blocks, edges


@njit(cache=True)
def best_moves(
    first: int,
    own_labels: IntArray,
    pointers: IntArray,
    neighbours: IntArray,
    labels: IntArray,
    own: IntArray,
    sizes: IntArray,
    starts: IntArray,
    others: IntArray,
    counts: IntArray,
    laws: FloatArray,
    fewer: int,
) -> tuple[IntArray, IntArray]:  # pragma: no cover (compiled)
    """Find for each unit of a layer the block of that layer where it shortens the description most.

    Parameters
    ----------
    first : int
        The layer's first unit.
    own_labels : ndarray of int
        The block of each of the layer's units, counted within the layer.
    pointers, neighbours, labels : ndarray of int
        As for `block_edges`.
    own, sizes, starts, others, counts, laws
        As for `linked_pairs`, and what it returns.
    fewer : int
        What one block less in this layer changes.

    Returns
    -------
    target : ndarray of int
        The best block of each unit: its own where no move shortens the description, or two are equally good.
    change : ndarray of int
        By how much that move changes the code length, ≤ 0.
    """
    n_own, n_labels = len(own), len(sizes)
    grow = np.zeros(n_own, np.int64)
    shrink = np.zeros(n_own, np.int64)
    for r in range(n_own):
        for position in range(starts[r], starts[r + 1]):
            t = others[position]
            now = _cost(own[r] * sizes[t], counts[position], laws[t])
            grow[r] += _cost((own[r] + 1) * sizes[t], counts[position], laws[t]) - now
            if counts[position] <= (own[r] - 1) * sizes[t]:
                shrink[r] += _cost((own[r] - 1) * sizes[t], counts[position], laws[t]) - now
    back, blocks, edges_back = transposed(starts, others, counts, n_labels)
    degree = np.zeros(n_labels, np.int64)
    met = np.empty(n_labels, np.int64)
    relative = np.zeros(n_own, np.int64)
    seen = np.zeros(n_own, np.bool_)
    near = np.empty(n_own, np.int64)
    target = own_labels.copy()
    change = np.zeros(len(own_labels), np.int64)
    for index in range(len(own_labels)):
        r = own_labels[index]
        unit = first + index
        n_met = 0
        for other in neighbours[pointers[unit] : pointers[unit + 1]]:
            t = labels[other]
            if degree[t] == 0:
                met[n_met] = t
                n_met += 1
            degree[t] += 1
        leave = shrink[r]
        n_near = 0
        for t in met[:n_met]:
            d = degree[t]
            law = laws[t]
            # A pair of blocks that isn't listed is background before and after.
            loose = round(law[1] * d * NAT)
            listed = False
            for position in range(back[t], back[t + 1]):
                s = blocks[position]
                edges = edges_back[position]
                if s == r:
                    now = _cost(own[s] * sizes[t], edges, law)
                    places = (own[s] - 1) * sizes[t]
                    if edges <= places:
                        leave -= _cost(places, edges, law) - now
                    leave += _cost(places, edges - d, law) - now
                    listed = True
                else:
                    if not seen[s]:
                        seen[s] = True
                        near[n_near] = s
                        n_near += 1
                    places = (own[s] + 1) * sizes[t]
                    relative[s] += _cost(places, edges + d, law) - _cost(places, edges, law) - _cost(places, d, law)
            if not listed:
                leave -= loose
        best, tied = 0, False
        for s in near[:n_near]:
            total = leave + grow[s] + relative[s] + log_number(own[r]) - log_number(own[s] + 1)
            for t in met[:n_met]:
                total += _cost((own[s] + 1) * sizes[t], degree[t], laws[t])
            if own[r] == 1:
                total += fewer
            seen[s] = False
            relative[s] = 0
            if total < best:
                best, tied = total, False
                target[index] = s
            elif total == best and best < 0:
                tied = True
        if tied:
            target[index] = r
        else:
            change[index] = best
        for t in met[:n_met]:
            degree[t] = 0
    return target, change


@njit(cache=True)
def best_merges(
    own: IntArray,
    sizes: IntArray,
    starts: IntArray,
    others: IntArray,
    counts: IntArray,
    laws: FloatArray,
    fewer: int,
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Find for each block of a layer the blocks of that layer with which it is best joined.

    Parameters
    ----------
    own, sizes, starts, others, counts, laws, fewer
        As for `best_moves`.

    Returns
    -------
    one, two : ndarray of int
        Pairs of blocks of which the second is a best partner of the first (several where they are equally good).
    change : ndarray of int
        By how much joining the pair changes the code length, < 0.
    """
    n_own, n_labels = len(own), len(sizes)
    back, blocks, _ = transposed(starts, others, counts, n_labels)
    mine = np.zeros(n_labels, np.int64)
    seen = np.zeros(n_own, np.bool_)
    near = np.empty(n_own, np.int64)
    value = np.empty(n_own, np.int64)
    alone = np.zeros(n_own, np.int64)
    ones, twos, changes = [0][:0], [0][:0], [np.int64(0)][:0]
    for r in range(n_own):
        for position in range(starts[r], starts[r + 1]):
            t = others[position]
            alone[r] += _cost(own[r] * sizes[t], counts[position], laws[t])
    for r in range(n_own):
        n_near = 0
        for position in range(starts[r], starts[r + 1]):
            t = others[position]
            mine[t] = counts[position]
            for s in blocks[back[t] : back[t + 1]]:
                if s != r and not seen[s]:
                    seen[s] = True
                    near[n_near] = s
                    n_near += 1
        best = np.int64(0)
        for i in range(n_near):
            s = near[i]
            seen[s] = False
            size = own[r] + own[s]
            total = fewer - alone[r] - alone[s] - log_choose(size, own[r])
            for position in range(starts[s], starts[s + 1]):
                t = others[position]
                total += _cost(size * sizes[t], mine[t] + counts[position], laws[t])
                if mine[t] > 0:
                    total -= _cost(size * sizes[t], mine[t], laws[t])
            for position in range(starts[r], starts[r + 1]):
                t = others[position]
                total += _cost(size * sizes[t], counts[position], laws[t])
            value[i] = total
            best = min(best, total)
        for i in range(n_near):
            if value[i] == best and best < 0:
                ones.append(r)
                twos.append(near[i])
                changes.append(best)
        for position in range(starts[r], starts[r + 1]):
            mine[others[position]] = 0
    return np.array(ones), np.array(twos), np.array(changes)
