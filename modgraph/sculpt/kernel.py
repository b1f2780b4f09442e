"""The compiled way to train networks on a CPU: the numbers of `train` and `prune`, up to rounding, in cache.

`LANES` networks make a group: lane k of every vector belongs to network k, and the instructions of
one network train all. A group is packed to the edges that any of its networks has left (a bias is
an edge from unit 0, which is always 1) and goes through a whole training run while its parameters
stay in the cache. Samples come in blocks of `ROWS`.

A network's bits do not depend on its company: no operation mixes lanes, every sum runs over the
network's own edges in their own order, and an edge that only a neighbour has adds exactly 0.

The first half teaches numba vectors, the second uses them. (Left to itself, LLVM makes vectors of
half of these loops, and the result runs at a third of the speed at best.)
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]  # numba's compiler; it ships no type information
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray
from torch import Tensor

from modgraph.compiled import njit
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import BETA1, BETA2, EPSILON, Draws, TrainSettings

__all__ = ["train", "unit_scores"]

LANES, ROWS = 8, 8  # a block, ROWS × LANES floats, is 4 to 16 registers, according to the machine


class Vector(types.Type):
    """Numba's type of a vector of `size` floats: a row (one number a network) or a block (one row a sample)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.llvm = ir.VectorType(ir.FloatType(), size)
        super().__init__(name=f"Vector{size}")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.llvm)  # type: ignore[no-untyped-call]


ROW, BLOCK = Vector(LANES), Vector(LANES * ROWS)


def _pick(builder: Any, vector: Any, places: list[int]) -> Any:
    """Emit the vector of the elements of `vector` at `places`."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _widened(context: Any, builder: Any, value: Any, kind: Any, wanted: Vector) -> Any:
    """Emit `value` as a vector of the `wanted` type: a number fills it, a row is repeated for every sample."""
    if kind == wanted:
        return value
    if kind == ROW:
        return _pick(builder, value, [*range(LANES)] * ROWS)
    number = context.cast(builder, value, kind, types.float32)
    vector = builder.insert_element(ir.Constant(ROW.llvm, ir.Undefined), number, ir.IntType(32)(0))
    return _pick(builder, vector, [0] * wanted.size)


def _operation(emit: Callable[..., Any], arity: int, result: Vector | None = None) -> Any:
    """Return a function of `arity` vectors and numbers, at least one of them a vector, for compiled code."""

    def typed(*kinds: Any) -> Any:
        wanted = max((kind for kind in kinds if isinstance(kind, Vector)), key=lambda kind: kind.size)

        def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
            pairs = zip(values, kinds, strict=True)
            return emit(builder, *(_widened(context, builder, value, kind, wanted) for value, kind in pairs))

        return (result or wanted)(*kinds), generate

    shapes = (lambda _, a: typed(a), lambda _, a, b: typed(a, b), lambda _, a, b, c: typed(a, b, c))
    return intrinsic(shapes[arity - 1])


def _llvm(name: str) -> Callable[..., Any]:
    """Return what emits a call of LLVM's function `name`."""

    def emit(builder: Any, *values: Any) -> Any:
        kind = values[0].type
        function = ir.FunctionType(kind, [kind] * len(values))
        return builder.call(get_or_insert_function(builder.module, function, f"llvm.{name}.v{kind.count}f32"), values)

    return emit


def _where(builder: Any, x: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, ir.Constant(x.type, None)), a, b)


def _power_of_two(builder: Any, x: Any) -> Any:
    whole = ir.VectorType(ir.IntType(32), x.type.count)
    exponent = builder.add(builder.fptosi(x, whole), whole([127] * x.type.count))
    return builder.bitcast(builder.shl(exponent, whole([23] * x.type.count)), x.type)


def _over_rows(builder: Any, a: Any, b: Any) -> Any:
    total = ir.Constant(ROW.llvm, None)
    for start in range(0, ROWS * LANES, LANES):
        places = [*range(start, start + LANES)]
        total = _llvm("fma")(builder, _pick(builder, a, places), _pick(builder, b, places), total)
    return total


def _operator(instruction: str) -> Callable[..., Any]:
    """Return the overload of a Python operator for vectors."""
    emitted = _operation(lambda builder, a, b: getattr(builder, instruction)(a, b), 2)

    def of_vectors(a: Any, b: Any) -> Any:
        def apply(a: Any, b: Any) -> Any:
            return emitted(a, b)

        return apply if isinstance(a, Vector) or isinstance(b, Vector) else None

    return of_vectors


def _address(context: Any, builder: Any, array: Any, kind: Any, place: Any, vector: Vector) -> Any:
    """Emit where a flat array has its row, or block, number `place`."""
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [builder.mul(place, place.type(vector.size))]), vector.llvm.as_pointer())


