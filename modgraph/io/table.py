"""The one table of operations: what torch, ONNX and Keras call them, applied with arguments as torch has them.

Readers of torch modules, of exported programs, of ONNX and of Keras turn their own names of arguments into these. In
torch, arguments may come by position or by name; those that no edge depends on are not looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from modgraph.io.limits import UNIT_BYTES, spend
from modgraph.io.ops import MOST_UNITS, Operations
from modgraph.io.tensor import from_torch
from modgraph.io.values import NotSupported, Value

MOST_PARTS = 10_000  # in a concatenation
UNKNOWN = object()  # sizes and the like, which no edge depends on

# Activations by their names without underscores and capitals; `forward` computes those of the first line.
_COMPUTED = (
    "relu relu6 sigmoid tanh selu silu softplus softsign exp abs gelu leaky_relu elu hardtanh softmax log_softmax"
)
_NAMED = (
    "mish hardswish hardsigmoid logsigmoid tanhshrink softshrink hardshrink celu prelu clamp clip sin cos sqrt rsqrt "
    "erf log log1p sign heaviside where threshold rrelu softmin thresholdedrelu reciprocal shrink softmax2d"
)
_ACTIVATIONS = {name.replace("_", ""): name for name in (*_COMPUTED.split(), *_NAMED.split(), "square")}
_ACTIVATIONS |= {"swish": "silu"}
# Their arguments in torch's order, where `forward` computes with them.
_SETTINGS = {
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "gelu": ("approximate",),
    "hardtanh": ("min_val", "max_val"),
    "clamp": ("min", "max"),
    "clip": ("min", "max"),
    "softplus": ("beta", "threshold"),
}

# What the operations of torch, ONNX and Keras are called, without underscores and capitals.
_CALLED = {
    "same": """identity zipmap cast to activityregularization contiguous detach clone float double half type cpu cuda
        typeas positive castlike requiresgrad alias tocopy liftfreshcopy gaussiannoise""",
    "normalise": """normalize layernorm rmsnorm groupnorm instancenorm layernormalization rmsnormalization lrn
        instancenormalization groupnormalization lpnormalization meanvariancenormalization localresponsenorm
        simplifiedlayernormalization crossmaplrn2d""",
    "pool": "pad resize upsample interpolate",
    "add": "add iadd",
    "sub": "sub isub subtract",
    "rsub": "rsub",
    "mul": "mul imul multiply",
    "div": "div truediv itruediv divide",
    "neg": "neg negative",
    "product": "product matmul mm bmm imatmul",
    "convolution": "conv conv1d conv2d conv3d convtranspose convtranspose1d convtranspose2d convtranspose3d",
    "batchnorm": "batchnorm batchnormalization",
    "concatenate": "concat cat concatenate hstack",
    "reduce": "mean amax sum reducemean reducemax reducesum",
    "transpose": "t numpyt transpose swapaxes",
    "reshape": "view reshape unflatten",
    "activation": " ".join(_ACTIVATIONS),
    **{name: name for name in ("addmm", "chunk", "flatten", "glu", "linear", "permute", "pow", "slice", "squeeze")},
    "split": "split splitwithsizes",
}
_OPERATIONS = {name: operation for operation, names in _CALLED.items() for name in names.split()}
ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "neg")
_OF_SEVERAL = (*ARITHMETIC, "linear", "addmm", "product", "concatenate")  # values, not one


def operation_of(called: str) -> str | None:
    """Find what the table calls an operation; None if it isn't there."""
    key = called.replace("_", "").lower()
    for word, operation in (("pool", "pool"), ("dropout", "same")):
        if word in key:
            return operation
    return _OPERATIONS.get(key)


def arguments_of(called: str) -> Sequence[str]:
    """List the names of an operation's arguments, but for the value."""
    operation = operation_of(called) or ""
    if operation == "activation":
        return _SETTINGS.get(_activation(called), ())
    method = getattr(Table, operation, None)
    return () if method is None else list(inspect.signature(method).parameters)[3:]


