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
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.modules import ModuleHierarchy
from modgraph.names import clean, unit_names

if TYPE_CHECKING:
    import igraph
    import networkx

Graph = ModuleHierarchy | LayeredDAG

_FORMULA = ("=", "+", "-", "@")  # starts of texts that a spreadsheet would compute
_MOST_DENSE = 1 << 30  # entries of a dense matrix in `save_network`


def _tables(graph: Graph) -> tuple[LayeredDAG, dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the graph as given, and columns of what is known of its units and edges; trimming keeps some of both."""
    dag = graph.dag if isinstance(graph, ModuleHierarchy) else graph
    kept = graph.labels >= 0 if isinstance(graph, ModuleHierarchy) else np.ones(dag.n_units, dtype=np.bool_)
    names = np.array(unit_names(dag), dtype=object)
    units: dict[str, NDArray[Any]] = {"unit": np.arange(dag.n_units), "name": names, "layer": dag.layer}
    if isinstance(graph, ModuleHierarchy):
        units |= {"module": graph.labels, "cluster": graph.cluster_labels}
    known = {"position": dag.positions, "bias": dag.biases, "activation": dag.activations}
    units |= {name: column for name, column in known.items() if column is not None}
    edges: dict[str, NDArray[Any]] = {"source": dag.sources, "target": dag.targets}
    edges |= {} if dag.weights is None else {"weight": dag.weights}
    both = kept[dag.sources] & kept[dag.targets]
    columns = {name: column[kept].tolist() for name, column in units.items()}
    if "activation" in columns:
        columns["activation"] = [clean(name) for name in columns["activation"]]
    return dag, columns, {name: column[both].tolist() for name, column in edges.items()}


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
    dag, units, edges = _tables(graph)
    result = nx.DiGraph(dense_edges=int(dag.dense_edges))
    numbers = units.pop("unit")
    units["subset"] = units["layer"]
    rows = (dict(zip(units, values, strict=True)) for values in zip(*units.values(), strict=True))
    result.add_nodes_from(zip(numbers, rows, strict=True))
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
    dag, units, edges = _tables(graph)
    return igraph.Graph(
        n=len(units["unit"]),
        edges=np.searchsorted(units["unit"], [edges["source"], edges["target"]]).T.tolist(),
        directed=True,
        graph_attrs={"dense_edges": int(dag.dense_edges)},
        vertex_attrs=units,
        edge_attrs={"weight": edges["weight"]} if "weight" in edges else {},
    )


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
    _, units, edges = _tables(graph)
    for table, place in ((edges, path), (units, path.with_suffix(".units.csv"))):
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            for row in zip(*table.values(), strict=True):
                is_formula = [isinstance(cell, str) and cell.startswith(_FORMULA) for cell in row]
                writer.writerow([f"'{cell}" if one else cell for cell, one in zip(row, is_formula, strict=True)])


_WRITERS: dict[str, Callable[[Graph, Path], None]] = {
    ".graphml": lambda graph, path: _networkx().write_graphml_xml(to_networkx(graph), path),
    ".gexf": lambda graph, path: _networkx().write_gexf(to_networkx(graph), path),
    ".gml": _gml,
    ".json": _node_link,
    ".csv": _csv,
}


def _networkx() -> Any:
    return require("networkx", purpose="`save_graph`", extra="graphs")
