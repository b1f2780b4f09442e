"""Commands that read a network or a hierarchy: describe it, find modules, judge, draw and convert them.

What only some commands need is loaded by them.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from modgraph.cli.options import (
    Changes,
    HierarchyOptions,
    Hops,
    ImageShape,
    MergeThreshold,
    NetworkOptions,
    Nulls,
    OptionalTarget,
    Seed,
    Target,
    TargetOption,
    check_clusterings,
    one_of,
    parse_image_shape,
    save_picture,
    speaking_of,
)
from modgraph.cli.output import GIVEN, Answer, keeping, progress_bar, working
from modgraph.cluster import METHODS
from modgraph.dag import LayeredDAG
from modgraph.evidence import significance
from modgraph.functions import published
from modgraph.io.attribution import ATTRIBUTION, save_supernodes
from modgraph.io.export import save_graph, save_network
from modgraph.io.hierarchy import HIERARCHY, module_record, save_hierarchy
from modgraph.io.load import list_blocks, reader_of
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted, layer_names
from modgraph.stability import stability

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
        "layer_sizes": dag.layer_sizes,
        "trimmed_sizes": trimmed.layer_sizes,
        "edges": dag.n_edges,
        "trimmed_edges": trimmed.n_edges,
        "density": dag.density,
        "skips_layers": dag.skips_layers,
        "weights": dag.weights is not None,
        "biases": dag.biases is not None,
        "activations": activations,
        "notes": dag.notes,
    }
    lines = [f"{dag!r}; trimmed {trimmed!r}"]
    for level, name in enumerate(facts["layers"]):
        in_layer = f"{counted(dag.layer_sizes[level], 'unit')}, {trimmed.layer_sizes[level]} after trimming"
        lines.append(f"  {name}: {in_layer}{'' if activations is None else ', ' + ' '.join(activations[level])}")
    return Answer(facts, lines)


def detect(
    options: HierarchyOptions,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the hierarchy as JSON.")] = None,
    nulls: Annotated[
        int, typer.Option("--nulls", help="Random networks to compare with; 19 can tell p = .05, 0 gives a bound.")
    ] = 0,
) -> Answer:
    """Find the modules of a pruned network.

    Example: modgraph detect pruned.onnx --out modules.json
    """
    found = options.detected()
    with progress_bar() if nulls else nullcontext() as progress:
        evidence = significance(found, n_null=nulls, progress=progress)
    if out is not None:
        save_hierarchy(found, out)
    graph = found.graph
    document = {
        "layer_sizes": found.dag.layer_sizes,
        "edges": found.dag.n_edges,
        "density": found.dag.density,
        "n_modules": found.n_modules,
        "labels": found.labels,
        "cluster_labels": found.cluster_labels,
        "modules": [module_record(module) for module in found.modules],
        "settings": found.settings,
        "links": np.column_stack([graph.source, graph.target, graph.n_edges]),
        "evidence": evidence.to_dict(),
        "notes": found.dag.notes,
    }
    lines = [f"{found.dag!r}, {counted(found.n_modules, 'module')}", f"by {found.settings['features']}"]
    return Answer(document, [*lines, evidence.summary(), *(f"  {module!r}" for module in found.modules)])


def score(options: HierarchyOptions, target: Target) -> Answer:
    """Compare the modules of a network, or a saved hierarchy, with a function.

    Example: modgraph score pruned.pt overlap_3_use_8 --json
    """
    from modgraph.score import score as score_modules

    graph = published(target)
    result = score_modules(options.hierarchy(), graph)
    names = ("inputs", "hidden", "outputs", "exact", "functional", "ari", "ami", "n_modules", "expected_modules")
    facts = {"target": target} | {name: getattr(result, name) for name in names}
    lines = [f"  module {one.module}: {one.sub_function} ({one.similarity:.2f})" for one in result.matching]
    return Answer(facts | {"matching": [asdict(match) for match in result.matching]}, [repr(result), *lines])


def evidence(
    options: HierarchyOptions,
    nulls: Nulls = None,
    changes: Changes = 20,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File of the results so far; if it exists, the work is resumed.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes; −1: one a processor.")] = 1,
) -> Answer:
    """Tell whether the modules are more than chance, and how sure each of them is.

    Example: modgraph evidence pruned.onnx --nulls 99 --json
    """
    found = options.hierarchy()
    shared: dict[str, Any] = {"random_state": options.seed, "n_jobs": jobs}
    resumed = nullcontext() if checkpoint is None else keeping(checkpoint.parent, checkpoint.name)
    with resumed, progress_bar() as progress:
        result = significance(found, n_null=nulls, n_resamples=0, progress=progress, checkpoint=checkpoint, **shared)
    stable = None
    if changes:
        with working("finding modules of changed networks"):
            stable = stability(found, n_resamples=changes, **shared).module_confidence.tolist()

    def lines() -> Iterator[str]:
        yield f"{found.dag!r}, {counted(found.n_modules, 'module')}"
        yield result.summary()
        for module, judged in zip(found.modules, result.modules, strict=True):
            figures = [f"p = {judged.p_value:.2g}"] if result.n_null else []
            figures += [f"stability {stable[module.id]:.2f}"] if stable is not None else []
            yield f"  {module!r}: {', '.join(figures)}"

    return Answer(result.to_dict() | {"stability": stable, "notes": found.dag.notes}, lines())


def verify(
    options: HierarchyOptions,
    target: OptionalTarget = None,
    data: Annotated[
        Path | None, typer.Option(help="Inputs to test on: .npy, (n_samples, n_inputs); needed if no TARGET.")
    ] = None,
    activations: Annotated[str | None, typer.Option(help="One a layer, if the file has none: relu,sigmoid.")] = None,
    n_controls: Annotated[int, typer.Option("--n-controls", help="Random regroupings for each module.")] = 20,
) -> Answer:
    """Test by intervention whether the modules compute the sub-functions of a function.

    Example: modgraph verify pruned.pt separable --json
    """
    from modgraph.verify import verify as verify_modules

    graph = None if target is None else published(target)
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
    names = ("target", "n_samples", "exhaustive", "accuracy", "functional", "certified_share")
    facts: dict[str, Any] = {name: getattr(result, name) for name in names}
    modules = [asdict(module) for module in result.modules]
    return Answer(facts | {"modules": modules}, [repr(result), *(f"  {module!r}" for module in result.modules)])


def compare(
    options: NetworkOptions,
    methods: Annotated[
        str, typer.Option(help="Clusterings, with commas between.", autocompletion=one_of(METHODS))
    ] = "linkage,published,leiden",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A picture of the units that modules share: .svg, .png, .pdf.")
    ] = None,
    hops: Hops = None,
    merge_threshold: MergeThreshold = 0.9,
    nulls: Nulls = 0,
    changes: Changes = 20,
    seed: Seed = 0,
) -> Answer:
    """Compare several clusterings of one network: clusters, modules, description length, evidence, agreement, time.

    Example: modgraph compare pruned.npz --methods linkage,leiden
    """
    from modgraph.compare import compare_clusterings
    from modgraph.views import draw_flows

    names = methods.split(",")
    check_clusterings(names, option="--methods")
    dag = options.network()
    with working("finding modules"):
        table = compare_clusterings(
            dag,
            methods=names,
            hops=hops,
            merge_threshold=merge_threshold,
            n_null=nulls,
            n_resamples=changes,
            random_state=seed,
        )
    if out is not None:
        save_picture(draw_flows(dict(zip(table.methods, table.found, strict=True))), out, option="--out")
    rows = [
        {
            "method": name,
            "clusters": table.clusters[at],
            "modules": table.n_modules[at],
            "bits": table.bits[at],
            "evidence": table.evidence[at].to_dict(),
            "seconds": table.seconds[at],
        }
        for at, name in enumerate(table.methods)
    ]
    return Answer({"methods": rows, "ami": table.ami}, [str(table)])


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

    graph, shape = None if target is None else published(target), parse_image_shape(image_shape)
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

    graph, shape = None if target is None else published(target), parse_image_shape(image_shape)
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
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".npz, .graphml, .gexf, .gml, .json or .csv.")],
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
