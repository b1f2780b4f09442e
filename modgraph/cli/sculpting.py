"""The commands that train networks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from modgraph import functions
from modgraph.cli.options import Debug, Json, Target, print_json
from modgraph.io.npz_file import save_network


def sculpt(
    target: Target,
    out: Annotated[Path, typer.Argument(help="A folder for one .npz a trial.")],
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers.")] = "24,24",
    seeds: Annotated[int, typer.Option(help="Number of trials, from seed 0.")] = 4,
    epochs: Annotated[int, typer.Option(help="Of every training run.")] = 10,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Train networks on a published function, prune them as far as they stay right, and save them.

    Example: modgraph sculpt separable networks --hidden 24,24 --seeds 4
    """
    from modgraph.sculpt import TrainSettings
    from modgraph.sculpt import sculpt as search

    goal = functions.published(target)
    sizes = _ints(hidden, "hidden")
    settings = TrainSettings(learning_rate=0.05, batch_size=8, epochs=epochs)
    out.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        result = search(goal, hidden=sizes, seeds=range(seeds), settings=settings, progress=progress)
    rows = []
    for network in result.networks:
        file = out / f"{target}-{network.seed}.npz"
        save_network(network.dag, file)
        rows.append({"file": str(file), "accepted": network.accepted, "edges": int(network.dag.n_edges)})
    if as_json:
        print_json({"networks": rows})
        return
    for row in rows:
        typer.echo(f"{row['file']}: {row['edges']} edges{'' if row['accepted'] else ', not accurate enough'}")


def reproduce(
    experiment: Annotated[str, typer.Argument(help="exemplars, reuse, overlap, levels, all of these, or digits.")],
    out: Annotated[Path, typer.Option(help="The folder of results; a run that was interrupted goes on there.")] = Path(
        "out/reproduce"
    ),
    seeds: Annotated[int | None, typer.Option(help="Trials of each function and size; by default 4, digits 2.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1 = all cores.")] = -1,
    device: Annotated[str | None, typer.Option(help="Where torch computes: cpu, cuda, …; a GPU if any.")] = None,
    data: Annotated[str, typer.Option(help="digits: mnist (MODGRAPH_DATA says where) or digits8.")] = "digits8",
    task: Annotated[str, typer.Option(help="digits: hierarchical or classify.")] = "hierarchical",
    hidden_layers: Annotated[str, typer.Option(help="digits: numbers of hidden layers.")] = "2,3,4,5",
    width: Annotated[str | None, typer.Option(help="digits: units of a hidden layer, such as 392,784.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One small network a cell: to see that it works.")] = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Run the paper's experiments, and write success rates beside the published ones.

    Example: modgraph reproduce exemplars --out results
    """
    if experiment == "digits":
        depths = _ints(hidden_layers, "hidden-layers")
        widths = [] if width is None else _ints(width, "width")
        _reproduce_digits(out, data, task, depths, widths, 2 if seeds is None else seeds, jobs, quick, as_json)
        return
    from modgraph.experiments import EXPERIMENTS
    from modgraph.experiments.reproduce import reproduce as run

    with _progress() as progress:
        rates = run(
            EXPERIMENTS if experiment == "all" else [experiment],
            out,
            seeds=4 if seeds is None else seeds,
            n_jobs=jobs,
            device=device,
            quick=quick,
            progress=progress,
        )
    rows = [
        {
            "experiment": name,
            "cell": " · ".join(filter(None, (rate.cell.panel, rate.cell.row, rate.cell.column))),
            "trials": rate.trials,
            "right": rate.equal,
            "published": rate.cell.rate,
        }
        for name, part in rates.items()
        for rate in part
    ]
    if as_json:
        print_json({"rates": rows, "page": str(out / "reproduction.md")})
        return
    for row in rows:
        known = "" if row["published"] is None else f" (published {row['published']:.2f})"
        typer.echo(f"{row['cell']}: {row['right']} of {row['trials']}{known}")
    typer.echo(f"{out / 'reproduction.md'} has it all.")


def _reproduce_digits(
    out: Path,
    data: Any,
    task: Any,
    depths: list[int],
    widths: list[int],
    seeds: int,
    jobs: int,
    quick: bool,
    as_json: bool,
) -> None:
    from modgraph.experiments.reproduce_digits import reproduce_digits as run

    with _progress() as progress:
        results = run(
            out,
            data=data,
            task=task,
            hidden_layers=depths,
            widths=widths,
            seeds=seeds,
            n_jobs=jobs,
            quick=quick,
            progress=progress,
        )
    page = out / f"digits-{data}{'-classify' * (task == 'classify')}.md"
    if as_json:
        print_json({"networks": [asdict(result) for result in results], "page": str(page)})
        return
    for result in results:
        sizes = "-".join(map(str, result.sizes))
        pixels = f"{result.default.input_modules} modules of pixels, {100 * result.default.purity:.1f} % pure"
        typer.echo(f"{result.trial.name}: {sizes}, {result.edges} edges, {100 * result.test:.2f} % right, {pixels}")
    typer.echo(f"{page} has it all.")


def _ints(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`--{option}` must be ints with commas between (got {text!r})") from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Give a hook that moves a bar on standard error: networks done, networks a second, time left."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True), TimeRemainingColumn())
    with Progress("networks", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("networks", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
