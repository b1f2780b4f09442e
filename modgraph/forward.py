"""What a network computes: the forward pass over a `LayeredDAG` that has weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

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


# A number after a colon, as in "leaky_relu:0.2", is the second argument.
ACTIVATIONS: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {
        "identity": lambda values: values,
        "relu": lambda values: np.maximum(values, 0),
        "relu6": lambda values: np.clip(values, 0, 6),
        "sigmoid": lambda values: scipy.special.expit(values),
        "tanh": np.tanh,
        "leaky_relu": _leaky,
        "elu": _elu,
        "selu": lambda values: _SELU[1] * _elu(values, _SELU[0]),
        "gelu": lambda values: 0.5 * values * (1 + scipy.special.erf(values / np.sqrt(2))),
        "gelu_tanh": lambda values: 0.5 * values * (1 + _gelu_tanh_gate(values)),
        "silu": lambda values: values * scipy.special.expit(values),
        "softplus": lambda values: np.logaddexp(0, values),
        "softsign": lambda values: values / (1 + np.abs(values)),
        "hardtanh": lambda values: np.clip(values, -1, 1),
        "exp": np.exp,
        "abs": np.abs,
        "square": np.square,
        # Over the units of one layer that have this activation.
        "softmax": lambda values: scipy.special.softmax(values, axis=1),
        "log_softmax": lambda values: scipy.special.log_softmax(values, axis=1),
    }
)


# The derivatives of those that work unit by unit; at a kink the derivative from the left, as in torch.
_SLOPES: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {
        "identity": np.ones_like,
        "relu": lambda values: np.heaviside(values, 0.0),
        "relu6": lambda values: np.heaviside(values, 0.0) * (values < 6),
        "sigmoid": lambda values: scipy.special.expit(values) * scipy.special.expit(-values),
        "tanh": lambda values: 1 - np.tanh(values) ** 2,
        "leaky_relu": lambda values, slope=0.01: np.where(values > 0, 1.0, slope),
        "elu": lambda values, alpha=1.0: np.where(values > 0, 1.0, alpha * np.exp(np.minimum(values, 0))),
        "selu": lambda values: _SELU[1] * np.where(values > 0, 1.0, _SELU[0] * np.exp(np.minimum(values, 0))),
        "gelu": lambda values: scipy.special.ndtr(values) + values * np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi),
        "gelu_tanh": _gelu_tanh_slope,
        "silu": lambda values: scipy.special.expit(values) * (1 + values * scipy.special.expit(-values)),
        "softplus": lambda values: scipy.special.expit(values),
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
            share = scipy.special.softmax(before, axis=1)[:, None, :]
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
    return Replay(dag, inputs, activations=activations).values


class Replay:
    """A network with the values of its units on some inputs, ready to compute what changes when units are set.

    The arguments are those of `forward`.

    Attributes
    ----------
    values : ndarray of float, shape (n_samples, n_units)
        The value of every unit, read-only.
    activations : ndarray of str, shape (n_units,)
        What each unit does to its sum.
    """

    _DENSE = 1_000_000  # entries; the weights into larger layers are kept sparse

    def __init__(self, dag: LayeredDAG, inputs: ArrayLike, *, activations: Sequence[str] | None = None) -> None:
        if dag.weights is None:
            raise ValueError("`dag` must have weights")
        given = np.asarray(inputs, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != dag.layer_sizes[0]:
            raise ValueError(f"`inputs` must be of shape (n_samples, {dag.layer_sizes[0]}) (got {given.shape})")
        self.activations = _activation_names(dag, activations)
        self._dag = dag
        # For each layer: its units, the units they read, the weights between, and the units of each activation.
        self._steps: list[tuple[slice, IntArray, Any, list[tuple[str, IntArray]]]] = []
        entered = dag.layer[dag.targets]
        for level, (first, end) in enumerate(itertools.pairwise(dag.layer_starts[1:].tolist()), start=1):
            edges = np.flatnonzero(entered == level)
            sources, row = np.unique(dag.sources[edges], return_inverse=True)
            matrix: Any = csr_array(
                (dag.weights[edges], (row, dag.targets[edges] - first)), shape=(sources.size, end - first)
            )
            if sources.size * (end - first) <= self._DENSE:
                matrix = matrix.toarray()
            names = self.activations[first:end]
            groups = [(name, np.flatnonzero(names == name)) for name in np.unique(names).tolist()]
            self._steps.append((slice(first, end), sources, matrix, groups))
        self.values: FloatArray = read_only(self.for_inputs(given))

    def for_inputs(self, inputs: FloatArray) -> FloatArray:
        """Compute the values of all units for other inputs, shape (n, n_inputs); returns shape (n, n_units)."""
        values = np.zeros((len(inputs), self._dag.n_units))
        values[:, : inputs.shape[1]] = inputs
        self._compute(values, first_layer=1)
        return values

    def outputs(self, rows: IntArray, units: IntArray, states: FloatArray) -> FloatArray:
        """Compute the outputs for some of the inputs, with some units set; returns shape (n, n_outputs).

        `rows`, shape (n,), are the inputs; `states`, shape (n, k), the values that `units`, shape (k,), are set to.
        """
        values = self.values[rows]
        values[:, units] = states
        is_set = np.zeros(self._dag.n_units, dtype=np.bool_)
        is_set[units] = True
        first = int(self._dag.layer[units].min()) + 1 if units.size else self._dag.n_layers
        self._compute(values, first_layer=first, is_set=is_set)
        return values[:, -self._dag.layer_sizes[-1] :]

    def sums(self) -> FloatArray:
        """Return what the activation of each unit is applied to, shape (n_samples, n_units); inputs as they are."""
        sums = self.values.copy()
        for units, sources, matrix, _ in self._steps:
            sums[:, units] = self._sums(self.values, units, sources, matrix)
        return sums

    def _sums(self, values: FloatArray, units: slice, sources: IntArray, matrix: Any) -> FloatArray:
        sums: FloatArray = values[:, sources] @ matrix
        return sums if self._dag.biases is None else sums + self._dag.biases[units]

    def _compute(self, values: FloatArray, *, first_layer: int, is_set: BoolArray | None = None) -> None:
        """Compute the layers from `first_layer` on, in place, but for the units that are set."""
        for units, sources, matrix, groups in self._steps[first_layer - 1 :]:
            result = self._sums(values, units, sources, matrix)
            for name, members in groups:
                result[:, members] = _apply(name, result[:, members])
            values[:, units] = result if is_set is None else np.where(is_set[units], values[:, units], result)


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
