"""Which network is right? Rules of choice that don't see the target, compared on the paper's functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.experiments import write
from modgraph.experiments.judged import N_RESAMPLES, JudgedTrial, agreement, judge, n_certified
from modgraph.experiments.published import EXPERIMENTS, PublishedSettings, published_cells, published_settings
from modgraph.experiments.reproduce import rate_of, settings_of
from modgraph.experiments.store import Store
from modgraph.experiments.sweep import Trial, sweep, target_of
from modgraph.files import write_whole
from modgraph.names import counted
from modgraph.sculpt import consensus, least_contradicting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS: Final = ((0, 1, 2, 3), (4, 5, 6, 7))
"""The constants were fixed on the first four seeds of all experiments but *overlap*. The rest was looked at once."""

ALONE: Final[dict[str, Callable[[JudgedTrial], IntArray]]] = {
    "fewest edges": lambda trial: trial.edges,
    "smallest cones": lambda trial: trial.cones,
    "lowest cost": lambda trial: trial.edges * trial.cones,
    "fewest passing": lambda trial: trial.passing,
}
"""What a trial that chooses alone has least of; ties count in proportion."""

TOGETHER: Final[dict[str, Callable[[JudgedTrial], IntArray]]] = {
    "together, edges": lambda trial: trial.edges,
    "together, cones": lambda trial: trial.cones,
    "together": lambda trial: trial.edges * trial.cones,
}
"""The cost by which trials choose together; the last one is that of `modgraph.sculpt.consensus`."""

_FACTS: Final = ("group", "experiment", "function", "depth", "criterion", "trials")

RULES: Final = (*ALONE, "vote alone", *TOGETHER, "any")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectionCell:
    """The trials of one function and depth, judged by one criterion.

    Attributes
    ----------
    experiment : {"exemplars", "reuse", "overlap", "levels"}
    function : str
    depth : int
        Hidden layers.
    criterion : str
    group : str
        Whether the constants were fixed on it or it was looked at afterwards, and the seeds.
    trials : int
    shares : mapping of str to float
        Share of trials that end right, by rule.
    resampled : ndarray of float
        The share of the agreement ("together") in resamples of the trials.
    answer : bool
        Whether the hierarchy with most votes is right.
    votes : float
        Its share of the votes.
    """

    experiment: str
    function: str
    depth: int
    criterion: str
    group: str
    trials: int
    shares: dict[str, float]
    resampled: FloatArray
    answer: bool
    votes: float


class _Key(NamedTuple):
    experiment: str
    function: str
    depth: int
    group: str


def selection_trials(*, quick: bool = False) -> dict[_Key, list[Trial]]:
    """List the trials of the study: each function at each depth, with the smallest published width from 24 on.

    With `quick`, only the exemplars with one hidden layer and 2 settings.
    """
    smallest: dict[tuple[str, int], PublishedSettings] = {}
    for row in published_settings():
        depth = len(row.hidden)
        hopeless = depth == 1 and row.experiment in ("reuse", "levels")
        left_out = quick and (depth > 1 or row.experiment != "exemplars")
        if min(row.hidden) >= 24 and not hopeless and not left_out:
            smallest[row.function, depth] = min(
                row, smallest.get((row.function, depth), row), key=lambda one: one.hidden
            )
    steps = settings_of(quick=quick)
    trials = {}
    for seeds in SEEDS:
        for (function, depth), row in smallest.items():
            fixed_on = seeds == SEEDS[0] and row.experiment != "overlap"
            group = f"{'fixed on' if fixed_on else 'looked at'}, {_named(seeds)}"
            trials[_Key(row.experiment, function, depth, group)] = [
                Trial(function=function, hidden=row.hidden, seed=seed, settings=row.settings, **steps) for seed in seeds
            ]
    return trials


def reproduce_selection(
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    n_jobs: int = -1,
    quick: bool = False,
    only_stored: bool = False,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[SelectionCell]:
    """Compare rules of choice on eight seeds of each function and write a table, a figure and a page.

    Parameters
    ----------
    out : path-like
        Folder for ``results.sqlite`` (shared with `modgraph.experiments.reproduce.reproduce`; an interrupted run is
        continued), ``selection.csv``, ``selection.png``, ``selection.svg`` and ``selection.md``.
    n_jobs, device, progress
        As in `modgraph.experiments.sweep`.
    quick : bool
        Only the exemplars with one hidden layer and 2 of the settings, to see that it works.
    only_stored : bool
        Train nothing: leave out functions of which a trial is missing in the store.

    Returns
    -------
    list of SelectionCell
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    every = selection_trials(quick=quick)
    path = folder / "results.sqlite"
    if only_stored:
        store = Store(path)
        stored = store.finished()
        every = {key: trials for key, trials in every.items() if {trial.key for trial in trials} <= stored}
    else:
        wanted = [trial for trials in every.values() for trial in trials]
        store = sweep(wanted, path, n_jobs=n_jobs, device=device, progress=progress)
    cells = []
    wrong: list[list[str]] = []
    judged = {key: [judge(store, trial) for trial in trials] for key, trials in every.items()}
    for key, trials in every.items():
        criteria = ("inputs", "outputs", "hidden") if key.experiment == "overlap" else ("exact",)
        part = [cell for name in criteria if (cell := judged_cell(key, judged[key], name)) is not None]
        cells += part
        missed = [cell for cell in part if not cell.answer]
        if missed:
            wrong.append([*_place(key), ", ".join(cell.criterion for cell in missed), *_shown(store, trials)])
    table = write.csv_text(
        {
            **{
                name: getattr(cell, name)
                for name in ("group", "experiment", "function", "depth", "criterion", "trials")
            },
            **{rule: f"{cell.shares[rule]:.3f}" for rule in RULES},
            "answer": cell.answer,
            "votes": f"{cell.votes:.3f}",
        }
        for cell in cells
    )
    write.save_table_and_figure(folder, "selection", table=table, figure=figure(cells))
    write_whole(folder / "selection.md", page(cells, wrong, against_published(judged)))
    return cells


