"""The operations that readers of torch modules, ONNX and Keras share: one table of names, one method each.

A method either gives the result or raises `NotSupported`, which says what about the operation isn't; the reader adds
which layer it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray
from modgraph.io.build import Builder
from modgraph.io.tensor import from_array, pruned, vector
from modgraph.io.values import Value

# Activations by their names without underscores and capitals; `forward` computes those of the first line.
_COMPUTED = (
    "relu relu6 sigmoid tanh selu silu softplus softsign exp abs gelu leaky_relu elu hardtanh softmax log_softmax"
)
_NAMED = (
    "mish hardswish hardsigmoid logsigmoid tanhshrink softshrink hardshrink celu prelu clamp clip sin cos sqrt rsqrt "
    "erf log log1p sign heaviside where threshold rrelu softmin thresholdedrelu reciprocal shrink softmax2d"
)
ACTIVATIONS = {name.replace("_", ""): name for name in (*_COMPUTED.split(), *_NAMED.split(), "square")}
ACTIVATIONS |= {"swish": "silu"}

# What the operations of torch, ONNX and Keras are called, without underscores and capitals.
_CALLED = {
    "same": """identity dropout alphadropout featurealphadropout featuredropout gaussiandropout gaussiannoise cast to
        activityregularization contiguous detach clone float double half type cpu cuda typeas positive castlike
        requiresgrad dropout1d dropout2d dropout3d""",
    "normalise": """normalize layernorm rmsnorm groupnorm instancenorm layernormalization rmsnormalization lrn
        instancenormalization groupnormalization lpnormalization meanvariancenormalization localresponsenorm
        simplifiedlayernormalization crossmaplrn2d""",
    "pool": """maxpool averagepool globalaveragepool globalmaxpool lppool pad resize upsample interpolate maxpool1d
        maxpool2d maxpool3d avgpool1d avgpool2d avgpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d
        adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d lppool1d lppool2d""",
    "add": "add iadd",
    "sub": "sub isub subtract",
    "rsub": "rsub",
    "mul": "mul imul multiply",
    "div": "div truediv itruediv divide",
    "neg": "neg negative",
    "product": "matmul mm bmm imatmul",
    "convolution": "conv1d conv2d conv3d",
    "concatenate": "concat cat concatenate hstack",
    "reduce": "mean amax reducemean reducemax reducesum",
    "transpose": "t transpose permute swapaxes",
    "reshape": "view reshape unflatten",
    "flatten": "flatten",
    "squeeze": "squeeze",
    "split": "split",
    "chunk": "chunk",
    "pow": "pow",
    "glu": "glu",
    "linear": "linear",
    "addmm": "addmm",
    "activation": " ".join(ACTIVATIONS),
}
OPERATIONS = {name: operation for operation, names in _CALLED.items() for name in names.split()}


def key_of(name: str) -> str:
    """Return the name of an operation as the tables have it."""
    return name.replace("_", "").lower()


def unsupported(name: str, kind: str, error: NotSupported, supported: str) -> ValueError:
    """Say which layer isn't supported: what about it isn't, or if that is its kind, which ones are."""
    where = f" in this place: {error}" if str(error) else f": {supported}"
    return ValueError(f"layer {name.strip()!r} ({kind}) is not supported{where}")


class NotSupported(Exception):  # noqa: N818 (it never leaves this package: readers turn it into a ValueError)
    """Says what about an operation isn't supported."""


