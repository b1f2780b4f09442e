"""Compiled loops of `modgraph.cluster.description`. Importing this room loads numba, which takes half a second.

Code lengths are whole numbers of 2⁻²⁰ nat. Sums of integers are the same in any order, so equal lengths compare
equal whatever the order of the units.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from modgraph.arrays import FloatArray, IntArray

NAT = 1 << 20  # code length of one nat
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# log x! − (Stirling's formula for it), for x = 1 … 15; index 0 is not used.
_STIRLING_ERROR = np.array(
    [0.0] + [math.lgamma(x + 1) - (x * math.log(x) - x + 0.5 * math.log(x) + _HALF_LOG_2PI) for x in range(1, 16)]
)


class EdgeCosts(NamedTuple):
    """What changes to the edges between two layers cost, in nats; one entry a block at the other end.

    Attributes
    ----------
    place : ndarray of float, shape (n_blocks,)
        Saved for each pair of units that leaves the background.
    edge : ndarray of float, shape (n_blocks,)
        An edge in the background.
    link : ndarray of float, shape (n_blocks,)
        A linked pair of blocks.
    n_edges : ndarray of int, shape (n_blocks,)
        Edges between the two layers.
    """

    place: FloatArray
    edge: FloatArray
    link: FloatArray
    n_edges: IntArray


class EdgeCost(NamedTuple):
    """One entry of `EdgeCosts`."""

    place: float
    edge: float
    link: float
    n_edges: int


class BlockPairs(NamedTuple):
    """Pairs of blocks that have edges, listed by the first block.

    Attributes
    ----------
    starts : ndarray of int, shape (n_blocks + 1,)
        The pairs of block r are ``starts[r] … starts[r + 1] − 1``.
    others : ndarray of int, shape (n_pairs,)
        The second block.
    n_edges : ndarray of int, shape (n_pairs,)
        Edges between the two.
    """

    starts: IntArray
    others: IntArray
    n_edges: IntArray


@njit(cache=True, inline="always")
def _stirling_error(x: int) -> float:  # pragma: no cover (compiled)
    if x < 16:
        return float(_STIRLING_ERROR[x])
    return 1 / (12 * x) - 1 / (360.0 * x * x * x)


@njit(cache=True)
def log_choose(n: int, k: int) -> int:  # pragma: no cover (compiled)
    """Return log C(n, k), in 2⁻²⁰ nat; accurate for n up to 10¹⁵, where log n! itself has lost those digits."""
    if k <= 0 or k >= n:
        return 0
    if k > n - k:
        k = n - k
    if k == 1:
        return round(math.log(n) * NAT)
    rest = n - k
    value = k * math.log(n / k) - rest * math.log1p(-k / n) + 0.5 * math.log(n / (k * 1.0 * rest)) - _HALF_LOG_2PI
    return round((value + _stirling_error(n) - _stirling_error(k) - _stirling_error(rest)) * NAT)


@njit(cache=True)
def log_number(n: int) -> int:  # pragma: no cover (compiled)
    """Return log n, in 2⁻²⁰ nat."""
    return round(math.log(n) * NAT)


@njit(cache=True)
def log_factorials(sizes: IntArray) -> int:  # pragma: no cover (compiled)
    """Return Σ log n!, in 2⁻²⁰ nat, over `sizes`."""
    total = 0
    for n in sizes:
        if n > 1:
            total += round((n * math.log(n) - n + 0.5 * math.log(n) + _HALF_LOG_2PI + _stirling_error(n)) * NAT)
    return total


@njit(cache=True)
def block_edges(
    order: IntArray, bounds: IntArray, pointers: IntArray, neighbours: IntArray, labels: IntArray, n_labels: int
) -> BlockPairs:  # pragma: no cover (compiled)
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
    BlockPairs
    """
    count = np.zeros(n_labels, np.int64)
    starts = np.zeros(len(bounds), np.int64)
    size = 0
    for unit in order:
        size += pointers[unit + 1] - pointers[unit]
    others = np.empty(size, np.int64)
    n_edges = np.empty(size, np.int64)
    n_pairs = 0
    for block in range(len(bounds) - 1):
        for unit in order[bounds[block] : bounds[block + 1]]:
            for neighbour in neighbours[pointers[unit] : pointers[unit + 1]]:
                other = labels[neighbour]
                if count[other] == 0:
                    others[n_pairs] = other
                    n_pairs += 1
                count[other] += 1
        starts[block + 1] = n_pairs
        for pair in range(starts[block], n_pairs):
            n_edges[pair] = count[others[pair]]
            count[others[pair]] = 0
    return BlockPairs(starts, others[:n_pairs].copy(), n_edges[:n_pairs].copy())


