"""Live torch modules: traced with torch.fx, operation by operation."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.build import finish
from modgraph.io.ops import ACTIVATIONS, OPERATIONS, NotSupported, Operations, key_of, unsupported
from modgraph.io.tensor import check_threshold, from_torch
from modgraph.io.torch_trace import part_of, read_size, trace, unchanged
from modgraph.io.values import Value

if TYPE_CHECKING:
    import torch
    from torch import fx

SUPPORTED = (
    "supported are Linear, convolutions, BatchNorm, Dropout, activations, pooling, Flatten, "
    "additions, products and concatenations"
)
_UNKNOWN = object()  # sizes and the like, which no edge depends on


def from_module(
    model: torch.nn.Module, *, block: str | Sequence[str] | None = None, threshold: float = 0.0
) -> LayeredDAG:
    """Build the graph of a live torch module.

    The module is traced with ``torch.fx``, neither run nor changed, and read as it evaluates. Weight layers make
    units; activations, BatchNorm (folded into weights and biases), LayerNorm, Dropout and pooling add none. An
    addition y = f(x) + x makes one unit for each y, with the edges of f and one from x, so edges may skip layers. A
    unit's layer is the longest path from the inputs; outputs are the last layer. Feature maps are one unit a channel;
    an edge of a convolution is there where any weight of the kernel is, and its weight is their Euclidean norm.

    Parameters
    ----------
    model : torch.nn.Module
        Also compiled, in `DataParallel`, or a Lightning module.
        Masks of ``torch.nn.utils.prune`` and parametrizations count; otherwise weights other than 0 are edges.
    block : str or sequence of str, optional
        The part to read, by its name (``"layers.3.mlp"``); or the names of modules that follow each other.
    threshold : float ≥ 0
        Weights of at most this magnitude count as pruned.

    Returns
    -------
    LayeredDAG
        With weights, biases, activations and names.

    Raises
    ------
    ValueError
        If the module can't be traced, holds an operation that isn't supported (the message says which), or `block`
        doesn't name a part of it.
    ImportError
        If torch is not installed.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> from_module(model)
    LayeredDAG([4, 3, 2], 18 edges, density 1)
    """
    torch = require("torch", purpose="`from_module`", extra="sculpt")
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"`model` must be a torch.nn.Module (got {type(model).__name__})")
    limit = check_threshold(threshold)
    if isinstance(model, torch.nn.DataParallel):
        model = model.module
    part, prefix = part_of(getattr(model, "_orig_mod", model), block)
    with unchanged(model), torch.no_grad():
        graph = trace(part)
        return _Reader(root=part, prefix=prefix, threshold=limit).read(graph)


class _Reader:
    """Walks a traced graph."""

    def __init__(self, *, root: torch.nn.Module, prefix: str, threshold: float) -> None:
        self.modules = dict(root.named_modules())
        self.root, self.prefix = root, prefix
        self.ops = Operations(threshold=threshold)

    def read(self, graph: fx.Graph) -> LayeredDAG:
        known: dict[fx.Node, Any] = {}
        outputs: list[Value] = []
        for node in graph.nodes:
            if node.op == "output":
                outputs = [value for value in _flat(_filled(node.args, known)) if isinstance(value, Value)]
            elif node.op == "placeholder":
                known[node] = self.ops.input(str(node.target), size=read_size(node, self.modules))
            elif node.op == "get_attr":
                known[node] = operator.attrgetter(str(node.target))(self.root)
            else:
                known[node] = self.step(node, _filled(node.args, known), _filled(node.kwargs, known))
        return finish(self.ops, outputs)

    def step(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply one node of the graph."""
        if node.op == "call_module":
            name, module = f"{self.prefix}{node.target}", self.modules[str(node.target)]
            kind = type(module).__name__
            try:
                if len(args) != 1 or kwargs or not isinstance(args[0], Value):
                    raise NotSupported
                return self.layer(name, module, args[0])
            except NotSupported as error:
                raise _unsupported(name, kind, error) from None
        called = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
        everything = [*_flat(args), *_flat(list(kwargs.values()))]
        if called.startswith("_assert"):
            return _UNKNOWN
        name = f"{self.prefix}{node.name}"
        if not any(isinstance(one, Value) for one in everything):
            if any(one is _UNKNOWN for one in everything):
                return _UNKNOWN
            if called.endswith("_") and not called.endswith("__"):
                raise _unsupported(name, called, NotSupported("it changes a constant in place"))
            return (
                node.target(*args, **kwargs) if callable(node.target) else getattr(args[0], called)(*args[1:], **kwargs)
            )
        try:
            return self.call(name, called, args, kwargs)
        except NotSupported as error:
            raise _unsupported(name, called, error) from None

    # --- Modules ------------------------------------------------------------------------------------------------------

    def layer(self, name: str, module: torch.nn.Module, value: Value) -> Value:
        from torch import nn

        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            (weight, mask), (bias, bias_mask) = _kept(module, "weight"), _kept(module, "bias")
            shift = _optional(name, bias if bias_mask is None else bias * bias_mask)
            if isinstance(module, nn.Linear):
                return self.ops.linear(name, value, _array(name, weight), shift, mask=_optional(name, mask))
            if module.transposed:
                weight = _turned_kernel(weight, module.groups)
                mask = None if mask is None else _turned_kernel(mask, module.groups)
            kernels = _array(name, weight)
            return self.ops.convolution(name, value, kernels, shift, groups=module.groups, mask=_optional(name, mask))
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is None or module.running_var is None:
                return self.ops.apply(value, "batch_norm")
            return self.ops.normalise_batch(
                name,
                value,
                mean=_array(name, module.running_mean),
                variance=_array(name, module.running_var),
                epsilon=module.eps,
                gain=_optional(name, module.weight),
                shift=_optional(name, module.bias),
            )
        if isinstance(module, nn.Flatten):
            return self.ops.flatten(value, module.start_dim)
        where = type(module).__module__
        if where == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention | nn.GLU):
            return self.ops.activate(value, type(module).__name__, **_settings(module))
        if where in ("torch.nn.modules.pooling", "torch.nn.modules.padding", "torch.nn.modules.upsampling"):
            return self.ops.pool(value)
        return self.ops.plain(name, OPERATIONS.get(key_of(type(module).__name__)), value)

    # --- Functions and methods ----------------------------------------------------------------------------------------

    def call(self, name: str, called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = args[0] if args else None
        if called in ("size", "dim", "numel", "len"):
            return _UNKNOWN
        if called == "getattr":
            if args[1] in ("shape", "dtype", "device", "ndim"):
                return _UNKNOWN
            if args[1] in ("T", "mT") and isinstance(value, Value):
                return self.ops.transpose(value, None)
            raise NotSupported(f"attribute {args[1]!r} is not known")
        if called == "getitem":
            return self.item(*args)
        operation = OPERATIONS.get(key_of(called))
        match operation:
            case "add" | "sub" | "rsub" | "mul" | "div" | "neg":
                if set(kwargs) - {"other"} or len(args) + len(kwargs) > 2:
                    raise NotSupported(f"arguments {', '.join(kwargs) or 'beside the terms'} are not known")
                return self.ops.arithmetic(name, operation, [_constant(one) for one in (*args, *kwargs.values())])
            case "linear" | "addmm":
                names = ("input", "weight", "bias") if operation == "linear" else ("input", "mat1", "mat2")
                one, two, three = (_constant(_argument(args, kwargs, at, key)) for at, key in enumerate(names))
                if operation == "addmm":
                    return self.ops.product(name, two, three, bias=one)
                return self.ops.product(name, one, two.T if isinstance(two, np.ndarray) else two, bias=three)
            case "product":
                return self.ops.product(name, *map(_constant, args))
            case "convolution":
                weight, bias = (_constant(_argument(args, kwargs, at, key)) for at, key in ((1, "weight"), (2, "bias")))
                if not isinstance(weight, np.ndarray) or not isinstance(value, Value):
                    raise NotSupported("its kernels are computed from the input")
                groups = _argument(args, kwargs, 6, "groups") or 1
                return self.ops.convolution(name, value, weight, bias, groups=groups)
            case "concatenate":
                dim = _argument(args[1:], kwargs, 0, "dim")
                axis = (1 if called == "hstack" else 0) if dim is None else dim
                return self.ops.concatenate(name, _flat(args[0] if args else kwargs["tensors"]), axis)
        if not isinstance(value, Value) or sum(isinstance(one, Value) for one in _flat(args)) > 1:
            raise NotSupported("the first argument, and no other, must be computed from the input")
        match operation:
            case "activation":
                return self.ops.activate(value, called.rstrip("_"), **_call_settings(called, args[1:], kwargs))
            case "transpose":
                return self.ops.transpose(value, args[1] if len(args) == 2 else args[1:])
            case "flatten":
                return self.ops.flatten(value, _argument(args, kwargs, 1, "start_dim") or 0)
            case "reshape":
                shape = _flat([*args[1:], *kwargs.values()])
                return self.ops.reshape(value, [one if isinstance(one, int) else None for one in shape])
            case "split" | "chunk":
                how = _argument(args, kwargs, 1, "chunks" if operation == "chunk" else "split_size")
                axis = _argument(args, kwargs, 2, "dim") or 0
                if isinstance(how, list | tuple):
                    return self.ops.split(value, axis, sizes=how)
                if not isinstance(how, int) or how < 1:
                    raise NotSupported(f"it splits into {how}")
                step, n_parts = (0, how) if operation == "chunk" else (how, 1)
                return self.ops.split(value, axis, step=step, n_parts=n_parts)
            case "reduce":
                axes = _argument(args, kwargs, 1, "dim")
                keeps_axes = bool(_argument(args, kwargs, 2, "keepdim"))
                return self.ops.reduce(value, [] if axes is None else _flat(axes), keeps_axes=keeps_axes)
            case "pow":
                return self.ops.power(value, _constant(_argument(args, kwargs, 1, "exponent")))
        if called == "sum" and value.maps:
            return self.ops.reduce(
                value, _flat(_argument(args, kwargs, 1, "dim")), keeps_axes=bool(kwargs.get("keepdim"))
            )
        return self.ops.plain(name, "pool" if "pool" in called else operation, value)

    def item(self, value: Any, where: Any) -> Any:
        """Choose an item of a tuple, or units by a slice."""
        if not isinstance(value, Value):
            return value[where] if not isinstance(where, Value) else _UNKNOWN
        if isinstance(where, tuple) and len(where) == 2 and isinstance(where[1], slice):
            ends = (where[1].start, where[1].stop, where[1].step)
            whole = where[0] is Ellipsis or where[0] == slice(None)
            if whole and all(end is None or isinstance(end, int) for end in ends):
                return self.ops.choose(value, where[1], 1)
        raise NotSupported("indexing other than [:, first:end]")


def _unsupported(name: str, kind: str, error: NotSupported) -> ValueError:
    hint = ""
    if "Attention" in kind or "Transformer" in kind:
        hint = ("; name an MLP inside with `block`, such as `block='layers.0.mlp'`, "
                "or its modules in order, such as `block=('layers.0.linear1', 'layers.0.linear2')`")  # fmt: skip
    return unsupported(name, kind, error, SUPPORTED + hint)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str) -> Any:
    return args[at] if at < len(args) else kwargs.get(name)


