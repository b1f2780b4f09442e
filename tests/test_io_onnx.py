"""ONNX as torch writes it and by hand: the same graph as the live model, whatever the operations are called."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from modgraph.forward import forward
from modgraph.io import from_module, list_blocks, load_network
from tests.io_networks import assert_same, network, onnx_bytes
from tests.test_io_convolutions import ResNet
from tests.test_io_torch import Gated, Heads, Residual, filled_norm, masked


def exported(model: nn.Module, example: torch.Tensor, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its author prefers a newer exporter
        torch.onnx.export(model.eval(), (example,), folder / "net.onnx", dynamo=False)
    return folder / "net.onnx"


def made(nodes: list[Any], folder: Path, *, n_inputs: int = 3, n_outputs: int = 2, **arrays: Any) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", n_inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", n_outputs])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    (folder / "net.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "net.onnx"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 6), filled_norm(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2)), (1, 4)),
        (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), filled_norm(6), nn.Linear(6, 2), nn.Softmax(-1)), (1, 4)),
        (nn.Sequential(nn.Linear(4, 3, bias=False), nn.ELU(), nn.Linear(3, 2)), (2, 5, 4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 2)), (1, 1, 6, 6)),
        (nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.Linear(3, 2)), (1, 4)),
        (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)), (1, 2, 6, 6)),
        (Residual(), (1, 4)),
        (Heads(), (1, 4)),
        (Gated(), (1, 4)),
        (ResNet(), (1, 3, 6, 6)),
    ],
    ids=["norm before", "norm after", "tokens", "flat", "glu", "groups", "residual", "heads", "gated", "resnet"],
)
def test_what_torch_exports_is_the_graph_of_the_live_model(
    model: nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    masked(model)
    dag, live = load_network(exported(model, torch.randn(shape), tmp_path)), from_module(model)
    assert dag.layer_sizes == live.layer_sizes
    assert (dag.edges == live.edges).all()
    assert dag.dense_edges == live.dense_edges
    if shape == (1, 4) and not isinstance(model, Gated) and "GLU" not in repr(model):
        inputs = np.random.default_rng(0).normal(size=(5, 4))
        np.testing.assert_allclose(forward(dag, inputs), forward(live, inputs), atol=1e-5)


def test_masks_may_be_multiplied_in_the_graph(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["w", "m"], ["wm"]),
        helper.make_node("Gemm", ["x", "wm"], ["y"], transB=1, alpha=2.0),
    ]
    weight = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    mask = np.array([[1, 0, 1], [0, 0, 1]], dtype=np.float32)
    dag = load_network(made(nodes, tmp_path, w=weight, m=mask))
    assert dag.edges.tolist() == [[0, 3], [2, 3], [2, 4]]
    assert dag.weights is not None
    assert dag.weights.tolist() == [2.0, 6.0, 12.0]


def test_split_slice_and_sum(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["c"]),
        helper.make_node("MatMul", ["a", "w"], ["p"]),
        helper.make_node("Sum", ["p", "c"], ["s"]),
        helper.make_node("Concat", ["s", "b"], ["y"], axis=-1),
    ]
    arrays: dict[str, Any] = {
        "sizes": np.array([2, 1]),
        "from": np.array([1]),
        "to": np.array([3]),
        "axis": np.array([1]),
    }
    file = made(nodes, tmp_path, n_outputs=3, w=np.array([[1, 0], [0, 1]], dtype=np.float32), **arrays)
    dag = load_network(file)
    assert dag.layer_sizes == (3, 3)
    assert dag.edges.tolist() == [[0, 3], [1, 3], [1, 4], [2, 4], [2, 5]]


def test_data_beside_the_model_are_read_and_only_there(tmp_path: Path) -> None:
    net = network()
    model = onnx.load_model_from_string(onnx_bytes(net))
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert_same(load_network(tmp_path / "net.onnx"), net.dag)
    for location, message in (("../net.data", "in the folder of the model"), ("/etc/passwd", "in the folder")):
        model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=message):
            load_network(tmp_path / "bad.onnx")
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"must lie in 'net\.data'"):
        load_network(tmp_path / "net.onnx")


def test_which_class_is_largest_is_no_output(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"], transB=1),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1),
    ]
    assert load_network(made(nodes, tmp_path, w=np.eye(2, 3, dtype=np.float32))).layer_sizes == (3, 2)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Loop", ["x"], ["y"], name="around")], r"layer 'around' \(Loop\) is not supported"),
        ([helper.make_node("Gemm", ["w", "x"], ["y"])], r"\(Gemm\) is not supported in this place: the samples must"),
        ([helper.make_node("MatMul", ["x", "x"], ["y"])], "it multiplies two computed values, as attention does"),
        ([helper.make_node("Concat", ["x", "x"], ["y"], axis=0)], "along axis 0, not along that of the units"),
        ([helper.make_node("Concat", ["x", "w"], ["y"], axis=1)], "it puts constants beside values"),
        ([helper.make_node("Mul", ["x", "w"], ["y"])], r"a constant of shape \(2, 3\), not of one number for each"),
        ([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2])], "pooling must read feature maps"),
        ([helper.make_node("Transpose", ["x"], ["y"], perm=[2, 0, 1])], r"it permutes the axes .* \(2, 0, 1\)"),
        ([helper.make_node("Flatten", ["x"], ["z"]), helper.make_node("Conv", ["z", "w"], ["y"])], "are no kernels"),
        ([helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])], r"it reduces axes \[1\], not only positions"),
        ([helper.make_node("Gemm", ["x", "gone"], ["y"])], "reads 'gone', which nothing before it gives"),
        ([helper.make_node("Gemm", ["x", "w"], ["y"])], "must read 3 values"),
        ([helper.make_node("Relu", ["w"], ["z"])], r"\(Relu\) is not supported"),
        ([helper.make_node("Shape", ["x"], ["y"])], "one of them from the weights"),
        ([helper.make_node("LSTM", ["x", "w"], ["y"], domain="odd")], r"\(odd.LSTM\)"),
    ],
)
def test_what_is_not_supported_is_named(nodes: list[Any], message: str, tmp_path: Path) -> None:
    file = made(nodes, tmp_path, w=np.ones((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=message):
        load_network(file)


def test_tanh_gelu_as_gpt2_writes_it_is_one_activation(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(32, 128), NewGELU(), nn.Linear(128, 32))
    dag = load_network(exported(model, torch.randn(1, 32), tmp_path))
    assert dag.layer_sizes == (32, 128, 32)
    assert dag.activations is not None
    assert dag.activations[40] == "gelu_tanh"
    inputs = torch.randn(3, 32)
    with torch.no_grad():
        np.testing.assert_allclose(forward(dag, inputs.numpy())[:, -32:], model(inputs), atol=1e-5)


class NewGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1.0 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


class Model(nn.Module):
    """Attention that isn't read, and MLPs that are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"attn": nn.Linear(4, 4), "mlp": nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))})
            for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + torch.softmax(x @ layer["attn"](x).T, 1) @ x  # type: ignore[index]
            x = x + layer["mlp"](x)  # type: ignore[index]
        return x


