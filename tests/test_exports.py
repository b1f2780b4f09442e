"""Graphs out and back, through the libraries that read them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import igraph
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules
from modgraph.io import (
    from_igraph,
    from_networkx,
    save_graph,
    to_igraph,
    to_networkx,
)
from tests.io_networks import assert_same, network
from tests.strategies import dags

READERS: dict[str, Any] = {
    ".graphml": lambda path: nx.read_graphml(path, node_type=int),
    ".gexf": lambda path: nx.read_gexf(path, node_type=int),
    ".gml": lambda path: nx.read_gml(path, destringizer=int),
    ".json": lambda path: nx.node_link_graph(json.loads(path.read_text()), edges="edges"),
}


@pytest.fixture
def found() -> ModuleHierarchy:
    return detect_modules(network().dag)


@given(dags())
def test_networkx_and_igraph_give_back_the_graph(dag: LayeredDAG) -> None:
    for again in (from_networkx(to_networkx(dag)), from_igraph(to_igraph(dag))):
        assert (again.edges == dag.edges).all()
        assert again.layer.tolist() == dag.layer.tolist()
        assert again.dense_edges == dag.dense_edges
        assert again.weights is None


def test_weights_biases_and_names_come_back() -> None:
    dag = network().dag
    for again in (from_networkx(to_networkx(dag)), from_igraph(to_igraph(dag))):
        assert_same(again, dag)
        assert again.unit_names is not None
        assert again.unit_names[[0, 5, 20]].tolist() == ["x0", "h1.0", "y2"]
        assert again.activations is not None
        assert dag.activations is not None
        assert again.activations.tolist() == dag.activations.tolist()


@pytest.mark.parametrize("suffix", READERS)
def test_files_are_read_by_networkx(suffix: str, tmp_path: Path, found: ModuleHierarchy) -> None:
    path = tmp_path / f"net{suffix}"
    save_graph(found, path)
    graph = READERS[suffix](path)
    expected = to_networkx(found)
    assert sorted(map(int, graph.nodes)) == sorted(expected.nodes)
    assert {(int(a), int(b)) for a, b in graph.edges} == set(expected.edges)
    for node, values in graph.nodes.items():
        assert values["module"] == found.labels[int(node)]
        assert values["subset"] == values["layer"] == found.dag.layer[int(node)]
        assert isinstance(values["bias"], float)
    for a, b, weight in graph.edges(data="weight"):
        assert weight == expected.edges[int(a), int(b)]["weight"]
    again = from_networkx(graph)
    kept = found.dag.subgraph(found.labels >= 0)
    assert (again.edges == kept.edges).all()
    assert again.weights is not None
    assert kept.weights is not None
    assert again.weights.tolist() == kept.weights.tolist()


@pytest.mark.parametrize("suffix", [".graphml", ".gml"])
def test_files_are_read_by_igraph(suffix: str, tmp_path: Path, found: ModuleHierarchy) -> None:
    path = tmp_path / f"net{suffix}"
    save_graph(found, path)
    graph = igraph.Graph.Read(str(path))
    kept = found.dag.subgraph(found.labels >= 0)
    assert sorted(graph.get_edgelist()) == [tuple(edge) for edge in kept.edges.tolist()]
    assert [int(module) for module in graph.vs["module"]] == found.labels[found.labels >= 0].tolist()


def test_multipartite_layout_puts_layers_in_columns(found: ModuleHierarchy) -> None:
    graph = to_networkx(found)
    places = nx.multipartite_layout(graph)
    columns = {layer: {places[n][0] for n, at in graph.nodes(data="layer") if at == layer} for layer in range(4)}
    assert all(len(column) == 1 for column in columns.values())
    assert len(set.union(*columns.values())) == 4


def test_attributes_are_plain(found: ModuleHierarchy) -> None:
    graph = to_networkx(found)
    values = [value for node in graph.nodes.values() for value in node.values()]
    values += [value for edge in graph.edges.values() for value in edge.values()] + list(graph.graph.values())
    assert {type(value) for value in values} == {int, str, float}
    assert {type(node) for node in graph.nodes} == {int}


def test_csv_has_edges_and_units(found: ModuleHierarchy, tmp_path: Path) -> None:
    save_graph(found, tmp_path / "net.csv")
    with (tmp_path / "net.csv").open() as file:
        rows = list(csv.DictReader(file))
    graph = to_networkx(found)
    assert [(int(row["source"]), int(row["target"])) for row in rows] == list(graph.edges)
    assert [float(row["weight"]) for row in rows] == [weight for *_, weight in graph.edges(data="weight")]
    with (tmp_path / "net.units.csv").open() as file:
        assert [int(row["module"]) for row in csv.DictReader(file)] == [one["module"] for one in graph.nodes.values()]


@pytest.mark.parametrize("suffix", READERS)
def test_odd_names_survive_files(suffix: str, tmp_path: Path) -> None:
    names = ["<&>", "\x00\x1b", "é\N{SNOWMAN}"]
    dag = LayeredDAG.from_masks([[[1, 1]]], unit_names=names)
    save_graph(dag, tmp_path / f"net{suffix}")
    graph = READERS[suffix](tmp_path / f"net{suffix}")
    key = "unit_name" if suffix == ".gml" else "name"
    assert graph.nodes[0][key] == names[0]
    assert graph.nodes[2][key] == names[2]


def test_layers_are_found_where_none_are_given() -> None:
    graph = nx.DiGraph([("a", "h"), ("h", "y"), ("a", "y"), ("b", "y")])
    dag = from_networkx(graph)
    assert dag.layer_sizes == (2, 1, 1)
    assert dag.unit_names is not None
    assert dag.unit_names.tolist() == ["a", "b", "h", "y"]
    assert from_igraph(igraph.Graph(4, [(0, 1), (1, 2), (0, 2), (3, 2)], directed=True)).layer_sizes == (2, 1, 1)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.Graph([(0, 1)]), r"must be a networkx.DiGraph \(got Graph\)"),
        (nx.MultiDiGraph([(0, 1)]), "must be a networkx.DiGraph"),
        (nx.DiGraph([(0, 1), (1, 0)]), "must have an input, an output, and an edge that lies on no cycle"),
        (nx.DiGraph([(0, 0)]), "must have an input, an output, and an edge"),
        (nx.DiGraph(), "must have an input, an output, and an edge"),
    ],
)
def test_bad_graphs_get_one_sentence(graph: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_networkx(graph)


def test_no_sink_is_lost() -> None:
    # A food web: the last species of a chain may be an early one of another.
    web = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "d"), ("a", "e"), ("b", "f")])
    dag = from_networkx(web)
    assert dag.unit_names is not None
    assert set(dag.unit_names[dag.layer == dag.n_layers - 1].tolist()) == {"d", "e", "f"}
    assert dag.trim().n_edges == dag.n_edges == 5
    assert dag.notes == ()


@pytest.mark.parametrize("outputs", [["c", "e"], lambda node: node in "ce"])
def test_inputs_and_outputs_may_be_chosen(outputs: Any) -> None:
    web = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "d"), ("a", "e"), ("b", "f")])
    dag = from_networkx(web, inputs={"b", "a"}, outputs=outputs)
    assert dag.unit_names is not None
    names = dag.unit_names.tolist()
    assert dag.layer_sizes[0] == 2
    assert [names[unit] for unit in np.flatnonzero(dag.layer == dag.n_layers - 1)] == ["e", "c (output)"]
    assert dag.notes == ("Left out, because they enter inputs: 1 edge.",)
    kept = dag.trim()
    assert kept.unit_names is not None
    assert kept.unit_names.tolist() == ["a", "b", "c", "e", "c (output)"]
    with pytest.raises(ValueError, match=r"`outputs` must be nodes of the graph \(got 'z'\)"):
        from_networkx(web, outputs=["z"])
    with pytest.raises(ValueError, match="`inputs` must be 'sources', nodes, or a function"):
        from_networkx(web, inputs="all")


def test_cycles_become_one_unit_each_and_are_named() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "d"), ("a", "d")])
    dag = from_networkx(graph)
    assert dag.unit_names is not None
    assert dag.unit_names.tolist() == ["a", "b + c", "d"]
    assert dag.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert dag.notes == ("1 cycle became one unit each: b, c.", "Left out: 1 edge from a node to itself.")
    assert LayeredDAG.from_digraph(list(graph.edges)) == dag


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_layers_of_any_digraph_are_networkxs(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, n, size=(2 * n, 2))
    condensed = nx.condensation(nx.DiGraph(edges.tolist()))
    if condensed.number_of_edges() == 0:
        with pytest.raises(ValueError, match="an edge that lies on no cycle"):
            LayeredDAG.from_digraph(edges)
        return
    dag = LayeredDAG.from_digraph(edges, weights=np.ones(len(edges)))
    assert dag.n_edges == condensed.number_of_edges()
    assert dag.weights is not None
    between = [condensed.graph["mapping"][a] != condensed.graph["mapping"][b] for a, b in edges.tolist()]
    assert dag.weights.sum() == sum(between)
    depth = {node: at for at, layer in enumerate(nx.topological_generations(condensed)) for node in layer}
    sinks = [node for node in condensed if not condensed.succ[node] and condensed.pred[node]]
    assert dag.layer_sizes[0] == sum(at == 0 for at in depth.values())
    assert dag.layer_sizes[-1] == len(sinks)
    assert dag.n_layers == 2 + max((at for node, at in depth.items() if node not in sinks), default=0)


def test_csv_cells_are_never_formulas(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@sum", "\tx", "plain"]
    dag = LayeredDAG.from_masks([np.ones((1, 5))], weights=[-np.ones((1, 5))], unit_names=names)
    save_graph(dag, tmp_path / "net.csv")
    with (tmp_path / "net.units.csv").open(newline="") as file:
        shown = [row["name"] for row in csv.DictReader(file)]
    assert shown == ["'=1+1", "'+1", "'-1", "'@sum", "\N{REPLACEMENT CHARACTER}x", "plain"]
    with (tmp_path / "net.csv").open(newline="") as file:
        assert {row["weight"] for row in csv.DictReader(file)} == {"-1.0"}  # numbers stay numbers


def test_bad_igraphs_and_suffixes_get_one_sentence(found: ModuleHierarchy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a directed igraph\.Graph"):
        from_igraph(igraph.Graph(2, [(0, 1)]))
    with pytest.raises(ValueError, match=r"`path` must end in one of .graphml, .gexf"):
        save_graph(found, tmp_path / "net.xyz")


@pytest.mark.parametrize(
    ("call", "library"),
    [("to_networkx", "networkx"), ("to_igraph", "igraph")],
)
def test_what_is_missing_is_named(call: str, library: str) -> None:
    code = f"""
import sys
for name in ("networkx", "igraph"):
    sys.modules[name] = None
import modgraph.io
from modgraph import LayeredDAG
try:
    modgraph.io.{call}(LayeredDAG.from_masks([[[1]]]))
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert library in done.stdout
