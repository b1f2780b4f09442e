"""The engine: any number of networks, trained and pruned side by side.

What it does is defined per network and computed as one batch: on a CPU with the compiled kernel, else with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.sculpt import kernel, train
from modgraph.sculpt.objective import BITS
from modgraph.sculpt.prune import (
    PUBLISHED,
    UNUSED,
    Criteria,
    Schedule,
    compensated,
    percentile_cut,
    prune_units,
    scored,
)
from modgraph.sculpt.stack import StackedMLP, initial_stack, n_dense_edges
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import TrainSettings, draw

Phase = Literal["dense", "units", "again", "edges"]
PHASES: dict[Phase, int] = {"dense": 1, "units": 2, "again": 3, "edges": 4}
"""Second part of the key of a random stream, (seed, phase, run); 0 is that of the initial weights."""
NEXT_PHASE: dict[Phase, Phase | None] = {"dense": "units", "units": "again", "again": "edges", "edges": None}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """N networks, their seeds and their results; row b of each field belongs to network b."""

    stack: StackedMLP  # N networks in the shape of the dense network
    seeds: IntArray  # (N,) int64
    correct: IntArray  # (N,) int64: correct output bits on the clean table; −1 = not yet evaluated

    def select(self, index: IntArray) -> Population:
        """Return the networks at `index`; repeats are allowed."""
        stack = self.stack.select(torch.from_numpy(index))
        return Population(stack=stack, seeds=self.seeds[index], correct=self.correct[index])

    def write(self, index: IntArray, other: Population) -> None:
        """Replace the networks at `index` by those of `other`, in place: a late round changes a few of thousands."""
        rows = torch.from_numpy(index)
        self.stack.parameters[rows], self.stack.kept[rows] = other.stack.parameters, other.stack.kept
        self.correct[index] = other.correct


@contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Run each torch operation in one thread; yields the number of threads that torch had.

    Between two calls of the kernel torch has many small operations, which threads slow down: on a busy machine with
    two cores a hundred times.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """Everything that the next round of a search needs."""

    networks: Population  # in their last accepted state
    phase: Phase | None = "dense"  # phase of the next round; None: finished
    run: int = 0  # number of rounds of this phase so far
    schedule: Schedule = UNUSED  # in the phases "units" and "edges"
    network_steps: int = 0  # optimiser steps × networks so far


Note = Callable[[Search, Population, BoolArray], object]


@dataclass(slots=True, kw_only=True, eq=False)
class Engine:
    """Trains and prunes populations on one task with one set of settings."""

    task: Task  # the task to learn; torch computes on its device
    settings: TrainSettings
    threads: int = 1  # number of threads for the kernel
    compiled: bool | None = None  # whether to use `modgraph.sculpt.kernel`; by default where the task is on a CPU
    criteria: Criteria = field(default_factory=lambda: PUBLISHED)  # what is pruned first
    baseline: float = field(init=False)  # bit accuracy of a constant, which an accepted network exceeds

    def __post_init__(self) -> None:
        self.baseline = BITS.baseline(self.task.targets, self.task.targets)

    @property
    def uses_kernel(self) -> bool:
        """Whether the compiled kernel is used."""
        return self.task.inputs.device.type == "cpu" if self.compiled is None else self.compiled

    def accepted(self, population: Population) -> BoolArray:
        """Return which networks reach the threshold and exceed a constant predictor, (N,) bool."""
        accuracy, right = self.accuracy(population), population.correct == self.task.targets.numel()
        enough: BoolArray = (accuracy >= self.settings.accuracy_threshold) & ((accuracy > self.baseline) | right)
        return enough

    def accuracy(self, population: Population) -> FloatArray:
        """Return the share of correct output bits of each network, (N,)."""
        return population.correct / self.task.targets.numel()

    def train(self, population: Population, *, phase: Phase, run: int) -> Population:
        """Train every network once, on the random numbers of its (seed, `phase`, `run`)."""
        seeds, stream = np.unique(population.seeds, return_inverse=True)
        keys = [(int(seed), PHASES[phase], run) for seed in seeds]
        train_once = partial(kernel.train, threads=self.threads) if self.uses_kernel else train.train
        stack, correct = train_once(
            population.stack,
            draws=draw(self.task, settings=self.settings, keys=keys),
            stream=torch.from_numpy(stream.astype(np.int64)).to(self.task.inputs.device),
            task=self.task,
            settings=self.settings,
        )
        return Population(stack=stack, seeds=population.seeds, correct=correct.cpu().numpy())

    def pruned(
        self, stack: StackedMLP, *, phase: Phase, targets: FloatArray, keys: Sequence[tuple[int, ...]] = ()
    ) -> StackedMLP:
        """Prune every network once, at the percentile `targets` (N,) of its own scores; see `scored` for `keys`."""
        if self.uses_kernel and (phase, self.criteria[phase]) == ("units", "published"):
            scores = kernel.unit_score(stack, self.task, threads=self.threads)
        else:
            scores = scored(phase, self.criteria[phase], stack, self.task, keys=keys)
        keep = scores > percentile_cut(scores, targets)
        if (phase, self.criteria[phase]) == ("edges", "surgeon"):
            stack = compensated(stack, keep, self.task)
        return prune_units(stack, keep) if phase == "units" else stack.prune(keep)

    def first(self, sizes: Sequence[int], seeds: Sequence[int]) -> Search:
        """Return the state before the first round, with a dense network for each seed."""
        stack = initial_stack(sizes, seeds=seeds, device=self.task.inputs.device)
        return Search(networks=Population(stack=stack, seeds=np.array(seeds), correct=np.full(len(seeds), -1)))

    def advance(self, search: Search, *, note: Note | None = None) -> Search:
        """Do one round of the phase: train all networks that take part in it, and write the results into the search.

        A dense network takes part until it is accepted; it is trained from where it is. A network that is being pruned
        keeps its last accepted state. `note` gets the state before, the trained networks, and which are accepted.
        """
        phase, population, schedule = search.phase, search.networks, search.schedule
        assert phase is not None
        prunes = phase in ("units", "edges")
        part = schedule.running if prunes else self.accepted(population) == (phase == "again")
        rows = np.flatnonzero(part)
        if rows.size:
            before = population.select(rows)
            if prunes:
                keys = [(int(seed), PHASES[phase], search.run, 1) for seed in before.seeds]
                stack = self.pruned(before.stack, phase=phase, targets=schedule.targets[rows], keys=keys)
                before = replace(before, stack=stack)
            trained = self.train(before, phase=phase, run=search.run)
            passed = self.accepted(trained)
            written = passed | (phase == "dense")
            population.write(rows[written], trained.select(np.flatnonzero(written)))
            if note is not None:
                note(search, trained, passed)
            accepted = np.zeros_like(part)
            accepted[rows] = passed
            schedule = schedule.after(accepted) if prunes else schedule
        return replace(
            search,
            run=search.run + 1,
            schedule=schedule,
            network_steps=search.network_steps + self.settings.steps(self.task.n_samples) * rows.size,
        )

    def is_over(self, search: Search) -> bool:
        """Return whether the phase has no further round."""
        match search.phase:
            case "dense":
                return search.run == self.settings.dense_runs or bool(self.accepted(search.networks).all())
            case "again":
                return search.run == 1
        return not search.schedule.running.any()

    def next_phase(self, search: Search, steps_of: Mapping[str, FloatArray]) -> Search:
        """Return the state before the first round of the next phase; each network is repeated for each of its steps."""
        assert search.phase is not None
        phase = NEXT_PHASE[search.phase]
        networks, sizes, schedule = search.networks, search.networks.stack.sizes, search.schedule
        if phase is not None and phase in steps_of:
            n_networks, steps = len(networks.seeds), steps_of[phase]
            networks = networks.select(np.repeat(np.arange(n_networks), len(steps)))
            n_prunable = sum(sizes[1:-1]) if phase == "units" else n_dense_edges(sizes)
            schedule = Schedule.start(
                np.tile(steps, n_networks), smallest=100 / n_prunable, running=self.accepted(networks)
            )
        return replace(search, networks=networks, phase=phase, run=0, schedule=schedule)
