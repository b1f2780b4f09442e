"""How fast a stack trains, against one network at a time. Run with ``--benchmark-only``."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from modgraph.sculpt import TrainSettings, as_task
from modgraph.sculpt.engine import Engine, Population, one_thread_per_operation
from modgraph.sculpt.stack import initial_stack

INPUTS = np.array(list(product((0, 1), repeat=4)))
A, B, C, D = INPUTS.T
SEPARABLE = (INPUTS, np.stack([A ^ B, 1 - (A ^ B), C ^ D, 1 - (C ^ D)], axis=1))
SETTINGS = TrainSettings(learning_rate=0.05, batch_size=8, epochs=10)


def one_at_a_time(hidden: tuple[int, ...], epochs: int) -> float:
    """Network-steps a second of the plain loop: one network, autograd, torch's Adam."""
    x = torch.tensor(SEPARABLE[0], dtype=torch.float32)
    y = torch.tensor(SEPARABLE[1], dtype=torch.float32)
    layers: list[nn.Module] = []
    for n_in, n_out in zip((4, *hidden), (*hidden, 4), strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    network = nn.Sequential(*layers[:-1], nn.Sigmoid())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, weight_decay=1e-4)
    loss = nn.BCELoss()
    start = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(16)
        noisy, right = x[order] + 0.1 * torch.randn(16, 4), y[order]
        for k in (0, 8):
            optimizer.zero_grad()
            loss(network(noisy[k : k + 8]), right[k : k + 8]).backward()
            optimizer.step()
        with torch.no_grad():
            loss(network(x), y)
    return 2 * epochs / (time.perf_counter() - start)


@pytest.mark.parametrize("hidden", [(24, 24), (8, 8)], ids=["24-24", "8-8"])
def test_training_a_thousand_networks(benchmark: BenchmarkFixture, hidden: tuple[int, ...]) -> None:
    seeds = np.arange(1024)
    with one_thread_per_operation() as threads, ThreadPoolExecutor(threads) as pool:
        engine = Engine(task=as_task(SEPARABLE), settings=SETTINGS, pool=pool)
        state = Population(
            stack=initial_stack((4, *hidden, 4), seeds=(seeds % 4).tolist()),
            seeds=seeds % 4,
            correct=np.full(1024, -1),
        )

        def run() -> float:
            start = time.perf_counter()
            engine.train(state, phase="dense", run=0)
            return time.perf_counter() - start

        benchmark(run)
        stacked = 1024 * 20 / min(run() for _ in range(5))
    plain = max(one_at_a_time(hidden, 200) for _ in range(3))
    benchmark.extra_info |= {
        "network_steps_per_second": round(stacked),
        "one_at_a_time": round(plain),
        "ratio": round(stacked / plain, 1),
    }
    assert stacked > 10 * plain
