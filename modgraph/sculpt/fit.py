"""One training run of one compact network: with torch on dense layers, or compiled on its edges alone."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.checks import check_int, check_number, check_share
from modgraph.sculpt import sparse
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import one_thread_per_operation
from modgraph.sculpt.stack import keyed_generator
from modgraph.sculpt.tasks import SplitTask, Task
from modgraph.sculpt.train import AdamSettings

SPARSE_BELOW = 0.5
"""Density among the units left below which computing edges alone is faster (`tests/benchmarks/test_bench_wide.py`)."""

LARGE = 100_000
"""Number of weights among the units left from which a second thread, and bfloat16, make torch faster."""

CHUNK = 4096
"""Samples evaluated at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WideSettings(AdamSettings):
    """How `sculpt_wide` trains and prunes a network.

    Parameters
    ----------
    learning_rate, batch_size, weight_decay
        As in `TrainSettings`.
    epochs : int
        Passes over the training samples in each training run, ≥ 1; fewer where `patience` or `give_up` ends the run.
    patience : int or None
        A retraining run ends after this many accurate enough epochs in a row, ≥ 1; None: all epochs are run, as in the
        publication.
    give_up : int or None
        A training run ends after this many epochs without a better validation accuracy, ≥ 1; None: all epochs are run.
    tolerance : float
        How far the validation accuracy may fall below that of the dense network, in [0, 1).
    unit_share : float
        Share of the tolerance that pruning units may use, in [0, 1]. With 1, as in the publication, edge pruning can
        start from a network at the limit and then remove nothing.
    unit_step, edge_step : float
        P_u and P_e, percent in (0, 100].
    mixed_precision : bool
        Whether networks of more than 100,000 weights multiply in bfloat16: twice as fast on a processor that supports
        it, and as accurate. Weights, Adam and every evaluation stay float32.

    Raises
    ------
    ValueError
        If a value lies outside its range.

    Examples
    --------
    >>> WideSettings(patience=None, give_up=None).epochs  # every run to its end
    40
    """

    learning_rate: float = 1e-3
    batch_size: int = 512
    epochs: int = 40
    weight_decay: float = 1e-4
    patience: int | None = 2
    give_up: int | None = 10
    tolerance: float = 0.005
    unit_share: float = 0.5
    unit_step: float = 20.0
    edge_step: float = 2.5
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        AdamSettings.__post_init__(self)
        for name in ("patience", "give_up"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), at_least=1)
        check_number("tolerance", self.tolerance, lambda x: 0 <= x < 1, wanted="a number in [0, 1)")
        check_share("unit_share", self.unit_share)
        for name in ("unit_step", "edge_step"):
            check_number(name, getattr(self, name), lambda x: 0 < x <= 100, wanted="a percentage in (0, 100]")
        if not isinstance(self.mixed_precision, bool):
            raise TypeError(f"`mixed_precision` must be True or False (got {self.mixed_precision!r})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """The result of a training run: the network with the highest validation accuracy, then the lowest loss."""

    network: CompactMLP  # after its best epoch, or before the first one
    epochs: int  # passes over the training samples
    accuracy: float  # share of correct output bits on the validation samples


def fit(
    network: CompactMLP, task: SplitTask, *, settings: WideSettings, key: tuple[int, ...], enough: float = math.inf
) -> Fitted:
    """Train a network once; Adam starts with zero moments, and pruned parameters stay exactly 0.

    The orders of the samples depend on `key`. From the validation accuracy `enough` on, `patience` counts an epoch.
    """
    validation = network.view(task.validation)
    is_dense = network.n_edges > SPARSE_BELOW * network.n_weights
    trainer = (_Dense if is_dense else _Sparse)(network, network.view(task.train), settings)
    best, best_loss = Fitted(network=network, epochs=0, accuracy=-1.0), math.inf
    top, top_epoch, n_enough, epoch = -1.0, 0, 0, 0  # top: the best accuracy of a trained network
    with nullcontext() if network.n_weights > LARGE else one_thread_per_operation():
        for epoch in range(settings.epochs + 1):  # epoch 0 evaluates the network without training
            if epoch:
                trainer.epoch(torch.randperm(task.train.n_samples, generator=keyed_generator(*key, epoch)))
            current = trainer.network()
            accuracy, loss = evaluate(current, validation)
            if (accuracy, -loss) > (best.accuracy, -best_loss):
                best, best_loss = Fitted(network=current, epochs=epoch, accuracy=accuracy), loss
            if epoch and accuracy > top:
                top, top_epoch = accuracy, epoch
            n_enough = n_enough + 1 if epoch and accuracy >= enough else 0
            if n_enough == settings.patience or epoch - top_epoch == settings.give_up:
                break
    return Fitted(network=best.network, epochs=epoch, accuracy=best.accuracy)


def evaluate(network: CompactMLP, task: Task) -> tuple[float, float]:
    """Return the share of correct output bits, and the mean loss, on a task with the inputs that are left."""
    n_correct, loss = 0, 0.0
    for inputs, targets in zip(task.inputs.split(CHUNK), task.targets.split(CHUNK), strict=True):
        logits = network.forward(inputs)
        n_correct += int(((logits > 0) == (targets > 0)).sum())
        loss += float(F.binary_cross_entropy_with_logits(logits, targets, reduction="sum"))
    return n_correct / task.targets.numel(), loss / task.targets.numel()


class _Dense:
    """Trains dense layers with torch; pruned parameters are set back to 0 after every step.

    `epoch` trains on the samples in an order (n,), `network` returns the present state, as in `_Sparse`.
    """

    def __init__(self, network: CompactMLP, task: Task, settings: WideSettings) -> None:
        self.weights = [weight.clone().requires_grad_() for weight in network.weights]
        self.biases = [bias.clone().requires_grad_() for bias in network.biases]
        self.current = network.with_parameters(self.weights, self.biases)
        self.pruned = [
            (parameter, mask)
            for weight, bias, mask in zip(self.weights, self.biases, network.masks, strict=True)
            for parameter, mask in ((weight, mask), (bias, mask.any(1)))
            if not mask.all()
        ]
        self.adam = torch.optim.Adam(
            [*self.weights, *self.biases], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.inputs, self.targets = task.inputs, task.targets
        self.batch_size = settings.batch_size
        self.mixed_precision = settings.mixed_precision and network.n_weights > LARGE

    def epoch(self, order: Tensor) -> None:
        for rows in order.split(self.batch_size):
            self.adam.zero_grad()
            with torch.autocast("cpu", enabled=self.mixed_precision):
                logits = self.current.forward(self.inputs[rows])
            F.binary_cross_entropy_with_logits(logits.float(), self.targets[rows]).backward()
            self.adam.step()
            with torch.no_grad():
                for parameter, mask in self.pruned:
                    parameter.mul_(mask)

    def network(self) -> CompactMLP:
        weights, biases = ([p.detach().clone() for p in part] for part in (self.weights, self.biases))
        return self.current.with_parameters(weights, biases)


class _Sparse:
    """Trains the edges alone, with `modgraph.sculpt.sparse`."""

    def __init__(self, network: CompactMLP, task: Task, settings: WideSettings) -> None:
        self.initial, self.settings, self.steps = network, settings, 0
        first = [0, *accumulate(len(units) for units in network.units)]  # first unit of each layer, then their number
        ends = [mask.nonzero() for mask in network.masks]  # [layer]: (edges, 2), sorted by target, then source
        target = torch.cat([end[:, 0] + at for end, at in zip(ends, first[1:], strict=False)])
        source = torch.cat([end[:, 1] + at for end, at in zip(ends, first, strict=False)])
        weights = [weight[mask] for weight, mask in zip(network.weights, network.masks, strict=True)]
        parameters = torch.cat([*weights, torch.zeros(first[1]), *network.biases]).numpy()
        self.edges = sparse.SparseNetwork(
            n_inputs=first[1],
            n_outputs=len(network.units[-1]),
            start=np.searchsorted(target.numpy(), np.arange(first[-1] + 1)),
            source=source.numpy(),
            parameters=parameters,
            moment1=np.zeros_like(parameters),
            moment2=np.zeros_like(parameters),
        )
        self.inputs: NDArray[np.float32] = task.inputs.numpy()
        self.targets: NDArray[np.float32] = task.targets.numpy()

    def epoch(self, order: Tensor) -> None:
        settings = self.settings
        sparse.train_epoch(
            self.edges,
            self.inputs,
            self.targets,
            order.numpy(),
            settings.batch_size,
            self.steps,
            settings.learning_rate,
            settings.weight_decay,
        )
        self.steps += -(-len(order) // settings.batch_size)

    def network(self) -> CompactMLP:
        parameters, initial = torch.from_numpy(self.edges.parameters.copy()), self.initial
        counts = [int(mask.sum()) for mask in initial.masks]
        parts = parameters.split([*counts, *(len(units) for units in initial.units)])
        weights = [
            torch.zeros(mask.shape).masked_scatter_(mask, p) for mask, p in zip(initial.masks, parts, strict=False)
        ]
        return initial.with_parameters(weights, parts[len(counts) + 1 :])
