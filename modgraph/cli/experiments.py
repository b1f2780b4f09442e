"""Commands that train networks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from modgraph.checks import require
from modgraph.cli.options import FUNCTIONS, Json, one_of, parse_ints
from modgraph.cli.output import keeping, print_json, print_notes, progress_bar, round_progress
from modgraph.functions import published, published_names
from modgraph.io.export import save_network
from modgraph.io.hierarchy import save_hierarchy
from modgraph.names import counted

_EXPERIMENTS = ("exemplars", "reuse", "overlap", "levels", "all", "selection", "random", "digits")


def sculpt(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="A published function (see --list), or a table of samples, such as a .csv.",
            autocompletion=FUNCTIONS,
        ),
    ] = None,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write to.")] = Path("out/sculpt"),
    target: Annotated[str | None, typer.Option(help="Table: the columns to predict, with commas between.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Table: classification, regression, multilabel or boolean (a whole truth table).")
    ] = None,
    hidden: Annotated[str | None, typer.Option(help="Units of the hidden layers; 24,24, for tables 64,64.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of trials, from seed 0; 4, for tables 1.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every training run; 10, for tables by size.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam; 0.05, for tables 0.002.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Share of the metric that pruning may lose; 0, for tables 0.01.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where torch computes: cpu, cuda, …")] = None,
    list_functions: Annotated[bool, typer.Option("--list", help="List the published functions.")] = False,
    as_json: Json = False,
) -> None:
    """Train networks on a function or a table, prune them as far as they stay good, and save them.

    An interrupted run goes on where it was when the same command is given again.

    Example: modgraph sculpt table.csv --target price --task regression
    """
    if list_functions or name is None:
        if name is None and not list_functions:
            raise ValueError("`name` must be given: a published function or a table")
        if as_json:
            print_json({"functions": list(published_names())})
        else:
            typer.echo("\n".join(published_names()))
        return
    settings: dict[str, Any] = {"learning_rate": learning_rate, "epochs": epochs, "tolerance": tolerance}
    sizes = None if hidden is None else parse_ints(hidden, option="--hidden")
    if Path(name).suffix or target is not None:
        if target is None:
            raise ValueError("`target` must name the column to predict, for a table")
        rows, agreed = _sculpt_table(
            Path(name), out, target.split(","), task, hidden=sizes, trials=seeds or 1, device=device, **settings
        )
    else:
        if task is not None:
            raise ValueError(f"`task` must not be given for a published function (got {task!r})")
        rows, agreed = _sculpt_function(
            name, out, hidden=sizes, seeds=4 if seeds is None else seeds, device=device, **settings
        )
    if as_json:
        print_json({"networks": rows, "consensus": agreed and {k: v for k, v in agreed.items() if k != "words"}})
        return
    for row in rows:
        value = f"{row['metric']} {row['value']:.4f}"
        beside = "".join(f", {word} {row[word]:.4f}" for word in ("dense", "constant") if word in row)
        typer.echo(
            f"{row['file']}: {row['edges']} edges, {value}{beside}" + ("" if row["accepted"] else ", not pruned")
        )
    if agreed is not None:
        typer.echo(f"{agreed['file']}: {counted(agreed['modules'], 'module')}, {agreed['words']}")


def _sculpt_function(
    name: str, out: Path, *, hidden: list[int] | None, seeds: int, device: str | None, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Sculpt networks on a published function; return a row for each, and what they agree on."""
    from modgraph.sculpt import TrainSettings
    from modgraph.sculpt import sculpt as sculpt_networks

    graph = published(name)
    training = TrainSettings(
        learning_rate=settings["learning_rate"] or 0.05,
        batch_size=8,
        epochs=settings["epochs"] or 10,
        accuracy_threshold=1 - (settings["tolerance"] or 0),
    )
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{name}.checkpoint.npz"
    with keeping(out, checkpoint.name), progress_bar() as progress:
        result = sculpt_networks(
            graph,
            hidden=hidden or (24, 24),
            seeds=range(seeds),
            settings=training,
            checkpoint=checkpoint,
            device=device,
            progress=progress,
        )
    rows = []
    for network in result.networks:
        file = out / f"{name}-{network.seed}.npz"
        save_network(network.dag, file)
        rows.append(
            {
                "file": str(file),
                "accepted": network.accepted,
                "edges": network.edges,
                "metric": network.metric,
                "value": network.accuracy,
            }
        )
    checkpoint.unlink(missing_ok=True)
    agreed, file = result.consensus, out / f"{name}-consensus.json"
    if agreed is None:
        return rows, None
    save_hierarchy(agreed.hierarchy, file)
    facts = {name: getattr(agreed, name) for name in ("share", "n_found", "n_trials")}
    return rows, facts | {"file": str(file), "modules": agreed.hierarchy.n_modules, "words": str(agreed)}


