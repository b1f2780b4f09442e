"""scikit-learn's multi-layer perceptrons, live or from files."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modgraph.dag import LayeredDAG
from modgraph.io.build import Builder
from modgraph.io.matrix import check_threshold, pruned, vector
from modgraph.io.tensor import checked_members, read_npy

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

_NAMES = {"logistic": "sigmoid"}
# What a fitted MLP holds and skops does not list as safe; making one runs nothing but its own __new__.
_OPTIMISERS = {f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer")}


def from_estimator(mlp: MLPClassifier | MLPRegressor, *, threshold: float = 0.0) -> LayeredDAG:
    """Build the graph of a fitted scikit-learn MLP.

    Parameters
    ----------
    mlp : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted. Its coefficients, (in, out), are edges where they are not 0.
    threshold : float ≥ 0
        Coefficients of at most this magnitude count as pruned.

    Returns
    -------
    LayeredDAG
        With weights, biases and activations; inputs have the names of the features where they are known, outputs
        those of the classes where there is one output for each.

    Raises
    ------
    ValueError
        If `mlp` is something else, or not fitted.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> mlp = MLPClassifier((3,), solver="lbfgs", random_state=0).fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    >>> from_estimator(mlp)
    LayeredDAG([2, 3, 1], 9 edges, density 1)
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if not isinstance(mlp, MLPClassifier | MLPRegressor):
        raise ValueError(f"`mlp` must be an MLPClassifier or MLPRegressor (got {type(mlp).__name__})")
    coefficients, biases = getattr(mlp, "coefs_", None), getattr(mlp, "intercepts_", None)
    if not coefficients or not biases or len(coefficients) != len(biases):
        raise ValueError(f"`mlp` must be fitted (got {type(mlp).__name__} without coefficients)")
    limit = check_threshold(threshold)
    builder = Builder()
    names = getattr(mlp, "feature_names_in_", None)
    names = None if names is None else [str(name) for name in names]
    if names is not None and len(names) != len(coefficients[0]):
        names = None
    value = builder.input("inputs", size=len(coefficients[0]), unit_names=names)
    for at, (matrix, bias) in enumerate(zip(coefficients, biases, strict=True)):
        weights = pruned(f"coefs_[{at}]", np.asarray(matrix).T, threshold=limit)
        shift = vector(f"intercepts_[{at}]", np.asarray(bias), length=weights.shape[0])
        value = builder.linear(value, weights, bias=shift, name=f"coefs_{at}")
        activation = mlp.activation if at < len(coefficients) - 1 else getattr(mlp, "out_activation_", "identity")
        value = builder.activate(value, _NAMES.get(activation, activation))
    classes = [str(label) for label in np.ravel(getattr(mlp, "classes_", []))]
    dag = builder.finish([value])
    if len(classes) == dag.layer_sizes[-1] and dag.unit_names is not None:
        kept = dag.unit_names[: dag.n_units - len(classes)].tolist()
        dag = replace(dag, unit_names=np.array([*kept, *classes], dtype=np.str_))
    return dag


def read_skops(path: Path, *, threshold: float = 0.0, trust: bool = False) -> LayeredDAG:
    """Read a skops file; types that skops does not know to be safe need `trust`."""
    try:
        from skops import io
    except ImportError as error:
        raise ImportError("reading skops files needs skops: pip install 'modgraph-nn[skops]'") from error
    with zipfile.ZipFile(path) as archive:
        for member in checked_members(archive):
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    read_npy(file, member.filename, size=member.file_size)
    unknown = io.get_untrusted_types(file=path)
    odd = sorted(set(unknown) - _OPTIMISERS)
    if odd and not trust:
        raise ValueError(
            f"it holds types that may run code ({', '.join(odd)[:200]}): only if you trust it, `trust_pickle=True` "
            "(`--trust-pickle`)"
        )
    return from_estimator(io.load(path, trusted=unknown), threshold=threshold)
