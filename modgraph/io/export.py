"""Graphs out: to other libraries, as tables, and as files for other programs.

A hierarchy gives the trimmed network with the module and the cluster of every unit, a `LayeredDAG` all of its units.
Nodes are numbered as in the graph that was given.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import IntArray
from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.modules import ModuleHierarchy
from modgraph.names import clean, unit_names

if TYPE_CHECKING:
    import igraph
    import networkx

Graph = ModuleHierarchy | LayeredDAG

_MOST_DENSE = 1 << 30  # entries of a dense matrix in `save_network`


def _units(graph: Graph) -> dict[str, list[Any]]:
    """List what is known of the units, column by column; of a hierarchy, those that trimming kept."""
    dag, units = _kept(graph)
    table: dict[str, list[Any]] = {
        "unit": units.tolist(),
        "name": np.array(unit_names(dag), dtype=object)[units].tolist(),
        "layer": dag.layer[units].tolist(),
    }
    if isinstance(graph, ModuleHierarchy):
        table |= {"module": graph.labels[units].tolist(), "cluster": graph.cluster_labels[units].tolist()}
    if dag.positions is not None:
        table["position"] = dag.positions[units].tolist()
    if dag.biases is not None:
        table["bias"] = dag.biases[units].tolist()
    if dag.activations is not None:
        table["activation"] = [clean(name) for name in dag.activations[units].tolist()]
    return table


def _edges(graph: Graph) -> dict[str, list[Any]]:
    """List sources, targets, and weights where known; of a hierarchy, between units that trimming kept."""
    dag, units = _kept(graph)
    both = np.isin(dag.edges, units).all(axis=1)
    table: dict[str, list[Any]] = {"source": dag.sources[both].tolist(), "target": dag.targets[both].tolist()}
    if dag.weights is not None:
        table["weight"] = dag.weights[both].tolist()
    return table


def to_networkx(graph: Graph) -> networkx.DiGraph:
    """Return a networkx ``DiGraph``.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG

    Returns
    -------
    networkx.DiGraph
        Nodes are numbers of units, with ``name``, ``layer``, ``subset`` (the layer again, for
        ``networkx.multipartite_layout``), ``module`` and ``cluster`` of a hierarchy, and ``position``, ``bias`` and
        ``activation`` where known. Edges carry ``weight`` where known; the graph, ``dense_edges``.

    Raises
    ------
    ImportError
        If networkx is not installed.
    """
    nx = require("networkx", purpose="this", extra="graphs")
    dag, _ = _kept(graph)
    result = nx.DiGraph(dense_edges=int(dag.dense_edges))
    units = _units(graph)
    numbers = units.pop("unit")
    units["subset"] = units["layer"]
    rows = (dict(zip(units, values, strict=True)) for values in zip(*units.values(), strict=True))
    result.add_nodes_from(zip(numbers, rows, strict=True))
    edges = _edges(graph)
    result.add_edges_from(zip(edges["source"], edges["target"], strict=True))
    if "weight" in edges:
        result.add_weighted_edges_from(zip(*edges.values(), strict=True))
    return result


def to_igraph(graph: Graph) -> igraph.Graph:
    """Return a directed igraph ``Graph``.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG

    Returns
    -------
    igraph.Graph
        As `to_networkx`; vertices carry ``unit``, the number in the graph as given.

    Raises
    ------
    ImportError
        If igraph is not installed.
    """
    igraph = require("igraph", purpose="this", extra="graphs")
    dag, kept = _kept(graph)
    edges = _edges(graph)
    return igraph.Graph(
        n=kept.size,
        edges=np.searchsorted(kept, [edges["source"], edges["target"]]).T.tolist(),
        directed=True,
        graph_attrs={"dense_edges": int(dag.dense_edges)},
        vertex_attrs=_units(graph),
        edge_attrs={"weight": edges["weight"]} if "weight" in edges else {},
    )


def _kept(graph: Graph) -> tuple[LayeredDAG, IntArray]:
    """Return the graph as given, and the units that count."""
    if isinstance(graph, ModuleHierarchy):
        return graph.dag, np.flatnonzero(graph.labels >= 0)
    return graph, np.arange(graph.n_units)


def save_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph for other programs, in the format that the suffix says.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG
    path : path-like
        ``.graphml``, ``.gexf``, ``.gml``, ``.json`` (node-link), or ``.csv``: the edges, and beside them the units
        (``net.csv`` and ``net.units.csv``); a text that a spreadsheet would compute gets a ``'`` in front.

    Raises
    ------
    ValueError
        If the suffix is none of these.
    ImportError
        If the library for the format is not installed.
    """
    target = Path(path)
    writer = _WRITERS.get(target.suffix.lower())
    if writer is None:
        raise ValueError(f"`path` must end in one of {', '.join(_WRITERS)} (got {os.fspath(path)!r})")
    with replacing(target) as part:
        writer(graph, part)


