"""The inner loop of `modgraph.null`, compiled (imported on first use: numba takes half a second to load).

The set of edges is a hash table with linear probing. Memory is linear in the number of edges, whatever the number of
units.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import IntArray
from modgraph.compiled import njit

EMPTY = -1  # an empty slot of the hash table; keys are ≥ 0
SLOTS_PER_EDGE = 2  # slots of the table per edge, at least; their number is a power of two

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_ONE = np.uint64(0xBF58476D1CE4E5B9)
_MIX_TWO = np.uint64(0x94D049BB133111EB)


@njit(cache=True, inline="always")
def _mixed(value: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    """Return 64 well-mixed bits (the finalizer of SplitMix64)."""
    z = (value ^ (value >> np.uint64(30))) * _MIX_ONE
    z = (z ^ (z >> np.uint64(27))) * _MIX_TWO
    return z ^ (z >> np.uint64(31))


@njit(cache=True, inline="always")
def _slot(table: IntArray, key: int) -> np.int64:  # pragma: no cover (compiled)
    """Return the slot that holds `key`, or the empty slot where it would go."""
    last = len(table) - 1
    at = np.int64(_mixed(np.uint64(key) + _GOLDEN) >> np.uint64(1)) & last
    while table[at] != EMPTY and table[at] != key:
        at = (at + 1) & last
    return at


@njit(cache=True)
def _remove(table: IntArray, key: int) -> None:  # pragma: no cover (compiled)
    """Remove `key` and move later keys of its run back, so that no search ends early."""
    last = len(table) - 1
    hole = _slot(table, key)
    at = hole
    while True:
        at = (at + 1) & last
        if table[at] == EMPTY:
            break
        home = np.int64(_mixed(np.uint64(table[at]) + _GOLDEN) >> np.uint64(1)) & last
        # A key may move back to the hole only if that is not before its own first slot.
        if ((at - home) & last) >= ((at - hole) & last):
            table[hole] = table[at]
            hole = at
    table[hole] = EMPTY


@njit(cache=True)
def edge_table(sources: IntArray, targets: IntArray, width: int) -> IntArray:  # pragma: no cover (compiled)
    """Return the hash table of the keys ``source · width + target``."""
    size = 4
    while size < SLOTS_PER_EDGE * len(sources):
        size *= 2
    table = np.full(size, EMPTY, np.int64)
    for edge in range(len(sources)):
        key = sources[edge] * width + targets[edge]
        table[_slot(table, key)] = key
    return table


@njit(cache=True)
def swap_edges(
    sources: IntArray, targets: IntArray, width: int, table: IntArray, state: NDArray[np.uint64], n_attempts: int
) -> int:  # pragma: no cover (compiled)
    """Try `n_attempts` times to swap the targets of two random edges; return how many swaps were made.

    Edges a → b and c → d become a → d and c → b unless one of those exists. The two edges are drawn independently, so
    that they may be the same one: then nothing changes, and the chain has no period. `targets`, all below `width`,
    `table` (from `edge_table`) and `state` (of SplitMix64, one number) are changed in place.
    """
    n_edges = len(sources)
    seed = state[0]
    made = 0
    for _ in range(n_attempts):
        seed += _GOLDEN
        one = int((_mixed(seed) >> np.uint64(11)) * 2.0**-53 * n_edges)
        seed += _GOLDEN
        two = int((_mixed(seed) >> np.uint64(11)) * 2.0**-53 * n_edges)
        a, b, c, d = sources[one], targets[one], sources[two], targets[two]
        if a == c or b == d:
            continue
        first, second = a * width + d, c * width + b
        if table[_slot(table, first)] == first or table[_slot(table, second)] == second:
            continue
        _remove(table, a * width + b)
        _remove(table, c * width + d)
        table[_slot(table, first)] = first
        table[_slot(table, second)] = second
        targets[one] = d
        targets[two] = b
        made += 1
    state[0] = seed
    return made
