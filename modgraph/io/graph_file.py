"""Graphs from files of other programs: GraphML, GEXF, GML, node-link JSON and tables of edges as CSV or TSV."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.budget import spend
from modgraph.io.graphs import from_networkx
from modgraph.io.request import File, Reader, Request

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
