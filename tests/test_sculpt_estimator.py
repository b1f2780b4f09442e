"""`SculptedMLP`: scikit-learn's own checks, every task, names, and what it refuses."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_multilabel_classification
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import modgraph as mg
from modgraph.sculpt import SculptedMLP

QUICK: dict[str, Any] = {"hidden": (16,), "unit_step": 40, "edge_step": 20}

FAILED_CHECKS: dict[str, str] = {}
"""Checks of scikit-learn that make no sense here, with the reason; none so far."""


@parametrize_with_checks(  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    [SculptedMLP(task="classification", epochs=20, **QUICK), SculptedMLP(task="regression", epochs=20, **QUICK)],
    expected_failed_checks=lambda _: FAILED_CHECKS,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def iris() -> tuple[pd.DataFrame, pd.Series]:
    frame = load_iris(as_frame=True)
    return frame.data, frame.target.map(dict(enumerate(frame.target_names)))


@pytest.fixture(scope="module")
def model(iris: tuple[pd.DataFrame, pd.Series]) -> SculptedMLP:
    return SculptedMLP(**QUICK).fit(*iris)


def test_labels_are_learnt_and_the_graph_is_the_model(model: SculptedMLP, iris: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = iris
    assert model.metric_ == "class accuracy"
    assert model.score(X, y) == accuracy_score(y, model.predict(X)) > 0.9
    assert model.accepted_
    assert model.metrics_["class accuracy"] >= model.threshold_ > model.baseline_
    assert model.threshold_ == pytest.approx(0.99 * model.dense_)
    values = mg.forward(model.network_, X.to_numpy())
    np.testing.assert_allclose(values[:, -3:], model.predict_proba(X))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert (model.classes_[values[:, -3:].argmax(axis=1)] == model.predict(X)).all()
    assert model.network_.n_edges == [done for done in model.history_ if done.accepted][-1].edges
    assert model.network_.density < 0.5
    assert {done.metric for done in model.history_} == {"class accuracy"}


def test_names_of_columns_and_labels_reach_the_graph(model: SculptedMLP) -> None:
    names = model.network_.unit_names
    assert names is not None
    assert names[:4].tolist() == model.feature_names_in_.tolist()
    assert names[-3:].tolist() == ["setosa", "versicolor", "virginica"]
    assert model.hierarchy_ is model.hierarchy_
    assert model.hierarchy_.dag == model.network_


def test_a_fitted_model_can_be_cloned_pickled_and_searched(
    model: SculptedMLP, iris: tuple[pd.DataFrame, pd.Series]
) -> None:
    X, y = iris
    assert clone(model).get_params() == model.get_params()
    assert (pickle.loads(pickle.dumps(model)).predict(X) == model.predict(X)).all()
    search = GridSearchCV(make_pipeline(StandardScaler(), model), {"sculptedmlp__tolerance": [0.02, 0.3]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.8


def test_constants_and_the_validation_samples_decide() -> None:
    """A network that does not learn is worse than a constant, and nothing is accepted."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 5)), rng.normal(size=300)
    noise = SculptedMLP(task="regression", epochs=1, learning_rate=1e-9, **QUICK).fit(X, y)
    assert not noise.accepted_
    assert len(noise.history_) == 1
    assert "no better than a constant" in noise.network_.notes[-1]
    X, labels = make_classification(400, 6, n_informative=3, random_state=1)
    mine = SculptedMLP(**QUICK).fit(X[:200], labels[:200], validation=(X[200:], labels[200:]))
    assert mine.metrics_["class accuracy"] == mine.score(X[200:], labels[200:])
    assert (mine.predict_proba(X).argmax(axis=1) == mine.predict(X)).all()


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_numbers_are_predicted_in_their_own_unit(n_outputs: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4)) * [1, 100, 1, 1] + [0, 5000, 0, 0]
    y = np.stack([1e6 + 1e4 * X[:, 1], X[:, 0] - X[:, 2]], axis=1)[:, :n_outputs]
    y = y[:, 0] if n_outputs == 1 else y
    model = SculptedMLP(task="regression", **QUICK).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) == pytest.approx(r2_score(y, model.predict(X)))
    assert model.score(X, y) > 0.9
    assert not hasattr(model, "predict_proba")
    kept = np.unique(model.network_.trim().unit_index[model.network_.trim().layer == 0])
    assert kept.tolist() == ([1] if n_outputs == 1 else [0, 1, 2])


