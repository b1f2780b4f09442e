"""One training loop for a whole stack of networks: the readable definition, and the one that runs on a GPU.

All networks of a stack take the same number of steps with the same settings: epochs, batches, a gradient, Adam. The
gradient is written out (the derivative of the cross-entropy of a sigmoid is ``p − y``), and all parameters lie in one
tensor. On a CPU `modgraph.sculpt.kernel` computes the same, up to rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.checks import check_int, check_number, check_share
from modgraph.sculpt.objective import BITS, Objective
from modgraph.sculpt.stack import StackedMLP, activations, keyed_generator
from modgraph.sculpt.tasks import Task

# Adam's constants, as in torch.optim.Adam.
BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamSettings:
    """Settings that `TrainSettings` and `WideSettings` have in common."""

    learning_rate: float
    batch_size: int
    epochs: int
    weight_decay: float

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, lambda x: 0 < x < math.inf, wanted="a finite number > 0")
        check_int("batch_size", self.batch_size, at_least=1)
        check_int("epochs", self.epochs, at_least=1)
        check_number("weight_decay", self.weight_decay, lambda x: 0 <= x < math.inf, wanted="a finite number ≥ 0")

    def steps(self, n_samples: int) -> int:
        """Return the number of optimiser steps in a training run of all epochs on `n_samples` samples."""
        return self.epochs * -(-n_samples // self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(AdamSettings):
    """How `sculpt` trains and accepts networks.

    Parameters
    ----------
    learning_rate : float
        Learning rate of Adam, > 0; constant.
    batch_size : int
        Samples in a step, ≥ 1; the last batch of an epoch may be smaller.
    epochs : int
        Passes over the table in each training run, ≥ 1.
    weight_decay : float
        ≥ 0; it times the weight is added to the gradient (L2).
    noise : float
        Standard deviation of the Gaussian noise on the training inputs, ≥ 0.
    accuracy_threshold : float
        Share of correct output bits from which a network is accepted, in (0, 1].
    dense_runs : int
        Training runs, ≥ 1, after which a dense network that is not accepted is given up. Each run starts from where
        the last one ended. (The publication does not say what happens after a first run that fails; with few epochs
        many do.)

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
        AdamSettings.__post_init__(self)
        check_number("noise", self.noise, lambda x: 0 <= x < math.inf, wanted="a finite number ≥ 0")
        check_share("accuracy_threshold", self.accuracy_threshold, above_zero=True)
        check_int("dense_runs", self.dense_runs, at_least=1)


class Draws(NamedTuple):
    """The samples of one training run, for K streams of random numbers."""

    inputs: Tensor  # (K, epochs, n, n_in) float32: shuffled and noisy
    targets: Tensor  # (K, epochs, n, n_out) float32: in the same order


