"""One training loop, for a whole stack of networks at once.

Every network of the stack takes the same number of steps with the same settings, so the loop is an
ordinary one: epochs, batches, a gradient, Adam. The gradient is written out (sigmoid and binary
cross-entropy together leave ``p − y``), all parameters lie in one flat buffer, and no tensor is made
inside the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.sculpt.stack import ALIGN, StackedMLP, keyed_generator, round_up
from modgraph.sculpt.tasks import Task

__all__ = ["Batches", "Table", "TrainSettings", "draw_batches", "draw_epochs", "padded_table", "train"]

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
        _check(self, "learning_rate", "a finite number > 0", lambda x: 0 < x < math.inf)
        _check(self, "batch_size", "an int ≥ 1", lambda x: x >= 1, whole=True)
        _check(self, "epochs", "an int ≥ 1", lambda x: x >= 1, whole=True)
        _check(self, "weight_decay", "a finite number ≥ 0", lambda x: 0 <= x < math.inf)
        _check(self, "noise", "a finite number ≥ 0", lambda x: 0 <= x < math.inf)
        _check(self, "accuracy_threshold", "a number in (0, 1]", lambda x: 0 < x <= 1)
        _check(self, "dense_runs", "an int ≥ 1", lambda x: x >= 1, whole=True)


def _check(
    settings: TrainSettings,
    name: str,
    wanted: str,
    holds: Callable[[float], bool],
    whole: bool = False,
) -> None:
    """Raise one sentence if the field `name` is not what is `wanted`."""
    value = getattr(settings, name)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not holds(value):
        raise ValueError(f"`{name}` must be {wanted} (got {value!r})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The clean table of a task, padded to multiples of `ALIGN` in rows and columns."""

    inputs: Tensor  # (rows, n_in)
    targets: Tensor  # (rows, n_out)
    cells: Tensor  # (rows, n_out): 1 for an output bit of the task, 0 for padding


def padded_table(task: Task) -> Table:
    """Pad the table of `task`; padding counts for nothing, in training or evaluation."""
    rows = round_up(task.n_samples, ALIGN)
    return Table(
        inputs=_padded(task.inputs, rows),
        targets=_padded(task.targets, rows),
        cells=_padded(torch.ones_like(task.targets), rows),
    )


def _padded(samples: Tensor, rows: int) -> Tensor:
    """Pad (..., n, columns) with zeros to `rows` rows and a multiple of `ALIGN` columns."""
    n, columns = samples.shape[-2:]
    return F.pad(samples, (0, round_up(columns, ALIGN) - columns, 0, rows - n))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batches:
    """The samples of one training run, for K streams of random numbers.

    Attributes
    ----------
    inputs : torch.Tensor
        (K, epochs, steps, rows, n_in) float32: shuffled, noisy, padded with zeros.
    targets : torch.Tensor
        (K, epochs, steps, rows, n_out) float32: shuffled alike.
    scale : torch.Tensor
        (steps, rows, n_out) float32: ∂(mean loss)/∂(loss of one output bit), so 0 for padding.
    """

    inputs: Tensor
    targets: Tensor
    scale: Tensor


