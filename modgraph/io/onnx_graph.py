"""ONNX graphs, read operation by operation; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray
from modgraph.dag import LayeredDAG
from modgraph.io.build import Builder
from modgraph.io.chain import kernels
from modgraph.io.matrix import pruned, vector
from modgraph.io.values import Value

SUPPORTED = (
    "supported are Gemm, MatMul, Conv, BatchNormalization, activations, pooling, Flatten, Reshape, Transpose, Dropout, "
    "Add, Sub, Mul, Div, Sum, Concat, Split and Slice"
)
_ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Selu": "selu",
    "Gelu": "gelu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Exp": "exp",
    "Abs": "abs",
    # From here on without a forward pass.
    **{name: name.lower() for name in ("HardSigmoid", "HardSwish", "Mish", "PRelu", "Celu", "ThresholdedRelu", "Erf")},
    **{name: name.lower() for name in ("Sqrt", "Log", "Sign", "Reciprocal", "Sin", "Cos", "Shrink", "Swish")},
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"), "layer_norm"),
    **dict.fromkeys(("RMSNormalization", "LpNormalization", "MeanVarianceNormalization"), "layer_norm"),
}
_POOLING = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "Pad", "Resize", "Upsample"}
_UNKNOWN = object()  # shapes and such, which no edge depends on
_READ_OUT = object()  # what only says which output is the largest

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


def read_onnx(path: Path, *, threshold: float = 0.0) -> LayeredDAG:
    """Read an ONNX file.

    Parameters
    ----------
    path : Path
    threshold : float ≥ 0

    Returns
    -------
    LayeredDAG

    Raises
    ------
    ValueError
        If the file is broken or holds an operation that isn't supported.
    ImportError
        If onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("reading ONNX files needs onnx: pip install 'modgraph-nn[onnx]'") from error
    model = onnx.load_model_from_string(path.read_bytes())
    return _Reader(graph=model.graph, folder=path.parent, room=path.stat().st_size, threshold=threshold).read()