def judged_cell(key: tuple[str, str, int, str], trials: Sequence[JudgedTrial], criterion: str) -> SelectionCell | None:
    """Apply every rule to the trials of one function and depth; None if no candidate of any trial is right."""
    trials = [trial for trial in trials if trial.chosen >= 0]
    rights = [trial.right[criterion] for trial in trials]
    if not any(right.any() for right in rights):
        return None
    shares = {
        rule: float(np.mean([right[(c := cost(t)) == c.min()].mean() for t, right in zip(trials, rights, strict=True)]))
        for rule, cost in ALONE.items()
    }
    shares["vote alone"] = float(np.mean([agreement([trial], criterion).right[0] for trial in trials]))
    for rule, cost in TOGETHER.items():
        found = agreement(trials, criterion, costs=[cost(trial) for trial in trials])
        shares[rule] = float(found.right.mean())
    shares["any"] = float(np.mean([right.any() for right in rights]))
    experiment, function, depth, group = key
    return SelectionCell(
        experiment=experiment,
        function=function,
        depth=depth,
        criterion=criterion,
        group=group,
        trials=len(trials),
        shares=shares,
        resampled=found.resampled,
        answer=found.answer,
        votes=found.share,
    )


def against_published(judged: Mapping[_Key, Sequence[JudgedTrial]]) -> list[list[str]]:
    """Count, for each experiment and four seeds, the cells of the paper whose rate is above the interval of ours."""
    rows = []
    for seeds, experiment in product(SEEDS, EXPERIMENTS):
        rates = []
        for cell in published_cells(experiment):
            depths = {len(row.hidden) for row in cell.networks}
            parts = [
                trials
                for key, trials in judged.items()
                if key.function == cell.networks[0].function
                and key.depth in depths
                and key.group.endswith(_named(seeds))
            ]
            if cell.rate and len(parts) == len(depths):
                rates.append(rate_of(cell, [trial for part in parts for trial in part]))
        below = [rate.cell.name for rate in rates if rate.below]
        counts = [len(rates), sum(rate.paper_below for rate in rates), len(below)]
        if rates:
            rows.append([f"{_named(seeds)}: {experiment}", *map(str, counts), "; ".join(below) or "–"])
    return rows


def _named(seeds: Sequence[int]) -> str:
    return f"seeds {seeds[0]}–{seeds[-1]}"


def _place(key: _Key) -> list[str]:
    return [key.group, key.function, str(key.depth)]


def _shown(store: Store, trials: Iterable[Trial]) -> list[str]:
    """Say what the trials agree on, its share of the votes, and how many of its modules are certified."""
    trials = list(trials)
    target = target_of(trials[0].function)
    accepted = [[one for one in store.candidates(trial.key) if one.accepted] for trial in trials]
    agreed = consensus(least_contradicting(accepted, function=target.truth_table()))
    assert agreed is not None  # some candidate is right
    found = agreed.hierarchy
    certified = 1 if found.n_modules == 1 else n_certified(found, target)  # 1: the function
    ends = [found.labels[found.dag.layer == layer] for layer in (0, found.dag.n_layers - 1)]
    inputs, outputs = (len(set(labels[labels >= 0].tolist())) for labels in ends)
    shows = f"{counted(found.n_modules, 'module')}; {inputs} of inputs, {outputs} of outputs"
    return [shows, f"{agreed.share:.2f}", f"{certified} of {found.n_modules}"]


