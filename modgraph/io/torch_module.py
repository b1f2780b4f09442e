"""Live torch modules: traced with torch.fx, operation by operation."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.build import finish
from modgraph.io.table import UNKNOWN, Table, arguments_of, as_array, flat, operation_of
from modgraph.io.tensor import check_threshold
from modgraph.io.values import NotSupported, Value

if TYPE_CHECKING:
    import torch
    from torch import fx

SUPPORTED = (
    "Linear, convolutions, BatchNorm, Dropout, activations, pooling, Flatten, additions, products and concatenations"
)
_CONVOLUTIONS = ("convolution", "transposed_convolution")
_MODULES = ("linear", *_CONVOLUTIONS, "batchnorm", "activation", "flatten", "pool", "normalise", "glu", "same")
_SIZES = {"linear": "in_features", **dict.fromkeys(_CONVOLUTIONS, "in_channels"), "batchnorm": "num_features"}


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
    part, prefix = _part_of(getattr(model, "_orig_mod", model), block)
    with _unchanged(model), torch.no_grad():
        graph = _trace(part)
        return _Reader(root=part, prefix=prefix, threshold=limit).read(graph)


# --- The module -------------------------------------------------------------------------------------------------------


def _part_of(model: torch.nn.Module, block: str | Sequence[str] | None) -> tuple[torch.nn.Module, str]:
    """Find the module that `block` names, and what comes before the names inside it."""
    import torch

    modules = dict(model.named_modules())
    names = [] if block is None else [block] if isinstance(block, str) else list(block)
    for name in names:
        if name not in modules:
            some = ", ".join(repr(known) for known in list(modules)[1:7])
            raise ValueError(f"`block` must be the name of a part of the model (got {name!r}; there is {some}, …)")
    part, prefix = model, ""
    if len(names) > 1 or (block is not None and not isinstance(block, str)):
        chain = torch.nn.Sequential()
        for at, name in enumerate(names):
            chain.add_module(f"{at}", modules[name])
        return chain, "block "
    if names:
        part, prefix = modules[names[0]], f"{names[0]}."
    if _is_leaf(part):
        part, prefix = torch.nn.Sequential(part), f"{names[0]} " if names else ""
    return part, prefix


def _is_leaf(module: torch.nn.Module) -> bool:
    """Whether a module computes what torch wrote, not a forward of its own."""
    import torch

    containers = torch.nn.Sequential | torch.nn.ModuleList | torch.nn.ModuleDict
    where = getattr(type(module).forward, "__module__", "")
    return where.startswith(("torch.nn.", "torch.ao.")) and not isinstance(module, containers)


@contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Put back what tracing may set on the modules."""
    saved = []
    for module in model.modules():
        own = dict(vars(module))
        saved.append((module, own, [(held, dict(held)) for held in own.values() if isinstance(held, dict)]))
    try:
        yield
    finally:
        for module, own, dicts in saved:
            for held, before in dicts:
                if held.keys() != before.keys() or any(held[key] is not before[key] for key in before):
                    held.clear()
                    held.update(before)
            vars(module).clear()
            vars(module).update(own)


def _trace(module: torch.nn.Module) -> fx.Graph:
    """Trace a module; arguments with defaults keep them."""
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 (fx's name)
            return _is_leaf(m)

    fixed = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not parameter.empty
    }
    try:
        return Tracer().trace(module, concrete_args=fixed or None)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"`model` must be traceable with torch.fx: {reason[:200]} (name a part that is with `block`)"
        ) from error


def _read_size(node: fx.Node, modules: dict[str, torch.nn.Module]) -> int | None:
    """Find the size of an input: what the layers that read it expect."""
    seen, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop(0).users:
            module = modules.get(str(user.target)) if user.op == "call_module" else None
            operation = operation_of(_kind(module))
            if module is not None and operation in _SIZES:
                return getattr(module, _SIZES[operation]) or None  # 0: lazy, not initialised yet
            shape: Any = getattr(module, "normalized_shape", None)
            if shape is not None and len(shape) == 1:
                return int(shape[0])
            reads_shape = user.op == "call_function" and getattr(user.target, "__name__", "") == "getattr"
            alone = len(user.all_input_nodes) == 1 and (module is None or _is_leaf(module))
            if alone and not reads_shape and user.target not in ("size", "dim") and user not in seen:
                seen.add(user)
                waiting.append(user)
    return None


