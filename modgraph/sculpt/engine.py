"""The engine: any number of networks, trained and pruned side by side.

It holds what one search shares: the task, the settings and the count of optimiser steps. What it
is asked to do it does for a `Population`, network by network in meaning, all at once in fact: on a
CPU with the compiled kernel, else with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modgraph.sculpt import kernel, prune, train
from modgraph.sculpt.prune import Schedule, edge_scores, percentile_cut, prune_units
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import TrainSettings, draw

__all__ = ["Engine", "Phase", "Population", "one_thread_per_operation"]

Phase = Literal["dense", "units", "again", "edges"]
PHASES: dict[Phase, int] = {"dense": 1, "units": 2, "again": 3, "edges": 4}
"""The middle part of a random stream's key (seed, phase, run); 0 is the initial weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """Networks and what is known about them; row b of everything is network b.

    Attributes
    ----------
    stack : StackedMLP
        N networks in dense shape.
    seeds : numpy.ndarray
        (N,) int64.
    correct : numpy.ndarray
        (N,) int64: output bits that are right on the clean table.
    """

    stack: StackedMLP
    seeds: NDArray[np.int64]
    correct: NDArray[np.int64]

    def select(self, index: NDArray[np.int64]) -> Population:
        """Return the networks at `index`; repeats are allowed."""
        return Population(
            stack=self.stack.select(torch.from_numpy(index)),
            seeds=self.seeds[index],
            correct=self.correct[index],
        )

    def replace(self, index: NDArray[np.int64], other: Population) -> Population:
        """Return this population with the networks at `index` replaced by those of `other`."""
        correct = self.correct.copy()
        correct[index] = other.correct
        return Population(
            stack=self.stack.replace(torch.from_numpy(index), other.stack),
            seeds=self.seeds,
            correct=correct,
        )


@contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Let each torch operation run in one thread, and give back how many it could have had.

    Between two calls of the kernel torch has many small things to do, and threads cost it more than they bring: on two
    cores with company, a hundred times more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@dataclass(slots=True, kw_only=True, eq=False)
class Engine:
    """Trains and prunes populations on one task with one set of settings.

    Attributes
    ----------
    task : Task
        What is learnt; its device is where torch computes.
    settings : TrainSettings
        How.
    threads : int
        How many may compute at once.
    compiled : bool
        Whether `modgraph.sculpt.kernel` computes; by default where the task is on a CPU.
    network_steps : int
        Optimiser steps × networks so far.
    """

    task: Task
    settings: TrainSettings
    threads: int = 1
    compiled: bool | None = None
    network_steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.compiled is None:
            self.compiled = self.task.inputs.device.type == "cpu"

    def accepted(self, population: Population) -> NDArray[np.bool_]:
        """Return which networks reach the accuracy threshold, (N,) bool."""
        return self.accuracy(population) >= self.settings.accuracy_threshold

    def accuracy(self, population: Population) -> NDArray[np.float64]:
        """Return each network's share of right output bits, (N,)."""
        return population.correct / self.task.targets.numel()

    def train(self, population: Population, *, phase: Phase, run: int) -> Population:
        """Train every network once, on the random numbers of its (seed, `phase`, `run`)."""
        seeds, stream = np.unique(population.seeds, return_inverse=True)
        keys = [(int(seed), PHASES[phase], run) for seed in seeds]
        one_run = partial(kernel.train, threads=self.threads) if self.compiled else train.train
        stack, correct = one_run(
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
        """Train the accepted networks once more; one that is rejected then stays as it was."""
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
        steps: NDArray[np.float64],
        progress: Callable[[int], None] | None = None,
    ) -> Population:
        """Prune every network as far as it stays accepted: one whole phase.

        Parameters
        ----------
        population : Population
            Where to start; networks that are not accepted come back as they are.
        phase : {"units", "edges"}
            What is pruned, and how it is scored.
        steps : numpy.ndarray
            (N,) each network's first step, in percent.
        progress : callable, optional
            Called after every round with the number of networks that have ended.

        Returns
        -------
        Population
            Every network's last accepted state.
        """
        # All running networks are in the same round: each trains for the `run`-th time here.
        sizes = population.stack.sizes
        n_prunable = sum(sizes[1:-1]) if phase == "units" else sum(a * b for a, b in pairwise(sizes))
        schedule = Schedule.start(steps, smallest=100 / n_prunable, running=self.accepted(population))
        rows = np.flatnonzero(schedule.running)
        state, run = population.select(rows), 0
        while rows.size:
            pruned = self.pruned(state.stack, phase=phase, targets=schedule.targets[rows])
            candidate = Population(stack=pruned, seeds=state.seeds, correct=state.correct)
            trained = self.train(candidate, phase=phase, run=run)
            passed = self.accepted(trained)
            state = state.replace(np.flatnonzero(passed), trained.select(np.flatnonzero(passed)))
            accepted = np.zeros_like(schedule.running)
            accepted[rows] = passed
            schedule = schedule.after(accepted)
            running = schedule.running[rows]
            if not running.all():  # who has ended leaves at once
                population = population.replace(rows[~running], state.select(np.flatnonzero(~running)))
                rows, state = rows[running], state.select(np.flatnonzero(running))
            run += 1
            if progress is not None:
                progress(int((~schedule.running).sum()))
        return population

    def pruned(self, stack: StackedMLP, *, phase: Phase, targets: NDArray[np.float64]) -> StackedMLP:
        """Prune every network once, at the percentile `targets` (N,) of its own scores."""
        if phase == "units":
            scores = self.unit_scores(stack)  # (N, hidden units)
            return prune_units(stack, scores > percentile_cut(scores, targets))
        scores = edge_scores(stack)  # (N, edges)
        return stack.prune(scores > percentile_cut(scores, targets))

    def unit_scores(self, stack: StackedMLP) -> Tensor:
        """Return the scores of all hidden units of all layers, (N, hidden units)."""
        if self.compiled:
            return kernel.unit_scores(stack, task=self.task, threads=self.threads)
        return prune.unit_scores(stack, task=self.task)