def _load(vector: Vector) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, values[0], signature.args[0], values[1], vector), align=4)

    return intrinsic(lambda _, array, place: (vector(array, place), generate))


def _store(_: Any, array: Any, place: Any, vector: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, values[0], array, values[1], vector), align=4)
        return context.get_dummy_value()

    return types.void(array, place, vector), generate


row, block = _load(ROW), _load(BLOCK)  # (array, i): number i of the rows, or blocks, of a flat float32 array
store: Any = intrinsic(_store)  # (array, i, vector): put it there
overload(operator.add)(_operator("fadd"))
overload(operator.sub)(_operator("fsub"))
overload(operator.mul)(_operator("fmul"))
overload(operator.truediv)(_operator("fdiv"))
fma = _operation(_llvm("fma"), 3)  # a · b + c, rounded once
sqrt, rint, fabs = (_operation(_llvm(name), 1) for name in ("sqrt", "rint", "fabs"))
larger = _operation(_llvm("maxnum"), 2)
where = _operation(_where, 3)  # where x > 0: a, else b
power_of_two = _operation(_power_of_two, 1)  # of a whole number, −126 … 127
over_rows = _operation(_over_rows, 2, ROW)  # Σ a · b over the rows of two blocks

compiled = njit(nogil=True, cache=True, error_model="numpy")


class Networks(NamedTuple):
    """The whole stack, and what its parameters mean."""

    parameters: Any  # (B, P) float32
    kept: Any  # (B, P) bool
    ends: Any  # (2, P): the units that each parameter joins, 0 … number of units; unit 0 is always 1
    layers: Any  # the first unit of every layer (unit 0 is one by itself), and one past the last


class Samples(NamedTuple):
    """Rows of a table."""

    inputs: Any  # (rows, n_in) float32
    targets: Any  # (rows, n_out) float32


class Group(NamedTuple):
    """Networks side by side, packed. The edges into unit u are ``start[u]`` … ``start[u + 1]``, by source."""

    layers: Any  # as of Networks
    start: Any
    source: Any  # (edges,)
    unit: Any  # (units, LANES): which of its units each network has there, or −1
    parameter: Any  # (edges, LANES): which of its parameters each network has there, or −1
    own: Any  # (edges · LANES,) float32: 1 where it has one
    weight: Any  # the same shape; 0 where it has none
    gradient: Any  # the same
    moment1: Any
    moment2: Any
    values: Any  # (units · ROWS · LANES,) float32
    slopes: Any  # the same shape: ∂loss/∂value; at the outputs the targets, until `_backward`
    counts: Any  # (ROWS · LANES,) float32: how much a sample counts; 0 in rows that are not in use


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
    """Return the binary cross-entropy of outputs before their sigmoid; log(1 + e) = 2 artanh(e / (2 + e))."""
    e = _exp(fabs(z) * -1.0)
    s = e / (e + 2.0)
    q = s * s
    series = fma(fma(fma(q, 1 / 13, 1 / 11), q, 1 / 9), q, 1 / 7)
    return where(z, z, 0.0) - z * y + fma(fma(fma(series, q, 1 / 5), q, 1 / 3), q, 1.0) * s * 2.0


