import itertools
import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from modgraph import LayeredDAG
from modgraph.arrays import IntArray
from modgraph.cluster import description_kernels as kernels
from modgraph.cluster import description_search as search
from modgraph.cluster import description_search_kernels as search_kernels
from modgraph.cluster.description import LayerDescription, TwoWayGraph, description_length
from modgraph.labels import by_first_unit
from modgraph.planted import planted_modules
from tests.networks import edge_matrix, skipping_network
from tests.plain_description import plain_length


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
    found = search.Search(TwoWayGraph.of(dag), [0, 1, 2], hops=2)
    assert [len({*found.cut(0, number).tolist()}) for number in range(1, 9)] == [1, 2, 2, 4, 4, 4, 4, 4]
    assert found.cut(0, 2).tolist() == [0] * 4 + [1] * 4
    assert [len({*found.cut(2, number).tolist()}) for number in (1, 2, 3)] == [1, 2, 2]


def search_of(labels: IntArray, dag: LayeredDAG) -> tuple[search.Search, IntArray]:
    graph = TwoWayGraph.of(dag)
    clusters = np.concatenate([by_first_unit(labels[units]) for units in graph.layers])
    return search.Search(graph, [0, 1, 2], hops=2), clusters


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
