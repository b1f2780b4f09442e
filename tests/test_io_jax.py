from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file as save_arrays

from modgraph.io import from_arrays, load_network
from tests.io_networks import assert_same, flax_bytes, network


@pytest.mark.parametrize("names", [("kernel", "bias", "Dense_{}"), ("w", "b", "mlp/~/linear_{}")])
def test_parameters_of_jax_models(names: tuple[str, str, str], tmp_path: Path) -> None:
    net = network()
    weight, bias, layer = names
    nested: dict[str, Any] = {"params": {}}
    for at in reversed(range(3)):
        nested["params"][layer.format(at)] = {weight: net.weights[at].T, bias: net.biases[at]}
    assert_same(from_arrays(nested), net.dag)
    flat = {f"params.{layer.format(at)}.{weight}": np.ascontiguousarray(net.weights[at].T) for at in range(3)}
    flat |= {f"params.{layer.format(at)}.{bias}": net.biases[at] for at in range(3)}
    save_arrays(flat, tmp_path / "a.safetensors")
    assert_same(load_network(tmp_path / "a.safetensors"), net.dag)


def test_parameters_of_flax_models() -> None:
    linen = pytest.importorskip("flax.linen", reason="flax is not installed")
    jax = pytest.importorskip("jax")
    params = linen.Sequential([linen.Dense(6), linen.relu, linen.Dense(2)]).init(jax.random.key(0), np.zeros((1, 4)))
    assert from_arrays(params).layer_sizes == (4, 6, 2)


@dataclass(frozen=True)
class Linear:
    """As equinox.nn.Linear has its fields."""

    weight: Any
    bias: Any
    in_features: int = 0
    use_bias: bool = True


@dataclass(frozen=True)
class MLP:
    layers: tuple[Linear, ...]
    activation: Any = np.tanh
    depth: int = 2


def test_modules_of_equinox_are_read(tmp_path: Path) -> None:
    del tmp_path
    net = network()
    layers = tuple(Linear(weight=w, bias=b) for w, b in zip(net.weights, net.biases, strict=True))
    dag = from_arrays(MLP(layers=layers))
    assert_same(dag, net.dag)
    assert dag.layer_names is not None
    assert dag.layer_names[1] == "layers.0"


def test_real_modules_of_equinox_are_read() -> None:
    equinox = pytest.importorskip("equinox", reason="equinox is not installed")
    jax = pytest.importorskip("jax")
    dag = from_arrays(equinox.nn.MLP(4, 2, 8, 2, key=jax.random.key(0)))
    assert dag.layer_sizes == (4, 8, 8, 2)


def test_msgpack_files_of_flax_are_read(tmp_path: Path) -> None:
    net = network()
    layers = {f"Dense_{at}": {"kernel": net.weights[at].T.copy(), "bias": net.biases[at]} for at in range(3)}
    file = tmp_path / "net.msgpack"
    file.write_bytes(flax_bytes({"params": layers, "step": 3}))
    assert_same(load_network(file), net.dag)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match="can't be read as a msgpack file"):
        load_network(file)


def test_msgpack_files_that_flax_writes(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    net = network()
    layers = {f"Dense_{at}": {"kernel": net.weights[at].T, "bias": net.biases[at]} for at in range(3)}
    (tmp_path / "net.msgpack").write_bytes(serialization.to_bytes({"params": layers}))
    assert_same(load_network(tmp_path / "net.msgpack"), net.dag)
