"""Commands that find modules and judge them.

What only some commands need is loaded by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from modgraph.cli.options import (
    Changes,
    HierarchyOptions,
    Hops,
    MergeThreshold,
    NetworkOptions,
    Nulls,
    OptionalTarget,
    Seed,
    Target,
    check_clusterings,
    one_of,
    save_picture,
    target_graph,
)
from modgraph.cli.output import Answer, keeping, progress_bar, working
from modgraph.cluster import METHODS
from modgraph.evidence import significance
from modgraph.io.hierarchy import module_record, save_hierarchy
from modgraph.names import counted
from modgraph.stability import stability

if TYPE_CHECKING:
    from modgraph.verify import ModuleCheck


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
    lines = [f"{found.dag!r}, {counted(found.n_modules, 'module')}", f"by {found.settings['features']}"]
    return Answer(document, [*lines, evidence.summary(), *(f"  {module!r}" for module in found.modules)])


FIELDS = ("inputs", "hidden", "outputs", "exact", "functional", "ari", "ami", "n_modules", "expected_modules")


def score(options: HierarchyOptions, target: Target) -> Answer:
    """Compare the modules of a network, or a saved hierarchy, with a function.

    Example: modgraph score pruned.pt overlap_3_use_8 --json
    """
    from modgraph.functions import published
    from modgraph.score import score as score_modules

    graph = published(target)
    result = score_modules(options.hierarchy(), graph)
    facts = {name: getattr(result, name) for name in FIELDS}
    lines = [f"  module {one.module}: {one.sub_function} ({one.similarity:.2f})" for one in result.matching]
    matching = [asdict(match) for match in result.matching]
    return Answer({"target": target} | facts | {"matching": matching}, [repr(result), *lines])


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

    return Answer(result.to_dict() | {"stability": stable, "notes": list(found.dag.notes)}, lines())


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
    names = ("target", "n_samples", "exhaustive", "accuracy", "functional", "certified_share")
    facts: dict[str, Any] = {name: getattr(result, name) for name in names}
    modules = [_facts(module) for module in result.modules]
    return Answer(facts | {"modules": modules}, [repr(result), *(f"  {module!r}" for module in result.modules)])


def _facts(module: ModuleCheck) -> dict[str, Any]:
    """Turn a module's figures into JSON types."""
    facts = asdict(module)
    return facts | {name: facts[name].tolist() for name in ("boundary", "inputs", "outputs")}


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
            "clusters": list(table.clusters[at]),
            "modules": table.n_modules[at],
            "bits": table.bits[at],
            "evidence": table.evidence[at].to_dict(),
            "seconds": table.seconds[at],
        }
        for at, name in enumerate(table.methods)
    ]
    return Answer({"methods": rows, "ami": table.ami.tolist()}, [str(table)])
