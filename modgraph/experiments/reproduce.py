"""Reproduction of the paper's Boolean experiments: success rates beside the published ones, as tables and figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import binomtest

from modgraph.checks import check_int
from modgraph.experiments import write
from modgraph.experiments.judged import JudgedTrial, Shown, agreement, judge, shown_by
from modgraph.experiments.published import EXPERIMENTS, Cell, published_cells
from modgraph.experiments.store import StoredNetwork
from modgraph.experiments.sweep import Trial, sweep
from modgraph.files import write_whole
from modgraph.sculpt import fewest_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGE_STEPS: Final = (2.5, 2)
"""Edge steps, percent: with the 14 published unit steps, 28 of the 70 settings. They take a third of the time, and the
vote is as often right with them as with all."""

QUICK_STEPS: Final = ((50.0, 20.0), (2.0,))
"""Unit and edge steps of a quick run, percent: 2 of the 70 settings."""

RESULTS: Final = "results.sqlite"
"""Name of the store in the folder of results."""

_TITLES: Final = {
    "exemplars": "Exemplars: share of networks whose modules are exactly those of the function",
    "reuse": "Reuse: share of networks with exactly the modules of the function",
    "overlap": "Input overlap: share of networks with the right input modules, output modules, hidden layers",
    "levels": "Levels: share of networks with all modules expected at their depth",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A success rate of ours beside the published one."""

    cell: Cell
    trials: int
    agreed: (
        int  # trials that end right if those of a function and depth choose together (`modgraph.sculpt.by_consensus`)
    )
    interval: tuple[float, float]  # 95 % interval of `share`, by bootstrap: trials don't choose independently
    votes: float  # share of the votes for the hierarchy with most votes; the mean over the depths
    chosen: int  # trials whose network is right if each chooses alone, by the paper's rule: fewest edges
    # Trials in which some network with as few edges as the chosen one is right. The published networks are counted in
    # this way: where several have the fewest edges, all were released, and one right network is enough.
    equal: int
    any: int  # trials in which any accepted network is right, whatever its number of edges
    edges: float  # mean number of edges of the chosen networks; NaN where no trial has any
    right_edges: float  # mean number of edges of the sparsest right network of the trials that have one, else NaN

    @property
    def share(self) -> float:
        """The success rate of the agreement, ``agreed / trials``."""
        return self.agreed / self.trials

    @property
    def paper_share(self) -> float:
        """The success rate of the paper's rule, ``equal / trials``."""
        return self.equal / self.trials

    @property
    def paper_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `paper_share`."""
        low, high = binomtest(self.equal, self.trials).proportion_ci(method="wilson")
        return float(low), float(high)

    @property
    def below(self) -> bool:
        """Whether the published rate is above `interval`."""
        return self.cell.is_above(self.interval)

    @property
    def paper_below(self) -> bool:
        """Whether the published rate is above `paper_interval`."""
        return self.cell.is_above(self.paper_interval)


def reproduce(
    experiments: Sequence[str] = EXPERIMENTS,
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    seeds: int = 4,
    n_jobs: int = -1,
    quick: bool = False,
    all_settings: bool = False,
    choose: Callable[[Sequence[StoredNetwork]], StoredNetwork] = fewest_edges,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, list[Rate]]:
    """Run the paper's Boolean experiments; write tables, figures and a page to `out`, and return rates by experiment.

    All candidates of all trials are kept in ``results.sqlite``, from which an interrupted run is continued. `seeds`:
    trials of each function and size; `quick`: one, of the smallest network of each cell, with 2 of the 70 settings;
    `all_settings`: 70 instead of 28 (see `EDGE_STEPS`). Where each trial chooses alone, `choose` picks one of its
    accepted networks; another choice needs no new training. `device`: where torch computes; results of another device
    are kept, as they differ by rounding only. `n_jobs` and `progress` are as in `modgraph.experiments.sweep`.
    """
    check_int("seeds", seeds, at_least=1)
    cells = {experiment: published_cells(experiment) for experiment in experiments}
    trials = {
        cell: trials_of(cell, seeds=range(seeds), quick=quick, all_settings=all_settings)
        for part in cells.values()
        for cell in part
    }
    every = {trial.key: trial for some in trials.values() for trial in some}.values()
    store = sweep(every, Path(out) / RESULTS, n_jobs=n_jobs, device=device, progress=progress)
    judged = {trial.key: judge(store, trial, choose=choose) for trial in every}
    rates = {}
    for experiment, part in cells.items():
        rates[experiment] = [rate_of(cell, [judged[trial.key] for trial in trials[cell]]) for cell in part]
        write.save(Path(out), experiment, table=table(rates[experiment]), figure=figure(rates[experiment]))
    below = [rate.cell for part in rates.values() for rate in part if rate.below]
    instead = {cell: [shown_by(store, some) for some in _by_depth(trials[cell])] for cell in below}
    text = page(rates, instead=instead, quick=quick, all_settings=all_settings)
    write_whole(Path(out) / "reproduction.md", text)
    return rates


def trials_of(cell: Cell, *, seeds: Iterable[int], quick: bool = False, all_settings: bool = True) -> list[Trial]:
    """List the trials behind one success rate; `quick` and `all_settings` as in `reproduce`."""
    networks = cell.networks
    steps = settings_of(quick=quick, all_settings=all_settings)
    if quick:
        networks, seeds = (min(networks, key=lambda row: sum(row.hidden)),), (0,)
    return [
        Trial(function=row.function, hidden=row.hidden, seed=seed, settings=row.settings, **steps)
        for row, seed in product(networks, seeds)
    ]


def settings_of(*, quick: bool, all_settings: bool = False) -> dict[str, tuple[float, ...]]:
    """Return the unit and edge steps of a `Trial`, as far as they are not the published ones."""
    if quick:
        return {"unit_steps": QUICK_STEPS[0], "edge_steps": QUICK_STEPS[1]}
    return {} if all_settings else {"edge_steps": EDGE_STEPS}


def table(rates: Iterable[Rate]) -> str:
    """Write rates as CSV, a line for each cell."""
    return write.csv_text(
        {
            "panel": rate.cell.panel,
            "row": rate.cell.row,
            "column": rate.cell.column,
            "trials": rate.trials,
            "chosen": rate.chosen,
            "equal": rate.equal,
            "any": rate.any,
            "rate": f"{rate.paper_share:.3f}",
            "low": f"{rate.paper_interval[0]:.3f}",
            "high": f"{rate.paper_interval[1]:.3f}",
            "published": "" if rate.cell.rate is None else f"{rate.cell.rate:.3f}",
            "below": "below" * rate.paper_below,
            "agreed": rate.agreed,
            "agreed_rate": f"{rate.share:.3f}",
            "agreed_low": f"{rate.interval[0]:.3f}",
            "agreed_high": f"{rate.interval[1]:.3f}",
            "agreed_below": "below" * rate.below,
            "votes": f"{rate.votes:.3f}",
            **{
                name: "" if np.isnan(mean := getattr(rate, name)) else f"{mean:.2f}"
                for name in ("edges", "right_edges")
            },
        }
        for rate in rates
    )


def _by_depth(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Group trials by their number of hidden layers."""
    depths = sorted({len(trial.hidden) for trial in trials})
    return [[trial for trial in trials if len(trial.hidden) == depth] for depth in depths]


