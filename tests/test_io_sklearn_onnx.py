"""Files of skl2onnx with its default options: the same network as the live estimator."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from modgraph.forward import forward
from modgraph.io import from_estimator, load_network

skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, 5)).astype(np.float32)
SETTINGS: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
CASES: dict[str, tuple[Any, Any]] = {
    "two classes": (MLPClassifier(**SETTINGS), RNG.integers(0, 2, 40)),
    "three classes": (MLPClassifier(**SETTINGS), RNG.integers(0, 3, 40)),
    "classes by name": (
        MLPClassifier(**SETTINGS, activation="logistic"),
        np.array(list("abc"))[RNG.integers(0, 3, 40)],
    ),
    "several labels": (MLPClassifier(**SETTINGS), RNG.integers(0, 2, (40, 3))),
    "regression": (MLPRegressor(**SETTINGS, activation="tanh"), RNG.normal(size=40)),
    "scaled": (make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)), RNG.integers(0, 3, 40)),
    "scaled to a range": (make_pipeline(MinMaxScaler(), MLPClassifier(**SETTINGS)), RNG.integers(0, 3, 40)),
}


@pytest.mark.parametrize("name", CASES)
def test_files_of_skl2onnx_are_the_live_network(name: str, tmp_path: Path) -> None:
    estimator, targets = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations are not enough
        estimator.fit(INPUTS, targets)
        (tmp_path / "net.onnx").write_bytes(skl2onnx.to_onnx(estimator, INPUTS[:1]).SerializeToString())
    dag, live = load_network(tmp_path / "net.onnx"), from_estimator(estimator)
    outputs = forward(live, INPUTS)[:, -live.layer_sizes[-1] :]
    if name == "two classes":  # the file shows both probabilities
        outputs = np.hstack([1 - outputs, outputs])
    assert dag.layer_sizes[:2] == live.layer_sizes[:2]
    np.testing.assert_allclose(forward(dag, INPUTS)[:, -dag.layer_sizes[-1] :], outputs, atol=1e-5)
