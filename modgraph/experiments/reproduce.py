"""Reproduction of the paper's Boolean experiments: success rates beside the published ones, as tables and figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import binomtest

from modgraph.checks import check_int
from modgraph.experiments import write
from modgraph.experiments.judged import JudgedTrial, agreement, judge
from modgraph.experiments.published import EXPERIMENTS, Cell, published_cells
from modgraph.experiments.store import StoredNetwork
from modgraph.experiments.sweep import Trial, sweep
from modgraph.files import write_whole
from modgraph.sculpt import fewest_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGE_STEPS: Final = (2.5, 2)
"""Edge steps, percent: with the 14 published unit steps, 28 of the 70 settings. They take a third of the time, and the
vote is as often right with them as with all."""

QUICK_STEPS: Final = ((50.0, 20.0), (2.0,))
"""Unit and edge steps of a quick run, percent: 2 of the 70 settings."""

_TITLES: Final = {
    "exemplars": "Exemplars: share of networks whose modules are exactly those of the function",
    "reuse": "Reuse: share of networks with exactly the modules of the function",
    "overlap": "Input overlap: share of networks with the right input modules, output modules, hidden layers",
    "levels": "Levels: share of networks with all modules expected at their depth",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A success rate of ours beside the published one.

    Attributes
    ----------
    cell : Cell
    trials : int
    agreed : int
        Trials that end right if all trials of a function and depth choose together (`modgraph.sculpt.by_consensus`).
    interval : tuple of float
        95 % interval of `share`, by bootstrap over the trials: they don't choose independently.
    votes : float
        Share of the votes for the hierarchy with most votes; the mean over the depths.
    chosen : int
        Trials whose network is right if each chooses alone, by the paper's rule: fewest edges.
    equal : int
        Trials in which some network with as few edges as the chosen one is right. The published networks are counted
        in this way: where several have the fewest edges, all were released, and one right network is enough.
    any : int
        Trials in which any accepted network is right, whatever its number of edges.
    edges : float
        Mean number of edges of the chosen networks; NaN where no trial has any.
    right_edges : float
        Mean number of edges of the sparsest right network of each trial, of those that have one; else NaN.
    """

    cell: Cell
    trials: int
    agreed: int
    interval: tuple[float, float]
    votes: float
    chosen: int
    equal: int
    any: int
    edges: float
    right_edges: float

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
        return self.cell.rate is not None and self.cell.rate > self.interval[1]

    @property
    def paper_below(self) -> bool:
        """Whether the published rate is above `paper_interval`."""
        return self.cell.rate is not None and self.cell.rate > self.paper_interval[1]


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
    """Run the paper's Boolean experiments and write tables, figures and a page.

    Parameters
    ----------
    experiments : sequence of {"exemplars", "reuse", "overlap", "levels"}
    out : path-like
        Folder for ``results.sqlite`` (all candidates of all trials; an interrupted run is continued from it), a table
        (CSV) and a figure (PNG and SVG) for each experiment, and ``reproduction.md``, one page on all.
    seeds : int ≥ 1
        Trials of each function and size.
    n_jobs : int
        Processes, as joblib counts them.
    quick : bool
        Only the smallest network of each cell, one seed and 2 of the 70 settings, to see that it works.
    all_settings : bool
        All 70 settings of the paper instead of 28 (see `EDGE_STEPS`).
    choose : callable
        Picks one of the accepted networks of a trial where each trial chooses alone; by default the paper's rule,
        `modgraph.sculpt.fewest_edges`. Another choice needs no new training.
    device : str, optional
        Where torch computes, such as "cuda"; by default a GPU if there is one. Results that the folder already holds
        are kept, also those of another device: they differ by rounding only.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of networks.

    Returns
    -------
    dict of str → list of Rate
        By experiment, in the order of its figure.

    Raises
    ------
    ValueError
        If an experiment is unknown or `seeds` out of range.
    """
    check_int("seeds", seeds, at_least=1)
    cells = {experiment: published_cells(experiment) for experiment in experiments}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    trials = {
        cell: trials_of(cell, seeds=range(seeds), quick=quick, all_settings=all_settings)
        for part in cells.values()
        for cell in part
    }
    every = {trial.key: trial for some in trials.values() for trial in some}.values()
    store = sweep(every, folder / "results.sqlite", n_jobs=n_jobs, device=device, progress=progress)
    judged = {trial.key: judge(store, trial, choose=choose) for trial in every}
    rates = {}
    for experiment, part in cells.items():
        rates[experiment] = [rate_of(cell, [judged[trial.key] for trial in trials[cell]]) for cell in part]
        write.save_table_and_figure(
            folder, experiment, table=table(rates[experiment]), figure=figure(rates[experiment])
        )
    write_whole(folder / "reproduction.md", page(rates, quick=quick, all_settings=all_settings))
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
            "edges": "" if np.isnan(rate.edges) else f"{rate.edges:.2f}",
            "right_edges": "" if np.isnan(rate.right_edges) else f"{rate.right_edges:.2f}",
        }
        for rate in rates
    )


