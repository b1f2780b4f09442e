import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score

from modgraph import LayeredDAG
from modgraph.arrays import IntArray
from modgraph.cluster.leiden import MAX_ITERATIONS, _clusters, _resolutions, leiden, leiden_partition
from modgraph.cluster.sparse import SimilarityGraph, similarity_graph
from modgraph.planted import planted_modules
from tests.strategies import dags

pytest.importorskip("igraph")
pytest.importorskip("leidenalg")


@settings(max_examples=30, deadline=None)
@given(dags(), st.integers(1, 3), st.integers(0, 99))
def test_any_network_gets_clusters_within_layers_the_same_for_the_same_seed(
    dag: LayeredDAG, hops: int, seed: int
) -> None:
    trimmed = dag.trim()
    one, two = (leiden(trimmed, hops=hops, rng=np.random.default_rng(seed)) for _ in range(2))
    assert (one == two).all()
    assert one.shape == (trimmed.n_units,)
    assert len(np.unique(one)) == len({*zip(one.tolist(), trimmed.layer.tolist(), strict=True)})
    assert len(np.unique(one[trimmed.layer == dag.n_layers - 1])) == trimmed.layer_sizes[-1]
    whole = leiden_partition(dag, random_state=seed)
    assert (whole == leiden_partition(dag, random_state=seed)).all()
    assert ((whole >= 0) == dag.on_path()).all()


@pytest.mark.parametrize(("sizes", "n_modules"), [([80] * 4, 4), ([150, 60] * 2, 6)])
def test_planted_modules_are_found(sizes: list[int], n_modules: int) -> None:
    dag, labels = planted_modules(sizes, n_modules=n_modules, rewired=0.1, random_state=0)
    trimmed = dag.trim()
    truth = labels[trimmed.unit_index]
    found = leiden(trimmed, hops=2, rng=np.random.default_rng(0))
    for level in range(dag.n_layers - 1):
        part = trimmed.layer == level
        assert adjusted_mutual_info_score(truth[part], found[part]) > 0.8
    whole = leiden_partition(dag, random_state=0)[trimmed.unit_index]
    assert adjusted_mutual_info_score(truth, whole) > 0.9


def test_rewired_networks_are_not_modular() -> None:
    dag = planted_modules([80] * 4, n_modules=4, rewired=1, random_state=0)[0].trim()
    found = leiden(dag, hops=2, rng=np.random.default_rng(0))
    assert len(np.unique(found[dag.layer < 3])) == 3


def test_igraph_gets_its_generator_back() -> None:
    dag = planted_modules([20] * 3, n_modules=2, random_state=0)[0].trim()
    random.seed(0)
    before = random.getstate()
    leiden(dag, hops=2, rng=np.random.default_rng(0))
    assert random.getstate() == before


def test_resolution_must_be_above_zero() -> None:
    dag = planted_modules([4, 4], n_modules=2, random_state=0)[0]
    with pytest.raises(ValueError, match=r"`resolution` must be a number > 0 \(got 0\)"):
        leiden_partition(dag, resolution=0)


def circulant(n_inputs: int, n_hidden: int, n_outputs: int, fan_out: int) -> LayeredDAG:
    """Unit i of each stage has edges to units i, i + 1, … of the next, counted around."""
    arrays = []
    for size, following in ((n_inputs, n_hidden), (n_hidden, n_outputs)):
        mask = np.zeros((following, size))
        for step in range(fan_out):
            mask[(np.arange(size) + step) % following, np.arange(size)] = 1
        arrays.append(mask)
    return LayeredDAG.from_masks(arrays)


def test_leiden_ends_where_many_partitions_are_equally_good() -> None:
    # Without a bound on the iterations this never ends for some seeds.
    for seed in range(16):
        leiden(circulant(35, 10, 7, 2), hops=2, rng=np.random.default_rng(seed))


def test_more_iterations_find_no_better_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    dags = [(circulant(35, 10, 7, 2), seed) for seed in range(16)]
    dags += [
        (planted_modules([60] * 3, n_modules=4, rewired=0.2, random_state=seed)[0].trim(), seed) for seed in (0, 1)
    ]
    for dag, seed in dags:
        graph = similarity_graph(dag, 0, hops=2)
        for resolution in _resolutions(graph)[::6]:
            quality = []
            for iterations in (MAX_ITERATIONS, 20 * MAX_ITERATIONS):
                monkeypatch.setattr("modgraph.cluster.leiden.MAX_ITERATIONS", iterations)
                labels = _clusters(graph, resolution, np.random.default_rng(seed))
                quality.append(potts_quality(graph, labels, resolution))
            assert quality[0] >= 0.999 * quality[1]


