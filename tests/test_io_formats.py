"""The table of docs/formats.md: one network in every format gives one graph and one hierarchy."""

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgraph
from modgraph import detect_modules
from modgraph.forward import forward
from modgraph.io import (
    from_arrays,
    from_estimator,
    from_module,
    load_network,
    save_hierarchy,
    save_network,
    to_networkx,
)
from modgraph.io.load import READERS
from modgraph.io.request import File
from modgraph.names import unit_names
from tests import io_networks
from tests.io_networks import FILES, assert_same, network
from tests.networks import FOLDER, needs_published, published_dag, published_index

NAMED = {"pt2", "onnx", "torch's onnx", "keras", "h5", "skops", "joblib"}  # formats that know activations


@pytest.mark.parametrize("kind", FILES)
def test_every_file_gives_the_same_graph_and_hierarchy(kind: str, tmp_path: Path) -> None:
    net = network()
    dag = load_network(io_networks.write(net, kind, tmp_path), trust_pickle=kind == "joblib")
    assert_same(dag, net.dag)
    assert detect_modules(dag).labels.tolist() == detect_modules(net.dag).labels.tolist()
    if kind.startswith("npz"):
        assert dag.layer_names is None  # "weight0" is the name of an array, not of a layer
    else:
        assert dag.layer_names is not None
        assert len(dag.layer_names) == dag.n_layers
    # Only scikit-learn's files name units, the outputs after the classes; the others leave names to `modgraph.names`.
    named = kind in ("skops", "joblib")
    assert (dag.unit_names is not None) == named
    assert unit_names(dag)[:18] == unit_names(net.dag)[:18]
    assert len(set(unit_names(dag))) == dag.n_units
    inputs = np.random.default_rng(1).normal(size=(9, 5))
    knows = kind.split()[0] in NAMED or kind in NAMED
    assert (dag.activations is not None) == knows
    values = forward(dag, inputs, activations=None if knows else ["relu", "relu", "sigmoid"])
    np.testing.assert_allclose(values[:, -3:], net.outputs(inputs), atol=1e-6)


@pytest.mark.parametrize("kind", ["module", "pruned module", "estimator", "arrays"])
def test_every_live_object_gives_the_same_graph_and_hierarchy(kind: str) -> None:
    net = network()
    if kind == "estimator":
        dag = from_estimator(io_networks.estimator(net))
    elif kind == "arrays":
        dag = from_arrays(net.weights, biases=net.biases, activations=["relu", "relu", "sigmoid"])
    else:
        dag = from_module(io_networks.torch_model(net) if kind == "module" else io_networks.pruned_model(net))
    assert_same(dag, net.dag)
    assert detect_modules(dag).labels.tolist() == detect_modules(net.dag).labels.tolist()
    inputs = np.random.default_rng(1).normal(size=(9, 5))
    np.testing.assert_allclose(forward(dag, inputs)[:, -3:], net.outputs(inputs), atol=1e-6)


@pytest.mark.parametrize("kind", FILES)
def test_threshold_prunes_small_weights(kind: str, tmp_path: Path) -> None:
    net = network()
    dag = load_network(io_networks.write(net, kind, tmp_path), threshold=0.5, trust_pickle=kind == "joblib")
    expected = [np.abs(weight) > 0.5 for weight in net.weights]
    assert dag.n_edges == sum(int(mask.sum()) for mask in expected) < net.dag.n_edges


def test_saved_networks_are_read_back(tmp_path: Path) -> None:
    dag = network().dag
    save_network(dag, tmp_path / "net.npz")
    again = load_network(tmp_path / "net.npz")
    assert_same(again, dag)
    assert again.activations is not None
    assert again.activations.tolist() == ["identity"] * 5 + ["relu"] * 13 + ["sigmoid"] * 3
    save_network(again, tmp_path / "again.npz")
    twice = load_network(tmp_path / "again.npz")
    assert twice == again
    assert again.layer_names is None  # "weight0" is the name of an array, not of a layer
    unit_names = np.array([f"unit {at}" for at in range(again.n_units)])
    named = replace(again, unit_names=unit_names, layer_names=("in", "a", "b", "out"), notes=("Left out: 1 edge.",))
    save_network(named, tmp_path / "named.npz")
    read = load_network(tmp_path / "named.npz")
    assert read == named
    assert read.notes == named.notes
    with pytest.raises(ValueError, match=r"`path` must end in .npz"):
        save_network(dag, tmp_path / "net.txt")


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    net = network()
    file = io_networks.write(net, "safetensors", tmp_path).rename(tmp_path / "net.bin")
    assert_same(load_network(file), net.dag)
    other = io_networks.write(net, "pt", tmp_path).rename(tmp_path / "net.npz")
    assert_same(load_network(other), net.dag)


def test_hierarchies_are_networks_too(tmp_path: Path) -> None:
    dag = network().dag
    save_hierarchy(detect_modules(dag), tmp_path / "modules.json")
    again = load_network(tmp_path / "modules.json")
    assert (again.edges == dag.edges).all()
    assert load_network(tmp_path / "modules.json", threshold=0.5).n_edges < dag.n_edges


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"", "must be a network in one of the formats .*is empty"),
        ("a.txt", b"hello, world", "must be a network in one of the formats .*is of another kind"),
        ("a.npz", b"PK\x03\x04broken", "must be a whole zip archive"),
        ("a.safetensors", b'\x08\0\0\0\0\0\0\0{"a":1}x', "can't be read as a safetensors file"),
        ("a.onnx", b"\xff\xff\xff", "can't be read as an ONNX file"),
        ("a.h5", b"\x89HDF\r\n\x1a\n0000", "can't be read as a Keras file"),
        ("a.json", b"{}", "must be a network in one of the formats .*is of another kind"),
        ("a.json", b'{"format": "modgraph hierarchy 1"}', "can't be read as a hierarchy"),
    ],
)
def test_broken_files_get_one_sentence(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path / name)


