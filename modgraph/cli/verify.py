"""``modgraph verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from modgraph.cli.options import HierarchyOptions, Json, target_graph
from modgraph.cli.output import print_json, working
from modgraph.verify import ModuleCheck
from modgraph.verify import verify as verify_modules

Target = Annotated[str | None, typer.Argument(metavar="TARGET", help="A published function, such as separable.")]
Data = Annotated[Path | None, typer.Option(help="Inputs to test on: .npy, (n_samples, n_inputs); needed if no TARGET.")]
Activations = Annotated[str | None, typer.Option(help="One a layer, if the file has none: relu,sigmoid.")]
Controls = Annotated[int, typer.Option("--n-controls", help="Random regroupings for each module.")]


def verify(
    options: HierarchyOptions,
    target: Target = None,
    data: Data = None,
    activations: Activations = None,
    n_controls: Controls = 20,
    as_json: Json = False,
) -> None:
    """Test by intervention whether the modules compute the sub-functions of a function.

    Example: modgraph verify pruned.pt separable --json
    """
    graph = target_graph(target)
    rows = None if data is None else np.load(data, allow_pickle=False)
    found = options.hierarchy()
    with working("intervening on modules"):
        result = verify_modules(
            found,
            target=graph,
            data=rows,
            activations=None if activations is None else activations.split(","),
            n_controls=n_controls,
            random_state=options.seed,
        )
    if as_json:
        fields = ("target", "n_samples", "exhaustive", "accuracy", "functional", "certified_share")
        facts: dict[str, Any] = {name: getattr(result, name) for name in fields}
        print_json(facts | {"modules": [_facts(module) for module in result.modules]})
        return
    typer.echo(repr(result))
    for module in result.modules:
        typer.echo(f"  {module!r}")


def _facts(module: ModuleCheck) -> dict[str, Any]:
    """Turn a module's figures into JSON types."""
    facts = asdict(module)
    return facts | {name: facts[name].tolist() for name in ("boundary", "inputs", "outputs")}