def page(rates: dict[str, list[Rate]], *, quick: bool = False, all_settings: bool = False) -> str:
    """Write the reproduction page (Markdown): every figure, and every rate beside the published one."""
    command = f"modgraph reproduce {'all' if len(rates) == len(EXPERIMENTS) else ' '.join(rates)}"
    command += " --quick" * quick + " --all-settings" * all_settings
    n_settings = 2 if quick else 70 if all_settings else 28
    lines = [
        "# The paper's Boolean experiments",
        "",
        f"Written by `{command}`, with {n_settings} networks a trial. *rate*: share of trials that end right if all",
        "trials of a function and depth choose together, with a 95 % interval by bootstrap over the trials; *votes*:",
        "share of the votes for the hierarchy they agree on. *paper's rule*: trials in which some network with the",
        "fewest edges is right (the published networks are counted in this way), and their share; *any*: trials in",
        "which any network is right. *edges*: mean edges of the networks with the fewest; *right*: mean edges of the",
        "sparsest right network of each trial. **Below**: the published rate is above the interval (for the paper's",
        "rule, Wilson's).",
    ]
    head = ["cell", "trials", "rate", "interval", "votes", "published", "", "paper's rule", "", "any", "edges", "right"]
    for experiment, part in rates.items():
        lines += ["", f"## {_TITLES[experiment]}", "", f"![{experiment}]({experiment}.png)", "", *_below(part)]
        rows = [
            [
                rate.cell.name,
                rate.trials,
                f"{rate.share:.2f}",
                "{:.2f}–{:.2f}".format(*rate.interval),
                f"{rate.votes:.2f}",
                write.rate_or_dash(rate.cell.rate),
                "**below**" * rate.below,
                f"{rate.equal}, {rate.paper_share:.2f}",
                "**below**" * rate.paper_below,
                rate.any,
                *("–" if np.isnan(mean) else f"{mean:.1f}" for mean in (rate.edges, rate.right_edges)),
            ]
            for rate in part
        ]
        lines += write.markdown_table(head, rows, left=(0, 6, 8))
    return "\n".join(lines) + "\n"


def _below(rates: Sequence[Rate]) -> list[str]:
    """Summarise the cells below the published rate."""
    below = [rate for rate in rates if rate.below]
    by_paper = sum(rate.paper_below for rate in rates)
    counted = f"Below the published rate: {len(below)} of {len(rates)} cells; by the paper's rule {by_paper}."
    if below:
        trials, agreed, some = (
            sum(column) for column in zip(*((r.trials, r.agreed, r.any) for r in below), strict=True)
        )
        counted += (
            f" In the {len(below)} cells, {agreed} of {trials} trials end right and {some} have a right network among "
            "their candidates."
        )
    return [counted, ""]


