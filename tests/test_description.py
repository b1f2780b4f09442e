import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from modgraph import LayeredDAG, detect_modules
from modgraph.arrays import FloatArray, IntArray
from modgraph.cluster import description_kernels as kernels
from modgraph.cluster import description_search as search
from modgraph.cluster import description_search_kernels as search_kernels
from modgraph.cluster import tied_linkage
from modgraph.cluster.degrees import MOST_CLASSES, degree_model, is_over_dispersed
from modgraph.cluster.description import LayerDescription, TwoWayGraph, cluster_bits, description_length
from modgraph.cluster.description_kernels import BlockPairs
from modgraph.cluster.description_search import described_linkage, shortest_description
from modgraph.cluster.methods import cluster_layers
from modgraph.labels import by_first_unit
from modgraph.planted import planted_modules
from modgraph.reach import reachability
from tests.networks import needs_published, published_dag, published_index
from tests.strategies import dags, permuted


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def expected_edges(edges: IntArray) -> FloatArray:
    model = degree_model(edges.sum(axis=1), edges.sum(axis=0))
    by_unit: FloatArray = model.rate[model.class_one][:, model.class_two] * np.outer(model.one, model.two)
    return by_unit


def surprise(places: int, edges: int, mean: float, density: float) -> float:
    chance = min(max(mean / places, 1e-12), 1 - 1e-6)
    density = min(density, 1 - 1e-6)
    by_degree = -edges * math.log(chance) - (places - edges) * math.log(1 - chance)
    return by_degree + mean / density * math.log(1 - density) + edges * math.log(density / (1 - density))


def plain_length(dag: LayeredDAG, labels: IntArray) -> float:
    """The module's formula, written down plainly, with every set of linked pairs tried; in bits."""
    total = 0.0
    for level in range(dag.n_layers):
        sizes = np.unique(labels[dag.layer == level], return_counts=True)[1].tolist()
        n = sum(sizes)
        total += math.log(n) + log_choose(n - 1, len(sizes) - 1) + math.lgamma(n + 1)
        total -= sum(math.lgamma(size + 1) for size in sizes)
    for a, b in itertools.combinations(range(dag.n_layers), 2):
        between = (dag.layer[dag.sources] == a) & (dag.layer[dag.targets] == b)
        n_edges = int(between.sum())
        if n_edges == 0:
            continue
        one, two = (dag.layer == level for level in (a, b))
        edges = np.zeros((one.sum(), two.sum()), dtype=int)
        edges[dag.sources[between] - one.argmax(), dag.targets[between] - two.argmax()] = 1
        by_degree = expected_edges(edges)
        density = edges.mean()
        cells = []
        for r, s in itertools.product(np.unique(labels[one]), np.unique(labels[two])):
            cell = np.ix_(labels[one] == r, labels[two] == s)
            cells.append((edges[cell].size, int(edges[cell].sum()), float(by_degree[cell].sum())))
        filled = [cell for cell in cells if cell[1]]
        lengths = []
        for count in range(len(filled) + 1):
            for linked in itertools.combinations(filled, count):
                length = log_choose(len(cells), count)
                for size, e, mean in linked:
                    length += math.log(min(size, n_edges)) + log_choose(size, e) - surprise(size, e, mean, density)
                rest_edges = n_edges - sum(e for _, e, _ in linked)
                rest_places = max(edges.size - sum(mean / density for _, _, mean in linked), rest_edges)
                lengths.append(length + log_choose(math.floor(rest_places + 1e-6), rest_edges))
        total += math.log(1 + min(len(cells), n_edges)) + min(lengths)
    return total / math.log(2)


