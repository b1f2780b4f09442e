"""Curves of a run: the metric and the density, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from modgraph.checks import require
from modgraph.sculpt.rounds import Round

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_history(rounds: Sequence[Round], *, ax: Axes | None = None) -> Axes:
    """Draw the metric and the density of every round; rejected rounds are hollow.

    Parameters
    ----------
    rounds : sequence of Round
        ``model.history_``, or the `rounds` of a result; at least one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the metric; the density has a logarithmic axis of its own on the right.

    Examples
    --------
    >>> done = Round(phase="dense", target=0, sizes=(2, 1), edges=2, density=1.0, epochs=9, metric="R²",
    ...              validation=0.9, test=0.8, accepted=True, seconds=0.1)
    >>> draw_history([done]).get_ylabel()
    'R²'
    """
    if not rounds:
        raise ValueError("`rounds` must hold one round or more (got none)")
    plt = require("matplotlib.pyplot", purpose="`draw_history`", extra="draw")
    if ax is None:
        ax = plt.subplots(layout="constrained")[1]
    places = np.arange(1, len(rounds) + 1)
    accepted = np.array([done.accepted for done in rounds])
    values = np.array([done.validation for done in rounds])
    for kept, face in ((accepted, "C0"), (~accepted, "none")):
        ax.scatter(places[kept], values[kept], s=18, facecolors=face, edgecolors="C0", zorder=3)
    ax.plot(places[accepted], values[accepted], color="C0", label="validation")
    tests = np.array([done.test for done in rounds])
    if not np.isnan(tests).all():
        ax.plot(places[accepted], tests[accepted], color="C0", linestyle=":", label="test")
        ax.legend(loc="lower left")
    ax.set(xlabel="round", ylabel=rounds[0].metric)
    for at in np.flatnonzero([one.phase != other.phase for one, other in pairwise(rounds)]):
        ax.axvline(at + 1.5, color="0.8", linewidth=0.8)
    right = ax.twinx()
    right.plot(places[accepted], [done.density for done in rounds if done.accepted], color="C1")
    right.set_yscale("log")
    right.set_ylabel("density", color="C1")
    assert ax is not None
    return ax
