"""Clustering of planted modules (run with `--benchmark-only`); `tests/long/clustering_at_scale.py` does large ones."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from modgraph.cluster.by_description import shortest_description
from modgraph.cluster.leiden import leiden
from modgraph.cluster.sparse import layer_tree
from modgraph.planted import planted_modules


@pytest.mark.parametrize("size", [300, 3000])
def test_shortest_description(benchmark: BenchmarkFixture, size: int) -> None:
    dag = planted_modules([size] * 4, n_modules=size // 32, fan_out=3, rewired=0.1, random_state=0)[0].trim()
    found = benchmark(shortest_description, dag, hops=2)
    assert found.bits < found.trivial_bits


@pytest.mark.parametrize("size", [3000, 30_000])
def test_layer_tree(benchmark: BenchmarkFixture, size: int) -> None:
    dag = planted_modules([size] * 3, n_modules=size // 32, fan_out=3, rewired=0.1, random_state=0)[0].trim()
    assert not benchmark(layer_tree, dag, 0, hops=2).capped


def test_leiden(benchmark: BenchmarkFixture) -> None:
    pytest.importorskip("igraph")
    dag = planted_modules([300] * 4, n_modules=9, fan_out=3, rewired=0.1, random_state=0)[0].trim()
    labels = benchmark(lambda: leiden(dag, hops=2, rng=np.random.default_rng(0)))
    assert len(labels) == dag.n_units