def _flat(nested: Any) -> list[Any]:
    if isinstance(nested, dict):
        nested = list(nested.values())
    return [one for part in nested for one in _flat(part)] if isinstance(nested, list | tuple) else [nested]


def _filled(nested: Any, known: dict[fx.Node, Any]) -> Any:
    """Put what is known in the place of nodes."""
    from torch import fx

    return fx.node.map_arg(nested, lambda node: known[node])


def _kept(module: torch.nn.Module, kind: str) -> list[Any]:
    """Return weights or biases, and their mask; under a mask, ``weight_orig`` counts: ``weight`` may be older."""
    mask, values = getattr(module, f"{kind}_mask", None), getattr(module, kind)
    return [values if mask is None else getattr(module, f"{kind}_orig", values), mask]


def _turned_kernel(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Turn the kernel of a transposed convolution, (in, out / groups, …), to (out, in / groups, …)."""
    n_in, n_out = weight.shape[:2]
    parts = weight.reshape(groups, n_in // groups, n_out, *weight.shape[2:])
    return parts.transpose(1, 2).reshape(groups * n_out, n_in // groups, *weight.shape[2:])


def _array(name: str, tensor: torch.Tensor) -> NDArray[Any]:
    return from_torch(name, tensor).array()


def _optional(name: str, tensor: torch.Tensor | None) -> NDArray[Any] | None:
    return None if tensor is None else _array(name, tensor)


def _constant(one: Any) -> Any:
    """Turn a tensor into an array; a value stays."""
    import torch

    if one is _UNKNOWN:
        raise NotSupported("it computes with a size")
    return _array("a constant", one) if isinstance(one, torch.Tensor) else one


def _settings(module: torch.nn.Module) -> dict[str, Any]:
    """Return the settings of an activation module that change which function it is."""
    from torch import nn

    if isinstance(module, nn.Hardtanh):
        return {} if isinstance(module, nn.ReLU6) else {"low": module.min_val, "high": module.max_val}
    slope = getattr(module, "negative_slope", getattr(module, "alpha", None))
    beta = isinstance(module, nn.Softplus) and module.beta != 1
    return {"slope": slope, "approximate": getattr(module, "approximate", None), "other": beta}


def _call_settings(called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a called activation that change which function it is."""
    key = key_of(called)
    name = ACTIVATIONS[key]
    if name in ("clamp", "clip", "hardtanh"):
        ends = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
        low, high = (_argument(args, kwargs, at, end) for at, end in enumerate(ends))
        return {"low": low, "high": high}
    slope = _argument(args, kwargs, 0, "negative_slope" if name == "leaky_relu" else "alpha")
    other = name == "softplus" and bool(args or set(kwargs) - {"inplace"})
    return {"slope": slope, "approximate": kwargs.get("approximate"), "other": other}
