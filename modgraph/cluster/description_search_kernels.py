"""Compiled loops of `modgraph.cluster.description_search`: the best move of each unit, the best merge of each block."""

from __future__ import annotations

import numpy as np

from modgraph.arrays import BoolArray, IndexArray, IntArray
from modgraph.cluster.description_kernels import (
    BlockDegrees,
    BlockPairs,
    EdgeCosts,
    background_length,
    cost_at,
    fair_places_of,
    linked_length,
    log_choose,
    log_number,
    pair_length,
)
from modgraph.compiled import njit


@njit(cache=True)
def unit_fair_places(unit: int, other: int, degrees: BlockDegrees) -> float:  # pragma: no cover (compiled)
    """Return the fair places between a unit of the layer and a block."""
    slot = degrees.slot[other]
    places: float = degrees.degree[unit, slot] * degrees.rate[other, degrees.degree_class[unit, slot]]
    return places


@njit(cache=True)
def linked_pairs(
    pairs: BlockPairs, sizes: IntArray, other_sizes: IntArray, costs: EdgeCosts
) -> BlockPairs:  # pragma: no cover (compiled)
    """Keep the pairs of blocks that are linked, or would be with one unit and one edge more.

    Parameters
    ----------
    pairs : BlockPairs
        From `block_edges`, for the blocks of one layer.
    sizes : ndarray of int, shape (n_blocks,)
        Units in each block of that layer.
    other_sizes : ndarray of int, shape (n_labels,)
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
            cost = cost_at(costs, other)
            length = linked_length(sizes[block] * other_sizes[other], edges, fair_places, cost)
            is_linked = length < background_length(edges, cost)
            if not is_linked:
                fair_places *= (sizes[block] + 1) / sizes[block]
                length = linked_length((sizes[block] + 1) * other_sizes[other], edges + 1, fair_places, cost)
                is_linked = length < background_length(edges + 1, cost)
            if is_linked:
                kept[n_kept] = pair
                n_kept += 1
        starts[block + 1] = n_kept
    kept = kept[:n_kept]
    return BlockPairs(starts, pairs.others[kept], pairs.n_edges[kept], pairs.fair_places[kept])


@njit(cache=True)
def blocks_by_other(pairs: BlockPairs, n_labels: int) -> tuple[IntArray, IntArray]:  # pragma: no cover (compiled)
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
def pair_lengths(
    pairs: BlockPairs, sizes: IntArray, other_sizes: IntArray, costs: EdgeCosts
) -> IntArray:  # pragma: no cover (compiled)
    """Return `pair_length` of each pair."""
    lengths = np.empty(len(pairs.others), np.int64)
    for block in range(len(sizes)):
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            other = pairs.others[pair]
            places = sizes[block] * other_sizes[other]
            lengths[pair] = pair_length(places, pairs.n_edges[pair], pairs.fair_places[pair], cost_at(costs, other))
    return lengths


@njit(cache=True)
def mark_neighbours(
    units: IntArray, pointers: IndexArray, neighbours: IndexArray, marked: BoolArray
) -> None:  # pragma: no cover (compiled)
    """Set `marked`, shape (n_units,), at the neighbours of some units."""
    for unit in units:
        for neighbour in neighbours[pointers[unit] : pointers[unit + 1]]:
            marked[neighbour] = True


@njit(cache=True, nogil=True)
def best_moves(
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
    other_starts: IntArray,
    by_other: IntArray,
    degrees: BlockDegrees,
    costs: EdgeCosts,
    one_block_less: int,
) -> tuple[IntArray, IntArray]:  # pragma: no cover (compiled)
    """Find for some units of a layer the block of that layer where each shortens the description most.

    Parameters
    ----------
    chosen : ndarray of int, shape (n_chosen,)
        The units, counted within the layer.
    first, own_labels, pointers, neighbours, labels
        As for `modgraph.cluster.description_kernels.block_edges`.
    sizes, other_sizes, pairs, costs
        As for `linked_pairs`; `pairs` is what it returns.
    now : ndarray of int
        From `pair_lengths`.
    other_starts, by_other : ndarray of int
        From `blocks_by_other`.
    degrees : BlockDegrees
    one_block_less : int
        What one block less in this layer changes.

    Returns
    -------
    target : ndarray of int, shape (n_chosen,)
        The best block of each unit: its own where no move shortens the description, or two are equally good.
    change : ndarray of int, shape (n_chosen,)
        By how much that move changes the code length, ≤ 0.
    """
    n_blocks, n_labels = len(sizes), len(other_sizes)
    unit_edges = np.zeros(n_labels, np.int64)  # edges of the unit with each block
    adjacent = np.empty(n_labels, np.int64)  # blocks that the unit has edges with
    candidates = np.empty(n_blocks, np.int64)  # blocks of the layer linked to one of those
    is_candidate = np.zeros(n_blocks, np.bool_)
    last_listed = np.full(n_labels, -1, np.int64)  # the block in whose pairs each block was last seen
    target = own_labels[chosen]
    change = np.zeros(len(chosen), np.int64)
    for place in range(len(chosen)):
        index = chosen[place]
        own = own_labels[index]
        unit = first + index
        n_adjacent = 0
        n_candidates = 0
        for neighbour in neighbours[pointers[unit] : pointers[unit + 1]]:
            other = labels[neighbour]
            if unit_edges[other] == 0:
                adjacent[n_adjacent] = other
                n_adjacent += 1
                for block in by_other[other_starts[other] : other_starts[other + 1]]:
                    if block != own and not is_candidate[block]:
                        is_candidate[block] = True
                        candidates[n_candidates] = block
                        n_candidates += 1
            unit_edges[other] += 1
        leave = 0
        for pair in range(pairs.starts[own], pairs.starts[own + 1]):
            other = pairs.others[pair]
            last_listed[other] = own
            fair_places = max(pairs.fair_places[pair] - unit_fair_places(index, other, degrees), 0.0)
            places, edges = (sizes[own] - 1) * other_sizes[other], pairs.n_edges[pair] - unit_edges[other]
            leave += pair_length(places, edges, fair_places, cost_at(costs, other)) - now[pair]
        for other in adjacent[:n_adjacent]:
            # A pair of blocks that isn't listed is background before and after.
            if last_listed[other] != own:
                leave -= background_length(unit_edges[other], cost_at(costs, other))
        for other in pairs.others[pairs.starts[own] : pairs.starts[own + 1]]:
            last_listed[other] = -1
        best, tied = 0, False
        for block in candidates[:n_candidates]:
            is_candidate[block] = False
            total = leave + log_number(sizes[own]) - log_number(sizes[block] + 1)
            for pair in range(pairs.starts[block], pairs.starts[block + 1]):
                other = pairs.others[pair]
                last_listed[other] = block
                fair_places = pairs.fair_places[pair] + unit_fair_places(index, other, degrees)
                places, edges = (sizes[block] + 1) * other_sizes[other], pairs.n_edges[pair] + unit_edges[other]
                total += pair_length(places, edges, fair_places, cost_at(costs, other)) - now[pair]
            for other in adjacent[:n_adjacent]:
                if last_listed[other] != block:
                    fair_places = fair_places_of(block, other, degrees) + unit_fair_places(index, other, degrees)
                    places = (sizes[block] + 1) * other_sizes[other]
                    total += pair_length(places, unit_edges[other], fair_places, cost_at(costs, other))
            for other in pairs.others[pairs.starts[block] : pairs.starts[block + 1]]:
                last_listed[other] = -1
            if sizes[own] == 1:
                total += one_block_less
            if total < best:
                best, tied = total, False
                target[place] = block
            elif total == best and best < 0:
                tied = True
        if tied:
            target[place] = own
        else:
            change[place] = best
        for other in adjacent[:n_adjacent]:
            unit_edges[other] = 0
    return target, change


@njit(cache=True)
def best_merges(
    sizes: IntArray,
    other_sizes: IntArray,
    pairs: BlockPairs,
    degrees: BlockDegrees,
    costs: EdgeCosts,
    one_block_less: int,
) -> tuple[IntArray, IntArray, IntArray]:  # pragma: no cover (compiled)
    """Find for each block of a layer the blocks of that layer with which it is best joined.

    Parameters
    ----------
    sizes, other_sizes, pairs, degrees, costs, one_block_less
        As for `best_moves`.

    Returns
    -------
    one, two : ndarray of int
        Pairs of blocks of which the second is a best partner of the first (several where they are equally good).
    change : ndarray of int
        By how much joining the pair changes the code length, < 0.
    """
    n_blocks, n_labels = len(sizes), len(other_sizes)
    other_starts, by_other = blocks_by_other(pairs, n_labels)
    now = pair_lengths(pairs, sizes, other_sizes, costs)
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
            for partner in by_other[other_starts[other] : other_starts[other + 1]]:
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
                places, cost = size * other_sizes[other], cost_at(costs, other)
                fair_places = pairs.fair_places[pair] + fair_places_of(block, other, degrees)
                total += pair_length(places, edges_to[other] + pairs.n_edges[pair], fair_places, cost) - now[pair]
                if edges_to[other] > 0:
                    # The next loop adds this again.
                    total -= pair_length(places, edges_to[other], fair_places, cost)
            for pair in range(pairs.starts[block], pairs.starts[block + 1]):
                other = pairs.others[pair]
                fair_places = pairs.fair_places[pair] + fair_places_of(partner, other, degrees)
                total += pair_length(size * other_sizes[other], pairs.n_edges[pair], fair_places, cost_at(costs, other))
            value[i] = total
            best = min(best, total)
        for i in range(n_candidates):
            if value[i] == best and best < 0:
                ones.append(block)
                twos.append(candidates[i])
                changes.append(best)
        for pair in range(pairs.starts[block], pairs.starts[block + 1]):
            edges_to[pairs.others[pair]] = 0
    return np.array(ones, np.int64), np.array(twos, np.int64), np.array(changes, np.int64)
