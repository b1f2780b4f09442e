"""Graphs out: files for other programs, one writer for each suffix."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.io.export import edge_table, to_networkx, unit_table
from modgraph.modules import ModuleHierarchy


def save_graph(graph: ModuleHierarchy | LayeredDAG, path: str | os.PathLike[str]) -> None:
    """Write a graph for other programs, in the format that the suffix says.

    Parameters
    ----------
    graph : ModuleHierarchy or LayeredDAG
    path : path-like
        ``.graphml``, ``.gexf``, ``.gml``, ``.json`` (node-link), ``.dot`` or ``.gv``; ``.csv``: the edges, and beside
        them the units (``net.csv`` and ``net.units.csv``); a text that a spreadsheet would compute gets a ``'`` in
        front.

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


def _graphml(graph: ModuleHierarchy | LayeredDAG, path: Path) -> None:
    _networkx().write_graphml_xml(to_networkx(graph), path)


def _gexf(graph: ModuleHierarchy | LayeredDAG, path: Path) -> None:
    _networkx().write_gexf(to_networkx(graph), path)


def _gml(graph: ModuleHierarchy | LayeredDAG, path: Path) -> None:
    shown = to_networkx(graph)
    for values in shown.nodes.values():
        values["unit_name"] = values.pop("name")  # GML readers take `name` for the label
    shown.graph = {"denseEdges": shown.graph["dense_edges"]}  # keys of letters and digits only
    _networkx().write_gml(_networkx().relabel_nodes(shown, str), path)


def _node_link(graph: ModuleHierarchy | LayeredDAG, path: Path) -> None:
    document = _networkx().node_link_data(to_networkx(graph), edges="edges")
    path.write_text(json.dumps(document), encoding="utf-8")


def _dot(graph: ModuleHierarchy | LayeredDAG, path: Path) -> None:
    units, edges = unit_table(graph), edge_table(graph)
    lines = ["digraph modgraph {", "  rankdir=BT;"]
    by_layer: dict[int, list[str]] = {}
    for number, name, layer in zip(units["unit"], units["name"], units["layer"], strict=True):
        by_layer.setdefault(layer, []).append(f"    {number} [label={_quoted(name)}];")
    modules = dict(zip(units["unit"], units.get("module", [0] * len(units["unit"])), strict=True))
    for rows in by_layer.values():
        lines += ["  {", "    rank=same;", *rows, "  }"]
    if "module" in units:
        lines += [f"  {number} [module={module}];" for number, module in modules.items()]
    weights = edges.get("weight", [None] * len(edges["source"]))
    for source, target, weight in zip(edges["source"], edges["target"], weights, strict=True):
        lines.append(f"  {source} -> {target}{'' if weight is None else f' [weight_value={weight!r}]'};")
    path.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _csv(graph: ModuleHierarchy | LayeredDAG, path: Path) -> None:
    for table, place in ((edge_table(graph), path), (unit_table(graph), path.with_suffix(".units.csv"))):
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows([_cell(value) for value in row] for row in zip(*table.values(), strict=True))


def _cell(value: Any) -> Any:
    """Mark a text that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


_WRITERS: dict[str, Callable[[ModuleHierarchy | LayeredDAG, Path], None]] = {
    ".graphml": _graphml,
    ".gexf": _gexf,
    ".gml": _gml,
    ".json": _node_link,
    ".dot": _dot,
    ".gv": _dot,
    ".csv": _csv,
}


def _networkx() -> Any:
    return require("networkx", purpose="`save_graph`", extra="graphs")
