import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph import LayeredDAG
from modgraph.arrays import IntArray
from modgraph.cluster import description_kernels as kernels
from modgraph.cluster import description_search_kernels as search_kernels
from modgraph.cluster.degrees import is_over_dispersed
from modgraph.cluster.description import LayerDescription, TwoWayGraph, cluster_bits, description_length
from modgraph.cluster.description_kernels import BlockPairs
from modgraph.labels import by_first_unit
from modgraph.planted import planted_modules
from tests.networks import edge_matrix, skipping_network
from tests.plain_description import expected_edges, log_choose, plain_length
from tests.strategies import dags


@given(st.integers(1, 300), st.data())
def test_log_choose_is_what_it_says(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert kernels.log_choose(n, k) / kernels.NAT == pytest.approx(math.log(math.comb(n, k)), abs=2e-6)


def test_log_choose_keeps_its_digits_where_factorials_lose_them() -> None:
    n, k = 10**12, 7
    exact = sum(math.log((n - i) / (i + 1)) for i in range(k))
    assert kernels.log_choose(n, k) / kernels.NAT == pytest.approx(exact, abs=1e-5)


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


def test_one_cluster_less_changes_the_number_of_partitions_and_of_pairs() -> None:
    dag, clusters = skipping_network(0)
    for level in range(3):
        layer = LayerDescription(TwoWayGraph.of(dag), clusters, level)
        n_units, n_clusters = len(layer.clusters), len(layer.sizes)
        nats = log_choose(n_units - 1, n_clusters - 2) - log_choose(n_units - 1, n_clusters - 1)
        # Each pair of clusters that isn't linked takes log (1 + linked / others): e to the minus link cost.
        nats -= sum(math.log1p(math.exp(-link)) for link in layer.costs.link.tolist())
        assert layer.one_cluster_less / kernels.NAT == pytest.approx(nats, abs=1e-4)