@given(st.integers(1, 300), st.data())
def test_log_choose_is_what_it_says(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert kernels.log_choose(n, k) / kernels.NAT == pytest.approx(math.log(math.comb(n, k)), abs=2e-6)


def test_log_choose_keeps_its_digits_where_factorials_lose_them() -> None:
    n, k = 10**12, 7
    exact = sum(math.log((n - i) / (i + 1)) for i in range(k))
    assert kernels.log_choose(n, k) / kernels.NAT == pytest.approx(exact, abs=1e-5)


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


@settings(max_examples=60, deadline=None)
@given(dags(max_units=5), st.integers(0, 2**32 - 1))
def test_length_equals_the_formula(dag: LayeredDAG, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(3, size=dag.n_units) + 3 * dag.layer
    shortest = plain_length(dag, labels)
    found = description_length(dag, labels)
    # The linked pairs are chosen by a few rounds, not by trying all sets.
    assert shortest - 1e-3 <= found <= shortest + 6


def test_trivial_partition_takes_the_number_of_graphs() -> None:
    dag, _ = planted_modules([30, 20], n_modules=1, fan_out=3, random_state=0)
    expected = log_choose(600, 90) + math.log(2) + math.log(30) + math.log(20)
    assert description_length(dag, np.zeros(50, dtype=int)) == pytest.approx(expected / math.log(2), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(dags(max_units=9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_unit_order_does_not_matter(dag: LayeredDAG, hops: int, seed: int) -> None:
    dag = dag.trim()
    if min(dag.layer_sizes) == 0:
        return
    other, place = permuted(dag, np.random.default_rng(seed))
    one, two = (shortest_description(graph, hops=hops) for graph in (dag, other))
    assert one.bits == two.bits
    assert adjusted_rand_score(one.labels, two.labels[place]) == 1.0


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([2, 3, 6]), st.integers(0, 2**32 - 1))
def test_unit_order_does_not_matter_with_modules(rewired: float, n_modules: int, seed: int) -> None:
    dag = planted_modules([24, 24, 24], n_modules=n_modules, fan_out=3, rewired=rewired, random_state=seed)[0].trim()
    other, place = permuted(dag, np.random.default_rng(seed))
    one, two = (shortest_description(graph, hops=2) for graph in (dag, other))
    assert one.bits == two.bits
    assert adjusted_rand_score(one.labels, two.labels[place]) == 1.0


@settings(max_examples=30, deadline=None)
@given(dags(max_units=9))
def test_what_is_found_is_no_longer_than_trivial_and_no_cluster_spans_layers(dag: LayeredDAG) -> None:
    dag = dag.trim()
    found = shortest_description(dag, hops=2)
    assert found.bits <= found.trivial_bits
    assert found.bits == pytest.approx(description_length(dag, found.labels), abs=1e-6)
    assert found.trivial_bits == pytest.approx(description_length(dag, np.zeros(dag.n_units, dtype=int)), abs=1e-6)
    assert len(np.unique(found.labels)) == len({(int(a), int(b)) for a, b in zip(found.labels, dag.layer, strict=True)})


FAMILIES = [
    ([80] * 6, 4),
    ([240] * 6, 12),
    ([300, 60] * 3, 6),
    ([160] * 6, (8, 8, 8, 4, 4, 4)),
]


@pytest.mark.parametrize(("sizes", "n_modules"), FAMILIES)
def test_planted_modules_are_found_at_ten_percent_rewired(sizes: list[int], n_modules: int | tuple[int, ...]) -> None:
    dag, labels = planted_modules(sizes, n_modules=n_modules, rewired=0.1, random_state=0)
    trimmed = dag.trim()
    truth = labels[trimmed.unit_index]
    found = shortest_description(trimmed, hops=2).labels
    for level in range(dag.n_layers - 1):
        part = trimmed.layer == level
        assert adjusted_mutual_info_score(truth[part], found[part]) > 0.9


@pytest.mark.parametrize(("sizes", "n_modules"), FAMILIES)
def test_rewired_networks_are_not_modular(sizes: list[int], n_modules: int | tuple[int, ...]) -> None:
    dag = planted_modules(sizes, n_modules=n_modules, rewired=1, random_state=0)[0].trim()
    assert shortest_description(dag, hops=2).labels.max() + 1 == dag.n_layers


def test_many_modules_are_not_joined() -> None:
    dag, labels = planted_modules([1000] * 4, n_modules=40, fan_out=3, rewired=0.02, random_state=0)
    trimmed = dag.trim()
    found = shortest_description(trimmed, hops=2).labels
    for level in range(3):
        part = trimmed.layer == level
        assert adjusted_rand_score(labels[trimmed.unit_index][part], found[part]) > 0.97


def test_held_layers_keep_their_clusters() -> None:
    dag, labels = planted_modules([40, 40, 40], n_modules=4, random_state=0)
    held = np.where(dag.layer == 1, labels // 2, -1)
    found = shortest_description(dag, hops=2, held=held).labels
    assert adjusted_rand_score(found[dag.layer == 1], held[dag.layer == 1]) == 1.0


def by_published_rule(dag: LayeredDAG, level: int) -> IntArray:
    rows = reachability(dag, level).toarray()[:, dag.layer > level]
    return tied_linkage(rows) if len(rows) > 1 else np.zeros(1, dtype=np.int64)


def test_small_layers_are_decided_one_by_one() -> None:
    dag = LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((2, 2)))] * 2)
    labels, description = described_linkage(dag, hops=2, small=by_published_rule)
    assert description is None
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]


def test_large_layers_are_decided_together() -> None:
    dag, truth = planted_modules([60, 60, 4], n_modules=(4, 4, 4), random_state=0)
    labels, description = described_linkage(dag, hops=2, small=by_published_rule)
    assert description is not None
    assert len(np.unique(labels[-4:])) == 4
    assert len(np.unique(labels)) == 12  # layers share none
    for level in (0, 1):
        assert adjusted_rand_score(labels[dag.layer == level], truth[dag.layer == level]) == 1.0


@needs_published
def test_published_networks_are_left_to_the_published_rule() -> None:
    for entry in published_index()[::8]:
        dag = published_dag(entry).trim()
        labels, description = described_linkage(dag, hops=entry["hops"], small=by_published_rule)
        assert description is None
        assert adjusted_rand_score(labels, cluster_layers(dag, tied_linkage, hops=entry["hops"])) == 1.0


@pytest.mark.parametrize(("n_units", "described"), [(9, False), (10, True)])
def test_layers_of_ten_units_are_described(n_units: int, described: bool) -> None:
    dag = LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((4, 5)))[:, :n_units]])
    assert ("capped" in detect_modules(dag).settings) == described


