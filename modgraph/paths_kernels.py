"""The inner loops of `modgraph.paths`, compiled (imported on first use: numba takes half a second to load).

A count is a float times 2 to a multiple of `STEP`: ``value · 2^(STEP · exponent)``, with values at most 2^`STEP`.
"""

from __future__ import annotations

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.compiled import njit

STEP = 500  # bits of one step of the exponent; the product of two values stays a finite float
_LARGEST = 2.0**STEP
_SMALLEST = 2.0**-STEP


@njit(cache=True)
def count_paths(
    sources: IntArray, targets: IntArray, begins: BoolArray, open_units: BoolArray
) -> tuple[FloatArray, IntArray]:  # pragma: no cover (compiled)
    """Count for each unit the paths that lead to it, as value and exponent, shapes (n_units,).

    All edges into a unit come before those that leave it. Paths begin where `begins` is True, and use no unit where
    `open_units` is False.
    """
    value = np.zeros(len(begins))
    exponent = np.zeros(len(begins), np.int64)
    for unit in range(len(begins)):
        if begins[unit] and open_units[unit]:
            value[unit] = 1.0
    for edge in range(len(sources)):
        source, target = sources[edge], targets[edge]
        more = value[source]
        if more == 0.0 or not open_units[target]:
            continue
        ahead = exponent[source] - exponent[target]
        if ahead == 0 or value[target] == 0.0:
            value[target] += more
            exponent[target] = exponent[source]
        elif ahead == 1:
            value[target] = value[target] * _SMALLEST + more
            exponent[target] = exponent[source]
        elif ahead > 1:
            value[target] = more
            exponent[target] = exponent[source]
        elif ahead == -1:
            value[target] += more * _SMALLEST
        if value[target] > _LARGEST:
            value[target] *= _SMALLEST
            exponent[target] += 1
    return value, exponent


@njit(cache=True)
def products(
    ones: IntArray,
    twos: IntArray,
    value_one: FloatArray,
    exponent_one: IntArray,
    value_two: FloatArray,
    exponent_two: IntArray,
    total: float,
    exponent: int,
) -> FloatArray:  # pragma: no cover (compiled)
    """Return the products of counts at `ones` and counts at `twos`, as shares of a total (0 where it underflows)."""
    shares = np.empty(len(ones))
    for i in range(len(ones)):
        one, two = ones[i], twos[i]
        share = value_one[one] * (value_two[two] / total)
        steps = exponent_one[one] + exponent_two[two] - exponent
        # A share is at most 1, so that `steps` is at most 1 where it isn't 0.
        for _ in range(min(abs(steps), 4)):
            share *= _LARGEST if steps > 0 else _SMALLEST
        shares[i] = share
    return shares
