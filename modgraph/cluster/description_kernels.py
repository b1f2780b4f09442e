"""Compiled loops of `modgraph.cluster.description`. Importing this room loads numba, which takes half a second.

Code lengths are whole numbers of 2⁻²⁰ nat. Sums of integers are the same in any order, so equal lengths compare
equal whatever the order of the units.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.compiled import njit

NAT = 1 << 20  # code length of one nat
PLACE = 1 << 16  # one fair place, where these are summed up
# Densities of pairs of blocks are kept from 0 and 1 by this much: a degree never rules an edge out.
LEAST_DENSITY = 1e-12
MOST_DENSITY = 1 - 1e-6
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
    density : ndarray of float, shape (n_blocks,)
        Share of all pairs of units of the two layers that are edges.
    n_edges : ndarray of int, shape (n_blocks,)
        Edges between the two layers.
    """

    place: FloatArray
    edge: FloatArray
    link: FloatArray
    density: FloatArray
    n_edges: IntArray


class EdgeCost(NamedTuple):
    """One entry of `EdgeCosts`."""

    place: float
    edge: float
    link: float
    density: float
    n_edges: int


class BlockDegrees(NamedTuple):
    """The degrees of one layer's units and blocks, towards the other layers (`modgraph.cluster.degrees`).

    The *fair places* of a pair of blocks are the edges that it would have by its degrees alone, divided by the density
    of the two layers. If all units have the same degree, fair places are places.

    Attributes
    ----------
    slot : ndarray of int, shape (n_labels,)
        Number of the layer of each block at the other end; −1 for blocks of layers that no edges lead to.
    degree, degree_class : ndarray of int, shape (n_units_of_layer, n_slots)
        Of each unit.
    block_degree : ndarray of float, shape (n_blocks, n_slots, n_classes)
        Sum of the degrees of the units of each class in each block of the layer.
    rate : ndarray of float, shape (n_labels, n_classes)
        Fair places that a unit of each class and of degree 1 has with each block at the other end.
    """

    slot: IntArray
    degree: IntArray
    degree_class: IntArray
    block_degree: FloatArray
    rate: FloatArray


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
    fair_places : ndarray of float, shape (n_pairs,)
        See `BlockDegrees`.
    """

    starts: IntArray
    others: IntArray
    n_edges: IntArray
    fair_places: FloatArray


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
    length: int = round((value + _stirling_error(n) - _stirling_error(k) - _stirling_error(rest)) * NAT)
    return length


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


@njit(cache=True, inline="always")
def _fair_places(block: int, other: int, degrees: BlockDegrees) -> float:  # pragma: no cover (compiled)
    """Return the fair places between a block of the layer and another one."""
    total = 0.0
    for degree_class in range(degrees.rate.shape[1]):
        total += degrees.block_degree[block, degrees.slot[other], degree_class] * degrees.rate[other, degree_class]
    return total


@njit(cache=True, inline="always")
def _unit_fair_places(unit: int, other: int, degrees: BlockDegrees) -> float:  # pragma: no cover (compiled)
    """Return the fair places between a unit of the layer and a block."""
    slot = degrees.slot[other]
    places: float = degrees.degree[unit, slot] * degrees.rate[other, degrees.degree_class[unit, slot]]
    return places


@njit(cache=True)
def block_edges(
    order: IntArray,
    bounds: IntArray,
    pointers: IntArray,
    neighbours: IntArray,
    labels: IntArray,
    degrees: BlockDegrees,
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
        The block of each unit.
    degrees : BlockDegrees

    Returns
    -------
    BlockPairs
    """
    count = np.zeros(len(degrees.slot), np.int64)
    starts = np.zeros(len(bounds), np.int64)
    size = 0
    for unit in order:
        size += pointers[unit + 1] - pointers[unit]
    others = np.empty(size, np.int64)
    n_edges = np.empty(size, np.int64)
    fair_places = np.empty(size)
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
            other = others[pair]
            n_edges[pair] = count[other]
            fair_places[pair] = _fair_places(block, other, degrees)
            count[other] = 0
    return BlockPairs(starts, others[:n_pairs].copy(), n_edges[:n_pairs].copy(), fair_places[:n_pairs].copy())


