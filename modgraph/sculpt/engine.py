"""The engine: any number of networks, trained and pruned in chunks that fit the cache.

It holds what one search shares: the task, the settings, the worker threads and the count of
optimiser steps. What it is asked to do it does for a `Population`, network by network in meaning,
chunk by chunk in fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modgraph.sculpt.prune import (
    Schedule,
    edge_scores,
    percentile_cut,
    prune_edges,
    prune_units,
    unit_scores,
)
from modgraph.sculpt.stack import (
    STACK_GRAIN,
    StackedMLP,
    live_units,
    pack,
    packed_widths,
    places,
    round_up,
    unpack,
    unpack_units,
)
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import Batches, Table, TrainSettings, draw_batches, padded_table, train

__all__ = ["Engine", "Phase", "Population", "one_thread_per_operation"]

CHUNK = {"cpu": 256, "cuda": 16384}
"""Networks trained side by side: a CPU's cache holds some 256 small ones, a GPU wants many."""

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

    Threads would split a tensor at places that depend on the stack's size, and each split ends in
    scalar code that rounds differently (see `modgraph.sculpt.stack`). The chunks run in threads
    instead.
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

    task: Task
    settings: TrainSettings
    pool: Executor = field(default_factory=lambda: ThreadPoolExecutor(1))
    chunk: int = 0  # networks side by side; 0 = what suits the device
    network_steps: int = 0  # optimiser steps × networks so far
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        self.table = padded_table(self.task)
        self.chunk = self.chunk or CHUNK.get(self.task.inputs.device.type, CHUNK["cpu"])

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
        batches = draw_batches(self.task, settings=self.settings, keys=keys)
        streams = torch.from_numpy(stream.astype(np.int64)).to(self.task.inputs.device)

        def work(chunk: _Chunk) -> list[Tensor]:
            best, correct = train(
                chunk.packed,
                batches=batches,
                stream=streams[chunk.index],
                table=self.table,
                settings=self.settings,
            )
            dense = unpack(best, chunk.units, chunk.stack)
            return [correct, *dense.weights, *dense.biases]

        correct, *parts = self._map(population.stack, work)
        n_layers = len(parts) // 2
        self.network_steps += _steps(batches) * len(seeds[stream])
        return Population(
            stack=StackedMLP(
                weights=tuple(parts[:n_layers]),
                biases=tuple(parts[n_layers:]),
                masks=population.stack.masks,
            ),
            seeds=population.seeds,
            correct=correct.cpu().numpy(),
        )

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
        schedule = Schedule.start(
            steps,
            smallest=100 / self._n_prunable(population.stack, phase),
            running=self.accepted(population),
        )
        run = 0
        while schedule.running.any():
            rows = np.flatnonzero(schedule.running)  # who has ended leaves the stack at once
            candidate = population.select(rows)
            pruned = self.pruned(candidate.stack, phase=phase, targets=schedule.targets[rows])
            trained = self.train(
                Population(stack=pruned, seeds=candidate.seeds, correct=candidate.correct),
                phase=phase,
                run=run,
            )
            passed = self.accepted(trained)
            population = population.replace(rows[passed], trained.select(np.flatnonzero(passed)))
            accepted = np.zeros_like(schedule.running)
            accepted[rows] = passed
            schedule = schedule.after(accepted)
            run += 1
            if progress is not None:
                progress(int((~schedule.running).sum()))
        return population

    @staticmethod
    def _n_prunable(stack: StackedMLP, phase: Phase) -> int:
        """Return the number of hidden units, or of edges, of the dense network."""
        if phase == "units":
            return sum(stack.sizes[1:-1])
        return sum(mask[0].numel() for mask in stack.masks)

    def pruned(self, stack: StackedMLP, *, phase: Phase, targets: NDArray[np.float64]) -> StackedMLP:
        """Prune every network once, at the percentile `targets` (N,) of its own scores."""
        if phase == "units":
            scores = self._unit_scores(stack)  # (N, hidden units)
            return prune_units(stack, scores > percentile_cut(scores, targets))
        scores = edge_scores(stack)  # (N, edges)
        return prune_edges(stack, scores > percentile_cut(scores, targets))

    def _unit_scores(self, stack: StackedMLP) -> Tensor:
        """Return the scores of all hidden units of all layers, (N, hidden units)."""

        def work(chunk: _Chunk) -> list[Tensor]:
            scores = unit_scores(
                chunk.packed,
                inputs=self.table.inputs,
                targets=self.table.targets,
                cells=self.table.cells,
            )
            hidden = zip(scores, chunk.units[1:-1], stack.sizes[1:-1], strict=True)
            return [unpack_units(score, units, n) for score, units, n in hidden]

        return torch.cat(self._map(stack, work), dim=1)

    def _map(self, stack: StackedMLP, work: Callable[[_Chunk], list[Tensor]]) -> list[Tensor]:
        """Do `work` on all chunks of the stack; return its tensors, rows in the stack's order."""
        chunks = list(_chunks(stack, self.chunk))
        done = list(self.pool.map(work, chunks))
        order = torch.cat([chunk.index[: chunk.n_real] for chunk in chunks]).argsort()
        return [
            torch.cat([part[: chunk.n_real] for chunk, part in zip(chunks, parts, strict=True)])[order]
            for parts in zip(*done, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Chunk:
    """Networks of one packed shape."""

    index: Tensor  # (B,) int64: rows of the whole stack; B is a multiple of STACK_GRAIN
    n_real: int  # the rest repeats the first network, to fill up the vectors
    stack: StackedMLP  # B networks in dense shape
    units: Sequence[Tensor]  # the places that `packed` has
    packed: StackedMLP


def _chunks(stack: StackedMLP, size: int) -> Iterator[_Chunk]:
    """Cut a stack into chunks of at most `size` networks that pack to the same widths."""
    live = live_units(stack)
    shapes: dict[tuple[int, ...], list[int]] = {}
    for network, widths in enumerate(packed_widths(live)):
        shapes.setdefault(widths, []).append(network)
    for widths, networks in shapes.items():
        for start in range(0, len(networks), size):
            members = networks[start : start + size]
            filling = [members[0]] * (round_up(len(members), STACK_GRAIN) - len(members))
            index = torch.tensor(members + filling, device=live[0].device)  # (B,)
            some = stack.select(index)
            units = places([alive[index] for alive in live], widths)
            yield _Chunk(
                index=index,
                n_real=len(members),
                stack=some,
                units=units,
                packed=pack(some, units),
            )


def _steps(batches: Batches) -> int:
    """Return the optimiser steps of one training run."""
    return batches.inputs.shape[1] * batches.inputs.shape[2]