def draw_epochs(shape: tuple[int, int], *, settings: TrainSettings, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Draw the orders (epochs, n) and the noise (epochs, n, n_in) of one training run, on the CPU.

    `shape` is that of the inputs, (n, n_in); the numbers depend on `key` only.
    """
    generator = keyed_generator(*key)
    order = torch.rand(settings.epochs, shape[0], generator=generator).argsort(dim=1)
    noise = torch.randn(settings.epochs, *shape, generator=generator)
    return order, noise * settings.noise


def draw(task: Task, *, settings: TrainSettings, keys: Sequence[tuple[int, ...]]) -> Draws:
    """Draw the samples of one training run, one stream of random numbers for each of `keys`."""
    drawn = [draw_epochs((task.n_samples, task.inputs.shape[1]), settings=settings, key=key) for key in keys]
    order = torch.stack([order for order, _ in drawn]).to(task.inputs.device)  # (K, epochs, n)
    noise = torch.stack([noise for _, noise in drawn]).to(task.inputs.device)  # (K, epochs, n, n_in)
    return Draws(inputs=task.inputs[order] + noise, targets=task.targets[order])


def train(
    stack: StackedMLP, *, draws: Draws, stream: Tensor, task: Task, settings: TrainSettings
) -> tuple[StackedMLP, Tensor]:
    """Train a stack once and return each network as it was after its best epoch.

    The best epoch has the highest accuracy on the clean table, and among equal accuracies the lowest loss. Adam starts
    with zero moments. Pruned weights and biases stay exactly 0. Network b trains on stream ``stream[b]`` of `draws`.
    Returns the networks after their best epochs, and their correct output bits on the clean table, (B,) int64.
    """
    current = dataclasses.replace(stack, parameters=stack.parameters.clone())
    best = stack.parameters.clone()
    moment1, moment2 = torch.zeros_like(best), torch.zeros_like(best)
    best_correct = torch.full_like(stream, -1)  # (B,)
    best_loss = torch.zeros_like(stream, dtype=torch.float32)  # (B,)
    step = 0
    for epoch in range(settings.epochs):
        inputs = draws.inputs[:, epoch][stream]  # (B, n, n_in)
        targets = draws.targets[:, epoch][stream]  # (B, n, n_out)
        for start in range(0, task.n_samples, settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            step += 1
            slope = gradient(current, inputs[:, batch], targets[:, batch])
            _adam(current, slope, moment1, moment2, step, settings)
        logits = activations(current, task.inputs)[-1]  # (B, n, n_out)
        correct = ((logits > 0) == (task.targets > 0)).sum((1, 2))  # (B,)
        losses = F.binary_cross_entropy_with_logits(logits, task.targets.expand_as(logits), reduction="none")
        loss = losses.sum((1, 2))  # (B,)
        better = (correct > best_correct) | ((correct == best_correct) & (loss < best_loss))
        best_correct = torch.where(better, correct, best_correct)
        best_loss = torch.where(better, loss, best_loss)
        best = torch.where(better[:, None], current.parameters, best)
    return dataclasses.replace(stack, parameters=best), best_correct


def slopes(stack: StackedMLP, values: Sequence[Tensor], targets: Tensor, objective: Objective = BITS) -> list[Tensor]:
    """Return ∂loss/∂z of every layer above the inputs, (B, n, units), z before the ReLU, for one sample at a time.

    `values` are the stack's `activations`.
    """
    result = [objective.slopes(values[-1], targets)]  # (B, n, n_out)
    for weight, value in zip(stack.weights[:0:-1], values[-2:0:-1], strict=True):
        result.append(torch.bmm(result[-1], weight) * (value > 0))  # through the ReLU
    return result[::-1]


def gradient(stack: StackedMLP, inputs: Tensor, targets: Tensor, objective: Objective = BITS) -> Tensor:
    """Return the derivatives (B, P) of the mean loss over a batch of (n, n_in) or (B, n, n_in) inputs."""
    values = activations(stack, inputs)
    means = [slope / values[0].shape[1] for slope in slopes(stack, values, targets, objective)]
    return _products(means, values)


def mean_square_gradient(stack: StackedMLP, inputs: Tensor, targets: Tensor, objective: Objective = BITS) -> Tensor:
    """Return the mean over the samples of the squared derivatives (B, P) of the loss of one sample."""
    values = activations(stack, inputs)
    squares = [slope.square() / values[0].shape[1] for slope in slopes(stack, values, targets, objective)]
    return _products(squares, [value.square() for value in values])


def _products(slopes: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Sum over the samples, for each parameter, the slope (B, n, units) above it times the value below it."""
    weights = [torch.bmm(slope.transpose(1, 2), below) for slope, below in zip(slopes, values, strict=False)]
    return torch.cat([*(w.flatten(1) for w in weights), *(slope.sum(1) for slope in slopes)], dim=1)


def _adam(
    stack: StackedMLP, gradient: Tensor, moment1: Tensor, moment2: Tensor, step: int, settings: TrainSettings
) -> None:
    """Take step number `step` (from 1) of Adam in place; `gradient` is overwritten.

    With c1 = 1 − β1ᵗ and c2 = √(1 − β2ᵗ) the change is lr · (m/c1) / (√v/c2 + ε), written here as
    (lr · c2/c1) · m / (√v + ε · c2), which takes one operation fewer. A pruned parameter has gradient 0 and value 0,
    so its moments and its change are exactly 0.
    """
    c1, c2 = 1 - BETA1**step, math.sqrt(1 - BETA2**step)
    gradient.mul_(stack.kept).add_(stack.parameters, alpha=settings.weight_decay)
    moment1.lerp_(gradient, 1 - BETA1)
    moment2.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    divisor = torch.sqrt(moment2, out=gradient).add_(EPSILON * c2)
    stack.parameters.addcdiv_(moment1, divisor, value=-settings.learning_rate * c2 / c1)
