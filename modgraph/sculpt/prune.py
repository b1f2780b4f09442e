"""Pruning: scores, percentile cuts, and the accept / back-track / halve schedule.

Everything is for a whole stack: row b of a score, a cut or a schedule is network b's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modgraph.sculpt.stack import StackedMLP, activations, edges_of
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import slopes

__all__ = ["Schedule", "edge_scores", "percentile_cut", "prune_units", "unit_scores"]


def unit_scores(stack: StackedMLP, *, task: Task) -> Tensor:
    """Score every hidden unit: the mean over samples of |activation × ∂loss/∂activation|.

    The loss is that of one sample at a time: binary cross-entropy, mean over outputs
    (Patil et al. 2023, §3; clean inputs). An inactive unit's activation is 0, so the derivative
    may be taken before or after its ReLU.

    Returns
    -------
    torch.Tensor
        (B, hidden units of all layers) float32 ≥ 0.
    """
    values = activations(stack, task.inputs)  # [l]: (B, n, units)
    hidden = zip(values[1:-1], slopes(stack, values, task.targets), strict=False)
    return torch.cat([(value * slope).abs().mean(1) for value, slope in hidden], dim=1)


def edge_scores(stack: StackedMLP) -> Tensor:
    """Score every edge of the dense network by |weight|, (B, edges of all layers); pruned: 0."""
    return edges_of(stack.parameters, stack.sizes).abs()


def percentile_cut(scores: Tensor, targets: NDArray[np.float64], *, absent: int = 0) -> Tensor:
    """Return each row's percentile, linearly interpolated as `numpy.percentile` does.

    Parameters
    ----------
    scores : torch.Tensor
        (B, n) float32 ≥ 0, n ≥ 1.
    targets : numpy.ndarray
        (B,) percentages in [0, 100].
    absent : int ≥ 0
        Scores of 0 that each row has besides.

    Returns
    -------
    torch.Tensor
        (B, 1) float64: keep what is strictly above.

    Examples
    --------
    >>> percentile_cut(torch.tensor([[1.0, 3.0, 2.0]]), np.array([75.0]))
    tensor([[2.5000]], dtype=torch.float64)
    >>> percentile_cut(torch.tensor([[3.0]]), np.array([75.0]), absent=2)
    tensor([[1.5000]], dtype=torch.float64)
    """
    # (B, n); NumPy sorts rows four times as fast as torch does on a CPU
    ordered = scores.sort(dim=1).values if scores.is_cuda else torch.from_numpy(np.sort(scores.numpy(), axis=1))
    ordered = torch.nn.functional.pad(ordered, (1, 0))  # column 0 stands for all that is absent
    place = torch.from_numpy(targets / 100 * (scores.shape[1] + absent - 1))[:, None]  # (B, 1) float64
    place = place.to(scores.device)
    below = place.floor().to(torch.int64)
    above = (below + 1).clamp_(max=scores.shape[1] + absent - 1)
    low, high = (ordered.gather(1, (at + 1 - absent).clamp_(min=0)).to(torch.float64) for at in (below, above))
    return low + (high - low) * (place - below)


def prune_units(stack: StackedMLP, keep: Tensor) -> StackedMLP:
    """Return `stack` without the hidden units that `keep` (B, hidden units) drops.

    A pruned unit loses its row, its column and its bias.
    """
    first, last = keep.new_ones(len(keep), stack.sizes[0]), keep.new_ones(len(keep), stack.sizes[-1])
    layers = [first, *keep.split_with_sizes(stack.sizes[1:-1], dim=1), last]  # [l]: (B, units)
    edges = [(row[:, :, None] & column[:, None, :]).flatten(1) for column, row in pairwise(layers)]
    return stack.prune(torch.cat(edges, dim=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """Where each of B networks stands in its pruning loop.

    Attributes
    ----------
    reached : numpy.ndarray
        (B,) float64: the percentage of the last accepted network.
    step : numpy.ndarray
        (B,) float64: what the next target adds to it.
    running : numpy.ndarray
        (B,) bool: not yet ended.
    smallest : float
        The smallest step, 100 / number of units or edges of the dense network.

    Examples
    --------
    >>> schedule = Schedule.start(np.array([30.0, 70.0]), smallest=25.0)
    >>> schedule.targets
    array([30., 70.])
    >>> schedule.after(np.array([True, False])).targets
    array([60., 35.])
    """

    reached: NDArray[np.float64]
    step: NDArray[np.float64]
    running: NDArray[np.bool_]
    smallest: float

    @classmethod
    def start(
        cls,
        steps: Sequence[float] | NDArray[np.float64],
        *,
        smallest: float,
        running: NDArray[np.bool_] | None = None,
    ) -> Schedule:
        """Return the schedule of networks that start with the given steps.

        Parameters
        ----------
        steps : array_like of float, (B,)
            Percent.
        smallest : float
            The step at which a rejection ends the phase, percent.
        running : array of bool, (B,), optional
            Which networks take part; by default all.

        Returns
        -------
        Schedule
        """
        step = np.array(steps, dtype=np.float64)
        alive = np.ones(len(step), dtype=np.bool_) if running is None else running.copy()
        fresh = cls(reached=np.zeros_like(step), step=step, running=alive, smallest=smallest)
        return fresh._past_the_end()

    @property
    def targets(self) -> NDArray[np.float64]:
        """What to prune to next, (B,) percent; below 100 wherever the network is running."""
        return self.reached + self.step

    def after(self, accepted: NDArray[np.bool_]) -> Schedule:
        """Return the schedule after a round in which `accepted` (B,) tells who passed."""
        passed = self.running & accepted
        moved = replace(self, reached=np.where(passed, self.targets, self.reached))
        return moved._rejected(self.running & ~accepted)._past_the_end()

    def _rejected(self, who: NDArray[np.bool_]) -> Schedule:
        """Halve the step of `who`, down to the smallest; who had that already has ended."""
        return replace(
            self,
            step=np.where(who, np.maximum(self.step / 2, self.smallest), self.step),
            running=self.running & ~(who & (self.step <= self.smallest)),
        )

    def _past_the_end(self) -> Schedule:
        """Reject targets of 100 % and more, untrained, until none is left."""
        schedule = self
        while (beyond := schedule.running & (schedule.targets >= 100)).any():
            schedule = schedule._rejected(beyond)
        return schedule
