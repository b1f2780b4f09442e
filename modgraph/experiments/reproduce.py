"""The paper's Boolean experiments with our networks: success rates beside the published ones, as tables and figures."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy.stats import binomtest

from modgraph.experiments.published import EXPERIMENTS, Cell, published_cells
from modgraph.experiments.store import Store, StoredNetwork
from modgraph.experiments.sweep import Trial, sweep
from modgraph.files import replacing, write_whole
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
        so: where several have the fewest edges, all were released, and one of them is enough.
    any : int
        Trials in which some accepted network of the 70 is right, however many edges it has.
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
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate ``equal / trials``."""
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
    """Run the paper's experiments and write what comes out.

    Parameters
    ----------
    experiments : sequence of {"exemplars", "reuse", "overlap", "levels"}
    out : path-like
        Folder for ``results.sqlite`` (all candidates of all trials; a run that was interrupted goes on from it), and
        for each experiment a table (CSV), a figure (PNG and SVG), and in ``reproduction.md`` one page on all.
    seeds : int ≥ 1
        Trials of each function and size.
    n_jobs : int
        Processes, as joblib counts them.
    quick : bool
        Only the smallest network of each cell, one seed, and 2 of the 70 settings: to see that it works.
    choose : callable
        Picks one of the accepted networks of a trial; see `modgraph.sculpt.fewest_edges`. Nothing is trained again for
        another choice.
    device : str, optional
        Where torch computes, such as "cuda"; by default a GPU if there is one. Results of another device that the
        folder already has are kept: they differ by rounding only.
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
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"`seeds` must be an int ≥ 1 (got {seeds!r})")
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
        write_whole(folder / f"{experiment}.csv", table(rates[experiment]))
        picture = figure(rates[experiment])
        for kind in ("png", "svg"):
            with replacing(folder / f"{experiment}.{kind}") as part_file:
                picture.savefig(part_file, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    write_whole(folder / "reproduction.md", page(rates, quick=quick))
    return rates


def trials_of(cell: Cell, *, seeds: int, quick: bool = False) -> list[Trial]:
    """List the trials behind one success rate.

    Parameters
    ----------
    cell : Cell
    seeds : int ≥ 1
        Seeds 0 … `seeds` − 1.
    quick : bool
        See `reproduce`.

    Returns
    -------
    list of Trial
    """
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
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    heading = "panel row column trials chosen equal any rate low high published below edges right_edges"
    writer.writerow(heading.split())
    for rate in rates:
        low, high = rate.interval
        known = "" if rate.cell.rate is None else f"{rate.cell.rate:.3f}"
        where = (rate.cell.panel, rate.cell.row, rate.cell.column)
        counts = (rate.trials, rate.chosen, rate.equal, rate.any)
        share = f"{rate.equal / rate.trials:.3f}"
        edges = ("" if np.isnan(mean) else f"{mean:.2f}" for mean in (rate.edges, rate.right_edges))
        writer.writerow([*where, *counts, share, f"{low:.3f}", f"{high:.3f}", known, "below" * rate.below, *edges])
    return lines.getvalue()


def page(rates: dict[str, list[Rate]], *, quick: bool = False) -> str:
    """Write the reproduction page (Markdown): every figure, and every number beside the published one."""
    command = f"modgraph reproduce {'all' if len(rates) == len(EXPERIMENTS) else ' '.join(rates)}{' --quick' * quick}"
    lines = [
        "# The paper's Boolean experiments",
        "",
        f"Written by `{command}`. *chosen*: trials whose network with the fewest edges is right. *equal*: trials in",
        "which some network with as few edges is right (so the published networks are counted); its rate has Wilson's",
        "95 % interval. *any*: trials in which some of the 70 networks is right. *edges*: how many the chosen networks",
        "have in the mean; *right*: how many the sparsest right network of each trial has. Cells in which the",
        "published rate is above the interval are marked.",
    ]
    for experiment, part in rates.items():
        lines += ["", f"## {_TITLES[experiment]}", "", f"![{experiment}]({experiment}.png)", "", *_why(part)]
        lines += [
            "| cell | trials | chosen | equal | any | rate | interval | published | | edges | right |",
            "|---|" + "---:|" * 7 + "---|---:|---:|",
        ]
        for rate in part:
            known = "–" if rate.cell.rate is None else f"{rate.cell.rate:.2f}"
            low, high = rate.interval
            counts = f"{rate.trials} | {rate.chosen} | {rate.equal} | {rate.any} | {rate.equal / rate.trials:.2f}"
            edges = " | ".join("–" if np.isnan(mean) else f"{mean:.1f}" for mean in (rate.edges, rate.right_edges))
            interval = f"{low:.2f}–{high:.2f}"
            lines.append(
                f"| {rate.cell.name} | {counts} | {interval} | {known} | {'**below**' * rate.below} | {edges} |"
            )
    return "\n".join(lines) + "\n"


def _why(rates: Sequence[Rate]) -> list[str]:
    """Say what the cells below the published rate have in common, in numbers."""
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
    """Draw the figure of one experiment: bars with intervals beside the published rates, or heat maps.

    Parameters
    ----------
    rates : sequence of Rate
        Of one experiment.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    experiment = rates[0].cell.experiment
    panels = list(dict.fromkeys(rate.cell.panel for rate in rates))
    if experiment == "overlap":
        result = Figure(figsize=(11, 7), layout="constrained")
        axes = result.subplots(2, len(panels), squeeze=False)
        for column, panel in enumerate(panels):
            part = [rate for rate in rates if rate.cell.panel == panel]
            _heat_map(axes[0, column], part, [rate.equal / rate.trials for rate in part], f"{panel}, here")
            _heat_map(axes[1, column], part, [rate.cell.rate for rate in part], f"{panel}, published")
    else:
        rows = list(dict.fromkeys(rate.cell.row for rate in rates))
        groups = [rates] if experiment == "exemplars" else [[r for r in rates if r.cell.row == row] for row in rows]
        result = Figure(figsize=(max(7, 3.4 * len(groups)), 3.4), layout="constrained")
        for ax, group in zip(result.subplots(1, len(groups), squeeze=False, sharey=True)[0], groups, strict=True):
            names = [r.cell.row if experiment == "exemplars" else r.cell.column for r in group]
            _bars(ax, group, names, "" if experiment == "exemplars" else group[0].cell.row)
        result.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    result.suptitle(_TITLES[experiment], fontsize=10)
    return result


def _bars(ax: Axes, rates: Sequence[Rate], names: Sequence[str], title: str) -> None:
    place = np.arange(len(rates))
    share = np.array([rate.equal / rate.trials for rate in rates])
    low, high = np.array([rate.interval for rate in rates]).T
    ax.bar(place - 0.2, share, 0.4, color="#0072B2", label="here (95 %)")
    bars = np.clip([share - low, high - share], 0, None)
    ax.errorbar(place - 0.2, share, bars, fmt="none", color="0.2", linewidth=1, capsize=2)
    known = [np.nan if rate.cell.rate is None else rate.cell.rate for rate in rates]
    ax.bar(place + 0.2, known, 0.4, color="#E69F00", label="published")
    ax.set(xticks=place, ylim=(0, 1.05), title=title)
    ax.set_xticklabels(names, rotation=20, ha="right", fontsize=8)
    ax.title.set_fontsize(9)


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
    """What is known of one trial: is its chosen network right, one with as few edges, any; and numbers of edges."""

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
    """Judge the trials of one cell; `judged` remembers what other cells asked of the same trial."""
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
