import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from modgraph import LayeredDAG
from modgraph.null import shuffle_weights, swap_edges
from modgraph.planted import planted_modules
from tests.strategies import dags


def weighted(dag: LayeredDAG, seed: int) -> LayeredDAG:
    weights = np.random.default_rng(seed).normal(size=dag.n_edges)
    return LayeredDAG.from_edges(dag.edges, layer=dag.layer, weights=weights, dense_edges=dag.dense_edges)


def degrees_by_layer(dag: LayeredDAG) -> tuple[list[list[int]], list[list[int]]]:
    """For every unit how many edges it has to, and from, each layer."""
    counts = np.zeros((2, dag.n_units, dag.n_layers), dtype=int)
    np.add.at(counts[0], (dag.sources, dag.layer[dag.targets]), 1)
    np.add.at(counts[1], (dag.targets, dag.layer[dag.sources]), 1)
    return counts[0].tolist(), counts[1].tolist()


@settings(max_examples=60, deadline=None)
@given(dags(max_units=8), st.integers(0, 2**32 - 1))
def test_swaps_keep_every_degree_and_the_trimmed_units(dag: LayeredDAG, seed: int) -> None:
    dag = dag.trim()
    null = swap_edges(dag, random_state=seed)
    assert degrees_by_layer(null) == degrees_by_layer(dag)
    assert (np.diff(null.sources * dag.n_units + null.targets) > 0).all()  # sorted, and no edge twice
    assert null.on_path().all()


def all_with_these_degrees(matrix: np.ndarray) -> list[bytes]:
    rows = [np.array(row) for row in itertools.product([0, 1], repeat=matrix.shape[1])]
    choices = [[row for row in rows if row.sum() == total] for total in matrix.sum(axis=1)]
    return [
        np.array(one).tobytes()
        for one in itertools.product(*choices)
        if (np.array(one).sum(axis=0) == matrix.sum(axis=0)).all()
    ]


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0], [0, 1]],
        [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]],
        [[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 1, 1]],
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]],
    ],
    ids=["permutations", "sparse", "dense", "a single network"],
)
def test_every_network_with_these_degrees_is_equally_likely(matrix: list[list[int]]) -> None:
    mask = np.array(matrix)
    possible = all_with_these_degrees(mask)
    dag = LayeredDAG.from_masks([mask])
    rng = np.random.default_rng(0)
    n_draws = 200 * len(possible)
    seen = Counter(
        swap_edges(dag, random_state=rng).adjacency.toarray()[: mask.shape[1], mask.shape[1] :].T.astype(int).tobytes()
        for _ in range(n_draws)
    )
    assert set(seen) == set(possible)
    if len(possible) > 1:
        assert chisquare(list(seen.values())).pvalue > 1e-3


@pytest.mark.parametrize("density", [0.03, 0.3, 0.7, 0.95])
def test_edges_stay_in_place_only_by_chance(density: float) -> None:
    rng = np.random.default_rng(1)
    dag = LayeredDAG.from_masks([rng.random((80, 90)) < density])
    null = swap_edges(dag, random_state=2)
    kept = np.isin(null.sources * dag.n_units + null.targets, dag.sources * dag.n_units + dag.targets).mean()
    assert kept == pytest.approx(density, abs=4 * np.sqrt(density / dag.n_edges) + 0.02)


def test_planted_modules_are_gone() -> None:
    dag, labels = planted_modules([40, 40, 40], n_modules=4, random_state=0)
    null = swap_edges(dag, random_state=0)
    inside = (labels[null.sources] == labels[null.targets]).mean()
    assert (labels[dag.sources] == labels[dag.targets]).all()
    assert inside == pytest.approx(0.25, abs=0.1)


def test_equal_seeds_give_equal_networks_and_the_argument_stays() -> None:
    dag = weighted(planted_modules([20, 20, 20], n_modules=2, random_state=0)[0], 0)
    before = dag.edges.tolist(), dag.weights.tolist()  # type: ignore[union-attr]
    for draw in (swap_edges, shuffle_weights):
        one, two, other = draw(dag, random_state=5), draw(dag, random_state=5), draw(dag, random_state=6)
        assert one.edges.tolist() == two.edges.tolist()
        assert np.array_equal(one.weights, two.weights)  # type: ignore[arg-type]
        assert not np.array_equal(one.weights, other.weights)  # type: ignore[arg-type]
    assert before == (dag.edges.tolist(), dag.weights.tolist())  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(dags(max_units=7), st.integers(0, 2**32 - 1))
def test_weights_stay_with_their_unit_or_their_matrix(dag: LayeredDAG, seed: int) -> None:
    dag = weighted(dag, seed)

    def by_pair(network: LayeredDAG) -> dict[tuple[int, ...], list[float]]:
        assert network.weights is not None
        found: dict[tuple[int, ...], list[float]] = {}
        for a, b, weight in zip(network.sources, network.targets, network.weights, strict=True):
            found.setdefault((int(dag.layer[a]), int(dag.layer[b])), []).append(float(weight))
            found.setdefault((-1, int(a), int(dag.layer[b])), []).append(float(weight))
        return {name: sorted(values) for name, values in found.items()}

    expected = by_pair(dag)
    matrices = {name: values for name, values in expected.items() if len(name) == 2}
    assert by_pair(swap_edges(dag, random_state=seed)) == expected
    for null in (
        swap_edges(dag, weights="shuffle", random_state=seed),
        shuffle_weights(dag, random_state=seed),
        shuffle_weights(dag, zeros=True, random_state=seed),
    ):
        found = by_pair(null)
        assert {name: values for name, values in found.items() if len(name) == 2} == matrices
    assert shuffle_weights(dag, random_state=seed).edges.tolist() == dag.edges.tolist()


def test_shuffled_weights_are_equally_likely_everywhere() -> None:
    weights = [[[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]]
    dag = LayeredDAG.from_masks(weights, weights=weights)
    rng = np.random.default_rng(0)
    orders = Counter(tuple(shuffle_weights(dag, random_state=rng).weights.tolist()) for _ in range(600))  # type: ignore[union-attr]
    assert len(orders) == 6
    assert chisquare(list(orders.values())).pvalue > 1e-3
    places = Counter(
        place for _ in range(600) for place in map(tuple, shuffle_weights(dag, zeros=True, random_state=rng).edges)
    )
    assert len(places) == 6
    assert chisquare(list(places.values())).pvalue > 1e-3


def test_names_biases_and_activations_stay() -> None:
    masks = [np.ones((3, 4)), np.eye(3)]
    dag = LayeredDAG.from_masks(
        masks,
        weights=masks,
        biases=[[1.0, 2, 3], [4.0, 5, 6]],
        activations=["relu", "sigmoid"],
        unit_names=[f"u{number}" for number in range(10)],
        layer_names=["in", "hidden", "out"],
    )
    for null in (swap_edges(dag), shuffle_weights(dag), shuffle_weights(dag, zeros=True)):
        for name in ("biases", "activations", "unit_names", "layer_names", "dense_edges", "layer", "unit_index"):
            assert np.array_equal(getattr(null, name), getattr(dag, name))


def test_bad_arguments_are_named() -> None:
    dag = LayeredDAG.from_masks([[[1, 1], [0, 1]]])
    with pytest.raises(ValueError, match=r"`weights` must be .* \(got 'drop'\)"):
        swap_edges(dag, weights="drop")
    with pytest.raises(ValueError, match="`dag` must have weights to shuffle"):
        shuffle_weights(dag)
    with pytest.raises(ValueError, match="`zeros` must be True or False"):
        shuffle_weights(dag, zeros=1)  # type: ignore[arg-type]