def save_network(dag: LayeredDAG, path: str | os.PathLike[str]) -> None:
    """Write a network as ``.npz``: ``mask0``, ``weight0``, ``bias0``, … in (out, in) order, names and notes.

    Parameters
    ----------
    dag : LayeredDAG
        No edge may skip a layer, and no layer be empty.
    path : path-like
        Ends in ``.npz``.

    Raises
    ------
    ValueError
        If it can't be written so.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz (got {os.fspath(path)!r})")
    if dag.skips_layers or 0 in dag.layer_sizes:
        raise ValueError("`dag` must have units in every layer and no edge that skips one, to be saved as .npz")
    sizes, starts = dag.layer_sizes, dag.layer_starts
    if max(a * b for a, b in itertools.pairwise(sizes)) > _MOST_DENSE:
        raise ValueError(f"`dag` must have smaller layers, to be saved dense (got {sizes})")
    arrays: dict[str, Any] = {}
    for kind, values in (("mask", np.ones(dag.n_edges, dtype=np.bool_)), ("weight", dag.weights)):
        if values is not None:
            matrix = csr_array((values, (dag.targets, dag.sources)), shape=(dag.n_units, dag.n_units))
            for at, (first, start, end) in enumerate(zip(starts, starts[1:], starts[2:], strict=False)):
                arrays[f"{kind}{at}"] = matrix[start:end, first:start].toarray()
    if dag.biases is not None:
        arrays |= {f"bias{at}": dag.biases[a:b] for at, (a, b) in enumerate(itertools.pairwise(starts[1:]))}
    for name in ("activations", "unit_names", "layer_names", "notes"):
        texts = getattr(dag, name)
        if texts is not None and len(texts) > 0:
            arrays[name] = np.array(texts, dtype=np.str_)
    with replacing(target) as part:
        np.savez_compressed(part, **arrays)


# --- Files ------------------------------------------------------------------------------------------------------------


def _gml(graph: Graph, path: Path) -> None:
    shown = to_networkx(graph)
    for values in shown.nodes.values():
        values["unit_name"] = values.pop("name")  # GML readers take `name` for the label
    shown.graph = {"denseEdges": shown.graph["dense_edges"]}  # keys of letters and digits only
    _networkx().write_gml(_networkx().relabel_nodes(shown, str), path)


def _node_link(graph: Graph, path: Path) -> None:
    document = _networkx().node_link_data(to_networkx(graph), edges="edges")
    path.write_text(json.dumps(document), encoding="utf-8")


def _csv(graph: Graph, path: Path) -> None:
    for table, place in ((_edges(graph), path), (_units(graph), path.with_suffix(".units.csv"))):
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows([_cell(value) for value in row] for row in zip(*table.values(), strict=True))


def _cell(value: Any) -> Any:
    """Mark a text that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


_WRITERS: dict[str, Callable[[Graph, Path], None]] = {
    ".graphml": lambda graph, path: _networkx().write_graphml_xml(to_networkx(graph), path),
    ".gexf": lambda graph, path: _networkx().write_gexf(to_networkx(graph), path),
    ".gml": _gml,
    ".json": _node_link,
    ".csv": _csv,
}


def _networkx() -> Any:
    return require("networkx", purpose="`save_graph`", extra="graphs")
