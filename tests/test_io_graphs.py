"""Graphs from files of other programs, written by those programs, and ``.nnet`` files."""

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

from modgraph import detect_modules
from modgraph.forward import forward
from modgraph.io import load_network, save_graph
from tests.io_networks import assert_same, network, nnet_text

WEB = nx.DiGraph(
    [("grass", "hare", {"weight": 2.0}), ("hare", "fox", {"weight": 1.5}), ("grass", "snail", {"weight": 0.1})]
)
WRITERS: dict[str, Any] = {
    ".graphml": nx.write_graphml,
    ".gexf": nx.write_gexf,
    ".gml": nx.write_gml,
    ".json": lambda graph, path: path.write_text(json.dumps(nx.node_link_data(graph, edges="edges"))),
    ".csv": lambda graph, path: nx.write_weighted_edgelist(graph, path, delimiter=","),
    ".edgelist": nx.write_weighted_edgelist,
    ".tsv": lambda graph, path: nx.write_weighted_edgelist(graph, path, delimiter="\t"),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_graphs_of_networkx_are_read(suffix: str, tmp_path: Path) -> None:
    WRITERS[suffix](WEB, tmp_path / f"web{suffix}")
    dag = load_network(tmp_path / f"web{suffix}")
    assert dag.unit_names is not None
    names = dag.unit_names.tolist()
    assert dag.layer_sizes == (1, 1, 2)
    assert dag.weights is not None
    shown = {(names[a], names[b]): weight for (a, b), weight in zip(dag.edges.tolist(), dag.weights, strict=True)}
    assert shown == {("grass", "hare"): 2.0, ("hare", "fox"): 1.5, ("grass", "snail"): 0.1}
    assert load_network(tmp_path / f"web{suffix}", threshold=0.5).n_edges == 2


@pytest.mark.parametrize("suffix", [".graphml", ".gexf", ".gml", ".json", ".csv"])
def test_what_save_graph_writes_comes_back(suffix: str, tmp_path: Path) -> None:
    dag = network().dag
    save_graph(dag, tmp_path / f"net{suffix}")
    again = load_network(tmp_path / f"net{suffix}")
    if suffix == ".csv":  # edges only
        assert again.n_edges == dag.n_edges
        return
    assert_same(again, dag) if suffix != ".gexf" else None
    assert (again.edges == dag.edges).all()
    assert again.unit_names is not None
    assert again.unit_names[[0, 5, 20]].tolist() == ["x0", "h1.0", "y2"]
    assert detect_modules(again).labels.tolist() == detect_modules(dag).labels.tolist()


@pytest.mark.parametrize("suffix", ["graphml", "gml"])
def test_graphs_of_igraph_are_read(suffix: str, tmp_path: Path) -> None:
    graph = igraph.Graph(4, [(0, 1), (1, 2), (0, 3)], directed=True)
    graph.write(str(tmp_path / f"web.{suffix}"))
    assert load_network(tmp_path / f"web.{suffix}").layer_sizes == (1, 1, 2)


def test_tables_with_a_header_are_read(tmp_path: Path) -> None:
    with (tmp_path / "edges.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("kind", "Target", "weight", "Source"), ("eats", "fox", 2, "hare"), ("eats", "hare", 1, "grass")]
        )
    dag = load_network(tmp_path / "edges.csv")
    assert dag.unit_names is not None
    assert dag.unit_names.tolist() == ["grass", "hare", "fox"]
    assert dag.weights is not None
    assert dag.weights.tolist() == [1.0, 2.0]


def test_cycles_in_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("a,b\nb,c\nc,b\nc,d\n")
    assert load_network(tmp_path / "edges.csv").notes == ("1 cycle became one unit each: b, c.",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.graphml", '<!DOCTYPE x [<!ENTITY a "b">]><graphml/>', "must not define entities"),
        ("a.graphml", "<graphml", "can't be read as a graph"),
        ("a.gml", "graph [ node [ id 1 ]", "can't be read as a graph"),
        ("a.json", '{"nodes": 3}', "must have a list of nodes"),
        ("a.json", '{"nodes": [], "directed": false, "links": []}', "must be directed"),
        ("a.csv", "a\nb\n", "every row must have a source and a target"),
        ("a.csv", "a,b\nb,a\n", "must have an input, an output, and an edge"),
        ("a.nnet", "// nothing", "can't be read as a .nnet file"),
        ("a.nnet", "1,2,1,2,\n2,1,\n0\n0,0\n1,1\n0,0,0\n1,1,1\n1,1\n", "must hold 2 lines of weights and biases"),
    ],
)
def test_broken_files_get_one_sentence(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path / name)


def test_nnet_files_compute_what_they_say(tmp_path: Path) -> None:
    net = network()
    means, ranges = np.arange(5) / 2, np.arange(1.0, 6)
    lines = nnet_text(net).splitlines()
    lines[6], lines[7] = (",".join(map(str, row)) + "," for row in ([*means, 2.5], [*ranges, 4]))
    (tmp_path / "net.nnet").write_text("\n".join(lines))
    dag = load_network(tmp_path / "net.nnet")
    assert (dag.edges == net.dag.edges).all()
    inputs = np.random.default_rng(0).normal(size=(4, 5))
    values = (inputs - means) / ranges
    for at, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        values = values @ weight.T.astype(float) + bias
        values = np.maximum(values, 0) if at < 2 else values
    np.testing.assert_allclose(forward(dag, inputs)[:, -3:], values * 4 + 2.5, atol=1e-5)


def test_graphs_are_read_from_the_command_line(tmp_path: Path) -> None:
    WRITERS[".csv"](WEB, tmp_path / "web.csv")
    command = [sys.executable, "-m", "modgraph", "info", str(tmp_path / "web.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3" in done.stdout