def move_of_last(n_second: int) -> tuple[int, int]:
    """Return where the last unit of a layer moves, and the change; it is a cluster of its own.

    Its edges are those of the units of the first cluster, 12 units, and of the second, `n_second` units.
    """
    sizes = [12, n_second, 12, 1]
    mask = np.zeros((24, sum(sizes)))
    mask[:12, : 12 + n_second] = mask[12:, 12 + n_second : -1] = mask[:12, -1] = 1
    dag = LayeredDAG.from_masks([mask])
    clusters = np.repeat([0, 1, 2, 3, 0, 1], [*sizes, 12, 12])
    graph = TwoWayGraph.of(dag)
    layer = LayerDescription(graph, clusters, 0)
    pairs = search_kernels.linked_pairs(layer.pairs, layer.sizes, layer.other_sizes, layer.costs)
    target, change = search_kernels.best_moves(
        np.arange(len(layer.clusters)),
        layer.units.start,
        layer.clusters,
        graph.pointers,
        graph.neighbours,
        layer.other_clusters,
        layer.sizes,
        layer.other_sizes,
        pairs,
        search_kernels.pair_lengths(pairs, layer.sizes, layer.other_sizes, layer.costs),
        *search_kernels.blocks_by_other(pairs, len(layer.other_sizes)),
        layer.degrees,
        layer.costs,
        layer.one_cluster_less,
    )
    return int(target[-1]), int(change[-1])


def test_a_unit_moves_to_its_best_cluster_but_not_where_two_are_equally_good() -> None:
    assert move_of_last(n_second=12) == (3, 0)
    target, change = move_of_last(n_second=13)
    assert target == 1
    assert change < 0


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dag, _ = planted_modules([40, 40, 40], n_modules=4, random_state=0)
    monkeypatch.setattr("modgraph.checks.free_memory", lambda: 1e4)
    with pytest.raises(MemoryError, match=r"clustering needs about 0\.\d GB of memory and 0\.0 GB are free: prune"):
        detect_modules(dag)


