import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from modgraph import LayeredDAG
from modgraph.arrays import IntArray
from modgraph.cluster.by_description import shortest_description
from modgraph.cluster.degrees import MOST_CLASSES, is_over_dispersed
from modgraph.cluster.description import cluster_bits, description_length
from modgraph.planted import planted_modules
from tests.plain_description import expected_edges, log_choose


def heavy_tailed(n: int, density: float, rng: np.random.Generator) -> IntArray:
    """A random matrix whose rows and columns have Pareto-distributed shares of the edges."""
    rates = np.outer(rng.pareto(1.5, n) + 1, rng.pareto(1.5, n) + 1)
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * rates).mean() < density else (low, middle)
    return (rng.random((n, n)) < low * rates).astype(int)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_expected_edges_add_up_to_the_degrees_and_stay_below_one(density: float, seed: int) -> None:
    edges = heavy_tailed(60, density, np.random.default_rng(seed))
    expected = expected_edges(edges)
    assert expected.sum(axis=0) == pytest.approx(edges.sum(axis=0), rel=0.02, abs=0.3)
    assert expected.sum(axis=1) == pytest.approx(edges.sum(axis=1), rel=0.02, abs=0.3)
    assert 0 <= expected.min() <= expected.max() < 1.2


def test_expected_edges_have_the_least_biased_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modgraph.cluster.degrees.LEVEL", 1)
    edges = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    expected = expected_edges(edges)
    assert max(edges.sum(axis=0).max(), edges.sum(axis=1).max()) < MOST_CLASSES
    odds = np.log(expected / (1 - expected))
    assert odds - odds[:1] - odds[:, :1] + odds[0, 0] == pytest.approx(0, abs=1e-4)


def test_one_uneven_layer_keeps_its_degrees_and_the_other_does_not() -> None:
    rng = np.random.default_rng(0)
    edges = (rng.random((40, 30)) < np.where(np.arange(40) < 4, 0.8, 0.1)[:, None]).astype(int)
    expected = np.repeat(edges.sum(axis=1, keepdims=True) / 30, 30, axis=1)
    assert expected_edges(edges) == pytest.approx(expected)
    assert expected_edges(edges.T) == pytest.approx(expected.T)


def test_degrees_of_random_edges_are_over_dispersed_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    networks = [(rng.random((30, 40)) < 0.1).astype(int) for _ in range(2000)]
    assert 0.004 < np.mean([is_over_dispersed(edges.sum(axis=1), 40) for edges in networks]) < 0.02
    assert all(is_over_dispersed(heavy_tailed(60, 0.1, rng).sum(axis=1), 60) for _ in range(20))


@pytest.mark.parametrize("seed", range(3))
def test_cluster_bits_are_the_divergence_from_what_degrees_explain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = np.kron(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]), np.ones((20, 20), dtype=int))
    edges = heavy_tailed(60, 0.3, rng) * blocks
    dag = LayeredDAG.from_masks([edges.T])
    labels = np.tile(np.repeat(np.arange(3), 20), 2)
    expected = expected_edges(edges)
    bits = np.zeros((2, 3))
    for axis, r in itertools.product(range(2), range(3)):
        own, other = (edges, expected) if axis == 0 else (edges.T, expected.T)
        rows = slice(20 * r, 20 * r + 20)
        # Its own cluster in the other layer, and the other two, with which it has no edges.
        for columns in (labels[:60] == r, labels[:60] != r):
            n = 20 * columns.sum()
            p, q = own[rows][:, columns].sum() / n, other[rows][:, columns].sum() / n
            assert (p > 0) == bool(columns[20 * r])
            bits[axis, r] += n * ((p * math.log(p / q) if p else 0) + (1 - p) * math.log((1 - p) / (1 - q)))
    found = cluster_bits(dag, labels)
    assert found == pytest.approx(np.repeat(bits.ravel() / (2 * 20 * math.log(2)), 20), rel=1e-6)


@pytest.mark.parametrize("seed", range(1, 4))
def test_small_modules_are_not_lost_to_chance_degrees(seed: int) -> None:
    dag, labels = planted_modules([48] * 4, n_modules=4, fan_out=3, rewired=0.2, random_state=seed)
    trimmed = dag.trim()
    found = shortest_description(trimmed, hops=2).labels
    parts = [trimmed.layer == level for level in range(3)]
    truth = labels[trimmed.unit_index]
    assert np.mean([adjusted_mutual_info_score(truth[part], found[part]) for part in parts]) > 0.7


def test_equal_degrees_leave_the_description_without_correction() -> None:
    circle = np.eye(10) + np.roll(np.eye(10), 1, axis=1) + np.roll(np.eye(10), 2, axis=1)
    dag = LayeredDAG.from_masks([np.kron(np.eye(2), circle)])
    partition = 2 * (math.log(20) + math.log(19) + log_choose(20, 10))
    edges = math.log(5) + log_choose(4, 2) + 2 * (math.log(60) + log_choose(100, 30))
    found = description_length(dag, np.repeat([0, 1, 2, 3], 10))
    assert found == pytest.approx((partition + edges) / math.log(2), abs=1e-4)


@pytest.mark.parametrize("density", [0.05, 0.2])
@pytest.mark.parametrize("seed", range(4))
def test_degrees_alone_are_no_structure(density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dag = LayeredDAG.from_masks([heavy_tailed(50, density, rng) for _ in range(3)]).trim()
    found = shortest_description(dag, hops=3)
    assert found.labels.max() + 1 == dag.n_layers
