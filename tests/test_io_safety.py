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

import joblib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modgraph.io import hdf5, keras_file, load_network
from modgraph.io.hdf5 import Contents
from tests import hostile, io_networks
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


@pytest.mark.parametrize("name", hostile.FILES)
def test_hostile_files_take_little_and_get_one_sentence(name: str, tmp_path: Path) -> None:
    # `python -m tests.long.hostile_files` reads the same ones under hard limits on memory and time.
    file = hostile.FILES[name](tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"can't be read as|must be") as caught:
            load_network(file)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()
    assert "more memory than there is" not in str(caught.value)


@pytest.mark.parametrize(("kind", "n"), [("Concat", 40), ("Add", 60), ("Relu", 60)])
def test_small_graphs_do_not_get_much_time(kind: str, n: int, tmp_path: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["v0"])]
    for at in range(n):  # doubled each time
        inputs = [f"v{at}"] * (1 if kind == "Relu" else 2)
        nodes.append(helper.make_node(kind, inputs, [f"v{at + 1}"]))
        if kind == "Concat":
            nodes[-1].attribute.append(helper.make_attribute("axis", 1))
    file = hostile.onnx_file(tmp_path / "a.onnx", nodes, output=f"v{n}", w=np.ones((2, 2), dtype=np.float32))
    if kind == "Add":
        assert load_network(file).n_edges == 4
    else:
        with pytest.raises(ValueError, match=r"must concatenate fewer values|must be fewer activations"):
            load_network(file)


def test_what_nothing_reads_is_not_made(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 3), dtype=np.float32), "w")
    x, unread, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", 2), ("unread", 1 << 40), ("y", 3))
    )
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [unread, x], [y], [weight])
    (tmp_path / "a.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    dag = load_network(tmp_path / "a.onnx")
    assert dag.layer_sizes == (2, 3)
    assert dag.notes == ("Left out, because nothing reads it: input 'unread'.",)


def test_large_files_may_take_more(tmp_path: Path) -> None:
    # Five million edges, more than twice as many as a tiny file may hold.
    np.savez(tmp_path / "a.npz", mask0=np.ones((2500, 2000), dtype=np.bool_))
    assert load_network(tmp_path / "a.npz").n_edges == 5_000_000


def test_masks_have_no_other_end_either(tmp_path: Path) -> None:
    file = io_networks.write(network(), "npz", tmp_path)
    with pytest.raises(ValueError, match="must be a regular file, not a pipe or a device"):
        load_network(file, masks=hostile.pipe(tmp_path))


def test_names_with_surrogates_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save({"\ud800.weight": torch.ones(1, 2)}, file)
    dag = load_network(file)
    assert dag.layer_names == ("inputs", "\N{REPLACEMENT CHARACTER}")
    torch.save({"\ud800.odd": torch.ones(1, 2)}, file)
    with pytest.raises(ValueError, match="belongs to no supported layer") as caught:
        load_network(file)
    assert str(caught.value).encode()


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