def page(
    rates: dict[str, list[Rate]],
    *,
    instead: Mapping[Cell, Sequence[Shown]],
    quick: bool = False,
    all_settings: bool = False,
) -> str:
    """Write the reproduction page (Markdown): every figure, and every rate beside the published one.

    `instead`: what is shown by the trials of the cells below the published rate, for each number of hidden layers.
    """
    command = f"modgraph reproduce {'all' if len(rates) == len(EXPERIMENTS) else ' '.join(rates)}"
    command += " --quick" * quick + " --all-settings" * all_settings
    n_settings = 2 if quick else 70 if all_settings else 28
    return write.page(
        "reproduction", command=command, n_settings=n_settings, rates=rates, instead=instead, titles=_TITLES
    )


def figure(rates: Sequence[Rate]) -> Figure:
    """Draw the figure of one experiment: bars with intervals beside the published rates, or heat maps."""
    experiment = rates[0].cell.experiment
    if experiment == "overlap":
        return _heat_maps(rates)
    # One panel for the exemplars, else one for each number of hidden layers.
    one_panel = experiment == "exemplars"
    rows = list(dict.fromkeys(rate.cell.row for rate in rates))
    groups = {"": rates} if one_panel else {row: [rate for rate in rates if rate.cell.row == row] for row in rows}
    panels = [
        write.Panel(
            title,
            [rate.cell.row if one_panel else rate.cell.column for rate in group],
            {
                "agreement (95 %)": [rate.share for rate in group],
                "paper's rule": [rate.paper_share for rate in group],
                "published": [np.nan if rate.cell.rate is None else rate.cell.rate for rate in group],
            },
            np.array([rate.interval for rate in group]),
        )
        for title, group in groups.items()
    ]
    colours = (write.HERE, write.HERE_PAPERS_RULE, write.PUBLISHED)
    return write.bar_figure(panels, size=(max(7, 3.4 * len(panels)), 3.4), colours=colours, title=_TITLES[experiment])


