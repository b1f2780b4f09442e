"""Compiled loops of `modgraph.cluster.description`.

Code lengths are whole numbers of 2⁻²⁰ nat. Sums of integers are the same in any order, so equal lengths compare
equal whatever the order of the units.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from modgraph.arrays import FloatArray, IndexArray, IntArray
from modgraph.compiled import njit

NAT = 1 << 20  # code length of one nat
PLACE = 1 << 16  # one fair place, where these are summed up
# Densities of pairs of blocks are kept from 0 and 1 by this much: a degree never rules an edge out.
LEAST_DENSITY = 1e-12
MOST_DENSITY = 1 - 1e-6
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# log x! − (Stirling's formula for it), for x = 1 … 15; index 0 is not used.
_STIRLING_ERROR = (
    0.0,
    *(math.lgamma(x + 1) - (x * math.log(x) - x + 0.5 * math.log(x) + _HALF_LOG_2PI) for x in range(1, 16)),
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
    no_edge, odds : ndarray of float, shape (n_blocks,)
        log (1 − density), and that minus log density.
    n_edges : ndarray of int, shape (n_blocks,)
        Edges between the two layers.
    """

    place: FloatArray
    edge: FloatArray
    link: FloatArray
    density: FloatArray
    no_edge: FloatArray
    odds: FloatArray
    n_edges: IntArray


class EdgeCost(NamedTuple):
    """One entry of `EdgeCosts`."""

    place: float
    edge: float
    link: float
    density: float
    no_edge: float
    odds: float
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


@njit(cache=True)
def _stirling_error(x: int) -> float:  # pragma: no cover (compiled)
    if x < 16:
        return _STIRLING_ERROR[x]
    return 1 / (12 * x) - 1 / (360.0 * x * x * x)


@njit(cache=True)
def log_choose(n: int, k: int) -> int:  # pragma: no cover (compiled)
    """Return log C(n, k), in 2⁻²⁰ nat; accurate for n up to 10¹⁵, where log n! itself has lost those digits."""
    n, k = int(n), int(k)  # plain Python is quicker with its own numbers
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
    length: int = round(math.log(n) * NAT)
    return length


@njit(cache=True, nogil=True)
def log_factorials(sizes: IntArray) -> int:  # pragma: no cover (compiled)
    """Return Σ log n!, in 2⁻²⁰ nat, over `sizes`."""
    total = 0
    for n in sizes:
        if n > 1:
            total += round((n * math.log(n) - n + 0.5 * math.log(n) + _HALF_LOG_2PI + _stirling_error(n)) * NAT)
    return total


@njit(cache=True)
def fair_places_of(block: int, other: int, degrees: BlockDegrees) -> float:  # pragma: no cover (compiled)
    """Return the fair places between a block of the layer and another one."""
    total = 0.0
    for degree_class in range(degrees.rate.shape[1]):
        total += degrees.block_degree[block, degrees.slot[other], degree_class] * degrees.rate[other, degree_class]
    return total


@njit(cache=True, nogil=True)
def block_edges(
    first: int,
    own_labels: IntArray,
    sizes: IntArray,
    starts: IndexArray,
    stops: IndexArray,
    neighbours: IndexArray,
    labels: IndexArray,
    degrees: BlockDegrees,
) -> BlockPairs:  # pragma: no cover (compiled)
    """Count the edges of the blocks of one layer with all others.

    Parameters
    ----------
    first : int
        The layer's first unit.
    own_labels : ndarray of int
        The block of each of the layer's units, counted within the layer.
    sizes : ndarray of int, shape (n_blocks,)
        Units in each block of the layer.
    starts, stops : ndarray of int, shape (n_units,)
        Where the neighbours of each unit that count begin, and where they end.
    neighbours : ndarray of int
    labels : ndarray of int, shape (n_units,)
        The block of each unit at the other end.
    degrees : BlockDegrees

    Returns
    -------
    BlockPairs
    """
    bounds = np.zeros(len(sizes) + 1, np.int64)
    bounds[1:] = np.cumsum(sizes)
    free = bounds.copy()
    order = np.empty(len(own_labels), np.int64)  # units, block by block
    for index in range(len(own_labels)):
        order[free[own_labels[index]]] = first + index
        free[own_labels[index]] += 1
    count = np.zeros(len(degrees.slot), np.int64)
    pair_starts = np.zeros(len(bounds), np.int64)
    size = 0
    for unit in range(first, first + len(own_labels)):
        size += stops[unit] - starts[unit]
    others = np.empty(size, np.int64)
    n_edges = np.empty(size, np.int64)
    fair_places = np.empty(size)
    n_pairs = 0
    for block in range(len(sizes)):
        for unit in order[bounds[block] : bounds[block + 1]]:
            for neighbour in neighbours[starts[unit] : stops[unit]]:
                other = labels[neighbour]
                if count[other] == 0:
                    others[n_pairs] = other
                    n_pairs += 1
                count[other] += 1
        pair_starts[block + 1] = n_pairs
        for pair in range(pair_starts[block], n_pairs):
            other = others[pair]
            n_edges[pair] = count[other]
            fair_places[pair] = fair_places_of(block, other, degrees)
            count[other] = 0
    return BlockPairs(pair_starts, others[:n_pairs].copy(), n_edges[:n_pairs].copy(), fair_places[:n_pairs].copy())