@pytest.mark.parametrize("seed", range(4))
def test_array_operations_give_what_compiled_loops_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(12, 50, size=3).tolist()
    network, module = planted_modules(sizes, n_modules=3, fan_out=4, rewired=0.1, random_state=seed)
    dag = network.trim()
    # Halves of modules, and some units that are in the wrong one.
    labels = 2 * module[dag.unit_index] + rng.integers(2, size=dag.n_units)
    labels = np.where(rng.random(dag.n_units) < 0.1, rng.integers(6, size=dag.n_units), labels)
    if seed == 1:  # edges that skip a layer
        skipping = [[0, dag.layer_starts[2] + target] for target in range(5)]
        dag = LayeredDAG.from_edges(np.concatenate([dag.edges, skipping]), layer=dag.layer)
    graph = TwoWayGraph.of(dag)
    clusters = np.concatenate([by_first_unit(labels[units]) for units in graph.layers])
    n_merges = 0
    for level, units in enumerate(graph.layers):
        layer = LayerDescription(graph, clusters, level)
        every = np.arange(len(layer.other_sizes))

        def cells(pairs: BlockPairs, every: IntArray = every) -> list[tuple[float, ...]]:
            block = np.repeat(np.arange(len(pairs.starts) - 1), np.diff(pairs.starts))
            assert (np.diff(pairs.starts) >= 0).all()
            return sorted(zip(block * len(every) + pairs.others, *pairs[2:], strict=True))

        facts = (layer.clusters, graph.pointers, graph.neighbours, layer.other_clusters)
        for starts in (graph.pointers[:-1], graph.leaving):
            ends = (starts, graph.pointers[1:], graph.neighbours, layer.other_clusters)
            edges_of = (units.start, layer.clusters, layer.sizes, *ends, layer.degrees)
            assert cells(kernels.block_edges.dispatcher(*edges_of)) == cells(kernels.block_edges.python(*edges_of))
        pairs = layer.pairs
        places = np.repeat(layer.sizes, np.diff(pairs.starts)) * layer.other_sizes[pairs.others]
        n_edges = int(pairs.n_edges.sum())
        counts = (places, pairs.n_edges, pairs.fair_places, len(every) * len(layer.sizes), int(places.sum()), n_edges)
        assert kernels.edges_length.dispatcher(*counts) == kernels.edges_length.python(*counts)
        arguments = (pairs, layer.sizes, layer.other_sizes, layer.costs)
        linked = search_kernels.linked_pairs.dispatcher(*arguments)
        assert cells(linked) == cells(search_kernels.linked_pairs.python(*arguments))
        arguments = (linked, *arguments[1:])
        now = search_kernels.pair_lengths.dispatcher(*arguments)
        np.testing.assert_array_equal(now, search_kernels.pair_lengths.python(*arguments))
        chosen = np.flatnonzero(rng.random(len(layer.clusters)) < 0.8)
        moves: tuple[Any, ...] = (chosen, units.start, *facts, layer.sizes, layer.other_sizes, linked, now)
        moves += (*search_kernels.blocks_by_other(linked, len(every)), layer.degrees, layer.costs)
        for fast, plain in zip(
            search_kernels.best_moves.dispatcher(*moves, layer.one_cluster_less),
            search_kernels.best_moves.python(*moves, layer.one_cluster_less),
            strict=True,
        ):
            np.testing.assert_array_equal(fast, plain)
        merges = (layer.sizes, layer.other_sizes, linked, layer.degrees, layer.costs, layer.one_cluster_less)
        found = [
            set(zip(*(values.tolist() for values in function(*merges)), strict=True))
            for function in (search_kernels.best_merges.dispatcher, search_kernels.best_merges.python)
        ]
        assert found[0] == found[1]
        n_merges += len(found[0])
        marked = np.zeros((2, dag.n_units), dtype=np.bool_)
        for row, function in zip(
            marked, (search_kernels.mark_neighbours.dispatcher, search_kernels.mark_neighbours.python), strict=True
        ):
            function(chosen + units.start, graph.pointers, graph.neighbours, row)
        np.testing.assert_array_equal(*marked)
    assert n_merges


