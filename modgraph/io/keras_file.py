"""Keras models from ``.keras`` and ``.h5`` files: the configuration says how layers are joined; nothing is run."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io.hdf5 import Contents, read_hdf5
from modgraph.io.limits import bytes_left, checked_members, read_json, spend
from modgraph.io.ops import finish
from modgraph.io.request import File, Reader, Request
from modgraph.io.table import Table, operation_of
from modgraph.io.tensor import check_threshold
from modgraph.io.values import NotSupported, Value

if TYPE_CHECKING:
    import keras

SUPPORTED = (
    "Dense, BatchNormalization, Dropout, Activation and other activations, Flatten, Add, Subtract, "
    "Multiply and Concatenate, in Sequential and functional models"
)
_ANY_BYTES = 1 << 62

Weights = Callable[[str, str], list[NDArray[Any]]]  # of a layer, by its name and by its kind and number


def _matches(file: File) -> bool:
    """Whether this is an HDF5 file or a zip archive as Keras writes it."""
    return file.start.startswith(b"\x89HDF\r\n\x1a\n") or bool({"config.json", "model.weights.h5"} & {*file.members})


def _read(request: Request) -> LayeredDAG:
    """Build the graph of a ``.keras`` file (a zip) or a ``.h5`` file."""
    if not zipfile.is_zipfile(request.path):
        contents = _contents(request.path)
        config = contents.groups[""].get("model_config")
        if config is None:
            raise ValueError("the file must hold a model, not its weights alone: use `model.save`")

        def weights(name: str, _: str) -> list[NDArray[Any]]:
            root = f"model_weights/{name}"
            listed = [f"{root}/{one}" for one in contents.groups.get(root, {}).get("weight_names", [])]
            missing = [one for one in listed if one not in contents.arrays]
            if missing:
                raise ValueError(f"the file must hold {missing[0]!r}")
            return [contents.arrays[one] for one in listed]

        return _Reader(json.loads(config), weights, threshold=request.threshold).read()
    with zipfile.ZipFile(request.path) as archive:
        members = {member.filename: member for member in checked_members(archive)}
        if "config.json" not in members or "model.weights.h5" not in members:
            raise ValueError("the archive must hold config.json and model.weights.h5")
        document = read_json(archive, members["config.json"])
        spend(members["model.weights.h5"].file_size, "'model.weights.h5'")
        contents = _contents(archive.read("model.weights.h5"))
    root = "layers" if "layers" in contents.groups else "_layer_checkpoint_dependencies"
    # Newer files tell the name of a layer beside its weights.
    found = {path: re.fullmatch(rf"{root}/([^/]+)/vars", path) for path in contents.groups}
    stored = {contents.groups[path].get("name", key[1]): path for path, key in found.items() if key}

    def numbered(name: str, place: str) -> list[NDArray[Any]]:
        path = stored.get(name, f"{root}/{place}/vars")
        return [contents.arrays[f"{path}/{at}"] for at in range(9) if f"{path}/{at}" in contents.arrays]

    return _Reader(document, numbered, threshold=request.threshold).read()


KERAS = Reader(name="a Keras file", matches=_matches, read=_read)


def from_keras(model: keras.Model, *, threshold: float = 0.0) -> LayeredDAG:
    """Build the graph of a live Keras model; it is not run.

    Parameters
    ----------
    model : keras.Model
        Built: Sequential with an input, or functional.
    threshold : float ≥ 0
        Weights of at most this magnitude count as pruned.

    Returns
    -------
    LayeredDAG
        As from the model's ``.keras`` file.

    Raises
    ------
    ValueError
        If `model` is no such model, or holds a layer that isn't supported.
    """
    if not all(hasattr(model, name) for name in ("to_json", "get_layer", "layers")):
        raise ValueError(f"`model` must be a keras.Model (got {type(model).__name__})")

    def weights(name: str, _: str) -> list[NDArray[Any]]:
        return [np.asarray(array) for array in model.get_layer(name).get_weights()]

    return _Reader(json.loads(model.to_json()), weights, threshold=check_threshold(threshold)).read()


def _contents(source: Path | bytes) -> Contents:
    require("h5py", purpose="reading Keras files", extra="keras")
    left = bytes_left()
    contents = read_hdf5(source, most_bytes=_ANY_BYTES if left is None else left)
    spend(sum(array.nbytes for array in contents.arrays.values()), "its data sets")
    return contents


# --- The model --------------------------------------------------------------------------------------------------------


class _Reader:
    """Walks the layers of a configuration."""

    def __init__(self, document: Any, weights: Weights, *, threshold: float) -> None:
        self.document, self.weights = document, weights
        self.ops = Table(threshold=threshold, supported=SUPPORTED)
        self.counts: dict[str, int] = {}  # layers of each kind so far, which name their weights

    def read(self) -> LayeredDAG:
        kind, config = self.document["class_name"], self.document["config"]
        if kind == "Sequential":
            value = None
            for layer in config["layers"] if isinstance(config, dict) else config:
                value = self.layer(layer, [] if value is None else [value])
            if value is None:
                raise ValueError("the model must have layers")
            return finish(self.ops, [value])
        if kind not in ("Functional", "Model"):
            raise ValueError(f"model {kind!r} is not supported: supported are {SUPPORTED}")
        known: dict[str, Value] = {}
        waiting = list(config["layers"])
        while waiting:
            ready = [layer for layer in waiting if all(name in known for name in _sources(layer))]
            if not ready:
                raise ValueError(f"layer {waiting[0]['config']['name']!r} must read layers that the model has")
            for layer in ready:
                known[layer["config"]["name"]] = self.layer(layer, [known[name] for name in _sources(layer)])
            waiting = [layer for layer in waiting if layer not in ready]
        return finish(self.ops, [known[name] for name in _named_in(config["output_layers"])])

    def layer(self, layer: Any, inputs: list[Value]) -> Any:
        """Apply one layer, whose weights are those of its name, or of its kind and number."""
        kind, config = str(layer["class_name"]), layer["config"]
        name = str(config["name"])
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
        count = self.counts[snake] = self.counts.get(snake, -1) + 1
        stored = f"{snake}_{count}" if count else snake
        shape = config.get("batch_shape", config.get("batch_input_shape"))
        known = isinstance(shape, list) and len(shape) > 1 and all(type(n) is int for n in shape[1:])
        size = math.prod(shape[1:]) if known else None
        if kind == "InputLayer":
            if size is None:
                raise ValueError(f"input {name!r} must have a known shape (got {shape!r})")
            return self.ops.input(name, size=size)
        ops, operation = self.ops, operation_of(kind)
        inputs = inputs or [ops.input("inputs", size=size)]
        value = inputs[0]
        with ops.reading(name, kind):
            if kind == "Dense":
                kernel, *bias = self.weights(name, stored) or [np.empty(0)]
                if kernel.ndim != 2 or len(bias) > 1:
                    raise ValueError(f"layer {name!r} must have a kernel, (in, out), and at most a bias")
                value = ops.call(name, "linear", value, kernel.T, *bias)
            elif kind == "BatchNormalization":
                names = [key for key, has in (("weight", "scale"), ("bias", "center")) if config.get(has, True)]
                names += ["running_mean", "running_var"]
                arrays = self.weights(name, stored)
                if len(arrays) != len(names):
                    raise ValueError(f"layer {name!r} must have {len(names)} vectors (got {len(arrays)})")
                given = dict(zip(names, arrays, strict=True))
                return ops.call(name, "batchnorm", value, eps=float(config.get("epsilon", 1e-3)), **given)
            elif operation in ("add", "sub", "mul"):
                return ops.call(name, operation, *inputs)
            elif operation == "concatenate":
                return ops.call(name, operation, inputs, config.get("axis", -1))
            elif kind == "ReLU" and any(config.get(key) for key in ("max_value", "negative_slope", "threshold")):
                return ops.apply(value, "relu with settings")
            elif operation in ("activation", "flatten", "same", "normalise", "squeeze", "pool", "glu"):
                slope = config.get("negative_slope", config.get("alpha", 0.3 if kind == "LeakyReLU" else 1.0))
                return ops.call(name, kind, value, dim=1, alpha=float(slope))
            elif kind != "Activation":
                raise NotSupported
            activation = config.get("activation") or "linear"
            if not isinstance(activation, str):
                raise ValueError(f"the activation of layer {name!r} must have a name (got {str(activation)[:80]})")
            if operation_of(activation) == "activation":
                return ops.call(name, activation, value, alpha=0.2 if "leaky" in activation else 1.0)
            return ops.apply(value, "identity" if activation == "linear" else activation)


def _sources(layer: Any) -> list[str]:
    """List the layers that a layer reads."""
    nodes = layer.get("inbound_nodes", [])
    if len(nodes) > 1:
        raise ValueError(f"layer {layer['config']['name']!r} is used {len(nodes)} times, which is not supported")
    return _named_in(nodes)


def _named_in(part: Any) -> list[str]:
    """List the layers that a part of a configuration refers to, in Keras 3's or Keras 2's way."""
    if isinstance(part, dict) and "keras_history" in part:
        part = part["keras_history"]
    if isinstance(part, list) and part and isinstance(part[0], str):
        return [part[0]]
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [name for one in inner for name in _named_in(one)]