class Operations:
    """What can be done with values on the way to a graph."""

    def __init__(self, *, threshold: float) -> None:
        self.builder = Builder()
        self.threshold = threshold

    def plain(self, name: str, operation: str | None, value: Value) -> Value:
        """Apply an operation that has no settings."""
        match operation:
            case "same":
                return value
            case "normalise":
                return self.builder.activate(value, "layer_norm")
            case "squeeze":
                return replace(value, flat=value.maps)
            case "pool":
                return self.pool(value)
            case "glu":
                return self.gate(name, value)
        raise NotSupported

    # --- Weights ------------------------------------------------------------------------------------------------------

    def linear(
        self,
        name: str,
        value: Value,
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        *,
        mask: NDArray[Any] | None = None,
        factor: float = 1.0,
    ) -> Value:
        """Apply weights, (out, in), times `factor`."""
        if value.maps and not value.flat:
            raise NotSupported("it reads the positions of feature maps: flatten them first")
        matrix = self.edges(name, weight, mask)
        matrix.data *= factor
        return self.builder.linear(value, matrix, bias=_bias(name, bias, matrix.shape[0]), name=name)

    def edges(self, name: str, weight: NDArray[Any], mask: NDArray[Any] | None) -> csr_array:
        """Return the edges of weights or kernels."""
        given = None if mask is None else from_array(name, mask)
        return pruned(name, from_array(name, weight), mask=given, threshold=self.threshold)

    def product(self, name: str, one: Any, two: Any, *, bias: Any = None, factor: float = 1.0) -> Value:
        """Multiply matrices, one of them weights; a `bias` may be a value too."""
        value, weight = (one, two) if isinstance(one, Value) else (two, one)
        if isinstance(weight, Value) or not isinstance(value, Value):
            raise NotSupported("it multiplies two computed values, as attention does")
        if weight.ndim != 2:
            raise NotSupported(f"its weights have {weight.ndim} dimensions, not 2")
        if (value is two) != value.turned:
            raise NotSupported("the samples must be rows, unless both factors are transposed")
        weights = weight.T if value is one else weight
        is_value = isinstance(bias, Value)
        if bias is not None and not is_value and bias.size == 1:
            bias = np.full(len(weights), bias.item())
        result = self.linear(name, value, weights, None if is_value else bias, factor=factor)
        return self.builder.add([result, bias], name=name) if is_value else result

    def convolution(
        self,
        name: str,
        value: Value,
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        *,
        groups: int,
        mask: NDArray[Any] | None = None,
    ) -> Value:
        """Apply kernels, (out, in / groups, …): an edge where any weight of a kernel is."""
        is_input = len(value.parts) == 1 and any(value.parts[0] is entry for entry in self.builder.inputs)
        if value.flat or value.turned or not (value.maps or is_input):
            raise NotSupported("a convolution must read the input or feature maps")
        if weight.ndim < 3 or groups < 1 or len(weight) % groups:
            raise NotSupported(f"its weights of shape {weight.shape} are no kernels in {groups} groups")
        n_out, n_in, size = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
        matrix = self.edges(name, weight, mask)
        rows = np.repeat(np.arange(n_out), np.diff(matrix.indptr))
        columns = matrix.indices + rows // (n_out // groups) * n_in
        matrix = csr_array((matrix.data, columns, matrix.indptr), shape=(n_out, n_in * groups))
        kind = "convolution" if size > 1 else None
        shift = _bias(name, bias, n_out)
        return replace(self.builder.linear(value, matrix, bias=shift, name=name, kind=kind, groups=groups), maps=True)

    def normalise_batch(
        self,
        name: str,
        value: Value,
        *,
        mean: NDArray[Any],
        variance: NDArray[Any],
        epsilon: float,
        gain: NDArray[Any] | None = None,
        shift: NDArray[Any] | None = None,
    ) -> Value:
        """Apply BatchNorm as it evaluates."""
        given = (mean, variance, 1.0 if gain is None else gain, 0.0 if shift is None else shift)
        mean, variance, gain, shift = (np.asarray(one, dtype=np.float64).reshape(-1) for one in given)
        with np.errstate(all="ignore"):
            scale = gain / np.sqrt(variance + epsilon)
        return self.scaled(name, value, scale, shift - mean * scale)

    # --- Arithmetic ---------------------------------------------------------------------------------------------------

    def arithmetic(self, name: str, operation: str, terms: Sequence[Any]) -> Value:
        """Add, subtract, multiply, divide or negate values, and constants of one number for each value."""
        if operation == "neg":
            return self.scaled(name, terms[0], -1.0, 0.0)
        if operation == "add" and len(terms) != 2 and all(isinstance(term, Value) for term in terms):
            return self.builder.add(list(terms), name=name)
        if len(terms) != 2:
            raise NotSupported(f"it has {len(terms)} terms, some of them constants")
        if operation == "rsub":
            terms, operation = terms[::-1], "sub"
        one, two = terms
        if isinstance(one, Value) and isinstance(two, Value):
            if operation == "sub":
                two = self.scaled(name, two, -1.0, 0.0)
            if operation == "div":
                two = self.builder.activate(two, "reciprocal")
            join = self.builder.add if operation in ("add", "sub") else self.builder.multiply
            return join([one, two], name=name)
        value, constant = (one, two) if isinstance(one, Value) else (two, one)
        number = np.asarray(constant)
        if number.dtype.kind not in "biuf" or (number.ndim > 1 and max(number.shape) != number.size):
            raise NotSupported(f"arithmetic with a constant of shape {number.shape}, not of one number for each value")
        number = number.reshape(-1).astype(np.float64)
        if operation == "add":
            return self.scaled(name, value, 1.0, number)
        if operation == "sub":
            return self.scaled(name, value, 1.0, -number) if value is one else self.scaled(name, value, -1.0, number)
        if operation == "mul":
            return self.scaled(name, value, number, 0.0)
        with np.errstate(all="ignore"):
            if value is one:
                return self.scaled(name, value, 1 / number, 0.0)
        return self.scaled(name, self.builder.activate(value, "reciprocal"), number, 0.0)

    def scaled(self, name: str, value: Value, scale: float | FloatArray, shift: float | FloatArray) -> Value:
        """Multiply and shift."""
        return self.builder.scale(value, np.atleast_1d(scale), shift=np.atleast_1d(shift), name=name)

    def power(self, value: Value, exponent: Any) -> Value:
        """Raise to a constant power."""
        if isinstance(exponent, Value) or np.size(exponent) != 1:
            raise NotSupported("the exponent is not one number")
        number = float(np.reshape(exponent, -1)[0])
        return self.builder.activate(value, "square" if number == 2 else f"pow:{number:g}")

    def gate(self, name: str, value: Value) -> Value:
        """Multiply one half with the sigmoid of the other, as GLU does."""
        half = self.builder.size(value) // 2
        one, two = (self.builder.take(value, np.arange(half) + first) for first in (0, half))
        return self.builder.multiply([one, self.builder.activate(two, "sigmoid")], name=name)

    # --- Shapes -------------------------------------------------------------------------------------------------------

    def concatenate(self, name: str, values: Sequence[Any], axis: Any) -> Value:
        """Put values behind each other."""
        if not all(isinstance(value, Value) for value in values):
            raise NotSupported("it puts constants beside values")
        right = (0, -2) if values[0].turned else (1,) if values[0].maps else (1, 2, -1)
        if axis not in right:
            raise NotSupported(f"it concatenates along axis {axis}, not along that of the units")
        return self.builder.concatenate(values, name=name)

    def split(
        self, value: Value, axis: Any, *, sizes: Sequence[int] | None = None, step: int = 0, n_parts: int = 1
    ) -> tuple[Value, ...]:
        """Cut a value into parts of these sizes, else of `step` entries each, else into `n_parts` equal ones."""
        if axis not in ((1,) if value.maps else (1, 2, -1)) or value.turned:
            raise NotSupported(f"it splits along axis {axis}, not along that of the units")
        size = self.builder.size(value)
        if sizes is None:
            step = max(step or math.ceil(size / n_parts), 1)
            sizes = [min(step, size - first) for first in range(0, size, step)]
        if not sizes or min(sizes) < 1 or sum(sizes) != size:
            raise NotSupported(f"{size} values can't be split into parts of {list(sizes)[:8]}")
        ends = np.cumsum(sizes)
        return tuple(self.builder.take(value, np.arange(end - n, end)) for end, n in zip(ends, sizes, strict=True))

    def choose(self, value: Value, where: slice, axis: Any) -> Value:
        """Choose some entries."""
        if axis not in (1, -1) or value.turned:
            raise NotSupported(f"it slices axis {axis}, not that of the units")
        if (where.step or 1) < 1:
            raise NotSupported("it slices backwards")
        size = self.builder.size(value)
        self.builder.parts(value)  # refuses an input that is too large before its numbers are listed
        return self.builder.take(value, np.arange(*where.indices(size)))

    def flatten(self, value: Value, axis: int) -> Value:
        """Join all axes from `axis` on."""
        if value.maps and axis != 1:
            raise NotSupported(f"it flattens from axis {axis}, which joins samples")
        return replace(value, flat=value.maps)

    def transpose(self, value: Value, axes: Any) -> Value:
        """Swap samples and units."""
        if value.maps or axes not in (None, (), (0, 1), (1, 0)):
            raise NotSupported(f"it permutes the axes of feature maps or to {axes}")
        return replace(value, turned=not value.turned)

    def reshape(self, value: Value, shape: Sequence[int | None]) -> Value:
        """Keep or flatten the values of a sample; None stands for a size that is not known."""
        last = shape[-1] if shape else None
        if value.entry is not None and len(shape) == 2 and last is not None and last > 0:
            self.builder.sized(value, last)
        if value.maps and not value.flat:
            if len(shape) != 2:
                raise NotSupported(f"it reshapes feature maps to {list(shape)}, which is no flattening")
            return replace(value, flat=True)
        if last is None or last in (-1, 0) or value.flat or value.entry is not None or last == self.builder.size(value):
            return value
        raise NotSupported(f"it must keep or flatten the values of a sample, not reshape them to {list(shape)}")

    def pool(self, value: Value) -> Value:
        """Pool or pad the positions of feature maps."""
        if not value.maps or value.flat:
            raise NotSupported("pooling must read feature maps")
        return self.builder.activate(value, "pooling")

    def reduce(self, value: Value, axes: Sequence[int], *, keeps_axes: bool) -> Value:
        """Reduce the positions of feature maps."""
        if not axes or {0, 1} & set(axes):
            raise NotSupported(f"it reduces axes {list(axes)}, not only positions of feature maps")
        return replace(self.pool(value), maps=keeps_axes)

    def activate(self, value: Value, name: str, **settings: Any) -> Value:
        """Apply an activation; settings are those that change which function it is."""
        return self.builder.activate(value, activation_name(name, **settings))


def activation_name(
    name: str, *, slope: Any = None, approximate: Any = None, low: Any = None, high: Any = None, other: bool = False
) -> str:
    """Name an activation with its settings, as `modgraph.forward` knows them; `other` stands for unknown settings."""
    name = ACTIVATIONS.get(key_of(name), name)
    if name in ("leaky_relu", "elu"):
        return f"{name}:{(0.01 if name == 'leaky_relu' else 1.0) if slope is None else slope:.6g}"
    if name == "gelu":
        return "gelu_tanh" if approximate == "tanh" else "gelu"
    if name in ("clip", "clamp", "hardtanh") and not (name == "hardtanh" and low is high is None):
        return {(0, 6): "relu6", (-1, 1): "hardtanh", (0, None): "relu"}.get((low, high), "clip")
    return f"{name} with settings" if other else name


def _bias(name: str, bias: NDArray[Any] | None, size: int) -> FloatArray | None:
    return None if bias is None else vector(f"the bias of {name!r}", bias, length=size)
