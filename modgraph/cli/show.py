"""Commands that describe, draw and convert what is in a file.

What only some commands need is loaded by them.
"""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from modgraph.cli.options import (
    HierarchyOptions,
    ImageShape,
    NetworkOptions,
    TargetOption,
    parse_image_shape,
    save_picture,
    speaking_of,
    target_graph,
)
from modgraph.cli.output import GIVEN, Answer, progress_bar, working
from modgraph.dag import LayeredDAG
from modgraph.evidence import significance
from modgraph.io.attribution import ATTRIBUTION, save_supernodes
from modgraph.io.export import save_graph, save_network
from modgraph.io.hierarchy import HIERARCHY
from modgraph.io.load import list_blocks, reader_of
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted, layer_names

_SHOWN_SIZES = 8  # of the layers of a part


def info(options: NetworkOptions) -> Answer:
    """Describe the network in a file: layers, edges, density, before and after trimming.

    Of a model that is read in parts only, it lists the parts.

    Example: modgraph info pruned.npz
    """
    try:
        dag = options.network()
    except ValueError as error:
        blocks = list_blocks(options.file, trust_pickle=options.trust_pickle) if options.block is None else {}
        if not blocks:
            raise
        lines = [str(error), f"{counted(len(blocks), 'part')} can be read, each with --block NAME:"]
        for block, widths in blocks.items():
            shown = " → ".join(map(str, widths[:_SHOWN_SIZES])) + (" → …" if len(widths) > _SHOWN_SIZES else "")
            lines.append(f"  {block}: {shown}")
        return Answer({"blocks": blocks, "error": str(error)}, lines)
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
    lines = [f"{dag!r}; trimmed {trimmed!r}"]
    for level, name in enumerate(facts["layers"]):
        in_layer = f"{counted(dag.layer_sizes[level], 'unit')}, {trimmed.layer_sizes[level]} after trimming"
        lines.append(f"  {name}: {in_layer}{'' if activations is None else ', ' + ' '.join(activations[level])}")
    return Answer(facts, lines)


def draw(
    options: HierarchyOptions,
    picture: Annotated[
        Path, typer.Argument(metavar="PICTURE", help="The picture to write: .svg, .png, .pdf; - prints SVG.")
    ],
    target: TargetOption = None,
    image_shape: ImageShape = None,
) -> Answer:
    """Draw the modules of a network or of a saved hierarchy.

    Example: modgraph draw pruned.safetensors modules.svg
    """
    from modgraph.draw import draw as draw_modules

    graph, shape = target_graph(target), parse_image_shape(image_shape)
    found = options.hierarchy()
    with working("drawing"):
        ax: Any = draw_modules(found, target=graph, image_shape=shape)
        if str(picture) == "-":
            drawn = io.BytesIO()
            ax.figure.savefig(drawn, format="svg")
            return Answer(None, [drawn.getvalue()])
        save_picture(ax, picture, option="PICTURE")
    return Answer({"file": str(picture), "n_modules": found.n_modules})


def report(
    options: HierarchyOptions,
    page: Annotated[Path, typer.Argument(metavar="PAGE", help="The page to write: .html.")],
    target: TargetOption = None,
    title: Annotated[str | None, typer.Option(help="The heading of the page.")] = None,
    image_shape: ImageShape = None,
    nulls: Annotated[int, typer.Option("--nulls", help="Null networks to compare with; 0: none.")] = 0,
) -> Answer:
    """Write the modules of a network or of a saved hierarchy as one interactive HTML file.

    Example: modgraph report pruned.safetensors report.html
    """
    from modgraph.report import report as write_report

    graph, shape = target_graph(target), parse_image_shape(image_shape)
    found = options.hierarchy()
    evidence = None
    if nulls:
        with progress_bar() as progress:
            evidence = significance(found, n_null=nulls, random_state=options.seed, progress=progress)
    with working("writing the report"), speaking_of({"path": "PAGE"}):
        origin = {"File": str(options.file), "Command": shlex.join(["modgraph", *GIVEN])}
        write_report(found, page, target=graph, title=title, image_shape=shape, evidence=evidence, origin=origin)
    return Answer({"file": str(page), "n_modules": found.n_modules})


def convert(
    options: HierarchyOptions,
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".npz, .graphml, .gexf, .gml, .json, .csv or .parquet.")],
    modules: Annotated[bool, typer.Option("--modules", help="Detect modules, write them with the network.")] = False,
) -> Answer:
    """Write a network as a graph for other programs, or as .npz; a saved hierarchy keeps its modules.

    From an attribution graph to .json with --modules: the same file, with the modules as its groups (supernodes).

    Example: modgraph convert pruned.onnx network.graphml --modules
    """
    to_npz = out.suffix == ".npz"
    if to_npz and modules:
        raise ValueError("`--modules` can't be kept in .npz: choose a graph format")
    with_modules = modules or (not to_npz and reader_of(options.file) is HIERARCHY)
    graph = options.hierarchy() if with_modules else options.network()
    with working(f"writing {out}"), speaking_of({"path": "OUT"}):
        if to_npz and isinstance(graph, LayeredDAG):
            save_network(graph, out)
        elif isinstance(graph, ModuleHierarchy) and out.suffix == ".json" and reader_of(options.file) is ATTRIBUTION:
            save_supernodes(graph, out, source=options.file)
        else:
            save_graph(graph, out)
    return Answer({"file": str(out), "modules": with_modules})
