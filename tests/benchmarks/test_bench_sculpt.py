"""How fast networks train, against one network at a time and plain loops. Run with ``--benchmark-only -s``.

Rates are counted in processor time (× the threads in use), so that company on the machine changes no ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from modgraph.arrays import FloatArray
from modgraph.compiled import njit
from modgraph.sculpt import Task, TrainSettings, WideSettings, as_task, kernel
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import Engine, Population, one_thread_per_operation
from modgraph.sculpt.fit import _Sparse
from modgraph.sculpt.prune import prune_units
from modgraph.sculpt.stack import initial_stack
from modgraph.sculpt.train import BETA1, BETA2, EPSILON, draw
from modgraph.sculpt.vectors import LANES, ROWS


def pairs_of_bits(n_in: int, n_out: int) -> Task:
    """Every output the exclusive or of two inputs."""
    inputs = np.array(list(product((0, 1), repeat=n_in)))
    return as_task((inputs, np.stack([inputs[:, k % n_in] ^ inputs[:, (k + 1) % n_in] for k in range(n_out)], axis=1)))


def one_at_a_time(task: Task, hidden: tuple[int, ...], settings: TrainSettings) -> float:
    """Network-steps a second of the plain loop: one network, tensors in memory, autograd, torch's Adam."""
    x, y = task.inputs, task.targets
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((x.shape[1], *hidden, y.shape[1])):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    network = nn.Sequential(*layers[:-1], nn.Sigmoid())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, weight_decay=1e-4)
    loss = nn.BCELoss()
    start = time.process_time()
    for _ in range(settings.epochs):
        order = torch.randperm(len(x))
        noisy, right = x[order] + 0.1 * torch.randn_like(x), y[order]
        for k in range(0, len(x), settings.batch_size):
            batch = slice(k, k + settings.batch_size)
            optimizer.zero_grad()
            loss(network(noisy[batch]), right[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss(network(x), y)
    return settings.steps(len(x)) / (time.process_time() - start)


@pytest.mark.parametrize(
    ("n", "hidden", "live", "batch_size", "epochs", "goal"),
    [
        (4, (24, 24), (24, 24), 8, 40, 150),
        (8, (48, 48), (48, 48), 32, 4, 50),
        (4, (24, 24), (4, 4), 8, 40, 500),  # pruned to eight hidden units
    ],
    ids=["24-24", "48-48", "pruned"],
)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_training_a_thousand_networks(
    benchmark: BenchmarkFixture,
    n: int,
    hidden: tuple[int, ...],
    live: tuple[int, ...],
    batch_size: int,
    epochs: int,
    goal: float,
    compiled: bool,
) -> None:
    task = pairs_of_bits(n, n)
    settings = TrainSettings(learning_rate=0.05, batch_size=batch_size, epochs=epochs)
    sizes = (n, *hidden, n)
    seeds = np.arange(1024) % 4
    keep = torch.cat([torch.arange(size) < kept for size, kept in zip(hidden, live, strict=True)])
    stack = prune_units(initial_stack(sizes, seeds=seeds.tolist()), keep.expand(1024, -1))
    state = Population(stack=stack, seeds=seeds, correct=np.full(1024, -1))
    with one_thread_per_operation() as threads:
        plain = max(one_at_a_time(task, live, settings) for _ in range(5))
        threads = threads if compiled else 1  # torch's own threads wait for each other, and waiting is processor time
        engine = Engine(task=task, settings=settings, compiled=compiled, threads=threads)

        def run() -> float:
            start = time.process_time()
            engine.train(state, phase="dense", run=0)
            return (time.process_time() - start) / threads

        run()  # compiles, or loads what was compiled
        benchmark.pedantic(run, rounds=3, iterations=1)
        steps = settings.steps(task.n_samples)
        rate = 1024 * steps / min(run() for _ in range(5 if compiled else 1))
    edges, into_first = int(stack.n_edges[0]), int(stack.masks[0][0].sum())
    parameters = int(stack.kept[0].sum())
    adam = 14 * parameters  # two of them a division and a square root, which take most of its time
    evaluation = 2 * edges * task.n_samples * epochs / steps
    flop = 2 * batch_size * (3 * edges - into_first) + adam + evaluation
    cached = 6 * 4 * LANES * parameters  # weights, masks, gradients, two moments and the best weights of a group
    benchmark.extra_info |= {"network_steps_per_second": round(rate), "ratio": round(rate / plain)}
    print(
        f"\n{sizes} → {live}, batch {batch_size}, {threads} threads, {'compiled' if compiled else 'torch'}: "
        f"{rate:,.0f} network-steps/s, {rate / plain:,.0f} × the plain loop's {plain:,.0f}; "
        f"{flop / 1000:.1f} kflop a step, {rate * flop / 1e9:.1f} Gflop/s; "
        f"{cached / 1024:.0f} KiB of parameters a core"
    )
    assert rate > (goal if compiled else 1) * plain


ZERO, ONE = np.float32(0), np.float32(1)
MOMENTUM, SQUARES = np.float32(BETA1), np.float32(BETA2)
BLOCK = ROWS * LANES


@njit(nogil=True, fastmath=True, error_model="numpy")
def plain_forward(packed: Any, samples: Any, first: Any, at: int, rows: int, count: float) -> None:
    """`kernel._forward` as loops over arrays. Loops of 64 are faster than pairs of loops of 8."""
    layers, start, source, counts = packed.layers, packed.start, packed.source, packed.counts
    weight, wide = packed.weight.reshape(-1, LANES), np.empty(BLOCK, np.float32)
    values, slopes = packed.values.reshape(-1, BLOCK), packed.slopes.reshape(-1, BLOCK)
    for columns, array, unit in ((samples.inputs, values, 1), (samples.targets, slopes, layers[-2])):
        for column in range(columns.shape[1]):
            block = array[unit + column]
            for r in range(ROWS):
                for k in range(LANES):
                    block[r * LANES + k] = columns[first[k] + at + min(r, rows - 1), column]
    for r in range(ROWS):
        counts[r * LANES : (r + 1) * LANES] = count if r < rows else 0
    for u in range(layers[2], layers[-1]):
        z = values[u]
        z[:] = 0
        for e in range(start[u], start[u + 1]):
            w, x = weight[e], values[source[e]]
            for r in range(ROWS):
                for k in range(LANES):
                    wide[r * LANES + k] = w[k]
            for i in range(BLOCK):
                z[i] += wide[i] * x[i]
        if u < layers[-2]:
            slopes[u] = 0
            for i in range(BLOCK):
                z[i] = max(z[i], ZERO)


@njit(nogil=True, fastmath=True, error_model="numpy")
def plain_backward(packed: Any, first: bool, step: float, epsilon: float, decay: float) -> None:
    """`kernel._backward` as loops over arrays."""
    layers, start, source, counts = packed.layers, packed.start, packed.source, packed.counts
    weight, gradient = packed.weight.reshape(-1, LANES), packed.gradient.reshape(-1, LANES)
    present, moment1 = packed.present.reshape(-1, LANES), packed.moment1.reshape(-1, LANES)
    moment2, values = packed.moment2.reshape(-1, LANES), packed.values.reshape(-1, BLOCK)
    slopes, wide, total = packed.slopes.reshape(-1, BLOCK), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    rate, tiny, shrink = np.float32(step), np.float32(epsilon), np.float32(decay)
    for u in range(layers[-1] - 1, layers[2] - 1, -1):
        value, slope = values[u], slopes[u]
        if u >= layers[-2]:
            for i in range(BLOCK):
                slope[i] = (ONE / (ONE + math.exp(-value[i])) - slope[i]) * counts[i]
        else:
            for i in range(BLOCK):
                slope[i] = slope[i] if value[i] > 0 else ZERO
        for e in range(start[u], start[u + 1]):
            w, x, below, g = weight[e], values[source[e]], slopes[source[e]], gradient[e]
            if source[e] >= layers[2]:
                for r in range(ROWS):
                    for k in range(LANES):
                        wide[r * LANES + k] = w[k]
                for i in range(BLOCK):
                    below[i] += wide[i] * slope[i]
            for i in range(BLOCK):
                total[i] = slope[i] * x[i]
            for k in range(LANES):
                change = total[k] if first else g[k] + total[k]
                for r in range(1, ROWS):
                    change += total[r * LANES + k]
                g[k] = change
            if step != 0:
                m, s, has = moment1[e], moment2[e], present[e]
                for k in range(LANES):
                    change = g[k] * has[k] + shrink * w[k]
                    m[k] += (ONE - MOMENTUM) * (change - m[k])
                    s[k] = SQUARES * s[k] + (ONE - SQUARES) * change * change
                    w[k] -= rate * m[k] / (math.sqrt(s[k]) + tiny)


def seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def steps_of(forward: Any, backward: Any) -> Any:
    """Return `kernel._train` without its evaluations, with these two halves of a step."""

    @njit(nogil=True, error_model="numpy")
    def steps(packed: Any, drawn: Any, first: Any, n: int, run: Any) -> None:
        epochs, batch, rate, decay = run
        power1 = power2 = 1.0
        for epoch in range(epochs):
            for begin in range(0, n, batch):
                size = min(batch, n - begin)
                power1, power2 = power1 * BETA1, power2 * BETA2
                step, epsilon = rate * math.sqrt(1 - power2) / (1 - power1), EPSILON * math.sqrt(1 - power2)
                for at in range(0, size, ROWS):
                    count = 1 / (size * drawn.targets.shape[1])
                    forward(packed, drawn, first, epoch * n + begin + at, min(ROWS, size - at), count)
                    backward(packed, at == 0, step if at + ROWS >= size else 0.0, epsilon, decay)

    return steps


@pytest.mark.parametrize(
    ("n", "hidden", "live", "batch_size"),
    [(4, (24, 24), (24, 24), 8), (8, (48, 48), (48, 48), 32), (4, (24, 24), (4, 4), 8)],
    ids=["24-24", "48-48", "pruned"],
)
def test_vectors_against_plain_loops(
    benchmark: BenchmarkFixture, n: int, hidden: tuple[int, ...], live: tuple[int, ...], batch_size: int
) -> None:
    """The same steps by the kernel's vector types and by loops that LLVM vectorises itself.

    Those are the same eight networks side by side, and one network after the other, by the edges alone of a wide one.
    """
    task, settings = pairs_of_bits(n, n), TrainSettings(batch_size=batch_size, epochs=40)
    keep = torch.cat([torch.arange(size) < kept for size, kept in zip(hidden, live, strict=True)])
    stack = prune_units(initial_stack((n, *hidden, n), seeds=range(LANES)), keep.expand(LANES, -1))
    draws = draw(task, settings=settings, keys=[(seed,) for seed in range(LANES)])
    drawn = kernel.Samples(draws.inputs.flatten(0, 2).numpy(), draws.targets.flatten(0, 2).numpy())
    networks = kernel.Networks(stack.parameters.numpy(), stack.kept.numpy(), *kernel._meaning(stack.sizes))
    first = np.arange(LANES) * (settings.epochs * task.n_samples)
    by_vectors, by_loops = steps_of(kernel._forward, kernel._backward), steps_of(plain_forward, plain_backward)

    def once(steps: Any, *, epochs: int, repeats: int = 1) -> tuple[float, FloatArray]:
        """Return the processor time of some training runs, one after the other, and the weights after them."""
        packed = kernel._pack(networks, np.arange(LANES))
        start = time.process_time()
        for _ in range(repeats):
            steps(packed, drawn, first, task.n_samples, (epochs, batch_size, 0.05, 1e-4))
        return time.process_time() - start, packed.weight

    np.testing.assert_allclose(once(by_loops, epochs=1)[1], once(by_vectors, epochs=1)[1], atol=0.001)
    loops, vectors = (
        min(once(steps, epochs=settings.epochs, repeats=10)[0] for _ in range(5)) for steps in (by_loops, by_vectors)
    )
    samples = Task(**{name: part[0].flatten(0, 1) for name, part in draws._asdict().items()})
    network, order = CompactMLP.of(stack.select([0])), torch.arange(samples.n_samples)
    alone = _Sparse(network, WideSettings(batch_size=batch_size))
    alone_time = LANES * min(seconds(lambda: alone.epoch(samples, order, 1e-3)) for _ in range(50))
    benchmark.pedantic(once, args=(by_vectors,), kwargs={"epochs": 1}, rounds=1)
    benchmark.extra_info |= {"side by side": loops / vectors, "one by one": 10 * alone_time / vectors}
    print(
        f"\n{stack.sizes} → {live}, batch {batch_size}: plain loops take {loops / vectors:.1f} × the time of vectors, "
        f"network by network {10 * alone_time / vectors:.1f} ×"
    )
    assert min(loops, 10 * alone_time) > 1.5 * vectors
