"""Reproduction of the paper's experiments on two digits: modules by depth, beside the published rates."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np

from modgraph.checks import check_choice
from modgraph.experiments import write
from modgraph.experiments.digits import Data, DigitsResult, DigitsTrial, Schedule, TaskName, run_digits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES: Final = {
    "inputs": {2: 0.0, 3: 0.0, 4: 1.0, 5: 1.0},
    "outputs": {2: 1.0, 3: 1.0, 4: 0.83, 5: 0.92},
    "middle": {2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0},
}
"""Published success rates by number of hidden layers (Patil et al. 2023, section 5; 12 networks each)."""

PANEL: Final = {"inputs": "input-separable modules", "outputs": "output modules", "middle": "separable middle layers"}

WIDTHS: Final[dict[Data, int]] = {"mnist": 784, "digits8": 64}


def reproduce_digits(
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    data: Data = "digits8",
    task: TaskName = "hierarchical",
    hidden_layers: Sequence[int] = (2, 3, 4, 5),
    widths: Sequence[int] = (),
    seeds: int = 2,
    schedule: Schedule = "constant",
    n_jobs: int = -1,
    quick: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> list[DigitsResult]:
    """Sculpt networks on two digits and write a table, a figure and a page about their modules, by depth, to `out`.

    The networks are in ``digits/``, from which an interrupted run is continued: `seeds` of each of `widths` (by default
    784 for MNIST, 64 for the small digits) and each number of `hidden_layers`; with `quick` a single small one. The
    `schedule` "cosine" reaches a lower density (`modgraph.experiments.digits.COSINE`).
    `modgraph.sculpt.load_mnist` says where MNIST is looked for; `n_jobs` and `progress` are as in
    `modgraph.experiments.sweep`.
    """
    check_choice("data", data, ("digits8", "mnist"))
    check_choice("schedule", schedule, ("constant", "cosine"))
    for name, numbers, least in (("hidden_layers", hidden_layers, 1), ("widths", widths, 0), ("seeds", [seeds], 1)):
        good = [isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in numbers]
        if not all(good) or len(good) < least:
            raise ValueError(f"`{name}` must be ints ≥ 1 (got {numbers!r})")
    trials = [
        DigitsTrial(data=data, task=task, width=width, depth=depth, seed=seed, schedule=schedule)
        for depth in hidden_layers
        for width in widths or (WIDTHS[data],)
        for seed in range(seeds)
    ]
    if quick:
        trials = [DigitsTrial(data=data, task=task, width=32, depth=2, seed=0, schedule=schedule, quick=True)]
    folder = Path(out)
    (folder / "digits").mkdir(parents=True, exist_ok=True)
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="n_jobs", return_as="generator")
    results = []
    if progress is not None:
        progress(0, len(trials))
    for result in parallel(joblib.delayed(run_digits)(trial, folder / "digits") for trial in trials):
        results.append(result)
        if progress is not None:
            progress(len(results), len(trials))
    write.save(folder, page_name(results), table=table(results), figure=figure(results), page=page(results))
    return results


def table(results: Iterable[DigitsResult]) -> str:
    """Write networks as CSV, a line for each."""
    return write.csv_text(_row(result) for result in results)


def _row(result: DigitsResult) -> dict[str, object]:
    """List the fields of one network's line."""
    trial = result.trial
    row: dict[str, object] = {name: getattr(trial, name) for name in ("data", "task", "width", "depth", "seed")}
    row |= {"sizes": "-".join(map(str, result.sizes)), "edges": result.edges, "density": f"{result.density:.6f}"}
    row |= {name: f"{getattr(result, name):.4f}" for name in ("dense_validation", "dense_test", "validation", "test")}
    row |= {"rounds": result.rounds, "seconds": f"{result.seconds:.1f}"}
    for kind in ("published", "default"):
        row |= {f"{kind}_{name}": value for name, value in asdict(getattr(result, kind)).items()}
    return row


def page(results: Sequence[DigitsResult]) -> str:
    """Write the page (Markdown): the panel by depth beside the published rates, and every network."""
    first, by_depth = results[0].trial, _by_depth(results)
    widths = sorted({result.trial.width for result in results})
    command = f"modgraph reproduce digits --data {first.data}" + " --quick" * first.quick
    command += " --task classify" * (first.task == "classify") + " --schedule cosine" * (first.schedule == "cosine")
    commands = [command]
    if not first.quick:
        seeds = {depth: len({result.trial.seed for result in some}) for depth, some in by_depth.items()}
        depths = {n: [depth for depth, count in seeds.items() if count == n] for n in seeds.values()}
        commands = [
            f"{command} --width {','.join(map(str, widths))} --hidden-layers {','.join(map(str, some))} --seeds {n}"
            for n, some in depths.items()
        ]
    return write.page(
        "digits",
        source="MNIST" if first.data == "mnist" else "the small digits of scikit-learn",
        task=first.task,
        schedule=", cosine" * (first.schedule == "cosine"),
        commands=commands,
        name=page_name(results),
        parts=PANEL,
        rates=_published_rates(results),
        by_depth=by_depth,
        results=results,
    )


def figure(results: Sequence[DigitsResult]) -> Figure:
    """Draw the paper's panel: for each number of hidden layers the share of networks with each kind of module."""
    by_depth, rates = _by_depth(results), _published_rates(results)
    panels = []
    for part, title in PANEL.items():
        shares = {
            label: [float(np.mean([getattr(getattr(one, kind), part) for one in some])) for some in by_depth.values()]
            for label, kind in (("here, default", "default"), ("here, paper’s rule", "published"))
        }
        shares["published"] = [rates[part].get(depth, np.nan) for depth in by_depth]
        panels.append(write.Panel(title, [str(depth) for depth in by_depth], shares))
    colours = (write.HERE, write.HERE_PAPERS_RULE, write.PUBLISHED)
    return write.bar_figure(panels, size=(9, 3.2), colours=colours, xlabel="hidden layers")


def _by_depth(results: Sequence[DigitsResult]) -> dict[int, list[DigitsResult]]:
    """Group networks by their number of hidden layers."""
    depths = sorted({result.trial.depth for result in results})
    return {depth: [result for result in results if result.trial.depth == depth] for depth in depths}


def page_name(results: Sequence[DigitsResult]) -> str:
    """Return the name, without suffix, of the files about these networks."""
    first = results[0].trial
    return f"digits-{first.data}{'-classify' * (first.task == 'classify')}{'-cosine' * (first.schedule == 'cosine')}"


def _published_rates(results: Sequence[DigitsResult]) -> dict[str, dict[int, float]]:
    """Return the published rates by depth; none were published for *classify*."""
    return RATES if results[0].trial.task == "hierarchical" else {part: {} for part in RATES}