@compiled
def _room(size: int) -> Any:  # pragma: no cover
    """Return zeros that begin on a cache line: a block that straddles lines takes twice as long to load."""
    room = np.zeros(size + 16, np.float32)
    start = -(room.ctypes.data // 4) % 16
    return room[start : start + size]


@compiled
def _pack(networks: Any, members: Any) -> Any:  # pragma: no cover
    """Pack the networks `members` to the edges that any of them has, and the units that these join."""
    ends, dense = networks.ends, networks.layers
    n_mine, mine = np.zeros(LANES, np.int64), np.empty((LANES, ends.shape[1]), np.int64)
    live = np.zeros((dense[-1], LANES), np.bool_)
    for lane in range(LANES):
        for p in range(ends.shape[1]):
            if networks.kept[members[lane], p]:
                mine[lane, n_mine[lane]] = p
                n_mine[lane] += 1
                live[ends[0, p], lane] = live[ends[1, p], lane] = True
    layers, unit = np.zeros_like(dense), np.full((dense[-1], LANES), -1)
    place = np.zeros((dense[-1], LANES), np.int64)  # each network's units keep their order
    for layer in range(len(dense) - 1):
        for lane in range(LANES):
            free = layers[layer]
            for u in range(dense[layer], dense[layer + 1]):
                if live[u, lane] or not 1 < layer < len(dense) - 2:
                    place[u, lane], unit[free, lane] = free, u
                    free += 1
            layers[layer + 1] = max(layers[layer + 1], free)
    n = layers[-1]
    number = np.zeros(n * n, np.int64)  # [target, source]: 1 + number of the edge, or 0
    at = np.empty_like(mine)  # where in there
    for lane in range(LANES):
        for k in range(n_mine[lane]):
            p = mine[lane, k]
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
    parameter, own, weight = np.full((len(source), LANES), -1), _room(size), _room(size)
    for lane in range(LANES):
        for k in range(n_mine[lane]):
            e, p = number[at[lane, k]] - 1, mine[lane, k]
            parameter[e, lane] = p
            own[e * LANES + lane] = 1
            weight[e * LANES + lane] = networks.parameters[members[lane], p]
    gradient, moment1, moment2 = _room(size), _room(size), _room(size)
    values, slopes, counts = _room(n * ROWS * LANES), _room(n * ROWS * LANES), _room(ROWS * LANES)
    values[: ROWS * LANES] = 1
    return Group(
        layers, start, source, unit, parameter, own, weight, gradient, moment1, moment2, values, slopes, counts
    )


@compiled
def _forward(group: Any, samples: Any, base: Any, at: int, rows: int, count: float) -> None:  # pragma: no cover
    """Take `rows` samples, from ``base[lane] + at`` on, and fill the values (of outputs: before their sigmoid)."""
    values, slopes, layers = group.values, group.slopes, group.layers
    for columns, room, unit in ((samples.inputs, values, 1), (samples.targets, slopes, layers[-2])):
        for r in range(ROWS):
            for column in range(columns.shape[1]):
                place = ((unit + column) * ROWS + r) * LANES
                for lane in range(LANES):
                    room[place + lane] = columns[base[lane] + at + min(r, rows - 1), column]
    for r in range(ROWS):
        for lane in range(LANES):
            group.counts[r * LANES + lane] = count if r < rows else 0
    zero = block(values, 0) * 0.0
    for u in range(layers[2], layers[-1]):
        z = zero
        for e in range(group.start[u], group.start[u + 1]):
            z = fma(row(group.weight, e), block(values, group.source[e]), z)
        if u < layers[-2]:
            z = where(z, z, 0.0)
            store(slopes, u, zero)
        store(values, u, z)


@compiled
def _backward(group: Any, first: bool, step: float, epsilon: float, decay: float) -> None:  # pragma: no cover
    """Fill the slopes, and add these samples to the gradient (or begin it, if they are the `first` of a batch).

    If `step` is not 0 they are the last of the batch, and Adam takes its step, as `modgraph.sculpt.train._adam`.
    """
    values, slopes, weight, layers = group.values, group.slopes, group.weight, group.layers
    counts = block(group.counts, 0)
    for u in range(layers[-1] - 1, layers[2] - 1, -1):
        value, slope = block(values, u), block(slopes, u)
        slope = where(value, slope, 0.0) if u < layers[-2] else (_sigmoid(value) - slope) * counts
        for e in range(group.start[u], group.start[u + 1]):
            w, v = row(weight, e), group.source[e]
            if v >= layers[2]:
                store(slopes, v, fma(w, slope, block(slopes, v)))
            g = over_rows(slope, block(values, v))
            if not first:
                g = g + row(group.gradient, e)
            if step == 0:
                store(group.gradient, e, g)
                continue
            g = fma(w, decay, g * row(group.own, e))
            m = row(group.moment1, e)
            m = fma(g - m, 1 - BETA1, m)
            s = fma(g * g, 1 - BETA2, row(group.moment2, e) * BETA2)
            store(group.moment1, e, m)
            store(group.moment2, e, s)
            store(weight, e, w - m / (sqrt(s) + epsilon) * step)


@compiled
def _train(group: Any, drawn: Any, base: Any, table: Any, run: Any) -> Any:  # pragma: no cover
    """Train a group; return the weights after each network's best epoch, and how many bits were right."""
    epochs, batch, rate, decay = run
    n, n_out = table.targets.shape
    best, together = _room(len(group.weight)), np.zeros(LANES, np.int64)
    zero = row(group.values, 0) * 0.0
    most, least = zero - 1.0, zero
    power1 = power2 = 1.0
    for epoch in range(epochs):
        for begin in range(0, n, batch):
            size = min(batch, n - begin)
            power1, power2 = power1 * BETA1, power2 * BETA2
            step, epsilon = rate * math.sqrt(1 - power2) / (1 - power1), EPSILON * math.sqrt(1 - power2)
            for at in range(0, size, ROWS):
                _forward(group, drawn, base, epoch * n + begin + at, min(ROWS, size - at), 1 / (size * n_out))
                _backward(group, at == 0, step if at + ROWS >= size else 0.0, epsilon, decay)
        right = loss = zero
        for at in range(0, n, ROWS):
            _forward(group, table, together, at, min(ROWS, n - at), 1.0)
            for u in range(group.layers[-2], group.layers[-1]):
                z, y = block(group.values, u), block(group.slopes, u)
                right = right + over_rows(where(z, y, 1.0 - y), block(group.counts, 0))
                loss = loss + over_rows(_loss(z, y), block(group.counts, 0))
        better = where(right - most, 1.0, where(most - right, 0.0, least - loss))
        most, least = where(better, right, most), where(better, loss, least)
        for e in range(len(group.source)):
            store(best, e, where(better, row(group.weight, e), row(best, e)))
    correct = np.empty(LANES, np.float32)
    store(correct, 0, most)
    return best, correct


@compiled
def _train_share(
    networks: Any, order: Any, drawn: Any, base: Any, table: Any, run: Any, best: Any, correct: Any
) -> None:  # pragma: no cover
    """Train the networks in `order`; fill their rows of `best` and `correct`."""
    for at in range(0, len(order), LANES):
        members = order[np.minimum(np.arange(at, at + LANES), len(order) - 1)]
        group = _pack(networks, members)
        weight, right = _train(group, drawn, base[members], table, run)
        for lane in range(LANES):
            correct[members[lane]] = right[lane]
            for e in range(len(group.source)):
                if group.parameter[e, lane] >= 0:
                    best[members[lane], group.parameter[e, lane]] = weight[e * LANES + lane]


@compiled
def _score_share(networks: Any, order: Any, table: Any, scores: Any) -> None:  # pragma: no cover
    """Score the hidden units of the networks in `order`; fill their rows of `scores`."""
    n, n_out = table.targets.shape
    first, together = networks.layers[2], np.zeros(LANES, np.int64)
    for at in range(0, len(order), LANES):
        members = order[np.minimum(np.arange(at, at + LANES), len(order) - 1)]
        group = _pack(networks, members)
        total = np.zeros(group.layers[-1] * LANES, np.float32)
        for begin in range(0, n, ROWS):
            _forward(group, table, together, begin, min(ROWS, n - begin), 1 / n_out)
            _backward(group, True, 0.0, 0.0, 0.0)
            for u in range(group.layers[2], group.layers[-2]):
                scale = block(group.values, 0) / float(n)
                each = fabs(block(group.values, u) * block(group.slopes, u))
                store(total, u, over_rows(each, scale) + row(total, u))
        for u in range(group.layers[2], group.layers[-2]):
            for lane in range(LANES):
                if group.unit[u, lane] >= 0:
                    scores[members[lane], group.unit[u, lane] - first] = total[u * LANES + lane]


def train(
    stack: StackedMLP,
    *,
    draws: Draws,
    stream: Tensor,
    task: Task,
    settings: TrainSettings,
    threads: int = 1,
) -> tuple[StackedMLP, Tensor]:
    """Train a stack once, and keep every network's best epoch; see `modgraph.sculpt.train.train`."""
    best, correct = torch.zeros_like(stack.parameters), torch.empty_like(stream)
    drawn = Samples(draws.inputs.flatten(0, 2).numpy(), draws.targets.flatten(0, 2).numpy())
    base = stream.numpy() * (settings.epochs * task.n_samples)
    run = (settings.epochs, settings.batch_size, float(settings.learning_rate), float(settings.weight_decay))
    work = (drawn, base, _table(task), run, best.numpy(), correct.numpy())
    _in_threads(threads, _train_share, stack, *work)
    return dataclasses.replace(stack, parameters=best), correct


def unit_scores(stack: StackedMLP, *, task: Task, threads: int = 1) -> Tensor:
    """Score every hidden unit; see `modgraph.sculpt.prune.unit_scores`."""
    scores = torch.zeros(stack.n_networks, sum(stack.sizes[1:-1]))
    _in_threads(threads, _score_share, stack, _table(task), scores.numpy())
    return scores


def _table(task: Task) -> Samples:
    return Samples(task.inputs.numpy(), task.targets.numpy())


def _in_threads(threads: int, work: Any, stack: StackedMLP, *rest: Any) -> None:
    """Do `work` on the whole stack, alike beside alike: the fewer edges there are in a group."""
    networks = Networks(stack.parameters.numpy(), stack.kept.numpy(), *_meaning(stack.sizes))
    order = np.argsort(networks.kept.sum(1), kind="stable")
    groups = np.split(order, range(LANES, len(order), LANES))
    n_shares = min(4 * threads, len(groups))
    shares = [np.concatenate(groups[share::n_shares]) for share in range(n_shares)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda share: work(networks, share, *rest), shares))


@lru_cache
def _meaning(sizes: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `ends` and `layers` of Networks."""
    layers = np.cumsum([0, 1, *sizes])
    units = [np.arange(*ends) for ends in pairwise(layers.tolist())]
    edges = [np.stack([np.tile(v, len(u)), np.repeat(u, len(v))]) for v, u in pairwise(units[1:])]
    biases = [np.stack([np.zeros_like(u), u]) for u in units[2:]]
    return np.concatenate([*edges, *biases], axis=1), layers
