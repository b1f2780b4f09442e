"""Published training settings and success rates of the paper's Boolean experiments.

The rates are from the figures in section 4 of Patil, Michael, Dovrolis (2023): 36 trials a cell, or 12 where the cell
is for one number of hidden layers, with the criteria of `modgraph.score`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from modgraph.sculpt import TrainSettings

EXPERIMENTS: Final = ("exemplars", "reuse", "overlap", "levels")
USES: Final = (1, 2, 4, 6, 8)

_EXEMPLARS: Final = {"separable": 36 / 36, "reused": 35 / 36, "separable_reused": 36 / 36, "single": 36 / 36}
_REUSE: Final = {1: (0, 0, 0, 0, 0), 2: (0.58, 0.92, 1, 1, 1), 3: (0.67, 0.75, 0.83, 0.83, 0.92)}
_LEVELS: Final = {2: (1, 1, 1, 0.83), 3: (0.5, 0.83, 1, 1), 4: (0.75, 0.92, 1, 1)}
_OVERLAP: Final = {
    "inputs": (
        (1, 1, 1, 1, 1),
        (0.97, 1, 1, 1, 1),
        (0.92, 1, 1, 1, 1),
        (0.64, 0.72, 0.78, 0.89, 0.86),
        (0.94, 0.94, 1, 1, 0.89),
    ),
    "outputs": (
        (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 1),
        (0.97, 1, 1, 1, 1),
        (0.58, 0.58, 0.69, 0.67, 0.72),
        (0.25, 0.31, 0.44, 0.53, 0.61),
    ),
    "hidden": (
        (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 1),
        (0, 0, 0.03, 0.06, 0.06),
        (0, 0, 0.06, 0.17, 0.17),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSettings:
    """How the networks of one function and size were trained.

    Attributes
    ----------
    experiment, function : str
    hidden : tuple of int
        Units of the hidden layers.
    settings : TrainSettings
    """

    experiment: str
    function: str
    hidden: tuple[int, ...]
    settings: TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of the paper: a success rate over some networks.

    Attributes
    ----------
    experiment, panel, row, column : str
        Its position; `panel` is one of the three heat maps of *overlap*.
    criterion : str
        The attribute of `modgraph.Score` that defines success.
    networks : tuple of PublishedSettings
        The functions and sizes of its trials.
    rate : float or None
        The published rate; None where the paper gives none.
    """

    experiment: str
    panel: str
    row: str
    column: str
    criterion: str
    networks: tuple[PublishedSettings, ...]
    rate: float | None

    @property
    def name(self) -> str:
        """Panel, row and column, without those that are empty."""
        return " · ".join(filter(None, (self.panel, self.row, self.column)))


@cache
def published_settings() -> tuple[PublishedSettings, ...]:
    """Return the published training settings, a row for each function and size (361 in all).

    Examples
    --------
    >>> published_settings()[-1].function, published_settings()[-1].hidden
    ('levels_use_8', (60, 60, 60, 60))
    """
    text = resources.files("modgraph.experiments").joinpath("settings.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedSettings(
            experiment=row["experiment"],
            function=row["function"],
            hidden=tuple(map(int, row["hidden"].split("-"))),
            settings=TrainSettings(
                learning_rate=float(row["learning_rate"]), batch_size=int(row["batch_size"]), epochs=int(row["epochs"])
            ),
        )
        for row in csv.DictReader(text.splitlines())
    )


@cache
def published_cells(experiment: str) -> tuple[Cell, ...]:
    """Return every success rate of one experiment, in the order of its figure.

    Parameters
    ----------
    experiment : {"exemplars", "reuse", "overlap", "levels"}

    Returns
    -------
    tuple of Cell

    Raises
    ------
    ValueError
        If there is no such experiment.

    Examples
    --------
    >>> [(cell.row, len(cell.networks)) for cell in published_cells("exemplars")]
    [('separable', 9), ('reused', 10), ('separable_reused', 9), ('single', 9)]
    """
    if experiment == "exemplars":
        # `reused` needs two hidden layers; narrower networks count too.
        return tuple(
            _cell("exemplars", "", name, "all sizes", "exact", name, (2, 3) if name == "reused" else (1, 2, 3), rate)
            for name, rate in _EXEMPLARS.items()
        )
    if experiment == "reuse":
        return tuple(
            _cell("reuse", "", _layers(depth), f"use {use}", "exact", _reuse(use), (depth,), rate, least=24)
            for depth, rates in _REUSE.items()
            for use, rate in zip(USES, rates, strict=True)
        )
    if experiment == "overlap":
        return tuple(
            _cell("overlap", part, f"overlap {v}", f"use {use}", part, f"overlap_{v}_use_{use}", (1, 2, 3), rate)
            for part, rows in _OVERLAP.items()
            for v, rates in enumerate(rows)
            for use, rate in zip(USES, rates, strict=True)
        )
    if experiment == "levels":
        return tuple(
            _cell("levels", "", _layers(depth), f"use {use}", "exact", f"levels_use_{use}", (depth,), rate)
            for depth, rates in ((1, (None,) * 4), *_LEVELS.items())
            for use, rate in zip(USES, (None, *rates), strict=True)
        )
    raise ValueError(f"`experiment` must be one of {EXPERIMENTS} (got {experiment!r})")


def _cell(
    experiment: str,
    panel: str,
    row: str,
    column: str,
    criterion: str,
    function: str,
    depths: tuple[int, ...],
    rate: float | None,
    *,
    least: int = 0,
) -> Cell:
    networks = tuple(
        row
        for row in published_settings()
        if row.function == function and len(row.hidden) in depths and min(row.hidden) >= least
    )
    return Cell(
        experiment=experiment, panel=panel, row=row, column=column, criterion=criterion, networks=networks, rate=rate
    )


def _reuse(use: int) -> str:
    return "reused" if use == 8 else f"reuse_{use}"  # the same function, trained as an exemplar


def _layers(depth: int) -> str:
    return f"{depth} hidden layer{'s' * (depth > 1)}"
