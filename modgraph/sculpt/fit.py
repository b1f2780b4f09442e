"""One training run of one compact network: dense layers with torch, or its edges alone, compiled."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.sculpt import sparse
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import one_thread_per_operation
from modgraph.sculpt.stack import keyed_generator
from modgraph.sculpt.tasks import SplitTask, Task
from modgraph.sculpt.train import check_setting

__all__ = ["CHUNK", "Fitted", "WideSettings", "evaluate", "fit"]

SPARSE_BELOW = 0.5
"""Density among the units left below which the edges alone are faster (`tests/benchmarks/test_bench_wide.py`)."""

LARGE = 100_000
"""Weights among the units left from which a second thread brings torch more than it costs, and so does bfloat16."""

CHUNK = 4096  # samples at a time where nothing is learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class WideSettings:
    """How a wide network is trained and pruned.

    Parameters
    ----------
    learning_rate : float
        Adam's, > 0; constant.
    batch_size : int
        Samples a step, ≥ 1; the last batch of an epoch may be smaller.
    epochs : int
        Passes over the training samples in each training run, ≥ 1; the most, where `patience` or `give_up` ends it.
    weight_decay : float
        ≥ 0; the L2 kind.
    patience : int or None
        A retraining run ends once the network has been accurate enough after so many epochs in a row, ≥ 1; None: all
        epochs are run, as in the publication.
    give_up : int or None
        A training run ends after so many epochs without a better validation accuracy, ≥ 1; None: all epochs are run.
    tolerance : float
        How far the validation accuracy may fall below that of the dense network, in [0, 1).
    unit_share : float
        Share of that which pruning units may use up, in [0, 1]. With all of it (1, as in the publication) the edges
        start from a network at the limit, and may end there.
    unit_step, edge_step : float
        P_u and P_e, percent in (0, 100].
    mixed_precision : bool
        Whether networks of more than 100,000 weights multiply in bfloat16: twice as fast on a processor that can, and
        as accurate. Weights, Adam and every evaluation stay float32.

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
        check_setting(self, "learning_rate", "a finite number > 0", lambda x: 0 < x < math.inf)
        if not isinstance(self.mixed_precision, bool):
            raise TypeError(f"`mixed_precision` must be True or False (got {self.mixed_precision!r})")
        check_setting(self, "weight_decay", "a finite number ≥ 0", lambda x: 0 <= x < math.inf)
        check_setting(self, "tolerance", "a number in [0, 1)", lambda x: 0 <= x < 1)
        check_setting(self, "unit_share", "a number in [0, 1]", lambda x: 0 <= x <= 1)
        for name in ("unit_step", "edge_step"):
            check_setting(self, name, "a percentage in (0, 100]", lambda x: 0 < x <= 100)
        for name in ("batch_size", "epochs", "patience", "give_up"):
            if name in ("batch_size", "epochs") or getattr(self, name) is not None:
                check_setting(self, name, "an int ≥ 1", lambda x: x >= 1, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """What came out of a training run.

    Attributes
    ----------
    network : CompactMLP
        After its best epoch, or before the first: the higher validation accuracy, then the lower validation loss.
    epochs : int
        Passes over the training samples.
    accuracy : float
        Share of right output bits in the validation part.
    """

    network: CompactMLP
    epochs: int
    accuracy: float


def fit(
    network: CompactMLP,
    task: SplitTask,
    *,
    settings: WideSettings,
    key: tuple[int, ...],
    enough: float = math.inf,
) -> Fitted:
    """Train a network once, Adam starting fresh; what is pruned stays exactly 0.

    Parameters
    ----------
    network : CompactMLP
        Not changed.
    task : SplitTask
    settings : WideSettings
    key : tuple of int
        What the orders of the samples depend on.
    enough : float
        The validation accuracy from which `patience` counts.

    Returns
    -------
    Fitted
    """
    with nullcontext() if network.n_weights > LARGE else one_thread_per_operation():
        return _fit(network, task, settings=settings, key=key, enough=enough)


def _fit(
    network: CompactMLP, task: SplitTask, *, settings: WideSettings, key: tuple[int, ...], enough: float
) -> Fitted:
    validation = network.view(task.validation)
    trainer = _trainer(network, network.view(task.train), settings)
    best, best_loss = Fitted(network=network, epochs=0, accuracy=-1.0), math.inf
    top, top_epoch, passed, epoch = -1.0, 0, 0, 0
    for epoch in range(settings.epochs + 1):  # the network as it comes is the first to be judged
        if epoch:
            trainer.epoch(torch.randperm(task.train.n_samples, generator=keyed_generator(*key, epoch)))
        now = trainer.network()
        accuracy, loss = evaluate(now, validation)
        if (accuracy, -loss) > (best.accuracy, -best_loss):
            best, best_loss = Fitted(network=now, epochs=epoch, accuracy=accuracy), loss
        if epoch and accuracy > top:  # among what was trained: after a cut it may take a while to be as good as before
            top, top_epoch = accuracy, epoch
        passed = passed + 1 if epoch and accuracy >= enough else 0
        if passed == settings.patience or epoch - top_epoch == settings.give_up:
            break
    return Fitted(network=best.network, epochs=epoch, accuracy=best.accuracy)


def evaluate(network: CompactMLP, task: Task) -> tuple[float, float]:
    """Return the share of right output bits, and the mean loss, on a task with the inputs that are left."""
    right, loss = 0, 0.0
    for some, goals in zip(task.inputs.split(CHUNK), task.targets.split(CHUNK), strict=True):
        logits = network.forward(some)
        right += int(((logits > 0) == (goals > 0)).sum())
        loss += float(F.binary_cross_entropy_with_logits(logits, goals, reduction="sum"))
    return right / task.targets.numel(), loss / task.targets.numel()


class _Trainer(Protocol):
    """A network in training."""

    def epoch(self, order: Tensor) -> None:
        """Train on the samples in this order (n,)."""

    def network(self) -> CompactMLP:
        """Return the network as it is now."""


def _trainer(network: CompactMLP, task: Task, settings: WideSettings) -> _Trainer:
    """Choose the faster way for the density that a network has left."""
    dense = network.n_edges > SPARSE_BELOW * network.n_weights
    return (_Dense if dense else _Sparse)(network, task, settings)


class _Dense:
    """Dense layers with torch; pruned weights are set back to 0 after every step."""

    def __init__(self, network: CompactMLP, task: Task, settings: WideSettings) -> None:
        self.weights = [weight.clone().requires_grad_() for weight in network.weights]
        self.biases = [bias.clone().requires_grad_() for bias in network.biases]
        self.now = network.with_parameters(self.weights, self.biases)
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
                logits = self.now.forward(self.inputs[rows])
            F.binary_cross_entropy_with_logits(logits.float(), self.targets[rows]).backward()
            self.adam.step()
            with torch.no_grad():
                for parameter, mask in self.pruned:
                    parameter.mul_(mask)

    def network(self) -> CompactMLP:
        weights, biases = ([p.detach().clone() for p in part] for part in (self.weights, self.biases))
        return self.now.with_parameters(weights, biases)


class _Sparse:
    """The edges alone, with `modgraph.sculpt.sparse`."""

    def __init__(self, network: CompactMLP, task: Task, settings: WideSettings) -> None:
        self.before, self.settings, self.steps = network, settings, 0
        first = [0, *accumulate(len(units) for units in network.units)]  # of every layer, then the number of units
        ends = [mask.nonzero() for mask in network.masks]  # [l]: (edges, 2), by target, then source
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
        parameters, before = torch.from_numpy(self.edges.parameters.copy()), self.before
        counts = [int(mask.sum()) for mask in before.masks]
        parts = parameters.split([*counts, *(len(units) for units in before.units)])
        weights = [
            torch.zeros(mask.shape).masked_scatter_(mask, p) for mask, p in zip(before.masks, parts, strict=False)
        ]
        return before.with_parameters(weights, parts[len(counts) + 1 :])
