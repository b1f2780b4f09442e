"""Keras models from ``.keras`` and ``.h5`` files: the configuration says how layers are joined; nothing is run."""

from __future__ import annotations

import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import FloatArray
from modgraph.dag import LayeredDAG
from modgraph.io.build import Builder
from modgraph.io.hdf5 import Contents, read_hdf5
from modgraph.io.matrix import pruned, vector
from modgraph.io.tensor import checked_members
from modgraph.io.values import Value

SUPPORTED = (
    "supported are Dense, BatchNormalization, Dropout, Activation and other activations, Flatten, Add, Subtract, "
    "Multiply and Concatenate, in Sequential and functional models"
)
_SAME = {"Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization", "Identity", "Flatten"}
_ACTIVATIONS = {"swish": "silu", "linear": "identity", "leakyrelu": "leaky_relu", "elu": "elu:1"}
_ALONE = {"ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "LayerNormalization"}


def read_keras(path: Path, *, threshold: float = 0.0) -> LayeredDAG:
    """Read a ``.keras`` file (a zip) or a ``.h5`` file.

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
        If the file is broken or holds a layer that isn't supported.
    ImportError
        If h5py is not installed.
    """
    if not zipfile.is_zipfile(path):
        contents = read_hdf5(path)
        config = contents.groups[""].get("model_config")
        if config is None:
            raise ValueError("the file must hold a model, not its weights alone: use `model.save`")
        return _Reader(json.loads(config), lambda name, _: _named(contents, name), threshold=threshold).read()
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in checked_members(archive)}
        if "config.json" not in members or "model.weights.h5" not in members:
            raise ValueError("the archive must hold config.json and model.weights.h5")
        document = json.loads(archive.read("config.json"))
        data = archive.read("model.weights.h5")
    contents = read_hdf5(data)
    root = "layers" if "layers" in contents.groups else "_layer_checkpoint_dependencies"
    # Newer files tell the name of a layer beside its weights.
    stored = {contents.groups.get(f"{root}/{key}/vars", {}).get("name", key): key for key in contents.below(root)}
    return _Reader(
        document, lambda name, place: _numbered(contents, f"{root}/{stored.get(name, place)}"), threshold=threshold
    ).read()


# --- Weights ----------------------------------------------------------------------------------------------------------


def _numbered(contents: Contents, path: str) -> list[NDArray[Any]]:
    """Return what Keras 3 keeps of a layer: vars/0, vars/1 and so on."""
    arrays: list[NDArray[Any]] = []
    while f"{path}/vars/{len(arrays)}" in contents.arrays:
        arrays.append(contents.arrays[f"{path}/vars/{len(arrays)}"])
    return arrays


def _named(contents: Contents, name: str) -> list[NDArray[Any]]:
    """Return what older files keep of a layer, in the order that they say."""
    root = f"model_weights/{name}"
    listed = contents.groups.get(root, {}).get("weight_names", [])
    missing = [one for one in listed if f"{root}/{one}" not in contents.arrays]
    if missing:
        raise ValueError(f"the file must hold {missing[0]!r} of layer {name!r}")
    return [contents.arrays[f"{root}/{one}"] for one in listed]


