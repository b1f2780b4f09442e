"""`SculptedMLP`: sculpting a network on data, in the conventions of scikit-learn."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from modgraph.arrays import FloatArray
from modgraph.checks import check_choice, check_int, check_number
from modgraph.forward import forward
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.names import unit_names
from modgraph.sculpt.choose import check_rule, chosen_networks
from modgraph.sculpt.fit import WideSettings
from modgraph.sculpt.objective import METRICS, Kind, LossFunction, MetricFunction
from modgraph.sculpt.prune import Criterion
from modgraph.sculpt.rounds import Round
from modgraph.sculpt.search import EDGE_STEPS, UNIT_STEPS, SculptedNetwork, sculpt
from modgraph.sculpt.targets import TASKS, Scaling, Targets, TaskName, add_tags, graph_of
from modgraph.sculpt.tasks import SplitTask, Task
from modgraph.sculpt.train import TrainSettings
from modgraph.sculpt.wide import sculpt_wide

APPLIES: Final[dict[Kind, tuple[str, ...]]] = {
    "classes": ("class accuracy",),
    "numbers": ("R²",),
    "bits": ("all-bits accuracy", "bit accuracy"),
}
"""Metrics that are reported for each kind of targets."""

ADAM: Final = ("learning_rate", "batch_size", "epochs", "weight_decay")
"""Parameters that are passed on to the settings of the engines."""

OPTIONS: Final = ("hidden", "unit_score", "edge_score", "progress")
"""Parameters that are passed on to the engines."""

TOLERANCE: Final = 0.01  # share of the metric, for samples
LEARNING_RATE: Final = 0.002  # of Adam, for samples
TRAINING: Final = 3000  # optimiser steps of a training run at most, for samples
FEWEST_EPOCHS: Final = 30  # whatever the number of steps
MOST_EPOCHS: Final = 300
GIVE_UP: Final = 3  # a training run ends after a third of its epochs without a better metric
SMALLEST_BATCH: Final = 16  # samples
LARGEST_BATCH: Final = 512  # samples
STEPS: Final = 32  # optimiser steps in an epoch, as far as these bounds allow


def _has_probabilities(model: SculptedMLP) -> bool:
    return model.task != "regression"


class SculptedMLP(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A multi-layer perceptron that is trained and then pruned as far as it stays good.

    Samples are learnt by one network with `sculpt_wide`; part of them, or samples of your own, decide how far it is
    pruned. A Boolean table is learnt as a whole, with `sculpt`, by many small networks side by side.

    Parameters
    ----------
    hidden : sequence of int
        Units of the hidden layers, each ≥ 1.
    task : {"classification", "regression", "multilabel", "boolean"}
        *classification*: one label for each sample; the metric is class accuracy. *regression*: one number or several;
        R². *multilabel*: several bits; all-bits accuracy, the share of samples with every bit correct. *boolean*: the
        rows are a whole truth table that must be learnt exactly.
    standardise : bool
        Whether inputs are shifted and scaled to mean 0 and variance 1 before training. `network_` takes them as they
        are: the scaling becomes part of its first weights and biases. (Not for *boolean*.) Numbers to predict always
        are.
    loss : str or callable, optional
        As in `WideSettings`; not for *boolean*.
    metric : str or callable, optional
        As in `WideSettings`; by default as above; not for *boolean*.
    tolerance : float, optional
        Share of the dense network's metric that pruning may lose, in [0, 1), by default 0.01. For *boolean*: share of
        the bits that may be wrong, by default 0.
    unit_step, edge_step : float, optional
        P_u and P_e, percent in (0, 100]. By default those of `WideSettings`; for *boolean* all published ones.
    unit_score, edge_score : {"published", "taylor", "fisher", "random"} or callable
        What is pruned first: see `sculpt`.
    learning_rate, weight_decay : float, optional
        Of Adam. By default the rate is 0.002; for *boolean* 0.05.
    batch_size : int, optional
        Samples in a step. By default so many that an epoch has about 32 steps, within 16 … 512; for *boolean* 8.
    epochs : int, optional
        Passes over the samples in each training run. By default so many that a run has about 3,000 steps, within 30 …
        300; for *boolean* 30.
    trials : int
        Number of networks to start from, ≥ 1. For *boolean* the network that shows the modules that most trials agree
        on is kept.
    choose : str or callable
        Which of the accepted networks of several trials is kept: "fewest_edges"; "fewest_joined_inputs", in which the
        fewest pairs of inputs meet in a unit of the first hidden layer; or a callable that gets the networks
        (`SculptedNetwork`) and returns one. Not for *boolean*.
    validation_share : float
        Share of the samples that decide how far the network is pruned, in (0, 1).
    random_state : int ≥ 0, numpy.random.Generator or None
        Determines the initial weights, the split and the orders of the samples.
    checkpoint : path-like, optional
        A file (.npz) that is written after every round; an interrupted `fit` on the same samples continues from it.
    device : str or torch.device, optional
        Device to compute on, by default the CPU.
    progress : callable, optional
        Called after every round: with a `Round`, for *boolean* with the networks done and their number.

    Attributes
    ----------
    network_ : LayeredDAG
        The network with weights, biases, activations, and the names of features and classes where they are known.
    hierarchy_ : ModuleHierarchy
        Its modules, with the defaults of `detect_modules`.
    accepted_ : bool
        Whether `network_` is good enough. If not, it is the dense network (`network_.notes` says why).
    metric_ : str
        Name of the metric.
    metrics_ : dict of str to float
        Every metric that applies, by name, on the samples that decided.
    dense_, threshold_, baseline_ : float
        The metric of the dense network, the one that was asked of the pruned network, and that of a constant.
    history_ : tuple of Round
        Every training run; for *boolean* those of the network that was kept, with the share of correct bits as metric.
    classes_ : numpy.ndarray
        For *classification*, the labels.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = SculptedMLP(hidden=(16,), edge_step=20).fit(X, y)
    >>> model.metric_, model.accepted_, model.network_.density < 0.5
    ('class accuracy', True, True)
    """

    __metadata_request__fit = {"validation": UNUSED, "test": UNUSED}  # noqa: RUF012 (scikit-learn's form)

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (64, 64),
        task: TaskName = "classification",
        standardise: bool = True,
        loss: str | LossFunction | None = None,
        metric: str | MetricFunction | None = None,
        tolerance: float | None = None,
        unit_step: float | None = None,
        edge_step: float | None = None,
        unit_score: str | Criterion = "published",
        edge_score: str | Criterion = "published",
        learning_rate: float | None = None,
        weight_decay: float = 1e-4,
        batch_size: int | None = None,
        epochs: int | None = None,
        trials: int = 1,
        choose: str | Callable[[Sequence[SculptedNetwork]], SculptedNetwork] = "fewest_edges",
        validation_share: float = 0.25,
        random_state: int | np.random.Generator | None = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        progress: Callable[..., object] | None = None,
    ) -> None:
        self.hidden = hidden
        self.task = task
        self.standardise = standardise
        self.loss = loss
        self.metric = metric
        self.tolerance = tolerance
        self.unit_step = unit_step
        self.edge_step = edge_step
        self.unit_score = unit_score
        self.edge_score = edge_score
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.trials = trials
        self.choose = choose
        self.validation_share = validation_share
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.device = device
        self.progress = progress

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        test: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> SculptedMLP:
        """Train a network and prune it.

        Parameters
        ----------
        X : array-like or DataFrame, shape (n_samples, n_features)
        y : array-like, shape (n_samples,) or (n_samples, n_outputs)
        validation : pair of such arrays, optional
            Samples that decide how far the network is pruned; by default a share of `X` and `y`. Not for *boolean*.
        test : pair of such arrays, optional
            Samples that decide nothing: `history_` holds the metric on them.

        Returns
        -------
        SculptedMLP
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` or `y` has the wrong form for the task.
        """
        check_choice("task", self.task, [*TASKS])
        trials = check_int("trials", self.trials, at_least=1)
        check_rule(self.choose)
        self.__dict__.pop("hierarchy_", None)
        is_numeric = self.task == "regression"
        inputs, given = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=is_numeric)
        self._targets, columns = Targets.of(given, task=self.task, loss=self.loss, metric=self.metric)
        self.metric_ = self._targets.objective.metric_name
        if self._targets.classes is not None:
            self.classes_ = self._targets.classes
        rng = self.random_state
        if isinstance(rng, int | np.integer):
            first = check_int("random_state", rng, at_least=0)
        else:
            first = int(np.random.default_rng(rng).integers(2**31))
        seeds = range(first, first + trials)
        if self.task == "boolean":
            self._fit_table(inputs, columns, seeds)
        else:
            self._fit_samples(inputs, columns, seeds, validation, test)
        self._name_units(self._targets.names(y))
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict labels, numbers, or bits.

        Parameters
        ----------
        X : array-like or DataFrame, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_outputs)
            Of the form of the `y` that `fit` got.
        """
        outputs = self._outputs(X)
        return self._targets.predictions(outputs)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Predict the probability of each class, or for several bits that each is 1.

        Parameters
        ----------
        X : array-like or DataFrame, shape (n_samples, n_features)

        Returns
        -------
        ndarray of float, shape (n_samples, n_classes) or (n_samples, n_outputs)
        """
        outputs = self._outputs(X)
        return self._targets.probabilities(outputs)

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the metric (`metric_`) on samples.

        Parameters
        ----------
        X : array-like or DataFrame, shape (n_samples, n_features)
        y : array-like, shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        float
        """
        outputs = torch.from_numpy(self._outputs(X))
        return self._targets.objective.measure(outputs, torch.tensor(self._targets.columns(np.asarray(y))))

    @cached_property
    def hierarchy_(self) -> ModuleHierarchy:
        """The modules of `network_`."""
        if "network_" not in vars(self):
            raise AttributeError("`hierarchy_` exists after `fit`")
        return detect_modules(self.network_)

    # --- Training -----------------------------------------------------------------------------------------------------

    def _fit_samples(
        self,
        X: FloatArray,
        columns: FloatArray,
        seeds: range,
        validation: tuple[ArrayLike, ArrayLike] | None,
        test: tuple[ArrayLike, ArrayLike] | None,
    ) -> None:
        """Sculpt one wide network for each seed."""
        tested = (X[:0], columns[:0]) if test is None else self._other(*test)
        if validation is None:
            X, held_X, columns, held = self._split(X, columns, seed=seeds[0])
        else:
            held_X, held = self._other(*validation)
        scaling, objective = Scaling.of(X, standardise=self.standardise), self._targets.objective

        def table(X: FloatArray, columns: FloatArray) -> Task:
            scaled = scaling.scaled(X), self._targets.scaling.scaled(columns)
            inputs, targets = (torch.tensor(part, dtype=torch.float32, device=self.device) for part in scaled)
            return Task(inputs=inputs, targets=targets)

        data = SplitTask(
            train=table(X, columns), validation=table(held_X, held), test=table(*tested), outputs=objective.kind
        )
        batch = max(SMALLEST_BATCH, min(LARGEST_BATCH, len(X) // STEPS))
        batch = batch if self.batch_size is None else self.batch_size
        epochs = max(FEWEST_EPOCHS, min(MOST_EPOCHS, TRAINING * batch // len(X)))
        epochs = epochs if self.epochs is None else self.epochs
        defaults = {"learning_rate": LEARNING_RATE, "batch_size": batch, "epochs": epochs, "tolerance": TOLERANCE}
        settings = WideSettings(
            give_up=max(1, epochs // GIVE_UP),
            loss=objective.loss,
            metric=objective.metric,
            **defaults | self._given("tolerance", "unit_step", "edge_step", *ADAM),
        )
        options: dict[str, Any] = {name: getattr(self, name) for name in OPTIONS}
        found = [
            sculpt_wide(data, seed=seed, settings=settings, checkpoint=self._checkpoint(seed, seeds), **options)
            for seed in seeds
        ]
        accepted = [out.network for out in found if out.network.accepted]
        network = chosen_networks([accepted], self.choose)[0] if accepted else found[0].network
        out = next(out for out in found if out.network is network)
        self.threshold_, self.baseline_, self.dense_ = out.threshold, out.baseline, out.rounds[0].validation
        self._keep(network, out.rounds, scaling, held_X, held)
        self.metrics_[self.metric_] = network.accuracy

    def _fit_table(self, X: FloatArray, columns: FloatArray, seeds: range) -> None:
        """Sculpt many small networks on a whole truth table."""
        if self.loss is not None or self.metric is not None:
            raise ValueError('`loss` and `metric` must be None for the task "boolean"')
        self.threshold_, self.dense_ = 1 - (self.tolerance or 0), float("nan")
        options: dict[str, Any] = {name: getattr(self, name) for name in (*OPTIONS, "checkpoint", "device")}
        found = sculpt(
            (X, columns),
            seeds=seeds,
            unit_steps=UNIT_STEPS if self.unit_step is None else [self.unit_step],
            edge_steps=EDGE_STEPS if self.edge_step is None else [self.edge_step],
            settings=TrainSettings(accuracy_threshold=self.threshold_, **self._given(*ADAM)),
            **options,
        )
        network = found.networks[0] if found.consensus is None else found.consensus.network
        wanted = torch.from_numpy(columns)
        self.baseline_ = self._targets.objective.baseline(wanted, wanted)
        self._keep(network, found.rounds(network), Scaling.of(X, standardise=False), X, columns)

    def _keep(
        self, network: SculptedNetwork, rounds: tuple[Round, ...], scaling: Scaling, X: FloatArray, columns: FloatArray
    ) -> None:
        """Keep a network, and measure it on the samples that decided."""
        self.history_, self.accepted_, objective = rounds, network.accepted, self._targets.objective
        self.network_ = graph_of(network, inputs=scaling, outputs=self._targets.scaling)
        outputs = torch.from_numpy(self._outputs_of(X))
        self.metrics_ = {name: METRICS[name](outputs, torch.from_numpy(columns)) for name in APPLIES[objective.kind]}

    def _other(self, X: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return other samples as inputs and targets."""
        return validate_data(self, X, dtype=np.float64, reset=False), self._targets.columns(np.asarray(y))

    def _split(self, X: FloatArray, columns: FloatArray, *, seed: int) -> list[FloatArray]:
        """Split samples into those to train on and those that decide; classes keep their shares where possible."""
        share, wanted = self.validation_share, "a number in (0, 1)"
        n_held = max(1, round(check_number("validation_share", share, lambda x: 0 < x < 1, wanted=wanted) * len(X)))
        if len(X) - n_held < 1:
            raise ValueError(f"`X` must have two samples or more (got n_samples = {len(X)})")
        strata = None
        if self.task == "classification":
            labels = columns.argmax(axis=1) if columns.shape[1] > 1 else columns[:, 0]
            counts = np.unique(labels, return_counts=True)[1]
            if counts.min() > 1 and min(n_held, len(X) - n_held) >= len(counts):
                strata = labels
        return list(train_test_split(X, columns, test_size=n_held, stratify=strata, random_state=seed % 2**32))

    def _given(self, *names: str) -> dict[str, Any]:
        """Return the parameters of these names that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _checkpoint(self, seed: int, seeds: range) -> Path | None:
        """Return the checkpoint of a trial."""
        if self.checkpoint is None:
            return None
        path = Path(self.checkpoint)
        return path if len(seeds) == 1 else path.with_name(f"{path.stem}-{seed}{path.suffix}")

    # --- The network --------------------------------------------------------------------------------------------------

    def _name_units(self, output_names: Sequence[str] | None) -> None:
        """Name inputs and outputs where names are known, and say if nothing could be pruned."""
        dag, features = self.network_, getattr(self, "feature_names_in_", None)
        changes: dict[str, Any] = {}
        if features is not None or output_names is not None:
            names = unit_names(dag, inputs=() if features is None else list(features), outputs=output_names or ())
            changes["unit_names"] = np.array(names)
        if not self.accepted_:
            better = "is no better than a constant" if self.task != "boolean" else "does not learn the table"
            changes["notes"] = (*dag.notes, f"not pruned: the dense network {better} ({self.metric_})")
        self.network_ = dataclasses.replace(dag, **changes)

    def _outputs(self, X: ArrayLike) -> FloatArray:
        check_is_fitted(self)
        return self._outputs_of(validate_data(self, X, dtype=np.float64, reset=False))

    def _outputs_of(self, X: FloatArray) -> FloatArray:
        """Return the outputs before their sigmoid or softmax, (n_samples, n_outputs)."""
        values = forward(self.network_, X, activations=["relu"] * (self.network_.n_layers - 2) + ["identity"])
        return values[:, -self.network_.layer_sizes[-1] :].copy()

    def __sklearn_is_fitted__(self) -> bool:
        return "network_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        add_tags(tags, task=self.task)
        return tags
