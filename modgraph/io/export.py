"""Graphs out: to other libraries, and as tables.

A hierarchy gives the trimmed network with the module and the cluster of every unit, a `LayeredDAG` all of its units.
Nodes are numbered as in the graph that was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import IntArray
from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.modules import ModuleHierarchy
from modgraph.names import clean, unit_names

if TYPE_CHECKING:
    import graph_tool
    import igraph
    import networkx


def unit_table(graph: ModuleHierarchy | LayeredDAG) -> dict[str, list[Any]]:
    """List the units, column by column.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG
        Of a hierarchy, the units that trimming kept.

    Returns
    -------
    dict of str to list
        ``unit`` (its number in the graph as given), ``name``, ``layer``; ``module`` and ``cluster`` of a hierarchy;
        ``position``, ``bias`` and ``activation`` where they are known.

    Examples
    --------
    >>> unit_table(LayeredDAG.from_masks([[[1, 1]]]))["name"]
    ['x0', 'x1', 'y0']
    """
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


def edge_table(graph: ModuleHierarchy | LayeredDAG) -> dict[str, list[Any]]:
    """List the edges, column by column.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG
        Of a hierarchy, the edges between units that trimming kept.

    Returns
    -------
    dict of str to list
        ``source`` and ``target`` (numbers of units), and ``weight`` where known.

    Examples
    --------
    >>> edge_table(LayeredDAG.from_masks([[[1, 1]]]))
    {'source': [0, 1], 'target': [2, 2]}
    """
    dag, units = _kept(graph)
    kept = np.zeros(dag.n_units, dtype=np.bool_)
    kept[units] = True
    both = kept[dag.sources] & kept[dag.targets]
    table: dict[str, list[Any]] = {"source": dag.sources[both].tolist(), "target": dag.targets[both].tolist()}
    if dag.weights is not None:
        table["weight"] = dag.weights[both].tolist()
    return table


def to_scipy(graph: ModuleHierarchy | LayeredDAG) -> csr_array:
    """Return the weighted adjacency.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG

    Returns
    -------
    scipy.sparse.csr_array of float, shape (n_units, n_units)
        The weight of the edge from i to j at ``[i, j]`` (1 where weights are not known), also where it is 0. Of a
        hierarchy, units that trimming dropped have no edges.
    """
    dag, _ = _kept(graph)
    table = edge_table(graph)
    weights = np.array(table.get("weight", np.ones(len(table["source"]))), dtype=np.float64)
    pointers = np.searchsorted(np.array(table["source"], dtype=np.int64), np.arange(dag.n_units + 1))
    targets = np.array(table["target"], dtype=np.int64)
    return csr_array((weights, targets, pointers), shape=(dag.n_units, dag.n_units))


def to_networkx(graph: ModuleHierarchy | LayeredDAG) -> networkx.DiGraph:
    """Return a networkx ``DiGraph``.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG

    Returns
    -------
    networkx.DiGraph
        Nodes are numbers of units, with the columns of `unit_table` as attributes, and ``subset``, the layer again,
        for ``networkx.multipartite_layout``. Edges carry ``weight`` where known; the graph, ``dense_edges``.

    Raises
    ------
    ImportError
        If networkx is not installed.
    """
    nx = require("networkx", purpose="this", extra="graphs")
    dag, _ = _kept(graph)
    result = nx.DiGraph(dense_edges=int(dag.dense_edges))
    units = unit_table(graph)
    numbers = units.pop("unit")
    units["subset"] = units["layer"]
    for number, values in zip(numbers, zip(*units.values(), strict=True), strict=True):
        result.add_node(number, **dict(zip(units, values, strict=True)))
    edges = edge_table(graph)
    result.add_edges_from(zip(edges["source"], edges["target"], strict=True))
    if "weight" in edges:
        ends = zip(edges["source"], edges["target"], edges["weight"], strict=True)
        result.add_weighted_edges_from(ends)
    return result


def to_igraph(graph: ModuleHierarchy | LayeredDAG) -> igraph.Graph:
    """Return a directed igraph ``Graph``.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG

    Returns
    -------
    igraph.Graph
        Vertices carry the columns of `unit_table` (``unit`` is the number in the graph as given), edges ``weight``
        where known; the graph carries ``dense_edges``.

    Raises
    ------
    ImportError
        If igraph is not installed.
    """
    igraph = require("igraph", purpose="this", extra="graphs")
    dag, kept = _kept(graph)
    edges = edge_table(graph)
    ends = np.searchsorted(kept, np.array([edges["source"], edges["target"]], dtype=np.int64).reshape(2, -1))
    return igraph.Graph(
        n=kept.size,
        edges=ends.T.tolist(),
        directed=True,
        graph_attrs={"dense_edges": int(dag.dense_edges)},
        vertex_attrs=unit_table(graph),
        edge_attrs={"weight": edges["weight"]} if "weight" in edges else {},
    )


def to_clustering(found: ModuleHierarchy) -> igraph.VertexClustering:
    """Return the modules as an igraph clustering.

    Parameters
    ----------
    found : ModuleHierarchy

    Returns
    -------
    igraph.VertexClustering
        Over the graph that `to_igraph` gives (its ``graph``); cluster i is module i.

    Raises
    ------
    ImportError
        If igraph is not installed.
    """
    graph = to_igraph(found)
    return require("igraph", purpose="this", extra="graphs").VertexClustering(graph, membership=graph.vs["module"])


def to_graph_tool(graph: ModuleHierarchy | LayeredDAG) -> graph_tool.Graph:
    """Return a directed graph-tool ``Graph``.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG

    Returns
    -------
    graph_tool.Graph
        With internal vertex properties, the columns of `unit_table`, and the edge property ``weight`` where known.

    Raises
    ------
    ImportError
        If graph-tool is not installed (it is not on PyPI; Debian has python3-graph-tool).
    """
    try:
        import graph_tool
    except ImportError as error:
        raise ImportError("`to_graph_tool` needs graph-tool: conda and Debian (python3-graph-tool) have it") from error
    _, kept = _kept(graph)
    edges, units = edge_table(graph), unit_table(graph)
    result = graph_tool.Graph(directed=True)
    result.add_vertex(kept.size)
    ends = np.searchsorted(kept, np.array([edges["source"], edges["target"]], dtype=np.int64).reshape(2, -1))
    result.add_edge_list(ends.T)
    for name, values in units.items():
        kind = {int: "int64_t", float: "double", str: "string"}[type(values[0])]
        result.vertex_properties[name] = result.new_vertex_property(kind, vals=values)
    if "weight" in edges:
        result.edge_properties["weight"] = result.new_edge_property("double", vals=edges["weight"])
    return result


# --- Columns ----------------------------------------------------------------------------------------------------------


def _kept(graph: ModuleHierarchy | LayeredDAG) -> tuple[LayeredDAG, IntArray]:
    """Return the graph as given, and the units that count."""
    if isinstance(graph, ModuleHierarchy):
        return graph.dag, np.flatnonzero(graph.labels >= 0)
    return graph, np.arange(graph.n_units)
