"""ONNX graphs, read operation by operation; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.budget import grant, spend
from modgraph.io.build import finish
from modgraph.io.ops import OPERATIONS, NotSupported, Operations, key_of, unsupported
from modgraph.io.request import Request
from modgraph.io.values import Value

NAME = "an ONNX file"
SUPPORTED = (
    "supported are Gemm, MatMul, Conv, BatchNormalization, activations, pooling, Flatten, Reshape, Transpose, Dropout, "
    "Add, Sub, Mul, Div, Sum, Concat, Split and Slice"
)
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_CHOICES = ("ArgMax", "ArgMin", "ZipMap", "TopK")  # they say which output is the largest
_UNKNOWN = object()  # shapes and the like, which no edge depends on
_LABEL = object()  # which output is the largest, or something computed from that
_CONSTANT: Mapping[str, Callable[..., NDArray[Any]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Neg": np.negative,
    "Abs": np.abs,
    "Identity": np.asarray,
    "Sqrt": np.sqrt,
    "Greater": np.greater,
    "Less": np.less,
    "Not": np.logical_not,
    "Where": np.where,
    "And": np.logical_and,
}


def matches(start: bytes, path: Path) -> bool:
    """Whether the file is called like one: ONNX has no mark of its own."""
    return path.suffix.lower() == ".onnx" and bool(start)


def read(request: Request) -> LayeredDAG:
    """Build the graph of an ONNX file."""
    request.refuse_masks_and_block()
    onnx = require("onnx", purpose="reading ONNX files", extra="onnx")
    model = onnx.load_model_from_string(request.path.read_bytes())
    return _Reader(graph=model.graph, folder=request.path.parent, threshold=request.threshold).read()


class _Reader:
    """Walks a graph."""

    def __init__(self, *, graph: Any, folder: Path, threshold: float) -> None:
        self.graph, self.folder = graph, folder
        self.ops = Operations(threshold=threshold)
        self.known: dict[str, Any] = {"": None}
        self.files_beside: set[Path] = set()
        self.stored = {tensor.name: tensor for tensor in graph.initializer}  # made into arrays where they are used

    def read(self) -> LayeredDAG:
        if self.graph.sparse_initializer:
            name = self.graph.sparse_initializer[0].values.name
            raise ValueError(f"initialiser {name!r} is sparse, which is not supported: store it dense")
        for entry in self.graph.input:
            if entry.name not in self.stored:
                dims = entry.type.tensor_type.shape.dim
                size = dims[1].dim_value if len(dims) == 2 else 0
                self.known[entry.name] = self.ops.input(entry.name, size=size if size > 0 else None)
        for number, node in enumerate(self.graph.node):
            name = node.name or f"{node.op_type} {number}"
            try:
                results = self.step(name, node, [self.value(node, one) for one in node.input])
            except NotSupported as error:
                raise unsupported(self.shown(name, node), node.op_type, error, SUPPORTED) from None
            results = results if isinstance(results, tuple) else (results,)
            self.known |= {name: result for name, result in zip(node.output, results, strict=False) if name}
        outputs = [self.known.get(entry.name) for entry in self.graph.output]
        values = [output for output in outputs if isinstance(output, Value)]
        if not values or any(output is None for output in outputs):
            raise ValueError("every output must be computed by a node, and one of them from the weights")
        return finish(self.ops, values)

    def value(self, node: Any, name: str) -> Any:
        """Return what a node reads."""
        if name not in self.known and name in self.stored:
            self.known[name] = self.tensor(self.stored[name])
        if name not in self.known:
            raise ValueError(f"{node.op_type} {node.name!r} reads {name!r}, which nothing before it gives")
        return self.known[name]

    def shown(self, name: str, node: Any) -> str:
        """Name a node as the weights that it reads are named, if they are: "fc1" of "fc1.weight"."""
        weights = [one for one in node.input if one.endswith(".weight") and isinstance(self.known.get(one), np.ndarray)]
        return weights[-1].removesuffix(".weight") if weights else name

    # --- Constants ----------------------------------------------------------------------------------------------------

    def tensor(self, tensor: Any) -> NDArray[Any]:
        """Make the array of a stored tensor."""
        import onnx
        from onnx import numpy_helper

        name, dims = tensor.name, tuple(tensor.dims)
        if any(n < 0 for n in dims) or len(dims) > 8:
            raise ValueError(f"initialiser {name!r} must have a shape of ints ≥ 0 (got {dims})")
        types = onnx.TensorProto
        if tensor.data_type in (types.STRING, types.UNDEFINED, types.COMPLEX64, types.COMPLEX128):
            raise ValueError(f"initialiser {name!r} must hold real numbers")
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if tensor.data_location == types.EXTERNAL:
            return self.external(tensor, dtype)
        spend(math.prod(dims) * dtype.itemsize, f"initialiser {name!r}")
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind not in "biuf":
            array = array.astype(np.float32)  # bfloat16 and the 8-bit floats
        return array

    def external(self, tensor: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read data beside the model: a file in its folder."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        file, dims = Path(where.get("location", "")), tuple(tensor.dims)
        path = (self.folder / file).resolve()
        if file.is_absolute() or not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise ValueError(
                f"the data of {tensor.name!r} must be a file in the folder of the model (got {str(file)!r})"
            )
        offset, size = int(where.get("offset", 0)), math.prod(dims) * dtype.itemsize
        if offset < 0 or offset + size > path.stat().st_size or dtype.kind not in "biuf":
            raise ValueError(f"the data of {tensor.name!r} must lie in {str(file)!r} (it claims shape {dims})")
        if path not in self.files_beside:
            self.files_beside.add(path)
            grant(path.stat().st_size)
        spend(size, f"initialiser {tensor.name!r}")
        return np.fromfile(path, dtype=dtype, count=math.prod(dims), offset=offset).reshape(dims)

    def constant(self, node: Any, inputs: list[Any]) -> Any:
        """Compute what depends on constants only; None where that isn't supported."""
        kind, attributes = node.op_type, _attributes(node)
        if not all(isinstance(one, np.ndarray) or one is None for one in inputs):
            return None
        first: Any = inputs[0] if inputs else None
        if kind in _CONSTANT:
            arrays = [one for one in inputs if one is not None]
            shape = np.broadcast_shapes(*(one.shape for one in arrays))
            spend(8 * math.prod(shape), f"the constant {node.output[0]!r}")
            with np.errstate(all="ignore"):
                return _CONSTANT[kind](*arrays)
        if kind == "Concat":
            spend(sum(one.nbytes for one in inputs), f"the constant {node.output[0]!r}")
            return np.concatenate(inputs, axis=attributes.get("axis", 0))
        if kind == "Transpose":
            return np.transpose(first, attributes.get("perm"))
        if kind == "Cast":
            spend(8 * first.size, f"the constant {node.output[0]!r}")
            return first if attributes.get("to") in (1, 10, 11, 16) else first.astype(np.int64)
        if kind == "Reshape":
            return first.reshape([first.shape[at] if n == 0 else int(n) for at, n in enumerate(inputs[1])])
        if kind == "Squeeze":
            return first.reshape([n for n in first.shape if n != 1])
        if kind == "Unsqueeze":
            return np.expand_dims(first, tuple(attributes.get("axes") or [int(n) for n in inputs[1]]))
        if kind == "Flatten":
            return first.reshape([math.prod(first.shape[: attributes.get("axis", 1)]), -1])
        return None

    def literal(self, attributes: dict[str, Any]) -> NDArray[Any]:
        """Return what a Constant node holds."""
        key, value = next(iter(attributes.items()), ("", None))
        if key == "value":
            return self.tensor(value)
        if key in ("value_float", "value_floats", "value_int", "value_ints"):
            return np.asarray(value, dtype=np.float32 if "float" in key else np.int64)
        raise NotSupported(f"it holds {key or 'nothing'}")

    # --- Nodes --------------------------------------------------------------------------------------------------------

    def step(self, name: str, node: Any, inputs: list[Any]) -> Any:
        """Apply one node."""
        kind, attributes = node.op_type, _attributes(node)
        if node.domain not in _DOMAINS:
            raise unsupported(name, f"{node.domain}.{kind}", NotSupported(), SUPPORTED)
        if kind == "Constant":
            return self.literal(attributes)
        if any(one is _LABEL for one in inputs) or kind in _CHOICES:
            return tuple(_LABEL for _ in node.output)
        first = inputs[0] if inputs else None
        if kind in ("Shape", "Size") or any(one is _UNKNOWN for one in inputs):
            if isinstance(first, Value) and kind == "Reshape":
                return replace(first, flat=first.maps)
            return _UNKNOWN
        if any(isinstance(one, Value) for one in inputs):
            return self.operation(self.shown(name, node), kind, inputs, attributes, n_outputs=len(node.output))
        result = self.constant(node, inputs)
        if result is None:
            raise NotSupported
        return result

    def operation(self, name: str, kind: str, inputs: list[Any], attributes: dict[str, Any], *, n_outputs: int) -> Any:
        """Apply an operation to what is computed from the inputs of the network."""
        ops = self.ops
        value, second, third = (*inputs, None, None)[:3]
        operation = "add" if kind == "Sum" else OPERATIONS.get(key_of(kind))
        match operation:
            case "product":
                return ops.product(name, value, second)
            case "add" | "sub" | "mul" | "div" | "neg":
                return ops.arithmetic(name, operation, inputs)
            case "concatenate":
                return ops.concatenate(name, inputs, attributes.get("axis"))
        if kind == "Gemm":
            one, two = (
                _transposed(term) if attributes.get(key) else term
                for term, key in ((value, "transA"), (second, "transB"))
            )
            if isinstance(third, np.ndarray):
                third = third * attributes.get("beta", 1.0) if third.size else None
            return ops.product(name, one, two, bias=third, factor=attributes.get("alpha", 1.0))
        if not isinstance(value, Value):
            raise NotSupported("its first input must be computed from the inputs of the network")
        match operation:
            case "activation":
                return ops.activate(value, kind, **_settings(kind, inputs, attributes))
            case "pow":
                return ops.power(value, second)
            case "transpose":
                return ops.transpose(value, tuple(attributes.get("perm", (1, 0))))
            case "flatten":
                return ops.flatten(value, attributes.get("axis", 1))
            case "reduce":
                axes = attributes.get("axes") or ([] if second is None else _ints(second))
                return ops.reduce(value, axes, keeps_axes=bool(attributes.get("keepdims", 1)))
            case "reshape":
                return ops.reshape(value, _ints(second))
            case "split":
                sizes = attributes.get("split") or (None if second is None else _ints(second))
                parts = ops.split(value, attributes.get("axis", 0), sizes=sizes, n_parts=max(n_outputs, 1))
                if len(parts) != n_outputs:
                    raise NotSupported(f"it splits into {len(parts)} parts and has {n_outputs} outputs")
                return parts
        if kind == "Slice":
            # Older versions of the operation have attributes, newer ones inputs.
            given = dict(zip(("starts", "ends", "axes", "steps"), inputs[1:], strict=False)) | attributes
            numbers = {key: _ints(one) for key, one in given.items() if one is not None}
            if any(len(one) != 1 for one in numbers.values()):
                raise NotSupported("it slices several axes")
            start, end, axis, step = (numbers.get(key, [None])[0] for key in ("starts", "ends", "axes", "steps"))
            return ops.choose(value, slice(start, end, step), 0 if axis is None else axis)
        if kind in ("BatchNormalization", "Conv"):
            if not all(isinstance(one, np.ndarray) or one is None for one in inputs[1:]):
                raise NotSupported("its weights are computed from the input")
            if kind == "Conv":
                return ops.convolution(name, value, inputs[1], third, groups=attributes.get("group", 1))
            gain, shift, mean, variance = inputs[1:5]
            epsilon = attributes.get("epsilon", 1e-5)
            return ops.normalise_batch(
                name, value, mean=mean, variance=variance, epsilon=epsilon, gain=gain, shift=shift
            )
        return ops.plain(name, operation, value)


def _transposed(term: Any) -> Any:
    if isinstance(term, Value):
        return replace(term, turned=not term.turned)
    return term.T if isinstance(term, np.ndarray) else term


def _ints(array: Any) -> list[int]:
    """List the ints of a constant."""
    if isinstance(array, Value) or array is _UNKNOWN:
        raise NotSupported("a shape or an axis is computed from the input")
    return [int(n) for n in np.reshape(array, -1)[:64]]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        is_list = not isinstance(value, str | int | float) and hasattr(value, "__iter__")
        found[attribute.name] = list(value) if is_list else value
    return found


def _settings(kind: str, inputs: list[Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an activation that change which function it is."""
    if kind == "Clip":
        ends = [attributes.get(key) for key in ("min", "max")]
        for at, one in enumerate(inputs[1:3]):
            ends[at] = one.item() if isinstance(one, np.ndarray) and one.size == 1 else ends[at]
        return {"low": ends[0], "high": ends[1]}
    return {"slope": attributes.get("alpha"), "approximate": attributes.get("approximate")}
