"""Commands that train networks."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from modgraph.checks import require
from modgraph.cli.options import FUNCTIONS, one_of, parse_ints
from modgraph.cli.output import Answer, keeping, print_notes, progress_bar, working
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
) -> Answer:
    """Train networks on a function or a table, prune them as far as they stay good, and save them.

    An interrupted run goes on where it was when the same command is given again.

    Example: modgraph sculpt table.csv --target price --task regression
    """
    if list_functions:
        return Answer({"functions": list(published_names())}, published_names())
    if name is None:
        raise ValueError("`name` must be given: a published function or a table")
    settings: dict[str, Any] = {
        "hidden": None if hidden is None else parse_ints(hidden, option="--hidden"),
        "learning_rate": learning_rate,
        "epochs": epochs,
        "tolerance": tolerance,
        "device": device,
    }
    if Path(name).suffix or target is not None:
        if target is None:
            raise ValueError("`target` must name the column to predict, for a table")
        return _sculpt_table(Path(name), out, target.split(","), task, trials=seeds or 1, **settings)
    if task is not None:
        raise ValueError(f"`task` must not be given for a published function (got {task!r})")
    return _sculpt_function(name, out, seeds=4 if seeds is None else seeds, **settings)


def _sculpt_function(
    name: str, out: Path, *, hidden: list[int] | None, seeds: int, device: str | None, **settings: Any
) -> Answer:
    """Sculpt networks on a published function, and save them and what they agree on."""
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
        facts = {"accepted": network.accepted, "edges": network.edges}
        rows.append({"file": str(file)} | facts | {"metric": network.metric, "value": network.accuracy})
    checkpoint.unlink(missing_ok=True)
    agreed, file = result.consensus, out / f"{name}-consensus.json"
    if agreed is None:
        return _sculpted(rows)
    save_hierarchy(agreed.hierarchy, file)
    shares = {name: getattr(agreed, name) for name in ("share", "confidence", "n_found", "n_trials")}
    known = shares | {"file": str(file), "modules": agreed.hierarchy.n_modules}
    told = f"{file}: {counted(agreed.hierarchy.n_modules, 'module')}, {agreed}"
    if agreed.confidence < agreed.share:
        told += f"; confidence {100 * agreed.confidence:.0f} %: the decomposition of the truth table has other modules"
    return _sculpted(rows, known, [told])


def _sculpt_table(path: Path, out: Path, columns: list[str], task: str | None, **settings: Any) -> Answer:
    """Sculpt a network on a table, and save it."""
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
    settings |= {
        "task": task,
        "hidden": settings["hidden"] or (64, 64),
        "checkpoint": out / f"{path.stem}.checkpoint.npz",
    }
    with keeping(out, f"{path.stem}.checkpoint*.npz"), working("training the dense network") as update:
        count = itertools.count(1)

        def show(*done: object) -> None:
            told = str(done[0]) if len(done) == 1 else f"{done[0]} of {done[1]} networks"
            if update is not None:
                update(f"round {next(count)}, {told}")

        model = SculptedMLP(progress=None if update is None else show, **settings).fit(features, y)
    file = out / f"{path.stem}.npz"
    save_network(model.network_, file)
    for done in out.glob(f"{path.stem}.checkpoint*.npz"):
        done.unlink()
    print_notes(model.network_)
    facts = {"file": str(file), "accepted": model.accepted_, "edges": model.network_.n_edges, "metric": model.metric_}
    values = {"value": model.metrics_[model.metric_], "dense": model.dense_, "constant": model.baseline_}
    return _sculpted([facts | values | {"metrics": model.metrics_}])


def _sculpted(rows: list[dict[str, Any]], consensus: dict[str, Any] | None = None, lines: Iterable[str] = ()) -> Answer:
    """Describe sculpted networks, and what they agree on."""
    told = []
    for row in rows:
        beside = "".join(f", {word} {row[word]:.4f}" for word in ("dense", "constant") if word in row)
        value = f"{row['metric']} {row['value']:.4f}{beside}"
        told.append(f"{row['file']}: {row['edges']} edges, {value}{'' if row['accepted'] else ', not pruned'}")
    return Answer({"networks": rows, "consensus": consensus}, [*told, *lines])


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
    schedule: Annotated[str, typer.Option(help="digits: constant, or cosine, which leaves fewer edges.")] = "constant",
    functions: Annotated[int, typer.Option(help="random: number of functions.")] = 200,
    quick: Annotated[bool, typer.Option("--quick", help="One small network a cell, to see that it works.")] = False,
    all_settings: Annotated[bool, typer.Option("--all-settings", help="The paper's 70 settings, not 28.")] = False,
) -> Answer:
    """Run the paper's experiments, and write success rates beside the published ones.

    Example: modgraph reproduce exemplars --out results
    """
    given = {
        "n_jobs": jobs,
        "quick": quick,
        "device": device,
        "seeds": (2 if experiment == "digits" else 4) if seeds is None else seeds,
        "all_settings": all_settings,
        "n_functions": functions,
        "data": data,
        "task": task,
        "hidden_layers": parse_ints(hidden_layers, option="--hidden-layers"),
        "schedule": schedule,
        "widths": [] if width is None else parse_ints(width, option="--width"),
    }
    run, names = _STUDIES.get(experiment, (_boolean, ("device", "seeds", "all_settings")))
    with keeping(out, "*"), progress_bar() as progress:
        settings = {name: given[name] for name in ("n_jobs", "quick", *names)}
        name, document, lines = run(experiment, out, progress=progress, **settings)
    page = str(out / f"{name}.md")
    return Answer(document | {"page": page}, [*lines, f"All results: {page}"])


_Results = tuple[str, dict[str, Any], list[str]]
"""The name of the page, the results for programs, and a line for each."""


def _boolean(experiment: str, out: Path, **settings: Any) -> _Results:
    from modgraph.experiments import EXPERIMENTS
    from modgraph.experiments.reproduce import reproduce as run

    rows, lines = [], []
    for name, part in run(EXPERIMENTS if experiment == "all" else [experiment], out, **settings).items():
        for rate in part:
            row = {"experiment": name, "cell": rate.cell.name, "trials": rate.trials, "right": rate.agreed}
            rows.append(row | {"right_by_the_papers_rule": rate.equal, "published": rate.cell.rate})
            lines.append(
                f"{rate.cell.name}: {rate.agreed} of {rate.trials}, by the paper's rule {rate.equal}"
                + ("" if rate.cell.rate is None else f" (published {rate.cell.rate:.2f})")
            )
    return "reproduction", {"rates": rows}, lines


def _study(name: str, out: Path, **settings: Any) -> _Results:
    from modgraph.experiments.random_functions import reproduce_random
    from modgraph.experiments.selection import reproduce_selection

    run: Callable[..., list[Any]] = reproduce_selection if name == "selection" else reproduce_random
    results = run(out, **settings)
    rows = [{field: getattr(one, field) for field in one.__slots__ if field != "resampled"} for one in results]
    right, votes = sum(one.answer for one in results), mean(one.votes for one in results)
    return name, {name: rows}, [f"{right} of {len(rows)} answers are right; votes {votes:.2f} on average"]


def _digits(_name: str, out: Path, **settings: Any) -> _Results:
    from modgraph.experiments.reproduce_digits import page_name, reproduce_digits

    results = reproduce_digits(out, **settings)
    lines = [
        f"{one.trial.name}: {'-'.join(map(str, one.sizes))}, {one.edges} edges, {100 * one.test:.2f} % right, "
        f"{one.default.input_modules} modules of pixels, {100 * one.default.purity:.1f} % pure"
        for one in results
    ]
    return page_name(results), {"networks": [asdict(one) for one in results]}, lines


_STUDIES: dict[str, tuple[Callable[..., _Results], tuple[str, ...]]] = {
    "digits": (_digits, ("seeds", "data", "task", "hidden_layers", "widths", "schedule")),
    "selection": (_study, ("device",)),
    "random": (_study, ("device", "seeds", "n_functions")),
}
"""How experiments other than the Boolean ones are run, and the options that each takes."""
