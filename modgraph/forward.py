"""What a network computes: the forward pass over a `LayeredDAG` that has weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.special import erf, expit, log_softmax, ndtr, softmax

from modgraph.arrays import BoolArray, FloatArray, IntArray, StrArray, read_only
from modgraph.dag import LayeredDAG

_SELU = (1.6732632423543772, 1.0507009873554805)


def _leaky(values: FloatArray, slope: float = 0.01) -> FloatArray:
    return np.where(values > 0, values, slope * values)


def _elu(values: FloatArray, alpha: float = 1.0) -> FloatArray:
    return np.where(values > 0, values, alpha * np.expm1(np.minimum(values, 0)))


def _gelu_tanh_gate(values: FloatArray) -> FloatArray:
    gate: FloatArray = np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3))
    return gate


def _gelu_tanh_slope(values: FloatArray) -> FloatArray:
    inner = _gelu_tanh_gate(values)
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * values**2)
    result: FloatArray = 0.5 * (1 + inner) + 0.5 * values * (1 - inner**2) * slope
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
        "gelu_tanh": lambda values: 0.5 * values * (1 + _gelu_tanh_gate(values)),
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


# The derivative of each, where every unit depends on its own sum alone; at a kink the one from the left, as in torch.
_SLOPES: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {
        "identity": np.ones_like,
        "relu": lambda values: np.heaviside(values, 0.0),
        "relu6": lambda values: np.heaviside(values, 0.0) * (values < 6),
        "sigmoid": lambda values: expit(values) * expit(-values),
        "tanh": lambda values: 1 - np.tanh(values) ** 2,
        "leaky_relu": lambda values, slope=0.01: np.where(values > 0, 1.0, slope),
        "elu": lambda values, alpha=1.0: np.where(values > 0, 1.0, alpha * np.exp(np.minimum(values, 0))),
        "selu": lambda values: _SELU[1] * np.where(values > 0, 1.0, _SELU[0] * np.exp(np.minimum(values, 0))),
        "gelu": lambda values: ndtr(values) + values * np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi),
        "gelu_tanh": _gelu_tanh_slope,
        "silu": lambda values: expit(values) * (1 + values * expit(-values)),
        "softplus": expit,
        "softsign": lambda values: 1 / (1 + np.abs(values)) ** 2,
        "hardtanh": lambda values: (np.abs(values) < 1).astype(np.float64),
        "exp": np.exp,
        "abs": np.sign,
        "square": lambda values: 2 * values,
    }
)


def push_through(name: str, sums: FloatArray, changes: FloatArray, *, backwards: bool = False) -> FloatArray:
    """Carry small changes through an activation: multiply them by its Jacobian, or backwards by its transpose.

    `sums`, shape (n_samples, n_units), is what the activation is applied to, for all units of a layer that have it.
    `changes` and what comes back have shape (n_samples, n_rows, n_units).
    """
    stages = []
    for function, numbers in _parts(name):
        stages.append((function, numbers, sums))
        sums = ACTIVATIONS[function](sums, *numbers)
    for function, numbers, before in reversed(stages) if backwards else stages:
        if function in ("softmax", "log_softmax"):
            share = softmax(before, axis=1)[:, None, :]
            if function == "softmax":  # its Jacobian, diag(p) − p pᵀ, is symmetric
                changes = share * (changes - (changes * share).sum(axis=2, keepdims=True))
            elif backwards:  # I − p 1ᵀ
                changes = changes - share * changes.sum(axis=2, keepdims=True)
            else:  # I − 1 pᵀ
                changes = changes - (changes * share).sum(axis=2, keepdims=True)
        else:
            changes = changes * _SLOPES[function](before, *numbers)[:, None, :]
    return changes


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
    names, values = start(dag, inputs, activations=activations)
    run(dag, values, names)
    return read_only(values)


def start(
    dag: LayeredDAG, inputs: ArrayLike, *, activations: Sequence[str] | None = None
) -> tuple[StrArray, FloatArray]:
    """Check the arguments of `forward`; return each unit's activation, and the inputs' values beside the biases.

    Shapes (n_units,) and (n_samples, n_units).
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
    return names, values


def run(dag: LayeredDAG, values: FloatArray, names: StrArray, *, sums: FloatArray | None = None) -> None:
    """Fill in the `values` that `start` returned, and `sums`: what each unit's activation is applied to."""
    assert dag.weights is not None  # `start` checks
    starts = dag.layer_starts.tolist()
    entered = dag.layer[dag.targets]
    for level in range(1, dag.n_layers):
        first, end = starts[level : level + 2]
        edges = np.flatnonzero(entered == level)
        step = csr_array(
            (dag.weights[edges], (dag.targets[edges] - first, dag.sources[edges])), shape=(end - first, dag.n_units)
        )
        values[:, first:end] += (step @ values.T).T
        if sums is not None:
            sums[:, first:end] = values[:, first:end]
        for name in np.unique(names[first:end]).tolist():
            units = first + np.flatnonzero(names[first:end] == name)
            values[:, units] = _apply(name, values[:, units])


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
    for function, numbers in _parts(name):
        values = ACTIVATIONS[function](values, *numbers)
    return values


