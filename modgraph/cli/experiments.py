"""Commands that train networks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from modgraph.cli.options import Json, Target, parse_ints
from modgraph.cli.output import print_json, progress_bar
from modgraph.functions import published
from modgraph.io.hierarchy import save_hierarchy
from modgraph.io.npz_file import save_network
from modgraph.names import counted


def sculpt(
    target: Target,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write to.")],
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers.")] = "24,24",
    seeds: Annotated[int, typer.Option(help="Number of trials, from seed 0.")] = 4,
    epochs: Annotated[int, typer.Option(help="Epochs of every training run.")] = 10,
    as_json: Json = False,
) -> None:
    """Train networks on a published function, prune them as far as they stay accurate, and save them.

    Example: modgraph sculpt separable networks --hidden 24,24 --seeds 4
    """
    from modgraph.sculpt import TrainSettings
    from modgraph.sculpt import sculpt as sculpt_networks

    graph = published(target)
    sizes = parse_ints(hidden, option="--hidden")
    settings = TrainSettings(learning_rate=0.05, batch_size=8, epochs=epochs)
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        result = sculpt_networks(graph, hidden=sizes, seeds=range(seeds), settings=settings, progress=progress)
    rows = []
    for network in result.networks:
        file = out / f"{target}-{network.seed}.npz"
        save_network(network.dag, file)
        rows.append({"file": str(file), "accepted": network.accepted, "edges": int(network.dag.n_edges)})
    agreed, file = result.consensus, out / f"{target}-consensus.json"
    if agreed is not None:
        save_hierarchy(agreed.hierarchy, file)
    if as_json:
        facts = agreed and {
            "file": str(file),
            "modules": agreed.hierarchy.n_modules,
            "share": agreed.share,
            "n_found": agreed.n_found,
            "n_trials": agreed.n_trials,
        }
        print_json({"networks": rows, "consensus": facts})
        return
    for row in rows:
        typer.echo(f"{row['file']}: {row['edges']} edges{'' if row['accepted'] else ', not accurate enough'}")
    if agreed is not None:
        typer.echo(f"{file}: {counted(agreed.hierarchy.n_modules, 'module')}, {agreed}")


def reproduce(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="exemplars, reuse, overlap, levels, all, digits.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write to; an interrupted run is continued.")] = Path(
        "out/reproduce"
    ),
    seeds: Annotated[int | None, typer.Option(help="Trials of each function and size; by default 4, digits 2.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1 = all cores.")] = -1,
    device: Annotated[str | None, typer.Option(help="Where torch computes: cpu, cuda, …; a GPU if any.")] = None,
    data: Annotated[str, typer.Option(help="digits: mnist (MODGRAPH_DATA says where) or digits8.")] = "digits8",
    task: Annotated[str, typer.Option(help="digits: hierarchical or classify.")] = "hierarchical",
    hidden_layers: Annotated[str, typer.Option(help="digits: numbers of hidden layers.")] = "2,3,4,5",
    width: Annotated[str | None, typer.Option(help="digits: units of a hidden layer, such as 392,784.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One small network a cell, to see that it works.")] = False,
    as_json: Json = False,
) -> None:
    """Run the paper's experiments, and write success rates beside the published ones.

    Example: modgraph reproduce exemplars --out results
    """
    if experiment == "digits":
        page, document, lines = _digits(
            out,
            data=data,
            task=task,
            hidden_layers=parse_ints(hidden_layers, option="--hidden-layers"),
            widths=[] if width is None else parse_ints(width, option="--width"),
            seeds=2 if seeds is None else seeds,
            n_jobs=jobs,
            quick=quick,
        )
    else:
        page, document, lines = _boolean(
            experiment, out, seeds=4 if seeds is None else seeds, n_jobs=jobs, device=device, quick=quick
        )
    if as_json:
        print_json(document | {"page": str(page)})
        return
    for line in lines:
        typer.echo(line)
    typer.echo(f"All results: {page}")


def _boolean(experiment: str, out: Path, **settings: Any) -> tuple[Path, dict[str, Any], list[str]]:
    """Run Boolean experiments; return the page, the results for programs, and a line for each cell."""
    from modgraph.experiments import EXPERIMENTS
    from modgraph.experiments.reproduce import reproduce as run

    experiments = EXPERIMENTS if experiment == "all" else [experiment]
    with progress_bar() as progress:
        rates = run(experiments, out, progress=progress, **settings)
    rows = [
        {
            "experiment": name,
            "cell": rate.cell.name,
            "trials": rate.trials,
            "right": rate.equal,
            "published": rate.cell.rate,
        }
        for name, part in rates.items()
        for rate in part
    ]
    lines = [
        f"{row['cell']}: {row['right']} of {row['trials']}"
        + ("" if row["published"] is None else f" (published {row['published']:.2f})")
        for row in rows
    ]
    return out / "reproduction.md", {"rates": rows}, lines


def _digits(out: Path, **settings: Any) -> tuple[Path, dict[str, Any], list[str]]:
    """Run the image tasks; return the page, the results for programs, and a line for each network."""
    from modgraph.experiments.reproduce_digits import page_name, reproduce_digits

    with progress_bar() as progress:
        results = reproduce_digits(out, progress=progress, **settings)
    lines = []
    for result in results:
        sizes = "-".join(map(str, result.sizes))
        pixels = f"{result.default.input_modules} modules of pixels, {100 * result.default.purity:.1f} % pure"
        lines.append(f"{result.trial.name}: {sizes}, {result.edges} edges, {100 * result.test:.2f} % right, {pixels}")
    return out / f"{page_name(results)}.md", {"networks": [asdict(result) for result in results]}, lines
