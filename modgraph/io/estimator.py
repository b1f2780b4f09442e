"""scikit-learn's multi-layer perceptrons, by themselves or at the end of a pipeline; live and from skops files."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.limits import checked_members, read_header, spend
from modgraph.io.ops import Operations, finish
from modgraph.io.request import NEEDS_TRUST, Reader, Request
from modgraph.io.tensor import check_threshold
from modgraph.io.values import filled
from modgraph.names import unit_names

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import Pipeline

_ACTIVATIONS = {"logistic": "sigmoid"}
# What a fitted MLP holds and skops does not list as safe. Making one runs nothing but its own __new__.
_OPTIMISERS = {f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer")}


def from_estimator(estimator: MLPClassifier | MLPRegressor | Pipeline, *, threshold: float = 0.0) -> LayeredDAG:
    """Build the graph of a fitted scikit-learn MLP.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier, MLPRegressor, or sklearn.pipeline.Pipeline that ends with one
        Fitted. Its coefficients, (in, out), are edges where they are not 0. The steps of a pipeline before the MLP
        must be scalers; they become part of the first weights and biases.
    threshold : float ≥ 0
        Coefficients of at most this magnitude count as pruned, after scaling.

    Returns
    -------
    LayeredDAG
        With weights, biases and activations; inputs have the names of the features where they are known, outputs
        those of the classes where there is one output for each.

    Raises
    ------
    ValueError
        If `estimator` is something else, or not fitted.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> mlp = MLPClassifier((3,), solver="lbfgs", random_state=0).fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    >>> from_estimator(mlp)
    LayeredDAG([2, 3, 1], 9 edges, density 1)
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import Pipeline

    scalers: list[Any] = []
    first: Any = estimator
    mlp: Any = estimator
    if isinstance(estimator, Pipeline):
        *scalers, mlp = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
        first = scalers[0] if scalers else mlp
    if not isinstance(mlp, MLPClassifier | MLPRegressor):
        raise ValueError(
            f"`estimator` must be an MLPClassifier or MLPRegressor, or a Pipeline that ends with one "
            f"(got {type(mlp).__name__})"
        )
    coefficients, biases = getattr(mlp, "coefs_", None), getattr(mlp, "intercepts_", None)
    if not coefficients or not biases or len(coefficients) != len(biases):
        raise ValueError(f"`estimator` must be fitted (got {type(mlp).__name__} without coefficients)")
    limit = check_threshold(threshold)
    ops = Operations(threshold=0.0)  # weights are compared below, where scaling is known
    n_inputs = len(coefficients[0])
    value = ops.input("inputs", size=n_inputs)
    for scaler in scalers:
        scale, shift = _scaling(scaler, n_inputs)
        value = ops.scaled(type(scaler).__name__, value, scale, shift)
    factor = filled(value.views[0].scale, 1.0, n_inputs)
    for at, (matrix, bias) in enumerate(zip(coefficients, biases, strict=True)):
        weights = np.asarray(matrix).T
        if limit > 0:
            weights = np.where(np.abs(weights * factor if at == 0 else weights) <= limit, 0.0, weights)
        value = ops.weigh(f"coefs_{at}", value, weights, np.asarray(bias))
        activation = mlp.activation if at < len(coefficients) - 1 else getattr(mlp, "out_activation_", "identity")
        value = ops.apply(value, _ACTIVATIONS.get(activation, activation))
    dag = finish(ops, [value])
    features, classes = (
        [str(name) for name in np.ravel(getattr(step, key, []))]
        for step, key in ((first, "feature_names_in_"), (mlp, "classes_"))
    )
    inputs = features if len(features) == n_inputs else []
    outputs = classes if len(classes) == len(biases[-1]) else []
    if not inputs and not outputs:
        return dag
    return replace(dag, unit_names=np.array(unit_names(dag, inputs=inputs, outputs=outputs), dtype=np.str_))


def _scaling(scaler: Any, n_inputs: int) -> tuple[FloatArray, FloatArray]:
    """Return what a scaler multiplies each input by and then adds."""
    from sklearn import preprocessing

    scale, shift = np.ones(n_inputs), np.zeros(n_inputs)
    if isinstance(scaler, preprocessing.MinMaxScaler) and not scaler.clip:
        return np.asarray(scaler.scale_, dtype=np.float64), np.asarray(scaler.min_, dtype=np.float64)
    known = preprocessing.StandardScaler | preprocessing.RobustScaler | preprocessing.MaxAbsScaler
    if not isinstance(scaler, known):
        raise ValueError(
            f"step {type(scaler).__name__} of the pipeline is not supported: supported are StandardScaler, "
            "MinMaxScaler, MaxAbsScaler and RobustScaler"
        )
    if getattr(scaler, "scale_", None) is not None:
        scale = 1 / np.asarray(scaler.scale_, dtype=np.float64)
    centre = getattr(scaler, "center_", getattr(scaler, "mean_", None))
    if centre is not None and getattr(scaler, "with_mean", getattr(scaler, "with_centering", False)):
        shift = -np.asarray(centre, dtype=np.float64) * scale
    return scale, shift


def _skops(request: Request) -> LayeredDAG:
    """Read a skops file; types that skops does not know to be safe need trust."""
    io = require("skops.io", purpose="reading skops files", extra="skops")
    with zipfile.ZipFile(request.path) as archive:
        for member in checked_members(archive):
            spend(member.file_size, repr(member.filename))
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    read_header(file, member.filename, size=member.file_size)
    unknown = io.get_untrusted_types(file=request.path)
    odd = sorted(set(unknown) - _OPTIMISERS)
    if odd and not request.trust_pickle:
        raise ValueError(f"it holds {', '.join(odd)[:200]}, and {NEEDS_TRUST}")
    return from_estimator(io.load(request.path, trusted=unknown), threshold=request.threshold)


SKOPS = Reader(name="a skops file", matches=lambda file: "schema.json" in file.members, read=_skops)
