"""How fast networks train, against one network at a time. Run with ``--benchmark-only -s``.

Rates are counted in processor time (× the threads in use), so that company on the machine changes no ratio.
"""

from __future__ import annotations

import time
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from modgraph.sculpt import Task, TrainSettings, as_task
from modgraph.sculpt.engine import Engine, Population, one_thread_per_operation
from modgraph.sculpt.prune import prune_units
from modgraph.sculpt.stack import initial_stack
from modgraph.sculpt.vectors import LANES


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
