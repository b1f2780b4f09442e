"""Hostile files: nothing in them runs without consent, none gets more memory than it has bytes for, none crashes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tracemalloc
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import joblib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modgraph.io import hdf5, keras_file, load_network
from modgraph.io.hdf5 import Contents
from tests import io_networks
from tests.io_networks import network


class Trap:
    """Creates the file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def object_npy(content: bytes) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header = header.ljust(128 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def skops_trap(path: Path, sprung: Path) -> None:
    from skops import io as skops_io

    net = network()
    skops_io.dump(io_networks.estimator(net), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    trap = {"__class__": "mkdir", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1}
    schema["content"]["content"]["activation"] = trap | {"content": {"module_path": "os", "function": "mkdir"}}
    members["schema.json"] = json.dumps(schema).replace("SPRUNG", str(sprung)).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def lambda_keras(path: Path, sprung: Path) -> None:
    with zipfile.ZipFile(io_networks.write(network(), "keras", path.parent)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    code = compile(f"import os; os.mkdir({str(sprung)!r})", "<trap>", "exec")
    function = {"class_name": "__lambda__", "config": {"code": repr(code.co_code), "defaults": None, "closure": None}}
    trap = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "trap", "function": function}}
    config["config"]["layers"].insert(2, trap)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("name", "runs_with_trust"),
    [
        ("a.pt", True),
        ("legacy.pth", True),
        ("a.pkl", True),
        ("a.joblib", True),
        ("pickle.onnx", True),
        ("pickle.npz", True),
        ("objects.npz", False),
        ("a.skops", False),
        ("a.keras", False),
    ],
)
def test_booby_traps_do_not_go_off(name: str, runs_with_trust: bool, tmp_path: Path) -> None:
    file, sprung = tmp_path / name, tmp_path / "sprung"
    trap = Trap(sprung)
    if file.suffix in (".pt", ".pth"):
        torch.save({"0.weight": trap}, file, _use_new_zipfile_serialization=file.suffix == ".pt")
    elif name == "a.joblib":
        joblib.dump([trap], file)
    elif name == "objects.npz":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("weight0.npy", object_npy(pickle.dumps(np.array([trap], dtype=object))))
    elif name == "a.skops":
        skops_trap(file, sprung)
    elif name == "a.keras":
        lambda_keras(file, sprung)
    else:
        file.write_bytes(pickle.dumps([trap]))
    with pytest.raises(ValueError, match=r"`path` can't be read as") as caught:
        load_network(file)
    assert not sprung.exists()
    if runs_with_trust:
        # The trap is a real one.
        assert "trust_pickle=True" in str(caught.value)
        with pytest.raises(ValueError, match="can't be read as"):
            load_network(file, trust_pickle=True)
        assert sprung.exists()
    elif name in ("objects.npz", "a.keras"):
        with pytest.raises(ValueError, match=r"not objects|\(Lambda\) is not supported"):
            load_network(file, trust_pickle=True)
        assert not sprung.exists()


def npz_with(content: bytes, path: Path, *, compressed: bool = False) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.writestr("weight0.npy", content)


def npy_header(shape: tuple[int, ...]) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def claims(kind: str, path: Path) -> None:
    """Write a small file that claims a hundred gigabytes."""
    huge = 120_000
    if kind == "npz":
        npz_with(npy_header((huge, huge)) + bytes(64), path)
    elif kind == "zip sizes":
        npz_with(npy_header((huge, huge)) + bytes(64), path)
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x01\x02")
        data[at + 24 : at + 28] = (huge * 8 * 4000).to_bytes(4, "little")
        path.write_bytes(data)
    elif kind == "safetensors":
        header = {"a.weight": {"dtype": "F32", "shape": [huge, huge], "data_offsets": [0, huge * huge * 4]}}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    elif kind == "safetensors header":
        path.write_bytes((1 << 31).to_bytes(8, "little") + b"{" + bytes(64))
    elif kind == "pt":
        torch.save({"a.weight": torch.zeros(1, 1).expand(huge, huge)}, path)
    elif kind == "sparse pt":
        with torch.sparse.check_sparse_tensor_invariants(enable=True):
            torch.save(
                {"a.weight": torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (huge, huge))}, path
            )
    elif kind == "onnx":
        from onnx import TensorProto, helper

        tensor = helper.make_tensor("w", TensorProto.FLOAT, [1, 1], [1.0])
        tensor.dims[:] = [huge, huge]
        node = helper.make_node("Gemm", ["x", "w"], ["y"])
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy")
        path.write_bytes(helper.make_model(helper.make_graph([node], "g", [x], [y], [tensor])).SerializeToString())
    elif kind == "onnx broadcast":
        from onnx import TensorProto, helper, numpy_helper

        one, two = np.ones((huge, 1), dtype=np.float32), np.ones((1, huge), dtype=np.float32)
        nodes = [helper.make_node("Mul", ["a", "b"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, huge]) for name in "xy")
        weights = [numpy_helper.from_array(array, name) for array, name in ((one, "a"), (two, "b"))]
        path.write_bytes(helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights)).SerializeToString())
    elif kind == "h5":
        config = {
            "class_name": "Sequential",
            "config": {
                "layers": [
                    {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, huge]}},
                    {"class_name": "Dense", "config": {"name": "d", "activation": "relu"}},
                ]
            },
        }
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(config)
            group = file.create_group("model_weights/d")
            group.attrs["weight_names"] = ["kernel"]
            group.create_dataset("kernel", shape=(huge, huge), chunks=(1000, 1000), dtype="f4")
    else:
        raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("npz", ".npz"),
        ("zip sizes", ".npz"),
        ("safetensors", ".safetensors"),
        ("safetensors header", ".safetensors"),
        ("pt", ".pt"),
        ("sparse pt", ".pt"),
        ("onnx", ".onnx"),
        ("onnx broadcast", ".onnx"),
        ("h5", ".h5"),
    ],
)
def test_small_files_do_not_get_much_memory(kind: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    claims(kind, file)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"can't be read as|must be"):
            load_network(file)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("kind", "n"), [("Concat", 40), ("Add", 60), ("Relu", 60)])
