"""Sculpting one wide network: what `sculpt` does to a stack, for a network of millions of weights.

Pruned units leave the tensors at once, so that later rounds are fast. A training run ends when the network is accurate
enough or stops improving. Every round writes a checkpoint.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from modgraph.arrays import FloatArray
from modgraph.checks import check_int, check_ints
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import PHASES, Phase
from modgraph.sculpt.fit import CHUNK, WideSettings, evaluate, fit
from modgraph.sculpt.prune import Schedule, edge_score, percentile_cut, unit_score
from modgraph.sculpt.search import SculptedNetwork
from modgraph.sculpt.stack import initial_stack, n_dense_edges
from modgraph.sculpt.state import Round, State, load_state, save_state
from modgraph.sculpt.tasks import SplitTask, Task

NEXT_PHASE: Final[dict[Phase, Phase | None]] = {"dense": "units", "units": "again", "again": "edges", "edges": None}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class WideResult:
    """The network that `sculpt_wide` found, and how it got there.

    Attributes
    ----------
    network : SculptedNetwork
        In the shape of the dense network; its accuracy is that on the validation samples.
    test_accuracy : float
        Share of correct output bits on the test samples, which decide nothing.
    threshold : float
        Validation accuracy from which a network was accepted.
    rounds : tuple of Round
        Every training run; the first is that of the dense network.
    """

    network: SculptedNetwork
    test_accuracy: float
    threshold: float
    rounds: tuple[Round, ...]

    @property
    def seconds(self) -> float:
        """Wall-clock time of all rounds."""
        return sum(done.seconds for done in self.rounds)

    def __repr__(self) -> str:
        return (
            f"WideResult({self.network.edges} edges, accuracy {self.network.accuracy:.4f} (validation) and "
            f"{self.test_accuracy:.4f} (test), {len(self.rounds)} rounds)"
        )


def sculpt_wide(
    task: SplitTask,
    *,
    hidden: Sequence[int],
    seed: int = 0,
    settings: WideSettings | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[Round], object] | None = None,
) -> WideResult:
    """Train one wide network and prune it as far as it stays accurate.

    The schedule is that of `sculpt` with one unit step and one edge step: train, prune units, train once more, prune
    edges. Four differences make millions of weights a matter of minutes: units on no path, and inputs that are 0 in
    every training sample, leave the tensors at once; a round that would prune nothing is skipped; a training run can
    end early (`WideSettings`); at low density only the edges are computed. A network is accepted by its accuracy on
    the validation samples, relative to the dense network; the released code accepts on the test samples.

    Parameters
    ----------
    task : SplitTask
        For instance from `digit_pairs`.
    hidden : sequence of int
        Units of the hidden layers, each ≥ 1.
    seed : int ≥ 0
        Determines the initial weights and the orders of the samples.
    settings : WideSettings, optional
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
    asked = f"{sizes} {seed} {settings} {_digest(task)}"
    state = None if checkpoint is None else load_state(checkpoint, asked=asked)
    state = state or _initial(task, sizes, seed)
    while state.phase is not None:
        n_rounds = len(state.rounds)
        state = _next(state, task, seed=seed, settings=settings)
        if len(state.rounds) > n_rounds:
            if checkpoint is not None:
                save_state(state, checkpoint, asked=asked)
            if progress is not None:
                progress(state.rounds[-1])
    masks, weights, biases = state.network.dense()
    accuracy, _ = evaluate(state.network, state.network.view(task.validation))
    network = SculptedNetwork(
        seed=seed,
        unit_step=settings.unit_step,
        edge_step=settings.edge_step,
        masks=masks,
        weights=weights,
        biases=biases,
        accuracy=accuracy,
        accepted=accuracy >= state.threshold,
    )
    test_accuracy, _ = evaluate(state.network, state.network.view(task.test))
    return WideResult(network=network, test_accuracy=test_accuracy, threshold=state.threshold, rounds=state.rounds)


