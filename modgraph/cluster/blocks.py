"""The inner loops of `modgraph.cluster.description`, compiled (imported on first use: numba takes half a second).

Code lengths are counted in whole numbers of 2⁻²⁰ nat. Sums of them are exact in any order, so equal lengths compare
equal whatever the order of the units.
"""

# The kernels are plain loops over flat arrays: the form that numba compiles well.
from __future__ import annotations

import math

import numpy as np
from numba import njit

from modgraph.dag import IntArray

NAT = 1 << 20
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
# What Stirling's formula lacks of log x!, for small x (index 0 is not used).
_LACK = np.array(
    [0.0] + [math.lgamma(x + 1) - (x * math.log(x) - x + 0.5 * math.log(x) + _HALF_LOG_TAU) for x in range(1, 16)]
)


@njit(cache=True, inline="always")
def _lack(x: int) -> float:  # pragma: no cover
    if x < 16:
        return _LACK[x]
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
def pattern_cost(places: int, used: int, edges: int) -> int:  # pragma: no cover
    """Return the code length of how many edges each pair of blocks has, before any edge is placed.

    Parameters
    ----------
    places : int
        Pairs of blocks.
    used : int
        Those of them that have edges.
    edges : int
    """
    return log_number(min(places, edges)) + log_choose(places, used) + log_choose(edges - 1, used - 1)


@njit(cache=True)
def placement_cost(
    order: IntArray,
    bounds: IntArray,
    pointers: IntArray,
    neighbours: IntArray,
    labels: IntArray,
    sizes: IntArray,
    pair_of: IntArray,
    n_pairs: int,
) -> tuple[int, IntArray]:  # pragma: no cover
    """Return Σ log C(n_r n_t, e_rt) over the blocks r of some units, and how many t there are.

    Parameters
    ----------
    order : ndarray of int
        The units, block by block.
    bounds : ndarray of int, shape (n_blocks + 1,)
        Where each block begins in `order`.
    pointers, neighbours : ndarray of int
        Neighbours of all units.
    labels : ndarray of int, shape (n_units,)
        Block of each neighbour.
    sizes : ndarray of int
        Units of each block t.
    pair_of : ndarray of int
        For each block t the number of its pair of layers, or −1 where the pair doesn't count.
    n_pairs : int

    Returns
    -------
    int
    ndarray of int, shape (n_pairs,)
        Block pairs with edges in each pair of layers.
    """
    count = np.zeros(len(sizes), np.int64)
    met = np.empty(len(sizes), np.int64)
    used = np.zeros(n_pairs, np.int64)
    total = 0
    for block in range(len(bounds) - 1):
        n_met = 0
        for unit in order[bounds[block] : bounds[block + 1]]:
            for other in neighbours[pointers[unit] : pointers[unit + 1]]:
                t = labels[other]
                if pair_of[t] >= 0:
                    if count[t] == 0:
                        met[n_met] = t
                        n_met += 1
                    count[t] += 1
        size = bounds[block + 1] - bounds[block]
        for t in met[:n_met]:
            total += log_choose(size * sizes[t], count[t])
            used[pair_of[t]] += 1
            count[t] = 0
    return total, used


