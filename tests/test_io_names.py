"""Biases, activations and names of a graph, and the forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modgraph import LayeredDAG
from modgraph.forward import ACTIVATIONS, forward
from tests.io_networks import network
from tests.strategies import dags


def dressed(dag: LayeredDAG) -> LayeredDAG:
    """Give every unit a bias and a name that tell who it is."""
    return LayeredDAG.from_edges(
        dag.edges,
        layer=dag.layer,
        weights=np.arange(dag.n_edges) + 1.0,
        biases=np.arange(dag.n_units) / 8,
        activations=["relu" if unit % 2 else "tanh" for unit in range(dag.n_units)],
        unit_names=[f"unit {unit}" for unit in range(dag.n_units)],
        layer_names=[f"layer {layer}" for layer in range(dag.n_layers)],
    )


@given(dags())
def test_they_survive_trimming_and_subgraphs(dag: LayeredDAG) -> None:
    for graph in (dressed(dag).trim(), dressed(dag).subgraph(np.arange(dag.n_units) % 3 > 0).trim()):
        who = graph.unit_index
        assert graph.biases is not None
        assert graph.activations is not None
        assert graph.unit_names is not None
        assert graph.biases.tolist() == (who / 8).tolist()
        assert graph.unit_names.tolist() == [f"unit {unit}" for unit in who]
        assert graph.activations.tolist() == ["relu" if unit % 2 else "tanh" for unit in who]
        assert graph.layer_names == tuple(f"layer {layer}" for layer in range(dag.n_layers))
        for array in (graph.biases, graph.activations, graph.unit_names):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = array


@given(dags(), st.integers(0, 99))
def test_permuted_units_compute_the_same(dag: LayeredDAG, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = dressed(dag)
    assert one.biases is not None
    assert one.activations is not None
    assert one.unit_names is not None
    place = np.arange(dag.n_units)
    for level in range(1, dag.n_layers - 1):
        place[dag.layer == level] = rng.permutation(place[dag.layer == level])
    back = np.argsort(place)
    two = LayeredDAG.from_edges(
        place[one.edges],
        layer=one.layer,
        weights=one.weights,
        biases=one.biases[back],
        activations=one.activations[back].tolist(),
        unit_names=one.unit_names[back].tolist(),
    )
    inputs = rng.normal(size=(3, dag.layer_sizes[0]))
    np.testing.assert_allclose(forward(two, inputs)[:, place], forward(one, inputs), rtol=1e-9)


def test_what_is_not_given_stays_none() -> None:
    trimmed = LayeredDAG.from_masks([[[1, 1]]]).trim()
    optional = (trimmed.weights, trimmed.biases, trimmed.activations, trimmed.unit_names, trimmed.layer_names)
    assert optional == (None,) * 5


def test_arguments_are_copied() -> None:
    biases, names = np.ones(3), np.array(["a", "b", "c"])
    dag = LayeredDAG.from_edges([[0, 2]], layer=[0, 0, 1], biases=biases, unit_names=names)  # type: ignore[arg-type]
    biases[0], names[0] = 7, "z"
    assert dag.biases is not None
    assert dag.unit_names is not None
    assert (dag.biases[0], dag.unit_names[0]) == (1, "a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"biases": [[1.0, 2.0]]}, r"`biases\[0\]` must be 1 finite numbers"),
        ({"biases": [[np.nan]]}, r"`biases\[0\]` must be 1 finite numbers"),
        ({"biases": [["a"]]}, r"`biases\[0\]` must be 1 finite numbers"),
        ({"biases": []}, "`biases` must be 1 vectors"),
        ({"activations": "relu"}, "`activations` must be a sequence of texts"),
        ({"activations": ["relu", "relu"]}, r"`activations` must be 1 texts \(got 2\)"),
        ({"unit_names": ["a"]}, r"`unit_names` must be 3 texts \(got 1\)"),
        ({"unit_names": ["a", "b", 3]}, "`unit_names` must be a sequence of texts"),
        ({"layer_names": ["a"]}, r"`layer_names` must be 2 texts \(got 1\)"),
    ],
)
def test_bad_biases_and_names_get_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayeredDAG.from_masks([[[1, 1]]], **arguments)


def test_forward_gives_every_unit() -> None:
    net = network()
    inputs = np.random.default_rng(0).normal(size=(4, 5))
    values = forward(net.dag, inputs)
    assert values.shape == (4, net.dag.n_units)
    assert (values[:, :5] == inputs).all()
    np.testing.assert_allclose(values[:, -3:], net.outputs(inputs), rtol=1e-6)
    bare = LayeredDAG.from_masks(net.masks, weights=net.weights)
    np.testing.assert_allclose(
        forward(bare, inputs, activations=["identity"] * 3)[:, -3:],
        inputs @ net.weights[0].T.astype(float) @ net.weights[1].T @ net.weights[2].T,
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", [*ACTIVATIONS, "leaky_relu:0.2", "elu:0.5", "tanh+relu"])
def test_activations_are_torchs(name: str) -> None:
    values = torch.linspace(-3, 3, 13, dtype=torch.float64)
    functional = torch.nn.functional
    oracles: dict[str, Any] = {
        "identity": torch.nn.Identity(),
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "softmax": lambda x: functional.softmax(x, 0),
        "log_softmax": lambda x: functional.log_softmax(x, 0),
        "leaky_relu:0.2": lambda x: functional.leaky_relu(x, 0.2),
        "elu:0.5": lambda x: functional.elu(x, 0.5),
        "tanh+relu": lambda x: functional.relu(torch.tanh(x)),
    }
    oracle = oracles.get(name) or getattr(functional, name, None) or getattr(torch, name)
    dag = LayeredDAG.from_masks([np.eye(13)], weights=[np.eye(13)], activations=[name])
    np.testing.assert_allclose(forward(dag, values[None])[0, 13:], oracle(values), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [[1.0]]}, r"`inputs` must be of shape \(n_samples, 5\) \(got \(1, 1\)\)"),
        ({"activations": ["relu"]}, "`activations` must be 3 names, one a layer"),
        ({"activations": ["relu", "odd", "relu"]}, r"`activations` of layer 2 can't be computed \(got 'odd'\)"),
        ({"activations": ["relu", "relu:x", "relu"]}, "`activations` of layer 2 can't be computed"),
        ({"activations": ["relu", "relu:2", "relu"]}, "`activations` of layer 2 can't be computed"),
    ],
)
def test_bad_passes_get_one_sentence(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"inputs": np.zeros((1, 5)), "activations": None} | change
    with pytest.raises(ValueError, match=message):
        forward(network().dag, arguments["inputs"], activations=arguments["activations"])


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(ValueError, match="`dag` must have weights"):
        forward(LayeredDAG.from_masks([[[1]]]), [[1.0]])
    with pytest.raises(ValueError, match="`activations` must be given"):
        forward(LayeredDAG.from_masks([[[1]]], weights=[[[1.0]]]), [[1.0]])