def test_several_bits() -> None:
    X, y = make_multilabel_classification(500, 8, n_classes=3, random_state=2)
    model = SculptedMLP(task="multilabel", hidden=(24,), tolerance=0.1, edge_step=10).fit(X, y)
    assert model.metric_ == "all-bits accuracy"
    assert model.metrics_["bit accuracy"] > model.metrics_["all-bits accuracy"] > model.baseline_
    assert model.score(X, y) == accuracy_score(y, model.predict(X))
    assert model.predict_proba(X).shape == y.shape


def test_a_truth_table_is_learnt_as_a_whole() -> None:
    X = np.array(list(itertools.product((0, 1), repeat=4)))
    y = np.stack([X[:, 0] ^ X[:, 1], X[:, 2] & X[:, 3]], axis=1)
    model = SculptedMLP(task="boolean", hidden=(12,), unit_step=50, edge_step=5, trials=2).fit(X, y)
    assert model.accepted_
    assert model.score(X, y) == 1
    assert (model.predict(X) == y).all()
    assert model.hierarchy_.n_modules == 2
    rounds = model.history_
    assert (rounds[0].phase, rounds[0].sizes, rounds[0].density) == ("dense", (4, 12, 2), 1)
    last = [done for done in rounds if done.accepted][-1]
    assert (last.edges, last.sizes) == (model.network_.n_edges, model.network_.trim().layer_sizes)
    with pytest.raises(ValueError, match="`loss` and `metric` must be None"):
        SculptedMLP(task="boolean", loss="squared error").fit(X, y)


def absolute(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).abs().mean()


def test_a_loss_and_criteria_of_your_own() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 3))
    y = X[:, 0] + np.where(rng.random(300) < 0.1, 50, 0)  # outliers that squared errors would follow
    seen = []

    def weights(stack: Any, task: Any) -> torch.Tensor:
        seen.append(task.n_samples)
        return torch.cat([weight.flatten(1) for weight in stack.weights], dim=1).abs()

    model = SculptedMLP(
        task="regression",
        loss=absolute,
        metric=lambda outputs, targets: -float((outputs - targets).abs().median()) + 1,
        unit_score="random",
        edge_score=weights,
        epochs=30,
        tolerance=0.05,
        **QUICK,
    ).fit(X, y)
    assert np.median(np.abs(model.predict(X) - X[:, 0])) < 1
    assert set(seen) == {225}
    assert "lambda" in model.metric_


def test_an_interrupted_fit_goes_on(tmp_path: Path, iris: tuple[pd.DataFrame, pd.Series]) -> None:
    whole, rounds = SculptedMLP(**QUICK).fit(*iris), []

    def stop(done: Any) -> None:
        rounds.append(done)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    model = SculptedMLP(checkpoint=tmp_path / "iris.npz", progress=stop, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*iris)
    assert model.fit(*iris).network_ == whole.network_
    assert len(rounds) == len(whole.history_)


@pytest.mark.parametrize(
    ("change", "y", "message"),
    [
        ({"task": "ranking"}, [0, 1, 0, 1], "`task` must be"),
        ({"task": "multilabel"}, [0, 1, 2, 1], r"`y` must have bits 0 and 1 .* \(got 2\)"),
        ({"trials": 0}, [0, 1, 0, 1], "`trials` must be an int ≥ 1"),
        ({"validation_share": 1.0}, [0, 1, 0, 1], "`validation_share` must be a number in"),
        ({"loss": "hinge"}, [0, 1, 0, 1], '`loss` must be "binary cross-entropy"'),
        ({}, [0.5, 1.5, 0.1, 1.2], "Unknown label type"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SculptedMLP(**change).fit(np.eye(4), np.array(y))


def test_labels_that_were_never_seen_are_refused(model: SculptedMLP, iris: tuple[pd.DataFrame, pd.Series]) -> None:
    with pytest.raises(ValueError, match="`y` must have labels that `fit` has seen"):
        model.score(iris[0], ["rose"] * 150)
