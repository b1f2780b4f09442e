"""Which network is right? Rules of choice that don't see the target, compared on the paper's functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.experiments import write
from modgraph.experiments.judged import JudgedTrial, agreement, judge, right_share, shown_by
from modgraph.experiments.published import EXPERIMENTS, PublishedSettings, published_cells, published_settings
from modgraph.experiments.reproduce import RESULTS, Rate, rate_of, settings_of
from modgraph.experiments.sweep import Trial, sweep

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

RULES: Final = (*ALONE, "vote alone", *TOGETHER, "any")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectionCell:
    """The trials of one function and depth, judged by one criterion."""

    experiment: str
    function: str
    depth: int  # hidden layers
    criterion: str
    group: str  # whether the constants were fixed on it or it was looked at afterwards, and the seeds
    trials: int
    shares: dict[str, float]  # share of trials that end right, by rule
    resampled: FloatArray  # that of the agreement ("together") in resamples of the trials
    answer: bool  # whether the hierarchy with most votes is right
    votes: float  # its share of the votes

    @property
    def overlap(self) -> str:
        """How many inputs the functions of *overlap* share: few or many; "" in other experiments."""
        if self.experiment != "overlap":
            return ""
        return "0–2" if int(self.function.split("_")[1]) < 3 else "3–4"


class _Key(NamedTuple):
    group: str
    experiment: str
    function: str
    depth: int


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
            trials[_Key(group, row.experiment, function, depth)] = [
                Trial(function=function, hidden=row.hidden, seed=seed, settings=row.settings, **steps) for seed in seeds
            ]
    return trials


def reproduce_selection(
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    n_jobs: int = -1,
    quick: bool = False,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[SelectionCell]:
    """Compare rules of choice on eight seeds of each function; write ``selection.csv``, a figure and a page to `out`.

    Results of trials are shared with `modgraph.experiments.reproduce.reproduce`; further arguments are as there.
    """
    every = selection_trials(quick=quick)
    wanted = [trial for trials in every.values() for trial in trials]
    store = sweep(wanted, Path(out) / RESULTS, n_jobs=n_jobs, device=device, progress=progress)
    judged = {key: [judge(store, trial) for trial in trials] for key, trials in every.items()}
    cells, wrong = [], []
    for key, trials in every.items():
        criteria = ("inputs", "outputs", "hidden") if key.experiment == "overlap" else ("exact",)
        part = [cell for name in criteria if (cell := judged_cell(key, judged[key], name)) is not None]
        cells += part
        if missed := [cell.criterion for cell in part if not cell.answer]:
            wrong.append((key, ", ".join(missed), shown_by(store, trials)))
    text = write.page(
        "selection", rules=RULES, families=_families(cells), published=against_published(judged), wrong=wrong
    )
    write.save(Path(out), "selection", table=write.csv_text(map(_row, cells)), figure=figure(cells), page=text)
    return cells


def _row(cell: SelectionCell) -> dict[str, object]:
    """List the fields of one line of the table."""
    facts = {name: getattr(cell, name) for name in (*_Key._fields, "criterion", "trials")}
    shares = {rule: f"{cell.shares[rule]:.3f}" for rule in RULES}
    return facts | shares | {"answer": cell.answer, "votes": f"{cell.votes:.3f}"}


def judged_cell(key: _Key, trials: Sequence[JudgedTrial], criterion: str) -> SelectionCell | None:
    """Apply every rule to the trials of one function and depth; None if no candidate of any trial is right."""
    trials = [trial for trial in trials if trial.chosen >= 0]
    rights = [trial.right[criterion] for trial in trials]
    if not any(right.any() for right in rights):
        return None
    shares = {rule: right_share(trials, criterion, cost) for rule, cost in ALONE.items()}
    shares["vote alone"] = float(np.mean([agreement([trial], criterion).right[0] for trial in trials]))
    for rule, cost in TOGETHER.items():
        found = agreement(trials, criterion, costs=[cost(trial) for trial in trials])
        shares[rule] = float(found.right.mean())
    shares["any"] = float(np.mean([right.any() for right in rights]))
    return SelectionCell(
        **key._asdict(),
        criterion=criterion,
        trials=len(trials),
        shares=shares,
        resampled=found.resampled,
        answer=found.answer,
        votes=found.share,
    )


def against_published(judged: Mapping[_Key, Sequence[JudgedTrial]]) -> list[tuple[str, str, list[Rate]]]:
    """Return, for seeds and experiments, the rates of ours beside those of the paper that are above 0."""
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
        if rates:
            rows.append((_named(seeds), experiment, rates))
    return rows


def _named(seeds: Sequence[int]) -> str:
    return f"seeds {seeds[0]}–{seeds[-1]}"


def _families(cells: Sequence[SelectionCell]) -> list[dict[str, Any]]:
    """Summarise the cells of each group, experiment and criterion, in the order of the paper."""
    names = {(cell.group, cell.experiment, cell.criterion, cell.overlap) for cell in cells}
    families = []
    for name in sorted(names, key=lambda name: (name[0], EXPERIMENTS.index(name[1]), name[2] != "inputs", name[2:])):
        part = [cell for cell in cells if (cell.group, cell.experiment, cell.criterion, cell.overlap) == name]
        # Cells resample their trials independently: shuffle the resamples of each.
        rng = np.random.default_rng(0)
        resampled = np.mean([rng.permuted(cell.resampled) for cell in part], axis=0)
        families.append(
            {
                "group": name[0],
                "experiment": f"{name[1]} {name[3]}".rstrip(),
                "criterion": name[2],
                "cells": part,
                "means": {rule: float(np.mean([cell.shares[rule] for cell in part])) for rule in RULES},
                "interval": write.interval(resampled),
            }
        )
    return families


def figure(cells: Sequence[SelectionCell]) -> Figure:
    """Draw the shares of the main rules by experiment, the seeds below each other."""
    families = _families(cells)
    shown = {"together (95 %)": "together", "fewest edges": "fewest edges", "any": "any"}
    panels = []
    for seeds in SEEDS:
        part = [one for one in families if one["group"].endswith(_named(seeds))]
        panels.append(
            write.Panel(
                f"Share of trials that end right, {_named(seeds)}",
                [f"{one['experiment']}\n{one['criterion']}\n({one['group'].split(',')[0]})" for one in part],
                {label: [one["means"][rule] for one in part] for label, rule in shown.items()},
                np.array([one["interval"] for one in part]),
            )
        )
    colours = (write.HERE, write.HERE_PAPERS_RULE, write.ANY)
    return write.bar_figure(panels, size=(9, 6), colours=colours, rows=len(panels))
