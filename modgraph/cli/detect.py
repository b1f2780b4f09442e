"""``modgraph detect``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from modgraph.cli.options import HierarchyOptions, Json
from modgraph.cli.output import print_json, progress_bar
from modgraph.evidence import Significance, significance
from modgraph.io.hierarchy import module_record, save_hierarchy
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted


def detect(
    options: HierarchyOptions,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the hierarchy as JSON.")] = None,
    nulls: Annotated[
        int, typer.Option("--nulls", help="Random networks to compare with; 19 can tell p = .05, 0 gives a bound.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Find the modules of a pruned network.

    Example: modgraph detect pruned.onnx --out modules.json
    """
    found = options.detected()
    with progress_bar() if nulls else nullcontext() as progress:
        evidence = significance(found, n_null=nulls, progress=progress)
    if out is not None:
        save_hierarchy(found, out)
    if as_json:
        print_json(_record(found, evidence))
        return
    typer.echo(f"{found.dag!r}, {counted(found.n_modules, 'module')}")
    typer.echo(f"by {found.settings['features']}")
    typer.echo(evidence.summary())
    for module in found.modules:
        typer.echo(f"  {module!r}")


def _record(found: ModuleHierarchy, evidence: Significance) -> dict[str, Any]:
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
        "evidence": evidence.to_dict(),
        "notes": list(found.dag.notes),
    }
