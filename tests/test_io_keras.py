"""Keras files as Keras writes them, and functional models."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import tests.io_networks  # noqa: F401 (chooses Keras's backend)
from modgraph.forward import forward
from modgraph.io import from_keras, load_network

keras = pytest.importorskip("keras")


def computes(model: object, file: Path, *, n_inputs: int) -> None:
    dag = load_network(file)
    live = from_keras(model)
    assert (live.edges == dag.edges).all()
    assert live.weights is not None
    assert dag.weights is not None
    assert live.weights.tolist() == dag.weights.tolist()
    inputs = np.random.default_rng(0).normal(size=(4, n_inputs)).astype(np.float32)
    expected = np.asarray(model(inputs, training=False).detach())  # type: ignore[operator]
    np.testing.assert_allclose(forward(dag, inputs)[:, -dag.layer_sizes[-1] :], expected, atol=1e-5)


def filled_norm() -> object:
    layer = keras.layers.BatchNormalization()
    layer.build((None, 6))
    layer.set_weights([np.linspace(-1, 1, 6), np.arange(6.0), np.ones(6) / 2, np.linspace(1, 2, 6)])
    return layer


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore")
def test_norms_activations_and_layers_without_bias(suffix: str, tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((4,)), layers.Dense(6, use_bias=False), filled_norm(), layers.LeakyReLU(negative_slope=0.2)),
            *(
                layers.Dense(6, "tanh"),
                filled_norm(),
                layers.Dropout(0.5),
                layers.Dense(3, "leaky_relu"),
                layers.Activation("softmax"),
            ),
        ]
    )
    model.save(tmp_path / f"net.{suffix}")
    computes(model, tmp_path / f"net.{suffix}", n_inputs=4)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore")
def test_functional_models_with_additions_and_concatenations(suffix: str, tmp_path: Path) -> None:
    layers = keras.layers
    x = keras.Input((4,))
    y = layers.Add()([layers.Dense(4)(layers.Dense(5, "relu")(x)), x])
    z = layers.Concatenate()([y, layers.Subtract()([x, layers.Dense(4)(x)])])
    model = keras.Model(x, layers.Dense(2, "sigmoid")(z))
    model.save(tmp_path / f"net.{suffix}")
    computes(model, tmp_path / f"net.{suffix}", n_inputs=4)
    assert load_network(tmp_path / f"net.{suffix}").skips_layers


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 2)), keras.layers.Conv1D(3, 2)])
    model.save(tmp_path / "net.keras")
    with pytest.raises(ValueError, match=r"layer 'conv1d.*' \(Conv1D\) is not supported: supported are Dense"):
        load_network(tmp_path / "net.keras")
    model.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ValueError, match="a model, not its weights alone"):
        load_network(tmp_path / "net.weights.h5")


def test_a_layer_that_reads_itself_is_an_error(tmp_path: Path) -> None:
    model = keras.Model(x := keras.Input((4,), name="x"), keras.layers.Add(name="sum")([x, x]))
    model.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'["x", 0, 0]', b'["sum", 0, 0]')
    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="must read layers that the model has"):
        load_network(tmp_path / "bad.keras")


def test_other_objects_are_no_models() -> None:
    with pytest.raises(ValueError, match=r"`model` must be a keras.Model \(got int\)"):
        from_keras(3)
