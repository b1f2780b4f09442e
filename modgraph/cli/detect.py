"""``modgraph detect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from modgraph.cli.options import HierarchyOptions, Json
from modgraph.cli.output import print_json
from modgraph.io.hierarchy import module_record, save_hierarchy
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted


def detect(
    options: HierarchyOptions,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the hierarchy as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Find the modules of a pruned network.

    Example: modgraph detect pruned.onnx --out modules.json
    """
    found = options.detected()
    if out is not None:
        save_hierarchy(found, out)
    if as_json:
        print_json(_record(found))
        return
    typer.echo(f"{found.dag!r}, {counted(found.n_modules, 'module')}")
    typer.echo(f"by {found.settings['features']}")
    for module in found.modules:
        typer.echo(f"  {module!r}")


def _record(found: ModuleHierarchy) -> dict[str, Any]:
    """Describe a hierarchy in types that JSON knows."""
    graph = found.graph
    return {
        "layer_sizes": list(found.dag.layer_sizes),
        "edges": found.dag.n_edges,
        "density": found.dag.density,
        "n_modules": found.n_modules,
        "labels": found.labels.tolist(),
        "cluster_labels": found.cluster_labels.tolist(),
        "modules": [module_record(module) for module in found.modules],
        "settings": dict(found.settings),
        "links": np.column_stack([graph.source, graph.target, graph.n_edges]).tolist(),
        "notes": list(found.dag.notes),
    }