# What is counted, written down plainly


def skipping_network(seed: int) -> tuple[LayeredDAG, IntArray]:
    """Three planted layers with some edges from the first to the last, and clusters: halves of modules, some wrong."""
    rng = np.random.default_rng(seed)
    network, module = planted_modules([12, 10, 14], n_modules=2, fan_out=4, rewired=0.1, random_state=seed)
    skipping = [[source, 22 + source % 5] for source in range(9)]
    dag = LayeredDAG.from_edges(np.concatenate([network.edges, skipping]), layer=network.layer)
    labels = 2 * module + rng.integers(2, size=dag.n_units)
    labels = np.where(rng.random(dag.n_units) < 0.2, rng.integers(4, size=dag.n_units), labels)
    return dag, np.concatenate([by_first_unit(labels[dag.layer == level]) for level in range(3)])


def edge_matrix(dag: LayeredDAG) -> IntArray:
    """1 for each edge, in both directions."""
    edges = np.zeros((dag.n_units, dag.n_units), dtype=np.int64)
    edges[dag.sources, dag.targets] = edges[dag.targets, dag.sources] = 1
    return edges


def test_a_graph_knows_its_neighbours_and_degrees_by_layer() -> None:
    dag, _ = skipping_network(0)
    graph, edges = TwoWayGraph.of(dag), edge_matrix(dag)
    for unit in range(dag.n_units):
        neighbours = graph.neighbours[graph.pointers[unit] : graph.pointers[unit + 1]]
        assert sorted(neighbours.tolist()) == np.flatnonzero(edges[unit]).tolist()
    for one, two in itertools.permutations(range(3), 2):
        between = edges[np.ix_(dag.layer == one, dag.layer == two)]
        assert graph.edges_between[one][two] == between.sum()
        own, other = graph.degrees[one][two], graph.degrees[two][one]
        degree = between.sum(axis=1)
        counts = is_over_dispersed(degree, between.shape[1])
        assert own.degree.tolist() == (degree.tolist() if counts else [1] * len(degree))
        by_unit = own.rate[own.degree_class][:, other.degree_class] * np.outer(own.degree, other.degree)
        assert by_unit == pytest.approx(expected_edges(between), abs=1e-9)
        assert by_unit.sum() == pytest.approx(between.sum(), rel=0.01)


def test_units_are_named_after_the_cluster_that_they_have_most_edges_with() -> None:
    # Units 0 … 3 of the first layer have 2 and 1, 1 and 2, 1 and 1, and no edges with the two clusters of the second.
    edges = [[0, 4], [0, 5], [0, 6], [1, 5], [1, 6], [1, 7], [2, 4], [2, 7], [3, 8], [4, 8]]
    dag = LayeredDAG.from_edges(edges, layer=[0] * 4 + [1] * 4 + [2])
    graph = TwoWayGraph.of(dag)
    clusters = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0])
    assert graph.named_after(clusters, 0, 1).tolist() == [0, 1, 3, 3]
    assert graph.named_after(clusters, 1, 2).tolist() == [0, 1, 2, 2]


def with_costs(layer: LayerDescription, edges: IntArray, clusters: IntArray) -> int:
    """What the kernels count of a layer's description, at its costs: for each pair of clusters and for their sizes."""
    sizes = np.bincount(clusters)
    total = -sum(math.lgamma(size + 1) for size in sizes.tolist()) * kernels.NAT
    total += layer.one_cluster_less * (len(layer.sizes) - np.count_nonzero(sizes))
    own = edges[layer.units.start : layer.units.stop]
    of_layer = np.unique(layer.other_clusters[own.any(axis=0)])
    for cluster, other in itertools.product(np.flatnonzero(sizes).tolist(), of_layer.tolist()):
        units = np.flatnonzero(clusters == cluster)
        there = np.flatnonzero((layer.other_clusters == other) & own.any(axis=0))
        slot = layer.degrees.slot[other]
        rates = layer.degrees.rate[other, layer.degrees.degree_class[units, slot]]
        total += kernels.pair_length.python(
            int(sizes[cluster] * layer.other_sizes[other]),
            int(own[np.ix_(units, there)].sum()),
            float((layer.degrees.degree[units, slot] * rates).sum()),
            kernels.cost_at.python(layer.costs, other),
        )
    length: int = round(total)
    return length


