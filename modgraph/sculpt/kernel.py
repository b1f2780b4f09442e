"""Training of small networks on a CPU, compiled: the results of `train` and `prune`, up to rounding.

`LANES` networks are trained side by side: lane k of every vector belongs to network k, so that one instruction serves
all of them. They are packed to the edges that any of them has left (a bias is an edge from unit 0, whose value is 1),
and their parameters stay in the processor's cache for a whole training run. Samples come in blocks of `ROWS`.

The bits of a network don't depend on the networks beside it: no operation mixes lanes, every sum runs over the
network's own edges in their own order, and an edge that only another network has adds exactly 0.
"""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modgraph.arrays import IntArray
from modgraph.compiled import njit
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import BETA1, BETA2, EPSILON, Draws, TrainSettings
from modgraph.sculpt.vectors import (
    LANES,
    ROWS,
    block,
    fabs,
    fma,
    larger,
    over_rows,
    power_of_two,
    rint,
    row,
    sqrt,
    store,
    where,
)

compiled = njit(nogil=True, cache=True, error_model="numpy")


class Networks(NamedTuple):
    """The whole stack, and what its parameters mean."""

    parameters: Any  # (B, P) float32
    kept: Any  # (B, P) bool
    ends: Any  # (2, P): source and target unit of each parameter, 0 … number of units; unit 0 is always 1
    layers: Any  # first unit of every layer (unit 0 is a layer by itself), then the number of units


class Samples(NamedTuple):
    """Rows of a table."""

    inputs: Any  # (rows, n_in) float32
    targets: Any  # (rows, n_out) float32


class Packed(NamedTuple):
    """`LANES` networks, packed. The edges into unit u are ``start[u]`` … ``start[u + 1] − 1``, sorted by source."""

    layers: Any  # as in Networks
    start: Any  # (units + 1,)
    source: Any  # (edges,)
    unit: Any  # (units, LANES): the unit of each network that is packed here, or −1
    parameter: Any  # (edges, LANES): the parameter of each network that is packed here, or −1
    present: Any  # (edges · LANES,) float32: 1 where a network has the edge
    weight: Any  # (edges · LANES,) float32: 0 where a network lacks the edge
    gradient: Any  # (edges · LANES,) float32
    moment1: Any  # (edges · LANES,) float32
    moment2: Any  # (edges · LANES,) float32
    values: Any  # (units · ROWS · LANES,) float32
    slopes: Any  # (units · ROWS · LANES,) float32: ∂loss/∂value; at the outputs the targets, until `_backward`
    counts: Any  # (ROWS · LANES,) float32: weight of each sample in the loss; 0 in unused rows


@compiled
def _exp(x: Any) -> Any:  # pragma: no cover
    """Return eˣ for x ≤ 0, to about one unit in the last place (Cephes' polynomial)."""
    x = larger(x, -87.0)
    n = rint(x * 1.44269504088896341)
    x = fma(n, 2.12194440e-4, fma(n, -0.693359375, x))
    y = fma(fma(fma(x, 1.9875691500e-4, 1.3981999507e-3), x, 8.3334519073e-3), x, 4.1665795894e-2)
    y = fma(fma(y, x, 1.6666665459e-1), x, 5.0000001201e-1)
    return (fma(y * x, x, x) + 1.0) * power_of_two(n)


@compiled
def _sigmoid(z: Any) -> Any:  # pragma: no cover
    e = _exp(fabs(z) * -1.0)
    return where(z, 1.0, e) / (e + 1.0)


@compiled
def _loss(z: Any, y: Any) -> Any:  # pragma: no cover
    """Return the binary cross-entropy of logits `z` and targets `y`, by log(1 + e) = 2 artanh(e / (2 + e))."""
    e = _exp(fabs(z) * -1.0)
    s = e / (e + 2.0)
    q = s * s
    series = fma(fma(fma(q, 1 / 13, 1 / 11), q, 1 / 9), q, 1 / 7)
    return where(z, z, 0.0) - z * y + fma(fma(fma(series, q, 1 / 5), q, 1 / 3), q, 1.0) * s * 2.0


