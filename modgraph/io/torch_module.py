"""Live torch modules: traced with torch.fx, operation by operation."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.build import finish
from modgraph.io.op_names import OPERATIONS, NotSupported, key_of, unsupported
from modgraph.io.tensor import check_threshold
from modgraph.io.torch_ops import UNKNOWN, TorchOperations, array, flat
from modgraph.io.values import Value

if TYPE_CHECKING:
    import torch
    from torch import fx

SUPPORTED = (
    "supported are Linear, convolutions, BatchNorm, Dropout, activations, pooling, Flatten, "
    "additions, products and concatenations"
)


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
    """Find the size of an input: what the weight layers that read it expect."""
    from torch import nn

    seen, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop(0).users:
            module = modules.get(str(user.target)) if user.op == "call_module" else None
            if isinstance(module, nn.Linear):
                return module.in_features or None  # 0: lazy, not initialised yet
            if isinstance(module, nn.modules.conv._ConvNd):
                return module.in_channels
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                return module.num_features
            if isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
                return int(module.normalized_shape[0])
            alone = len(user.all_input_nodes) == 1
            through = module is None or _is_leaf(module)
            shape = user.op == "call_function" and getattr(user.target, "__name__", "") == "getattr"
            if alone and through and not shape and user.target not in ("size", "dim") and user not in seen:
                seen.add(user)
                waiting.append(user)
    return None


# --- Its trace --------------------------------------------------------------------------------------------------------


class _Reader:
    """Walks a traced graph."""

    def __init__(self, *, root: torch.nn.Module, prefix: str, threshold: float) -> None:
        self.modules = dict(root.named_modules())
        self.root, self.prefix = root, prefix
        self.ops = TorchOperations(threshold=threshold)

    def read(self, graph: fx.Graph) -> LayeredDAG:
        known: dict[fx.Node, Any] = {}
        outputs: list[Value] = []
        for node in graph.nodes:
            if node.op == "output":
                outputs = [value for value in flat(_filled(node.args, known)) if isinstance(value, Value)]
            elif node.op == "placeholder":
                known[node] = self.ops.input(str(node.target), size=_read_size(node, self.modules))
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
        everything = [*flat(args), *flat(list(kwargs.values()))]
        if called.startswith("_assert"):
            return UNKNOWN
        name = f"{self.prefix}{node.name}"
        if not any(isinstance(one, Value) for one in everything):
            if any(one is UNKNOWN for one in everything):
                return UNKNOWN
            if called.endswith("_") and not called.endswith("__"):
                raise _unsupported(name, called, NotSupported("it changes a constant in place"))
            return (
                node.target(*args, **kwargs) if callable(node.target) else getattr(args[0], called)(*args[1:], **kwargs)
            )
        try:
            return self.ops.call(name, called, args, kwargs)
        except NotSupported as error:
            raise _unsupported(name, called, error) from None

    # --- Modules ------------------------------------------------------------------------------------------------------

    def layer(self, name: str, module: torch.nn.Module, value: Value) -> Value:
        from torch import nn

        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            (weight, mask), (bias, bias_mask) = _kept(module, "weight"), _kept(module, "bias")
            shift = _optional(name, bias if bias_mask is None else bias * bias_mask)
            if isinstance(module, nn.Linear):
                return self.ops.linear(name, value, array(name, weight), shift, mask=_optional(name, mask))
            return self.ops.convolution(
                name,
                value,
                array(name, weight),
                shift,
                groups=module.groups,
                mask=_optional(name, mask),
                transposed=module.transposed,
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is None or module.running_var is None:
                return self.ops.apply(value, "batch_norm")
            return self.ops.normalise_batch(
                name,
                value,
                mean=array(name, module.running_mean),
                variance=array(name, module.running_var),
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


def _unsupported(name: str, kind: str, error: NotSupported) -> ValueError:
    hint = ""
    if "Attention" in kind or "Transformer" in kind:
        hint = ("; name an MLP inside with `block`, such as `block='layers.0.mlp'`, "
                "or its modules in order, such as `block=('layers.0.linear1', 'layers.0.linear2')`")  # fmt: skip
    return unsupported(name, kind, error, SUPPORTED + hint)


def _filled(nested: Any, known: dict[fx.Node, Any]) -> Any:
    """Put what is known in the place of nodes."""
    from torch import fx

    return fx.node.map_arg(nested, lambda node: known[node])


def _kept(module: torch.nn.Module, kind: str) -> list[Any]:
    """Return weights or biases, and their mask; under a mask, ``weight_orig`` counts: ``weight`` may be older."""
    mask, values = getattr(module, f"{kind}_mask", None), getattr(module, kind)
    return [values if mask is None else getattr(module, f"{kind}_orig", values), mask]


def _optional(name: str, tensor: torch.Tensor | None) -> NDArray[Any] | None:
    return None if tensor is None else array(name, tensor)


def _settings(module: torch.nn.Module) -> dict[str, Any]:
    """Return the settings of an activation module that change which function it is."""
    from torch import nn

    if isinstance(module, nn.Hardtanh):
        return {} if isinstance(module, nn.ReLU6) else {"low": module.min_val, "high": module.max_val}
    slope = getattr(module, "negative_slope", getattr(module, "alpha", None))
    beta = isinstance(module, nn.Softplus) and module.beta != 1
    return {"slope": slope, "approximate": getattr(module, "approximate", None), "other": beta}
