"""Graphs in: from networkx and igraph, and from files of other programs.

GraphML, GEXF, GML, node-link JSON, and tables of edges as CSV or TSV.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.digraph import chosen_nodes, layered
from modgraph.io.limits import spend
from modgraph.io.request import File, Reader, Request

if TYPE_CHECKING:
    import igraph
    import networkx

Nodes = str | Iterable[Hashable] | Callable[[Any], bool]

_LAYERS = ("layer", "subset")  # attributes of nodes that give their layer
_ATTRIBUTES = (*_LAYERS, "name", "bias", "activation")


def from_networkx(graph: networkx.DiGraph, *, inputs: Nodes = "sources", outputs: Nodes = "sinks") -> LayeredDAG:
    """Build a graph from a networkx ``DiGraph``.

    Parameters
    ----------
    graph : networkx.DiGraph
        Nodes may carry ``layer`` or ``subset``, ``name``, ``bias`` and ``activation``; edges ``weight``. What only
        some have is left out. Without layers, nodes on a common cycle become one unit, and a unit's layer is the
        longest path that leads to it.
    inputs : "sources", nodes, or function of a node
        Layer 0, where nodes carry no layers. Edges that enter inputs are left out.
    outputs : "sinks", nodes, or function of a node
        The last layer, where nodes carry no layers. An output that has successors is shown there by a copy.

    Returns
    -------
    LayeredDAG
        Units are sorted by layer, within a layer as the nodes come; a layer that is empty is left out. Its notes say
        what became of cycles, and what was left out.

    Raises
    ------
    ValueError
        If the graph is undirected, has no edge between units, or an edge against its layers.
    ImportError
        If networkx is not installed.

    Examples
    --------
    >>> import networkx as nx
    >>> from_networkx(nx.DiGraph([("a", "h"), ("b", "h"), ("h", "y")])).unit_names.tolist()
    ['a', 'b', 'h', 'y']
    """
    nx = require("networkx", purpose="this", extra="graphs")
    if not isinstance(graph, nx.Graph) or not graph.is_directed() or graph.is_multigraph():
        raise ValueError(f"`graph` must be a networkx.DiGraph (got {type(graph).__name__})")
    nodes = list(graph.nodes)
    place = {node: at for at, node in enumerate(nodes)}
    pairs = np.array([(place[a], place[b]) for a, b in graph.edges], dtype=np.int64).reshape(-1, 2)
    weights = [weight for _, _, weight in graph.edges(data="weight")]
    given = len(weights) > 0 and all(_is_number(weight) for weight in weights)
    values = np.array(weights, dtype=np.float64) if given else None
    columns = {key: [graph.nodes[node].get(key) for node in nodes] for key in _ATTRIBUTES}
    known = {key: column for key, column in columns.items() if nodes and all(value is not None for value in column)}
    names = [str(name) for name in known.get("name", nodes)]
    by_layer = next((known[key] for key in _LAYERS if key in known and all(map(_is_number, known[key]))), None)
    is_input = chosen_nodes("inputs", inputs, nodes, default="sources")
    is_output = chosen_nodes("outputs", outputs, nodes, default="sinks")
    notes: list[str] = []
    if by_layer is not None and is_input is None and is_output is None:
        layer = np.unique(np.array(by_layer, dtype=np.int64), return_inverse=True)[1].reshape(-1)
        order = np.argsort(layer, kind="stable")
        units, unit_names = [[node] for node in order.tolist()], [names[node] for node in order.tolist()]
        pairs, layer = np.argsort(order)[pairs], layer[order]
        inner = np.bincount(pairs[:, 0], minlength=len(nodes))[layer < layer[-1]] == 0
        if inner.any():
            notes.append(f"{inner.sum()} units before the last layer, as the file gives it, have no successors.")
        dense_edges = graph.graph.get("dense_edges")
        dense = int(dense_edges) if _is_number(dense_edges) else None
    else:
        found = layered(pairs, names=names, inputs=is_input, outputs=is_output, weights=values)
        pairs, values, layer, units, dense = found.edges, found.weights, found.layer, found.nodes, None
        unit_names, notes = found.unit_names, found.notes
        if any(len(members) > 1 for members in units) or found.is_copy.any():
            known = {}  # what one of several nodes does is not what the unit does
    one = {key: [known[key][members[0]] for members in units] for key in ("bias", "activation") if key in known}
    return LayeredDAG.from_edges(
        pairs,
        layer=layer,
        weights=values,
        dense_edges=dense,
        biases=one.get("bias"),
        activations=one.get("activation"),
        unit_names=unit_names,
        notes=notes,
    )


def from_igraph(graph: igraph.Graph, *, inputs: Nodes = "sources", outputs: Nodes = "sinks") -> LayeredDAG:
    """Build a graph from a directed igraph ``Graph``.

    Parameters
    ----------
    graph : igraph.Graph
        With or without attributes, as in `from_networkx`.
    inputs, outputs : "sources" or "sinks", vertices by number, or function of a vertex's number
        As in `from_networkx`.

    Returns
    -------
    LayeredDAG

    Raises
    ------
    ValueError
        If the graph is undirected, has repeated edges, no edge between units, or an edge against its layers.
    ImportError
        If igraph is not installed.
    """
    igraph = require("igraph", purpose="this", extra="graphs")
    if not isinstance(graph, igraph.Graph) or not graph.is_directed() or graph.has_multiple():
        raise ValueError(f"`graph` must be a directed igraph.Graph without repeated edges (got {graph!r:.80})")
    return from_networkx(graph.to_networkx(), inputs=inputs, outputs=outputs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


# --- Files ------------------------------------------------------------------------------------------------------------

_SUFFIXES = (".graphml", ".gexf", ".gml", ".csv", ".tsv", ".edges", ".edgelist")
_TEXT_BYTES = 32  # that one byte of such a file takes in networkx, at most
_SOURCES, _TARGETS = ("source", "from", "src", "sender", "pre"), ("target", "to", "dst", "receiver", "post")


def _matches(file: File) -> bool:
    """Whether the suffix is that of a graph, or JSON has nodes and links."""
    if file.suffix == ".json":
        return file.start.lstrip()[:1] == b"{" and bool(re.search(rb'"(nodes|links|directed)"', file.start))
    return bool(file.start) and file.suffix in _SUFFIXES


def _read(request: Request) -> LayeredDAG:
    """Build the graph; nodes without successors are outputs, and cycles become one unit each."""
    nx = require("networkx", purpose="reading graphs", extra="graphs")
    path = request.path
    spend(_TEXT_BYTES * path.stat().st_size, "the graph")
    text = path.read_text(encoding="utf-8-sig")
    if re.search(r"<!(DOCTYPE|ENTITY)", text[:10_000], re.IGNORECASE):
        raise ValueError("it must not define entities, which may grow without bounds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # networkx warns about types that it doesn't know
        graph = _PARSERS.get(path.suffix.lower(), _edge_list)(nx, text)
    if not graph.is_directed():
        raise ValueError("its edges must be directed")
    if graph.is_multigraph():
        graph = nx.DiGraph(graph)
    return request.without_small(from_networkx(graph))


def _gml(nx: Any, text: str) -> Any:
    graph = nx.parse_gml(text, label="id")
    for values in graph.nodes.values():
        # In GML, `name` may be taken for the label, so that other programs write it elsewhere.
        values["name"] = values.pop("unit_name", values.get("name", values.get("label")))
    return graph


def _node_link(nx: Any, text: str) -> Any:
    document = json.loads(text)
    if not isinstance(document, Mapping) or not isinstance(document.get("nodes"), list):
        raise ValueError("it must have a list of nodes")
    key = "links" if "links" in document else "edges"
    return nx.node_link_graph({"directed": True, **document}, edges=key)


def _edge_list(nx: Any, text: str) -> Any:
    """Read a table of edges, with or without a header."""
    try:
        dialect: Any = csv.Sniffer().sniff(text[:4096], delimiters=",;\t ")
    except csv.Error:
        dialect = "excel"
    rows = [row for row in csv.reader(io.StringIO(text), dialect) if row and not row[0].startswith("#")]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    sources, targets = ([at for at, name in enumerate(header) if name in names] for names in (_SOURCES, _TARGETS))
    has_header = bool(sources and targets)
    source, target = (sources[0], targets[0]) if has_header else (0, 1)
    weight: int | None = header.index("weight") if "weight" in header else None
    if not has_header and len(header) == 3 and all(_number(row[2]) is not None for row in rows if len(row) > 2):
        weight = 2
    graph = nx.DiGraph()
    for row in rows[has_header:]:
        if len(row) <= max(source, target, weight or 0):
            raise ValueError(f"every row must have a source and a target (got {row!r:.80})")
        value = None if weight is None else _number(row[weight])
        graph.add_edge(row[source].strip(), row[target].strip(), **({} if value is None else {"weight": value}))
    return graph


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    ".graphml": lambda nx, text: nx.parse_graphml(text),
    ".gexf": lambda nx, text: nx.read_gexf(io.BytesIO(text.encode())),
    ".gml": _gml,
    ".json": _node_link,
}

GRAPH = Reader(name="a graph", matches=_matches, read=_read)
