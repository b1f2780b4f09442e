"""``modgraph draw``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

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
from modgraph.cli.output import print_json, working
from modgraph.draw import draw as draw_modules
from modgraph.files import replacing


def draw(
    options: HierarchyOptions,
    picture: Annotated[
        Path, typer.Argument(metavar="PICTURE", help="The picture to write: .svg, .png, .pdf; - prints SVG.")
    ],
    target: TargetOption = None,
    image_shape: ImageShape = None,
    as_json: Json = False,
) -> None:
    """Draw the modules of a network or of a saved hierarchy.

    Example: modgraph draw pruned.safetensors modules.svg
    """
    graph, shape = target_graph(target), parse_image_shape(image_shape)
    if as_json and str(picture) == "-":
        raise ValueError("`--json` and the picture can't both go to standard output")
    found = options.hierarchy()
    with working("drawing"):
        figure: Any = draw_modules(found, target=graph, image_shape=shape).figure
        if str(picture) == "-":
            figure.savefig(sys.stdout.buffer, format="svg")
            return
        with speaking_of({"path": "PICTURE"}), replacing(picture) as part:
            figure.savefig(part, dpi=200)
    if as_json:
        print_json({"file": str(picture), "n_modules": found.n_modules})