def test_small_graphs_do_not_get_much_time(kind: str, n: int, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["v0"])]
    for at in range(n):  # doubled each time
        inputs = [f"v{at}"] * (1 if kind == "Relu" else 2)
        nodes.append(helper.make_node(kind, inputs, [f"v{at + 1}"]))
        if kind == "Concat":
            nodes[-1].attribute.append(helper.make_attribute("axis", 1))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", f"v{n}"))
    content = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weight])).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(content)
    if kind == "Add":
        assert load_network(tmp_path / "a.onnx").n_edges == 4
    else:
        with pytest.raises(ValueError, match=r"must concatenate fewer values|must be fewer activations"):
            load_network(tmp_path / "a.onnx")


# --- Fuzzing: only documented errors ----------------------------------------------------------------------------------

SUFFIXES = {"npz": ".npz", "pt": ".pt", "pt legacy": ".pt", "safetensors": ".safetensors", "onnx Gemm": ".onnx"}
SUFFIXES |= {"onnx Constant": ".onnx", "keras": ".keras", "h5": ".h5", "skops": ".skops"}


@cache
def real_file(kind: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return io_networks.write(network((3, 4, 2)), kind, Path(folder)).read_bytes()


def attempt(content: bytes, suffix: str, folder: Path) -> None:
    file = folder / f"fuzzed{suffix}"
    file.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert load_network(file).n_units > 0


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "copy", "numbers"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "copy":
            other = draw(st.integers(0, len(data)))
            data[at : at + 16] = data[other : other + 16]
        else:
            data[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\x7f", bytes(4), b"\xff" * 4, b"\x00\x00\x00\x80"]))
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.filterwarnings("ignore")  # libraries warn about broken files before they give up
@pytest.mark.parametrize("kind", SUFFIXES)
def test_mutated_files_give_a_graph_or_one_error(kind: str, folder: Path) -> None:
    @settings(max_examples=6 if kind == "h5" else 40)  # HDF5 needs a process for each
    @given(mutations(real_file(kind)))
    def run(content: bytes) -> None:
        attempt(content, SUFFIXES[kind], folder)

    run()


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(sorted(set(SUFFIXES.values()) | {".json", ".pkl"})))
@example(b"\x80\x04.", ".pkl")
@example(b"PK\x05\x06" + bytes(18), ".npz")
def test_any_bytes_give_one_error(content: bytes, suffix: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        attempt(content, suffix, Path(place))


NAMES = ["a.weight", "weight0", "b", "__metadata__"]
LAYERS = ["InputLayer", "Dense", "Add", "Concatenate", "BatchNormalization", "Lambda"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=80)
@given(
    st.dictionaries(st.sampled_from(["a.weight", "weight0", "b", "__metadata__"]), JSON, max_size=3),
    st.binary(max_size=64),
)
@example({"a.weight": {"dtype": "F32", "shape": [0, 10**15], "data_offsets": [0, 0]}}, b"")
@example({"a.weight": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, b"1234")
def test_any_safetensors_header_gives_one_error(header: dict[str, Any], data: bytes) -> None:
    import tempfile

    text = json.dumps(header).encode()
    with tempfile.TemporaryDirectory() as place:
        attempt(len(text).to_bytes(8, "little") + text + data, ".safetensors", Path(place))


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    layer = st.fixed_dictionaries(
        {
            "class_name": st.sampled_from(
                ["InputLayer", "Dense", "Add", "Concatenate", "BatchNormalization", "Lambda"]
            ),
            "config": st.dictionaries(
                st.sampled_from(["name", "batch_shape", "units", "activation"]), JSON, max_size=4
            ),
        },
        optional={"inbound_nodes": JSON},
    )
    layers = draw(st.lists(layer | JSON, max_size=4))
    kind = draw(st.sampled_from(["Sequential", "Functional", "Other"]))
    return {"class_name": kind, "config": {"layers": layers, "output_layers": draw(JSON)}}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs() | JSON)
def test_any_keras_configuration_gives_one_error(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    weights = Contents(groups={"": {}, "layers": {}}, arrays={"layers/dense/vars/0": np.ones((2, 2))})
    monkeypatch.setattr(keras_file, "read_hdf5", lambda _, **__: weights)  # no process for each
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"")
    with tempfile.TemporaryDirectory() as place:
        attempt(content.getvalue(), ".keras", Path(place))


def test_a_library_that_hangs_or_crashes_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io_networks.write(network(), "h5", tmp_path)
    for program, message in (
        ("import time; time.sleep(60)", "does not come back"),
        ("import os; os.abort()", "fails on"),
    ):
        (tmp_path / "child.py").write_text(program)
        monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "child.py"))
        monkeypatch.setattr(hdf5, "_SECONDS", 1)
        with pytest.raises(ValueError, match=f"the HDF5 library {message}"):
            load_network(file)
