"""The compiled loops of the description and its search, as array operations: for small layers, without compiling.

The results are the same to the last bit. Logarithms are taken one by one, by the function that compiled code calls:
numpy's differ from it in the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IndexArray, IntArray
from modgraph.cluster import description_kernels as kernels
from modgraph.cluster import description_search_kernels as search_kernels
from modgraph.cluster.description_kernels import (
    LEAST_DENSITY,
    MOST_DENSITY,
    NAT,
    PLACE,
    BlockDegrees,
    BlockPairs,
    EdgeCost,
    EdgeCosts,
)

_log_choose = lru_cache(maxsize=1 << 16)(kernels.log_choose.python)
_log_number = lru_cache(maxsize=1 << 16)(kernels.log_number.python)
_edge_cost = kernels.edge_cost.python


def _each(function: Callable[..., float], *values: Any, dtype: type = np.int64) -> Any:
    """Call a function of numbers for each entry of one-dimensional arrays."""
    return np.fromiter(map(function, *(array.tolist() for array in values)), dtype, len(values[0]))


def _in_nats(values: FloatArray) -> IntArray:
    return np.rint(values * NAT).astype(np.int64)


def _surprise(places: IntArray, edges: IntArray, fair_places: FloatArray, cost: EdgeCost | EdgeCosts) -> FloatArray:
    chance = np.minimum(np.maximum(cost.density * fair_places / places, LEAST_DENSITY), MOST_DENSITY)
    no_edge = _each(math.log1p, -chance, dtype=np.float64)
    by_degree = -edges * _each(math.log, chance, dtype=np.float64) - (places - edges) * no_edge
    surprise: FloatArray = by_degree + cost.no_edge * fair_places - cost.odds * edges
    return surprise


def _linked_length(places: IntArray, edges: IntArray, fair_places: FloatArray, cost: EdgeCosts) -> IntArray:
    link = _in_nats(cost.link - cost.place * fair_places - _surprise(places, edges, fair_places, cost))
    counted = _each(_log_choose, places, edges) + _each(_log_number, np.minimum(places, cost.n_edges))
    length: IntArray = counted + link
    return length


def _pair_length(places: IntArray, edges: IntArray, fair_places: FloatArray, cost: EdgeCosts) -> IntArray:
    length = np.zeros(len(edges), dtype=np.int64)
    some = np.flatnonzero(edges)
    cost = _costs_of(cost, some)
    linked = _linked_length(places[some], edges[some], fair_places[some], cost)
    length[some] = np.minimum(_in_nats(cost.edge * edges[some]), linked)
    return length


def _costs_of(costs: EdgeCosts, others: IntArray) -> EdgeCosts:
    chosen: Any = (values[others] for values in costs)
    return EdgeCosts(*chosen)


def _fair_places(blocks: IntArray, others: IntArray, degrees: BlockDegrees) -> FloatArray:
    slot = degrees.slot[others]
    total = np.zeros(np.broadcast(blocks, others).shape)
    for degree_class in range(degrees.rate.shape[1]):
        total += degrees.block_degree[blocks, slot, degree_class] * degrees.rate[others, degree_class]
    return total


@kernels.block_edges.without_compiling
def _block_edges(
    first: int,
    own_labels: IntArray,
    sizes: IntArray,
    starts: IndexArray,
    stops: IndexArray,
    neighbours: IndexArray,
    labels: IndexArray,
    degrees: BlockDegrees,
) -> BlockPairs:
    units = first + np.arange(len(own_labels))
    edges = _unit_edges(units, own_labels, len(sizes), starts, stops, neighbours, labels, degrees)
    blocks, others = np.nonzero(edges)
    pair_starts = np.searchsorted(blocks, np.arange(len(sizes) + 1))
    return BlockPairs(pair_starts, others, edges[blocks, others], _fair_places(blocks, others, degrees))


def _unit_edges(
    units: IntArray,
    rows: IntArray,
    n_rows: int,
    starts: IndexArray,
    stops: IndexArray,
    neighbours: IndexArray,
    labels: IndexArray,
    degrees: BlockDegrees,
) -> IntArray:
    """Count the edges that the units of each row have with each block at the other end; shape (n_rows, n_labels)."""
    n_labels = len(degrees.slot)
    counts = stops[units] - starts[units]
    ends = np.cumsum(counts)
    places = np.arange(counts.sum()) + np.repeat(starts[units] - ends + counts, counts)
    cells = np.repeat(rows, counts) * n_labels + labels[neighbours[places]]
    return np.bincount(cells, minlength=n_rows * n_labels).reshape(n_rows, n_labels)


@kernels.edges_length.without_compiling
def _edges_length(
    places: IntArray, edges: IntArray, fair_places: FloatArray, n_pairs: int, n_places: int, n_edges: int
) -> tuple[int, EdgeCost]:
    density = min(max(n_edges / n_places, LEAST_DENSITY), MOST_DENSITY)
    best_cost = _edge_cost(n_pairs, 0, n_places, n_edges, density, n_edges)
    linked = _each(_log_choose, places, edges) + _each(_log_number, np.minimum(places, n_edges))
    linked -= _in_nats(_surprise(places, edges, fair_places, best_cost))
    fair = np.rint(fair_places * PLACE).astype(np.int64)
    fixed = _log_number(1 + min(n_pairs, n_edges))
    n_linked, rest_fair, rest_edges = 0, n_places * PLACE, n_edges
    best = fixed + _log_choose(n_places, n_edges)
    for _ in range(12):
        cost = _edge_cost(n_pairs, n_linked, max(rest_fair // PLACE, rest_edges), rest_edges, density, n_edges)
        before = n_linked, rest_fair, rest_edges
        is_linked = linked + _in_nats(cost.link - cost.place * fair_places) < _in_nats(cost.edge * edges)
        n_linked = int(is_linked.sum())
        rest_fair = n_places * PLACE - int(fair[is_linked].sum())
        rest_edges = n_edges - int(edges[is_linked].sum())
        rest_places = max(rest_fair // PLACE, rest_edges)
        total = fixed + int(linked[is_linked].sum())
        total += _log_choose(n_pairs, n_linked) + _log_choose(rest_places, rest_edges)
        if total < best:
            best = total
            best_cost = _edge_cost(n_pairs, n_linked, rest_places, rest_edges, density, n_edges)
        if before == (n_linked, rest_fair, rest_edges):
            break
    return best, best_cost


@search_kernels.linked_pairs.without_compiling
def _linked_pairs(pairs: BlockPairs, sizes: IntArray, other_sizes: IntArray, costs: EdgeCosts) -> BlockPairs:
    blocks = np.repeat(np.arange(len(sizes)), np.diff(pairs.starts))
    size, places, cost = sizes[blocks], other_sizes[pairs.others], _costs_of(costs, pairs.others)
    is_linked = np.zeros(len(blocks), dtype=np.bool_)
    for extra in (0, 1):
        edges, fair_places = pairs.n_edges + extra, pairs.fair_places * ((size + extra) / size)
        length = _linked_length((size + extra) * places, edges, fair_places, cost)
        is_linked |= length < _in_nats(cost.edge * edges)
    starts = np.searchsorted(blocks[is_linked], np.arange(len(sizes) + 1))
    return BlockPairs(starts, pairs.others[is_linked], pairs.n_edges[is_linked], pairs.fair_places[is_linked])


@search_kernels.pair_lengths.without_compiling
def _pair_lengths(pairs: BlockPairs, sizes: IntArray, other_sizes: IntArray, costs: EdgeCosts) -> IntArray:
    places = np.repeat(sizes, np.diff(pairs.starts)) * other_sizes[pairs.others]
    return _pair_length(places, pairs.n_edges, pairs.fair_places, _costs_of(costs, pairs.others))


@search_kernels.mark_neighbours.without_compiling
def _mark_neighbours(units: IntArray, pointers: IndexArray, neighbours: IndexArray, marked: BoolArray) -> None:
    for unit in units.tolist():
        marked[neighbours[pointers[unit] : pointers[unit + 1]]] = True


def _dense(pairs: BlockPairs, values: IntArray, n_labels: int) -> IntArray:
    """Return the values of the pairs as a matrix, 0 elsewhere; shape (n_blocks, n_labels)."""
    matrix = np.zeros((len(pairs.starts) - 1, n_labels), dtype=np.int64)
    matrix[np.repeat(np.arange(len(matrix)), np.diff(pairs.starts)), pairs.others] = values
    return matrix


@search_kernels.best_moves.without_compiling
def _best_moves(
    chosen: IntArray,
    first: int,
    own_labels: IntArray,
    pointers: IndexArray,
    neighbours: IndexArray,
    labels: IndexArray,
    sizes: IntArray,
    other_sizes: IntArray,
    pairs: BlockPairs,
    now: IntArray,
    other_starts: IntArray,  # noqa: ARG001 (one signature)
    by_other: IntArray,  # noqa: ARG001 (one signature)
    degrees: BlockDegrees,
    costs: EdgeCosts,
    one_block_less: int,
) -> tuple[IntArray, IntArray]:
    n_chosen, n_blocks, n_labels = len(chosen), len(sizes), len(other_sizes)
    own = own_labels[chosen]
    units, starts, stops = first + chosen, pointers[:-1], pointers[1:]
    unit_edges = _unit_edges(units, np.arange(n_chosen), n_chosen, starts, stops, neighbours, labels, degrees)
    every = np.arange(n_labels)
    degree, degree_class = degrees.degree[chosen][:, degrees.slot], degrees.degree_class[chosen][:, degrees.slot]
    unit_fair = degree * degrees.rate[every, degree_class]
    edges, before = _dense(pairs, pairs.n_edges, n_labels), _dense(pairs, now, n_labels)
    fair_places = _fair_places(np.arange(n_blocks)[:, None], every, degrees)

    is_listed, is_adjacent = edges > 0, unit_edges > 0

    def gained(units: IntArray, blocks: IntArray, involved: BoolArray, sign: int) -> IntArray:
        """Return by how much the pairs of a block get longer if a unit enters it (sign 1) or leaves it (sign −1)."""
        row, other = np.nonzero(involved)
        unit, block = units[row], blocks[row]
        after = np.zeros(involved.shape, dtype=np.int64)
        after[row, other] = _pair_length(
            (sizes[block] + sign) * other_sizes[other],
            edges[block, other] + sign * unit_edges[unit, other],
            np.maximum(fair_places[block, other] + sign * unit_fair[unit, other], 0.0),
            _costs_of(costs, other),
        )
        gain: IntArray = (after - before[blocks]).sum(axis=1)
        return gain

    leave = gained(np.arange(n_chosen), own, is_listed[own], -1)
    # A pair of blocks that isn't listed is background before and after.
    unit, other = np.nonzero(is_adjacent & ~is_listed[own])
    np.subtract.at(leave, unit, _in_nats(costs.edge[other] * unit_edges[unit, other]))
    is_near = is_adjacent.astype(np.float32) @ is_listed.T.astype(np.float32) > 0
    is_near[np.arange(n_chosen), own] = False
    units, blocks = np.nonzero(is_near)
    numbers = _each(_log_number, np.arange(1, sizes.max() + 2))
    change = np.ones((n_chosen, n_blocks), dtype=np.int64)  # no move that is not near is a candidate
    change[units, blocks] = (
        gained(units, blocks, is_listed[blocks] | is_adjacent[units], 1)
        + leave[units]
        + numbers[sizes[own[units]] - 1]
        - numbers[sizes[blocks]]
        + one_block_less * (sizes[own[units]] == 1)
    )
    best = change.min(axis=1)
    is_better = (best < 0) & ((change == best[:, None]).sum(axis=1) == 1)
    return np.where(is_better, change.argmin(axis=1), own), np.where(is_better, best, 0)


@search_kernels.best_merges.without_compiling
def _best_merges(
    sizes: IntArray,
    other_sizes: IntArray,
    pairs: BlockPairs,
    degrees: BlockDegrees,
    costs: EdgeCosts,
    one_block_less: int,
) -> tuple[IntArray, IntArray, IntArray]:
    n_blocks, every = len(sizes), np.arange(len(other_sizes))
    edges = _dense(pairs, pairs.n_edges, len(every))
    before = _dense(pairs, _pair_lengths(pairs, sizes, other_sizes, costs), len(every)).sum(axis=1)
    fair_places = _fair_places(np.arange(n_blocks)[:, None], every, degrees)
    is_listed = edges > 0
    one, two = np.nonzero(np.triu(is_listed.astype(np.float32) @ is_listed.T.astype(np.float32) > 0, 1))
    row, other = np.nonzero(is_listed[one] | is_listed[two])
    size = sizes[one] + sizes[two]
    after = np.zeros((len(one), len(every)), dtype=np.int64)
    after[row, other] = _pair_length(
        size[row] * other_sizes[other],
        edges[one[row], other] + edges[two[row], other],
        fair_places[one[row], other] + fair_places[two[row], other],
        _costs_of(costs, other),
    )
    value = after.sum(axis=1) - before[one] - before[two] + one_block_less - _each(_log_choose, size, sizes[one])
    change = np.zeros((n_blocks, n_blocks), dtype=np.int64)
    change[one, two] = change[two, one] = value
    best = np.minimum(change.min(axis=1), 0)
    one, two = np.nonzero((change == best[:, None]) & (best < 0)[:, None])
    return one, two, best[one]
