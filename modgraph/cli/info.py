"""``modgraph info``."""

from __future__ import annotations

from typing import Any

import typer

from modgraph.cli.options import Json, NetworkOptions
from modgraph.cli.output import print_json
from modgraph.names import counted, layer_names


def info(options: NetworkOptions, as_json: Json = False) -> None:
    """Describe the network in a file: layers, edges, density, before and after trimming.

    Example: modgraph info pruned.npz
    """
    dag = options.network()
    trimmed = dag.trim()
    activations = None
    if dag.activations is not None:
        activations = [sorted(set(dag.activations[dag.layer == level].tolist())) for level in range(dag.n_layers)]
    facts: dict[str, Any] = {
        "layers": layer_names(dag),
        "layer_sizes": list(dag.layer_sizes),
        "trimmed_sizes": list(trimmed.layer_sizes),
        "edges": dag.n_edges,
        "trimmed_edges": trimmed.n_edges,
        "density": dag.density,
        "skips_layers": dag.skips_layers,
        "weights": dag.weights is not None,
        "biases": dag.biases is not None,
        "activations": activations,
        "notes": list(dag.notes),
    }
    if as_json:
        print_json(facts)
        return
    typer.echo(f"{dag!r}; trimmed {trimmed!r}")
    for level, name in enumerate(facts["layers"]):
        sizes = f"{counted(dag.layer_sizes[level], 'unit')}, {trimmed.layer_sizes[level]} after trimming"
        typer.echo(f"  {name}: {sizes}{'' if activations is None else ', ' + ' '.join(activations[level])}")