def potts_quality(graph: SimilarityGraph, labels: IntArray, resolution: float) -> float:
    """Similarity within the clusters, less `resolution` for each pair of units in the same one."""
    of_row = np.zeros(len(graph.copies), dtype=int)
    of_row[graph.row_of] = labels
    one, two = graph.pairs.T
    inside = of_row[one] == of_row[two]
    sizes = np.bincount(of_row, graph.copies)
    within = (graph.cosine * graph.copies[one] * graph.copies[two])[inside].sum()
    within += (graph.copies * (graph.copies - 1) / 2).sum()  # equal rows: their cosine is 1
    return float(within - resolution * (sizes * (sizes - 1) / 2).sum())


def similar_rows(pairs: list[list[int]], cosine: list[float], copies: list[int]) -> SimilarityGraph:
    return SimilarityGraph(
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        cosine=np.array(cosine),
        copies=np.array(copies),
        row_of=np.repeat(np.arange(len(copies)), copies),
        capped=False,
    )


def test_resolutions_run_from_the_mean_similarity_to_the_largest() -> None:
    # Rows that 2, 3 and 1 of 6 units have: 6 and 3 of the 15 pairs of units have a column in common.
    found = _resolutions(similar_rows([[0, 1], [1, 2]], [0.5, 0.25], [2, 3, 1]))
    assert len(found) == 24
    assert found[0] == pytest.approx((6 * 0.5 + 3 * 0.25) / 15)
    assert found[-1] == pytest.approx(0.5)
    assert found[1:] / found[:-1] == pytest.approx(found[1] / found[0])
    assert _resolutions(similar_rows([], [], [2, 2])).tolist() == [1.0]


@pytest.mark.parametrize(("resolution", "n_clusters"), [(0.39, 1), (0.41, 2)])
def test_rows_weigh_as_much_as_the_units_that_have_them(resolution: float, n_clusters: int) -> None:
    # Together: 6 pairs of units at 0.4 less 6 resolutions.
    labels = _clusters(similar_rows([[0, 1]], [0.4], [2, 3]), resolution, np.random.default_rng(0))
    assert len(np.unique(labels)) == n_clusters
    assert labels[0] == labels[1]
    assert labels[2] == labels[3] == labels[4]


def test_each_pair_of_layers_is_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    import leidenalg

    dag, _ = planted_modules([6, 6, 6, 6], n_modules=2, random_state=0)
    skipping = [[0, 12], [1, 18], [2, 19], [7, 20]]  # from layer 0 to layers 2 and 3, from layer 1 to layer 3
    dag = LayeredDAG.from_edges(np.concatenate([dag.edges, skipping]), layer=dag.layer).trim()
    graphs = []

    def look(given: list[Any], *arguments: Any, **options: Any) -> Any:
        graphs.extend(given)
        return find(given, *arguments, **options)

    find = leidenalg.find_partition_multiplex
    monkeypatch.setattr(leidenalg, "find_partition_multiplex", look)
    leiden_partition(dag)
    joined = [{(int(dag.layer[one]), int(dag.layer[two])) for one, two in graph.get_edgelist()} for graph in graphs]
    assert sorted(joined, key=min) == [{(0, 1)}, {(0, 2)}, {(0, 3)}, {(1, 2)}, {(1, 3)}, {(2, 3)}]
    assert sum(graph.ecount() for graph in graphs) == dag.n_edges
    assert all(graph.vcount() == dag.n_units for graph in graphs)


def test_any_seed_will_do_and_0_is_the_default() -> None:
    rng = np.random.default_rng(0)
    dag = LayeredDAG.from_masks([rng.random((12, 12)) < 0.4 for _ in range(3)])
    found = [leiden_partition(dag, random_state=seed).tolist() for seed in range(3)]
    assert len({*map(tuple, found)}) > 1
    assert leiden_partition(dag).tolist() == found[0] != found[1]


def test_small_planted_layers_are_told_apart() -> None:
    dag, labels = planted_modules([24] * 3, n_modules=2, fan_out=4, random_state=0)
    found = leiden(dag.trim(), hops=2, rng=np.random.default_rng(0))
    truth = labels[dag.trim().unit_index]
    for level in (0, 1):
        part = dag.trim().layer == level
        assert adjusted_mutual_info_score(truth[part], found[part]) == pytest.approx(1)