@njit(cache=True, inline="always")
def _cost_at(costs: EdgeCosts, block: int) -> EdgeCost:  # pragma: no cover (compiled)
    return EdgeCost(costs.place[block], costs.edge[block], costs.link[block], costs.n_edges[block])


@njit(cache=True, inline="always")
def _background_length(edges: int, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of edges in the background."""
    length: int = round(cost.edge * edges * NAT)
    return length


@njit(cache=True, inline="always")
def _linked_length(places: int, edges: int, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of a linked pair of blocks, minus that of its places as empty background."""
    link: int = round((cost.link - cost.place * places) * NAT)
    length: int = log_choose(places, edges) + log_number(min(places, cost.n_edges)) + link
    return length


@njit(cache=True, inline="always")
def _pair_length(places: int, edges: int, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of a pair of blocks, linked or not, minus that of its places as empty background."""
    if edges == 0:
        return 0
    return min(_background_length(edges, cost), _linked_length(places, edges, cost))


@njit(cache=True, inline="always")
def _edge_cost(
    n_pairs: int, n_linked: int, places: int, edges: int, n_edges: int
) -> EdgeCost:  # pragma: no cover (compiled)
    """Return what changes cost, given the linked pairs and the places and edges of the background."""
    return EdgeCost(
        math.log((places + 1) / (places - edges + 1)),
        math.log((places - edges + 1) / (edges + 1)),
        math.log((n_pairs - n_linked + 1) / (n_linked + 1)),
        n_edges,
    )


@njit(cache=True)
def edges_length(
    places: IntArray, edges: IntArray, n_pairs: int, n_places: int, n_edges: int
) -> tuple[int, EdgeCost]:  # pragma: no cover (compiled)
    """Return the code length of the edges between two layers, given their blocks.

    Which pairs are linked and how dense the background is depend on each other: both are found in turn, at most
    twelve times.

    Parameters
    ----------
    places, edges : ndarray of int
        For each pair of blocks that has edges: n_r n_s, and how many edges.
    n_pairs, n_places, n_edges : int
        Pairs of blocks, pairs of units, and edges in all.

    Returns
    -------
    length : int
    cost : EdgeCost
        What changes to this shortest description cost.
    """
    linked = np.empty(len(places), np.int64)  # code length of each pair's edges if it is linked
    for i in range(len(places)):
        linked[i] = log_choose(places[i], edges[i]) + log_number(min(places[i], n_edges))
    fixed = log_number(1 + min(n_pairs, n_edges))
    n_linked, rest_places, rest_edges = 0, n_places, n_edges
    best = fixed + log_choose(n_places, n_edges)
    best_cost = _edge_cost(n_pairs, n_linked, rest_places, rest_edges, n_edges)
    for _ in range(12):
        cost = _edge_cost(n_pairs, n_linked, rest_places, rest_edges, n_edges)
        before = n_linked, rest_places, rest_edges
        n_linked, rest_places, rest_edges, total = 0, n_places, n_edges, fixed
        for i in range(len(places)):
            link = round((cost.link - cost.place * places[i]) * NAT)
            if linked[i] + link < _background_length(edges[i], cost):
                n_linked += 1
                rest_places -= places[i]
                rest_edges -= edges[i]
                total += linked[i]
        total += log_choose(n_pairs, n_linked) + log_choose(rest_places, rest_edges)
        if total < best:
            best = total
            best_cost = _edge_cost(n_pairs, n_linked, rest_places, rest_edges, n_edges)
        if before == (n_linked, rest_places, rest_edges):
            break
    return best, best_cost


@njit(cache=True)
def linked_pairs(
    pairs: BlockPairs, sizes: IntArray, all_sizes: IntArray, costs: EdgeCosts
) -> BlockPairs:  # pragma: no cover (compiled)
    """Keep the pairs of blocks that are linked, or would be with one unit and one edge more.

    Parameters
    ----------
    pairs : BlockPairs
        From `block_edges`, for the blocks of one layer.
    sizes : ndarray of int, shape (n_blocks,)
        Units in each block of that layer.
    all_sizes : ndarray of int, shape (n_labels,)
        Units in each block of any layer.
    costs : EdgeCosts, n_labels entries

    Returns
    -------
    BlockPairs
    """
    starts = np.zeros_like(pairs.starts)
    kept = np.empty(len(pairs.others), np.int64)
    n_kept = 0
    for block in range(len(sizes)):
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            edges = pairs.n_edges[pair]
            cost = _cost_at(costs, other)
            is_linked = _linked_length(sizes[block] * all_sizes[other], edges, cost) < _background_length(edges, cost)
            if not is_linked:
                with_one_more = _linked_length((sizes[block] + 1) * all_sizes[other], edges + 1, cost)
                is_linked = with_one_more < _background_length(edges + 1, cost)
            if is_linked:
                kept[n_kept] = pair
                n_kept += 1
        starts[block + 1] = n_kept
    return BlockPairs(starts, pairs.others[kept[:n_kept]], pairs.n_edges[kept[:n_kept]])


@njit(cache=True)
def transposed(pairs: BlockPairs, n_labels: int) -> BlockPairs:  # pragma: no cover (compiled)
    """List the same pairs by the second block."""
    starts = np.zeros(n_labels + 1, np.int64)
    for other in pairs.others:
        starts[other + 1] += 1
    starts = np.cumsum(starts)
    free = starts.copy()
    blocks = np.empty(len(pairs.others), np.int64)
    n_edges = np.empty(len(pairs.others), np.int64)
    for block in range(len(pairs.starts) - 1):
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            blocks[free[other]] = block
            n_edges[free[other]] = pairs.n_edges[pair]
            free[other] += 1
    return BlockPairs(starts, blocks, n_edges)


@njit(cache=True)
def best_moves(
    first: int,
    own_labels: IntArray,
    pointers: IntArray,
    neighbours: IntArray,
    labels: IntArray,
    sizes: IntArray,
    all_sizes: IntArray,
    pairs: BlockPairs,
    costs: EdgeCosts,
    one_block_less: int,
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
    sizes, all_sizes, pairs, costs
        As for `linked_pairs`; `pairs` is what it returns.
    one_block_less : int
        What one block less in this layer changes.

    Returns
    -------
    target : ndarray of int
        The best block of each unit: its own where no move shortens the description, or two are equally good.
    change : ndarray of int
        By how much that move changes the code length, ≤ 0.
    """
    n_blocks, n_labels = len(sizes), len(all_sizes)
    # What it changes that a block has one unit more, or one less, with the same edges.
    grow = np.zeros(n_blocks, np.int64)
    shrink = np.zeros(n_blocks, np.int64)
    for block in range(n_blocks):
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other, edges = pairs.others[pair], pairs.n_edges[pair]
            cost = _cost_at(costs, other)
            now = _pair_length(sizes[block] * all_sizes[other], edges, cost)
            grow[block] += _pair_length((sizes[block] + 1) * all_sizes[other], edges, cost) - now
            if edges <= (sizes[block] - 1) * all_sizes[other]:
                shrink[block] += _pair_length((sizes[block] - 1) * all_sizes[other], edges, cost) - now
    by_other = transposed(pairs, n_labels)
    unit_edges = np.zeros(n_labels, np.int64)  # edges of the unit with each block
    adjacent = np.empty(n_labels, np.int64)  # blocks that the unit has edges with
    candidates = np.empty(n_blocks, np.int64)  # blocks of the layer linked to one of those
    is_candidate = np.zeros(n_blocks, np.bool_)
    linked_change = np.zeros(n_blocks, np.int64)  # what the unit's edges change in a candidate's links
    target = own_labels.copy()
    change = np.zeros(len(own_labels), np.int64)
    for index in range(len(own_labels)):
        own = own_labels[index]
        unit = first + index
        n_adjacent = 0
        for neighbour in neighbours[pointers[unit] : pointers[unit + 1]]:
            other = labels[neighbour]
            if unit_edges[other] == 0:
                adjacent[n_adjacent] = other
                n_adjacent += 1
            unit_edges[other] += 1
        leave = shrink[own]
        n_candidates = 0
        for other in adjacent[:n_adjacent]:
            moved = unit_edges[other]
            cost = _cost_at(costs, other)
            # A pair of blocks that isn't listed is background before and after.
            own_is_listed = False
            for pair in range(by_other.starts[other], by_other.starts[other + 1]):
                block, edges = by_other.others[pair], by_other.n_edges[pair]
                if block == own:
                    now = _pair_length(sizes[block] * all_sizes[other], edges, cost)
                    places = (sizes[block] - 1) * all_sizes[other]
                    if edges <= places:
                        leave -= _pair_length(places, edges, cost) - now
                    leave += _pair_length(places, edges - moved, cost) - now
                    own_is_listed = True
                else:
                    if not is_candidate[block]:
                        is_candidate[block] = True
                        candidates[n_candidates] = block
                        n_candidates += 1
                    places = (sizes[block] + 1) * all_sizes[other]
                    linked_change[block] += (
                        _pair_length(places, edges + moved, cost)
                        - _pair_length(places, edges, cost)
                        - _pair_length(places, moved, cost)
                    )
            if not own_is_listed:
                leave -= _background_length(moved, cost)
        best, tied = 0, False
        for block in candidates[:n_candidates]:
            total = leave + grow[block] + linked_change[block] + log_number(sizes[own]) - log_number(sizes[block] + 1)
            for other in adjacent[:n_adjacent]:
                places = (sizes[block] + 1) * all_sizes[other]
                total += _pair_length(places, unit_edges[other], _cost_at(costs, other))
            if sizes[own] == 1:
                total += one_block_less
            is_candidate[block] = False
            linked_change[block] = 0
            if total < best:
                best, tied = total, False
                target[index] = block
            elif total == best and best < 0:
                tied = True
        if tied:
            target[index] = own
        else:
            change[index] = best
        for other in adjacent[:n_adjacent]:
            unit_edges[other] = 0
    return target, change


@njit(cache=True)
def best_merges(
    sizes: IntArray, all_sizes: IntArray, pairs: BlockPairs, costs: EdgeCosts, one_block_less: int
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Find for each block of a layer the blocks of that layer with which it is best joined.

    Parameters
    ----------
    sizes, all_sizes, pairs, costs, one_block_less
        As for `best_moves`.

    Returns
    -------
    one, two : ndarray of int
        Pairs of blocks of which the second is a best partner of the first (several where they are equally good).
    change : ndarray of int
        By how much joining the pair changes the code length, < 0.
    """
    n_blocks, n_labels = len(sizes), len(all_sizes)
    by_other = transposed(pairs, n_labels)
    edges_to = np.zeros(n_labels, np.int64)  # edges of the block with each other one
    is_candidate = np.zeros(n_blocks, np.bool_)
    candidates = np.empty(n_blocks, np.int64)
    value = np.empty(n_blocks, np.int64)
    alone = np.zeros(n_blocks, np.int64)  # code length of a block's pairs
    ones, twos, changes = [0][:0], [0][:0], [np.int64(0)][:0]
    for block in range(n_blocks):
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            alone[block] += _pair_length(sizes[block] * all_sizes[other], pairs.n_edges[pair], _cost_at(costs, other))
    for block in range(n_blocks):
        n_candidates = 0
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            edges_to[other] = pairs.n_edges[pair]
            for partner in by_other.others[by_other.starts[other] : by_other.starts[other + 1]]:
                if partner != block and not is_candidate[partner]:
                    is_candidate[partner] = True
                    candidates[n_candidates] = partner
                    n_candidates += 1
        best = np.int64(0)
        for i in range(n_candidates):
            partner = candidates[i]
            is_candidate[partner] = False
            size = sizes[block] + sizes[partner]
            total = one_block_less - alone[block] - alone[partner] - log_choose(size, sizes[block])
            for pair in range(pairs.starts[partner], pairs.starts[partner + 1]):
                other = pairs.others[pair]
                places, cost = size * all_sizes[other], _cost_at(costs, other)
                total += _pair_length(places, edges_to[other] + pairs.n_edges[pair], cost)
                if edges_to[other] > 0:
                    # The next loop adds this again.
                    total -= _pair_length(places, edges_to[other], cost)
            for pair in range(pairs.starts[block], pairs.starts[block + 1]):
                other = pairs.others[pair]
                total += _pair_length(size * all_sizes[other], pairs.n_edges[pair], _cost_at(costs, other))
            value[i] = total
            best = min(best, total)
        for i in range(n_candidates):
            if value[i] == best and best < 0:
                ones.append(block)
                twos.append(candidates[i])
                changes.append(best)
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            edges_to[pairs.others[pair]] = 0
    return np.array(ones), np.array(twos), np.array(changes)