@njit(cache=True)
def cost_at(costs: EdgeCosts, block: int) -> EdgeCost:  # pragma: no cover (compiled)
    """Return the costs for one block at the other end."""
    return EdgeCost(
        float(costs.place[block]),
        float(costs.edge[block]),
        float(costs.link[block]),
        float(costs.density[block]),
        float(costs.no_edge[block]),
        float(costs.odds[block]),
        int(costs.n_edges[block]),
    )


@njit(cache=True)
def background_length(edges: int, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of edges in the background."""
    length: int = round(cost.edge * int(edges) * NAT)
    return length


@njit(cache=True)
def _surprise(places: int, edges: int, fair_places: float, cost: EdgeCost) -> float:  # pragma: no cover (compiled)
    """Return by how much less likely a pair's edges are by the degrees of its units than by the density, in nats."""
    chance = min(max(cost.density * fair_places / places, LEAST_DENSITY), MOST_DENSITY)
    by_degree = -edges * math.log(chance) - (places - edges) * math.log1p(-chance)
    return by_degree + cost.no_edge * fair_places - cost.odds * edges


@njit(cache=True)
def linked_length(places: int, edges: int, fair_places: float, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of a linked pair of blocks, minus that of its places as empty background."""
    places, edges, fair_places = int(places), int(edges), float(fair_places)
    surprise = _surprise(places, edges, fair_places, cost)
    link: int = round((cost.link - cost.place * fair_places - surprise) * NAT)
    length: int = log_choose(places, edges) + log_number(min(places, cost.n_edges)) + link
    return length


@njit(cache=True)
def pair_length(places: int, edges: int, fair_places: float, cost: EdgeCost) -> int:  # pragma: no cover (compiled)
    """Return the code length of a pair of blocks, linked or not, minus that of its places as empty background."""
    if edges == 0:
        return 0
    length: int = min(background_length(edges, cost), linked_length(places, edges, fair_places, cost))
    return length


@njit(cache=True)
def edge_cost(
    n_pairs: int, n_linked: int, places: int, edges: int, density: float, n_edges: int
) -> EdgeCost:  # pragma: no cover (compiled)
    """Return what changes cost, given the linked pairs and the fair places and edges of the background."""
    no_edge = math.log1p(-density)
    return EdgeCost(
        math.log((places + 1) / (places - edges + 1)),
        math.log((places - edges + 1) / (edges + 1)),
        math.log((n_pairs - n_linked + 1) / (n_linked + 1)),
        density,
        no_edge,
        no_edge - math.log(density),
        n_edges,
    )


@njit(cache=True, nogil=True)
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
    best_cost = edge_cost(n_pairs, 0, n_places, n_edges, density, n_edges)
    linked = np.empty(len(places), np.int64)  # code length of each pair's edges if it is linked
    fair = np.empty(len(places), np.int64)  # fair places in fixed point: their sum is the same in any order
    for i in range(len(places)):
        surprise = round(_surprise(places[i], edges[i], fair_places[i], best_cost) * NAT)
        linked[i] = log_choose(places[i], edges[i]) + log_number(min(places[i], n_edges)) - surprise
        fair[i] = round(fair_places[i] * PLACE)
    fixed = log_number(1 + min(n_pairs, n_edges))
    n_linked, rest_fair, rest_edges = 0, n_places * PLACE, n_edges
    best = fixed + log_choose(n_places, n_edges)
    for _ in range(12):
        cost = edge_cost(n_pairs, n_linked, max(rest_fair // PLACE, rest_edges), rest_edges, density, n_edges)
        before = n_linked, rest_fair, rest_edges
        n_linked, rest_fair, rest_edges, total = 0, n_places * PLACE, n_edges, fixed
        for i in range(len(places)):
            link = round((cost.link - cost.place * fair_places[i]) * NAT)
            if linked[i] + link < background_length(edges[i], cost):
                n_linked += 1
                rest_fair -= fair[i]
                rest_edges -= edges[i]
                total += linked[i]
        rest_places = max(rest_fair // PLACE, rest_edges)
        total += log_choose(n_pairs, n_linked) + log_choose(rest_places, rest_edges)
        if total < best:
            best = total
            best_cost = edge_cost(n_pairs, n_linked, rest_places, rest_edges, density, n_edges)
        if before == (n_linked, rest_fair, rest_edges):
            break
    return best, best_cost
