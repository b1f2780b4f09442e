"""Sculpting one wide network: what `sculpt` does to a stack, for a network of millions of weights.

Pruned units leave the tensors at once, so that later rounds are fast. A training run ends when the network is accurate
enough or stops improving. Every round writes a checkpoint.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from modgraph.arrays import FloatArray
from modgraph.checks import check_int, check_ints
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import PHASES, Phase
from modgraph.sculpt.fit import WideSettings, evaluate, fit
from modgraph.sculpt.objective import Objective
from modgraph.sculpt.prune import PUBLISHED, Criteria, Criterion, check_criteria, compensated, percentile_cut, scored
from modgraph.sculpt.rounds import Fitted, Round, State, run_rounds
from modgraph.sculpt.search import SculptedNetwork
from modgraph.sculpt.stack import arrays_of, initial_stack, n_dense_edges
from modgraph.sculpt.state import Checkpoint, fingerprint
from modgraph.sculpt.tasks import SplitTask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class WideResult:
    """The network that `sculpt_wide` found, and how it got there.

    Attributes
    ----------
    network : SculptedNetwork
        In the shape of the dense network; its `accuracy` is the metric on the validation samples.
    test_accuracy : float
        The metric on the test samples, which decide nothing; NaN without any.
    threshold : float
        Metric from which a network was accepted.
    baseline : float
        Metric of a constant predictor; `threshold` is above it.
    rounds : tuple of Round
        Every training run; the first is that of the dense network.
    """

    network: SculptedNetwork
    test_accuracy: float
    threshold: float
    baseline: float
    rounds: tuple[Round, ...]

    @property
    def seconds(self) -> float:
        """Wall-clock time of all rounds."""
        return sum(done.seconds for done in self.rounds)

    def __repr__(self) -> str:
        return (
            f"WideResult({self.network.edges} edges, "
            f"{self.network.metric} {self.network.accuracy:.4f} (validation) and "
            f"{self.test_accuracy:.4f} (test), {len(self.rounds)} rounds)"
        )


def sculpt_wide(
    task: SplitTask,
    *,
    hidden: Sequence[int],
    seed: int = 0,
    settings: WideSettings | None = None,
    unit_score: str | Criterion = "published",
    edge_score: str | Criterion = "published",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[Round], object] | None = None,
) -> WideResult:
    """Train one wide network and prune it as far as it stays accurate.

    The schedule is that of `sculpt` with one unit step and one edge step: train, prune units, train once more, prune
    edges. Four differences make millions of weights a matter of minutes: units on no path, and inputs that are 0 in
    every training sample, leave the tensors at once; a round that would prune nothing is skipped; a training run can
    end early (`WideSettings`); at low density only the edges are computed. A network is accepted by its metric on the
    validation samples, relative to the dense network; the released code accepts on the test samples.

    Parameters
    ----------
    task : SplitTask
        For instance from `digit_pairs`. It is computed on the device of its tensors.
    hidden : sequence of int
        Units of the hidden layers, each ≥ 1.
    seed : int ≥ 0
        Determines the initial weights and the orders of the samples.
    settings : WideSettings, optional
    unit_score, edge_score : {"published", "taylor", "fisher", "random"} or callable
        What is pruned first: see `sculpt`.
    checkpoint : path-like, optional
        A file (.npz) that is written after every round. If it exists, sculpting continues from it and ends with the
        same network as an uninterrupted run.
    progress : callable, optional
        Called with each `Round` when it ends.

    Returns
    -------
    WideResult

    Raises
    ------
    TypeError
        If `task` is not a SplitTask.
    ValueError
        If an argument is out of range, or `checkpoint` belongs to other arguments.

    Examples
    --------
    >>> from modgraph.sculpt import digit_pairs, load_digits8
    >>> task = digit_pairs(load_digits8(), pairs=(10, 5, 5))
    >>> out = sculpt_wide(task, hidden=(16,), settings=WideSettings(epochs=3, edge_step=50))
    >>> [done.phase for done in out.rounds][:3]
    ['dense', 'units', 'units']
    """
    if not isinstance(task, SplitTask):
        raise TypeError(f"`task` must be a SplitTask, such as digit_pairs makes (got {type(task).__name__})")
    layers, seed = check_ints("hidden", hidden, at_least=1), check_int("seed", seed, at_least=0)
    settings = settings or WideSettings()
    sizes = (task.train.inputs.shape[1], *layers, task.train.n_outputs)
    criteria = check_criteria(unit_score, edge_score)
    sculptor = WideSculptor(task=task, sizes=sizes, seed=seed, settings=settings, criteria=criteria)
    parts = (task.train, task.validation, task.test)
    asked = fingerprint(sizes, seed, task.outputs, settings, unit_score, edge_score, task.draw, *parts)
    saved = Checkpoint(path=checkpoint, asked=asked, device=task.train.inputs.device)
    start = saved.load() or State(network=sculptor.initial())
    state = run_rounds(sculptor, start, progress=progress, save=saved.save)
    accuracy, _ = evaluate(state.network, state.network.view(task.validation), sculptor.objective)
    network = SculptedNetwork(
        seed=seed,
        unit_step=settings.unit_step,
        edge_step=settings.edge_step,
        **arrays_of(state.network.dense())[0],
        accuracy=accuracy,
        accepted=accuracy >= state.threshold,
        metric=sculptor.metric,
        activation=sculptor.objective.activation,
    )
    return WideResult(
        network=network,
        test_accuracy=sculptor.test(state.network),
        threshold=state.threshold,
        baseline=sculptor.baseline,
        rounds=state.rounds,
    )


class WideSculptor:
    """Trains and prunes a compact network; see `Sculptor`."""

    def __init__(
        self,
        *,
        task: SplitTask,
        sizes: tuple[int, ...],
        seed: int,
        settings: WideSettings,
        criteria: Criteria = PUBLISHED,
    ) -> None:
        self.task, self.sizes, self.seed, self.settings, self.criteria = task, sizes, seed, settings, criteria
        self.limits = settings.limits
        self.objective = Objective.of(task.outputs, n_outputs=sizes[-1], loss=settings.loss, metric=settings.metric)
        self.n_units, self.n_edges = sum(sizes[1:-1]), n_dense_edges(sizes)
        self.metric = self.objective.metric_name
        self.baseline = self.objective.baseline(task.train.targets, task.validation.targets)

    def initial(self) -> CompactMLP:
        """Return the dense network before training, without inputs that are 0 in every sample.

        Such an input has no effect, and its weights get no gradient but the decay.
        """
        inputs = self.task.train.inputs
        network = CompactMLP.of(initial_stack(self.sizes, seeds=[self.seed], device=inputs.device))
        return network.prune([network.masks[0] & inputs.any(0), *network.masks[1:]])

    def describe(self, network: CompactMLP) -> tuple[tuple[int, ...], int]:
        """Return the units of every layer and the number of edges that are left."""
        return network.stack.sizes, network.n_edges

    def prune(self, network: CompactMLP, *, phase: Phase, targets: FloatArray, run: int) -> CompactMLP:
        """Prune the units or edges up to percentile `targets` (1,) of the scores of all those of the dense network."""
        keys = [(self.seed, PHASES[phase], run, 0)]  # `fit` adds the epoch, from 1 on
        task = network.view(self.task.train)
        criterion, stack = self.criteria[phase], network.stack
        scores = scored(phase, criterion, stack, task, keys=keys, objective=self.objective)  # (1, units or edges left)
        n_dense = self.n_units if phase == "units" else self.n_edges
        keep = (scores > percentile_cut(scores, targets, absent=n_dense - scores.shape[1]))[0]
        if phase == "units":
            return network.without_units(keep)
        if criterion == "surgeon":
            network = replace(network, stack=compensated(stack, keep[None], task, objective=self.objective))
        return network.with_edges(keep)

    def train(self, network: CompactMLP, *, phase: Phase, run: int, enough: float, easy: bool) -> Fitted[CompactMLP]:
        """Train the network once."""
        key, settings = (self.seed, PHASES[phase], run), self.settings
        epochs = settings.dense_epochs if phase == "dense" else settings.easy_epochs if easy else None
        settings = replace(settings, epochs=epochs or settings.epochs)
        return fit(network, self.task, settings=settings, key=key, enough=enough, objective=self.objective)

    def test(self, network: CompactMLP) -> float:
        """Return the metric on the test samples, NaN without any."""
        test = self.task.test
        return evaluate(network, network.view(test), self.objective)[0] if test.n_samples else math.nan
