"""The schedule of one network: train, prune units, train once more, prune edges; a round is a training run.

`run_rounds` says what to do next; a `Sculptor` says how. `sculpt_wide` and `sculpt_module` are both built on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.checks import check_choice, check_number, check_share, require
from modgraph.sculpt.engine import NEXT_PHASE, Phase
from modgraph.sculpt.prune import UNUSED, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Network = TypeVar("Network")
EdgesOf = Literal["dense", "left"]
LAST_STEP = 1 / 8
"""Smallest step as a share of the first one, where edge steps are percentages of the edges left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One training run of a network that is pruned.

    Attributes
    ----------
    phase : {"dense", "units", "again", "edges"}
    target : float
        Percentage of the dense network's units or edges that pruning was to remove; 0 where nothing is pruned.
    sizes : tuple of int
        Units of every layer of the trained network, without those on no path.
    edges : int
        Number of its edges.
    density : float
        Share of the dense network's edges, in [0, 1].
    epochs : int
        Passes over the training samples; 0 where they are not counted.
    metric : str
        Name of the metric.
    validation, test : float
        The metric after the best epoch; `test` is NaN without test samples.
    accepted : bool
        Whether `validation` was high enough; if not, the next round starts from the network before this one.
    seconds : float
        Wall-clock time.
    """

    phase: Phase
    target: float
    sizes: tuple[int, ...]
    edges: int
    density: float
    epochs: int
    metric: str
    validation: float
    test: float
    accepted: bool
    seconds: float

    def __str__(self) -> str:
        verdict = "accepted" if self.accepted else "rejected"
        return f"{self.phase}: {self.edges} edges ({self.density:.2%}), {self.metric} {self.validation:.4f}, {verdict}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a network is pruned: what `WideSettings` and `sculpt_module` have in common."""

    tolerance: float
    unit_share: float
    unit_step: float
    edge_step: float
    edges_of: EdgesOf = "dense"
    slow_down: bool = False

    def __post_init__(self) -> None:
        check_number("tolerance", self.tolerance, lambda x: 0 <= x < 1, wanted="a number in [0, 1)")
        check_share("unit_share", self.unit_share)
        for name in ("unit_step", "edge_step"):
            check_number(name, getattr(self, name), lambda x: 0 < x <= 100, wanted="a percentage in (0, 100]")
        check_choice("edges_of", self.edges_of, ("dense", "left"))
        if not isinstance(self.slow_down, bool):
            raise TypeError(f"`slow_down` must be True or False (got {self.slow_down!r})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State(Generic[Network]):
    """Everything that the next round needs."""

    network: Network  # the last accepted network
    dense: float = math.nan  # metric of the dense network
    threshold: float = -math.inf  # metric from which a network is accepted; −∞ until the dense network is trained
    phase: Phase | None = "dense"  # phase of the next round; None: finished
    run: int = 0  # number of training runs of this phase so far
    schedule: Schedule = UNUSED  # in the phases "units" and "edges"
    rounds: tuple[Round, ...] = ()  # all rounds so far

    @property
    def slack(self) -> float:
        """The share of the tolerance that the last accepted network has not used, in [0, 1]."""
        last = next((done.validation for done in reversed(self.rounds) if done.accepted), self.dense)
        tolerance = self.dense - self.threshold
        return min(max((last - self.threshold) / tolerance, 0.0), 1.0) if tolerance > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted(Generic[Network]):
    """The result of a training run."""

    network: Network  # after its best epoch, or before the first one
    epochs: int  # passes over the training samples
    accuracy: float  # the metric on the validation samples


class Sculptor(Protocol[Network]):
    """Trains, prunes and describes one network."""

    limits: Limits
    n_units: int  # hidden units of the dense network that can be pruned; 0: only edges are
    n_edges: int  # edges of the dense network
    metric: str  # name of the metric
    baseline: float  # the metric of a constant predictor, which an accepted network must exceed

    def describe(self, network: Network) -> tuple[tuple[int, ...], int]:
        """Return the units of every layer and the number of edges that are left."""

    def prune(self, network: Network, *, phase: Phase, targets: FloatArray, run: int) -> Network:
        """Prune units or edges up to percentile `targets` (1,) of the scores in the dense network."""

    def train(self, network: Network, *, phase: Phase, run: int, enough: float, easy: bool) -> Fitted[Network]:
        """Train once; a run may end when the metric stays at `enough`, and an `easy` round may take fewer epochs."""

    def test(self, network: Network) -> float:
        """Return the metric on test samples, NaN without any."""


def run_rounds(
    sculptor: Sculptor[Network],
    state: State[Network],
    *,
    progress: Callable[[Round], object] | None = None,
    save: Callable[[State[Network]], object] = bool,
) -> State[Network]:
    """Go on from a state until all phases are over; `save` gets the state after every round, `progress` the round."""
    while state.phase is not None:
        n_rounds = len(state.rounds)
        state = _advanced(state, sculptor)
        if len(state.rounds) > n_rounds:
            save(state)
            if progress is not None:
                progress(state.rounds[-1])
    return state


def _advanced(state: State[Network], sculptor: Sculptor[Network]) -> State[Network]:
    """Do one round, skip a round that would prune nothing, or go on to the next phase."""
    phase, network, target, limits = state.phase, state.network, 0.0, sculptor.limits
    assert phase is not None
    if phase in ("units", "edges"):
        if not state.schedule.running[0]:
            return _phase_after(state, sculptor)
        if phase == "edges" and limits.slow_down:
            state = replace(state, schedule=replace(state.schedule, share=max(state.slack, 1 / 2)))
        target = float(state.schedule.targets[0])
        network = sculptor.prune(network, phase=phase, targets=state.schedule.targets, run=state.run)
        if sculptor.describe(network)[1] == sculptor.describe(state.network)[1]:
            return replace(state, schedule=state.schedule.after(np.array([True])))
    start = time.perf_counter()
    threshold = state.threshold
    if phase == "units":
        threshold = max(threshold, state.dense - abs(state.dense) * limits.tolerance * limits.unit_share)
    enough, easy = math.inf if phase == "dense" else threshold, phase in ("units", "again") or state.slack == 1
    fitted = sculptor.train(network, phase=phase, run=state.run, enough=enough, easy=easy)
    if phase == "dense":
        dense = fitted.accuracy
        beats_baseline = math.nextafter(sculptor.baseline, math.inf)
        threshold = max(dense - abs(dense) * limits.tolerance, beats_baseline)
        state = replace(state, dense=dense, threshold=threshold)
    sizes, edges = sculptor.describe(network)
    done = Round(
        phase=phase,
        target=target,
        sizes=sizes,
        edges=edges,
        density=edges / sculptor.n_edges,
        epochs=fitted.epochs,
        metric=sculptor.metric,
        validation=fitted.accuracy,
        test=sculptor.test(fitted.network),
        accepted=fitted.accuracy >= threshold,
        seconds=time.perf_counter() - start,
    )
    state = replace(state, run=state.run + 1, rounds=(*state.rounds, done))
    if done.accepted or phase == "dense":
        state = replace(state, network=fitted.network)
    if phase == "dense" and not done.accepted:  # no better than a constant: nothing can be pruned
        return replace(state, phase=None)
    if phase in ("dense", "again"):
        return _phase_after(state, sculptor)
    return replace(state, schedule=state.schedule.after(np.array([done.accepted])))


def _phase_after(state: State[Network], sculptor: Sculptor[Network]) -> State[Network]:
    """Return the state at the start of the next phase."""
    assert state.phase is not None
    phase, schedule = NEXT_PHASE[state.phase], state.schedule
    if phase == "units" and not sculptor.n_units:
        phase = "edges"
    of_left = sculptor.limits.edges_of == "left"
    if phase == "units":
        step, n = sculptor.limits.unit_step, sculptor.n_units
        schedule = Schedule.start([step], smallest=max(100 / n, step * LAST_STEP * of_left))
    elif phase == "edges":
        step, n = sculptor.limits.edge_step, sculptor.n_edges
        schedule = Schedule.start([step], smallest=max(100 / n, step * LAST_STEP * of_left), of_left=of_left)
        if of_left:
            schedule = replace(schedule, reached=100 * (1 - np.array([sculptor.describe(state.network)[1] / n])))
    return replace(state, phase=phase, run=0, schedule=schedule)


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
