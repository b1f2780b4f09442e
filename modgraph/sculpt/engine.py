"""The engine: any number of networks, trained and pruned side by side.

What it does is defined per network and computed as one batch: on a CPU with the compiled kernel, else with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.sculpt import kernel, prune, train
from modgraph.sculpt.prune import Schedule, edge_score, percentile_cut, prune_units
from modgraph.sculpt.stack import StackedMLP, n_dense_edges
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import TrainSettings, draw

Phase = Literal["dense", "units", "again", "edges"]
PHASES: dict[Phase, int] = {"dense": 1, "units": 2, "again": 3, "edges": 4}
"""Second part of the key of a random stream, (seed, phase, run); 0 is that of the initial weights."""


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

    def replace(self, index: IntArray, other: Population) -> Population:
        """Return this population with the networks at `index` replaced by those of `other`."""
        correct = self.correct.copy()
        correct[index] = other.correct
        return replace(self, stack=self.stack.replace(torch.from_numpy(index), other.stack), correct=correct)


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


@dataclass(slots=True, kw_only=True, eq=False)
class Engine:
    """Trains and prunes populations on one task with one set of settings."""

    task: Task  # the task to learn; torch computes on its device
    settings: TrainSettings
    threads: int = 1  # number of threads for the kernel
    compiled: bool | None = None  # whether to use `modgraph.sculpt.kernel`; by default where the task is on a CPU
    network_steps: int = field(default=0, init=False)  # optimiser steps × networks so far

    def __post_init__(self) -> None:
        if self.compiled is None:
            self.compiled = self.task.inputs.device.type == "cpu"

    def accepted(self, population: Population) -> BoolArray:
        """Return which networks reach the accuracy threshold, (N,) bool."""
        return self.accuracy(population) >= self.settings.accuracy_threshold

    def accuracy(self, population: Population) -> FloatArray:
        """Return the share of correct output bits of each network, (N,)."""
        return population.correct / self.task.targets.numel()

    def train(self, population: Population, *, phase: Phase, run: int) -> Population:
        """Train every network once, on the random numbers of its (seed, `phase`, `run`)."""
        seeds, stream = np.unique(population.seeds, return_inverse=True)
        keys = [(int(seed), PHASES[phase], run) for seed in seeds]
        train_once = partial(kernel.train, threads=self.threads) if self.compiled else train.train
        stack, correct = train_once(
            population.stack,
            draws=draw(self.task, settings=self.settings, keys=keys),
            stream=torch.from_numpy(stream.astype(np.int64)).to(self.task.inputs.device),
            task=self.task,
            settings=self.settings,
        )
        self.network_steps += self.settings.steps(self.task.n_samples) * len(stream)
        return Population(stack=stack, seeds=population.seeds, correct=correct.cpu().numpy())

    def train_until_accepted(self, population: Population) -> Population:
        """Train dense networks, from where they are, up to ``settings.dense_runs`` times each."""
        for run in range(self.settings.dense_runs):
            rows = np.flatnonzero(~self.accepted(population))
            if rows.size:
                trained = self.train(population.select(rows), phase="dense", run=run)
                population = population.replace(rows, trained)
        return population

    def train_once_more(self, population: Population) -> Population:
        """Train the accepted networks once more; a network that is then rejected stays as it was."""
        rows = np.flatnonzero(self.accepted(population))
        if not rows.size:
            return population
        again = self.train(population.select(rows), phase="again", run=0)
        passed = np.flatnonzero(self.accepted(again))
        return population.replace(rows[passed], again.select(passed))

    def prune_and_train(
        self,
        population: Population,
        *,
        phase: Literal["units", "edges"],
        steps: FloatArray,
        progress: Callable[[int], None] | None = None,
    ) -> Population:
        """Prune every network as far as it stays accepted, with `steps` (N,) in percent at first: one phase.

        Networks that are not accepted come back unchanged, the others in their last accepted state. After every round
        `progress` gets the number of networks that have ended.
        """
        # All running networks are in the same round, number `run`.
        sizes = population.stack.sizes
        n_prunable = sum(sizes[1:-1]) if phase == "units" else n_dense_edges(sizes)
        schedule = Schedule.start(steps, smallest=100 / n_prunable, running=self.accepted(population))
        rows = np.flatnonzero(schedule.running)
        state, run = population.select(rows), 0
        while rows.size:
            pruned = self.pruned(state.stack, phase=phase, targets=schedule.targets[rows])
            trained = self.train(replace(state, stack=pruned), phase=phase, run=run)
            passed = self.accepted(trained)
            state = state.replace(np.flatnonzero(passed), trained.select(np.flatnonzero(passed)))
            accepted = np.zeros_like(schedule.running)
            accepted[rows] = passed
            schedule = schedule.after(accepted)
            running = schedule.running[rows]
            if not running.all():  # the next round computes running networks only
                population = population.replace(rows[~running], state.select(np.flatnonzero(~running)))
                rows, state = rows[running], state.select(np.flatnonzero(running))
            run += 1
            if progress is not None:
                progress(int((~schedule.running).sum()))
        return population

    def pruned(self, stack: StackedMLP, *, phase: Phase, targets: FloatArray) -> StackedMLP:
        """Prune every network once, at the percentile `targets` (N,) of its own scores."""
        if phase == "edges":
            scores = edge_score(stack)  # (N, edges)
        else:  # (N, hidden units)
            score = partial(kernel.unit_score, threads=self.threads) if self.compiled else prune.unit_score
            scores = score(stack, self.task)
        keep = scores > percentile_cut(scores, targets)
        return prune_units(stack, keep) if phase == "units" else stack.prune(keep)