@njit(cache=True, inline="always")
def _cost_at(costs: EdgeCosts, block: int) -> EdgeCost:  # pragma: no cover (compiled)
    return EdgeCost(
        costs.place[block], costs.edge[block], costs.link[block], costs.density[block], costs.n_edges[block]
    )


@njit(cache=True, inline="always")
def _background_length(edges: int, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of edges in the background."""
    length: int = round(cost.edge * edges * NAT)
    return length


@njit(cache=True)
def _surprise(places: int, edges: int, fair_places: float, density: float) -> float:  # pragma: no cover (compiled)
    """Return by how much less likely a pair's edges are by the degrees of its units than by the density, in nats."""
    chance = min(max(density * fair_places / places, LEAST_DENSITY), MOST_DENSITY)
    by_degree = -edges * math.log(chance) - (places - edges) * math.log1p(-chance)
    empty = -math.log1p(-density)
    return by_degree - empty * fair_places - (math.log1p(-density) - math.log(density)) * edges


@njit(cache=True)
def _linked_length(places: int, edges: int, fair_places: float, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of a linked pair of blocks, minus that of its places as empty background."""
    surprise = _surprise(places, edges, fair_places, cost.density)
    link: int = round((cost.link - cost.place * fair_places - surprise) * NAT)
    length: int = log_choose(places, edges) + log_number(min(places, cost.n_edges)) + link
    return length


@njit(cache=True)
def _pair_length(places: int, edges: int, fair_places: float, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of a pair of blocks, linked or not, minus that of its places as empty background."""
    if edges == 0:
        return 0
    length: int = min(_background_length(edges, cost), _linked_length(places, edges, fair_places, cost))
    return length


@njit(cache=True)
def _edge_cost(
    n_pairs: int, n_linked: int, places: int, edges: int, density: float, n_edges: int
) -> EdgeCost:  # pragma: no cover (compiled)
    """Return what changes cost, given the linked pairs and the fair places and edges of the background."""
    return EdgeCost(
        math.log((places + 1) / (places - edges + 1)),
        math.log((places - edges + 1) / (edges + 1)),
        math.log((n_pairs - n_linked + 1) / (n_linked + 1)),
        density,
        n_edges,
    )


@njit(cache=True)
def edges_length(
    places: IntArray, edges: IntArray, fair_places: FloatArray, n_pairs: int, n_places: int, n_edges: int
) -> tuple[int, EdgeCost]:  # pragma: no cover (compiled)
    """Return the code length of the edges between two layers, given their blocks.

    Which pairs are linked and how dense the background is depend on each other: both are found in turn, at most
    twelve times.

    Parameters
    ----------
    places, edges, fair_places : ndarray
        For each pair of blocks that has edges: n_r n_s, how many edges, and fair places (`BlockDegrees`).
    n_pairs, n_places, n_edges : int
        Pairs of blocks, pairs of units, and edges in all.

    Returns
    -------
    length : int
    cost : EdgeCost
        What changes to this shortest description cost.
    """
    density = min(max(n_edges / n_places, LEAST_DENSITY), MOST_DENSITY)
    linked = np.empty(len(places), np.int64)  # code length of each pair's edges if it is linked
    fair = np.empty(len(places), np.int64)  # fair places in fixed point: their sum is the same in any order
    for i in range(len(places)):
        surprise = round(_surprise(places[i], edges[i], fair_places[i], density) * NAT)
        linked[i] = log_choose(places[i], edges[i]) + log_number(min(places[i], n_edges)) - surprise
        fair[i] = round(fair_places[i] * PLACE)
    fixed = log_number(1 + min(n_pairs, n_edges))
    n_linked, rest_fair, rest_edges = 0, n_places * PLACE, n_edges
    best = fixed + log_choose(n_places, n_edges)
    best_cost = _edge_cost(n_pairs, n_linked, n_places, rest_edges, density, n_edges)
    for _ in range(12):
        cost = _edge_cost(n_pairs, n_linked, max(rest_fair // PLACE, rest_edges), rest_edges, density, n_edges)
        before = n_linked, rest_fair, rest_edges
        n_linked, rest_fair, rest_edges, total = 0, n_places * PLACE, n_edges, fixed
        for i in range(len(places)):
            link = round((cost.link - cost.place * fair_places[i]) * NAT)
            if linked[i] + link < _background_length(edges[i], cost):
                n_linked += 1
                rest_fair -= fair[i]
                rest_edges -= edges[i]
                total += linked[i]
        rest_places = max(rest_fair // PLACE, rest_edges)
        total += log_choose(n_pairs, n_linked) + log_choose(rest_places, rest_edges)
        if total < best:
            best = total
            best_cost = _edge_cost(n_pairs, n_linked, rest_places, rest_edges, density, n_edges)
        if before == (n_linked, rest_fair, rest_edges):
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
            fair_places = pairs.fair_places[pair]
            cost = _cost_at(costs, other)
            length = _linked_length(sizes[block] * all_sizes[other], edges, fair_places, cost)
            is_linked = length < _background_length(edges, cost)
            if not is_linked:
                fair_places *= (sizes[block] + 1) / sizes[block]
                length = _linked_length((sizes[block] + 1) * all_sizes[other], edges + 1, fair_places, cost)
                is_linked = length < _background_length(edges + 1, cost)
            if is_linked:
                kept[n_kept] = pair
                n_kept += 1
        starts[block + 1] = n_kept
    kept = kept[:n_kept]
    return BlockPairs(starts, pairs.others[kept], pairs.n_edges[kept], pairs.fair_places[kept])


@njit(cache=True)
def _blocks_by_other(pairs: BlockPairs, n_labels: int) -> tuple[IntArray, IntArray]:  # pragma: no cover (compiled)
    """List the first blocks of the pairs by the second block: where each one's begin, and the blocks."""
    starts = np.zeros(n_labels + 1, np.int64)
    for other in pairs.others:
        starts[other + 1] += 1
    starts = np.cumsum(starts)
    free = starts.copy()
    blocks = np.empty(len(pairs.others), np.int64)
    for block in range(len(pairs.starts) - 1):
        for other in pairs.others[pairs.starts[block] : pairs.starts[block + 1]]:
            blocks[free[other]] = block
            free[other] += 1
    return starts, blocks


@njit(cache=True)
def _pair_lengths(
    pairs: BlockPairs, sizes: IntArray, all_sizes: IntArray, costs: EdgeCosts
) -> IntArray:  # pragma: no cover (compiled)
    """Return `_pair_length` of each pair."""
    lengths = np.empty(len(pairs.others), np.int64)
    for block in range(len(sizes)):
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            places = sizes[block] * all_sizes[other]
            lengths[pair] = _pair_length(places, pairs.n_edges[pair], pairs.fair_places[pair], _cost_at(costs, other))
    return lengths


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
    degrees: BlockDegrees,
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
    degrees : BlockDegrees
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
    now = _pair_lengths(pairs, sizes, all_sizes, costs)
    other_starts, blocks_by_other = _blocks_by_other(pairs, n_labels)
    unit_edges = np.zeros(n_labels, np.int64)  # edges of the unit with each block
    adjacent = np.empty(n_labels, np.int64)  # blocks that the unit has edges with
    candidates = np.empty(n_blocks, np.int64)  # blocks of the layer linked to one of those
    is_candidate = np.zeros(n_blocks, np.bool_)
    last_listed = np.full(n_labels, -1, np.int64)  # the block in whose pairs each block was met last
    target = own_labels.copy()
    change = np.zeros(len(own_labels), np.int64)
    for index in range(len(own_labels)):
        own = own_labels[index]
        unit = first + index
        n_adjacent = 0
        n_candidates = 0
        for neighbour in neighbours[pointers[unit] : pointers[unit + 1]]:
            other = labels[neighbour]
            if unit_edges[other] == 0:
                adjacent[n_adjacent] = other
                n_adjacent += 1
                for block in blocks_by_other[other_starts[other] : other_starts[other + 1]]:
                    if block != own and not is_candidate[block]:
                        is_candidate[block] = True
                        candidates[n_candidates] = block
                        n_candidates += 1
            unit_edges[other] += 1
        leave = 0
        for pair in range(pairs.starts[own], pairs.starts[own + 1]):
            other = pairs.others[pair]
            last_listed[other] = own
            fair_places = max(pairs.fair_places[pair] - _unit_fair_places(index, other, degrees), 0.0)
            places, edges = (sizes[own] - 1) * all_sizes[other], pairs.n_edges[pair] - unit_edges[other]
            leave += _pair_length(places, edges, fair_places, _cost_at(costs, other)) - now[pair]
        for other in adjacent[:n_adjacent]:
            # A pair of blocks that isn't listed is background before and after.
            if last_listed[other] != own:
                leave -= _background_length(unit_edges[other], _cost_at(costs, other))
        for other in pairs.others[pairs.starts[own] : pairs.starts[own + 1]]:
            last_listed[other] = -1
        best, tied = 0, False
        for block in candidates[:n_candidates]:
            is_candidate[block] = False
            total = leave + log_number(sizes[own]) - log_number(sizes[block] + 1)
            for pair in range(pairs.starts[block], pairs.starts[block + 1]):
                other = pairs.others[pair]
                last_listed[other] = block
                fair_places = pairs.fair_places[pair] + _unit_fair_places(index, other, degrees)
                places, edges = (sizes[block] + 1) * all_sizes[other], pairs.n_edges[pair] + unit_edges[other]
                total += _pair_length(places, edges, fair_places, _cost_at(costs, other)) - now[pair]
            for other in adjacent[:n_adjacent]:
                if last_listed[other] != block:
                    fair_places = _fair_places(block, other, degrees) + _unit_fair_places(index, other, degrees)
                    places = (sizes[block] + 1) * all_sizes[other]
                    total += _pair_length(places, unit_edges[other], fair_places, _cost_at(costs, other))
            for other in pairs.others[pairs.starts[block] : pairs.starts[block + 1]]:
                last_listed[other] = -1
            if sizes[own] == 1:
                total += one_block_less
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
    sizes: IntArray,
    all_sizes: IntArray,
    pairs: BlockPairs,
    degrees: BlockDegrees,
    costs: EdgeCosts,
    one_block_less: int,
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Find for each block of a layer the blocks of that layer with which it is best joined.

    Parameters
    ----------
    sizes, all_sizes, pairs, degrees, costs, one_block_less
        As for `best_moves`.

    Returns
    -------
    one, two : ndarray of int
        Pairs of blocks of which the second is a best partner of the first (several where they are equally good).
    change : ndarray of int
        By how much joining the pair changes the code length, < 0.
    """
    n_blocks, n_labels = len(sizes), len(all_sizes)
    other_starts, blocks_by_other = _blocks_by_other(pairs, n_labels)
    now = _pair_lengths(pairs, sizes, all_sizes, costs)
    edges_to = np.zeros(n_labels, np.int64)  # edges of the block with each other one
    is_candidate = np.zeros(n_blocks, np.bool_)
    candidates = np.empty(n_blocks, np.int64)
    value = np.empty(n_blocks, np.int64)
    ones, twos, changes = [0][:0], [0][:0], [np.int64(0)][:0]
    for block in range(n_blocks):
        alone = now[pairs.starts[block] : pairs.starts[block + 1]].sum()
        n_candidates = 0
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            edges_to[other] = pairs.n_edges[pair]
            for partner in blocks_by_other[other_starts[other] : other_starts[other + 1]]:
                if partner != block and not is_candidate[partner]:
                    is_candidate[partner] = True
                    candidates[n_candidates] = partner
                    n_candidates += 1
        best = np.int64(0)
        for i in range(n_candidates):
            partner = candidates[i]
            is_candidate[partner] = False
            size = sizes[block] + sizes[partner]
            total = one_block_less - alone - log_choose(size, sizes[block])
            for pair in range(pairs.starts[partner], pairs.starts[partner + 1]):
                other = pairs.others[pair]
                places, cost = size * all_sizes[other], _cost_at(costs, other)
                fair_places = pairs.fair_places[pair] + _fair_places(block, other, degrees)
                total += _pair_length(places, edges_to[other] + pairs.n_edges[pair], fair_places, cost) - now[pair]
                if edges_to[other] > 0:
                    # The next loop adds this again.
                    total -= _pair_length(places, edges_to[other], fair_places, cost)
            for pair in range(pairs.starts[block], pairs.starts[block + 1]):
                other = pairs.others[pair]
                fair_places = pairs.fair_places[pair] + _fair_places(partner, other, degrees)
                total += _pair_length(size * all_sizes[other], pairs.n_edges[pair], fair_places, _cost_at(costs, other))
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
