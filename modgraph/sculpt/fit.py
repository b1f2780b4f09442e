"""One training run of one compact network: with torch on dense layers, or compiled on its edges alone."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from modgraph.checks import check_choice, check_int
from modgraph.sculpt import sparse
from modgraph.sculpt.compact import CompactMLP, outputs_of
from modgraph.sculpt.engine import one_thread_per_operation
from modgraph.sculpt.objective import BITS, LossFunction, MetricFunction, Objective
from modgraph.sculpt.prune import CHUNK
from modgraph.sculpt.rounds import EdgesOf, Fitted, Limits
from modgraph.sculpt.stack import edges_of, keyed_generator
from modgraph.sculpt.tasks import SplitTask, Task
from modgraph.sculpt.train import AdamSettings

SPARSE_BELOW = 0.5
"""Density among the units left below which computing edges alone is faster (`tests/benchmarks/test_bench_wide.py`)."""

FEW = 10_000
"""Number of edges up to which computing edges alone is faster at any density (the same benchmark)."""

LARGE = 100_000
"""Number of weights among the units left from which a second thread, and bfloat16, make torch faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WideSettings(AdamSettings):
    """How `sculpt_wide` trains and prunes a network.

    Parameters
    ----------
    learning_rate, batch_size, weight_decay
        As in `TrainSettings`.
    epochs : int
        Passes over the training samples in each training run, ≥ 1; fewer where `patience` or `give_up` ends the run.
    dense_epochs : int, optional
        The same for the first run, that of the dense network; by default `epochs`. It is by far the slowest.
    easy_epochs : int, optional
        The same for runs after units were pruned, and for those after edges were pruned as long as the network
        is at least as accurate as the dense one; by default `epochs`.
    schedule : {"constant", "cosine"}
        The learning rate within a run: "cosine" lowers it, epoch by epoch, along half a period to nearly 0. Networks of
        few edges become more accurate that way, if `give_up` is None.
    patience : int or None
        A retraining run ends after this many accurate enough epochs in a row, ≥ 1; None: all epochs are run, as in the
        publication.
    give_up : int or None
        A training run ends after this many epochs without a better validation accuracy, ≥ 1; None: all epochs are run.
    loss : str or callable, optional
        "binary cross-entropy", "softmax cross-entropy", "squared error", or a function of outputs (n, n_out), before
        their sigmoid or softmax, and targets (n, n_out) that returns the mean over the samples as a tensor (slower:
        it always runs in torch). By default the one that suits the outputs of the task.
    metric : str or callable, optional
        "bit accuracy", "all-bits accuracy", "class accuracy", "R²", or a function of the same arguments that returns
        a float, higher is better. It decides whether a network is accepted. By default bit accuracy for bits, class
        accuracy for classes, R² for numbers.
    tolerance : float
        Share of the dense network's metric, on the validation samples, that pruning may lose, in [0, 1). An accepted
        network also exceeds what a constant predictor reaches.
    unit_share : float
        Share of the tolerance that pruning units may use, in [0, 1]. With 1, as in the publication, edge pruning can
        start from a network at the limit and then remove nothing.
    unit_step, edge_step : float
        P_u and P_e, percent in (0, 100].
    edges_of : {"dense", "left"}
        What `edge_step` is a percentage of: the edges of the dense network, as in the publication, or those that are
        left, which takes far fewer rounds to a low density. Then pruning units, and edges, also ends when an eighth of
        the first step is rejected.
    slow_down : bool
        Whether steps become smaller as accuracy falls towards the limit. While the network is as accurate as the dense
        one, a step is `edge_step`; when three quarters of the tolerance are left, it is three quarters of that; when
        half or less is left, it is half.
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
    dense_epochs: int | None = None
    easy_epochs: int | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 1e-4
    patience: int | None = 2
    give_up: int | None = 10
    loss: str | LossFunction | None = None
    metric: str | MetricFunction | None = None
    tolerance: float = 0.005
    unit_share: float = 0.5
    unit_step: float = 20.0
    edge_step: float = 2.5
    edges_of: EdgesOf = "dense"
    slow_down: bool = False
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        AdamSettings.__post_init__(self)
        check_choice("schedule", self.schedule, ("constant", "cosine"))
        for name in ("dense_epochs", "easy_epochs", "patience", "give_up"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), at_least=1)
        Objective.of("bits", n_outputs=1, loss=self.loss, metric=self.metric)
        _ = self.limits
        if not isinstance(self.mixed_precision, bool):
            raise TypeError(f"`mixed_precision` must be True or False (got {self.mixed_precision!r})")

    @property
    def limits(self) -> Limits:
        """How far a network is pruned."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, from 1 on."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2


