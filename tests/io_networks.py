"""One pruned network in every format: what the tests of readers share."""

from __future__ import annotations

import itertools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph import LayeredDAG

os.environ.setdefault("KERAS_BACKEND", "torch")


@dataclass(frozen=True, kw_only=True)
class Network:
    """ReLU between layers, sigmoid at the end; weights are 0 where the mask is."""

    masks: list[NDArray[np.bool_]]
    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]

    @property
    def dag(self) -> LayeredDAG:
        names = ["relu"] * (len(self.masks) - 1) + ["sigmoid"]
        return LayeredDAG.from_masks(self.masks, weights=self.weights, biases=self.biases, activations=names)

    def outputs(self, inputs: NDArray[Any]) -> NDArray[Any]:
        values = np.asarray(inputs, dtype=np.float64)
        for at, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = values @ weight.T + bias
            values = np.maximum(values, 0) if at < len(self.weights) - 1 else 1 / (1 + np.exp(-values))
        return values


def network(sizes: tuple[int, ...] = (5, 7, 6, 3), *, seed: int = 0, density: float = 0.4) -> Network:
    rng = np.random.default_rng(seed)
    masks = [rng.random((n_out, n_in)) < density for n_in, n_out in itertools.pairwise(sizes)]
    weights = [np.where(mask, rng.normal(size=mask.shape), 0).astype(np.float32) for mask in masks]
    biases = [rng.normal(size=len(mask)).astype(np.float32) for mask in masks]
    return Network(masks=masks, weights=weights, biases=biases)


def torch_model(net: Network) -> Any:
    import torch

    layers: list[torch.nn.Module] = []
    for weight, bias in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
        layers += [linear, torch.nn.ReLU()]
    layers[-1] = torch.nn.Sigmoid()
    return torch.nn.Sequential(*layers).eval()


def pruned_model(net: Network) -> Any:
    """Return the same with ``torch.nn.utils.prune`` masks over weights that were never set to 0."""
    import torch
    from torch.nn.utils import prune

    model = torch_model(net)
    for linear, mask in zip([m for m in model if isinstance(m, torch.nn.Linear)], net.masks, strict=True):
        linear.weight.data[~torch.tensor(mask)] = 9.0
        prune.custom_from_mask(linear, "weight", torch.tensor(mask))
    return model


