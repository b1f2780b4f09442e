"""The search: seeds × settings → the chosen network of each trial, and the hierarchy they agree on.

A trial (one seed) is a tree. The dense network is trained once; from it one unit phase starts for each unit step; from
the result of each, trained once more, one edge phase starts for each edge step. No branch is computed twice, and all
networks of a level are computed side by side.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from modgraph.arrays import BoolArray, FloatArray
from modgraph.checks import check_ints
from modgraph.dag import LayeredDAG
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.sculpt.choose import Consensus, check_rule, chosen_networks, consensus
from modgraph.sculpt.contradictions import least_contradicting, with_confidence
from modgraph.sculpt.engine import Engine, Population, Search, one_thread_per_operation
from modgraph.sculpt.prune import Criterion, check_criteria
from modgraph.sculpt.rounds import Round
from modgraph.sculpt.stack import arrays_of, on_paths
from modgraph.sculpt.state import Checkpoint, fingerprint
from modgraph.sculpt.tasks import HasTruthTable, as_task
from modgraph.sculpt.train import TrainSettings

UNIT_STEPS: tuple[float, ...] = tuple(range(70, 0, -5))
"""The published unit steps P_u, in percent of the hidden units: 70, 65, …, 5."""

EDGE_STEPS: tuple[float, ...] = (2.5, 2, 1.5, 1, 0.5)
"""The published edge steps P_e, in percent of the edges."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SculptedNetwork:
    """One network, trained and pruned with one setting.

    Attributes
    ----------
    seed : int
        Seed of the trial.
    unit_step, edge_step : float
        P_u and P_e, percent.
    masks : tuple of numpy.ndarray
        (out, in) bool of the dense shape, read-only; True = kept.
    weights : tuple of numpy.ndarray
        (out, in) float32, read-only; exactly 0 where pruned.
    biases : tuple of numpy.ndarray
        (out,) float32, read-only; exactly 0 where a unit has no incoming edge.
    accuracy : float
        The metric on the samples that decide: the clean table, or the validation samples.
    accepted : bool
        Whether `accuracy` reaches the threshold. Otherwise this is the dense network, unpruned.
    metric : str
        Name of the metric: for `sculpt` the share of correct output bits.
    activation : str
        Activation of the outputs.
    """

    seed: int
    unit_step: float
    edge_step: float
    masks: tuple[NDArray[np.bool_], ...]
    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    accuracy: float
    accepted: bool
    metric: str = "bit accuracy"
    activation: str = "sigmoid"

    @property
    def edges(self) -> int:
        """Number of edges kept."""
        return sum(int(np.count_nonzero(mask)) for mask in self.masks)

    @property
    def dag(self) -> LayeredDAG:
        """The network as a layered graph."""
        activations = ["relu"] * (len(self.masks) - 1) + [self.activation]
        return LayeredDAG.from_masks(self.masks, weights=self.weights, biases=self.biases, activations=activations)

    @property
    def hierarchy(self) -> ModuleHierarchy:
        """Its modules; detected anew on each access."""
        return detect_modules(self.dag)

    def __repr__(self) -> str:
        steps = f"unit_step={self.unit_step:g}, edge_step={self.edge_step:g}"
        result = f"edges={self.edges}, {self.metric} {self.accuracy:.4g}, accepted={self.accepted}"
        return f"SculptedNetwork(seed={self.seed}, {steps}, {result})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SculptResult:
    """The networks that `sculpt` found.

    Attributes
    ----------
    networks : tuple of SculptedNetwork
        The chosen network of each trial, in the order of the seeds.
    candidates : tuple of SculptedNetwork
        Every setting of every trial, by seed, then unit step, then edge step.
    consensus : Consensus or None
        The hierarchy that the accepted candidates of all trials agree on (see `modgraph.sculpt.consensus`), with its
        share of the votes and the runners-up; None if no network was accepted.
    network_steps : int
        Optimiser steps × networks spent.
    """

    networks: tuple[SculptedNetwork, ...]
    candidates: tuple[SculptedNetwork, ...]
    consensus: Consensus[SculptedNetwork] | None
    network_steps: int
    _engine: Engine

    def rounds(self, network: SculptedNetwork) -> tuple[Round, ...]:
        """Train a candidate again, by itself, and return every training run.

        Parameters
        ----------
        network : SculptedNetwork
            One of the candidates.

        Returns
        -------
        tuple of Round
            As in `WideResult`. The last accepted one has the edges and the accuracy of `network`: on a CPU its results
            don't depend on the networks beside it.
        """
        engine, rounds, n_dense = self._engine, list[Round](), sum(mask.size for mask in network.masks)
        start = time.perf_counter()

        def note(search: Search, trained: Population, accepted: BoolArray) -> None:
            assert search.phase is not None
            edges = int(trained.stack.n_edges[0])
            done = Round(
                phase=search.phase,
                target=float(search.schedule.targets[0]) if search.phase in ("units", "edges") else 0.0,
                sizes=tuple(int(units.sum()) for units in on_paths(trained.stack.masks)),
                edges=edges,
                density=edges / n_dense,
                epochs=engine.settings.epochs,
                metric=network.metric,
                validation=float(engine.accuracy(trained)[0]),
                test=math.nan,
                accepted=bool(accepted[0]),
                seconds=time.perf_counter() - start - sum(done.seconds for done in rounds),
            )
            rounds.append(done)

        steps_of = {"units": np.array([network.unit_step]), "edges": np.array([network.edge_step])}
        sizes = (network.masks[0].shape[1], *(len(mask) for mask in network.masks))
        with one_thread_per_operation():
            search = engine.first(sizes, [network.seed])
            while search.phase is not None:
                while not engine.is_over(search):
                    search = engine.advance(search, note=note)
                search = engine.next_phase(search, steps_of)
        return tuple(rounds)

    def __repr__(self) -> str:
        accepted = sum(network.accepted for network in self.networks)
        agreed = "" if self.consensus is None else f"{self.consensus!r}, "
        return (
            f"SculptResult({len(self.networks)} trials, {accepted} accepted, "
            f"{len(self.candidates)} candidates, {agreed}{self.network_steps} network-steps)"
        )