def fit(
    network: CompactMLP,
    task: SplitTask,
    *,
    settings: WideSettings,
    key: tuple[int, ...],
    enough: float = math.inf,
    objective: Objective = BITS,
) -> Fitted[CompactMLP]:
    """Train a network once; Adam starts with zero moments, and pruned parameters stay exactly 0.

    Returns the network of the epoch with the highest metric on the validation samples, then the lowest loss. The
    orders of the samples, and samples that are drawn, depend on `key`. From the metric `enough` on, `patience` counts
    an epoch.
    """
    validation, train = network.view(task.validation), network.view(task.train)
    in_torch = callable(objective.loss) or task.train.inputs.is_cuda
    is_dense = in_torch or network.n_edges > max(SPARSE_BELOW * network.n_weights, FEW)
    trainer = (_Dense if is_dense else _Sparse)(network, settings, objective)
    best, best_loss = Fitted(network=network, epochs=0, accuracy=-math.inf), math.inf
    top, top_epoch, n_enough, epoch = -math.inf, 0, 0, 0  # top: the best metric of a trained network
    with nullcontext() if network.n_weights > LARGE else one_thread_per_operation():
        for epoch in range(settings.epochs + 1):  # epoch 0 evaluates the network without training
            if epoch:
                if task.draw is not None:
                    train = task.draw(np.random.default_rng([*key, epoch]), network.units[0])
                order = torch.randperm(train.n_samples, generator=keyed_generator(*key, epoch))
                trainer.epoch(train, order, settings.rate(epoch))
            current = trainer.network()
            accuracy, loss = evaluate(current, validation, objective)
            if (accuracy, -loss) > (best.accuracy, -best_loss):
                best, best_loss = Fitted(network=current, epochs=epoch, accuracy=accuracy), loss
            if epoch and accuracy > top:
                top, top_epoch = accuracy, epoch
            n_enough = n_enough + 1 if epoch and accuracy >= enough else 0
            if n_enough == settings.patience or epoch - top_epoch == settings.give_up:
                break
    return Fitted(network=best.network, epochs=epoch, accuracy=best.accuracy)


def evaluate(network: CompactMLP, task: Task, objective: Objective = BITS) -> tuple[float, float]:
    """Return the metric and the mean loss on a task with the inputs that are left."""
    with torch.no_grad():
        outputs = torch.cat([network.forward(inputs) for inputs in task.inputs.split(CHUNK)])
        return objective.measure(outputs, task.targets), float(objective.mean_loss(outputs, task.targets))


class _Dense:
    """Trains dense layers with torch; pruned parameters are set back to 0 after every step.

    `epoch` trains on samples in an order (n,) at a learning rate, `network` returns the present state, as in `_Sparse`.
    """

    def __init__(self, network: CompactMLP, settings: WideSettings, objective: Objective = BITS) -> None:
        self.initial, self.settings, self.mean_loss = network, settings, objective.mean_loss
        self.weights, self.biases = (
            [p.clone().requires_grad_() for p in part] for part in (network.weights, network.biases)
        )
        self.parameters = [*self.weights, *self.biases]
        kept = [*network.masks, *(mask.any(1) for mask in network.masks)]
        self.pruned = [(p, mask) for p, mask in zip(self.parameters, kept, strict=True) if not mask.all()]
        self.adam = torch.optim.Adam(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.mixed_precision = settings.mixed_precision and network.n_weights > LARGE

    def epoch(self, samples: Task, order: Tensor, learning_rate: float) -> None:
        self.adam.param_groups[0]["lr"] = learning_rate
        device = self.initial.stack.kept.device
        inputs, targets = samples.inputs.to(device), samples.targets.to(device)
        for rows in order.to(inputs.device).split(self.settings.batch_size):
            self.adam.zero_grad()
            with torch.autocast(inputs.device.type, enabled=self.mixed_precision, dtype=torch.bfloat16):
                outputs = outputs_of(inputs[rows], self.weights, self.biases)
            self.mean_loss(outputs.float(), targets[rows]).backward()
            self.adam.step()
            with torch.no_grad():
                for parameter, mask in self.pruned:
                    parameter.mul_(mask)

    def network(self) -> CompactMLP:
        return self.initial.with_parameters(torch.cat([p.detach().flatten() for p in self.parameters]))


class _Sparse:
    """Trains the edges alone, with `modgraph.sculpt.sparse`."""

    def __init__(self, network: CompactMLP, settings: WideSettings, objective: Objective = BITS) -> None:
        self.initial, self.settings, self.steps = network, settings, 0
        self.loss = sparse.LOSS_CODES.index(objective.loss)
        sizes, parameters = network.stack.sizes, network.stack.parameters[0]
        first = [0, *accumulate(sizes)]  # first unit of each layer, then their number
        ends = [mask.nonzero() for mask in network.masks]  # [layer]: (edges, 2), sorted by target, then source
        target = torch.cat([end[:, 0] + at for end, at in zip(ends, first[1:], strict=False)])
        source = torch.cat([end[:, 1] + at for end, at in zip(ends, first, strict=False)])
        self.places = edges_of(network.stack.kept, sizes)[0].nonzero()[:, 0]  # of the edges among the parameters
        self.biases = slice(network.n_weights, None)
        packed = torch.cat([parameters[self.places], torch.zeros(sizes[0]), parameters[self.biases]]).numpy()
        self.edges = sparse.SparseNetwork(
            n_inputs=sizes[0],
            n_outputs=sizes[-1],
            start=np.searchsorted(target.numpy(), np.arange(first[-1] + 1)),
            source=source.numpy(),
            parameters=packed,
            moment1=np.zeros_like(packed),
            moment2=np.zeros_like(packed),
        )

    def epoch(self, samples: Task, order: Tensor, learning_rate: float) -> None:
        adam, inputs, targets = self.settings, samples.inputs.numpy(), samples.targets.numpy()
        given = (self.edges, inputs, targets, order.numpy(), self.loss, adam.batch_size, self.steps)
        sparse.train_epoch(*given, learning_rate, adam.weight_decay)
        self.steps += -(-len(order) // adam.batch_size)

    def network(self) -> CompactMLP:
        packed, parameters = torch.from_numpy(self.edges.parameters), torch.zeros_like(self.initial.stack.parameters[0])
        parameters[self.places] = packed[: len(self.places)]
        parameters[self.biases] = packed[len(self.places) + self.edges.n_inputs :]
        return self.initial.with_parameters(parameters)