@njit(cache=True)
def block_edges(
    order: IntArray, bounds: IntArray, pointers: IntArray, neighbours: IntArray, labels: IntArray
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover
    """Count the edges between all blocks, both ways.

    Returns
    -------
    starts : ndarray of int, shape (n_blocks + 1,)
    others, counts : ndarray of int
        From ``starts[r]`` on, the blocks that block r has edges with, and how many.
    """
    n_blocks = len(bounds) - 1
    count = np.zeros(n_blocks, np.int64)
    starts = np.zeros(n_blocks + 1, np.int64)
    others = np.empty(len(neighbours), np.int64)
    counts = np.empty(len(neighbours), np.int64)
    at = 0
    for block in range(n_blocks):
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


@njit(cache=True)
def best_moves(
    first: int,
    stop: int,
    pointers: IntArray,
    neighbours: IntArray,
    labels: IntArray,
    sizes: IntArray,
    starts: IntArray,
    others: IntArray,
    counts: IntArray,
    pair_of: IntArray,
    in_layer: IntArray,
    pattern: IntArray,
    reach: int,
    partition_gain: int,
) -> tuple[IntArray, IntArray]:  # pragma: no cover
    """Find for each unit of a layer the block of that layer where it shortens the description most.

    Parameters
    ----------
    first, stop : int
        The units of the layer.
    pointers, neighbours, labels, sizes : ndarray of int
        Neighbours and block of all units, size of all blocks.
    starts, others, counts : ndarray of int
        As `block_edges` returns them.
    pair_of : ndarray of int, shape (n_blocks,)
        For each block the number of its pair of layers with this one, −1 without such a pair.
    in_layer : ndarray of bool, shape (n_blocks,)
    pattern : ndarray of int, shape (n_pairs, 2, 2 reach + 1)
        `pattern_cost` of each pair of layers, as the number of pairs of blocks with edges changes by −reach … reach;
        at [:, 1] with one block less in this layer.
    reach : int
    partition_gain : int
        What the code length of the partition falls by with one block less, sizes apart.

    Returns
    -------
    target : ndarray of int, shape (stop − first,)
        The best block; the unit's own where no move shortens the description, or where two are equally good.
    change : ndarray of int, shape (stop − first,)
        By how much that move changes the code length, ≤ 0.
    """
    n_blocks = len(sizes)
    n_pairs = len(pattern)
    grow = np.zeros(n_blocks, np.int64)
    shrink = np.zeros(n_blocks, np.int64)
    for r in range(n_blocks):
        if in_layer[r]:
            for position in range(starts[r], starts[r + 1]):
                size = sizes[others[position]]
                edges = counts[position]
                now = log_choose(sizes[r] * size, edges)
                grow[r] += log_choose((sizes[r] + 1) * size, edges) - now
                if edges <= (sizes[r] - 1) * size:
                    shrink[r] += log_choose((sizes[r] - 1) * size, edges) - now
    degree = np.zeros(n_blocks, np.int64)
    met = np.empty(n_blocks, np.int64)
    base = np.zeros(n_blocks, np.int64)
    known = np.zeros((n_blocks, n_pairs), np.int64)
    seen = np.zeros(n_blocks, np.bool_)
    near = np.empty(n_blocks, np.int64)
    wanted = np.zeros(n_pairs, np.int64)
    lost = np.zeros(n_pairs, np.int64)
    target = np.empty(stop - first, np.int64)
    change = np.zeros(stop - first, np.int64)
    for unit in range(first, stop):
        own = labels[unit]
        target[unit - first] = own
        n_met = 0
        for other in neighbours[pointers[unit] : pointers[unit + 1]]:
            t = labels[other]
            if degree[t] == 0:
                met[n_met] = t
                n_met += 1
            degree[t] += 1
        wanted[:] = 0
        lost[:] = 0
        leave = shrink[own]
        n_near = 0
        for t in met[:n_met]:
            d = degree[t]
            pair = pair_of[t]
            wanted[pair] += 1
            for position in range(starts[t], starts[t + 1]):
                s = others[position]
                if not in_layer[s]:
                    continue
                edges = counts[position]
                if s == own:
                    places = (sizes[s] - 1) * sizes[t]
                    now = log_choose(sizes[s] * sizes[t], edges)
                    if edges <= places:
                        leave -= log_choose(places, edges) - now
                    leave += log_choose(places, edges - d) - now
                    if edges == d:
                        lost[pair] += 1
                else:
                    if not seen[s]:
                        seen[s] = True
                        near[n_near] = s
                        n_near += 1
                    places = (sizes[s] + 1) * sizes[t]
                    base[s] += log_choose(places, edges + d) - log_choose(places, edges) - log_choose(places, d)
                    known[s, pair] += 1
        best = 0
        tied = False
        fewer = 1 if sizes[own] == 1 else 0
        for s in near[:n_near]:
            total = leave + grow[s] + base[s]
            for t in met[:n_met]:
                total += log_choose((sizes[s] + 1) * sizes[t], degree[t])
            for pair in range(n_pairs):
                total += pattern[pair, fewer, reach + wanted[pair] - known[s, pair] - lost[pair]]
                total -= pattern[pair, 0, reach]
                known[s, pair] = 0
            total += log_number(sizes[own]) - log_number(sizes[s] + 1) - fewer * partition_gain
            seen[s] = False
            base[s] = 0
            if total < best:
                best = total
                tied = False
                target[unit - first] = s
            elif total == best and best < 0:
                tied = True
        if tied:
            target[unit - first] = own
            best = 0
        change[unit - first] = best
        for t in met[:n_met]:
            degree[t] = 0
    return target, change


@njit(cache=True)
def best_merges(
    blocks: IntArray,
    sizes: IntArray,
    starts: IntArray,
    others: IntArray,
    counts: IntArray,
    pair_of: IntArray,
    in_layer: IntArray,
    pattern: IntArray,
    reach: int,
    partition_gain: int,
) -> tuple[IntArray, IntArray]:  # pragma: no cover
    """Find for each block of a layer the other one with which it is best joined.

    Parameters
    ----------
    blocks : ndarray of int
        The blocks of the layer.
    sizes, starts, others, counts, pair_of, in_layer, pattern, reach, partition_gain
        As for `best_moves`.

    Returns
    -------
    partner : ndarray of int, shape (len(blocks),)
        The best other block; the block itself where joining it with none shortens the description.
    change : ndarray of int, shape (len(blocks),)
        By how much that changes the code length, ≤ 0.
    """
    n_blocks = len(sizes)
    n_pairs = len(pattern)
    mine = np.zeros(n_blocks, np.int64)
    seen = np.zeros(n_blocks, np.bool_)
    near = np.empty(n_blocks, np.int64)
    gained = np.zeros(n_pairs, np.int64)
    alone = np.zeros(n_blocks, np.int64)
    for r in blocks:
        for position in range(starts[r], starts[r + 1]):
            alone[r] += log_choose(sizes[r] * sizes[others[position]], counts[position])
    partner = blocks.copy()
    change = np.zeros(len(blocks), np.int64)
    for index in range(len(blocks)):
        r = blocks[index]
        n_near = 0
        for position in range(starts[r], starts[r + 1]):
            t = others[position]
            mine[t] = counts[position]
            for place in range(starts[t], starts[t + 1]):
                s = others[place]
                if in_layer[s] and s != r and not seen[s]:
                    seen[s] = True
                    near[n_near] = s
                    n_near += 1
        for s in near[:n_near]:
            seen[s] = False
            size = sizes[r] + sizes[s]
            total = -alone[r] - alone[s] - partition_gain
            gained[:] = 0
            for position in range(starts[s], starts[s + 1]):
                t = others[position]
                if mine[t] > 0:
                    gained[pair_of[t]] += 1
                    total -= log_choose(size * sizes[t], mine[t])
                total += log_choose(size * sizes[t], mine[t] + counts[position])
            for position in range(starts[r], starts[r + 1]):
                total += log_choose(size * sizes[others[position]], counts[position])
            total -= log_choose(size, sizes[r])
            for pair in range(n_pairs):
                total += pattern[pair, 1, reach - gained[pair]] - pattern[pair, 0, reach]
            if total < change[index] or (total == change[index] and total < 0 and s < partner[index]):
                change[index] = total
                partner[index] = s
        for position in range(starts[r], starts[r + 1]):
            mine[others[position]] = 0
    return partner, change
