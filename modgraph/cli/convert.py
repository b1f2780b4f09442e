"""``modgraph convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modgraph.cli.options import HierarchyOptions, Json, speaking_of
from modgraph.cli.output import print_json, working
from modgraph.dag import LayeredDAG
from modgraph.io.attribution import is_attribution_graph, save_supernodes
from modgraph.io.export import save_graph
from modgraph.io.hierarchy import is_hierarchy
from modgraph.io.npz_file import save_network
from modgraph.modules import ModuleHierarchy


def convert(
    options: HierarchyOptions,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help=".npz, .graphml, .gexf, .gml, .json, .dot, .csv or .parquet.")
    ],
    modules: Annotated[bool, typer.Option("--modules", help="Detect modules, write them with the network.")] = False,
    as_json: Json = False,
) -> None:
    """Write a network as a graph for other programs, or as .npz; a saved hierarchy keeps its modules.

    From an attribution graph to .json with --modules: the same file, with the modules as its groups (supernodes).

    Example: modgraph convert pruned.onnx network.graphml --modules
    """
    to_npz = out.suffix == ".npz"
    if to_npz and modules:
        raise ValueError("`--modules` can't be kept in .npz: choose a graph format")
    with_modules = modules or (not to_npz and is_hierarchy(options.file))
    graph = options.hierarchy() if with_modules else options.network()
    with working(f"writing {out}"), speaking_of({"path": "OUT"}):
        if to_npz and isinstance(graph, LayeredDAG):
            save_network(graph, out)
        elif isinstance(graph, ModuleHierarchy) and out.suffix == ".json" and is_attribution_graph(options.file):
            save_supernodes(graph, out, source=options.file)
        else:
            save_graph(graph, out)
    if as_json:
        print_json({"file": str(out), "modules": with_modules})