def _parts(name: str) -> list[tuple[str, list[float]]]:
    """Split a chain such as "leaky_relu:0.2+tanh" into functions and their numbers."""
    parts = [part.partition(":") for part in name.split("+")]
    return [(function, [float(number)] if number else []) for function, _, number in parts]


class Replay:
    """A network with the values of its units on some inputs, ready to compute what changes when units are set.

    Parameters
    ----------
    dag : LayeredDAG
        As in `forward`. Units from which no output can be reached stay 0.
    inputs : array_like of float, shape (n_samples, n_inputs)
    activations : sequence of str, optional
        As in `forward`.

    Attributes
    ----------
    values : ndarray of float, shape (n_samples, n_units)
        The value of every unit, read-only.
    activations : ndarray of str, shape (n_units,)
        What each unit does to its sum.
    """

    _DENSE = 1_000_000  # entries; the weights into larger layers are kept sparse

    def __init__(self, dag: LayeredDAG, inputs: ArrayLike, *, activations: Sequence[str] | None = None) -> None:
        names, values = start(dag, inputs, activations=activations)
        self.activations = names
        weights = dag.weights
        assert weights is not None  # `start` checks
        useful = dag.layer == dag.n_layers - 1
        for level in range(dag.n_layers - 1, 0, -1):
            into = (dag.layer[dag.targets] == level) & useful[dag.targets]
            useful[dag.sources[into]] = True
        self._layer = dag.layer
        self._n_outputs = dag.layer_sizes[-1]
        self._steps: list[tuple[IntArray, IntArray, Any, FloatArray, list[tuple[str, Any]]]] = []
        column = np.zeros(dag.n_units, dtype=np.int64)
        row = np.zeros(dag.n_units, dtype=np.int64)
        for level in range(1, dag.n_layers):
            units = np.flatnonzero(useful & (dag.layer == level))
            edges = np.flatnonzero((dag.layer[dag.targets] == level) & useful[dag.targets])
            sources = np.unique(dag.sources[edges])
            column[sources], row[units] = np.arange(sources.size), np.arange(units.size)
            matrix: Any = csr_array(
                (weights[edges], (column[dag.sources[edges]], row[dag.targets[edges]])),
                shape=(sources.size, units.size),
            )
            if sources.size * units.size <= self._DENSE:
                matrix = matrix.toarray()
            biases = np.zeros(units.size) if dag.biases is None else dag.biases[units]
            of_layer = np.unique(names[units]).tolist()
            groups = [(name, slice(None) if len(of_layer) == 1 else names[units] == name) for name in of_layer]
            self._steps.append((units, sources, matrix, biases, groups))
        self._compute(values, first_layer=1)
        self.values: FloatArray = read_only(values)

    def outputs(self, rows: IntArray, units: IntArray, states: FloatArray) -> FloatArray:
        """Compute the outputs for some of the inputs, with some units set; returns shape (n, n_outputs).

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
            Which inputs.
        units : ndarray of int, shape (k,)
            Which units are set.
        states : ndarray of float, shape (n, k)
            To which values.
        """
        values = self.values[rows]
        values[:, units] = states
        is_set = np.zeros(self._layer.size, dtype=np.bool_)
        is_set[units] = True
        first = int(self._layer[units].min()) + 1 if units.size else self._layer.size
        self._compute(values, first_layer=first, is_set=is_set)
        return values[:, -self._n_outputs :]

    def for_inputs(self, inputs: FloatArray) -> FloatArray:
        """Compute the values of all units for other inputs, shape (n, n_inputs); returns shape (n, n_units)."""
        values = np.zeros((len(inputs), self._layer.size))
        values[:, : inputs.shape[1]] = inputs
        self._compute(values, first_layer=1)
        return values

    def _compute(self, values: FloatArray, *, first_layer: int, is_set: BoolArray | None = None) -> None:
        """Compute the layers from `first_layer` on, in place, but for the units that are set."""
        for units, sources, matrix, biases, groups in self._steps[first_layer - 1 :]:
            result = values[:, sources] @ matrix + biases
            for name, members in groups:
                result[:, members] = _apply(name, result[:, members])
            if is_set is None:
                values[:, units] = result
            else:
                free = ~is_set[units]
                values[:, units[free]] = result[:, free]