@pytest.mark.parametrize("seed", range(2))
def test_best_moves_and_merges_are_those_of_trying_all(seed: int) -> None:
    dag, clusters = skipping_network(seed)
    graph, edges = TwoWayGraph.of(dag), edge_matrix(dag)
    n_moves = n_merges = 0
    for level in range(3):
        layer = LayerDescription(graph, clusters, level)
        n_clusters, own = len(layer.sizes), layer.clusters
        now = with_costs(layer, edges, own)
        every = np.arange(len(own))
        lengths = search_kernels.pair_lengths(layer.pairs, layer.sizes, layer.other_sizes, layer.costs)
        facts: tuple[Any, ...] = (
            layer.units.start,
            own,
            graph.pointers,
            graph.neighbours,
            layer.other_clusters,
            layer.sizes,
        )
        facts += (layer.other_sizes, layer.pairs, lengths)
        facts += search_kernels.blocks_by_other(layer.pairs, len(layer.other_sizes))
        facts += (layer.degrees, layer.costs, layer.one_cluster_less)
        changes = np.zeros((len(own), n_clusters))
        for unit, cluster in itertools.product(range(len(own)), range(n_clusters)):
            changes[unit, cluster] = with_costs(layer, edges, np.where(every == unit, cluster, own)) - now
        # Only clusters are tried that have edges with a cluster with which the unit has some.
        linked = np.zeros((len(own), len(layer.other_sizes)), dtype=np.int64)
        units, others = np.nonzero(edges[layer.units])
        linked[units, layer.other_clusters[others]] = 1
        changes[linked @ linked.T @ np.eye(n_clusters)[own] == 0] = 0
        best, second = np.sort(changes, axis=1)[:, :2].T
        for function in (search_kernels.best_moves.dispatcher, search_kernels.best_moves.python):
            target, change = function(every, *facts)
            clear = best < second - 20  # else two clusters are equally good, or rounding decides
            assert change[clear] == pytest.approx(best[clear], abs=20)
            assert change == pytest.approx(changes[every, target], abs=20)
        n_moves += int(np.count_nonzero(change))
        changes = np.zeros((n_clusters, n_clusters))
        for one, two in itertools.permutations(range(n_clusters), 2):
            changes[one, two] = with_costs(layer, edges, np.where(own == two, one, own)) - now
        arguments = (layer.sizes, layer.other_sizes, layer.pairs, layer.degrees, layer.costs, layer.one_cluster_less)
        for function in (search_kernels.best_merges.dispatcher, search_kernels.best_merges.python):
            ones, twos, change = function(*arguments)
            assert change == pytest.approx(changes[ones, twos], abs=20)
            assert sorted({*ones.tolist()}) == np.flatnonzero(changes.min(axis=1) < 0).tolist()
            assert change == pytest.approx(changes.min(axis=1)[ones], abs=20)
        n_merges += len(change)
    assert n_moves
    assert n_merges


def test_the_chosen_pairs_are_mostly_the_best_of_all_sets() -> None:
    best = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(3, 9, size=3)
        dag = LayeredDAG.from_masks([rng.random((n_out, n_in)) < 0.4 for n_in, n_out in itertools.pairwise(sizes)])
        labels = rng.integers(2, size=dag.n_units) + 2 * dag.layer
        best += description_length(dag, labels) == pytest.approx(plain_length(dag, labels), abs=1e-3)
    assert best >= 27


