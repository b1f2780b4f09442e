"""``.pt2`` files, which torch.export saves: a graph as JSON and tensors as plain bytes; no code in them is run."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.dag import LayeredDAG
from modgraph.io.build import finish
from modgraph.io.limits import checked_members, read_json, spend
from modgraph.io.request import Reader, Request
from modgraph.io.table import UNKNOWN, Table, flat
from modgraph.io.tensor import number_type, real
from modgraph.io.torch_module import SUPPORTED
from modgraph.io.values import NotSupported, Value

# Types of numbers by torch's number for them.
_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?", 13: "bfloat16"}
_WEIGHT = re.compile(
    r"\.(parametrizations\.)?weight(_orig|_mask|\.original)?$"
)  # at the end of the name of a layer's weights
_CONSTANT: Mapping[str, Callable[..., NDArray[Any]]] = {
    "mul": np.multiply,
    "add": np.add,
    "sub": np.subtract,
    "div": np.divide,
    "t": np.transpose,
    "numpy_T": np.transpose,
    "neg": np.negative,
    "abs": np.abs,
}
_SAME = ("clone", "detach", "alias", "to", "_to_copy", "lift_fresh_copy")


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
    if called in _SAME:
        return given[0]
    if called not in _CONSTANT or len(given) > 2:
        raise NotSupported("it computes with constants alone")
    spend(8 * math.prod(np.broadcast_shapes(*map(np.shape, given))), f"the constant {called!r}")
    with np.errstate(all="ignore"):
        return _CONSTANT[called](*given)


PROGRAM = Reader(
    name="a program of torch.export",
    matches=lambda file: any(name.endswith("/models/model.json") for name in file.members),
    read=_read,
)
