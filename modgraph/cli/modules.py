"""Commands that find modules and judge them.

What only some commands need is loaded by them.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from modgraph.cli.options import (
    FUNCTIONS,
    HierarchyOptions,
    Hops,
    Json,
    MergeThreshold,
    NetworkOptions,
    Seed,
    Target,
    check_clusterings,
    one_of,
    speaking_of,
    target_graph,
)
from modgraph.cli.output import keeping, print_json, progress_bar, working
from modgraph.cluster import METHODS
from modgraph.evidence import Significance, significance
from modgraph.files import replacing
from modgraph.io.hierarchy import module_record, save_hierarchy
from modgraph.modules import ModuleHierarchy
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
    as_json: Json = False,
) -> None:
    """Find the modules of a pruned network.

    Example: modgraph detect pruned.onnx --out modules.json
    """
    found = options.detected()
    with progress_bar() if nulls else nullcontext() as progress:
        evidence = significance(found, n_null=nulls, progress=progress)
    if out is not None:
        save_hierarchy(found, out)
    if as_json:
        print_json(_record(found, evidence))
        return
    typer.echo(f"{found.dag!r}, {counted(found.n_modules, 'module')}")
    typer.echo(f"by {found.settings['features']}")
    typer.echo(evidence.summary())
    for module in found.modules:
        typer.echo(f"  {module!r}")


def _record(found: ModuleHierarchy, evidence: Significance) -> dict[str, Any]:
    """Describe a hierarchy in types that JSON knows."""
    graph = found.graph
    return {
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


FIELDS = ("inputs", "hidden", "outputs", "exact", "functional", "ari", "ami", "n_modules", "expected_modules")


def score(options: HierarchyOptions, target: Target, as_json: Json = False) -> None:
    """Compare the modules of a network, or a saved hierarchy, with a function.

    Example: modgraph score pruned.pt overlap_3_use_8 --json
    """
    from modgraph.functions import published
    from modgraph.score import score as score_modules

    graph = published(target)
    result = score_modules(options.hierarchy(), graph)
    if not as_json:
        typer.echo(repr(result))
        for match in result.matching:
            typer.echo(f"  module {match.module}: {match.sub_function} ({match.similarity:.2f})")
        return
    matching = [asdict(match) for match in result.matching]
    print_json({"target": target} | {name: getattr(result, name) for name in FIELDS} | {"matching": matching})


Nulls = Annotated[
    int | None, typer.Option("--nulls", help="Null networks; by default as many as it takes. 0: only a bound, at once.")
]
Changes = Annotated[int, typer.Option("--changes", help="Slightly changed networks, for the stability of modules.")]
Checkpoint = Annotated[Path | None, typer.Option(help="File of the results so far; if it exists, the work is resumed.")]
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
    resumed = nullcontext() if checkpoint is None else keeping(checkpoint.parent, checkpoint.name)
    with speaking_of(names), resumed, progress_bar() as progress:
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


OptionalTarget = Annotated[
    str | None,
    typer.Argument(metavar="TARGET", help="A published function, such as separable.", autocompletion=FUNCTIONS),
]
Data = Annotated[Path | None, typer.Option(help="Inputs to test on: .npy, (n_samples, n_inputs); needed if no TARGET.")]
Activations = Annotated[str | None, typer.Option(help="One a layer, if the file has none: relu,sigmoid.")]
Controls = Annotated[int, typer.Option("--n-controls", help="Random regroupings for each module.")]


def verify(
    options: HierarchyOptions,
    target: OptionalTarget = None,
    data: Data = None,
    activations: Activations = None,
    n_controls: Controls = 20,
    as_json: Json = False,
) -> None:
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
    as_json: Json = False,
) -> None:
    """Compare several clusterings of one network: clusters, modules, description length, evidence, agreement, time.

    Example: modgraph compare pruned.npz --methods linkage,leiden
    """
    from modgraph.compare import compare_clusterings
    from modgraph.views import draw_flows

    names = methods.split(",")
    check_clusterings(names, option="--methods")
    dag = options.network()
    with speaking_of({"n_null": "--nulls", "n_resamples": "--changes"}), working("finding modules"):
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
        figure: Any = draw_flows(dict(zip(table.methods, table.found, strict=True))).figure
        with speaking_of({"path": "--out"}), replacing(out) as part:
            figure.savefig(part, dpi=200)
    if not as_json:
        typer.echo(str(table))
        return
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
    print_json({"methods": rows, "ami": table.ami.tolist()})