def test_cluster_bits_are_the_divergence_from_equal_density() -> None:
    # Every unit has three edges, so degrees explain three of ten in each pair of units.
    circle = np.eye(10) + np.roll(np.eye(10), 1, axis=1) + np.roll(np.eye(10), 2, axis=1)
    dag = LayeredDAG.from_masks([np.kron(np.eye(2), circle), np.kron(np.eye(2), circle)])
    clusters = np.concatenate([np.repeat([0, 1], 10), np.repeat([0, 1], [6, 14]), np.zeros(20)]).astype(np.int64)
    edges, found = edge_matrix(dag), cluster_bits(dag, clusters)
    for level, cluster in itertools.product(range(3), range(2)):
        units = (dag.layer == level) & (clusters == cluster)
        nats = 0.0
        for other, other_cluster in itertools.product(range(3), range(2)):
            others = (dag.layer == other) & (clusters == other_cluster)
            if abs(level - other) == 1 and units.any() and others.any():
                places, e = units.sum() * others.sum(), edges[np.ix_(units, others)].sum()
                nats += e * math.log(max(e, 1) / places / 0.15)
                nats += (places - e) * math.log(max(1 - e / places, 1e-300) / 0.85)
        assert found[units] == pytest.approx(nats / units.sum() / 2 / math.log(2) if units.any() else [], abs=1e-6)


def test_units_are_rearranged_where_their_sets_differ() -> None:
    # The first set is kept under another name; one unit moves from the second to the third.
    one, two = np.array([0, 0, 1, 1, 1, 2, 2, 3]), np.array([3, 3, 0, 0, 1, 1, 1, 2])
    assert search._rearranged(one, two).tolist() == [False, False, True, True, True, True, True, False]
    assert search._rearranged(two, one).tolist() == [False, False, True, True, True, True, True, False]


def test_the_better_half_of_the_changes_is_tried_next() -> None:
    halves = [use.nonzero()[0].tolist() for use in search._best_halves(np.array([-1, 0, -5, 2, -5, -4, -2]))]
    assert halves == [[0, 2, 4, 5, 6], [2, 4], [2, 4]]
    assert not [*search._best_halves(np.array([0, 3]))]


def test_trees_are_cut_into_at_most_so_many_clusters() -> None:
    # Four pairs of units; the pairs of each half have an output in common.
    pairs = np.kron(np.eye(4), np.ones((1, 2)))
    dag = LayeredDAG.from_masks([pairs, np.kron(np.eye(2), np.ones((1, 2)))])
    found = search._Search(TwoWayGraph.of(dag), [0, 1, 2], hops=2)
    assert [len({*found.cut(0, number).tolist()}) for number in range(1, 9)] == [1, 2, 2, 4, 4, 4, 4, 4]
    assert found.cut(0, 2).tolist() == [0] * 4 + [1] * 4
    assert [len({*found.cut(2, number).tolist()}) for number in (1, 2, 3)] == [1, 2, 2]


def test_the_best_of_given_partitions_is_taken_in_each_layer() -> None:
    dag, module = planted_modules([30, 30, 30], n_modules=2, fan_out=6, random_state=0)
    right = [module[dag.layer == level] for level in range(3)]
    wrong = np.arange(30) % 2
    nearly = np.where(np.arange(30) < 2, 1 - right[1], right[1])
    # No choice is right in both layers at once.
    found = search.shortest_combination(dag, {0: [wrong, right[0], wrong], 1: [wrong, nearly, right[1], wrong]})
    for level in (0, 1):
        assert adjusted_rand_score(found[dag.layer == level], right[level]) == 1
    assert len({*found.tolist()}) == 2 + 2 + 30
    random = [np.random.default_rng(seed).integers(2, size=30) for seed in range(2)]
    found = search.shortest_combination(dag, {0: random, 1: [wrong]})
    assert len({*found[dag.layer < 2].tolist()}) == 2  # one cluster a layer is better
    assert found.tolist() == by_first_unit(found).tolist()


def test_memory_is_estimated_from_above() -> None:
    # 10 units with 16 edges in a layer of 5 at most: 3.2 neighbours each, so 3.2⁴ pairs a unit, or at most 128.
    dag = LayeredDAG.from_masks([np.ones((4, 4)), np.zeros((2, 4))])
    assert search._bytes_needed(dag, 1) == pytest.approx(76 * 16 + 600 * 10 + 24 * 4 * 3.2**2)
    assert search._bytes_needed(dag, 2) == pytest.approx(76 * 16 + 600 * 10 + 24 * 4 * 3.2**4)
    assert search._bytes_needed(dag, 9) == search._bytes_needed(dag, 2)