def _sculpt_table(
    path: Path, out: Path, columns: list[str], task: str | None, *, hidden: list[int] | None, **settings: Any
) -> tuple[list[dict[str, Any]], None]:
    """Sculpt a network on a table; return a row about it."""
    from modgraph.sculpt import SculptedMLP

    pandas = require("pandas", purpose="sculpting a table", extra="table")
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    table = pandas.read_csv(path, sep=None, engine="python")
    for column in columns:
        if column not in table:
            raise ValueError(f"`target` must name columns of the table: {', '.join(table)} (got {column!r})")
    y = table[columns[0]] if len(columns) == 1 else table[columns]
    features = table.drop(columns=columns)
    texts = [column for column in features if not pandas.api.types.is_numeric_dtype(features[column])]
    if texts:
        raise ValueError(f"{path}: columns must hold numbers, apart from the target (got text in {', '.join(texts)})")
    if task is None:
        is_float = all(pandas.api.types.is_float_dtype(table[column]) for column in columns)
        task = "regression" if is_float else "classification" if len(columns) == 1 else "multilabel"
        typer.echo(f"note: --task {task} is assumed, from the values of {', '.join(columns)}", err=True)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{path.stem}.checkpoint.npz"
    with keeping(out, f"{path.stem}.checkpoint*.npz"), round_progress() as progress:
        model = SculptedMLP(
            task=task,  # type: ignore[arg-type]  # it checks the name
            hidden=hidden or (64, 64), checkpoint=checkpoint, progress=progress, **settings
        ).fit(features, y)  # fmt: skip
    file = out / f"{path.stem}.npz"
    save_network(model.network_, file)
    for done in out.glob(f"{path.stem}.checkpoint*.npz"):
        done.unlink()
    print_notes(model.network_)
    return [
        {
            "file": str(file),
            "accepted": model.accepted_,
            "edges": model.network_.n_edges,
            "metric": model.metric_,
            "value": model.metrics_[model.metric_],
            "dense": model.dense_,
            "constant": model.baseline_,
            "metrics": model.metrics_,
        }
    ], None


def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(metavar="EXPERIMENT", help=f"{', '.join(_EXPERIMENTS)}.", autocompletion=one_of(_EXPERIMENTS)),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write to; an interrupted run is continued.")] = Path(
        "out/reproduce"
    ),
    seeds: Annotated[
        int | None, typer.Option(help="Trials of each network; by default 4, digits 2, selection always 8.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1 = all cores.")] = -1,
    device: Annotated[str | None, typer.Option(help="Where torch computes: cpu, cuda, …; a GPU if any.")] = None,
    data: Annotated[str, typer.Option(help="digits: mnist (MODGRAPH_DATA says where) or digits8.")] = "digits8",
    task: Annotated[str, typer.Option(help="digits: hierarchical or classify.")] = "hierarchical",
    hidden_layers: Annotated[str, typer.Option(help="digits: numbers of hidden layers.")] = "2,3,4,5",
    width: Annotated[str | None, typer.Option(help="digits: units of a hidden layer, such as 392,784.")] = None,
    functions: Annotated[int, typer.Option(help="random: number of functions.")] = 200,
    quick: Annotated[bool, typer.Option("--quick", help="One small network a cell, to see that it works.")] = False,
    all_settings: Annotated[bool, typer.Option("--all-settings", help="The paper's 70 settings, not 28.")] = False,
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
        settings: dict[str, Any] = {"n_jobs": jobs, "device": device, "quick": quick}
        if experiment != "selection":
            settings["seeds"] = 4 if seeds is None else seeds
        if experiment == "random":
            settings["n_functions"] = functions
        if experiment in ("selection", "random"):
            page, document, lines = _study(experiment, out, **settings)
        else:
            page, document, lines = _boolean(experiment, out, all_settings=all_settings, **settings)
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
    with keeping(out, "*"), progress_bar() as progress:
        rates = run(experiments, out, progress=progress, **settings)
    rows = [
        {
            "experiment": name,
            "cell": rate.cell.name,
            "trials": rate.trials,
            "right": rate.agreed,
            "right_by_the_papers_rule": rate.equal,
            "published": rate.cell.rate,
        }
        for name, part in rates.items()
        for rate in part
    ]
    lines = [
        f"{row['cell']}: {row['right']} of {row['trials']}, by the paper's rule {row['right_by_the_papers_rule']}"
        + ("" if row["published"] is None else f" (published {row['published']:.2f})")
        for row in rows
    ]
    return out / "reproduction.md", {"rates": rows}, lines


def _study(name: str, out: Path, **settings: Any) -> tuple[Path, dict[str, Any], list[str]]:
    """Run the study of rules of choice, or random functions; return the page, the results, and a line to print."""
    from modgraph.experiments.random_functions import reproduce_random
    from modgraph.experiments.selection import reproduce_selection

    run: Callable[..., list[Any]] = reproduce_selection if name == "selection" else reproduce_random
    with keeping(out, "*"), progress_bar() as progress:
        results = run(out, progress=progress, **settings)
    right, votes = sum(result.answer for result in results), mean(result.votes for result in results)
    rows = [{field: getattr(result, field) for field in result.__slots__} for result in results]
    for row in rows:
        row.pop("resampled", None)
    return out / f"{name}.md", {name: rows}, [f"{right} of {len(rows)} answers are right; votes {votes:.2f} on average"]


def _digits(out: Path, **settings: Any) -> tuple[Path, dict[str, Any], list[str]]:
    """Run the image tasks; return the page, the results for programs, and a line for each network."""
    from modgraph.experiments.reproduce_digits import page_name, reproduce_digits

    with keeping(out, "*"), progress_bar() as progress:
        results = reproduce_digits(out, progress=progress, **settings)
    lines = []
    for result in results:
        sizes = "-".join(map(str, result.sizes))
        pixels = f"{result.default.input_modules} modules of pixels, {100 * result.default.purity:.1f} % pure"
        lines.append(f"{result.trial.name}: {sizes}, {result.edges} edges, {100 * result.test:.2f} % right, {pixels}")
    return out / f"{page_name(results)}.md", {"networks": [asdict(result) for result in results]}, lines
