"""One training loop, for a whole stack of networks at once: the readable definition, and the way on a GPU.

Every network of the stack takes the same number of steps with the same settings, so the loop is an
ordinary one: epochs, batches, a gradient, Adam. The gradient is written out (sigmoid and binary
cross-entropy together leave ``p − y``), and all parameters lie in one tensor. On a CPU
`modgraph.sculpt.kernel` does the same, up to rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.sculpt.stack import StackedMLP, activations, keyed_generator
from modgraph.sculpt.tasks import Task

__all__ = ["Draws", "TrainSettings", "check_setting", "draw", "draw_epochs", "slopes", "train"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's own constants, as torch.optim.Adam has them


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How every training run of a search goes.

    Parameters
    ----------
    learning_rate : float
        Adam's, > 0; constant.
    batch_size : int
        Samples a step, ≥ 1; the last batch of an epoch may be smaller.
    epochs : int
        Passes over the table in each training run, ≥ 1.
    weight_decay : float
        ≥ 0; the L2 kind: it is added to the gradient.
    noise : float
        Standard deviation of the Gaussian noise on the training inputs, ≥ 0.
    accuracy_threshold : float
        Share of correct output bits that accepts a network, in (0, 1].
    dense_runs : int
        Training runs that a dense network may take to be accepted, ≥ 1, each starting from where
        the last one ended. (The publication does not say what it does with a first run that
        falls short; with few epochs many do.)

    Raises
    ------
    ValueError
        If a value lies outside its range.

    Examples
    --------
    >>> TrainSettings(learning_rate=0.05, batch_size=8, epochs=30).weight_decay
    0.0001
    """

    learning_rate: float = 0.05
    batch_size: int = 8
    epochs: int = 30
    weight_decay: float = 1e-4
    noise: float = 0.1
    accuracy_threshold: float = 1.0
    dense_runs: int = 10

    def __post_init__(self) -> None:
        check_setting(self, "learning_rate", "a finite number > 0", lambda x: 0 < x < math.inf)
        check_setting(self, "batch_size", "an int ≥ 1", lambda x: x >= 1, whole=True)
        check_setting(self, "epochs", "an int ≥ 1", lambda x: x >= 1, whole=True)
        check_setting(self, "weight_decay", "a finite number ≥ 0", lambda x: 0 <= x < math.inf)
        check_setting(self, "noise", "a finite number ≥ 0", lambda x: 0 <= x < math.inf)
        check_setting(self, "accuracy_threshold", "a number in (0, 1]", lambda x: 0 < x <= 1)
        check_setting(self, "dense_runs", "an int ≥ 1", lambda x: x >= 1, whole=True)

    def steps(self, n_samples: int) -> int:
        """Return the optimiser steps of one training run on a table of `n_samples` rows."""
        return self.epochs * -(-n_samples // self.batch_size)


def check_setting(
    settings: object,
    name: str,
    wanted: str,
    holds: Callable[[float], bool],
    whole: bool = False,
) -> None:
    """Raise one sentence if the field `name` of `settings` is not what is `wanted`."""
    value = getattr(settings, name)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not holds(value):
        raise ValueError(f"`{name}` must be {wanted} (got {value!r})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """The samples of one training run, for K streams of random numbers.

    Attributes
    ----------
    inputs : torch.Tensor
        (K, epochs, n, n_in) float32: shuffled and noisy.
    targets : torch.Tensor
        (K, epochs, n, n_out) float32: shuffled alike.
    """

    inputs: Tensor
    targets: Tensor


def draw_epochs(shape: tuple[int, int], *, settings: TrainSettings, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Draw the orders (epochs, n) and the noise (epochs, n, n_in) of one training run.

    `shape` is that of the inputs, (n, n_in). The stream depends on `key` only, and comes from the
    CPU whatever the device: first the orders of all epochs, then the noise of all.
    """
    generator = keyed_generator(*key)
    order = torch.rand(settings.epochs, shape[0], generator=generator).argsort(dim=1)
    noise = torch.randn(settings.epochs, *shape, generator=generator)
    return order, noise * settings.noise


def draw(task: Task, *, settings: TrainSettings, keys: Sequence[tuple[int, ...]]) -> Draws:
    """Draw the samples of one training run, one stream of random numbers for each of `keys`."""
    drawn = [draw_epochs((task.n_samples, task.inputs.shape[1]), settings=settings, key=key) for key in keys]
    order = torch.stack([order for order, _ in drawn]).to(task.inputs.device)  # (K, epochs, n)
    noise = torch.stack([noise for _, noise in drawn]).to(task.inputs.device)
    return Draws(inputs=task.inputs[order] + noise, targets=task.targets[order])


def train(
    stack: StackedMLP,
    *,
    draws: Draws,
    stream: Tensor,
    task: Task,
    settings: TrainSettings,
) -> tuple[StackedMLP, Tensor]:
    """Train a stack once, and keep every network's best epoch.

    Better is a higher accuracy on the clean table, and on equal accuracy a lower loss; Adam starts
    fresh. Pruned weights and biases stay exactly 0.

    Parameters
    ----------
    stack : StackedMLP
        B networks; not changed.
    draws : Draws
        K streams of training samples.
    stream : torch.Tensor
        (B,) int64: which stream each network trains on.
    task : Task
        What is evaluated after each epoch.
    settings : TrainSettings
        Learning rate and the rest.

    Returns
    -------
    best : StackedMLP
        The networks after their best epochs.
    correct : torch.Tensor
        (B,) int64: output bits that are right on the clean table.
    """
    now = dataclasses.replace(stack, parameters=stack.parameters.clone())
    best = stack.parameters.clone()
    moment1, moment2 = torch.zeros_like(best), torch.zeros_like(best)
    best_correct = torch.full_like(stream, -1)  # (B,)
    best_loss = torch.zeros_like(stream, dtype=torch.float32)  # (B,)
    t = 0
    for epoch in range(settings.epochs):
        inputs = draws.inputs[:, epoch][stream]  # (B, n, n_in)
        targets = draws.targets[:, epoch][stream]  # (B, n, n_out)
        for start in range(0, task.n_samples, settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            t += 1
            gradient = _gradient(now, inputs[:, batch], targets[:, batch])
            _adam(now, gradient, moment1, moment2, t, settings)
        logits = activations(now, task.inputs)[-1]  # (B, n, n_out)
        correct = ((logits > 0) == (task.targets > 0)).sum((1, 2))  # (B,)
        loss = F.binary_cross_entropy_with_logits(logits, task.targets.expand_as(logits), reduction="none").sum(
            (1, 2)
        )  # (B,)
        better = (correct > best_correct) | ((correct == best_correct) & (loss < best_loss))
        best_correct = torch.where(better, correct, best_correct)
        best_loss = torch.where(better, loss, best_loss)
        best = torch.where(better[:, None], now.parameters, best)
    return dataclasses.replace(stack, parameters=best), best_correct


def slopes(stack: StackedMLP, values: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    """Return ∂loss/∂z of every layer above the inputs, (B, n, units), for one sample at a time.

    `values` are the stack's `activations`; the loss is the mean over the outputs.
    """
    found = [(values[-1].sigmoid() - targets) / targets.shape[-1]]  # (B, n, n_out)
    for weight, value in zip(stack.weights[:0:-1], values[-2:0:-1], strict=True):
        found.append(torch.bmm(found[-1], weight) * (value > 0))  # through the ReLU
    return found[::-1]


def _gradient(stack: StackedMLP, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the derivatives (B, P) of the mean loss over a batch (B, n, n_in)."""
    values = activations(stack, inputs)
    found = [slope / inputs.shape[1] for slope in slopes(stack, values, targets)]
    weights = [torch.bmm(slope.transpose(1, 2), below) for slope, below in zip(found, values, strict=False)]
    return torch.cat([*(w.flatten(1) for w in weights), *(slope.sum(1) for slope in found)], dim=1)


def _adam(
    stack: StackedMLP,
    gradient: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    t: int,
    settings: TrainSettings,
) -> None:
    """Take step `t` (from 1) of Adam in place; `gradient` is used up.

    With c1 = 1 − β1ᵗ and c2 = √(1 − β2ᵗ) the step is lr · (m/c1) / (√v/c2 + ε), written here as
    (lr · c2/c1) · m / (√v + ε · c2), one operation fewer. A pruned parameter has gradient 0 and
    value 0, so its moments and its step are exactly 0.
    """
    c1, c2 = 1 - BETA1**t, math.sqrt(1 - BETA2**t)
    gradient.mul_(stack.kept).add_(stack.parameters, alpha=settings.weight_decay)
    moment1.lerp_(gradient, 1 - BETA1)
    moment2.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    divisor = torch.sqrt(moment2, out=gradient).add_(EPSILON * c2)
    stack.parameters.addcdiv_(moment1, divisor, value=-settings.learning_rate * c2 / c1)