def draw_epochs(shape: tuple[int, int], *, settings: TrainSettings, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Draw the orders (epochs, n) and the noise (epochs, n, n_in) of one training run.

    `shape` is that of the inputs, (n, n_in). The stream depends on `key` only, and comes from the
    CPU whatever the device: first the orders of all epochs, then the noise of all.
    """
    generator = keyed_generator(*key)
    order = torch.rand(settings.epochs, shape[0], generator=generator).argsort(dim=1)
    noise = torch.randn(settings.epochs, *shape, generator=generator)
    return order, noise * settings.noise


def draw_batches(task: Task, *, settings: TrainSettings, keys: Sequence[tuple[int, ...]]) -> Batches:
    """Draw the batches of one training run, one stream of random numbers for each of `keys`."""
    n, batch = task.n_samples, min(settings.batch_size, task.n_samples)
    drawn = [draw_epochs((n, task.inputs.shape[1]), settings=settings, key=key) for key in keys]
    order = torch.stack([order for order, _ in drawn]).to(task.inputs.device)  # (K, epochs, n)
    noise = torch.stack([noise for _, noise in drawn]).to(task.inputs.device)
    inputs = task.inputs[order] + noise  # (K, epochs, n, n_in)
    targets = task.targets[order]  # (K, epochs, n, n_out)
    scale = torch.ones_like(task.targets)  # (n, n_out)
    starts = range(0, n, batch)
    for start in starts:
        scale[start : start + batch] /= scale[start : start + batch].numel()
    rows = round_up(batch, ALIGN)

    def split(samples: Tensor) -> Tensor:  # (..., n, columns) → (..., steps, rows, columns)
        return torch.stack([_padded(samples[..., at : at + batch, :], rows) for at in starts], dim=-3)

    return Batches(inputs=split(inputs), targets=split(targets), scale=split(scale))


def train(
    stack: StackedMLP,
    *,
    batches: Batches,
    stream: Tensor,
    table: Table,
    settings: TrainSettings,
) -> tuple[StackedMLP, Tensor]:
    """Train a packed stack once, and keep every network's best epoch.

    Better is a higher accuracy on the clean table, and on equal accuracy a lower loss; Adam starts
    fresh. Pruned weights and biases stay exactly 0.

    Parameters
    ----------
    stack : StackedMLP
        B networks of packed widths; not changed.
    batches : Batches
        K streams of training samples.
    stream : torch.Tensor
        (B,) int64: which stream each network trains on.
    table : Table
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
    parameters = _Flat.of([*stack.weights, *stack.biases])
    kept = _Flat.of([*stack.masks, *(mask.any(2) for mask in stack.masks)])
    gradient, best = parameters.like(), parameters.like()
    moment1, moment2 = torch.zeros_like(gradient.flat), torch.zeros_like(gradient.flat)
    n_layers = len(stack.weights)
    _, epochs, steps, rows, _ = batches.inputs.shape
    deep = _Layers.of(stack, rows)
    clean = _Layers.of(stack, len(table.inputs))
    clean.values[0].copy_(table.inputs)  # (B, n, n_in)
    best_correct = torch.full_like(stream, -1)  # (B,)
    best_loss = torch.zeros_like(stream, dtype=torch.float32)  # (B,)
    t = 0
    for epoch in range(epochs):
        inputs = batches.inputs[:, epoch][stream]  # (B, steps, rows, n_in)
        targets = batches.targets[:, epoch][stream]  # (B, steps, rows, n_out)
        for step in range(steps):
            deep.values[0] = inputs[:, step]  # (B, rows, n_in)
            _forward(parameters.parts, deep)
            _backward(parameters.parts, deep, targets[:, step], batches.scale[step], gradient.parts)
            t += 1
            _adam(parameters.flat, gradient.flat, kept.flat, moment1, moment2, t, settings)
        _forward(parameters.parts, clean)
        correct, loss = _evaluate(clean.values[-1], table)  # (B,), (B,)
        better = (correct > best_correct) | ((correct == best_correct) & (loss < best_loss))
        torch.where(better, correct, best_correct, out=best_correct)
        torch.where(better, loss, best_loss, out=best_loss)
        for new, old in zip(parameters.parts, best.parts, strict=True):
            torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old, out=old)
    return (
        StackedMLP(
            weights=tuple(best.parts[:n_layers]),
            biases=tuple(best.parts[n_layers:]),
            masks=stack.masks,
        ),
        best_correct,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    """Tensors that lie one behind the other in one buffer, and the buffer."""

    flat: Tensor  # (total,) float32
    parts: list[Tensor]  # views of `flat`

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> _Flat:
        flat = torch.cat([tensor.flatten() for tensor in tensors]).to(torch.float32)
        pieces = flat.split_with_sizes([tensor.numel() for tensor in tensors])
        return cls(flat, [p.view(t.shape) for p, t in zip(pieces, tensors, strict=True)])

    def like(self) -> _Flat:
        """Return zeros of the same shapes."""
        return _Flat.of([torch.zeros_like(part) for part in self.parts])


@dataclass(frozen=True, slots=True, eq=False)
class _Layers:
    """Room for the values of every layer, and for the loss's derivatives by them."""

    values: list[Tensor]  # [l]: (B, rows, units of layer l)
    slopes: list[Tensor]  # the same shapes
    active: list[Tensor]  # the same shapes: 1 where a hidden unit is above 0

    @classmethod
    def of(cls, stack: StackedMLP, rows: int) -> _Layers:
        def room() -> list[Tensor]:
            some = stack.biases[0]
            return [some.new_zeros(stack.n_networks, rows, units) for units in stack.sizes]

        return cls(room(), room(), room())


def _forward(parameters: Sequence[Tensor], layers: _Layers) -> None:
    """Fill `layers.values` above the inputs; the last layer stays as it is before its sigmoid."""
    n_layers = len(parameters) // 2
    for layer, (weight, bias) in enumerate(zip(parameters[:n_layers], parameters[n_layers:], strict=True)):
        below, here = layers.values[layer], layers.values[layer + 1]
        torch.baddbmm(bias[:, None, :], below, weight.transpose(1, 2), out=here)  # (B, rows, out)
        if layer + 1 < n_layers:
            here.relu_()


def _backward(
    parameters: Sequence[Tensor],
    layers: _Layers,
    targets: Tensor,
    scale: Tensor,
    gradient: Sequence[Tensor],
) -> None:
    """Fill `gradient` from the values in `layers`: ∂loss/∂z = (p − y) × scale at the outputs."""
    n_layers = len(parameters) // 2
    probability = layers.values[-1].sigmoid_()  # (B, rows, n_out)
    torch.sub(probability, targets, out=layers.slopes[-1]).mul_(scale)  # (B, rows, n_out)
    for layer in reversed(range(n_layers)):
        below, slope = layers.values[layer], layers.slopes[layer + 1]
        torch.bmm(slope.transpose(1, 2), below, out=gradient[layer])  # (B, out, in)
        torch.sum(slope, 1, out=gradient[n_layers + layer])  # (B, out)
        if layer:
            next_slope = layers.slopes[layer]  # (B, rows, in)
            torch.bmm(slope, parameters[layer], out=next_slope)
            next_slope.mul_(torch.sign(below, out=layers.active[layer]))  # ReLU: below ≥ 0


def _adam(
    parameters: Tensor,
    gradient: Tensor,
    kept: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    t: int,
    settings: TrainSettings,
) -> None:
    """Take step `t` (from 1) of Adam in place, over one flat buffer; `gradient` is used up.

    With c1 = 1 − β1ᵗ and c2 = √(1 − β2ᵗ) the step is lr · (m/c1) / (√v/c2 + ε), written here as
    (lr · c2/c1) · m / (√v + ε · c2), one operation fewer. A pruned parameter has gradient 0 and
    value 0, so its moments and its step are exactly 0.
    """
    c1, c2 = 1 - BETA1**t, math.sqrt(1 - BETA2**t)
    gradient.mul_(kept).add_(parameters, alpha=settings.weight_decay)
    moment1.lerp_(gradient, 1 - BETA1)
    moment2.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    divisor = torch.sqrt(moment2, out=gradient).add_(EPSILON * c2)
    parameters.addcdiv_(moment1, divisor, value=-settings.learning_rate * c2 / c1)


def _evaluate(logits: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """Return the right bits (B,) int64 and the summed loss (B,) of outputs (B, rows, n_out)."""
    right = (logits > 0) == (table.targets > 0)  # (B, rows, n_out)
    loss = F.binary_cross_entropy_with_logits(
        logits, table.targets.expand_as(logits), weight=table.cells, reduction="none"
    )  # (B, rows, n_out)
    return (right & (table.cells > 0)).sum((1, 2)), loss.sum((1, 2))
