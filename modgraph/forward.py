"""What a network computes: the forward pass over a `LayeredDAG` that has weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.special import erf, expit, log_softmax, softmax

from modgraph.arrays import FloatArray, StrArray, read_only
from modgraph.dag import LayeredDAG

_SELU = (1.6732632423543772, 1.0507009873554805)


def _leaky(values: FloatArray, slope: float = 0.01) -> FloatArray:
    return np.where(values > 0, values, slope * values)


def _elu(values: FloatArray, alpha: float = 1.0) -> FloatArray:
    return np.where(values > 0, values, alpha * np.expm1(np.minimum(values, 0)))


def _gelu_tanh(values: FloatArray) -> FloatArray:
    result: FloatArray = 0.5 * values * (1 + np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)))
    return result


# One number may follow a name after a colon ("leaky_relu:0.2"); it is passed on.
ACTIVATIONS: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {
        "identity": lambda values: values,
        "relu": lambda values: np.maximum(values, 0),
        "relu6": lambda values: np.clip(values, 0, 6),
        "sigmoid": expit,
        "tanh": np.tanh,
        "leaky_relu": _leaky,
        "elu": _elu,
        "selu": lambda values: _SELU[1] * _elu(values, _SELU[0]),
        "gelu": lambda values: 0.5 * values * (1 + erf(values / np.sqrt(2))),
        "gelu_tanh": _gelu_tanh,
        "silu": lambda values: values * expit(values),
        "softplus": lambda values: np.logaddexp(0, values),
        "softsign": lambda values: values / (1 + np.abs(values)),
        "hardtanh": lambda values: np.clip(values, -1, 1),
        "exp": np.exp,
        "abs": np.abs,
        "square": np.square,
        # Over the units of one layer that have this activation.
        "softmax": lambda values: softmax(values, axis=1),
        "log_softmax": lambda values: log_softmax(values, axis=1),
    }
)


def forward(dag: LayeredDAG, inputs: ArrayLike, *, activations: Sequence[str] | None = None) -> FloatArray:
    """Compute the value of every unit.

    Parameters
    ----------
    dag : LayeredDAG
        With weights; without biases they count as 0. A trimmed graph computes the same as the whole one only if no
        unit that was dropped is a constant other than 0.
    inputs : array_like of float, shape (n_samples, n_inputs)
    activations : sequence of str, optional
        One name per layer after the inputs; by default what `dag` knows. The names: identity, relu, relu6, sigmoid,
        tanh, leaky_relu, elu, selu, gelu, gelu_tanh, silu, softplus, softsign, hardtanh, exp, abs, square, softmax,
        log_softmax; with a number as in ``"leaky_relu:0.2"``; one after the other as in ``"tanh+relu"``.

    Returns
    -------
    ndarray of float, shape (n_samples, n_units)
        The outputs are the last ``dag.layer_sizes[-1]`` columns.

    Raises
    ------
    ValueError
        If weights or activations are not known, or a shape or a name is wrong.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 1]]], weights=[[[2.0, -1.0]]], biases=[[0.5]], activations=["relu"])
    >>> forward(dag, [[1.0, 1.0], [0.0, 1.0]])[:, -1].tolist()
    [1.5, 0.0]
    """
    if dag.weights is None:
        raise ValueError("`dag` must have weights")
    given = np.asarray(inputs, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != dag.layer_sizes[0]:
        raise ValueError(f"`inputs` must be of shape (n_samples, {dag.layer_sizes[0]}) (got {given.shape})")
    names = _activation_names(dag, activations)
    values = np.zeros((given.shape[0], dag.n_units))
    values[:, : given.shape[1]] = given
    if dag.biases is not None:
        values[:, given.shape[1] :] = dag.biases[given.shape[1] :]
    starts = dag.layer_starts.tolist()
    entered = dag.layer[dag.targets]
    for level in range(1, dag.n_layers):
        first, end = starts[level : level + 2]
        edges = np.flatnonzero(entered == level)
        step = csr_array(
            (dag.weights[edges], (dag.targets[edges] - first, dag.sources[edges])), shape=(end - first, dag.n_units)
        )
        values[:, first:end] += (step @ values.T).T
        for name in np.unique(names[first:end]).tolist():
            units = first + np.flatnonzero(names[first:end] == name)
            values[:, units] = _apply(name, values[:, units])
    return read_only(values)


def _activation_names(dag: LayeredDAG, activations: Sequence[str] | None) -> StrArray:
    """Name the activation of every unit."""
    if activations is None:
        if dag.activations is None:
            raise ValueError("`activations` must be given: `dag` doesn't know them")
        names = dag.activations
    else:
        if isinstance(activations, str) or len(activations) != dag.n_layers - 1:
            raise ValueError(f"`activations` must be {dag.n_layers - 1} names, one a layer (got {activations!r})")
        names = np.array(["identity", *activations])[dag.layer]
    for name in np.unique(names).tolist():
        try:
            _apply(name, np.zeros((1, 1)))
        except (KeyError, TypeError, ValueError):
            layer = int(dag.layer[names == name][0])
            called = "" if dag.layer_names is None else f" ({dag.layer_names[layer]!r})"
            raise ValueError(f"`activations` of layer {layer}{called} can't be computed (got {name!r})") from None
    return names


def _apply(name: str, values: FloatArray) -> FloatArray:
    for part in name.split("+"):
        function, _, number = part.partition(":")
        values = ACTIVATIONS[function](values, *([float(number)] if number else []))
    return values
