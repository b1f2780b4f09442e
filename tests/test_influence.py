"""Influence: signed path sums and mean Jacobians."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modgraph import LayeredDAG, influence
from modgraph.forward import ACTIVATIONS, forward
from tests.strategies import dags, permuted, weighted

TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "leaky_relu:0.2": lambda x: torch.nn.functional.leaky_relu(x, 0.2),
    "elu": torch.nn.functional.elu,
    "selu": torch.selu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "softsign": torch.nn.functional.softsign,
    "hardtanh": torch.nn.functional.hardtanh,
    "exp": torch.exp,
    "abs": torch.abs,
    "square": torch.square,
    "softmax": lambda x: torch.softmax(x, dim=0),
    "log_softmax": lambda x: torch.log_softmax(x, dim=0),
    "tanh+relu": lambda x: torch.relu(torch.tanh(x)),
    "softmax+square": lambda x: torch.softmax(x, dim=0) ** 2,
}


def all_paths(dag: LayeredDAG, hops: int) -> np.ndarray:
    """Walk along every path of up to `hops` edges; (n_units, n_units)."""
    assert dag.weights is not None
    leaving: dict[int, list[tuple[int, float]]] = {}
    for (source, target), weight in zip(dag.edges.tolist(), dag.weights.tolist(), strict=True):
        leaving.setdefault(source, []).append((target, weight))
    found = np.zeros((dag.n_units, dag.n_units))

    def walk(start: int, unit: int, product: float, left: int) -> None:
        for target, weight in leaving.get(unit, []) if left else []:
            found[start, target] += product * weight
            walk(start, target, product * weight, left - 1)

    for unit in range(dag.n_units):
        walk(unit, unit, 1.0, hops)
    return found


@given(weighted(dags()), st.integers(1, 5))
def test_paths_are_summed_as_by_walking_along_each(dag: LayeredDAG, hops: int) -> None:
    expected = all_paths(dag, hops)
    for level in range(dag.n_layers):
        rows = dag.layer == level
        assert np.allclose(influence(dag, level, hops=hops).toarray(), expected[rows])
        assert np.allclose(influence(dag, level, hops=hops, direction="inwards").toarray(), expected.T[rows])


def torch_jacobian(dag: LayeredDAG, names: list[str], sample: np.ndarray, level: int) -> np.ndarray:
    """Differentiate all units by those of a layer, with torch; (units of the layer, n_units)."""
    assert dag.weights is not None
    assert dag.biases is not None
    values = [torch.tensor(x, dtype=torch.float64) for x in sample.tolist()]
    edges = list(zip(dag.edges.tolist(), dag.weights.tolist(), strict=True))
    units = np.flatnonzero(dag.layer == level).tolist()
    for at in range(dag.n_layers):
        if at > 0:
            here = np.flatnonzero(dag.layer == at).tolist()
            sums = [
                sum((w * values[a] for (a, b), w in edges if b == unit), torch.tensor(float(dag.biases[unit])).double())
                for unit in here
            ]
            values += list(TORCH[names[at - 1]](torch.stack(sums)))
        if at == level:  # later units see copies that have no past
            for unit in units:
                values[unit] = values[unit].detach().clone().requires_grad_(True)
    result = np.zeros((len(units), dag.n_units))
    for unit in np.flatnonzero(dag.layer > level).tolist():
        if values[unit].requires_grad:
            slopes = torch.autograd.grad(values[unit], [values[u] for u in units], retain_graph=True, allow_unused=True)
            result[:, unit] = [0.0 if slope is None else float(slope) for slope in slopes]
    return result


@given(weighted(dags(max_units=4)), st.data())
def test_jacobians_are_those_of_torch(dag: LayeredDAG, data: st.DataObject) -> None:
    names = [data.draw(st.sampled_from(sorted(TORCH))) for _ in range(dag.n_layers - 1)]
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    samples = rng.normal(size=(3, dag.layer_sizes[0]))
    expected = {}
    for level in range(dag.n_layers):
        expected[level] = np.mean([np.abs(torch_jacobian(dag, names, one, level)) for one in samples], axis=0)
        found = influence(dag, level, kind="jacobian", data=samples, activations=names).toarray()
        assert np.allclose(found, expected[level], rtol=1e-6, atol=1e-9)
    for level in range(dag.n_layers):
        found = influence(dag, level, kind="jacobian", data=samples, activations=names, direction="inwards").toarray()
        for other in range(level):
            part = found[:, dag.layer == other]
            assert np.allclose(part, expected[other][:, dag.layer == level].T, rtol=1e-6, atol=1e-9)


def test_every_activation_is_compared_with_torch() -> None:
    assert {name for name in TORCH if name.isidentifier()} == set(ACTIVATIONS)


@given(weighted(dags()), st.integers(1, 5))
def test_without_activations_jacobians_are_path_sums(dag: LayeredDAG, hops: int) -> None:
    names = ["identity"] * (dag.n_layers - 1)
    for level, direction in itertools.product(range(dag.n_layers), ("outwards", "inwards")):
        paths = influence(dag, level, hops=hops, direction=direction)
        jacobian = influence(dag, level, hops=hops, direction=direction, kind="jacobian", activations=names)
        assert np.allclose(np.abs(paths.toarray()), jacobian.toarray())


def test_samples_in_chunks_are_samples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(6, 5)), rng.normal(size=(4, 6))]
    dag = LayeredDAG.from_masks(weights, weights=weights, activations=["relu", "tanh"])
    samples = rng.normal(size=(20, 5))
    at_once = influence(dag, 0, kind="jacobian", data=samples).toarray()
    monkeypatch.setattr(sys.modules["modgraph.influence"], "CHUNK", 5 * 6 * 3)
    assert np.allclose(influence(dag, 0, kind="jacobian", data=samples).toarray(), at_once)
    # A derivative is the limit of a difference.
    shifted = samples + 1e-6 * np.eye(5)[2]
    slopes = np.abs(forward(dag, shifted) - forward(dag, samples)).mean(axis=0) / 1e-6
    assert np.allclose(slopes[5:], at_once[2, 5:], atol=1e-4)


@given(weighted(dags()), st.integers(0, 100))
def test_the_order_of_units_only_orders_the_result(dag: LayeredDAG, seed: int) -> None:
    other, place = permuted(dag, np.random.default_rng(seed))
    for level in range(dag.n_layers):
        units = np.flatnonzero(dag.layer == level)
        before, after = influence(dag, level).toarray(), influence(other, level).toarray()
        assert np.allclose(before, after[place[units] - dag.layer_starts[level]][:, place])


def test_sparse_and_dense_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(30, 30)) * (rng.random((30, 30)) < 0.1) for _ in range(3)]
    dag = LayeredDAG.from_masks(weights, weights=weights)
    results = []
    for share in (0.0, 0.05, 0.5, 1.0):
        monkeypatch.setattr(sys.modules["modgraph.influence"], "DENSE_FROM", share)
        results.append([influence(dag, level).toarray() for level in range(4)])
    expected = all_paths(dag, 3)
    for result in results:
        assert np.allclose(np.concatenate(result), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hops": 0}, r"`hops` must be an int ≥ 1 \(got 0\)"),
        ({"kind": "gradient"}, r'`kind` must be "paths" or "jacobian" \(got \'gradient\'\)'),
        ({"direction": "up"}, r'`direction` must be "outwards" or "inwards" \(got \'up\'\)'),
        ({"kind": "jacobian", "data": [[1.0]]}, r"`inputs` must be of shape \(n_samples, 2\) \(got \(1, 1\)\)"),
        (
            {"kind": "jacobian", "data": np.empty((0, 2)), "activations": ["relu"]},
            r"`data` must have one row or more \(got shape \(0, 2\)\)",
        ),
        ({"kind": "jacobian"}, "`activations` must be given"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments: dict[str, object], message: str) -> None:
    dag = LayeredDAG.from_masks([[[1, 1]]], weights=[[[1.0, 2.0]]])
    with pytest.raises(ValueError, match=message):
        influence(dag, 0, **arguments)  # type: ignore[arg-type]


def test_a_network_needs_weights_and_a_layer() -> None:
    with pytest.raises(ValueError, match="`dag` must have weights"):
        influence(LayeredDAG.from_masks([[[1, 1]]]), 0)
    dag = LayeredDAG.from_masks([[[1, 1]]], weights=[[[1.0, 2.0]]])
    with pytest.raises(ValueError, match=r"`level` must be a layer from 0 to 1 \(got 2\)"):
        influence(dag, 2)