# --- Its trace --------------------------------------------------------------------------------------------------------


def _kind(module: Any) -> str:
    """Name the operation that a module is, as the table has it."""
    from torch import nn

    for kind, called in ((nn.Linear, "linear"), (nn.modules.batchnorm._BatchNorm, "batchnorm")):
        if isinstance(module, kind):
            return called
    if type(module).__module__.removeprefix("torch.nn.modules.") in ("pooling", "padding", "upsampling"):
        return "pool"
    return type(module).__name__.lower().removeprefix("lazy")


class _Reader:
    """Walks a traced graph."""

    def __init__(self, *, root: torch.nn.Module, prefix: str, threshold: float) -> None:
        self.modules = dict(root.named_modules())
        self.root, self.prefix = root, prefix
        self.ops = Table(threshold=threshold, supported=SUPPORTED)

    def read(self, graph: fx.Graph) -> LayeredDAG:
        known: dict[fx.Node, Any] = {}
        outputs: list[Value] = []
        for node in graph.nodes:
            args, kwargs = _filled(node.args, known), _filled(node.kwargs, known)
            if node.op == "output":
                outputs = [value for value in flat(args) if isinstance(value, Value)]
            elif node.op == "placeholder":
                known[node] = self.ops.input(str(node.target), size=_read_size(node, self.modules))
            elif node.op == "get_attr":
                known[node] = operator.attrgetter(str(node.target))(self.root)
            elif node.op == "call_module":
                module, name = self.modules[str(node.target)], f"{self.prefix}{node.target}"
                with self.ops.reading(name, type(module).__name__):
                    known[node] = self.layer(name, module, args, kwargs)
            else:
                known[node] = self.function(node, args, kwargs)
        return finish(self.ops, outputs)

    def layer(self, name: str, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """Apply a module: an operation whose arguments, but for the input, are its attributes."""
        if len(args) != 1 or kwargs or not isinstance(args[0], Value):
            raise NotSupported
        kind = _kind(module)
        operation = operation_of(kind)
        if operation not in _MODULES:
            raise NotSupported
        arguments = [key for key in arguments_of(kind) if key != "training" and hasattr(module, key)]
        given = {key: getattr(module, key) for key in arguments}
        if operation in ("linear", *_CONVOLUTIONS):
            # Under a mask of `prune`, ``weight_orig`` counts: ``weight`` may be older.
            mask, bias_mask = (getattr(module, f"{key}_mask", None) for key in ("weight", "bias"))
            if mask is not None:
                given |= {"mask": mask, "weight": getattr(module, "weight_orig", module.weight)}
            if bias_mask is not None:
                given["bias"] = getattr(module, "bias_orig", module.bias) * bias_mask
        given = {key: as_array(one, name=name) for key, one in given.items()}
        result: Value = self.ops.call(name, kind, args[0], **given)
        return result

    def function(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply a function or a method."""
        called = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))

        def constant() -> Any:
            if called.endswith("_") and not called.endswith("__"):
                raise NotSupported("it changes a constant in place")
            function = node.target if callable(node.target) else getattr(args[0], called)
            return function(*(args if callable(node.target) else args[1:]), **kwargs)

        if called.startswith("_assert"):
            return UNKNOWN
        return self.ops.step(f"{self.prefix}{node.name}", called, args, kwargs, constant=constant)


def _filled(nested: Any, known: dict[fx.Node, Any]) -> Any:
    """Put what is known in the place of nodes."""
    from torch import fx

    return fx.node.map_arg(nested, lambda node: known[node])