def test_one_cluster_less_changes_the_number_of_partitions_and_of_pairs() -> None:
    dag, clusters = skipping_network(0)
    for level in range(3):
        layer = LayerDescription(TwoWayGraph.of(dag), clusters, level)
        n_units, n_clusters = len(layer.clusters), len(layer.sizes)
        nats = log_choose(n_units - 1, n_clusters - 2) - log_choose(n_units - 1, n_clusters - 1)
        # Each pair of clusters that isn't linked takes log (1 + linked / others): e to the minus link cost.
        nats -= sum(math.log1p(math.exp(-link)) for link in layer.costs.link.tolist())
        assert layer.one_cluster_less / kernels.NAT == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize(("sizes", "n_modules"), [([24] * 3, 3), ([24, 48, 24], 4)])
def test_what_is_found_is_no_longer_than_what_was_planted(sizes: list[int], n_modules: int) -> None:
    for seed, rewired in enumerate((0.05, 0.15)):
        dag, module = planted_modules(sizes, n_modules=n_modules, fan_out=4, rewired=rewired, random_state=seed)
        trimmed = dag.trim()
        planted = description_length(trimmed, module[trimmed.unit_index])
        assert shortest_description(trimmed, hops=2).bits <= planted + 0.01


def search_of(labels: IntArray, dag: LayeredDAG) -> tuple[search._Search, IntArray]:
    graph = TwoWayGraph.of(dag)
    clusters = np.concatenate([by_first_unit(labels[units]) for units in graph.layers])
    return search._Search(graph, [0, 1, 2], hops=2), clusters


def test_a_layer_is_replaced_where_another_partition_is_shorter() -> None:
    dag, module = planted_modules([24, 24, 24], n_modules=3, fan_out=5, random_state=0)
    for wrong in (np.zeros(72, dtype=int), np.arange(72) % 3):
        found, clusters = search_of(np.where(dag.layer == 1, wrong, module), dag)
        waiting = np.zeros(72, dtype=bool)
        better, gained = found._replace(clusters, 1, waiting)
        assert adjusted_rand_score(better[dag.layer == 1], module[dag.layer == 1]) == 1
        assert gained == found.graph.length(clusters) - found.graph.length(better) > 0
        assert (better == clusters)[dag.layer != 1].all()
        assert waiting[dag.layer != 1].all()  # all units that have edges with units of the layer
        assert not waiting[dag.layer == 1].any()
        waiting[:] = False
        assert found._replace(better, 1, waiting)[1] == 0
        assert not waiting.any()


def test_a_misplaced_unit_moves_and_halves_are_joined() -> None:
    dag, module = planted_modules([24, 24, 24], n_modules=3, fan_out=5, random_state=0)
    moved = module.copy()
    moved[30] = (module[30] + 1) % 3
    found, clusters = search_of(moved, dag)
    waiting = np.ones(72, dtype=bool)
    layer = found._moved(LayerDescription(found.graph, clusters, 1), waiting)
    assert adjusted_rand_score(layer.clusters, module[dag.layer == 1]) == 1
    neighbours = edge_matrix(dag)[30].astype(bool)
    assert waiting[neighbours].all()
    assert waiting[24:48].sum() == 1
    halves = np.where(dag.layer == 1, 2 * module + np.arange(72) % 2, module)
    found, clusters = search_of(halves, dag)
    layer = LayerDescription(found.graph, clusters, 1)
    waiting[:] = False
    joined = found._joined(layer, waiting)
    assert adjusted_rand_score(joined.clusters, module[dag.layer == 1]) == 1
    assert waiting.tolist() == (dag.layer != 1).tolist()
    assert found._joined(joined, waiting) is joined


def test_a_layer_without_units_is_not_decided() -> None:
    # Nothing enters unit 2, the only one of its layer.
    dag = LayeredDAG.from_edges([[0, 3], [1, 3], [3, 4]], layer=[0, 0, 1, 2, 3]).trim()
    labels, description = described_linkage(dag, hops=2, small=by_published_rule)
    assert labels.tolist() == [0, 0, 1, 2]
    assert description is None