def estimator(net: Network) -> Any:
    from sklearn.neural_network import MLPClassifier

    sizes = [len(weight) for weight in net.weights]
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, net.weights[0].shape[1]))
    labels = rng.integers(0, 2, size=(20, sizes[-1]))
    mlp = MLPClassifier(sizes[:-1], max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one iteration is not enough: what it learns is thrown away
        mlp.fit(inputs, labels)
    mlp.coefs_ = [weight.T.copy() for weight in net.weights]
    mlp.intercepts_ = [bias.copy() for bias in net.biases]
    return mlp


def keras_model(net: Network) -> Any:
    import keras

    layers: list[Any] = [keras.Input((net.weights[0].shape[1],))]
    for at, weight in enumerate(net.weights):
        layers.append(keras.layers.Dense(len(weight), activation="relu" if at < len(net.weights) - 1 else "sigmoid"))
        layers.append(keras.layers.Dropout(0.1))
    model = keras.Sequential(layers[:-1])
    model.set_weights([array for w, b in zip(net.weights, net.biases, strict=True) for array in (w.T, b)])
    return model


def onnx_bytes(net: Network, *, style: str = "Gemm") -> bytes:
    """Write ONNX by hand: "Gemm" (transB), "MatMul" (and Add), "Transpose" (of an initialiser), "Constant" (nodes)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, initialisers = [], []
    before = "x"

    def tensor(name: str, array: NDArray[Any]) -> str:
        if style == "Constant":
            nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name)))
        else:
            initialisers.append(numpy_helper.from_array(array, name))
        return name

    for at, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        b = tensor(f"b{at}", bias)
        if style == "Gemm":
            w = tensor(f"w{at}", weight)
            nodes.append(helper.make_node("Gemm", [before, w, b], [f"s{at}"], transB=1, name=f"layer{at}"))
        elif style == "Left":  # (W xᵀ)ᵀ + b
            w = tensor(f"w{at}", weight)
            nodes.append(helper.make_node("Transpose", [before], [f"t{at}"], perm=[1, 0]))
            nodes.append(helper.make_node("MatMul", [w, f"t{at}"], [f"p{at}"], name=f"layer{at}"))
            nodes.append(helper.make_node("Transpose", [f"p{at}"], [f"m{at}"], perm=[1, 0]))
            nodes.append(helper.make_node("Add", [b, f"m{at}"], [f"s{at}"]))
        else:
            w = tensor(f"w{at}", weight if style == "Transpose" else np.ascontiguousarray(weight.T))
            if style == "Transpose":
                nodes.append(helper.make_node("Transpose", [w], [f"wt{at}"], perm=[1, 0]))
                w = f"wt{at}"
            nodes.append(helper.make_node("MatMul", [before, w], [f"m{at}"], name=f"layer{at}"))
            nodes.append(helper.make_node("Add", [f"m{at}", b], [f"s{at}"]))
        kind = "Relu" if at < len(net.weights) - 1 else "Sigmoid"
        nodes.append(helper.make_node(kind, [f"s{at}"], [f"a{at}"]))
        before = f"a{at}"
    n_in, n_out = net.weights[0].shape[1], len(net.weights[-1])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", n_in])],
        [helper.make_tensor_value_info(before, TensorProto.FLOAT, ["n", n_out])],
        initialisers,
    )
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return content


def state_dict(net: Network) -> dict[str, Any]:
    import torch

    named: dict[str, Any] = {}
    for at, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        named |= {f"{2 * at}.weight": torch.tensor(weight), f"{2 * at}.bias": torch.tensor(bias)}
    return named


def flax_bytes(tree: Any) -> bytes:
    """Write what flax.serialization.to_bytes writes: arrays as extensions of kind 1."""
    import msgpack

    def kept(array: Any) -> Any:
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))

    written: bytes = msgpack.packb(tree, default=kept, strict_types=True)
    return written


def nnet_text(net: Network) -> str:
    """Write the weights as ACAS Xu's text format has them; nothing is normalised."""
    sizes = net.dag.layer_sizes
    lines = [
        "// a network",
        f"{len(sizes) - 1},{sizes[0]},{sizes[-1]},{max(sizes)},",
        ",".join(map(str, sizes)) + ",",
        "0,",
    ]
    lines += ["-9," * sizes[0], "9," * sizes[0], "0," * (sizes[0] + 1), "1," * (sizes[0] + 1)]
    for weight, bias in zip(net.weights, net.biases, strict=True):
        lines += [",".join(f"{number:.9g}" for number in row) + "," for row in weight]
        lines += [f"{number:.9g}," for number in bias]
    return "\n".join(lines) + "\n"


def write(net: Network, kind: str, folder: Path) -> Path:
    """Write the network in a format; returns the file."""
    import torch

    if kind.startswith("npz"):
        arrays: dict[str, Any] = {f"bias{at}": bias for at, bias in enumerate(net.biases)}
        weights = (
            net.weights if kind == "npz" else [np.where(m, w, 7) for m, w in zip(net.masks, net.weights, strict=True)]
        )
        arrays |= {f"weight{at}": weight for at, weight in enumerate(weights)}
        arrays |= {f"mask{at}": mask for at, mask in enumerate(net.masks)} if kind != "npz" else {}
        np.savez(folder / "net.npz", **arrays)
        return folder / "net.npz"
    if kind in ("pt", "pt with masks", "pt legacy", "checkpoint"):
        state: dict[str, Any] = dict(pruned_model(net).state_dict()) if kind == "pt with masks" else state_dict(net)
        torch.save(
            {"epoch": 3, "state_dict": state} if kind == "checkpoint" else state,
            folder / "net.pt",
            _use_new_zipfile_serialization=kind != "pt legacy",
        )
        return folder / "net.pt"
    if kind == "pt2":
        program = torch.export.export(torch_model(net), (torch.zeros(2, net.weights[0].shape[1]),))
        torch.export.save(program, folder / "net.pt2")
        return folder / "net.pt2"
    if kind.startswith("safetensors"):
        from safetensors.torch import save_file

        state = dict(pruned_model(net).state_dict()) if kind == "safetensors with masks" else state_dict(net)
        save_file(state, folder / "net.safetensors")
        return folder / "net.safetensors"
    if kind.startswith("onnx"):
        (folder / "net.onnx").write_bytes(onnx_bytes(net, style=kind.split()[1]))
        return folder / "net.onnx"
    if kind == "torch's onnx":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its author prefers a newer exporter
            example = (torch.zeros(1, net.weights[0].shape[1]),)
            torch.onnx.export(torch_model(net), example, folder / "net.onnx", dynamo=False)
        return folder / "net.onnx"
    if kind in ("keras", "h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # h5 is legacy
            keras_model(net).save(folder / f"net.{kind}")
        return folder / f"net.{kind}"
    if kind == "skops":
        from skops import io

        io.dump(estimator(net), folder / "net.skops")
        return folder / "net.skops"
    if kind == "hierarchy":
        from modgraph import detect_modules, save_hierarchy

        save_hierarchy(detect_modules(net.dag), folder / "net.json")
        return folder / "net.json"
    if kind in ("graphml", "gml", "csv"):
        from modgraph.io import save_graph

        save_graph(net.dag, folder / f"net.{kind}")
        return folder / f"net.{kind}"
    if kind == "msgpack":
        layers = zip(net.weights, net.biases, strict=True)
        tree = {f"Dense_{at}": {"kernel": weight.T.copy(), "bias": bias} for at, (weight, bias) in enumerate(layers)}
        (folder / "net.msgpack").write_bytes(flax_bytes({"params": tree}))
        return folder / "net.msgpack"
    if kind == "nnet":
        (folder / "net.nnet").write_text(nnet_text(net))
        return folder / "net.nnet"
    import joblib

    joblib.dump(estimator(net), folder / "net.joblib")
    return folder / "net.joblib"


FILES = (
    "npz",
    "npz with masks",
    "pt",
    "pt with masks",
    "pt legacy",
    "pt2",
    "checkpoint",
    "safetensors",
    "safetensors with masks",
    "msgpack",
    "onnx Gemm",
    "onnx MatMul",
    "onnx Transpose",
    "onnx Constant",
    "onnx Left",
    "torch's onnx",
    "keras",
    "h5",
    "skops",
    "joblib",
)


def assert_same(one: LayeredDAG, two: LayeredDAG) -> None:
    """Assert that two graphs are the same up to names, with equal weights and biases."""
    assert (one.edges.shape, one.layer.tolist()) == (two.edges.shape, two.layer.tolist())
    assert (one.edges == two.edges).all()
    assert one.dense_edges == two.dense_edges
    for name in ("weights", "biases"):
        first, second = getattr(one, name), getattr(two, name)
        assert first is not None, name
        assert second is not None, name
        np.testing.assert_allclose(first, second, rtol=1e-6)
