"""``modgraph report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modgraph.cli.options import (
    HierarchyOptions,
    ImageShape,
    Json,
    TargetOption,
    parse_image_shape,
    speaking_of,
    target_graph,
)
from modgraph.cli.output import print_json, progress_bar, working
from modgraph.evidence import significance
from modgraph.report import report as write_report


def report(
    options: HierarchyOptions,
    page: Annotated[Path, typer.Argument(metavar="PAGE", help="The page to write: .html.")],
    target: TargetOption = None,
    title: Annotated[str | None, typer.Option(help="The heading of the page.")] = None,
    image_shape: ImageShape = None,
    nulls: Annotated[int, typer.Option("--nulls", help="Null networks to compare with; 0: none.")] = 0,
    as_json: Json = False,
) -> None:
    """Write the modules of a network or of a saved hierarchy as one interactive HTML file.

    Example: modgraph report pruned.safetensors report.html
    """
    graph, shape = target_graph(target), parse_image_shape(image_shape)
    found = options.hierarchy()
    evidence = None
    if nulls:
        with speaking_of({"n_null": "--nulls"}), progress_bar() as progress:
            evidence = significance(found, n_null=nulls, random_state=options.seed, progress=progress)
    with working("writing the report"), speaking_of({"path": "PAGE"}):
        write_report(found, page, target=graph, title=title, image_shape=shape, evidence=evidence)
    if as_json:
        print_json({"file": str(page), "n_modules": found.n_modules})
