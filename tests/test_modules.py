import functools
import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules
from modgraph.cluster import published_linkage
from modgraph.cluster.methods import SMALL_GRAPH
from modgraph.io import to_igraph, to_networkx
from modgraph.labels import by_first_unit
from modgraph.merge import merge_clusters
from modgraph.modules import ModuleGraph
from tests.networks import two_strands
from tests.refit import refit_modules
from tests.strategies import dags, permuted

METHODS = ["linkage", "published", "leiden"]  # "blockmodel" needs graph-tool


# What comes out


def test_hand_drawn_hierarchy() -> None:
    # x0, x1 → H → A, B; x2 → C; the first output reads A, the last reads B and C, which nothing tells apart.
    edges = [[0, 3], [1, 3], [0, 4], [1, 4], [3, 6], [4, 6], [3, 7], [4, 7], [2, 5], [5, 8], [6, 9], [7, 10], [8, 10]]
    dag = LayeredDAG.from_edges(edges, layer=[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    found = detect_modules(dag, clustering=lambda rows: np.unique(rows, axis=0, return_inverse=True)[1])
    assert found.labels.tolist() == [0, 0, 1, 0, 0, 1, 2, 3, 3, 2, 3]
    modules = found.modules
    assert [m.level for m in modules] == [0, 0, 1, 1]
    assert [m.layers for m in modules] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert [m.inputs.tolist() for m in modules] == [[0, 1], [2], [0, 1], [0, 1, 2]]
    assert [m.outputs.tolist() for m in modules] == [[9, 10], [10], [9], [10]]
    graph = found.graph
    links = list(zip(graph.source.tolist(), graph.target.tolist(), graph.n_edges.tolist(), strict=True))
    assert links == [(0, 2, 2), (0, 3, 2), (1, 3, 1)]


@pytest.mark.parametrize("clustering", METHODS[:2])  # Leiden finds tiny layers not worth telling apart
@pytest.mark.parametrize("copies", [1, SMALL_GRAPH // 8 + 2])
def test_separate_strands_are_separate_modules(clustering: str, copies: int) -> None:
    # The larger copy goes through sparse matrices instead of dense ones. Above five equal modules M can't say how
    # many there are (resolution limit), but it must not mix strands that share nothing.
    dag = two_strands(copies)
    found = detect_modules(dag, clustering=clustering)
    strand = np.concatenate([np.repeat(np.arange(2 * copies), size) for size in (2, 2, 1)])
    if copies == 1:
        assert adjusted_rand_score(found.labels, strand) == 1.0
    together = found.labels[:, None] == found.labels
    assert together[strand[:, None] == strand][: 4 * 2 * copies].all()


def test_trimmed_units_have_label_minus_one() -> None:
    dag = LayeredDAG.from_masks([[[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[1, 0, 0], [0, 0, 0], [0, 1, 0]]])
    found = detect_modules(dag)
    assert (found.labels == -1).tolist() == [False, True, False, False, False, True, False, False, False]
    assert (found.cluster_labels == -1).tolist() == (found.labels == -1).tolist()


def test_a_network_without_edges_has_its_outputs_as_modules() -> None:
    found = detect_modules(LayeredDAG.from_masks([np.zeros((2, 3)), np.zeros((4, 2))]))
    assert found.labels.tolist() == [-1] * 5 + [0, 1, 2, 3]
    assert [m.inputs.size for m in found.modules] == [0] * 4
    assert len(found.graph.source) == 0


# Properties


@settings(max_examples=200)
@given(dags(), st.integers(1, 5) | st.none(), st.integers(0, 2**32 - 1))
def test_permuting_units_changes_nothing(dag: LayeredDAG, hops: int | None, seed: int) -> None:
    other, place = permuted(dag, np.random.default_rng(seed))
    before, after = (detect_modules(d, hops=hops) for d in (dag, other))
    for one, two in ((before.labels, after.labels[place]), (before.cluster_labels, after.cluster_labels[place])):
        assert ((one < 0) == (two < 0)).all()
        assert adjusted_rand_score(one, two) == 1.0


@settings(max_examples=60)
@given(dags(), st.sampled_from([0.3, 0.6, 0.9, 1.0]), st.sampled_from(METHODS))
def test_modules_are_unions_of_clusters(dag: LayeredDAG, threshold: float, clustering: str) -> None:
    found = detect_modules(dag, merge_threshold=threshold, clustering=clustering)
    pairs = set(zip(found.cluster_labels.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == len(np.unique(found.cluster_labels))
    for cluster in np.unique(found.cluster_labels[found.cluster_labels >= 0]):
        assert len(np.unique(dag.layer[found.cluster_labels == cluster])) == 1
    kept = found.labels[found.labels >= 0]
    first = [kept.tolist().index(label) for label in range(found.n_modules)]
    assert first == sorted(first)


@given(dags())
def test_modules_know_what_they_depend_on(dag: LayeredDAG) -> None:
    found = detect_modules(dag)
    graph = to_networkx(found)
    for module in found.modules:
        units = set(module.units.tolist())
        before = units.union(*(nx.ancestors(graph, unit) for unit in units))
        after = units.union(*(nx.descendants(graph, unit) for unit in units))
        assert module.inputs.tolist() == sorted(u for u in before if dag.layer[u] == 0)
        assert module.outputs.tolist() == sorted(u for u in after if dag.layer[u] == dag.n_layers - 1)
        assert (found.labels[module.units] == module.id).all()
    assert sum(len(module.units) for module in found.modules) == (found.labels >= 0).sum()


@given(dags())
def test_levels_are_longest_chains(dag: LayeredDAG) -> None:
    graph = detect_modules(dag).graph
    links = graph.to_networkx()
    condensed = nx.condensation(links)
    expected: dict[int, int] = {}
    for component in nx.topological_sort(condensed):
        before = [expected[other] for other in condensed.predecessors(component)]
        expected[component] = max(before, default=-1) + 1
    mapping = condensed.graph["mapping"]
    assert graph.levels().tolist() == [expected[mapping[module]] for module in range(graph.n_modules)]


@given(dags(skips=False), st.integers(1, 4))
def test_published_equals_the_refitting_oracle(dag: LayeredDAG, hops: int) -> None:
    trimmed = dag.trim()
    found = detect_modules(dag, clustering="published", hops=hops)
    assert adjusted_rand_score(found.labels[found.labels >= 0], refit_modules(trimmed, hops=hops)) == 1.0


@given(dags())
def test_nothing_given_is_changed(dag: LayeredDAG) -> None:
    before = [array.copy() for array in (dag.sources, dag.targets, dag.layer, dag.unit_index)]
    found = detect_modules(dag)
    _ = found.modules, found.graph, to_networkx(found)
    for old, new in zip(before, (dag.sources, dag.targets, dag.layer, dag.unit_index), strict=True):
        assert (old == new).all()
    for array in (found.labels, found.cluster_labels, found.modules[0].units, found.graph.source):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 7


# The merge rule


def test_modules_that_feed_each_other_share_a_level() -> None:
    # 19 of 20 edges keep to each strand, one crosses over: both merge, and the crossings make a cycle.
    strand = np.ones((20, 1), dtype=int)
    masks = [np.kron(np.eye(2, dtype=int), strand), np.kron(np.eye(2, dtype=int), strand.T)]
    masks[1][0, 20] = masks[1][1, 0] = 1
    dag = LayeredDAG.from_masks([*masks, np.eye(2)])
    clusters = np.array([0, 1] + [2] * 20 + [3] * 20 + [4, 5, 6, 7])
    labels = merge_clusters(dag, clusters)
    found = ModuleHierarchy(dag=dag, labels=labels, cluster_labels=clusters)
    assert found.n_modules == 2
    assert found.graph.levels().tolist() == [0, 0]


# Shares and links between modules, as influence gives them


def with_shares(shares: list[list[float]], links: list[list[int]]) -> ModuleHierarchy:
    """Three inputs, each a module, that all feed one output, which belongs to the last."""
    dag = LayeredDAG.from_masks([np.ones((1, 3))])
    labels = np.array([0, 1, 2, 2])
    return ModuleHierarchy(
        dag=dag, labels=labels, cluster_labels=np.arange(4), shares=np.array(shares), links=np.array(links)
    )


def test_units_are_shared_where_the_second_share_is_half_the_largest_or_more() -> None:
    found = with_shares([[0.5, 0.25, 0.25], [0.5, 0.24, 0.1], [0, 0, 0], [0.1, 0.3, 0.2]], links=[[0, 2]])
    assert found.shared.tolist() == [True, False, False, True]


def test_only_given_links_join_modules() -> None:
    found = with_shares(np.ones((4, 3)).tolist(), links=[[1, 2]])
    assert (found.graph.source.tolist(), found.graph.target.tolist()) == ([1], [2])
    assert [module.outputs.tolist() for module in found.modules] == [[], [3], [3]]
    assert [module.inputs.tolist() for module in found.modules] == [[0], [1], [1, 2]]


@pytest.mark.parametrize("links", [[0, 1], [[0, 1, 2]], [[0, 3]], [[-1, 0]]])
def test_bad_links_and_shares_are_refused(links: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="`links` must be pairs of modules from 0 to 2"):
        with_shares(np.ones((4, 3)).tolist(), links)
    with pytest.raises(ValueError, match=r"`shares` must have shape \(4, 3\) \(got \(4, 2\)\)"):
        with_shares(np.ones((4, 2)).tolist(), [[0, 1]])


def test_influence_is_not_measured_between_too_many_inputs_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [np.ones((1, 2)), np.ones((2, 1))]
    dag = LayeredDAG.from_masks(masks, weights=masks)
    monkeypatch.setattr("modgraph.modules.LARGEST", 4)
    assert "paths join" in detect_modules(dag).settings["features"]
    monkeypatch.setattr("modgraph.modules.LARGEST", 3)
    assert "too many pairs" in detect_modules(dag).settings["features"]


# What decides between wiring, influence and attributes


def fanned(n_paths: int) -> LayeredDAG:
    """One input and one output, joined by so many paths of two edges."""
    masks = [np.ones((n_paths, 1)), np.ones((1, n_paths))]
    return LayeredDAG.from_masks(masks, weights=masks, activations=["relu", "identity"])


def test_more_than_five_paths_per_pair_ask_for_influence() -> None:
    assert detect_modules(fanned(5)).settings["features"] == "wiring: 5 paths join an input and an output on average"
    # With one input and one output influence shows no more than wiring, which is then taken.
    six = "wiring: edges keep to modules better than influence does"
    assert detect_modules(fanned(6)).settings["features"] == six
    options: list[dict[str, Any]] = [{"hops": 1}, {"clustering": "published"}]
    for asked in options:
        found = detect_modules(fanned(6), **asked)
        assert found.settings["features"] == "wiring: a clustering or hops were asked for"
    assert detect_modules(fanned(6), hops=2).settings["features"] == six
    assert detect_modules(fanned(6), features="wiring").settings["features"] == "wiring: asked for"
    assert detect_modules(fanned(2), features="influence").settings["features"].startswith("influence: asked for; ")


def test_attributes_are_used_where_the_graph_has_weights_and_positions() -> None:
    edges, layer = [[0, 2], [0, 3], [1, 3], [2, 4], [3, 4]], [0, 0, 1, 1, 2]

    def used(*, weights: bool = True, positions: bool = True, **options: Any) -> str:
        dag = LayeredDAG.from_edges(
            edges,
            layer=layer,
            weights=np.arange(1.0, 6.0) if weights else None,
            positions=np.zeros(5, dtype=int) if positions else None,
        )
        return str(detect_modules(dag, **options).settings["features"])

    assert used() == "attributes: the graph has weights and token positions"
    assert used(features="attributes") == "attributes: asked for"
    assert used(weights=False) == "wiring: the network has no weights"
    for options in ({"positions": False}, {"features": "wiring"}, {"hops": 1}, {"clustering": "published"}):
        assert used(**options).startswith("wiring: ")


def test_clusters_by_influence_are_the_parts_of_modules_in_each_layer() -> None:
    blocks = np.kron(np.eye(2), np.ones((4, 6)))
    masks = [blocks, np.kron(np.eye(2), np.ones((3, 4)))]
    masks[1][5] = 0  # an output that reads nothing
    dag = LayeredDAG.from_masks(
        masks, weights=[mask * (1 + np.arange(mask.size).reshape(mask.shape)) for mask in masks]
    )
    found = detect_modules(dag, features="influence")
    assert found.labels[-1] == found.cluster_labels[-1] == -1
    kept = found.labels >= 0
    parts = dag.layer * found.n_modules + found.labels
    assert found.cluster_labels[kept].tolist() == by_first_unit(parts[kept]).tolist()
    assert (found.cluster_labels == -1).tolist() == (found.labels == -1).tolist()
    assert found.membership.shape == (dag.n_units, found.n_modules)


def test_data_are_those_of_all_inputs_and_only_kept_ones_count() -> None:
    rng = np.random.default_rng(0)
    masks = [np.kron(np.eye(2), np.ones((4, 5))), np.kron(np.eye(2), np.ones((3, 4)))]
    masks[0][:, 0] = 0  # an input that nothing reads
    weights = [mask * rng.normal(size=mask.shape) for mask in masks]
    dag = LayeredDAG.from_masks(masks, weights=weights, activations=["relu", "identity"])
    data = rng.normal(size=(20, 10))
    other = data.copy()
    other[:, 0] = 99
    one, two = (detect_modules(dag, features="influence", data=rows) for rows in (data, other))
    assert one.labels.tolist() == two.labels.tolist()
    assert one.labels[0] == -1
    for wrong in (data[:, 1:], data[0]):
        with pytest.raises(ValueError, match=r"`data` must have shape \(n_samples, 10\)"):
            detect_modules(dag, features="influence", data=wrong)
    assert detect_modules(dag, features="wiring", data=data[0]).settings["features"] == "wiring: asked for"


def test_modules_and_hierarchies_say_what_they_are() -> None:
    found = detect_modules(two_strands())
    assert repr(found.modules[1]) == "Module(1: 5 units in layers [0, 1, 2], level 0, 2 inputs → 1 output)"
    assert repr(found.graph) == "ModuleGraph(2 modules, 0 links)"
    assert repr(found) == "ModuleHierarchy(2 modules, 10 of 10 units)"
    assert [module.id for module in found.modules] == [0, 1]


@pytest.mark.parametrize("labels", [[-2, 0, 0, 0], [0, 0, 0, 4], [0, 0, 0]])
def test_labels_are_a_module_for_each_unit(labels: list[int]) -> None:
    dag, right = LayeredDAG.from_masks([np.ones((2, 2))]), np.array([-1, 0, 0, 3])
    ModuleHierarchy(dag=dag, labels=right, cluster_labels=right)
    with pytest.raises(ValueError, match=r"`labels` must "):
        ModuleHierarchy(dag=dag, labels=np.array(labels), cluster_labels=right)
    with pytest.raises(ValueError, match=r"`cluster_labels` must "):
        ModuleHierarchy(dag=dag, labels=right, cluster_labels=np.array(labels))


def test_one_module_shares_no_units() -> None:
    dag = LayeredDAG.from_masks([np.ones((1, 2))])
    labels = np.zeros(3, dtype=int)
    found = ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels, shares=np.ones((3, 1)))
    assert found.shared.tolist() == [False] * 3


def test_levels_follow_chains_of_any_length_and_cycles_share_one() -> None:
    def levels(links: list[tuple[int, int]], n_modules: int) -> list[int]:
        source, target = np.array(sorted(links), dtype=np.int64).reshape(-1, 2).T
        graph = ModuleGraph(n_modules=n_modules, source=source, target=target, n_edges=source * 0 + 1)
        return [int(level) for level in graph.levels()]

    assert levels([], 2) == [0, 0]
    assert levels([(0, 1), (1, 2), (2, 3), (0, 3)], 5) == [0, 1, 2, 3, 0]
    assert levels([(3, 2), (2, 1), (1, 0)], 4) == [3, 2, 1, 0]
    assert levels([(0, 1), (1, 2), (2, 1), (2, 3)], 4) == [0, 1, 1, 2]


def test_a_layer_without_units_or_with_one_needs_no_clustering() -> None:
    # Layer 1 is empty without the unit that nothing enters, and layer 2 has one unit.
    dag = LayeredDAG.from_edges([[0, 3], [1, 3], [3, 4], [3, 5]], layer=[0, 0, 1, 2, 3, 3])
    asked = []

    def look(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return np.zeros(len(rows), dtype=int)

    found = detect_modules(dag, clustering=look)
    assert asked == [2]
    assert found.cluster_labels.tolist() == [0, 0, -1, 1, 2, 3]


# Other clusterings, and bad input


def test_a_scikit_learn_clusterer_fits_in() -> None:
    model = AgglomerativeClustering(n_clusters=2, metric="cosine", linkage="average")
    found = detect_modules(two_strands(), clustering=model.fit_predict)
    assert found.labels.tolist() == detect_modules(two_strands()).labels.tolist()
    assert "fit_predict" in found.settings["clustering"]


def test_thresholds_of_a_method_are_set_with_partial() -> None:
    found = detect_modules(two_strands(), clustering=functools.partial(published_linkage, modularity_threshold=0.3))
    assert found.n_modules == 2


def test_callables_get_boolean_rows_within_the_hops() -> None:
    seen = []

    def look(rows: np.ndarray) -> np.ndarray:
        seen.append(rows)
        return np.zeros(len(rows), dtype=int)

    detect_modules(two_strands(), clustering=look, hops=1)
    assert [rows.shape for rows in seen] == [(4, 4), (4, 2)]
    assert all(rows.dtype == np.bool_ for rows in seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hops": 0}, r"`hops` must be an int ≥ 1 \(got 0\)"),
        ({"merge_threshold": 0}, r"`merge_threshold` must be a number in \(0, 1\] \(got 0\)"),
        ({"merge_threshold": 1.2}, r"`merge_threshold` must be a number in \(0, 1\] \(got 1.2\)"),
        ({"merge_threshold": float("nan")}, r"`merge_threshold` must be a number in \(0, 1\] \(got nan\)"),
        ({"clustering": "louvain"}, r"`clustering` must be one of .* \(got 'louvain'\)"),
        ({"clustering": lambda _: [0]}, r"`clustering` must return an int for each of 4 rows"),
        ({"clustering": lambda rows: np.zeros(len(rows))}, r"`clustering` must return an int.*float64"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detect_modules(two_strands(), **arguments)  # type: ignore[arg-type]


def test_a_bad_seed_is_refused() -> None:
    with pytest.raises((ValueError, TypeError)):
        detect_modules(two_strands(), random_state=-1)


# Files and other libraries


@given(dags())
def test_networkx_and_igraph_get_the_trimmed_network(dag: LayeredDAG) -> None:
    found = detect_modules(dag)
    trimmed = dag.trim()
    edges = trimmed.unit_index[trimmed.edges].tolist()
    graph, vertices = to_networkx(found), to_igraph(found)
    assert sorted(map(list, graph.edges)) == edges
    assert sorted([vertices.vs[a]["unit"], vertices.vs[b]["unit"]] for a, b in vertices.get_edgelist()) == edges
    for unit in trimmed.unit_index.tolist():
        vertex = vertices.vs.find(unit=unit)
        for key, value in (("layer", dag.layer), ("module", found.labels), ("cluster", found.cluster_labels)):
            assert graph.nodes[unit][key] == vertex[key] == value[unit]
            assert type(graph.nodes[unit][key]) is int


def test_graphml_is_read_by_networkx_and_igraph(tmp_path: Path) -> None:
    import igraph

    path = tmp_path / "network.graphml"
    found = detect_modules(two_strands())
    nx.write_graphml(to_networkx(found), path)
    again = nx.read_graphml(path)
    assert [again.nodes[str(unit)]["module"] for unit in range(10)] == found.labels.tolist()
    other = igraph.Graph.Read_GraphML(str(path))
    assert [int(module) for module in other.vs["module"]] == found.labels.tolist()
    assert other.ecount() == found.dag.n_edges


def test_subset_gives_a_layered_layout() -> None:
    graph = to_networkx(detect_modules(two_strands()))
    position = nx.multipartite_layout(graph)
    columns = {graph.nodes[unit]["layer"]: {round(position[unit][0], 9)} for unit in graph}
    assert all(len(place) == 1 for place in columns.values())
    assert len(set(itertools.chain(*columns.values()))) == 3
