"""Objectives: the loss that training lowers, and the metric that decides whether a network is accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.checks import check_choice

Kind = Literal["bits", "classes", "numbers"]
LossFunction = Callable[[Tensor, Tensor], Tensor]
MetricFunction = Callable[[Tensor, Tensor], float]

LOSSES: Mapping[str, LossFunction] = MappingProxyType(
    {
        "binary cross-entropy": F.binary_cross_entropy_with_logits,
        "softmax cross-entropy": F.cross_entropy,
        "squared error": F.mse_loss,
    }
)
"""Losses by name: of outputs before their sigmoid or softmax (n, n_out) and targets (n, n_out), mean over samples."""


def _bit_accuracy(outputs: Tensor, targets: Tensor) -> float:
    return int(((outputs > 0) == (targets > 0)).sum()) / targets.numel()


def _all_bits_accuracy(outputs: Tensor, targets: Tensor) -> float:
    return int(((outputs > 0) == (targets > 0)).all(1).sum()) / len(targets)


def _class_accuracy(outputs: Tensor, targets: Tensor) -> float:
    if outputs.shape[1] == 1:
        return _bit_accuracy(outputs, targets)
    labels = targets.argmax(1) if targets.ndim == 2 else targets
    return int((outputs.argmax(1) == labels).sum()) / len(targets)


def _r2(outputs: Tensor, targets: Tensor) -> float:
    wanted = targets.double()
    errors = (wanted - outputs).square().sum(0)
    total = (wanted - wanted.mean(0)).square().sum(0)
    return float(torch.where(total > 0, 1 - errors / total, (errors == 0).double()).mean())


METRICS: Mapping[str, MetricFunction] = MappingProxyType(
    {
        "bit accuracy": _bit_accuracy,
        "all-bits accuracy": _all_bits_accuracy,
        "class accuracy": _class_accuracy,
        "R²": _r2,
    }
)
"""Metrics by name, of the same arguments as losses; at most 1, higher is better.

*bit accuracy*: share of correct output bits; *all-bits accuracy*: share of samples with every bit correct; *class
accuracy*: share of samples with the correct class; *R²*: mean over the outputs.
"""

_DEFAULTS: Final[dict[str, tuple[str, str, str]]] = {
    "bits": ("binary cross-entropy", "bit accuracy", "sigmoid"),
    "classes": ("softmax cross-entropy", "class accuracy", "softmax"),
    "numbers": ("squared error", "R²", "identity"),
}
"""Loss, metric and activation of the outputs for each kind of targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a network is trained for, and judged by."""

    kind: Kind  # what the targets are: two classes are one column of 0 and 1, more classes are one-hot
    loss: str | LossFunction  # a key of `LOSSES`, or a function of one's own
    metric: str | MetricFunction  # a key of `METRICS`, or a function of one's own
    activation: str  # of the outputs

    @classmethod
    def of(
        cls,
        kind: Kind,
        *,
        n_outputs: int,
        loss: str | LossFunction | None = None,
        metric: str | MetricFunction | None = None,
    ) -> Objective:
        """Return the objective for targets of a kind with `n_outputs` columns, by default with the usual loss."""
        usual_loss, usual_metric, activation = _DEFAULTS[check_choice("outputs", kind, [*_DEFAULTS])]
        if kind == "classes" and n_outputs == 1:
            usual_loss, activation = "binary cross-entropy", "sigmoid"
        if loss is not None and not callable(loss):
            check_choice("loss", loss, [*LOSSES])
        if metric is not None and not callable(metric):
            check_choice("metric", metric, [*METRICS])
        return cls(kind=kind, loss=loss or usual_loss, metric=metric or usual_metric, activation=activation)

    @property
    def metric_name(self) -> str:
        """Name of the metric, as printed."""
        return name_of(self.metric)

    def mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (n, n_out), a scalar."""
        return (LOSSES[self.loss] if isinstance(self.loss, str) else self.loss)(outputs, targets)

    def measure(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the metric of outputs (n, n_out)."""
        return float((METRICS[self.metric] if isinstance(self.metric, str) else self.metric)(outputs, targets))

    def baseline(self, train: Tensor, targets: Tensor) -> float:
        """Return the metric of the better of two constant predictors, chosen on the targets `train` (n, n_out).

        One predicts the mean of the targets, for bits and classes the more frequent value of each column, the other
        the most frequent row.
        """
        mean = train.mean(0)
        rows, counts = train.unique(dim=0, return_counts=True)
        row = rows[counts.argmax()]
        guesses = (mean, row) if self.kind == "numbers" else (mean - 0.5, row - 0.5)
        return max(self.measure(guess.expand_as(targets), targets) for guess in guesses)

    def slopes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ∂loss/∂output of every sample by itself, (…, n, n_out), for outputs (…, n, n_out)."""
        match self.loss:
            case "binary cross-entropy":
                return (outputs.sigmoid() - targets) / targets.shape[-1]
            case "softmax cross-entropy":
                return outputs.softmax(-1) - targets
            case "squared error":
                return (outputs - targets) * (2 / targets.shape[-1])
        leaf = outputs.detach().flatten(0, -2).requires_grad_()
        wanted = targets.expand_as(outputs).flatten(0, -2)
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(self.mean_loss(leaf, wanted) * len(leaf), leaf)
        return slopes.view_as(outputs)


BITS = Objective(kind="bits", loss="binary cross-entropy", metric="bit accuracy", activation="sigmoid")
"""The objective of the paper: binary cross-entropy, and the share of correct output bits."""


def name_of(choice: object) -> str:
    """Return a text that names a choice in printouts and checkpoints: itself, or where a function is defined."""
    return choice if isinstance(choice, str) else getattr(choice, "__qualname__", type(choice).__qualname__)