# --- The model --------------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, document: Any, weights: Any, *, threshold: float) -> None:
        self.document, self.weights, self.threshold = document, weights, threshold
        self.builder = Builder()
        self.counts: dict[str, int] = {}

    def read(self) -> LayeredDAG:
        kind, config = self.document["class_name"], self.document["config"]
        if kind == "Sequential":
            layers = config["layers"] if isinstance(config, dict) else config
            value = None
            for layer in layers:
                value = self.layer(layer, [] if value is None else [value])
            if value is None:
                raise ValueError("the model must have layers")
            return self.builder.finish([value])
        if kind not in ("Functional", "Model"):
            raise ValueError(f"model {kind!r} is not supported: {SUPPORTED}")
        known: dict[str, Value] = {}
        waiting = list(config["layers"])
        while waiting:
            ready = [layer for layer in waiting if all(name in known for name in _sources(layer))]
            if not ready:
                raise ValueError(f"layer {waiting[0]['config']['name']!r} must read layers that the model has")
            for layer in ready:
                known[layer["config"]["name"]] = self.layer(layer, [known[name] for name in _sources(layer)])
            waiting = [layer for layer in waiting if layer not in ready]
        return self.builder.finish([known[name] for name in _ends(config["output_layers"])])

    def layer(self, layer: Any, inputs: list[Value]) -> Value:
        kind, config = str(layer["class_name"]), layer["config"]
        name, builder = str(config["name"]), self.builder
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
        count = self.counts[snake] = self.counts.get(snake, -1) + 1
        stored = f"{snake}_{count}" if count else snake
        if kind == "InputLayer":
            shape = config.get("batch_shape", config.get("batch_input_shape"))
            if not isinstance(shape, list) or len(shape) < 2 or not all(type(n) is int for n in shape[1:]):
                raise ValueError(f"input {name!r} must have a known shape (got {shape!r})")
            return builder.input(name, size=math.prod(shape[1:]))
        if not inputs:
            shape = config.get("batch_input_shape")
            size = math.prod(shape[1:]) if isinstance(shape, list) and all(type(n) is int for n in shape[1:]) else None
            inputs = [builder.input("inputs", size=size)]
        if kind == "Dense":
            return self.dense(name, config, inputs[0], self.weights(name, stored))
        if kind == "BatchNormalization":
            return self.normalisation(name, config, inputs[0], self.weights(name, stored))
        if kind in _SAME:
            return inputs[0]
        if kind == "Activation":
            return builder.activate(inputs[0], _activation(name, config.get("activation")))
        if kind in _ALONE:
            return builder.activate(inputs[0], _own_activation(kind, config))
        if kind in ("Add", "Subtract", "Multiply"):
            if kind == "Subtract":
                inputs = [inputs[0], builder.scale(inputs[1], -np.ones(1), shift=np.zeros(1), name=name)]
            join = builder.multiply if kind == "Multiply" else builder.add
            return join(inputs, name=name)
        if kind == "Concatenate" and config.get("axis", -1) in (-1, 1):
            return builder.concatenate(inputs, name=name)
        raise ValueError(f"layer {name!r} ({kind}) is not supported: {SUPPORTED}")

    def dense(self, name: str, config: dict[str, Any], value: Value, arrays: list[NDArray[Any]]) -> Value:
        if len(arrays) not in (1, 2) or arrays[0].ndim != 2:
            raise ValueError(f"layer {name!r} must have a kernel, (in, out), and at most a bias")
        matrix = pruned(f"the kernel of {name!r}", arrays[0].T, threshold=self.threshold)
        bias = vector(f"the bias of {name!r}", arrays[1], length=matrix.shape[0]) if len(arrays) > 1 else None
        result = self.builder.linear(value, matrix, bias=bias, name=name)
        return self.builder.activate(result, _activation(name, config.get("activation")))

    def normalisation(self, name: str, config: dict[str, Any], value: Value, arrays: list[NDArray[Any]]) -> Value:
        given = [key for key in ("scale", "center") if config.get(key, True)]
        if len(arrays) != len(given) + 2:
            raise ValueError(f"layer {name!r} must have {len(given) + 2} vectors (got {len(arrays)})")
        vectors = [array.astype(np.float64).reshape(-1) for array in arrays]
        own: dict[str, FloatArray] = dict(zip([*given, "mean", "variance"], vectors, strict=True))
        with np.errstate(all="ignore"):
            scale = own.get("scale", np.ones(1)) / np.sqrt(own["variance"] + float(config.get("epsilon", 1e-3)))
        return self.builder.scale(value, scale, shift=own.get("center", np.zeros(1)) - own["mean"] * scale, name=name)


def _sources(layer: Any) -> list[str]:
    """List the layers that a layer reads, in Keras 3's or Keras 2's way of saying so."""
    nodes = layer.get("inbound_nodes", [])
    if len(nodes) > 1:
        raise ValueError(f"layer {layer['config']['name']!r} is used {len(nodes)} times, which is not supported")
    found: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "keras_history" in part:
                found.append(part["keras_history"][0])
            else:
                for one in part.values():
                    walk(one)
        elif isinstance(part, list):
            if part and isinstance(part[0], str):
                found.append(part[0])
            else:
                for one in part:
                    walk(one)

    walk(nodes)
    return found


def _ends(outputs: Any) -> list[str]:
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], str):
        return [outputs[0]]
    return [str(one[0]) for one in outputs]


def _activation(name: str, activation: Any) -> str:
    if activation is None:
        return "identity"
    if not isinstance(activation, str):
        raise ValueError(f"the activation of layer {name!r} must have a name (got {str(activation)[:80]})")
    return _ACTIVATIONS.get(activation, activation)


def _own_activation(kind: str, config: dict[str, Any]) -> str:
    if kind == "LeakyReLU":
        return f"leaky_relu:{float(config.get('negative_slope', config.get('alpha', 0.3))):g}"
    if kind == "ELU":
        return f"elu:{float(config.get('alpha', 1.0)):g}"
    if kind == "ReLU" and any(config.get(key) for key in ("max_value", "negative_slope", "threshold")):
        return "relu with settings"
    return {"LayerNormalization": "layer_norm"}.get(kind, kind.lower())
