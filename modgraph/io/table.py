"""The one table of operations: what torch, ONNX and Keras call them, applied with arguments as torch has them.

Readers of torch modules, of exported programs, of ONNX and of Keras turn their own names of arguments into these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from modgraph.io.ops import Operations
from modgraph.io.tensor import from_torch
from modgraph.io.values import NotSupported, Value

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
    "same": """identity zipmap dropout alphadropout featurealphadropout featuredropout gaussiandropout gaussiannoise
        cast to activityregularization contiguous detach clone float double half type cpu cuda typeas positive castlike
        requiresgrad alias tocopy liftfreshcopy dropout1d dropout2d dropout3d""",
    "normalise": """normalize layernorm rmsnorm groupnorm instancenorm layernormalization rmsnormalization lrn
        instancenormalization groupnormalization lpnormalization meanvariancenormalization localresponsenorm
        simplifiedlayernormalization crossmaplrn2d""",
    "pool": """pool maxpool averagepool globalaveragepool globalmaxpool lppool pad resize upsample interpolate maxpool1d
        maxpool2d maxpool3d avgpool1d avgpool2d avgpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d
        adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d lppool1d lppool2d""",
    "add": "add iadd",
    "sub": "sub isub subtract",
    "rsub": "rsub",
    "mul": "mul imul multiply",
    "div": "div truediv itruediv divide",
    "neg": "neg negative",
    "product": "matmul mm bmm imatmul",
    "convolution": "conv conv1d conv2d conv3d convtranspose convtranspose1d convtranspose2d convtranspose3d",
    "batchnorm": "batchnorm batchnormalization",
    "concatenate": "concat cat concatenate hstack",
    "reduce": "mean amax reducemean reducemax reducesum",
    "transpose": "t numpyt transpose permute swapaxes",
    "reshape": "view reshape unflatten",
    "flatten": "flatten",
    "squeeze": "squeeze",
    "slice": "slice",
    "split": "split splitwithsizes",
    "chunk": "chunk",
    "pow": "pow",
    "glu": "glu",
    "linear": "linear",
    "addmm": "addmm",
    "activation": " ".join(ACTIVATIONS),
}
OPERATIONS = {name: operation for operation, names in _CALLED.items() for name in names.split()}
UNKNOWN = object()  # sizes and the like, which no edge depends on
ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "neg")

# The arguments of operations in their order.
ARGUMENTS = {
    "linear": "input weight bias",
    "addmm": "input mat1 mat2",
    "product": "input other",
    "convolution": "input weight bias stride padding dilation groups",
    "batchnorm": "input running_mean running_var weight bias training momentum eps",
    "concatenate": "tensors dim",
    "flatten": "input start_dim",
    "split": "input split_size dim",
    "chunk": "input chunks dim",
    "reduce": "input dim keepdim",
    "pow": "input exponent",
    "slice": "input dim start end step",
    "leaky_relu": "input negative_slope",
    "elu": "input alpha",
    "gelu": "input approximate",
    "hardtanh": "input min_val max_val",
    "clamp": "input min max",
    "clip": "input min max",
    "softplus": "input beta threshold",
}


def key_of(name: str) -> str:
    """Return the name of an operation as the tables have it."""
    return name.replace("_", "").lower()


def unsupported(name: str, kind: str, error: NotSupported, supported: str) -> ValueError:
    """Say which layer isn't supported: what about it isn't, or if that is its kind, which ones are."""
    where = f" in this place: {error}" if str(error) else f": supported are {supported}"
    if not str(error) and ("Attention" in kind or "Transformer" in kind):
        where += "; name an MLP inside with `block`, such as 'layers.0.mlp', or its layers, in order"
    return ValueError(f"layer {name.strip()!r} ({kind}) is not supported{where}")


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


class Table(Operations):
    """Applies operations by name; `supported` lists those that a format has, as errors say it."""

    def __init__(self, *, threshold: float, supported: str) -> None:
        super().__init__(threshold=threshold)
        self.supported = supported

    @contextmanager
    def reading(self, name: str, kind: str) -> Iterator[None]:
        """Say which layer it was, where something isn't supported."""
        try:
            yield
        except NotSupported as error:
            raise unsupported(name, kind, error, self.supported) from None

    def call(self, name: str, called: str, *args: Any, **kwargs: Any) -> Any:
        """Apply a function, a method or a layer; tensors may be torch's or arrays."""
        if called in ("size", "dim", "numel", "len", "sym_size"):
            return UNKNOWN
        if called == "getattr":
            if args[1] in ("shape", "dtype", "device", "ndim"):
                return UNKNOWN
            if args[1] in ("T", "mT") and isinstance(args[0], Value):
                return self.transpose(args[0], None)
            raise NotSupported(f"attribute {args[1]!r} is not known")
        if called == "getitem":
            return self.item(*args)
        key = key_of(called)
        operation = "reduce" if key == "sum" else OPERATIONS.get(key, key)
        names = ARGUMENTS.get(ACTIVATIONS.get(key, operation), "input").split()
        given = {key: constant(one) for key, one in (*zip(names, args, strict=False), *kwargs.items())}
        if operation in ARITHMETIC:
            if set(kwargs) - {"other"}:
                raise NotSupported(f"arguments {', '.join(kwargs)} are not known")
            return self.arithmetic(name, operation, [constant(one) for one in (*args, *kwargs.values())])
        value, get = given.get("input"), given.get
        match operation:
            case "linear":
                weight, mask = (one.T if isinstance(one, np.ndarray) else one for one in (get("weight"), get("mask")))
                return self.product(name, value, weight, bias=get("bias"), mask=mask)
            case "addmm":
                return self.product(
                    name, get("mat1"), get("mat2"), bias=_times(value, get("beta", 1)), factor=get("alpha", 1)
                )
            case "product":
                return self.product(name, value, get("other", get("mat2")))
            case "concatenate":
                return self.concatenate(name, flat(get("tensors")), get("dim", 1 if called == "hstack" else 0))
        if key not in OPERATIONS and key != "sum" and "pool" not in called:
            raise NotSupported
        if not isinstance(value, Value) or sum(isinstance(one, Value) for one in flat([*args, *kwargs.values()])) > 1:
            raise NotSupported("the first argument, and no other, must be computed from the input")
        match operation:
            case "convolution":
                return self.convolution(
                    name,
                    value,
                    given["weight"],
                    get("bias"),
                    groups=get("groups") or 1,
                    mask=get("mask"),
                    transposed="transpose" in key,
                )
            case "batchnorm":
                mean, variance = get("running_mean"), get("running_var")
                if mean is None or variance is None or get("training"):
                    return self.apply(value, "batch_norm")
                numbers = (mean, variance, _or(get("weight"), 1.0), _or(get("bias"), 0.0))
                mean, variance, gain, shift = (np.asarray(one, dtype=np.float64).reshape(-1) for one in numbers)
                with np.errstate(all="ignore"):
                    scale = gain / np.sqrt(variance + get("eps", 1e-5))
                return self.scaled(name, value, scale, shift - mean * scale)
            case "activation":
                other = key == "softplus" and (get("beta", 1), get("threshold", 20)) != (1, 20)
                low, high = _number(get("min", get("min_val"))), _number(get("max", get("max_val")))
                slope, approximate = get("negative_slope", get("alpha")), get("approximate")
                settings = {"slope": slope, "approximate": approximate, "low": low, "high": high, "other": other}
                return self.apply(value, activation_name(key, **settings))
            case "transpose":
                order = tuple(flat(list(args[1:])))
                return value if key == "permute" and order == (0, 1) else self.transpose(value, order)
            case "flatten":
                return self.flatten(value, get("start_dim", get("dim", 0)))
            case "reshape":
                shape = flat([*args[1:], *(one for key, one in kwargs.items() if key != "input")])
                return self.reshape(value, [one if isinstance(one, int) else None for one in shape])
            case "split" | "chunk":
                sizes = get("split_sizes", get("split_size"))
                how, axis = get("chunks", sizes), get("dim", 0)
                if isinstance(sizes, list | tuple):
                    return self.split(value, axis, sizes=sizes)
                if not isinstance(how, int) or how < 1:
                    raise NotSupported(f"it splits into {how}")
                step, n_parts = (0, how) if operation == "chunk" else (how, 1)
                return self.split(value, axis, step=step, n_parts=n_parts)
            case "slice":
                return self.choose(value, slice(get("start"), get("end"), get("step")), get("dim", 0))
            case "pow":
                if np.size(given["exponent"]) != 1:
                    raise NotSupported("the exponent is not one number")
                exponent = float(np.reshape(given["exponent"], -1)[0])
                return self.apply(value, "square" if exponent == 2 else f"pow:{exponent:g}")
            case "reduce" if key != "sum" or value.maps:
                axes = get("dim")
                return self.reduce(value, [] if axes is None else flat(axes), keeps_axes=bool(get("keepdim")))
            case "same":
                return value
            case "normalise":
                return self.apply(value, "layer_norm")
            case "squeeze":
                return self.flatten(value, 1)
            case "glu":
                return self.gate(name, value)
        if operation == "pool" or "pool" in called:
            return self.pool(value)
        raise NotSupported

    def item(self, value: Any, where: Any) -> Any:
        """Choose an item of a tuple, or units by a slice."""
        if not isinstance(value, Value):
            return value[where] if not isinstance(where, Value) else UNKNOWN
        if isinstance(where, tuple) and len(where) == 2 and isinstance(where[1], slice):
            ends = (where[1].start, where[1].stop, where[1].step)
            whole = where[0] is Ellipsis or where[0] == slice(None)
            if whole and all(end is None or isinstance(end, int) for end in ends):
                return self.choose(value, where[1], 1)
        raise NotSupported("indexing other than [:, first:end]")


def flat(nested: Any) -> list[Any]:
    """List what is in nested lists and mappings."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    return [one for part in nested for one in flat(part)] if isinstance(nested, list | tuple) else [nested]


def constant(one: Any, *, name: str = "a constant") -> Any:
    """Turn a tensor into an array; anything else stays."""
    if one is UNKNOWN:
        raise NotSupported("it computes with a size")
    return from_torch(name, one).array() if hasattr(one, "untyped_storage") else one


def _times(bias: Any, factor: float) -> Any:
    if isinstance(bias, Value) and factor != 1:
        raise NotSupported("what it adds is computed, and multiplied too")
    return bias * factor if isinstance(bias, np.ndarray) else bias


def _or(numbers: Any, otherwise: float) -> Any:
    return otherwise if numbers is None else numbers


def _number(bound: Any) -> Any:
    """Return a bound as a number, not a number where it is several."""
    if isinstance(bound, np.ndarray):
        return bound.item() if bound.size == 1 else np.nan
    return bound
