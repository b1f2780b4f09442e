"""Targets: how `y` becomes what a network learns, and its outputs become predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from modgraph.arrays import FloatArray
from modgraph.dag import LayeredDAG
from modgraph.sculpt.objective import Kind, LossFunction, MetricFunction, Objective
from modgraph.sculpt.search import SculptedNetwork

TaskName = Literal["classification", "regression", "multilabel", "boolean"]

TASKS: Final[dict[str, tuple[Kind, str]]] = {
    "classification": ("classes", "class accuracy"),
    "regression": ("numbers", "R²"),
    "multilabel": ("bits", "all-bits accuracy"),
    "boolean": ("bits", "all-bits accuracy"),
}
"""What the targets of each task are, and its metric."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaling:
    """A shift and a scale for each column: scaled = (given − shift) / scale."""

    shift: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, columns: FloatArray, *, standardise: bool) -> Scaling:
        """Return the scaling of columns (n, k) to mean 0 and deviation 1, or one that changes nothing."""
        if not standardise:
            return cls(shift=np.zeros(columns.shape[1]), scale=np.ones(columns.shape[1]))
        deviation = columns.std(axis=0)
        tiny = 10 * np.finfo(np.float64).eps * np.abs(columns).max(axis=0, initial=0)
        return cls(shift=columns.mean(axis=0), scale=np.where(deviation > tiny, deviation, 1.0))

    def scaled(self, columns: FloatArray) -> FloatArray:
        """Return columns of given numbers, scaled."""
        return (columns - self.shift) / self.scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What `fit` learnt about `y`."""

    task: str  # a key of `TASKS`
    classes: NDArray[Any] | None  # for classification
    is_flat: bool  # whether `y` had one axis
    scaling: Scaling  # of numbers; others stay as they are
    objective: Objective

    @classmethod
    def of(
        cls,
        y: NDArray[Any],
        *,
        task: str,
        loss: str | LossFunction | None,
        metric: str | MetricFunction | None,
    ) -> tuple[Targets, FloatArray]:
        """Learn classes and scales from `y`; return them, and `y` as columns."""
        kind, usual_metric = TASKS[task]
        classes = None
        if task == "classification":
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            classes = np.unique(y)
            if len(classes) < 2:
                raise ValueError("`y` must have two classes or more (got one class)")
        columns = columns_of(y, task=task, classes=classes)
        objective = Objective.of(kind, n_outputs=columns.shape[1], loss=loss, metric=metric or usual_metric)
        scaling = Scaling.of(columns, standardise=kind == "numbers")
        return cls(task=task, classes=classes, is_flat=y.ndim == 1, scaling=scaling, objective=objective), columns

    def columns(self, y: NDArray[Any]) -> FloatArray:
        """Return other `y` as columns."""
        return columns_of(y, task=self.task, classes=self.classes)

    def predictions(self, outputs: FloatArray) -> NDArray[Any]:
        """Return outputs before their sigmoid or softmax, (n, n_out), as labels, numbers or bits in the form of `y`."""
        if self.classes is not None:
            place = (outputs[:, 0] > 0).astype(int) if outputs.shape[1] == 1 else outputs.argmax(axis=1)
            labels: NDArray[Any] = self.classes[place]
            return labels
        predicted = outputs if self.task == "regression" else (outputs > 0).astype(np.int64)
        return predicted[:, 0] if self.is_flat else predicted

    def probabilities(self, outputs: FloatArray) -> FloatArray:
        """Return such outputs as the probability of each class or bit."""
        if self.classes is not None and outputs.shape[1] == 1:
            outputs = np.hstack([-outputs, outputs])
        is_softmax = self.objective.activation == "softmax"
        shares: FloatArray = softmax(outputs, axis=1) if is_softmax else expit(outputs)
        return shares

    def names(self, y: Any) -> list[str] | None:
        """Return the names of the outputs: those of the classes, or of the columns of `y` in pandas."""
        if self.classes is not None:
            return [str(label) for label in (self.classes if len(self.classes) > 2 else self.classes[1:])]
        if hasattr(y, "columns"):
            return [str(name) for name in y.columns]
        return [str(y.name)] if getattr(y, "name", None) is not None else None


def columns_of(y: NDArray[Any], *, task: str, classes: NDArray[Any] | None) -> FloatArray:
    """Return `y` as columns: numbers, bits, 0 and 1 for two classes, one-hot for more."""
    if classes is not None:
        y = column_or_1d(y)
        unknown = ~np.isin(y, classes)
        if unknown.any():
            raise ValueError(f"`y` must have labels that `fit` has seen (got {y[unknown][0]!r})")
        place = np.searchsorted(classes, y)
        return np.eye(len(classes))[place] if len(classes) > 2 else place[:, None].astype(np.float64)
    columns = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
    if task != "regression" and not np.isin(columns, (0, 1)).all():
        wrong = columns[~np.isin(columns, (0, 1))][0]
        raise ValueError(f"`y` must have bits 0 and 1 for the task {task} (got {wrong:g})")
    return columns


def graph_of(network: SculptedNetwork, *, inputs: Scaling, outputs: Scaling) -> LayeredDAG:
    """Return the graph of a network, with the scaling of its inputs and outputs in its weights and biases."""
    weights = [weight.astype(np.float64) for weight in network.weights]
    biases = [bias.astype(np.float64) for bias in network.biases]
    weights[0] /= inputs.scale
    biases[0] -= weights[0] @ inputs.shift
    weights[-1] *= outputs.scale[:, None]
    biases[-1] = biases[-1] * outputs.scale + outputs.shift
    activations = ["relu"] * (len(weights) - 1) + [network.activation]
    return LayeredDAG.from_masks(network.masks, weights=weights, biases=biases, activations=activations)


def add_tags(tags: Any, *, task: str) -> None:
    """Tell scikit-learn what an estimator of this task takes and is."""
    tags.target_tags.required = True
    tags.target_tags.multi_output = task != "classification"
    if task == "regression":
        tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
    else:
        tags.estimator_type = "classifier"
        tags.classifier_tags = ClassifierTags(
            multi_class=task == "classification", multi_label=task != "classification"
        )
