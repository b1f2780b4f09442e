"""``modgraph evidence``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modgraph.cli.options import HierarchyOptions, Json, speaking_of
from modgraph.cli.output import print_json, progress_bar, working
from modgraph.evidence import significance, stability
from modgraph.names import counted

Nulls = Annotated[
    int | None,
    typer.Option("--nulls", help="Null networks; by default as many as it takes. 0: a bound, in no time."),
]
Changes = Annotated[int, typer.Option("--changes", help="Slightly changed networks, for the stability of modules.")]
Checkpoint = Annotated[Path | None, typer.Option(help="File of results so far; if it exists, the work goes on there.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Processes; −1: one a processor.")]


def evidence(
    options: HierarchyOptions,
    nulls: Nulls = None,
    changes: Changes = 20,
    checkpoint: Checkpoint = None,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Tell whether the modules are more than chance, and how sure each of them is.

    Example: modgraph evidence pruned.onnx --nulls 99 --json
    """
    found = options.hierarchy()
    names = {"n_null": "--nulls", "n_resamples": "--changes", "checkpoint": "--checkpoint"}
    with speaking_of(names), progress_bar() as progress:
        result = significance(
            found,
            n_null=nulls,
            n_resamples=0,
            random_state=options.seed,
            n_jobs=jobs,
            progress=progress,
            checkpoint=checkpoint,
        )
    stable = None
    if changes:
        with speaking_of(names), working("finding modules of changed networks"):
            stable = stability(found, n_resamples=changes, random_state=options.seed, n_jobs=jobs)
    if as_json:
        print_json(
            result.to_dict()
            | {
                "stability": None if stable is None else stable.module_confidence.tolist(),
                "notes": list(found.dag.notes),
            }
        )
        return
    typer.echo(f"{found.dag!r}, {counted(found.n_modules, 'module')}")
    typer.echo(result.summary())
    for module, judged in zip(found.modules, result.modules, strict=True):
        figures = [f"p = {judged.p_value:.2g}"] if result.n_null else []
        figures += [f"stability {stable.module_confidence[module.id]:.2f}"] if stable is not None else []
        typer.echo(f"  {module!r}: {', '.join(figures)}")
