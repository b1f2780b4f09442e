"""The commands on networks: files in, files or standard output out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from modgraph import functions
from modgraph.cli.options import (
    Block,
    Clustering,
    Debug,
    File,
    Hops,
    ImageShape,
    Json,
    Masks,
    Merge,
    Seed,
    Target,
    Threshold,
    Trust,
    print_json,
)
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.io.export_files import save_graph
from modgraph.io.hierarchy import is_hierarchy, load_hierarchy, module_record, save_hierarchy
from modgraph.io.load import load_network, save_network
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.names import counted


def detect(
    file: File,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the hierarchy as JSON.")] = None,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Find the modules of a pruned network.

    Example: modgraph detect pruned.onnx --out modules.json
    """
    dag = _network(file, threshold=threshold, masks=masks, block=block, trust_pickle=trust_pickle)
    found = _detected(dag, clustering, hops, merge_threshold, seed)
    if out is not None:
        save_hierarchy(found, out)
    if as_json:
        print_json(_hierarchy(found))
        return
    typer.echo(f"{found.dag!r}, {counted(found.n_modules, 'module')}")
    for module in found.modules:
        typer.echo(f"  {module!r}")


def score(
    file: File,
    target: Target,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Say how well the modules of a network, or a saved hierarchy, fit a function.

    Example: modgraph score pruned.pt overlap_3_use_8 --json
    """
    from modgraph.score import score as judge

    goal = functions.published(target)
    found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
    result = judge(found, goal)
    if not as_json:
        typer.echo(repr(result))
        for match in result.matching:
            typer.echo(f"  module {match.module}: {match.sub_function} ({match.similarity:.2f})")
        return
    names = ("inputs", "hidden", "outputs", "exact", "ari", "ami", "n_modules", "expected_modules")
    matching = [
        {"module": match.module, "sub_function": match.sub_function, "similarity": match.similarity}
        for match in result.matching
    ]
    print_json({"target": target} | {name: getattr(result, name) for name in names} | {"matching": matching})


def draw(
    file: File,
    picture: Annotated[Path, typer.Argument(help="Where the picture goes: .svg, .png, .pdf; - prints SVG.")],
    target: Annotated[str | None, typer.Option(help="A published function, to name modules after.")] = None,
    image_shape: ImageShape = None,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Draw the modules of a network or of a saved hierarchy.

    Example: modgraph draw pruned.safetensors modules.svg
    """
    from modgraph.draw import draw as drawn

    goal = None if target is None else functions.published(target)
    found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
    figure: Any = drawn(found, target=goal, image_shape=_shape(image_shape)).figure
    if str(picture) == "-":
        figure.savefig(sys.stdout.buffer, format="svg")
        return
    with replacing(picture) as part:
        figure.savefig(part, dpi=200)


def report(
    file: File,
    page: Annotated[Path, typer.Argument(help="Where the page goes: .html.")],
    target: Annotated[str | None, typer.Option(help="A published function, to judge modules by.")] = None,
    title: Annotated[str | None, typer.Option(help="The heading of the page.")] = None,
    image_shape: ImageShape = None,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write the modules of a network or of a saved hierarchy as one HTML file to look around in.

    Example: modgraph report pruned.safetensors report.html
    """
    from modgraph.report import report as write

    goal = None if target is None else functions.published(target)
    found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
    write(found, page, target=goal, title=title, image_shape=_shape(image_shape))


def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help=".npz, .graphml, .gexf, .gml, .json, .dot, .csv or .parquet.")],
    modules: Annotated[bool, typer.Option(help="Detect modules and write them with the trimmed network.")] = False,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write a network as a graph for other programs, or as .npz; a saved hierarchy keeps its modules.

    Example: modgraph convert pruned.onnx network.graphml --modules
    """
    reading: dict[str, Any] = {"threshold": threshold, "masks": masks, "block": block, "trust_pickle": trust_pickle}
    if out.suffix == ".npz":
        if modules:
            raise ValueError("`--modules` can't be kept in .npz: choose a graph format")
        save_network(_network(file, **reading), out)
    elif modules or is_hierarchy(file):
        found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
        save_graph(found, out)
    else:
        save_graph(_network(file, **reading), out)


def info(
    file: File,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Say what a file holds: layers, edges, density, before and after trimming.

    Example: modgraph info pruned.npz
    """
    dag = _network(file, threshold=threshold, masks=masks, block=block, trust_pickle=trust_pickle)
    trimmed = dag.trim()
    activations = None
    if dag.activations is not None:
        activations = [sorted(set(dag.activations[dag.layer == at].tolist())) for at in range(dag.n_layers)]
    facts: dict[str, Any] = {
        "layers": list(dag.layer_names or (f"layer {at}" for at in range(dag.n_layers))),
        "layer_sizes": list(dag.layer_sizes),
        "trimmed_sizes": list(trimmed.layer_sizes),
        "edges": dag.n_edges,
        "trimmed_edges": trimmed.n_edges,
        "density": dag.density,
        "skips_layers": dag.skips_layers,
        "weights": dag.weights is not None,
        "biases": dag.biases is not None,
        "activations": activations,
    }
    if as_json:
        print_json(facts)
        return
    typer.echo(f"{dag!r}; trimmed {trimmed!r}")
    for at, name in enumerate(facts["layers"]):
        sizes = f"{dag.layer_sizes[at]} units, {trimmed.layer_sizes[at]} after trimming"
        typer.echo(f"  {name}: {sizes}{'' if activations is None else f', {chr(32).join(activations[at])}'}")


# --- Shared by the commands -------------------------------------------------------------------------------------------


def _network(file: Path, *, threshold: float, masks: Path | None, block: str | None, trust_pickle: bool) -> LayeredDAG:
    parts = None if block is None else block.split(",")
    chosen = parts[0] if parts is not None and len(parts) == 1 else parts
    return load_network(file, threshold=threshold, masks=masks, block=chosen, trust_pickle=trust_pickle)


def _detected(
    dag: LayeredDAG, clustering: str, hops: int | None, merge_threshold: float, seed: int | None
) -> ModuleHierarchy:
    with _patience("finding modules (the first time this is compiled: some seconds, once)"):
        return detect_modules(dag, clustering=clustering, hops=hops, merge_threshold=merge_threshold, random_state=seed)


@contextmanager
def _patience(what: str) -> Iterator[None]:
    """Say on standard error what takes so long, to whoever is looking."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _found(
    file: Path,
    clustering: str,
    hops: int | None,
    merge_threshold: float,
    seed: int | None,
    threshold: float,
    masks: Path | None,
    block: str | None,
    trust_pickle: bool,
) -> ModuleHierarchy:
    """Load a hierarchy as it was saved, or detect that of a network."""
    if is_hierarchy(file):
        return load_hierarchy(file)
    dag = _network(file, threshold=threshold, masks=masks, block=block, trust_pickle=trust_pickle)
    return _detected(dag, clustering, hops, merge_threshold, seed)


def _shape(text: str | None) -> tuple[int, int] | None:
    """Read rows and columns."""
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise ValueError(f"`--image-shape` must be rows and columns, such as 28x56 (got {text!r})")
    return int(rows), int(columns)


def _hierarchy(found: ModuleHierarchy) -> dict[str, Any]:
    graph = found.graph
    return {
        "layer_sizes": list(found.dag.layer_sizes),
        "edges": found.dag.n_edges,
        "density": found.dag.density,
        "n_modules": found.n_modules,
        "labels": found.labels.tolist(),
        "cluster_labels": found.cluster_labels.tolist(),
        "modules": [module_record(module) for module in found.modules],
        "links": np.column_stack([graph.source, graph.target, graph.n_edges]).tolist(),
    }