def test_missing_files_are_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "no.npz")
    with pytest.raises(IsADirectoryError):
        load_network(tmp_path)


@pytest.mark.parametrize("threshold", [-1, float("nan"), float("inf"), "a", True])
def test_bad_thresholds_get_one_sentence(threshold: float, tmp_path: Path) -> None:
    file = io_networks.write(network(), "npz", tmp_path)
    with pytest.raises(ValueError, match="`threshold` must be a finite number ≥ 0"):
        load_network(file, threshold=threshold)


@needs_published
def test_published_networks_are_read_as_they_are() -> None:
    # A sample here; tests/long/read_published.py writes and reads all of them in four formats.
    for entry in published_index()[::16]:
        read, built = load_network(FOLDER / entry["file"]), published_dag(entry)
        assert (read.edges == built.edges).all(), entry["file"]
        assert read.layer_sizes == built.layer_sizes
        found = detect_modules(read, clustering="published", hops=entry["hops"]).labels
        assert found.tolist() == detect_modules(built, clustering="published", hops=entry["hops"]).labels.tolist()


@pytest.mark.filterwarnings("ignore")  # fifty steps of training are enough here
@pytest.mark.parametrize("scaler", ["StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"])
def test_a_pipeline_is_its_last_step_with_the_scaler_folded_in(scaler: str, tmp_path: Path) -> None:
    from sklearn import preprocessing
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from skops import io as skops_io

    rng = np.random.default_rng(0)
    inputs = rng.normal(3, [1, 10, 0.1, 2], size=(50, 4))
    mlp = MLPRegressor(hidden_layer_sizes=(6,), solver="lbfgs", max_iter=50, random_state=0)
    pipeline = make_pipeline(getattr(preprocessing, scaler)(), "passthrough", mlp).fit(inputs, inputs.sum(axis=1))
    dag = from_estimator(pipeline)
    assert dag.layer_sizes == (4, 6, 1)
    np.testing.assert_allclose(forward(dag, inputs)[:, -1], pipeline.predict(inputs), rtol=1e-6)
    skops_io.dump(pipeline, tmp_path / "net.skops")
    assert load_network(tmp_path / "net.skops") == dag
    assert dag.weights is not None
    assert from_estimator(pipeline, threshold=0.5).n_edges == (np.abs(dag.weights) > 0.5).sum()
    with pytest.raises(ValueError, match="step PolynomialFeatures of the pipeline is not supported"):
        from_estimator(make_pipeline(preprocessing.PolynomialFeatures(), mlp).fit(inputs, inputs[:, 0]))


def test_every_reader_has_a_name_and_knows_no_empty_file(tmp_path: Path) -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)
    suffixes = (".onnx", ".pkl", ".json", ".csv", ".nnet", ".msgpack", ".h5", ".npz")
    for suffix in suffixes:
        empty = File(path=tmp_path / f"empty{suffix}", start=b"", members=[])
        assert not any(reader.matches(empty) for reader in READERS), suffix
    # Whatever reads a format is in the list.
    folder = Path(importlib.import_module("modgraph.io").__file__ or "").parent
    texts = [path.read_text("utf-8") for path in folder.glob("*.py")]
    names = {name for text in texts for name in re.findall(r"^([A-Z]+) = (?:tensor_r|R)eader\(", text, re.MULTILINE)}
    assert len(names) == len(READERS)


@pytest.mark.parametrize("kind", ["path", "text", "module", "estimator", "arrays", "mapping", "networkx"])
def test_modules_of_anything_that_can_be_read(kind: str, tmp_path: Path) -> None:
    net = network()
    file = io_networks.write(net, "npz", tmp_path)
    things: dict[str, Any] = {
        "path": lambda: file,
        "text": lambda: str(file),
        "module": lambda: io_networks.torch_model(net),
        "estimator": lambda: io_networks.estimator(net),
        "arrays": lambda: net.weights,
        "mapping": lambda: {f"fc{at}": {"kernel": weight.T} for at, weight in enumerate(net.weights)},
        "networkx": lambda: to_networkx(net.dag),
    }
    found = detect_modules(things[kind]())
    assert found.labels.tolist() == detect_modules(net.dag).labels.tolist()


def test_other_types_are_told_what_to_call(tmp_path: Path) -> None:
    dag: Any = network().dag
    with pytest.raises(ValueError, match=r"must be a LayeredDAG, a file, a live model or weight arrays \(got int\)"):
        detect_modules(3)
    for function in (modgraph.draw, modgraph.subspaces, lambda found: modgraph.report(found, tmp_path / "a.html")):
        with pytest.raises(
            ValueError, match=r"must be a ModuleHierarchy \(got LayeredDAG\): call `detect_modules` first"
        ):
            function(dag)
    code = "from modgraph.modules import detect_modules\ndetect_modules('a.npz')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "call `modgraph.load_network` first" in done.stderr