def sculpt(
    target: HasTruthTable | tuple[ArrayLike, ArrayLike],
    *,
    hidden: Sequence[int],
    seeds: Iterable[int] = range(4),
    unit_steps: Sequence[float] = UNIT_STEPS,
    edge_steps: Sequence[float] = EDGE_STEPS,
    settings: TrainSettings | None = None,
    choose: str | Callable[[Sequence[SculptedNetwork]], SculptedNetwork] = "consensus",
    unit_score: str | Criterion = "published",
    edge_score: str | Criterion = "published",
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> SculptResult:
    """Train networks on a task and prune them as far as they stay accurate.

    The method is Neural Sculpting (Patil, Michael, Dovrolis, NeurIPS 2023, §3): units are pruned by their mean
    ``|activation × gradient|``, then edges by ``|weight|``, in steps that are halved when a network fails.

    The result of a network depends on its seed and setting only, not on the other networks of the same call: on a CPU
    to the last bit, for any number of threads; on a CUDA device up to rounding. The random numbers are the same on
    every device.

    Parameters
    ----------
    target : FunctionGraph or pair of array-like
        The function to learn, or its table: inputs (n, n_in) and outputs (n, n_out) of 0 and 1.
    hidden : sequence of int
        Units of the hidden layers, each ≥ 1; at least one layer.
    seeds : iterable of int
        One for each trial, ≥ 0, all different.
    unit_steps, edge_steps : sequence of float
        P_u and P_e of the settings that each trial tries: percentages in (0, 100], all different.
    settings : TrainSettings, optional
        How networks are trained and accepted; the defaults suit a function of four inputs.
    choose : {"consensus", "fewest_edges", "smallest_cones", "fewest_joined_inputs"} or callable
        How the network of a trial is chosen among its accepted candidates. "consensus": so that the trials agree (see
        `modgraph.sculpt.by_consensus`). "fewest_edges": as published. A callable gets the candidates of one trial, at
        least one, and returns one of them. No rule sees the target.
    unit_score, edge_score : {"published", "taylor", "fisher", "random"} or callable
        What is pruned first: the hidden units and the edges with the lowest scores. *published*: units by the mean of
        ``|activation × gradient|``, edges by ``|weight|``. *taylor*: both by how much the mean loss changes without
        them, to first order. *fisher*: the same to second order, by the Fisher information (optimal brain damage). For
        edges also *surgeon*: the same where the other edges of a unit make up for one, and their weights are changed so
        (optimal brain surgeon; slow for many networks). *random*: random numbers. A callable gets a `StackedMLP` of B
        networks and a `Task`, and returns scores ≥ 0, (B, hidden units of all layers) or (B, edges of all layers); what
        is pruned counts as 0.
    checkpoint : path-like, optional
        A file (.npz) that is written after every round. If it exists, the search continues from it and ends with the
        same networks as an uninterrupted one.
    device : str or torch.device, optional
        Device to compute on; by default a CUDA device if there is one, else the CPU.
    progress : callable, optional
        Called as ``progress(done, total)`` after every round; `done` grows to `total`.

    Returns
    -------
    SculptResult
        A trial whose dense network misses the accuracy threshold has ``accepted=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, shape or range.

    Examples
    --------
    >>> xor = ([[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]])
    >>> found = sculpt(xor, hidden=(8,), seeds=[0], unit_steps=[50], edge_steps=[10])
    >>> found.networks[0].accepted, found.networks[0].edges < 24
    (True, True)
    """
    check_rule(choose)
    widths = check_ints("hidden", hidden, at_least=1)
    trials = check_ints("seeds", seeds, at_least=0)
    if len(set(trials)) < len(trials):
        raise ValueError(f"`seeds` must be distinct (got {list(trials)})")
    unit, edge = _check_steps("unit_steps", unit_steps), _check_steps("edge_steps", edge_steps)
    device = _check_device(device)
    task, settings = as_task(target, device=device), settings or TrainSettings()
    criteria = check_criteria(unit_score, edge_score)
    sizes = (task.inputs.shape[1], *widths, task.n_outputs)
    steps_of: dict[str, FloatArray] = {"units": unit, "edges": edge}
    n_seeds, n_units, n_edges = len(trials), len(unit), len(edge)
    # Networks done before each level of the trees: dense networks, unit phases, edge phases.
    done_dense, done_units, total = np.cumsum([n_seeds, n_seeds * n_units, n_seeds * n_units * n_edges]).tolist()
    done_before = {"units": done_dense, "edges": done_units}
    asked = fingerprint(sizes, trials, settings, unit, edge, unit_score, edge_score, task)

    with one_thread_per_operation() as threads:
        engine = Engine(task=task, settings=settings, threads=threads, criteria=criteria)
        saved = Checkpoint(path=checkpoint, asked=asked, device=device)
        search: Search = saved.load() or engine.first(sizes, trials)
        while search.phase is not None:
            phase = search.phase
            while not engine.is_over(search):
                search = engine.advance(search)
                saved.save(search)
                if progress is not None and phase in done_before:
                    progress(done_before[phase] + int((~search.schedule.running).sum()), total)
            if progress is not None and phase in ("dense", "edges"):
                progress(done_dense if phase == "dense" else total, total)
            search = engine.next_phase(search, steps_of)
    networks = search.networks
    steps = [(p_u, p_e) for p_u in unit.tolist() for p_e in edge.tolist()]
    candidates = _unstacked(networks, engine, steps * n_seeds)
    by_trial = [candidates[start : start + len(steps)] for start in range(0, len(candidates), len(steps))]
    accepted = [[candidate for candidate in trial if candidate.accepted] for trial in by_trial]
    # All accepted networks compute the same function: whose modules contradict it don't vote.
    function = task.inputs.cpu().numpy(), task.targets.cpu().numpy()
    voters = least_contradicting(accepted, function=function)
    agreed = consensus(voters)
    asked_of = voters if choose == "consensus" else accepted
    chosen = iter(chosen_networks([trial for trial in asked_of if trial], choose))
    return SculptResult(
        networks=tuple(next(chosen) if some else trial[0] for some, trial in zip(accepted, by_trial, strict=True)),
        candidates=tuple(candidates),
        consensus=agreed and with_confidence(agreed, function=function),
        network_steps=search.network_steps,
        _engine=engine,
    )


def _unstacked(networks: Population, engine: Engine, steps: Sequence[tuple[float, float]]) -> list[SculptedNetwork]:
    """Turn a population into one object for each network; their arrays share the population's memory."""
    accuracy, accepted = engine.accuracy(networks), engine.accepted(networks)
    return [
        SculptedNetwork(
            seed=int(networks.seeds[row]),
            unit_step=unit_step,
            edge_step=edge_step,
            **arrays,
            accuracy=float(accuracy[row]),
            accepted=bool(accepted[row]),
        )
        for row, ((unit_step, edge_step), arrays) in enumerate(zip(steps, arrays_of(networks.stack), strict=True))
    ]


def _check_steps(name: str, values: Sequence[float]) -> FloatArray:
    """Return `values` as distinct percentages, or raise one sentence."""
    wanted = f"`{name}` must be distinct percentages in (0, 100], at least one of them"
    try:
        steps = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{wanted} (got {values!r})") from None
    inside = steps.ndim == 1 and steps.size > 0 and bool(((steps > 0) & (steps <= 100)).all())
    if not inside or len(np.unique(steps)) < len(steps):
        raise ValueError(f"{wanted} (got {values!r})")
    return steps


def _check_device(device: str | torch.device | None) -> torch.device:
    """Return the device to compute on."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"`device` must be a torch device (got {device!r})") from None