@compiled
def _aligned_zeros(size: int) -> Any:  # pragma: no cover
    """Return zeros that begin on a cache line: a block that crosses two lines takes twice as long to load."""
    zeros = np.zeros(size + 16, np.float32)
    start = -(zeros.ctypes.data // 4) % 16
    return zeros[start : start + size]


@compiled
def _pack(networks: Any, members: Any) -> Any:  # pragma: no cover
    """Pack the networks `members` to the edges that any of them has, and the units at the ends of these."""
    ends, dense = networks.ends, networks.layers
    n_kept, kept = np.zeros(LANES, np.int64), np.empty((LANES, ends.shape[1]), np.int64)
    live = np.zeros((dense[-1], LANES), np.bool_)
    for lane in range(LANES):
        for p in range(ends.shape[1]):
            if networks.kept[members[lane], p]:
                kept[lane, n_kept[lane]] = p
                n_kept[lane] += 1
                live[ends[0, p], lane] = live[ends[1, p], lane] = True
    layers, unit = np.zeros_like(dense), np.full((dense[-1], LANES), -1)
    place = np.zeros((dense[-1], LANES), np.int64)  # of each unit when packed; a network's units keep their order
    for layer in range(len(dense) - 1):
        for lane in range(LANES):
            free = layers[layer]
            for u in range(dense[layer], dense[layer + 1]):
                if live[u, lane] or not 1 < layer < len(dense) - 2:
                    place[u, lane], unit[free, lane] = free, u
                    free += 1
            layers[layer + 1] = max(layers[layer + 1], free)
    n = layers[-1]
    number = np.zeros(n * n, np.int64)  # [target, source]: 1 + number of the edge; 0 where there is none
    at = np.empty_like(kept)  # [lane, k]: place of the edge in `number`
    for lane in range(LANES):
        for k in range(n_kept[lane]):
            p = kept[lane, k]
            at[lane, k] = place[ends[1, p], lane] * n + place[ends[0, p], lane]
            number[at[lane, k]] = 1
    start, source = np.zeros(n + 1, np.int64), np.empty(number.sum(), np.int64)
    for u in range(n):
        start[u + 1] = start[u]
        for v in range(u):
            if number[u * n + v]:
                source[start[u + 1]] = v
                start[u + 1] += 1
                number[u * n + v] = start[u + 1]
    size = len(source) * LANES
    parameter, present, weight = np.full((len(source), LANES), -1), _aligned_zeros(size), _aligned_zeros(size)
    for lane in range(LANES):
        for k in range(n_kept[lane]):
            e, p = number[at[lane, k]] - 1, kept[lane, k]
            parameter[e, lane] = p
            present[e * LANES + lane] = 1
            weight[e * LANES + lane] = networks.parameters[members[lane], p]
    gradient, moment1, moment2 = _aligned_zeros(size), _aligned_zeros(size), _aligned_zeros(size)
    size = n * ROWS * LANES
    values, slopes, counts = _aligned_zeros(size), _aligned_zeros(size), _aligned_zeros(ROWS * LANES)
    values[: ROWS * LANES] = 1
    return Packed(
        layers, start, source, unit, parameter, present, weight, gradient, moment1, moment2, values, slopes, counts
    )


@compiled
def _forward(packed: Any, samples: Any, first: Any, at: int, rows: int, count: float) -> None:  # pragma: no cover
    """Fill the values for `rows` samples from row ``first[lane] + at`` on; outputs are before their sigmoid."""
    values, slopes, layers = packed.values, packed.slopes, packed.layers
    for columns, array, unit in ((samples.inputs, values, 1), (samples.targets, slopes, layers[-2])):
        for r in range(ROWS):
            for column in range(columns.shape[1]):
                place = ((unit + column) * ROWS + r) * LANES
                for lane in range(LANES):
                    array[place + lane] = columns[first[lane] + at + min(r, rows - 1), column]
    for r in range(ROWS):
        for lane in range(LANES):
            packed.counts[r * LANES + lane] = count if r < rows else 0
    zero = block(values, 0) * 0.0
    for u in range(layers[2], layers[-1]):
        z = zero
        for e in range(packed.start[u], packed.start[u + 1]):
            z = fma(row(packed.weight, e), block(values, packed.source[e]), z)
        if u < layers[-2]:
            z = where(z, z, 0.0)
            store(slopes, u, zero)
        store(values, u, z)


@compiled
def _backward(packed: Any, first: bool, step: float, epsilon: float, decay: float) -> None:  # pragma: no cover
    """Fill the slopes and add these samples to the gradient; the `first` samples of a batch start it from 0.

    A `step` other than 0 marks the last samples of a batch: Adam takes its step, as in `modgraph.sculpt.train._adam`.
    """
    values, slopes, weight, layers = packed.values, packed.slopes, packed.weight, packed.layers
    counts = block(packed.counts, 0)
    for u in range(layers[-1] - 1, layers[2] - 1, -1):
        value, slope = block(values, u), block(slopes, u)
        slope = where(value, slope, 0.0) if u < layers[-2] else (_sigmoid(value) - slope) * counts
        for e in range(packed.start[u], packed.start[u + 1]):
            w, v = row(weight, e), packed.source[e]
            if v >= layers[2]:
                store(slopes, v, fma(w, slope, block(slopes, v)))
            g = over_rows(slope, block(values, v))
            if not first:
                g = g + row(packed.gradient, e)
            if step == 0:
                store(packed.gradient, e, g)
                continue
            g = fma(w, decay, g * row(packed.present, e))
            m = row(packed.moment1, e)
            m = fma(g - m, 1 - BETA1, m)
            s = fma(g * g, 1 - BETA2, row(packed.moment2, e) * BETA2)
            store(packed.moment1, e, m)
            store(packed.moment2, e, s)
            store(weight, e, w - m / (sqrt(s) + epsilon) * step)


@compiled
def _train(packed: Any, drawn: Any, first: Any, table: Any, run: Any) -> Any:  # pragma: no cover
    """Return the weights after each network's best epoch, and how many output bits were correct then."""
    epochs, batch, rate, decay = run
    n, n_out = table.targets.shape
    best, table_start = _aligned_zeros(len(packed.weight)), np.zeros(LANES, np.int64)
    zero = row(packed.values, 0) * 0.0
    best_right, best_loss = zero - 1.0, zero
    power1 = power2 = 1.0
    for epoch in range(epochs):
        for begin in range(0, n, batch):
            size = min(batch, n - begin)
            power1, power2 = power1 * BETA1, power2 * BETA2
            step, epsilon = rate * math.sqrt(1 - power2) / (1 - power1), EPSILON * math.sqrt(1 - power2)
            for at in range(0, size, ROWS):
                _forward(packed, drawn, first, epoch * n + begin + at, min(ROWS, size - at), 1 / (size * n_out))
                _backward(packed, at == 0, step if at + ROWS >= size else 0.0, epsilon, decay)
        right = loss = zero
        for at in range(0, n, ROWS):
            _forward(packed, table, table_start, at, min(ROWS, n - at), 1.0)
            for u in range(packed.layers[-2], packed.layers[-1]):
                z, y = block(packed.values, u), block(packed.slopes, u)
                right = right + over_rows(where(z, y, 1.0 - y), block(packed.counts, 0))
                loss = loss + over_rows(_loss(z, y), block(packed.counts, 0))
        better = where(right - best_right, 1.0, where(best_right - right, 0.0, best_loss - loss))
        best_right, best_loss = where(better, right, best_right), where(better, loss, best_loss)
        for e in range(len(packed.source)):
            store(best, e, where(better, row(packed.weight, e), row(best, e)))
    correct = np.empty(LANES, np.float32)
    store(correct, 0, best_right)
    return best, correct


@compiled
def _train_share(
    networks: Any, order: Any, drawn: Any, first: Any, table: Any, run: Any, best: Any, correct: Any
) -> None:  # pragma: no cover
    """Train the networks in `order`; fill their rows of `best` and `correct`."""
    for at in range(0, len(order), LANES):
        members = order[np.minimum(np.arange(at, at + LANES), len(order) - 1)]
        packed = _pack(networks, members)
        weight, right = _train(packed, drawn, first[members], table, run)
        for lane in range(LANES):
            correct[members[lane]] = right[lane]
            for e in range(len(packed.source)):
                if packed.parameter[e, lane] >= 0:
                    best[members[lane], packed.parameter[e, lane]] = weight[e * LANES + lane]


@compiled
def _score_share(networks: Any, order: Any, table: Any, scores: Any) -> None:  # pragma: no cover
    """Score the hidden units of the networks in `order`; fill their rows of `scores`."""
    n, n_out = table.targets.shape
    first_hidden, table_start = networks.layers[2], np.zeros(LANES, np.int64)
    for at in range(0, len(order), LANES):
        members = order[np.minimum(np.arange(at, at + LANES), len(order) - 1)]
        packed = _pack(networks, members)
        total = np.zeros(packed.layers[-1] * LANES, np.float32)
        for begin in range(0, n, ROWS):
            _forward(packed, table, table_start, begin, min(ROWS, n - begin), 1 / n_out)
            _backward(packed, True, 0.0, 0.0, 0.0)
            for u in range(packed.layers[2], packed.layers[-2]):
                scale = block(packed.values, 0) / float(n)
                each = fabs(block(packed.values, u) * block(packed.slopes, u))
                store(total, u, over_rows(each, scale) + row(total, u))
        for u in range(packed.layers[2], packed.layers[-2]):
            for lane in range(LANES):
                if packed.unit[u, lane] >= 0:
                    scores[members[lane], packed.unit[u, lane] - first_hidden] = total[u * LANES + lane]


def train(
    stack: StackedMLP, *, draws: Draws, stream: Tensor, task: Task, settings: TrainSettings, threads: int = 1
) -> tuple[StackedMLP, Tensor]:
    """Train a stack once and return each network as it was after its best epoch, as `modgraph.sculpt.train.train`."""
    best, correct = torch.zeros_like(stack.parameters), torch.empty_like(stream)
    drawn = Samples(draws.inputs.flatten(0, 2).numpy(), draws.targets.flatten(0, 2).numpy())
    first = stream.numpy() * (settings.epochs * task.n_samples)
    run = (settings.epochs, settings.batch_size, float(settings.learning_rate), float(settings.weight_decay))
    work = (drawn, first, _table(task), run, best.numpy(), correct.numpy())
    _in_threads(threads, _train_share, stack, *work)
    return dataclasses.replace(stack, parameters=best), correct


def unit_score(stack: StackedMLP, task: Task, *, threads: int = 1) -> Tensor:
    """Score every hidden unit, as `modgraph.sculpt.prune.unit_score`."""
    scores = torch.zeros(stack.n_networks, sum(stack.sizes[1:-1]))
    _in_threads(threads, _score_share, stack, _table(task), scores.numpy())
    return scores


def _table(task: Task) -> Samples:
    return Samples(task.inputs.numpy(), task.targets.numpy())


def _in_threads(threads: int, work: Any, stack: StackedMLP, *rest: Any) -> None:
    """Do `work` on the whole stack. Networks of similar size are packed together, which leaves the fewest edges."""
    networks = Networks(stack.parameters.numpy(), stack.kept.numpy(), *_meaning(stack.sizes))
    order = np.argsort(networks.kept.sum(1), kind="stable")
    packs = np.split(order, range(LANES, len(order), LANES))
    n_shares = min(4 * threads, len(packs))
    shares = [np.concatenate(packs[share::n_shares]) for share in range(n_shares)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda share: work(networks, share, *rest), shares))


@lru_cache
def _meaning(sizes: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """Return `ends` and `layers` of Networks."""
    layers = np.cumsum([0, 1, *sizes])
    units = [np.arange(*ends) for ends in pairwise(layers.tolist())]
    edges = [np.stack([np.tile(v, len(u)), np.repeat(u, len(v))]) for v, u in pairwise(units[1:])]
    biases = [np.stack([np.zeros_like(u), u]) for u in units[2:]]
    return np.concatenate([*edges, *biases], axis=1), layers
