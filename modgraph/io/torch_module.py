"""Live torch modules: traced with torch.fx, operation by operation."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray
from modgraph.dag import LayeredDAG
from modgraph.io.build import Builder
from modgraph.io.chain import kernels
from modgraph.io.matrix import check_threshold, pruned, vector
from modgraph.io.tensor import from_torch
from modgraph.io.torch_trace import part_of, read_size, trace, unchanged
from modgraph.io.values import Value

if TYPE_CHECKING:
    import torch
    from torch import fx

SUPPORTED = (
    "supported are Linear, convolutions, BatchNorm, Dropout, activations, pooling, Flatten, "
    "additions, products and concatenations"
)
_ACTIVATIONS = {
    *("relu", "relu6", "sigmoid", "tanh", "selu", "silu", "softplus", "softsign", "exp", "abs", "square", "gelu"),
    *("leaky_relu", "elu", "hardtanh", "softmax", "log_softmax"),
    # From here on without a forward pass.
    *("mish", "hardswish", "hardsigmoid", "logsigmoid", "tanhshrink", "softshrink", "hardshrink", "celu", "prelu"),
    *("clamp", "clip", "sin", "cos", "sqrt", "rsqrt", "erf", "log", "log1p", "sign", "heaviside", "where", "threshold"),
    *("rrelu", "softmin", "normalize", "layer_norm", "rms_norm", "group_norm", "instance_norm"),
}
_SAME = {"contiguous", "detach", "clone", "to", "float", "double", "half", "type", "cpu", "cuda", "type_as", "positive"}
_PLAIN = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv", "imatmul": "matmul"}
_UNKNOWN = object()  # sizes and such, which no edge depends on


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
    try:
        import torch
    except ImportError as error:
        raise ImportError("`from_module` needs torch: pip install 'modgraph-nn[sculpt]'") from error
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"`model` must be a torch.nn.Module (got {type(model).__name__})")
    limit = check_threshold(threshold)
    part, prefix = part_of(model, block)
    with unchanged(model), torch.no_grad():
        graph = trace(part)
        return _Reader(root=part, prefix=prefix, threshold=limit).read(graph)


class _Reader:
    """Walks a traced graph."""

    def __init__(self, *, root: torch.nn.Module, prefix: str, threshold: float) -> None:
        self.modules = dict(root.named_modules())
        self.root, self.prefix, self.threshold = root, prefix, threshold
        self.builder = Builder()

    def read(self, graph: fx.Graph) -> LayeredDAG:
        known: dict[fx.Node, Any] = {}
        outputs: list[Value] = []
        for node in graph.nodes:
            if node.op == "output":
                outputs = [value for value in _flat(_filled(node.args, known)) if isinstance(value, Value)]
            elif node.op == "placeholder":
                known[node] = self.builder.input(str(node.target), size=read_size(node, self.modules))
            elif node.op == "get_attr":
                known[node] = operator.attrgetter(str(node.target))(self.root)
            else:
                known[node] = self.step(node, _filled(node.args, known), _filled(node.kwargs, known))
        return self.builder.finish(outputs)

    def step(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        if node.op == "call_module":
            name = str(node.target)
            module = self.modules[name]
            shown = f"{self.prefix}{name}"
            if len(args) != 1 or kwargs or not isinstance(args[0], Value):
                raise _unsupported(shown, type(module).__name__)
            return self.layer(shown, module, args[0])
        called = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
        called = _PLAIN.get(called, called)
        if called.startswith("_assert"):
            return _UNKNOWN
        everything = [*_flat(args), *_flat(list(kwargs.values()))]
        if not any(isinstance(one, Value) for one in everything):
            if any(one is _UNKNOWN for one in everything):
                return _UNKNOWN
            if called.endswith("_") and not called.endswith("__"):
                raise _unsupported(node.name, called)
            function: Any = getattr(operator, called, node.target) if node.op == "call_function" else None
            return function(*args, **kwargs) if function else getattr(args[0], called)(*args[1:], **kwargs)
        name = f"{self.prefix}{node.name}"
        if called in ("linear", "addmm"):
            names = ("input", "weight", "bias") if called == "linear" else ("input", "mat1", "mat2")
            one, two, three = (_argument(args, kwargs, at, key) for at, key in enumerate(names))
            value, weight, bias = (one, two, three) if called == "linear" else (two, three, one)
            if isinstance(value, Value) and isinstance(weight, torch.Tensor) and not isinstance(bias, Value):
                return self.linear(name, value, weight if called == "linear" else weight.T, bias)
            raise _unsupported(name, called)
        if called in ("conv1d", "conv2d", "conv3d") and isinstance(args[1], torch.Tensor):
            groups = _argument(args, kwargs, 6, "groups")
            bias = _argument(args, kwargs, 2, "bias")
            return self.convolution(name, args[0], args[1], bias, groups=groups or 1)
        return self.call(name, called, args, kwargs)

    # --- Modules ------------------------------------------------------------------------------------------------------

    def layer(self, name: str, module: torch.nn.Module, value: Value) -> Value:
        import torch
        from torch import nn

        kind = type(module).__name__
        if isinstance(module, nn.Linear):
            return self.linear(name, value, module.weight, module.bias, module=module)
        if isinstance(module, nn.modules.conv._ConvNd):
            weight = module.weight
            mask = getattr(module, "weight_mask", None)
            if module.transposed:
                weight = _turned_kernel(weight, module.groups)
                mask = None if mask is None else _turned_kernel(mask, module.groups)
            return self.convolution(
                name, value, weight, module.bias, groups=module.groups, mask=mask, original=_original(module)
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is None or module.running_var is None:
                return self.builder.activate(value, "batch_norm")
            scale = 1 / torch.sqrt(module.running_var.double() + module.eps)
            if module.weight is not None:
                scale = scale * module.weight
            shift = -module.running_mean * scale
            if module.bias is not None:
                shift = shift + module.bias
            return self.builder.scale(value, _numbers(name, scale), shift=_numbers(name, shift), name=name)
        if isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd):
            return value
        if isinstance(module, nn.Flatten):
            return self.flatten(name, value, module.start_dim)
        where = type(module).__module__
        if isinstance(module, nn.GLU):
            return self.gate(name, value)
        if where == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention):
            return self.builder.activate(value, _module_activation(module))
        if where in ("torch.nn.modules.pooling", "torch.nn.modules.padding", "torch.nn.modules.upsampling"):
            if value.maps and not value.flat:
                return self.builder.activate(value, "pooling")
        elif where == "torch.nn.modules.normalization":
            return self.builder.activate(value, "layer_norm")
        raise _unsupported(name, kind)

    def linear(
        self, name: str, value: Value, weight: torch.Tensor, bias: Any, *, module: torch.nn.Module | None = None
    ) -> Value:
        if value.maps and not value.flat:
            raise _unsupported(name, "Linear on the positions of feature maps")
        mask = getattr(module, "weight_mask", None)
        original = None if module is None else _original(module)
        matrix = pruned(
            f"the weights of {name!r}",
            _array(name, weight if original is None else original),
            mask=None if mask is None else _array(name, mask),
            threshold=self.threshold,
        )
        masked = getattr(module, "bias_mask", None)
        if module is not None and masked is not None:
            bias = module.bias_orig * masked
        return self.builder.linear(value, matrix, bias=self.bias(name, bias, len(weight)), name=name)

    def convolution(
        self,
        name: str,
        value: Value,
        weight: torch.Tensor,
        bias: Any,
        *,
        groups: int,
        mask: torch.Tensor | None = None,
        original: torch.Tensor | None = None,
    ) -> Value:
        if value.flat or (value.entry is None and not value.maps and not self.is_input(value)):
            raise _unsupported(name, "convolution over values that are no feature maps")
        if original is not None and original.shape == weight.shape:
            weight = original
        n_out, n_in, size = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
        matrix = pruned(
            f"the weights of {name!r}",
            _array(name, weight).reshape(n_out, -1),
            mask=None if mask is None else _array(name, mask).reshape(n_out, -1),
            threshold=self.threshold,
        )
        matrix = kernels(matrix, size=size) if size > 1 else matrix
        if groups > 1:
            rows = np.repeat(np.arange(n_out), np.diff(matrix.indptr))
            columns = matrix.indices + rows // (n_out // groups) * n_in
            matrix = csr_array((matrix.data, columns, matrix.indptr), shape=(n_out, n_in * groups))
        kind = "convolution" if size > 1 else None
        shift = self.bias(name, bias, n_out)
        result = self.builder.linear(value, matrix, bias=shift, name=name, kind=kind, groups=groups)
        return replace(result, maps=True)

    def is_input(self, value: Value) -> bool:
        """Whether this is an input as it came, which may be feature maps."""
        return len(value.parts) == 1 and any(value.parts[0] is entry for entry, _ in self.builder.inputs)

    def bias(self, name: str, bias: Any, size: int) -> FloatArray | None:
        return None if bias is None else vector(f"the bias of {name!r}", _array(name, bias), length=size)

    def flatten(self, name: str, value: Value, start: int) -> Value:
        if value.maps and start != 1:
            raise _unsupported(name, f"flatten from dimension {start}")
        return replace(value, flat=value.maps)

    def gate(self, name: str, value: Value) -> Value:
        half = self.builder.size(value) // 2
        one, two = (self.builder.take(value, np.arange(half) + first) for first in (0, half))
        return self.builder.multiply([one, self.builder.activate(two, "sigmoid")], name=name)

    # --- Functions and methods ----------------------------------------------------------------------------------------

    def call(self, name: str, called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        values = [one for one in _flat(args) if isinstance(one, Value)]
        value = args[0] if args else None
        stem = called.rstrip("_")
        if called == "getattr":
            if args[1] in ("shape", "dtype", "device", "ndim"):
                return _UNKNOWN
            if args[1] in ("T", "mT") and isinstance(value, Value) and not value.maps:
                return replace(value, turned=not value.turned)
        elif called in ("size", "dim", "numel", "len"):
            return _UNKNOWN
        elif stem in ("add", "sub", "mul", "multiply", "truediv", "div", "neg", "rsub") or called in ("sub_", "mul_"):
            return self.arithmetic(name, stem, args, kwargs)
        elif called == "getitem":
            return self.chosen(name, *args)
        elif called in ("cat", "concat", "concatenate", "hstack"):
            dim = _argument(args[1:], kwargs, 0, "dim")
            dim = (1 if called == "hstack" else 0) if dim is None else dim
            right = (0,) if values[0].turned else (1,) if values[0].maps else (1, -1)
            if len(values) == len(_flat(args[0])) and dim in right:
                return self.builder.concatenate(values, name=name)
            raise _unsupported(name, f"{called} along dimension {dim}")
        elif not isinstance(value, Value):
            if called == "matmul" or called == "mm":
                weight, second = args
                if isinstance(weight, torch.Tensor) and second.turned and weight.ndim == 2:
                    return self.linear(name, second, weight, None)
        elif "dropout" in called or stem in _SAME or called == "requires_grad_":
            return value
        elif called in ("matmul", "mm", "bmm") and isinstance(args[1], torch.Tensor):
            if args[1].ndim == 2 and not value.turned:
                return self.linear(name, value, args[1].T, None)
        elif called in ("t", "transpose", "permute", "swapaxes") and not value.maps and len(values) == 1:
            if args[1:] in ((), (0, 1), (1, 0), ((1, 0),)):
                return replace(value, turned=not value.turned)
        elif called == "flatten":
            start = _argument(args, kwargs, 1, "start_dim")
            return self.flatten(name, value, 0 if start is None else start)
        elif called in ("view", "reshape", "unflatten"):
            return self.reshape(name, value, _flat(args[1:]))
        elif called == "squeeze":
            return replace(value, flat=value.maps)
        elif called in ("chunk", "split"):
            return self.pieces(name, called, value, args, kwargs)
        elif called in ("mean", "amax", "sum") and value.maps and not value.flat:
            dims = _argument(args, kwargs, 1, "dim")
            if dims is not None and 1 not in _flat(dims) and 0 not in _flat(dims):
                kept = bool(_argument(args, kwargs, 2, "keepdim"))
                return replace(self.builder.activate(value, "pooling"), maps=kept)
        elif "pool" in called or called in ("interpolate", "pad"):
            if value.maps and not value.flat:
                return self.builder.activate(value, "pooling")
        elif called == "glu":
            return self.gate(name, value)
        elif called == "pow" and len(args) == 2 and not isinstance(args[1], Value):
            return self.builder.activate(value, "square" if args[1] == 2 else "pow")
        elif stem in _ACTIVATIONS and len(values) == 1:
            return self.builder.activate(value, _function_activation(stem, args[1:], kwargs))
        raise _unsupported(name, called)

    def arithmetic(self, name: str, called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """Add, subtract, multiply or divide values, constants, or both."""
        if set(kwargs) - {"other"} or len(args) + len(kwargs) > 2:
            raise _unsupported(name, f"{called} with {', '.join(map(str, kwargs)) or 'three arguments'}")
        terms = [*args, *kwargs.values()]
        if called == "neg":
            return self.scaled(name, terms[0], -1.0, 0.0)
        if called == "rsub":
            terms, called = terms[::-1], "sub"
        one, two = terms
        if any(term is _UNKNOWN for term in terms):
            raise _unsupported(name, f"{called} with a size")
        if isinstance(one, Value) and isinstance(two, Value):
            if called == "sub":
                two, called = self.scaled(name, two, -1.0, 0.0), "add"
            if called in ("truediv", "div"):
                called = "mul"
            join = self.builder.add if called == "add" else self.builder.multiply
            return join([one, two], name=name)
        value, constant = (one, two) if isinstance(one, Value) else (two, one)
        number = _numbers(name, constant)
        if called == "add":
            return self.scaled(name, value, 1.0, number)
        if called == "sub":
            return self.scaled(name, value, 1.0, -number) if value is one else self.scaled(name, value, -1.0, number)
        if called in ("mul", "multiply"):
            return self.scaled(name, value, number, 0.0)
        if value is one:
            return self.scaled(name, value, 1 / number, 0.0)
        return self.builder.activate(value, "reciprocal")

    def scaled(self, name: str, value: Value, scale: float | FloatArray, shift: float | FloatArray) -> Value:
        return self.builder.scale(value, np.atleast_1d(scale), shift=np.atleast_1d(shift), name=name)

    def chosen(self, name: str, value: Any, where: Any) -> Any:
        if not isinstance(value, Value):
            return value[where] if not isinstance(where, Value) else _UNKNOWN
        if isinstance(where, tuple) and len(where) == 2 and isinstance(where[1], slice) and not value.turned:
            whole = where[0] is Ellipsis or where[0] == slice(None)
            ends = (where[1].start, where[1].stop, where[1].step)
            if whole and all(end is None or isinstance(end, int) for end in ends) and (where[1].step or 1) > 0:
                return self.builder.take(value, np.arange(self.builder.size(value))[where[1]])
        raise _unsupported(name, "indexing other than [:, first:end]")

    def pieces(self, name: str, called: str, value: Value, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        how = _argument(args, kwargs, 1, "chunks" if called == "chunk" else "split_size")
        dim = _argument(args, kwargs, 2, "dim")
        size = self.builder.size(value)
        if dim not in ((1,) if value.maps else (1, 2, -1)) or value.turned:
            raise _unsupported(name, f"{called} along dimension {dim or 0}")
        step = math.ceil(size / how) if called == "chunk" else how
        ends = np.cumsum(step) if isinstance(step, list | tuple) else np.arange(step, size + step, step)
        if not len(ends) or min(ends) < 1 or ends[-1] < size:
            raise _unsupported(name, f"{called} into {how}")
        return tuple(self.builder.take(value, part) for part in np.split(np.arange(size), ends[:-1]))

    def reshape(self, name: str, value: Value, shape: list[Any]) -> Value:
        last = shape[-1] if shape else None
        if value.entry is not None and len(shape) == 2 and isinstance(last, int) and last > 0:
            self.builder.sized(value, last)
        if value.maps and not value.flat:
            if len(shape) == 2:
                return replace(value, flat=True)
        elif last is _UNKNOWN or last == -1 or value.flat or (value.entry is None and last == self.builder.size(value)):
            return value
        raise _unsupported(name, "reshape other than flattening")


def _unsupported(name: str, kind: str) -> ValueError:
    hint = ""
    if "Attention" in kind or "Transformer" in kind:
        hint = ("; name an MLP inside with `block`, such as `block='layers.0.mlp'`, "
                "or its modules in order, such as `block=('layers.0.linear1', 'layers.0.linear2')`")  # fmt: skip
    return ValueError(f"layer {name.strip()!r} ({kind}) is not supported: {SUPPORTED}{hint}")


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


def _original(module: torch.nn.Module) -> torch.Tensor | None:
    """Return the weights that ``torch.nn.utils.prune`` keeps under its mask: `weight` may be older."""
    masked = getattr(module, "weight_mask", None) is not None
    original: torch.Tensor | None = getattr(module, "weight_orig", None) if masked else None
    return original


def _turned_kernel(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Turn the kernel of a transposed convolution, (in, out / groups, …), to (out, in / groups, …)."""
    n_in, n_out = weight.shape[:2]
    parts = weight.reshape(groups, n_in // groups, n_out, *weight.shape[2:])
    return parts.transpose(1, 2).reshape(groups * n_out, n_in // groups, *weight.shape[2:])


def _array(name: str, tensor: torch.Tensor) -> NDArray[Any]:
    return from_torch(name, tensor).array()


def _numbers(name: str, constant: Any) -> FloatArray:
    """Turn a number, or a tensor of one number a value, into a vector."""
    import torch

    array = _array(name, constant) if isinstance(constant, torch.Tensor) else np.asarray(constant)
    if array.dtype.kind not in "biuf" or (array.ndim > 1 and max(array.shape) != array.size):
        raise _unsupported(name, "arithmetic with a constant that is not one number a value")
    return array.reshape(-1).astype(np.float64)


def _module_activation(module: torch.nn.Module) -> str:
    """Name the activation that a module is."""
    from torch import nn

    name = type(module).__name__
    if isinstance(module, nn.LeakyReLU):
        return f"leaky_relu:{module.negative_slope:g}"
    if isinstance(module, nn.ELU):
        return f"elu:{module.alpha:g}"
    if isinstance(module, nn.GELU):
        return "gelu_tanh" if module.approximate == "tanh" else "gelu"
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        return "hardtanh" if (module.min_val, module.max_val) == (-1, 1) else "clip"
    if isinstance(module, nn.Softplus):
        return "softplus" if module.beta == 1 else "softplus with beta"
    return {"LogSoftmax": "log_softmax", "SiLU": "silu"}.get(name, name.lower())


def _function_activation(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Name the activation that a function is."""
    if name in ("leaky_relu", "elu"):
        default = 0.01 if name == "leaky_relu" else 1.0
        number = _argument(args, kwargs, 0, "negative_slope" if name == "leaky_relu" else "alpha")
        return f"{name}:{default if number is None else number:g}"
    if name == "gelu":
        return "gelu_tanh" if kwargs.get("approximate") == "tanh" else "gelu"
    odd = name in ("hardtanh", "softplus") and (args or set(kwargs) - {"inplace"})
    return f"{name} with settings" if odd else name