def figure(rates: Sequence[Rate]) -> Figure:
    """Draw the figure of one experiment: bars with intervals beside the published rates, or heat maps."""
    from matplotlib.figure import Figure

    experiment = rates[0].cell.experiment
    panels = list(dict.fromkeys(rate.cell.panel for rate in rates))
    if experiment == "overlap":
        result = Figure(figsize=(11, 10), layout="constrained")
        axes = result.subplots(3, len(panels), squeeze=False)
        for column, panel in enumerate(panels):
            part = [rate for rate in rates if rate.cell.panel == panel]
            _heat_map(axes[0, column], part, [rate.share for rate in part], f"{panel}, agreement")
            _heat_map(axes[1, column], part, [rate.paper_share for rate in part], f"{panel}, paper's rule")
            _heat_map(axes[2, column], part, [rate.cell.rate for rate in part], f"{panel}, published")
    else:
        # One panel for the exemplars, else one for each number of hidden layers.
        one_panel = experiment == "exemplars"
        rows = list(dict.fromkeys(rate.cell.row for rate in rates))
        groups = [rates] if one_panel else [[rate for rate in rates if rate.cell.row == row] for row in rows]
        result = Figure(figsize=(max(7, 3.4 * len(groups)), 3.4), layout="constrained")
        for ax, group in zip(result.subplots(1, len(groups), squeeze=False, sharey=True)[0], groups, strict=True):
            write.bars(
                ax,
                [rate.cell.row if one_panel else rate.cell.column for rate in group],
                {
                    "agreement (95 %)": [rate.share for rate in group],
                    "paper's rule": [rate.paper_share for rate in group],
                    "published": [np.nan if rate.cell.rate is None else rate.cell.rate for rate in group],
                },
                colours=(write.HERE, write.HERE_PAPERS_RULE, write.PUBLISHED),
                intervals=np.array([rate.interval for rate in group]),
            )
            ax.tick_params(axis="x", rotation=20)
            ax.set_title("" if one_panel else group[0].cell.row, fontsize=9)
        result.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    result.suptitle(_TITLES[experiment], fontsize=10)
    return result


def _heat_map(ax: Axes, rates: Sequence[Rate], shares: Sequence[float | None], title: str) -> None:
    rows, columns = (list(dict.fromkeys(getattr(rate.cell, side) for rate in rates)) for side in ("row", "column"))
    values = np.array([np.nan if share is None else share for share in shares]).reshape(len(rows), len(columns))
    ax.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w" if value < 0.6 else "k")
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), title=title)
    ax.set_xticklabels(columns, fontsize=8)
    ax.set_yticklabels(rows, fontsize=8)
    ax.title.set_fontsize(9)


def rate_of(cell: Cell, trials: Sequence[JudgedTrial]) -> Rate:
    """Count the right trials of one cell; trials of the same depth choose together."""
    criterion = cell.criterion
    depths = {len(judged.trial.hidden) for judged in trials}
    groups = [[one for one in trials if len(one.trial.hidden) == depth] for depth in sorted(depths)]
    agreements = [agreement(group, criterion) for group in groups]
    sizes = np.array([len(group) for group in groups])
    resampled = np.array([found.resampled for found in agreements]).T @ sizes / len(trials)
    low, high = np.quantile(resampled, [0.025, 0.975])
    some = [(one, one.right[criterion], one.edges == one.edges[one.chosen]) for one in trials if one.chosen >= 0]
    sparsest = [one.edges[right].min() for one, right, _ in some if right.any()]
    return Rate(
        cell=cell,
        trials=len(trials),
        agreed=sum(int(found.right.sum()) for found in agreements),
        interval=(float(low), float(high)),
        votes=float(np.mean([found.share for found in agreements])),
        chosen=sum(bool(right[one.chosen]) for one, right, _ in some),
        equal=sum(bool(right[tied].any()) for _, right, tied in some),
        any=len(sparsest),
        edges=float(np.mean([one.edges[one.chosen] for one, _, _ in some])) if some else np.nan,
        right_edges=float(np.mean(sparsest)) if sparsest else np.nan,
    )
