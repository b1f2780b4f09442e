"""torch modules: live ones, traced with torch.fx, and ``.pt2`` files, which torch.export saves.

A ``.pt2`` file holds a graph as JSON and tensors as plain bytes; no code in it is run.
"""

from __future__ import annotations

import inspect
import math
import operator
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.limits import checked_members, read_json, spend
from modgraph.io.ops import finish
from modgraph.io.request import Reader, Request
from modgraph.io.table import UNKNOWN, Table, arguments_of, as_array, flat, operation_of
from modgraph.io.tensor import check_threshold, number_type, real
from modgraph.io.values import NotSupported, Value

if TYPE_CHECKING:
    import torch
    from torch import fx

SUPPORTED = (
    "Linear, convolutions, BatchNorm, Dropout, activations, pooling, Flatten, additions, products and concatenations"
)
_MODULES = ("linear", "convolution", "batchnorm", "activation", "flatten", "pool", "normalise", "glu", "same")


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
    names = [""] if block is None else [block] if isinstance(block, str) else list(block)
    for name in names:
        if name not in modules:
            some = ", ".join(repr(known) for known in list(modules)[1:7])
            raise ValueError(f"`block` must be the name of a part of the model (got {name!r}; there is {some}, …)")
    if block is not None and not isinstance(block, str):
        return torch.nn.Sequential(*(modules[name] for name in names)), "block "
    part, name = modules[names[0]], names[0]
    if _is_leaf(part):
        return torch.nn.Sequential(part), f"{name} " if name else ""
    return part, f"{name}." if name else ""


def _is_leaf(module: torch.nn.Module) -> bool:
    """Whether a module computes what torch wrote, not a forward of its own."""
    import torch

    containers = torch.nn.Sequential | torch.nn.ModuleList | torch.nn.ModuleDict
    where = getattr(type(module).forward, "__module__", "")
    return where.startswith(("torch.nn.", "torch.ao.")) and not isinstance(module, containers)


@contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Put back what tracing may set on the modules."""
    held = [vars(module) for module in model.modules()]
    held += [inner for outer in held for inner in outer.values() if isinstance(inner, dict)]
    saved = [(one, dict(one)) for one in held]
    try:
        yield
    finally:
        for one, before in saved:
            one.clear()
            one.update(before)


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
        from torch import fx

        known: dict[fx.Node, Any] = {}
        outputs: list[Value] = []
        for node in graph.nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            if node.op == "output":
                outputs = [value for value in flat(args) if isinstance(value, Value)]
            elif node.op == "placeholder":
                known[node] = self.ops.input(str(node.target))
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
        if operation in ("linear", "convolution"):
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


# --- Programs of torch.export -----------------------------------------------------------------------------------------

# Types of numbers by torch's number for them.
_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?", 13: "bfloat16"}
_WEIGHT = re.compile(r"\.(parametrizations\.)?weight(_orig|_mask|\.original)?$")  # after the name of a layer
_CONSTANT: Mapping[str | None, Callable[..., NDArray[Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "transpose": np.transpose,
    "abs": np.abs,
}


def _read(request: Request) -> LayeredDAG:
    """Build the graph of a program."""
    with zipfile.ZipFile(request.path) as archive:
        return _Program(archive).read(threshold=request.threshold)


class _Program:
    """Walks the nodes of a program."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.members = {member.filename.partition("/")[2]: member for member in checked_members(archive)}
        self.known: dict[str, Any] = {}
        self.layers: dict[str, str] = {}  # names of layers, by the names of their weights in the graph
        self.stored: dict[str, tuple[str, Any]] = {}
        for kind, folder in (("weights", "data/weights"), ("constants", "data/constants")):
            config = self.json(f"{folder}/model_{kind}_config.json")["config"]
            self.stored |= {name: (f"{folder}/{entry['path_name']}", entry) for name, entry in config.items()}

    def json(self, name: str) -> Any:
        member = self.members.get(name)
        if member is None:
            raise ValueError(f"it must hold {name!r}: save it with torch 2.8 or newer")
        return read_json(self.archive, member)

    def tensor(self, name: str) -> NDArray[Any]:
        """Read a stored tensor."""
        path, entry = self.stored[name]
        about, member = entry["tensor_meta"], self.members.get(path)
        shape = tuple(int(size["as_int"]) for size in about["sizes"])
        strides = tuple(int(step["as_int"]) for step in about["strides"])
        dtype = number_type(_TYPES.get(about["dtype"], "V1"))
        packed = tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))
        if member is None or entry.get("use_pickle") or dtype == "V1" or (strides != packed and 1 not in shape):
            raise ValueError(f"tensor {name!r} must be stored as plain numbers in rows")
        first, n_bytes = int(about["storage_offset"]["as_int"]) * dtype.itemsize, math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or first < 0 or first + n_bytes > member.file_size:
            raise ValueError(f"tensor {name!r} must be as large as its shape {shape} says")
        spend(2 * n_bytes, repr(name))
        numbers = np.frombuffer(self.archive.read(member)[first : first + n_bytes], dtype=dtype)
        return real(repr(name), numbers.reshape(shape))

    def read(self, *, threshold: float) -> LayeredDAG:
        ops = Table(threshold=threshold, supported=SUPPORTED)
        module = self.json("models/model.json")["graph_module"]
        graph, signature = module["graph"], module["signature"]
        for spec in signature["input_specs"]:
            ((kind, about),) = spec.items()
            argument = about["arg"].get("as_tensor", about["arg"])
            if kind == "user_input" and "name" in argument:
                sizes = graph["tensor_values"][argument["name"]]["sizes"]
                size = sizes[1].get("as_int") if len(sizes) == 2 else None
                self.known[argument["name"]] = ops.input(argument["name"], size=size or None)
            elif kind != "user_input":
                stored = next(value for key, value in about.items() if key.endswith("_name"))
                self.layers[argument["name"]] = _WEIGHT.sub("", stored) if _WEIGHT.search(stored) else ""
                self.known[argument["name"]] = stored
        for node in graph["nodes"]:
            self.step(ops, node)
        outputs = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
        values = [value for value in flat([self.argument(one) for one in outputs]) if isinstance(value, Value)]
        return finish(ops, values)

    def step(self, ops: Table, node: Any) -> None:
        """Apply one node."""
        called = str(node["target"]).removeprefix("torch.ops.aten.").partition(".")[0]
        if called.startswith("_assert"):
            return
        given = {one["name"]: one["arg"] for one in node["inputs"]}
        used = [arg["as_tensor"]["name"] for arg in given.values() if "as_tensor" in arg]
        name = next((self.layers[one] for one in used if self.layers.get(one)), str(node.get("name") or called))
        kwargs = {"input" if key == "self" else key: self.argument(arg) for key, arg in given.items()}
        result = ops.step(name, called, (), kwargs, constant=lambda: _constant(called, list(kwargs.values())))
        names = [one for one in flat(node["outputs"]) if isinstance(one, str)]
        results = result if isinstance(result, tuple) else [result]
        self.known |= dict(zip(names, results, strict=False))
        if isinstance(result, np.ndarray):  # weights times their mask
            self.layers |= dict.fromkeys(names, name)

    def argument(self, arg: Any) -> Any:
        """Return what an argument of a node stands for."""
        ((kind, value),) = arg.items()
        if kind == "as_tensor":
            known = self.known[value["name"]]
            return self.tensor(known) if isinstance(known, str) else known
        if kind == "as_tensors":
            return [self.argument({"as_tensor": one}) for one in value]
        if kind in ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string"):
            return value
        return UNKNOWN if kind.startswith("as_sym") else None  # None, a type of numbers, a device


def _constant(called: str, given: list[Any]) -> Any:
    """Compute what depends on stored tensors alone, such as weights times their mask."""
    operation = called if called in _CONSTANT else operation_of(called)
    if operation == "same":
        return given[0]
    if operation not in _CONSTANT or len(given) > 2:
        raise NotSupported("it computes with constants alone")
    spend(8 * math.prod(np.broadcast_shapes(*map(np.shape, given))), f"the constant {called!r}")
    with np.errstate(all="ignore"):
        return _CONSTANT[operation](*given)


PROGRAM = Reader(
    name="a program of torch.export",
    matches=lambda file: any(name.endswith("/models/model.json") for name in file.members),
    read=_read,
)
