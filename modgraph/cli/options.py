"""What several commands take, and how they answer programs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

File = Annotated[Path, typer.Argument(help="A network (.npz .pt .safetensors .onnx .keras .h5 .skops) or a hierarchy.")]
Threshold = Annotated[float, typer.Option(help="Weights of at most this magnitude count as pruned.")]
Masks = Annotated[Path | None, typer.Option(help="A file of masks for a file of weights; nonzero = kept.")]
Block = Annotated[str | None, typer.Option(help="The part to read, by name, or layers in order: a,b,c.")]
Trust = Annotated[bool, typer.Option("--trust-pickle", help="Run code that the file holds, as unpickling does.")]
Clustering = Annotated[str, typer.Option(help="How units are clustered; see modgraph.detect_modules.")]
Hops = Annotated[int | None, typer.Option(help="How far a unit's reach counts; by default to the outputs.")]
Merge = Annotated[float, typer.Option("--merge-threshold", help="The 0.9 rule: share of edges, in (0, 1].")]
Seed = Annotated[int, typer.Option(help="For clusterings that draw at random.")]
ImageShape = Annotated[str | None, typer.Option(help="Rows and columns, where inputs are pixels: 28x56.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
Target = Annotated[str, typer.Argument(help="A published function, such as overlap_3_use_8.")]


def print_json(document: dict[str, Any]) -> None:
    """Write a document to standard output."""
    typer.echo(json.dumps(document, ensure_ascii=False))