def _families(cells: Sequence[SelectionCell]) -> dict[tuple[str, str, str], list[SelectionCell]]:
    """Collect cells by group, experiment and criterion, in the order of the paper."""
    names = {(cell.group, cell.experiment, cell.criterion) for cell in cells}
    order = sorted(names, key=lambda name: (name[0], EXPERIMENTS.index(name[1]), name[2] != "inputs", name[2]))
    return {name: [cell for cell in cells if (cell.group, cell.experiment, cell.criterion) == name] for name in order}


def _interval(cells: Sequence[SelectionCell]) -> tuple[float, float]:
    """Return the 95 % interval of the mean share of the agreement, by bootstrap over the trials of every cell."""
    # Cells resample their trials independently: shuffle the resamples of each.
    rng = np.random.default_rng(0)
    means = np.mean([rng.permuted(cell.resampled) for cell in cells], axis=0)
    assert means.shape == (N_RESAMPLES,)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def page(cells: Sequence[SelectionCell], wrong: Iterable[Sequence[str]], published: Iterable[Sequence[str]]) -> str:
    """Write the page (Markdown): rules by experiment, published rates, and what wrong answers show instead."""
    lines = [
        "# Which network is right?",
        "",
        *write.paragraph(
            "Written by `modgraph reproduce selection`: the published functions and training settings, each at "
            "its smallest width (24; levels 36), with 28 of the 70 settings. Share of trials that end right, the "
            "mean over functions and depths at which any candidate is right. *Alone*, a trial takes its network "
            "with the fewest edges, the smallest cones, the lowest cost (edges × cones), or the fewest units that "
            "pass something to another module; *vote alone* takes the most frequent hierarchy within 10 % of the "
            "lowest cost. *Together*, all trials of a function and depth vote, within 10 % of the fewest edges, "
            "the smallest cones, or the lowest cost, and only with the networks of a trial that contradict the "
            "function least (`modgraph.sculpt.least_contradicting`); *any* is what the best choice could reach. In "
            "brackets the 95 % interval by bootstrap over the trials."
        ),
        "",
        *write.paragraph(
            "Order of looking: the cost and the 10 % were fixed on exemplars, reuse and levels with seeds 0–3. "
            "The cells *looked at* were judged once afterwards. The contradictions came last, by reasoning from the "
            "wrong answers on *overlap*, without a constant: so *overlap* is no blind test of them."
        ),
        "",
        "![Share of trials that end right](selection.png)",
        "",
    ]
    rows = []
    for (group, experiment, criterion), part in _families(cells).items():
        means = {rule: float(np.mean([cell.shares[rule] for cell in part])) for rule in RULES}
        low, high = _interval(part)
        shares = [f"{means[r]:.2f}" + (f" [{low:.2f}, {high:.2f}]" if r == "together" else "") for r in RULES]
        rows.append([f"{group}: {experiment}, {criterion}", len(part), *shares])
    lines += write.markdown_table(["cells", "number", *RULES], rows)
    lines += ["", "## Beside the published rates", ""]
    lines += write.paragraph(
        "Cells of the paper whose published rate is above the 95 % interval of ours, by the paper's rule (fewest "
        "edges, one right network is enough) and by agreement. Cells with a published rate of 0 are left out."
    )
    head = ["cells", "number", "below by the paper's rule", "below by agreement", "these"]
    lines += ["", *write.markdown_table(head, published, left=(0, 4))]
    lines += [
        "",
        "## Where the agreement is not the expected hierarchy",
        "",
        *write.paragraph(
            "*Certified*: modules that interventions on the network confirm as a sub-function of the target, of "
            "what is expected of shallower networks, or of the finest decomposition of its table. If all are, the "
            "answer is another true decomposition."
        ),
        "",
    ]
    lines += write.markdown_table(
        ["seeds", "function", "hidden layers", "not right", "shows instead", "votes", "certified"],
        wrong,
        left=(0, 1, 3, 4),
    )
    return "\n".join(lines) + "\n"


def figure(cells: Sequence[SelectionCell]) -> Figure:
    """Draw the shares of the main rules by experiment."""
    from matplotlib.figure import Figure

    families = _families(cells)
    result = Figure(figsize=(max(8, 1.3 * len(families)), 4), layout="constrained")
    ax = result.subplots()

    def means(rule: str) -> list[float]:
        return [float(np.mean([cell.shares[rule] for cell in part])) for part in families.values()]

    write.bars(
        ax,
        ["\n".join(name).replace(", ", "\n") for name in families],
        {"together (95 %)": means("together"), "fewest edges": means("fewest edges"), "any": means("any")},
        colours=(write.HERE, write.HERE_PAPERS_RULE, write.ANY),
        intervals=np.array([_interval(part) for part in families.values()]),
    )
    ax.set_title("Share of trials that end right", fontsize=10)
    result.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return result
