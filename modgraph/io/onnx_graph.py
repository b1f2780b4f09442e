"""ONNX graphs, read operation by operation; nothing is run but onnx's own arithmetic on constants."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.limits import grant, spend
from modgraph.io.ops import finish
from modgraph.io.request import Blocks, Reader, Request, readable
from modgraph.io.table import ARITHMETIC, UNKNOWN, Table, operation_of
from modgraph.io.tensor import real
from modgraph.io.values import NotSupported, Value

SUPPORTED = (
    "Gemm, MatMul, Conv, BatchNormalization, activations, pooling, Flatten, Reshape, Transpose, Dropout, "
    "Add, Sub, Mul, Div, Sum, Concat, Split and Slice"
)
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_CHOICES = ("ArgMax", "ArgMin", "TopK", "Binarizer", "LabelEncoder")  # they say which output is the largest
_WEIGHTS = ("Gemm", "MatMul", "Conv")
_LABEL = object()  # which output is the largest, or something computed from that
_OUTSIDE = object()  # computed from the inputs, outside the block
# What the table of operations calls the inputs of a node, after the first, where the order isn't torch's; attributes.
_INPUTS = {
    "BatchNormalization": "weight bias running_mean running_var",
    "Reshape": "shape",
    "Split": "split_sizes",
    "Slice": "start end dim step",  # attributes in older versions of the operation
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), "dim"),
}
_ATTRIBUTES = {"axis": "dim", "axes": "dim", "epsilon": "eps", "group": "groups", "keepdims": "keepdim"}
_ATTRIBUTES |= {"split": "split_sizes", "starts": "start", "ends": "end"}
_ATTRIBUTES |= {name: name for name in ("alpha", "approximate", "min", "max")}
_DEFAULTS = {"Flatten": {"dim": 1}, **{f"Reduce{one}": {"keepdim": 1} for one in ("Mean", "Max", "Sum")}}
_INTS = ("dim", "shape", "split_sizes", "start", "end", "step")  # those that say where and how many
# Operations on constants that are computed: of entries by themselves, and those that give no more than they read.
_ENTRYWISE = "Add Sub Mul Div Neg Abs Identity Sqrt Greater Less Equal Not Where And Or Pow Reciprocal Exp Log Floor"
_SHAPING = (
    "Concat Transpose Cast Reshape Squeeze Unsqueeze Flatten Slice ReduceSum ReduceProd ReduceMax DequantizeLinear"
)


def _open(request: Request) -> _Graph:
    onnx = require("onnx", purpose="reading ONNX files", extra="onnx")
    model = onnx.load_model_from_string(request.path.read_bytes())
    return _Graph(model=model, folder=request.path.parent, threshold=request.threshold)


def _blocks(request: Request) -> Blocks:
    """Yield blocks that can be read, with the sizes of their layers: parts by name, or runs of supported nodes."""
    found = list(readable(_open(request).prefixes(), lambda name: _open(request).read(name)))
    runs = [] if found else _open(request).runs()
    yield from found or readable(runs, lambda name: _open(request).read(name.split(",")))


ONNX = Reader(
    name="an ONNX file",
    matches=lambda file: file.suffix == ".onnx" and bool(file.start),  # ONNX has no mark of its own
    read=lambda request: _open(request).read(request.block),
    blocks=_blocks,
    takes_block=True,
)


class _Graph:
    """Walks a graph."""

    def __init__(self, *, model: Any, folder: Path, threshold: float) -> None:
        self.model, self.graph, self.folder = model, model.graph, folder
        self.ops = Table(threshold=threshold, supported=SUPPORTED)
        self.known: dict[str, Any] = {"": None}
        self.files_beside: set[Path] = set()
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}  # made into arrays where they are used

    def read(self, block: Any = None) -> LayeredDAG:
        if self.graph.sparse_initializer:
            name = self.graph.sparse_initializer[0].values.name
            raise ValueError(f"initialiser {name!r} is sparse, which is not supported: store it dense")
        inside = None if block is None else self.part(block)
        for entry in self.graph.input:
            if entry.name not in self.stored:
                dims = entry.type.tensor_type.shape.dim
                size = dims[1].dim_value if len(dims) == 2 else 0
                whole = inside is None
                self.known[entry.name] = self.ops.input(entry.name, size=size or None) if whole else _OUTSIDE
        ends = {entry.name: None for entry in self.graph.output}
        given: set[str] = set()
        for number, node in enumerate(self.graph.node):
            if inside is not None and number not in inside:
                ends |= dict.fromkeys(name for name in node.input if name in given)
                computed = [self.known.get(name) for name in node.input]
                if any(one is _OUTSIDE or isinstance(one, Value) for one in computed):
                    is_shape = node.op_type in ("Shape", "Size")
                    self.known |= dict.fromkeys(node.output, UNKNOWN if is_shape else _OUTSIDE)
                else:
                    with suppress(ValueError):  # a constant that nothing in the block may read
                        self.walk(number, node)
                    self.known = dict.fromkeys(node.output, _OUTSIDE) | self.known
                continue
            self.walk(number, node)
            given.update(node.output)
        outputs = [self.known.get(name) for name in ends]
        values = [output for output in outputs if isinstance(output, Value)]
        if not values or any(output is None for output in outputs):
            raise ValueError("every output must be computed by a node, and one of them from the weights")
        return finish(self.ops, values)

    def walk(self, number: int, node: Any) -> None:
        """Apply a node to what is known."""
        inputs = [self.value(node, one) for one in node.input]
        kind = node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}"
        # A node is named as the weights that it reads, if they are named: "fc1" of "fc1.weight".
        weights = [one for one in node.input if one.endswith(".weight") and isinstance(self.known.get(one), np.ndarray)]
        name = weights[-1].removesuffix(".weight") if weights else node.name or f"{node.op_type} {number}"
        with self.ops.reading(name, kind):
            results = self.step(name, node, inputs)
        results = results if isinstance(results, tuple) else (results,) * len(node.output)
        self.known |= {name: result for name, result in zip(node.output, results, strict=False) if name}

    def value(self, node: Any, name: str) -> Any:
        """Return what a node reads."""
        if name not in self.known and name in self.stored:
            is_text = self.stored[name].data_type == self.stored[name].STRING  # the names of classes
            self.known[name] = _LABEL if is_text else self.tensor(self.stored[name])
        if name not in self.known:
            raise ValueError(f"{node.op_type} {node.name!r} reads {name!r}, which nothing before it gives")
        if self.known[name] is _OUTSIDE:
            self.known[name] = self.ops.input(name)
        return self.known[name]

    # --- Blocks -------------------------------------------------------------------------------------------------------

    def called(self, node: Any) -> list[str]:
        """List the names of a node: its own with dots, and those of the weights and values that belong to it."""
        return [_dotted(name) for name in (node.name, *filter(self.stored.get, node.input), *node.output)]

    def part(self, block: Any) -> set[int]:
        """Find the nodes below a name, or from one to another, and those on paths between them."""
        names = [block] if isinstance(block, str) else list(block)
        starts = [_dotted(name) for name in names]
        nodes = list(enumerate(self.graph.node))
        if len(starts) == 1:
            chosen = {at for at, node in nodes if any(one.startswith(f"{starts[0]}.") for one in self.called(node))}
        else:
            found = [[at for at, node in nodes if start in map(_dotted, (node.name, *node.output))] for start in starts]
            names = [name for name, where in zip(names, found, strict=True) if not where]
            chosen = set() if names else {at for where in found for at in where}
        if not chosen:
            some = ", ".join(repr(name) for name in self.prefixes()[:4]) or repr(self.graph.node[0].output[0])
            raise ValueError(
                f"`block` must be the name of a part, or nodes or values (got {names[0]!r}; there is {some})"
            )
        after, before = set(chosen), set(chosen)
        for reached, order in ((after, nodes), (before, nodes[::-1])):
            touched: set[str] = set()
            for at, node in order:
                reads, gives = (node.input, node.output) if reached is after else (node.output, node.input)
                if at in reached or touched.intersection(reads):
                    reached.add(at)
                    touched.update(gives)
        return after & before

    def prefixes(self) -> list[str]:
        """List the parts that node names and weights speak of, from the outermost in."""
        found: Counter[str] = Counter()
        for node in self.graph.node:
            weights = [name for name in node.input if name in self.stored and name.endswith(".weight")]
            for name in ([node.name] if "/" in node.name else []) + weights:
                steps = _dotted(name).split(".")[:-1]
                for prefix in itertools.accumulate(steps, "{}.{}".format):
                    found[prefix] += node.op_type in _WEIGHTS
        return sorted((name for name, count in found.items() if count > 1), key=lambda name: name.count("."))[:200]

    def runs(self) -> Iterator[str]:
        """Yield runs of nodes that can be read, by their first and last value, with a comma between."""
        run: list[Any] = []
        self.known |= {entry.name: _OUTSIDE for entry in self.graph.input}
        for number, node in enumerate([*self.graph.node, None]):
            try:
                if node is None:
                    raise ValueError("the end")
                self.walk(number, node)
            except ValueError:
                if sum(one.op_type in _WEIGHTS for one in run) > 1:
                    yield f"{run[0].output[0]},{run[-1].output[0]}"
                run = []
                self.known |= dict.fromkeys(() if node is None else node.output, _OUTSIDE)
            else:
                run += [node] if any(isinstance(self.known.get(name), Value) for name in node.output) else []

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
        return real(f"initialiser {name!r}", numpy_helper.to_array(tensor))

    def external(self, tensor: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read data beside the model: a file in its folder."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        path, dims = (self.folder / where.get("location", "")).resolve(), tuple(tensor.dims)
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise ValueError(
                f"the data of {tensor.name!r} must be a file in the folder of the model (got {where!r:.80})"
            )
        offset, size = int(where.get("offset", 0)), math.prod(dims) * dtype.itemsize
        if offset < 0 or offset + size > path.stat().st_size or dtype.kind not in "biuf":
            raise ValueError(f"the data of {tensor.name!r} must lie in {path.name!r} (it claims shape {dims})")
        if path not in self.files_beside:
            self.files_beside.add(path)
            grant(path.stat().st_size)
        spend(size, f"initialiser {tensor.name!r}")
        return np.fromfile(path, dtype=dtype, count=math.prod(dims), offset=offset).reshape(dims)

    def constant(self, name: str, node: Any, inputs: list[Any]) -> Any:
        """Compute what depends on constants alone."""
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        if node.op_type in _ENTRYWISE.split():
            size = math.prod(np.broadcast_shapes(*(one.shape for one in inputs if one is not None)))
        elif node.op_type in _SHAPING.split():
            size = sum(one.size for one in inputs if one is not None)
        elif node.op_type == "Gather" and not _attributes(node).get("axis"):
            size = math.prod(inputs[0].shape[1:]) * inputs[1].size
        elif node.op_type == "ConstantOfShape":
            size = math.prod(int(n) for n in inputs[0])
        else:
            raise NotSupported
        spend(16 * size, f"the constant {name!r}")
        given = {one: value for one, value in zip(node.input, inputs, strict=True) if one}
        function = helper.make_function("", "constant", list(given), node.output, [node], self.model.opset_import)
        with np.errstate(all="ignore"):
            return tuple(np.asarray(one) for one in ReferenceEvaluator(function).run(None, given, attributes={}))

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
            raise NotSupported
        if kind == "Constant":
            return self.literal(attributes)
        if any(one is _LABEL for one in inputs) or kind in _CHOICES:
            return tuple(_LABEL for _ in node.output)
        first = inputs[0] if inputs else None
        if kind in ("Shape", "Size") or any(one is UNKNOWN for one in inputs):
            if isinstance(first, Value) and kind == "Reshape":
                return replace(first, flat=first.maps)
            if kind in ("If", "Loop", "Scan") or (kind not in ("Shape", "Size") and Value in map(type, inputs)):
                raise NotSupported("it depends on a size or a branch")
            return UNKNOWN
        if any(isinstance(one, Value) for one in inputs):
            return self.operation(name, node, inputs, attributes)
        if not all(isinstance(one, np.ndarray) or one is None for one in inputs):
            raise NotSupported
        return self.constant(name, node, inputs)

    def operation(self, name: str, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Apply an operation to what is computed from the inputs of the network."""
        ops, kind = self.ops, node.op_type
        value, second, third = (*inputs, None, None)[:3]
        operation = "add" if kind == "Sum" else operation_of(kind)
        if operation in (*ARITHMETIC, "product"):
            return ops.call(name, operation, *inputs)
        if kind == "Gemm":
            one, two = (
                term if not attributes.get(key) else ops.transpose(name, term) if isinstance(term, Value) else term.T
                for term, key in ((value, "transA"), (second, "transB"))
            )
            bias = None if isinstance(third, np.ndarray) and not third.size else third
            factors = {key: attributes.get(key, 1.0) for key in ("alpha", "beta")}
            return ops.call(name, "addmm", bias, one, two, **factors)
        if operation == "concatenate":
            return ops.call(name, "concat", inputs, attributes.get("axis"))
        if operation == "transpose":
            return ops.call(name, "permute", value, attributes.get("perm", [1, 0]))
        if kind == "Scaler" and isinstance(value, Value):
            scale, shift = (np.asarray(attributes.get(key, [one])) for key, one in (("scale", 1.0), ("offset", 0.0)))
            return ops.scaled(name, value, scale, -shift * scale)
        names = _INPUTS.get(kind, "").split()
        given = _DEFAULTS.get(kind, {}) | {
            _ATTRIBUTES[key]: one for key, one in attributes.items() if key in _ATTRIBUTES
        }
        given |= {key: one for key, one in zip(names, inputs[1:], strict=False) if one is not None}
        given = {key: _ints(one) if key in _INTS else one for key, one in given.items()}
        if kind == "Slice":
            if any(isinstance(one, list) and len(one) != 1 for one in given.values()):
                raise NotSupported("it slices several axes")
            given = {key: one[0] for key, one in given.items()}
        if kind != "Split":
            return ops.call(name, kind, value, *inputs[1 + len(names) :], **given)
        equal = {} if "split_sizes" in given else {"chunks": max(len(node.output), 1)}
        parts = ops.call(name, "chunk" if equal else kind, value, **equal, **given)
        if len(parts) != len(node.output):
            raise NotSupported(f"it splits into {len(parts)} parts and has {len(node.output)} outputs")
        return parts


def _dotted(name: str) -> str:
    return re.sub("[/:.]+", ".", name).strip(".")


def _ints(numbers: Any) -> Any:
    """List the ints of a constant or of an attribute; one int stays."""
    if isinstance(numbers, Value) or numbers is UNKNOWN:
        raise NotSupported("a shape or an axis is computed from the input")
    return numbers if isinstance(numbers, int) else [int(n) for n in np.reshape(numbers, -1)[:64]]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: one.decode("utf-8", "replace") if isinstance(one, bytes) else one for name, one in found.items()}
