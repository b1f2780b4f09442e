"""Published training settings and success rates of the paper's Boolean experiments.

`settings.csv` lists the settings, `rates.csv` the rates: those of the figures in section 4 of Patil, Michael, Dovrolis
(2023), over 36 trials a cell, or 12 where the cell is for one number of hidden layers, with the criteria of
`modgraph.score`. Its columns `function`, `depths` and `narrowest` say which networks of `settings.csv` a cell counts.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Final

from modgraph.sculpt import TrainSettings

EXPERIMENTS: Final = ("exemplars", "reuse", "overlap", "levels")


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

    def is_above(self, interval: tuple[float, float]) -> bool:
        """Return whether the published rate is above an `interval`; False if there is none."""
        return self.rate is not None and self.rate > interval[1]


@cache
def published_settings() -> tuple[PublishedSettings, ...]:
    """Return the published training settings, a row for each function and size (361 in all).

    Examples
    --------
    >>> published_settings()[-1].function, published_settings()[-1].hidden
    ('levels_use_8', (60, 60, 60, 60))
    """
    return tuple(
        PublishedSettings(
            experiment=row["experiment"],
            function=row["function"],
            hidden=_ints(row["hidden"]),
            settings=TrainSettings(
                learning_rate=float(row["learning_rate"]), batch_size=int(row["batch_size"]), epochs=int(row["epochs"])
            ),
        )
        for row in _rows("settings.csv")
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
    if experiment not in EXPERIMENTS:
        raise ValueError(f"`experiment` must be one of {EXPERIMENTS} (got {experiment!r})")
    return tuple(
        Cell(
            **{name: row[name] for name in ("experiment", "panel", "row", "column", "criterion")},
            networks=tuple(
                one
                for one in published_settings()
                if one.function == row["function"]
                and len(one.hidden) in _ints(row["depths"])
                and min(one.hidden) >= int(row["narrowest"])
            ),
            rate=float(Fraction(row["rate"])) if row["rate"] else None,
        )
        for row in _rows("rates.csv")
        if row["experiment"] == experiment
    )


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("modgraph.experiments").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _ints(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("-")))