class _Reader:
    def __init__(self, *, graph: Any, folder: Path, room: int, threshold: float) -> None:
        self.graph, self.folder, self.room, self.threshold = graph, folder, room, threshold
        self.builder = Builder()
        self.known: dict[str, Any] = {"": None}

    def read(self) -> LayeredDAG:
        if self.graph.sparse_initializer:
            name = self.graph.sparse_initializer[0].values.name
            raise ValueError(f"initialiser {name!r} is sparse, which is not supported: store it dense")
        for tensor in self.graph.initializer:
            self.known[tensor.name] = self.tensor(tensor)
        for entry in self.graph.input:
            if entry.name not in self.known:
                dims = entry.type.tensor_type.shape.dim
                size = dims[1].dim_value if len(dims) == 2 else 0
                self.known[entry.name] = self.builder.input(entry.name, size=size or None)
        for number, node in enumerate(self.graph.node):
            missing = [name for name in node.input if name not in self.known]
            if missing:
                raise ValueError(f"{node.op_type} {node.name!r} reads {missing[0]!r}, which nothing before it gives")
            results = self.step(node, [self.known[name] for name in node.input], number)
            results = results if isinstance(results, tuple) else (results,)
            for name, result in zip(node.output, results, strict=False):
                if name:
                    self.known[name] = result
        outputs = [self.known.get(entry.name) for entry in self.graph.output]
        values = [output for output in outputs if isinstance(output, Value)]
        if not values or any(output is None for output in outputs):
            raise ValueError("every output must be computed by a node, and one of them from the weights")
        return self.builder.finish(values)

    # --- Constants ----------------------------------------------------------------------------------------------------

    def tensor(self, tensor: Any) -> NDArray[Any]:
        import onnx
        from onnx import numpy_helper

        name, dims = tensor.name, tuple(tensor.dims)
        if any(n < 0 for n in dims) or len(dims) > 8:
            raise ValueError(f"initialiser {name!r} must have a shape of ints ≥ 0 (got {dims})")
        types = onnx.TensorProto
        if tensor.data_type in (types.STRING, types.UNDEFINED, types.COMPLEX64, types.COMPLEX128):
            raise ValueError(f"initialiser {name!r} must hold real numbers")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if tensor.data_location == types.EXTERNAL:
            return self.external(tensor, np.dtype(dtype))
        if math.prod(dims) > 2 * self.room:
            raise ValueError(f"initialiser {name!r} must fit the file (it claims shape {dims})")
        array: NDArray[Any] = numpy_helper.to_array(tensor)
        if array.dtype.kind not in "biuf":
            array = array.astype(np.float32)  # bfloat16 and smaller
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
        return np.fromfile(path, dtype=dtype, count=math.prod(dims), offset=offset).reshape(dims)

    def constant(self, node: Any, inputs: list[Any]) -> Any:
        """Compute what depends on constants only."""
        kind, attributes = node.op_type, _attributes(node)
        first: Any = inputs[0] if inputs else None
        if kind == "Transpose":
            return np.transpose(first, attributes.get("perm"))
        if kind in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            if kind == "Reshape":
                shape = [first.shape[at] if n == 0 else int(n) for at, n in enumerate(inputs[1])]
            elif kind == "Squeeze":
                shape = [n for n in first.shape if n != 1]
            elif kind == "Unsqueeze":
                axes = attributes.get("axes") or [int(n) for n in inputs[1]]
                shape = list(np.expand_dims(first, tuple(axes)).shape)
            else:
                shape = [math.prod(first.shape[: attributes.get("axis", 1)]), -1]
            return first.reshape(shape)
        if kind == "Cast":
            return first if attributes.get("to") in (1, 10, 11, 16) else first.astype(np.int64)
        if kind == "Concat" and all(isinstance(one, np.ndarray) for one in inputs):
            return np.concatenate(inputs, axis=attributes.get("axis", 0))
        if kind in _CONSTANT:
            if math.prod(np.broadcast_shapes(*(one.shape for one in inputs))) > 2 * self.room:
                raise ValueError(f"{kind} {node.name!r} must not make constants that are larger than the file")
            with np.errstate(all="ignore"):
                return _CONSTANT[kind](*inputs)
        return None

    # --- Nodes --------------------------------------------------------------------------------------------------------

    def step(self, node: Any, inputs: list[Any], number: int) -> Any:
        kind, attributes = node.op_type, _attributes(node)
        name = node.name or f"{kind} {number}"
        if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
            raise _unsupported(name, f"{node.domain}.{kind}")
        if kind == "Constant":
            return self.literal(node, attributes)
        if any(one is _READ_OUT for one in inputs) or kind in ("ArgMax", "ArgMin", "ZipMap", "TopK"):
            return tuple(_READ_OUT for _ in node.output)
        if kind in ("Shape", "Size") or any(one is _UNKNOWN for one in inputs):
            first = inputs[0] if inputs else None
            return (
                first
                if isinstance(first, Value) and kind == "Reshape" and not first.maps
                else (replace(first, flat=True) if isinstance(first, Value) and kind == "Reshape" else _UNKNOWN)
            )
        values = [one for one in inputs if isinstance(one, Value)]
        if not values:
            result = self.constant(node, inputs)
            if result is None:
                raise _unsupported(name, kind)
            return result
        for at, one in enumerate(node.input):
            if one.endswith(".weight") and isinstance(inputs[at], np.ndarray):
                name = one.removesuffix(".weight")
        result = self.operation(name, node, inputs, attributes)
        if result is None:
            raise _unsupported(name, kind)
        return result

    def literal(self, node: Any, attributes: dict[str, Any]) -> NDArray[Any]:
        key, value = next(iter(attributes.items()), ("", None))
        if key == "value":
            return self.tensor(value)
        if key in ("value_float", "value_floats", "value_int", "value_ints"):
            return np.asarray(value, dtype=np.float32 if "float" in key else np.int64)
        raise _unsupported(node.name, f"Constant with {key or 'nothing'}")

    def operation(self, name: str, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Apply an operation to values; None where it isn't supported."""
        kind, builder = node.op_type, self.builder
        value, second = inputs[0], inputs[1] if len(inputs) > 1 else None
        if kind in ("Gemm", "MatMul"):
            return self.product(name, inputs, attributes)
        if kind in ("Add", "Sub", "Mul", "Div", "Sum", "Neg"):
            return self.arithmetic(name, kind, inputs)
        if not isinstance(value, Value):
            return self.joined(name, inputs, attributes) if kind == "Concat" else None
        if kind in ("Identity", "Dropout", "Cast", "CastLike"):
            return value
        if kind in ("Clip", *_ACTIVATIONS):
            return builder.activate(value, _activation(kind, inputs, attributes))
        if kind == "Pow" and isinstance(second, np.ndarray):
            return builder.activate(value, "square" if second.size == 1 and second.item() == 2 else "pow")
        if kind == "BatchNormalization" and all(isinstance(one, np.ndarray) for one in inputs[1:5]):
            gain, shift, mean, variance = (one.astype(np.float64).reshape(-1) for one in inputs[1:5])
            with np.errstate(all="ignore"):
                scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
            return builder.scale(value, scale, shift=shift - mean * scale, name=name)
        if kind == "Conv" and isinstance(second, np.ndarray):
            return self.convolution(name, inputs, attributes)
        if kind in _POOLING and value.maps and not value.flat:
            return builder.activate(value, "pooling")
        if kind == "Concat":
            return self.joined(name, inputs, attributes)
        if kind == "Transpose" and not value.maps and attributes.get("perm", [1, 0]) == [1, 0]:
            return replace(value, turned=not value.turned)
        if kind == "Flatten" and (attributes.get("axis", 1) == 1 or not value.maps):
            return replace(value, flat=value.maps)
        if kind == "Squeeze":
            return replace(value, flat=value.maps)
        if kind == "Reshape" and isinstance(second, np.ndarray):
            return self.reshaped(name, value, [int(n) for n in second.reshape(-1)])
        if kind in ("ReduceMean", "ReduceMax", "ReduceSum") and value.maps and not value.flat:
            axes = attributes.get("axes") or ([int(n) for n in second] if isinstance(second, np.ndarray) else [])
            if axes and not {0, 1} & set(axes):
                pooled = builder.activate(value, "pooling")
                return replace(pooled, maps=bool(attributes.get("keepdims", 1)))
        if kind == "Split":
            return self.split(name, value, second, attributes, n=len(node.output))
        if kind == "Slice" and all(
            isinstance(one, np.ndarray) and one.size == 1 for one in inputs[1:] if one is not None
        ):
            first, last, axis, step = ([*(None if one is None else one.item() for one in inputs[1:]), None, None])[:4]
            if axis in (1, -1) and (step or 1) > 0 and not value.turned:
                return builder.take(value, np.arange(builder.size(value))[first:last:step])
        return None

    def product(self, name: str, inputs: list[Any], attributes: dict[str, Any]) -> Value | None:
        one, two = inputs[:2]
        turns = attributes.get("transA", 0), attributes.get("transB", 0)
        if isinstance(one, Value) and isinstance(two, np.ndarray) and two.ndim == 2:
            value, weights, right = one, two if turns[1] else two.T, bool(turns[0]) == one.turned
        elif isinstance(two, Value) and isinstance(one, np.ndarray) and one.ndim == 2:
            value, weights, right = two, one.T if turns[0] else one, bool(turns[1]) != two.turned
            value = replace(value, turned=True)
        else:
            return None
        if not right or (value.maps and not value.flat):
            return None
        matrix = pruned(f"the weights of {name!r}", weights, threshold=self.threshold)
        matrix.data *= attributes.get("alpha", 1.0)
        bias = inputs[2] if len(inputs) > 2 else None
        if isinstance(bias, np.ndarray) and bias.size > 0:
            bias = bias * attributes.get("beta", 1.0)
            wide = np.broadcast_to(bias.reshape(-1), len(weights)) if bias.size == 1 else bias
            bias = vector(f"the bias of {name!r}", wide, length=len(weights))
        result = self.builder.linear(value, matrix, bias=None if isinstance(bias, Value) else bias, name=name)
        result = replace(result, turned=value.turned)
        return self.builder.add([result, bias], name=name) if isinstance(bias, Value) else result

    def convolution(self, name: str, inputs: list[Any], attributes: dict[str, Any]) -> Value | None:
        value, weights = inputs[:2]
        groups = attributes.get("group", 1)
        if weights.ndim < 3 or value.flat or groups < 1 or weights.shape[0] % groups or value.turned:
            return None
        n_out, n_in, size = weights.shape[0], weights.shape[1], math.prod(weights.shape[2:])
        matrix = pruned(f"the weights of {name!r}", weights.reshape(n_out, -1), threshold=self.threshold)
        matrix = kernels(matrix, size=size) if size > 1 else matrix
        rows = np.repeat(np.arange(n_out), np.diff(matrix.indptr))
        columns = matrix.indices + rows // (n_out // groups) * n_in
        matrix = csr_array((matrix.data, columns, matrix.indptr), shape=(n_out, n_in * groups))
        bias = None
        if len(inputs) > 2 and inputs[2] is not None:
            bias = vector(f"the bias of {name!r}", np.asarray(inputs[2]), length=n_out)
        kind = "convolution" if size > 1 else None
        result = self.builder.linear(value, matrix, bias=bias, name=name, kind=kind, groups=groups)
        return replace(result, maps=True)

    def arithmetic(self, name: str, kind: str, inputs: list[Any]) -> Value | None:
        if kind == "Neg":
            return self.scaled(inputs[0], -1.0, 0.0, name)
        if kind == "Sum" and all(isinstance(one, Value) for one in inputs):
            return self.builder.add(inputs, name=name)
        if len(inputs) != 2:
            return None
        one, two = inputs
        if isinstance(one, Value) and isinstance(two, Value):
            if kind == "Sub":
                two = self.scaled(two, -1.0, 0.0, name)
            join = self.builder.add if kind in ("Add", "Sub", "Sum") else self.builder.multiply
            return join([one, two], name=name)
        value, constant = (one, two) if isinstance(one, Value) else (two, one)
        if not isinstance(constant, np.ndarray) or (constant.ndim > 1 and constant.size != max(constant.shape)):
            return None
        number = constant.astype(np.float64).reshape(-1)
        if kind in ("Add", "Sum"):
            return self.scaled(value, 1.0, number, name)
        if kind == "Sub":
            return self.scaled(value, 1.0, -number, name) if value is one else self.scaled(value, -1.0, number, name)
        if kind == "Mul":
            return self.scaled(value, number, 0.0, name)
        with np.errstate(all="ignore"):
            return self.scaled(value, 1 / number, 0.0, name) if value is one else None

    def scaled(self, value: Value, scale: float | FloatArray, shift: float | FloatArray, name: str) -> Value:
        return self.builder.scale(value, np.atleast_1d(scale), shift=np.atleast_1d(shift), name=name)

    def joined(self, name: str, inputs: list[Any], attributes: dict[str, Any]) -> Value | None:
        values = [one for one in inputs if isinstance(one, Value)]
        right = (0, -2) if values[0].turned else (1,) if values[0].maps else (1, 2, -1)
        if len(values) < len(inputs) or attributes.get("axis") not in right:
            return None
        return self.builder.concatenate(values, name=name)

    def reshaped(self, name: str, value: Value, shape: list[int]) -> Value | None:
        if value.entry is not None:
            if len(shape) == 2 and shape[1] > 0:
                self.builder.sized(value, shape[1])
            return value
        if value.maps and not value.flat:
            return replace(value, flat=True) if len(shape) == 2 else None
        kept = bool(shape) and (shape[-1] in (-1, 0) or value.flat or shape[-1] == self.builder.size(value))
        if not kept:
            raise ValueError(f"Reshape {name!r} must keep or flatten the values of a sample (got {shape})")
        return value

    def split(
        self, name: str, value: Value, sizes: Any, attributes: dict[str, Any], *, n: int
    ) -> tuple[Value, ...] | None:
        size = self.builder.size(value)
        if attributes.get("axis", 0) not in (1, -1) or value.turned:
            return None
        parts = attributes.get("split") or (sizes.tolist() if isinstance(sizes, np.ndarray) else None)
        parts = [-(-size // n)] * (n - 1) if parts is None else parts[:-1]
        if min(parts, default=1) < 1 or sum(parts) >= size:
            raise ValueError(f"Split {name!r} must give {n} parts of {size} values")
        return tuple(self.builder.take(value, part) for part in np.split(np.arange(size), np.cumsum(parts)))


def _unsupported(name: str, kind: str) -> ValueError:
    return ValueError(f"layer {name!r} ({kind}) is not supported in this place: {SUPPORTED}")


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        found[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return {key: list(value) if not isinstance(value, str | int | float) and hasattr(value, "__iter__") else value
            for key, value in found.items()}  # fmt: skip


def _activation(kind: str, inputs: list[Any], attributes: dict[str, Any]) -> str:
    if kind == "Clip":
        ends = [attributes.get(key) for key in ("min", "max")]
        ends = [one.item() if isinstance(one, np.ndarray) and one.size == 1 else end
                for one, end in zip([*inputs[1:], None, None], ends, strict=False)]  # fmt: skip
        known: dict[Any, str] = {(0, 6): "relu6", (-1, 1): "hardtanh", (0, None): "relu"}
        return known.get((ends[0], ends[1]), "clip")
    name = _ACTIVATIONS[kind]
    if name in ("leaky_relu", "elu"):
        return f"{name}:{attributes.get('alpha', 0.01 if name == 'leaky_relu' else 1.0):.6g}"
    return "gelu_tanh" if name == "gelu" and attributes.get("approximate") == "tanh" else name
