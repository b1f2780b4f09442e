"""Reproduction of the paper's Boolean experiments: success rates beside the published ones, as tables and figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy.stats import binomtest

from modgraph.checks import check_int
from modgraph.experiments import write
from modgraph.experiments.published import EXPERIMENTS, Cell, published_cells
from modgraph.experiments.store import Store, StoredNetwork
from modgraph.experiments.sweep import Trial, sweep
from modgraph.files import write_whole
from modgraph.functions import published
from modgraph.score import criteria
from modgraph.sculpt import fewest_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUICK_STEPS: Final = ((50.0, 20.0), (2.0,))
"""Unit and edge steps of a quick run: 2 settings instead of 70."""

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
    chosen : int
        Trials whose chosen network is right.
    equal : int
        Trials in which some network with as few edges as the chosen one is right. The published networks are counted
        in this way: where several have the fewest edges, all were released, and one right network is enough.
    any : int
        Trials in which any accepted network of the 70 is right, whatever its number of edges.
    edges : float
        Mean number of edges of the chosen networks; NaN where no trial has any.
    right_edges : float
        Mean number of edges of the sparsest right network of each trial, of those that have one; else NaN.
    """

    cell: Cell
    trials: int
    chosen: int
    equal: int
    any: int
    edges: float
    right_edges: float

    @property
    def share(self) -> float:
        """The success rate, ``equal / trials``."""
        return self.equal / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `share`."""
        low, high = binomtest(self.equal, self.trials).proportion_ci(method="wilson")
        return float(low), float(high)

    @property
    def below(self) -> bool:
        """Whether the published rate is above that interval."""
        return self.cell.rate is not None and self.cell.rate > self.interval[1]


def reproduce(
    experiments: Sequence[str] = EXPERIMENTS,
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    seeds: int = 4,
    n_jobs: int = -1,
    quick: bool = False,
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
    choose : callable
        Picks one of the accepted networks of a trial; see `modgraph.sculpt.fewest_edges`. Another choice needs no new
        training.
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
    every = [trial for part in cells.values() for cell in part for trial in trials_of(cell, seeds=seeds, quick=quick)]
    store = sweep(every, folder / "results.sqlite", n_jobs=n_jobs, device=device, progress=progress)
    judged: dict[tuple[str, str], _Verdict] = {}
    rates = {}
    for experiment, part in cells.items():
        trials = [trials_of(cell, seeds=seeds, quick=quick) for cell in part]
        rates[experiment] = [_rate(*pair, store, choose, judged) for pair in zip(part, trials, strict=True)]
        write.save_table_and_figure(
            folder, experiment, table=table(rates[experiment]), figure=figure(rates[experiment])
        )
    write_whole(folder / "reproduction.md", page(rates, quick=quick))
    return rates


def trials_of(cell: Cell, *, seeds: int, quick: bool = False) -> list[Trial]:
    """List the trials behind one success rate, with seeds 0 … `seeds` − 1; `quick` as in `reproduce`."""
    networks = cell.networks
    if quick:
        networks, seeds = (min(networks, key=lambda row: sum(row.hidden)),), 1
    steps = {"unit_steps": QUICK_STEPS[0], "edge_steps": QUICK_STEPS[1]} if quick else {}
    return [
        Trial(function=row.function, hidden=row.hidden, seed=seed, settings=row.settings, **steps)
        for row in networks
        for seed in range(seeds)
    ]


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
            "rate": f"{rate.share:.3f}",
            "low": f"{rate.interval[0]:.3f}",
            "high": f"{rate.interval[1]:.3f}",
            "published": "" if rate.cell.rate is None else f"{rate.cell.rate:.3f}",
            "below": "below" * rate.below,
            "edges": "" if np.isnan(rate.edges) else f"{rate.edges:.2f}",
            "right_edges": "" if np.isnan(rate.right_edges) else f"{rate.right_edges:.2f}",
        }
        for rate in rates
    )


def page(rates: dict[str, list[Rate]], *, quick: bool = False) -> str:
    """Write the reproduction page (Markdown): every figure, and every rate beside the published one."""
    command = f"modgraph reproduce {'all' if len(rates) == len(EXPERIMENTS) else ' '.join(rates)}{' --quick' * quick}"
    lines = [
        "# The paper's Boolean experiments",
        "",
        f"Written by `{command}`. *chosen*: trials whose network with the fewest edges is right. *equal*: trials in",
        "which some network with equally few edges is right (the published networks are counted in this way); its rate",
        "has Wilson's 95 % interval. *any*: trials in which any of the 70 networks is right. *edges*: mean number of",
        "edges of the chosen networks; *right*: mean number of edges of the sparsest right network of each trial.",
        "Cells whose published rate is above the interval are marked.",
    ]
    head = ["cell", "trials", "chosen", "equal", "any", "rate", "interval", "published", "", "edges", "right"]
    for experiment, part in rates.items():
        lines += ["", f"## {_TITLES[experiment]}", "", f"![{experiment}]({experiment}.png)", "", *_below(part)]
        rows = [
            [
                rate.cell.name,
                *(rate.trials, rate.chosen, rate.equal, rate.any),
                f"{rate.share:.2f}",
                "{:.2f}–{:.2f}".format(*rate.interval),
                write.rate_or_dash(rate.cell.rate),
                "**below**" * rate.below,
                *("–" if np.isnan(mean) else f"{mean:.1f}" for mean in (rate.edges, rate.right_edges)),
            ]
            for rate in part
        ]
        lines += write.markdown_table(head, rows, left=(0, 8))
    return "\n".join(lines) + "\n"


def _below(rates: Sequence[Rate]) -> list[str]:
    """Summarise the cells below the published rate."""
    below = [rate for rate in rates if rate.below]
    if not below:
        return []
    trials, equal, some = (sum(column) for column in zip(*((r.trials, r.equal, r.any) for r in below), strict=True))
    pairs = [(rate.edges, rate.right_edges) for rate in below if rate.any]
    more = np.mean([(right - chosen) / chosen for chosen, right in pairs]) if pairs else np.nan
    return [
        f"Below the published rate: {len(below)} of {len(rates)} cells. In these, {equal} of {trials} trials end right "
        f"and {some} have a right network among their candidates; the sparsest right one has {100 * more:.1f} % more "
        "edges than the chosen one in the mean.",
        "",
    ]


def figure(rates: Sequence[Rate]) -> Figure:
    """Draw the figure of one experiment: bars with intervals beside the published rates, or heat maps."""
    from matplotlib.figure import Figure

    experiment = rates[0].cell.experiment
    panels = list(dict.fromkeys(rate.cell.panel for rate in rates))
    if experiment == "overlap":
        result = Figure(figsize=(11, 7), layout="constrained")
        axes = result.subplots(2, len(panels), squeeze=False)
        for column, panel in enumerate(panels):
            part = [rate for rate in rates if rate.cell.panel == panel]
            _heat_map(axes[0, column], part, [rate.share for rate in part], f"{panel}, here")
            _heat_map(axes[1, column], part, [rate.cell.rate for rate in part], f"{panel}, published")
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
                    "here (95 %)": [rate.share for rate in group],
                    "published": [np.nan if rate.cell.rate is None else rate.cell.rate for rate in group],
                },
                colours=(write.HERE, write.PUBLISHED),
                intervals=np.array([rate.interval for rate in group]),
            )
            ax.tick_params(axis="x", rotation=20)
            ax.set_title("" if one_panel else group[0].cell.row, fontsize=9)
        result.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
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


class _Verdict(NamedTuple):
    """The results of one trial: see the attributes of `Rate` with the same names."""

    chosen: bool
    equal: bool
    any: bool
    edges: float
    right_edges: float


def _rate(
    cell: Cell,
    trials: Sequence[Trial],
    store: Store,
    choose: Callable[[Sequence[StoredNetwork]], StoredNetwork],
    judged: dict[tuple[str, str], _Verdict],
) -> Rate:
    """Judge the trials of one cell; `judged` caches the verdicts, because cells share trials."""
    verdicts = []
    for trial in trials:
        known = (trial.key, cell.criterion)
        if known not in judged:
            judged[known] = _judge(trial, store, cell.criterion, choose)
        verdicts.append(judged[known])
    chosen, equal, some = np.array([verdict[:3] for verdict in verdicts]).sum(axis=0).tolist()
    edges, right_edges = (
        float(np.mean([v for v in column if not np.isnan(v)] or [np.nan]))
        for column in zip(*(verdict[3:] for verdict in verdicts), strict=True)
    )
    return Rate(
        cell=cell, trials=len(trials), chosen=chosen, equal=equal, any=some, edges=edges, right_edges=right_edges
    )


def _judge(
    trial: Trial, store: Store, criterion: str, choose: Callable[[Sequence[StoredNetwork]], StoredNetwork]
) -> _Verdict:
    accepted = [candidate for candidate in store.candidates(trial.key) if candidate.accepted]
    if not accepted:
        return _Verdict(False, False, False, np.nan, np.nan)
    target = published(trial.function)
    # Many settings end at the same network: judge each once.
    right: dict[bytes, bool] = {}
    verdicts = []
    for candidate in accepted:
        same = b"".join(mask.tobytes() for mask in candidate.masks)
        if same not in right:
            right[same] = bool(getattr(criteria(candidate.hierarchy, target), criterion))
        verdicts.append(right[same])
    best = choose(accepted)
    edges = [candidate.edges for ok, candidate in zip(verdicts, accepted, strict=True) if ok]
    return _Verdict(
        verdicts[accepted.index(best)], best.edges in edges, any(verdicts), best.edges, min(edges, default=np.nan)
    )