def _initial(task: SplitTask, sizes: tuple[int, ...], seed: int) -> State:
    """Return the state before the first round."""
    network = CompactMLP.of(initial_stack(sizes, seeds=[seed]))
    # An input that is 0 in every sample has no effect, and its weights get no gradient but the decay.
    network = network.prune([network.masks[0] & task.train.inputs.any(0), *network.masks[1:]])
    unused = Schedule.start([100.0], smallest=100.0)
    return State(network=network, threshold=0.0, phase="dense", run=0, schedule=unused, rounds=())


def _next(state: State, task: SplitTask, *, seed: int, settings: WideSettings) -> State:
    """Do one round, skip a round that would prune nothing, or go on to the next phase."""
    phase, network, target = state.phase, state.network, 0.0
    assert phase is not None
    if phase in ("units", "edges"):
        if not state.schedule.running[0]:
            return _phase_after(state, settings)
        target = float(state.schedule.targets[0])
        if phase == "units":
            network = without_weak_units(network, task.train, state.schedule.targets)
        else:
            network = without_weak_edges(network, state.schedule.targets)
        if network.n_edges == state.network.n_edges:
            return replace(state, schedule=state.schedule.after(np.array([True])))
    start = time.perf_counter()
    threshold = state.threshold
    if phase == "units":
        threshold += settings.tolerance * (1 - settings.unit_share)
    enough = math.inf if phase == "dense" else threshold
    fitted = fit(network, task, settings=settings, key=(seed, PHASES[phase], state.run), enough=enough)
    test_accuracy, _ = evaluate(fitted.network, fitted.network.view(task.test))
    done = Round(
        phase=phase,
        target=target,
        sizes=tuple(len(units) for units in network.units),
        edges=network.n_edges,
        epochs=fitted.epochs,
        validation=fitted.accuracy,
        test=test_accuracy,
        accepted=fitted.accuracy >= threshold,
        seconds=time.perf_counter() - start,
    )
    state = replace(state, run=state.run + 1, rounds=(*state.rounds, done))
    if done.accepted:
        state = replace(state, network=fitted.network)
    if phase == "dense":
        state = replace(state, threshold=fitted.accuracy - settings.tolerance)
    if phase in ("dense", "again"):
        return _phase_after(state, settings)
    return replace(state, schedule=state.schedule.after(np.array([done.accepted])))


def _phase_after(state: State, settings: WideSettings) -> State:
    """Return the state at the start of the next phase."""
    assert state.phase is not None
    phase, sizes, schedule = NEXT_PHASE[state.phase], state.network.sizes, state.schedule
    if phase == "units":
        schedule = Schedule.start([settings.unit_step], smallest=100 / sum(sizes[1:-1]))
    elif phase == "edges":
        schedule = Schedule.start([settings.edge_step], smallest=100 / n_dense_edges(sizes))
    return replace(state, phase=phase, run=0, schedule=schedule)


def without_weak_units(network: CompactMLP, task: Task, targets: FloatArray) -> CompactMLP:
    """Prune the hidden units up to percentile `targets` (1,) of the scores of all hidden units of the dense network."""
    stack, task = network.stack(), network.view(task)
    scores = torch.zeros(1, sum(stack.sizes[1:-1]))
    for inputs, outputs in zip(task.inputs.split(CHUNK), task.targets.split(CHUNK), strict=True):
        scores += unit_score(stack, Task(inputs=inputs, targets=outputs)) * (len(inputs) / task.n_samples)
    cut = percentile_cut(scores, targets, absent=sum(network.sizes[1:-1]) - scores.shape[1])
    return network.without_units((scores > cut)[0])


def without_weak_edges(network: CompactMLP, targets: FloatArray) -> CompactMLP:
    """Prune the edges up to percentile `targets` (1,) of the |weights| of all edges of the dense network."""
    scores = edge_score(network.stack())
    cut = percentile_cut(scores, targets, absent=n_dense_edges(network.sizes) - scores.shape[1])
    kept = (scores > cut)[0].split([mask.numel() for mask in network.masks])
    return network.prune([mask & keep.view_as(mask) for mask, keep in zip(network.masks, kept, strict=True)])


def _digest(task: SplitTask) -> str:
    """Return a hash of the samples of a task."""
    digest = hashlib.sha256()
    for part in (task.train, task.validation, task.test):
        for tensor in (part.inputs, part.targets):
            digest.update(tensor.numpy().data)
    return digest.hexdigest()
