"""What torch's functions and methods do to values, by name: for traced modules and for exported programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modgraph.io.op_names import ACTIVATIONS, OPERATIONS, NotSupported, key_of
from modgraph.io.ops import Operations
from modgraph.io.tensor import from_torch
from modgraph.io.values import Value

if TYPE_CHECKING:
    import torch

UNKNOWN = object()  # sizes and the like, which no edge depends on
# The arguments of operations in their order.
_ARGUMENTS = {
    "linear": "input weight bias",
    "addmm": "input mat1 mat2",
    "product": "input other",
    "convolution": "input weight bias stride padding dilation groups",
    "batch_norm": "input running_mean running_var weight bias training momentum eps",
    "concatenate": "tensors dim",
    "flatten": "input start_dim",
    "split": "input split_size dim",
    "chunk": "input chunks dim",
    "reduce": "input dim keepdim",
    "pow": "input exponent",
    "slice": "input dim start end step",
    "leaky_relu": "input negative_slope",
    "elu": "input alpha",
    "hardtanh": "input min_val max_val",
    "clamp": "input min max",
    "clip": "input min max",
    "softplus": "input beta threshold",
}


class TorchOperations(Operations):
    """Applies functions and methods, with arguments as torch has them; tensors among them are arrays here."""

    def call(self, name: str, called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply a function or a method."""
        value = args[0] if args else kwargs.get("input")
        if called in ("size", "dim", "numel", "len", "sym_size"):
            return UNKNOWN
        if called == "getattr":
            if args[1] in ("shape", "dtype", "device", "ndim"):
                return UNKNOWN
            if args[1] in ("T", "mT") and isinstance(value, Value):
                return self.transpose(value, None)
            raise NotSupported(f"attribute {args[1]!r} is not known")
        if called == "getitem":
            return self.item(*args)
        key = key_of(called)
        operation = "split" if key == "splitwithsizes" else OPERATIONS.get(key, key)
        names = _ARGUMENTS.get(ACTIVATIONS.get(key, operation) if key != "batchnorm" else "batch_norm", "input").split()
        given = {key: constant(one) for key, one in (*zip(names, args, strict=False), *kwargs.items())}
        get = given.get
        match operation:
            case "add" | "sub" | "rsub" | "mul" | "div" | "neg":
                if set(kwargs) - {"other"} or len(args) + len(kwargs) > 2:
                    raise NotSupported(f"arguments {', '.join(kwargs) or 'beside the terms'} are not known")
                return self.arithmetic(name, operation, [constant(one) for one in (*args, *kwargs.values())])
            case "linear":
                weight = get("weight")
                weight = weight.T if isinstance(weight, np.ndarray) else weight
                return self.product(name, get("input"), weight, bias=get("bias"))
            case "addmm":
                return self.product(name, get("mat1"), get("mat2"), bias=get("input"))
            case "product":
                return self.product(name, get("input"), get("other", get("mat2")))
            case "concatenate":
                axis = get("dim", 1 if called == "hstack" else 0)
                return self.concatenate(name, flat(get("tensors")), axis)
        if not isinstance(value, Value) or sum(isinstance(one, Value) for one in flat(list(given.values()))) > 1:
            raise NotSupported("the first argument, and no other, must be computed from the input")
        match operation:
            case "convolution":
                weight = get("weight")
                if not isinstance(weight, np.ndarray):
                    raise NotSupported("its kernels are computed from the input")
                return self.convolution(name, value, weight, get("bias"), groups=get("groups") or 1)
            case "batchnorm":
                mean, variance = get("running_mean"), get("running_var")
                if mean is None or variance is None or get("training"):
                    return self.apply(value, "batch_norm")
                epsilon, gain, shift = get("eps", 1e-5), get("weight"), get("bias")
                return self.normalise_batch(
                    name, value, mean=mean, variance=variance, epsilon=epsilon, gain=gain, shift=shift
                )
            case "activation":
                other = key == "softplus" and len(given) > 1 + ("inplace" in given)
                low, high = get("min", get("min_val")), get("max", get("max_val"))
                slope, approximate = get("negative_slope", get("alpha")), get("approximate")
                return self.activate(value, key, slope=slope, approximate=approximate, low=low, high=high, other=other)
            case "transpose":
                return self.transpose(value, args[1] if len(args) == 2 else args[1:])
            case "flatten":
                return self.flatten(value, get("start_dim", 0))
            case "reshape":
                shape = flat([*args[1:], *(one for key, one in kwargs.items() if key != "input")])
                return self.reshape(value, [one if isinstance(one, int) else None for one in shape])
            case "split" | "chunk":
                how, axis = get("chunks", get("split_size", get("split_sizes"))), get("dim", 0)
                if isinstance(how, list | tuple):
                    return self.split(value, axis, sizes=how)
                if not isinstance(how, int) or how < 1:
                    raise NotSupported(f"it splits into {how}")
                step, n_parts = (0, how) if operation == "chunk" else (how, 1)
                return self.split(value, axis, step=step, n_parts=n_parts)
            case "slice":
                return self.choose(value, slice(get("start"), get("end"), get("step")), get("dim", 0))
            case "pow":
                return self.power(value, get("exponent"))
        if operation == "reduce" or (called == "sum" and value.maps):
            axes = args[1] if called == "sum" and len(args) > 1 else get("dim")
            return self.reduce(value, [] if axes is None else flat(axes), keeps_axes=bool(get("keepdim")))
        return self.plain(name, "pool" if "pool" in called else operation, value)

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


def array(name: str, tensor: torch.Tensor) -> NDArray[Any]:
    """Return the numbers of a tensor."""
    return from_torch(name, tensor).array()


def constant(one: Any) -> Any:
    """Turn a tensor into an array; a value stays."""
    if one is UNKNOWN:
        raise NotSupported("it computes with a size")
    return array("a constant", one) if hasattr(one, "untyped_storage") else one