class Table(Operations):
    """Applies operations by name; `supported` lists those that a format has, as errors say it."""

    def __init__(self, *, threshold: float, supported: str) -> None:
        super().__init__(threshold=threshold)
        self.supported = supported

    @contextmanager
    def reading(self, name: str, kind: str) -> Iterator[None]:
        """Say which layer isn't supported: what about it isn't, or if that is its kind, which ones are."""
        try:
            yield
        except NotSupported as error:
            where = f" in this place: {error}" if str(error) else f": supported are {self.supported}"
            if not str(error) and ("Attention" in kind or "Transformer" in kind):
                where += "; name an MLP inside with `block`, such as 'layers.0.mlp', or its layers, in order"
            raise ValueError(f"layer {name.strip()!r} ({kind}) is not supported{where}") from None

    def step(self, name: str, called: str, args: Any, kwargs: Any, *, constant: Callable[[], Any]) -> Any:
        """Apply a function or a method; what depends on constants alone, `constant` computes."""
        everything = flat([args, kwargs])
        with self.reading(name, called):
            if any(isinstance(one, Value) for one in everything):
                return self.call(name, called, *args, **kwargs)
            return UNKNOWN if any(one is UNKNOWN for one in everything) else constant()

    def call(self, name: str, called: str, *args: Any, **kwargs: Any) -> Any:
        """Apply a function, a method or a layer to values; tensors may be torch's or arrays."""
        if called in ("size", "dim", "numel", "len", "sym_size"):
            return UNKNOWN
        if called == "getattr":
            if args[1] in ("shape", "dtype", "device", "ndim"):
                return UNKNOWN
            if args[1] in ("T", "mT") and isinstance(args[0], Value):
                return self.transpose(name, args[0])
            raise NotSupported(f"attribute {args[1]!r} is not known")
        if called == "getitem":
            return self.item(*args)
        operation = operation_of(called)
        if operation is None:
            raise NotSupported
        args = (*(kwargs.pop(key) for key in ("input", "tensors") if key in kwargs), *args)
        if operation != "reshape":  # its sizes may be unknown
            args, kwargs = tuple(map(as_array, args)), {key: as_array(one) for key, one in kwargs.items()}
        several = sum(isinstance(one, Value) for one in flat([args, kwargs])) > 1
        if operation not in _OF_SEVERAL and (several or not args or not isinstance(args[0], Value)):
            raise NotSupported("the first argument, and no other, must be computed from the input")
        match operation:
            case "same":
                return args[0]
            case "normalise":
                return self.apply(args[0], "layer_norm")
            case "squeeze":
                return self.flatten(name, args[0], 1)
            case "activation":
                return self.activation(called, *args, **kwargs)
            case _ if operation in ARITHMETIC:
                if set(kwargs) - {"other"}:
                    raise NotSupported(f"arguments {', '.join(kwargs)} are not known")
                return self.arithmetic(name, operation, [*args, *kwargs.values()])
        if called == "hstack":
            kwargs["dim"] = 1
        if operation == "convolution" and "transpose" in called.lower():
            kwargs["transposed"] = True
        method = getattr(self, operation)
        try:
            inspect.signature(method).bind(name, *args, **kwargs)
        except TypeError:
            raise NotSupported("some of its arguments are not known, or missing") from None
        return method(name, *args, **kwargs)

    # --- Weights ------------------------------------------------------------------------------------------------------

    def linear(self, name: str, value: Any, weight: Any, bias: Any = None, mask: Any = None) -> Value:
        """Apply weights, (out, in)."""
        weight, mask = (one.T if isinstance(one, np.ndarray) else one for one in (weight, mask))
        return self.product(name, value, weight, bias=bias, mask=mask)

    def addmm(self, name: str, value: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Value:
        """Multiply matrices, and add a bias or a value."""
        if isinstance(value, Value) and beta != 1:
            raise NotSupported("what it adds is computed, and multiplied too")
        bias = value * beta if isinstance(value, np.ndarray) else value
        return self.product(name, mat1, mat2, bias=bias, factor=alpha)

    def product(
        self, name: str, one: Any, other: Any = None, mat2: Any = None, *, bias: Any = None, mask: Any = None,
        factor: float = 1.0
    ) -> Value:  # fmt: skip
        """Multiply matrices, one of them weights."""
        two = mat2 if other is None else other
        value, weight = (one, two) if isinstance(one, Value) else (two, one)
        if isinstance(weight, Value) or not isinstance(value, Value):
            raise NotSupported("it multiplies two computed values, as attention does")
        if np.ndim(weight) != 2:
            raise NotSupported(f"its weights have {np.ndim(weight)} dimensions, not 2")
        if (value is two) != value.turned:
            raise NotSupported("the samples must be rows, unless both factors are transposed")
        if value is one:
            weight, mask = weight.T, None if mask is None else mask.T
        if isinstance(bias, np.ndarray) and bias.size == 1:
            bias = np.full(len(weight), bias.item())
        added = isinstance(bias, Value)
        result = self.weigh(name, value, weight, None if added else bias, mask=mask, factor=factor)
        return self.join(name, [result, bias]) if added else result

    def convolution(
        self, name: str, value: Value, weight: Any, bias: Any = None, *settings: Any, groups: int | None = None,
        mask: Any = None, transposed: bool = False, **_: Any
    ) -> Value:  # fmt: skip
        """Apply kernels, (out, in / groups, …), or if they are transposed, (in, out / groups, …)."""
        # Before the groups come stride, padding, and dilation or the output's padding.
        groups = (settings[3] if len(settings) > 3 else groups) or 1
        if transposed:
            weight, mask = (None if one is None else _turned_kernel(one, groups) for one in (weight, mask))
        return self.weigh(name, value, weight, bias, mask=mask, groups=groups)

    def batchnorm(
        self, name: str, value: Value, running_mean: Any = None, running_var: Any = None, weight: Any = None,
        bias: Any = None, training: Any = False, *settings: Any, eps: float = 1e-5, **_: Any
    ) -> Value:  # fmt: skip
        """Fold a normalisation by known numbers into scales and shifts."""
        if running_mean is None or running_var is None or training:
            return self.apply(value, "batch_norm")
        eps = settings[1] if len(settings) > 1 else eps
        numbers = (running_mean, running_var, 1.0 if weight is None else weight, 0.0 if bias is None else bias)
        mean, variance, gain, shift = (np.asarray(one, dtype=np.float64).reshape(-1) for one in numbers)
        with np.errstate(all="ignore"):
            scale = gain / np.sqrt(variance + eps)
        return self.scaled(name, value, scale, shift - mean * scale)

    # --- Entry by entry -----------------------------------------------------------------------------------------------

    def activation(self, called: str, value: Value, *args: Any, **kwargs: Any) -> Value:
        """Apply an activation with its settings, named as `modgraph.forward` knows it."""
        name = _activation(called)
        given = dict(zip(_SETTINGS.get(name, ()), args, strict=False)) | kwargs
        low, high = (_number(given.get(end, given.get(f"{end}_val"))) for end in ("min", "max"))
        if name in ("leaky_relu", "elu"):
            slope = given.get("negative_slope", given.get("alpha"))
            name += f":{(0.01 if name == 'leaky_relu' else 1.0) if slope is None else slope:.6g}"
        elif name == "gelu" and given.get("approximate") == "tanh":
            name = "gelu_tanh"
        elif name in ("clip", "clamp", "hardtanh") and not (name == "hardtanh" and low is high is None):
            name = {(0, 6): "relu6", (-1, 1): "hardtanh", (0, None): "relu"}.get((low, high), "clip")
        elif name == "softplus" and (given.get("beta", 1), given.get("threshold", 20)) != (1, 20):
            name = "softplus with settings"
        return self.apply(value, name)

    def pow(self, name: str, value: Value, exponent: Any) -> Value:
        """Raise to a power, one number."""
        if np.size(exponent) != 1:
            raise NotSupported("the exponent is not one number")
        number = float(np.reshape(exponent, -1)[0])
        return self.apply(value, "square" if number == 2 else f"pow:{number:g}")

    def glu(self, name: str, value: Value, *_: Any, **__: Any) -> Value:
        """Multiply one half with the sigmoid of the other."""
        one, two = self.chunk(name, value, 2, -1 if not value.maps else 1)
        return self.join(name, [one, self.apply(two, "sigmoid")], multiply=True)

    def arithmetic(self, name: str, operation: str, terms: Sequence[Any]) -> Value:
        """Add, subtract, multiply, divide or negate values, and constants of one number for each value."""
        if operation == "neg":
            return self.scaled(name, terms[0], -1.0, 0.0)
        if operation == "add" and len(terms) != 2 and all(isinstance(term, Value) for term in terms):
            return self.join(name, terms)
        if len(terms) != 2:
            raise NotSupported(f"it has {len(terms)} terms, some of them constants")
        one, two = terms[::-1] if operation == "rsub" else terms
        operation = operation.removeprefix("r")
        if isinstance(one, Value) and isinstance(two, Value):
            if operation == "sub":
                two = self.scaled(name, two, -1.0, 0.0)
            if operation == "div":
                two = self.apply(two, "reciprocal")
            return self.join(name, [one, two], multiply=operation not in ("add", "sub"))
        value, constant = (one, two) if isinstance(one, Value) else (two, one)
        number = np.asarray(constant)
        if number.dtype.kind not in "biuf" or (number.ndim > 1 and max(number.shape) != number.size):
            raise NotSupported(f"arithmetic with a constant of shape {number.shape}, not of one number for each value")
        number = number.reshape(-1).astype(np.float64)
        if operation == "div" and value is not one:
            value, operation = self.apply(value, "reciprocal"), "mul"
        with np.errstate(all="ignore"):
            affine: dict[str, tuple[Any, Any]] = {
                "add": (1.0, number),
                "sub": (1.0, -number) if value is one else (-1.0, number),
                "mul": (number, 0.0),
                "div": (1 / number, 0.0),
            }
        return self.scaled(name, value, *affine[operation])

    # --- Parts and shapes ---------------------------------------------------------------------------------------------

    def concatenate(self, name: str, values: Sequence[Any], dim: Any = 0) -> Value:
        """Put values behind each other."""
        if not all(isinstance(value, Value) for value in values):
            raise NotSupported("it puts constants beside values")
        first: Value = values[0]
        _require_units_axis(first, dim, "concatenates")
        if any(value.flat for value in values) and len(values) > 1:
            raise ValueError(f"{name!r} concatenates flattened feature maps, which is not supported")
        if len({(value.maps, value.turned) for value in values}) > 1:
            raise ValueError(f"{name!r} must concatenate values of one kind")
        size = sum(value.size for value in values)
        views = tuple(view for value in values for view in value.views)
        if len(views) > MOST_PARTS or size > MOST_UNITS:
            raise ValueError(f"{name!r} must concatenate fewer values (got {len(views)})")
        spend(UNIT_BYTES // 4 * size, repr(name))
        return replace(first, views=views)

    def split(
        self, name: str, value: Value, split_size: Any = None, dim: Any = 0, *, split_sizes: Any = None
    ) -> tuple[Value, ...]:
        """Cut a value into parts of these sizes, or of that many entries each."""
        _require_units_axis(value, dim, "splits")
        size, sizes = value.size, split_size if split_sizes is None else split_sizes
        spend(UNIT_BYTES * size, repr(name))
        if isinstance(sizes, int) and sizes > 0:
            sizes = [min(sizes, size - first) for first in range(0, size, sizes)]
        if not isinstance(sizes, list | tuple) or not sizes or min(sizes) < 1 or sum(sizes) != size:
            raise NotSupported(f"{size} values can't be split into parts of {sizes!r:.80}")
        ends = np.cumsum(sizes)
        return tuple(self.take(value, np.arange(end - n, end)) for end, n in zip(ends, sizes, strict=True))

    def chunk(self, name: str, value: Value, chunks: Any, dim: Any = 0) -> tuple[Value, ...]:
        """Cut a value into equal parts."""
        if not isinstance(chunks, int) or chunks < 1:
            raise NotSupported(f"it splits into {chunks}")
        return self.split(name, value, max(-(-value.size // chunks), 1), dim)

    def slice(
        self, name: str, value: Value, dim: Any = 0, start: Any = None, end: Any = None, step: Any = None
    ) -> Value:
        """Choose some entries."""
        _require_units_axis(value, dim, "slices")
        if (step or 1) < 1:
            raise NotSupported("it slices backwards")
        spend(UNIT_BYTES * value.size, repr(name))
        return self.take(value, np.arange(*slice(start, end, step).indices(value.size)))

    def item(self, value: Any, where: Any) -> Any:
        """Choose an item of a tuple, or units by a slice."""
        if not isinstance(value, Value):
            return value[where] if not isinstance(where, Value) else UNKNOWN
        if isinstance(where, tuple) and len(where) == 2 and isinstance(where[1], slice):
            ends = (where[1].start, where[1].stop, where[1].step)
            whole = where[0] is Ellipsis or where[0] == slice(None)
            if whole and all(end is None or isinstance(end, int) for end in ends):
                return self.slice("a slice", value, -1 if where[0] is Ellipsis else 1, *ends)
        raise NotSupported("indexing other than [:, first:end]")

    def flatten(self, name: str, value: Value, start_dim: Any = 0, *_: Any, dim: Any = None, **__: Any) -> Value:
        """Join all axes from one on."""
        axis = start_dim if dim is None else dim
        if value.maps and axis != 1:
            raise NotSupported(f"it flattens from axis {axis}, which joins samples")
        return replace(value, flat=value.maps)

    def transpose(self, name: str, value: Value, *axes: Any, **named: Any) -> Value:
        """Swap samples and units."""
        order = tuple(flat([axes, named]))
        if value.maps or order not in ((), (0, 1), (1, 0)):
            raise NotSupported(f"it permutes the axes of feature maps or to {order}")
        return replace(value, turned=not value.turned)

    def permute(self, name: str, value: Value, *axes: Any, **named: Any) -> Value:
        """Put axes in an order."""
        order = flat([axes, named])
        return value if order == [0, 1] else self.transpose(name, value, *order)

    def reshape(self, name: str, value: Value, *sizes: Any, **named: Any) -> Value:
        """Keep or flatten the values of a sample; sizes that are not known are no ints."""
        shape = [one if isinstance(one, int) else None for one in flat([sizes, named])]
        last = shape[-1] if shape else None
        if value.unsized is not None and len(shape) == 2 and last is not None and last > 0:
            self.sized(value, last)
        if value.maps and not value.flat:
            if len(shape) != 2:
                raise NotSupported(f"it reshapes feature maps to {shape}, which is no flattening")
            return replace(value, flat=True)
        if last is None or last in (-1, 0) or value.flat or value.unsized is not None or last == value.size:
            return value
        raise NotSupported(f"it must keep or flatten the values of a sample, not reshape them to {shape}")

    def pool(self, name: str, value: Value, *_: Any, **__: Any) -> Value:
        """Pool or pad the positions of feature maps."""
        if not value.maps or value.flat:
            raise NotSupported("pooling must read feature maps")
        return self.apply(value, "pooling")

    def reduce(self, name: str, value: Value, dim: Any = None, keepdim: Any = False, **_: Any) -> Value:
        """Reduce the positions of feature maps."""
        axes = [] if dim is None else flat(dim)
        if not axes or {0, 1} & set(axes):
            raise NotSupported(f"it reduces axes {axes}, not only positions of feature maps")
        return replace(self.pool(name, value), maps=bool(keepdim))


def _activation(called: str) -> str:
    return _ACTIVATIONS[called.replace("_", "").lower()]


def _require_units_axis(value: Value, axis: Any, what: str) -> None:
    if axis not in ((0, -2) if value.turned else (1,) if value.maps else (1, 2, -1)):
        raise NotSupported(f"it {what} along axis {axis}, not along that of the units")


def _turned_kernel(weight: Any, groups: int) -> Any:
    """Turn the kernel of a transposed convolution, (in, out / groups, …), to (out, in / groups, …)."""
    n_in, n_out, *positions = weight.shape
    parts = weight.reshape(groups, n_in // groups, n_out, *positions).swapaxes(1, 2)
    return parts.reshape(groups * n_out, n_in // groups, *positions)


def flat(nested: Any) -> list[Any]:
    """List what is in nested lists and mappings."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    return [one for part in nested for one in flat(part)] if isinstance(nested, list | tuple) else [nested]


def as_array(one: Any, *, name: str = "a constant") -> Any:
    """Turn a tensor into an array; anything else stays."""
    if one is UNKNOWN:
        raise NotSupported("it computes with a size")
    return from_torch(name, one).array() if hasattr(one, "untyped_storage") else one


def _number(bound: Any) -> Any:
    """Return a bound as a number, not a number where it is several."""
    if isinstance(bound, np.ndarray):
        return bound.item() if bound.size == 1 else np.nan
    return bound