def _heat_maps(rates: Sequence[Rate]) -> Figure:
    """Draw the rates of each panel as heat maps: by agreement, by the paper's rule, published."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(rate.cell.panel for rate in rates))
    kinds: dict[str, Callable[[Rate], float | None]] = {
        "agreement": lambda rate: rate.share,
        "paper's rule": lambda rate: rate.paper_share,
        "published": lambda rate: rate.cell.rate,
    }
    result = Figure(figsize=(11, 10), layout="constrained")
    axes = result.subplots(len(kinds), len(panels), squeeze=False)
    for ax, ((kind, share), panel) in zip(axes.flat, product(kinds.items(), panels), strict=True):
        part = [rate for rate in rates if rate.cell.panel == panel]
        rows, columns = (list(dict.fromkeys(getattr(rate.cell, side) for rate in part)) for side in ("row", "column"))
        values = np.array([share(rate) for rate in part], dtype=np.float64).reshape(len(rows), len(columns))
        ax.imshow(values, vmin=0, vmax=1, cmap="viridis")
        for (row, column), value in np.ndenumerate(values):
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": "w" if value < 0.6 else "k"}
            ax.text(column, row, f"{value:.2f}", **style)
        ax.set(xticks=range(len(columns)), yticks=range(len(rows)))
        ax.set_xticklabels(columns, fontsize=8)
        ax.set_yticklabels(rows, fontsize=8)
        ax.set_title(f"{panel}, {kind}", fontsize=9)
    result.suptitle(_TITLES["overlap"], fontsize=10)
    return result


def rate_of(cell: Cell, trials: Sequence[JudgedTrial]) -> Rate:
    """Count the right trials of one cell; trials of the same depth choose together."""
    criterion = cell.criterion
    depths = {len(judged.trial.hidden) for judged in trials}
    groups = [[one for one in trials if len(one.trial.hidden) == depth] for depth in sorted(depths)]
    agreements = [agreement(group, criterion) for group in groups]
    sizes = np.array([len(group) for group in groups])
    resampled = np.array([found.resampled for found in agreements]).T @ sizes / len(trials)
    some = [(one, one.right[criterion], one.edges == one.edges[one.chosen]) for one in trials if one.chosen >= 0]
    sparsest = [one.edges[right].min() for one, right, _ in some if right.any()]
    return Rate(
        cell=cell,
        trials=len(trials),
        agreed=sum(int(found.right.sum()) for found in agreements),
        interval=write.interval(resampled),
        votes=float(np.mean([found.share for found in agreements])),
        chosen=sum(bool(right[one.chosen]) for one, right, _ in some),
        equal=sum(bool(right[tied].any()) for _, right, tied in some),
        any=len(sparsest),
        edges=float(np.mean([one.edges[one.chosen] for one, _, _ in some])) if some else np.nan,
        right_edges=float(np.mean(sparsest)) if sparsest else np.nan,
    )
