"""Training of one sparse network, compiled: computes its edges alone.

The values of a unit for a block of samples are a contiguous row, so an edge adds a multiple of one row to another,
which compilers vectorise. The rows of all units stay in the processor's cache.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modgraph.compiled import njit
from modgraph.sculpt.train import BETA1, BETA2, EPSILON

BLOCK = 128
"""Samples at a time; the rows of a thousand units take half a megabyte."""

LOSS_CODES = ("binary cross-entropy", "softmax cross-entropy", "squared error")
"""Losses by the number that `train_epoch` takes."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class SparseNetwork(NamedTuple):
    """The edges of one network, and the moments of Adam; training changes them in place.

    Units are numbered through all layers, inputs first; the edges are sorted by target, then by source.
    """

    n_inputs: int
    n_outputs: int
    start: Ints  # (units + 1,): edges start[u] … start[u + 1] − 1 lead into unit u
    source: Ints  # (edges,)
    parameters: Floats  # (edges + units,): the weights, then the biases
    moment1: Floats
    moment2: Floats


@njit(cache=True, nogil=True, fastmath=True)
def train_epoch(  # pragma: no cover (compiled)
    network: Any,
    inputs: Floats,
    targets: Floats,
    order: Ints,
    loss: int,
    batch_size: int,
    steps_before: int,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Train for one epoch, in place.

    Samples are rows of `inputs` (n, n_inputs) and `targets` (n, n_outputs), taken in `order` (n,), `batch_size` in a
    step; `loss` is a place in `LOSS_CODES`; `steps_before` is the number of steps taken before.
    """
    n_inputs, n_outputs, start, source, parameters, moment1, moment2 = network
    n_edges, n_units = len(source), len(start) - 1
    first_output = n_units - n_outputs
    weight, bias = parameters[:n_edges], parameters[n_edges:]
    values = np.empty((n_units, BLOCK), dtype=np.float32)
    slopes = np.empty((n_units, BLOCK), dtype=np.float32)
    gradient = np.empty_like(parameters)
    step = steps_before
    for batch in range(0, len(order), batch_size):
        size = min(batch_size, len(order) - batch)
        gradient[:] = 0
        for block in range(batch, batch + size, BLOCK):
            rows = order[block : min(block + BLOCK, batch + size)]
            n = len(rows)
            for unit in range(n_inputs):
                for at in range(n):
                    values[unit, at] = inputs[rows[at], unit]
            for unit in range(n_inputs, n_units):
                value = values[unit]
                value[:n] = bias[unit]
                for edge in range(start[unit], start[unit + 1]):
                    below, w = values[source[edge]], weight[edge]
                    for at in range(n):
                        value[at] += w * below[at]
                if unit < first_output:
                    for at in range(n):
                        value[at] = max(value[at], np.float32(0))
            slopes[n_inputs:first_output] = 0
            share = np.float32(1 / size) if loss == 1 else np.float32((1 + (loss == 2)) / (n_outputs * size))
            if loss == 1:
                for at in range(n):  # outputs become their softmax
                    top, total = values[first_output, at], np.float32(0)
                    for unit in range(first_output + 1, n_units):
                        top = max(top, values[unit, at])
                    for unit in range(first_output, n_units):
                        values[unit, at] = math.exp(values[unit, at] - top)
                        total += values[unit, at]
                    for unit in range(first_output, n_units):
                        values[unit, at] /= total
            for unit in range(first_output, n_units):
                for at in range(n):
                    logit = values[unit, at]
                    output = 1 / (1 + math.exp(-logit)) if loss == 0 else np.float64(logit)
                    slopes[unit, at] = (output - targets[rows[at], unit - first_output]) * share
            for unit in range(n_units - 1, n_inputs - 1, -1):
                value, slope = values[unit], slopes[unit]
                if unit < first_output:
                    for at in range(n):
                        if value[at] <= 0:
                            slope[at] = 0
                if start[unit] < start[unit + 1]:
                    total = np.float32(0)
                    for at in range(n):
                        total += slope[at]
                    gradient[n_edges + unit] += total
                for edge in range(start[unit], start[unit + 1]):
                    below = values[source[edge]]
                    total = np.float32(0)
                    for at in range(n):
                        total += slope[at] * below[at]
                    gradient[edge] += total
                    if source[edge] >= n_inputs:
                        below, w = slopes[source[edge]], weight[edge]
                        for at in range(n):
                            below[at] += w * slope[at]
        step += 1
        c1, c2 = 1 - BETA1**step, math.sqrt(1 - BETA2**step)
        for at in range(len(parameters)):
            g = gradient[at] + weight_decay * parameters[at]
            moment1[at] += (1 - BETA1) * (g - moment1[at])
            moment2[at] = BETA2 * moment2[at] + (1 - BETA2) * g * g
            parameters[at] -= learning_rate * c2 / c1 * moment1[at] / (math.sqrt(moment2[at]) + EPSILON * c2)
