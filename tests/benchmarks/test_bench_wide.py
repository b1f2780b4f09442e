"""Speed of training one wide network, as ratios within one run.

Where `modgraph.sculpt.fit.SPARSE_BELOW` comes from: an epoch of the edges alone against one of dense layers and one of
torch's own sparse matrices, for networks as wide as those on MNIST are after their units have been pruned.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from modgraph.sculpt import Task, WideSettings
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.fit import _Dense, _Sparse
from modgraph.sculpt.stack import initial_stack

SIZES = (950, 52, 34, 3)
N_SAMPLES, BATCH = 5_120, 512


def seconds(call: Callable[[], object]) -> float:
    """Best of five, after one to warm up."""
    call()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def torch_sparse_epoch(network: CompactMLP, task: Task) -> None:
    """The products of one epoch with torch's sparse matrices: forward, and both ways back. No Adam."""
    matrices = [weight.to_sparse_csr() for weight in network.weights]
    for inputs in task.inputs.split(BATCH):
        values = [inputs.T.contiguous()]
        for matrix in matrices:
            values.append((matrix @ values[-1]).relu_())
        slope = values[-1]
        for matrix, below in zip(matrices[::-1], values[-2::-1], strict=True):
            torch.sparse.sampled_addmm(matrix, slope, below.T, beta=0.0)
            slope = matrix.t() @ slope


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("density", [0.05, 0.1, 0.3, 0.6])
def test_edges_alone(density: float, benchmark: BenchmarkFixture) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = CompactMLP.of(initial_stack(SIZES, seeds=[0]))
    first, *rest = whole.masks
    network = whole.prune([torch.rand(first.shape, generator=generator) < density, *rest])
    inputs = torch.rand(N_SAMPLES, SIZES[0], generator=generator)
    targets = torch.randint(2, (N_SAMPLES, 3), generator=generator).float()
    task = network.view(Task(inputs=inputs, targets=targets))
    settings = WideSettings(batch_size=BATCH)
    epoch = (task, torch.arange(N_SAMPLES), settings.learning_rate)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        dense, sparse = (trainer(network, settings) for trainer in (_Dense, _Sparse))
        dense_time, own = seconds(lambda: dense.epoch(*epoch)), seconds(lambda: torch_sparse_epoch(network, task))
        sparse_time = benchmark.pedantic(lambda: seconds(lambda: sparse.epoch(*epoch)), rounds=1)
    finally:
        torch.set_num_threads(threads)
    against = f"{dense_time / sparse_time:.2f} × dense layers, {own / sparse_time:.1f} × torch's sparse products"
    print(f"\ndensity {density:.2f}, {network.n_edges} edges: {against}")