def test_blocks_are_listed_and_read_by_name(tmp_path: Path) -> None:
    model = masked(Model())
    file = exported(model, torch.randn(3, 4), tmp_path)
    with pytest.raises(ValueError, match="as attention does"):
        load_network(file)
    assert list_blocks(file) == {"layers.0.mlp": (4, 8, 4), "layers.1.mlp": (4, 8, 4)}
    dag, live = load_network(file, block="layers.1.mlp"), from_module(model, block="layers.1.mlp")
    assert (dag.edges == live.edges).all()
    inputs = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(forward(dag, inputs), forward(live, inputs), atol=1e-5)
    with pytest.raises(ValueError, match=r"`block` must be the name of a part, .* \(got 'layers.2'; there is 'layers'"):
        load_network(file, block="layers.2")


def test_blocks_may_be_named_by_their_first_and_last_value(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("MatMul", ["q", "b"], ["r"]),
        helper.make_node("CumSum", ["r", "axis"], ["s"]),
        helper.make_node("MatMul", ["s", "c"], ["y"]),
    ]
    shapes = {"a": (3, 5), "b": (5, 4), "c": (4, 2)}
    arrays: dict[str, Any] = {name: np.ones(shape, dtype=np.float32) for name, shape in shapes.items()}
    file = made(nodes, tmp_path, axis=np.array(1), **arrays)
    with pytest.raises(ValueError, match=r"\(CumSum\) is not supported"):
        load_network(file)
    assert list_blocks(file) == {"p,r": (3, 5, 4)}
    assert load_network(file, block=("p", "r")).layer_sizes == (3, 5, 4)
    assert load_network(file, block=("y", "y")).layer_sizes == (4, 2)


def test_transposed_convolutions_are_those_of_the_live_model(tmp_path: Path) -> None:
    model = masked(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, groups=2)))
    dag, live = load_network(exported(model, torch.randn(1, 2, 8, 8), tmp_path)), from_module(model)
    assert (dag.edges == live.edges).all()
