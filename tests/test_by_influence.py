"""Modules by influence: groups of inputs and outputs, shares of hidden units, and the symmetries of the function."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from modgraph import LayeredDAG, detect_modules
from modgraph.arrays import FloatArray, IntArray
from modgraph.cluster.by_influence import (
    basis,
    module_bases,
    normalised,
    path_order,
    paths_per_pair,
    wiring_modularity,
)
from modgraph.influence import weight_blocks
from modgraph.io import load_hierarchy, save_hierarchy
from tests.networks import SHARED
from tests.strategies import permuted

CONTROLLERS = sorted((SHARED / "moth").glob("*.h5"))


def superposed(
    n_modules: int,
    seed: int,
    *,
    inputs: int = 12,
    width: int = 48,
    outputs: int = 6,
    depth: int = 2,
    common: int = 0,
    keep: float = 1.0,
    activation: str = "relu",
) -> tuple[LayeredDAG, IntArray, IntArray]:
    """A network whose modules are orthogonal subspaces of all hidden units, not sets of units.

    Module m's inputs write dimensions of its own, the layers between pass them on (a random rotation each), and its
    outputs read them; `common` more outputs read all modules. `keep` of the smallest weights are cut.
    """
    rng = np.random.default_rng(seed)
    n_dimensions = min(width // (2 * n_modules), outputs - 1)
    rotations = [np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(depth)]
    turns = [np.linalg.qr(rng.normal(size=(n_dimensions, n_dimensions)))[0] for _ in range(depth - 1)]
    inner = [np.kron(np.eye(n_modules), turn) for turn in turns]
    write = np.kron(np.eye(n_modules), rng.normal(size=(n_dimensions, inputs)))
    read = np.kron(np.eye(n_modules), rng.normal(size=(outputs, n_dimensions)))
    both = rng.normal(size=(common, n_modules, n_dimensions))
    both /= np.linalg.norm(both, axis=2, keepdims=True) / np.sqrt(n_dimensions / n_modules)
    read = np.concatenate([read, both.reshape(common, n_modules * n_dimensions)])
    used = n_dimensions * n_modules
    weights = [rotations[0][:, :used] @ write]
    weights += [
        two[:, :used] @ core @ one[:, :used].T
        for (one, two), core in zip(itertools.pairwise(rotations), inner, strict=True)
    ]
    weights.append(read @ rotations[-1][:, :used].T)
    for matrix in weights:
        matrix += 0.02 * np.abs(matrix).mean() * rng.normal(size=matrix.shape)
        matrix[np.abs(matrix) < np.quantile(np.abs(matrix), 1 - keep)] = 0
    dag = LayeredDAG.from_masks(
        weights,
        weights=weights,
        biases=[0.1 * rng.normal(size=len(matrix)) for matrix in weights],
        activations=[activation] * depth + ["identity"],
    )
    input_group = np.repeat(np.arange(n_modules), inputs)
    return dag, input_group, np.concatenate([np.repeat(np.arange(n_modules), outputs), np.full(common, n_modules)])


def rescaled(dag: LayeredDAG, scale: FloatArray) -> LayeredDAG:
    """Multiply what each hidden unit adds up by its scale, and divide the weights that leave it."""
    assert dag.weights is not None
    assert dag.biases is not None
    return dataclasses.replace(
        dag,
        weights=dag.weights * scale[dag.targets] / scale[dag.sources],
        biases=dag.biases * scale,
    )


@pytest.mark.parametrize("n_modules", [2, 4])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_subspaces_of_the_same_units_are_told_apart(n_modules: int, depth: int, keep: float) -> None:
    dag, inputs, outputs = superposed(n_modules, 1, width=30 * n_modules, depth=depth, keep=keep)
    found = detect_modules(dag)
    assert found.settings["features"].startswith("influence: ")
    assert f"{n_modules} groups of inputs" in found.settings["features"]
    assert adjusted_rand_score(found.labels[: len(inputs)], inputs) == 1
    assert adjusted_rand_score(found.labels[-len(outputs) :], outputs) == 1
    # Inputs and outputs of a module are in the same one.
    for module in range(n_modules):
        both = np.concatenate(
            [found.labels[: len(inputs)][inputs == module], found.labels[-len(outputs) :][outputs == module]]
        )
        assert len(set(both.tolist())) == 1
    # Wiring sees nothing there, and hidden units are shared.
    wired = detect_modules(dag, features="wiring").labels
    assert adjusted_rand_score(wired[: len(inputs)], inputs) < 0.3
    hidden = (dag.layer > 0) & (dag.layer < dag.n_layers - 1)
    assert found.shared[hidden].mean() > 0.2
    assert found.shared[~hidden].mean() < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_outputs_that_read_two_modules_are_a_module_above_them(seed: int) -> None:
    dag, inputs, outputs = superposed(2, seed, inputs=40, common=5, outputs=8, activation="identity")
    found = detect_modules(dag)
    assert adjusted_rand_score(found.labels[-len(outputs) :], outputs) == 1
    assert adjusted_rand_score(found.labels[: len(inputs)], inputs) == 1
    common = int(found.labels[-1])
    assert sorted(zip(found.graph.source.tolist(), found.graph.target.tolist(), strict=True)) == [
        (module, common) for module in range(3) if module != common
    ]
    assert [module.level for module in found.modules] == [int(module == common) for module in range(3)]
    above = found.modules[common]
    assert above.inputs.tolist() == list(range(len(inputs)))
    assert above.outputs.tolist() == [dag.n_units - 5 + i for i in range(5)]
    below = found.modules[int(found.labels[0])]
    assert below.inputs.tolist() == list(range(40))
    assert below.outputs.tolist() == [dag.n_units - 21 + i for i in range(8)] + above.outputs.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_random_weights_are_one_module(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=shape) for shape in ((40, 30), (40, 40), (12, 40))]
    found = detect_modules(LayeredDAG.from_masks(weights, weights=weights, activations=["relu"] * 3))
    assert found.n_modules == 1
    assert "no groups beyond chance" in found.settings["features"]
    assert (found.membership == 1).all()


def test_shuffled_weights_are_one_module() -> None:
    dag, _, _ = superposed(2, 0)
    assert dag.weights is not None
    rng = np.random.default_rng(0)
    groups = 0
    for _ in range(10):
        weights = dag.weights.copy()
        for level in range(dag.n_layers - 1):
            edges = dag.layer[dag.sources] == level
            weights[edges] = rng.permutation(weights[edges])
        groups += detect_modules(dataclasses.replace(dag, weights=weights)).n_modules > 1
    assert groups <= 1


@settings(max_examples=6)
@given(st.integers(0, 1000), st.sampled_from([1.0, 0.4]), st.integers(0, 3))
def test_the_order_of_units_changes_nothing(seed: int, keep: float, common: int) -> None:
    dag, _, _ = superposed(2, seed, inputs=6, width=16, outputs=4, common=common, keep=keep)
    other, place = permuted(dag, np.random.default_rng(seed))
    before, after = (detect_modules(one, features="influence") for one in (dag, other))
    assert before.settings == after.settings
    names = np.full(before.n_modules, -1)
    kept = before.labels >= 0
    names[before.labels[kept]] = after.labels[place][kept]
    assert np.array_equal(after.labels[place][kept], names[before.labels[kept]])
    assert np.array_equal(after.labels[place] < 0, ~kept)
    assert np.allclose(before.membership, after.membership[place][:, names])


@settings(max_examples=6)
@given(st.integers(0, 1000), st.sampled_from(["relu", "leaky_relu", "tanh", "softsign"]), st.integers(0, 3))
def test_the_scale_and_sign_of_hidden_units_change_nothing(seed: int, activation: str, common: int) -> None:
    dag, _, _ = superposed(2, seed, inputs=6, width=16, outputs=4, common=common, activation=activation)
    rng = np.random.default_rng(seed)
    scale = (
        rng.choice([-1.0, 1.0], dag.n_units) if activation in ("tanh", "softsign") else rng.uniform(0.2, 5, dag.n_units)
    )
    scale[(dag.layer == 0) | (dag.layer == dag.n_layers - 1)] = 1
    before, after = (detect_modules(one, features="influence") for one in (dag, rescaled(dag, scale)))
    assert before.labels.tolist() == after.labels.tolist()
    assert np.allclose(before.membership, after.membership)
    assert before.settings == after.settings


@settings(max_examples=4)
@given(st.integers(0, 1000))
def test_the_scale_of_outputs_changes_nothing_for_inputs_and_outputs(seed: int) -> None:
    dag, inputs, outputs = superposed(2, seed, inputs=6, width=16, outputs=4)
    scale = np.where(dag.layer == 2, np.random.default_rng(seed).uniform(0.2, 5, dag.n_units), 1.0)
    scale[: -len(outputs)] = 1
    before, after = (detect_modules(one, features="influence").labels for one in (dag, rescaled(dag, scale)))
    assert before[: len(inputs)].tolist() == after[: len(inputs)].tolist()
    assert before[-len(outputs) :].tolist() == after[-len(outputs) :].tolist()


def test_jacobians_over_data_find_the_same_groups() -> None:
    dag, inputs, outputs = superposed(3, 0, width=60)
    data = np.random.default_rng(0).normal(size=(50, len(inputs)))
    found = detect_modules(dag, data=data)
    assert adjusted_rand_score(found.labels[: len(inputs)], inputs) == 1
    assert adjusted_rand_score(found.labels[-len(outputs) :], outputs) == 1
    # Inputs that are constant in the data belong to no module, and the settings say how many these are.
    data[:, [0, 20]] = 0.5
    some = detect_modules(dag, data=data)
    assert np.flatnonzero(some.labels < 0).tolist() == [0, 20]
    assert some.settings["features"].endswith("; 2 inputs without influence")
    assert (
        adjusted_rand_score(some.labels[: len(inputs)][some.labels[: len(inputs)] >= 0], np.delete(inputs, [0, 20]))
        == 1
    )
    with pytest.raises(ValueError, match=r"`data` must have shape \(n_samples, 36\) \(got \(50, 35\)\)"):
        detect_modules(dag, data=data[:, 1:])


def test_membership_is_one_hot_where_wiring_decides() -> None:
    halves = np.kron(np.eye(2), np.ones((3, 3)))
    found = detect_modules(LayeredDAG.from_masks([halves, halves]))
    assert found.membership.tolist() == np.repeat(np.eye(2), 3, axis=0)[[0, 1, 2, 3, 4, 5] * 3].tolist()
    assert not found.shared.any()
    dag = LayeredDAG.from_masks([[[1, 0], [1, 0]], [[1, 0]]])
    assert detect_modules(dag).membership.tolist() == [[1], [0], [1], [0], [1]]


def test_blocks_of_wiring_are_left_to_wiring() -> None:
    # Many paths join an input and an output of one block, none those of different blocks.
    rng = np.random.default_rng(0)
    weights = [np.kron(np.eye(2), np.ones((12, 12))) * rng.normal(size=(24, 24)) for _ in range(3)]
    dag = LayeredDAG.from_masks(weights, weights=weights, activations=["relu"] * 3)
    assert paths_per_pair(dag) == 12 * 12 / 2
    found = detect_modules(dag)
    assert found.settings["features"].startswith("wiring: edges keep to modules")
    assert found.labels.tolist() == detect_modules(dag, features="wiring").labels.tolist()


def test_shares_and_links_are_saved(tmp_path: Path) -> None:
    found = detect_modules(superposed(2, 0, common=5, outputs=8)[0])
    save_hierarchy(found, tmp_path / "found.json")
    again = load_hierarchy(tmp_path / "found.json")
    assert np.array_equal(again.membership, found.membership)
    assert again.links is not None
    assert found.links is not None
    assert again.links.tolist() == found.links.tolist()
    assert repr(again.modules) == repr(found.modules)


def test_an_output_without_influence_is_in_no_module() -> None:
    dag, _, outputs = superposed(2, 0)
    dead = dag.n_units - 1
    edges = dag.targets != dead
    assert dag.weights is not None
    cut = LayeredDAG.from_edges(dag.edges[edges], layer=dag.layer, weights=dag.weights[edges])
    found = detect_modules(cut)
    assert found.labels[dead] == -1
    assert not found.membership[dead].any()
    assert adjusted_rand_score(found.labels[-len(outputs) : -1], outputs[:-1]) == 1


def test_normalising_keeps_path_sums() -> None:
    from modgraph import influence

    dag, _, _ = superposed(2, 0, depth=3)
    outputs = dag.layer == dag.n_layers - 1
    before, after = (influence(one, 0).toarray()[:, outputs] for one in (dag, normalised(dag)))
    assert np.allclose(before, after)


def test_a_basis_holds_its_energy_in_as_few_dimensions_as_it_can() -> None:
    rows = np.diag([3.0, 2.0, 1.0, 0.0])
    for energy, n_dimensions in ((0.5, 1), (9 / 14, 1), (0.65, 2), (0.95, 3), (1.0, 3)):
        vectors = basis(rows, energy=energy)
        assert len(vectors) == n_dimensions
        assert np.allclose(vectors @ vectors.T, np.eye(n_dimensions))
    assert basis(np.zeros((2, 5)), energy=0.9).shape == (0, 5)


def test_influence_needs_weights() -> None:
    dag = LayeredDAG.from_masks([np.ones((3, 3))])
    assert detect_modules(dag).settings["features"] == "wiring: the network has no weights"
    with pytest.raises(ValueError, match="`dag` must have weights"):
        detect_modules(dag, features="influence")
    with pytest.raises(ValueError, match=r"`features` must be one of .* \(got 'weights'\)"):
        detect_modules(dag, features="weights")


def test_small_and_strange_networks_have_an_answer() -> None:
    one: Sequence[list[list[list[float]]]] = [
        [[[2.0]]],
        [[[1.0, -1.0]], [[3.0], [2.0]]],
        [[[1.0], [1.0]], [[1.0, -1.0]]],
    ]
    for weights in one:
        dag = LayeredDAG.from_masks(weights, weights=weights)
        found = detect_modules(dag, features="influence")
        assert found.n_modules == 1
    empty = LayeredDAG.from_masks([np.zeros((2, 2))], weights=[np.zeros((2, 2))])
    assert detect_modules(empty, features="influence").labels.tolist() == [-1] * 4


# Groups of inputs and outputs, written down plainly


def modularity(influence: FloatArray, rows: Sequence[int] | IntArray, columns: Sequence[int] | IntArray) -> float:
    """The module's formula for Q."""
    shares = np.abs(influence) / np.abs(influence).sum(axis=1, keepdims=True)
    together = np.asarray(rows)[:, None] == np.asarray(columns)
    return float(((shares - shares.mean(axis=0)) * together).sum() / len(shares))


# Graphs and weights


def test_paths_are_counted_per_pair_of_an_input_and_an_output() -> None:
    # Input 0 has two paths to output 5 and one, by a skipping edge, to output 6; input 1 has one path to output 5.
    edges = [[0, 2], [0, 3], [1, 3], [2, 5], [3, 5], [0, 6]]
    dag = LayeredDAG.from_edges(edges, layer=[0, 0, 1, 1, 1, 2, 2])
    assert paths_per_pair(dag) == (2 + 1 + 1) / 4


def test_wiring_is_modular_where_edges_keep_to_groups() -> None:
    blocks = LayeredDAG.from_masks([np.kron(np.eye(3), np.ones((2, 2)))] * 2)
    found = wiring_modularity(blocks)
    assert [matrix.tolist() for matrix, _ in found] == [np.kron(np.eye(3), np.ones((2, 2))).tolist()] * 3
    assert [one for _, one in found] == [pytest.approx((2 / 3, 1))] * 3
    # One unit of six has a third of its edges from another group, in both layers.
    crossed = np.kron(np.eye(3), np.ones((2, 2)))
    crossed[0, 2] = 1
    for _, (modularity, inside) in wiring_modularity(LayeredDAG.from_masks([crossed, crossed]))[1:]:
        assert 0.5 < modularity < 0.66
        assert inside == pytest.approx(17 / 18)
    assert [one for _, one in wiring_modularity(LayeredDAG.from_masks([np.ones((4, 4))] * 2))] == [(0, 1)] * 3


def test_a_few_edges_that_are_modular_by_chance_do_not_decide_for_wiring() -> None:
    dag, inputs, outputs = superposed(2, 0)
    # Every output is passed on along one edge: as modular as wiring can be, but so are all networks with these degrees.
    passed = np.diag(np.linspace(0.5, 1.5, len(outputs)))
    weights = [*(block.T for block in weight_blocks(dag).weights.values()), passed]
    longer = LayeredDAG.from_masks(weights, weights=weights, activations=["relu", "relu", "identity", "identity"])
    modularity, inside = wiring_modularity(longer)[-1][1]
    assert modularity == pytest.approx(1 - 1 / 8, abs=0.05)
    assert inside == pytest.approx(1)
    found = detect_modules(longer)
    assert found.settings["features"].startswith("influence: ")
    assert adjusted_rand_score(found.labels[: len(inputs)], inputs) == 1


@pytest.mark.skipif(not CONTROLLERS, reason="../shared/moth is not there")
def test_flight_controllers_are_clustered_by_influence() -> None:
    for path in CONTROLLERS:
        found = detect_modules(path)
        assert found.settings["features"].startswith("influence: ")
        # Velocities are in one module; the angles and the place to reach, which lead to forces, are in others.
        velocities, rest = found.labels[[0, 1, 4, 5]].tolist(), found.labels[[2, 3, 6, 7]].tolist()
        assert len(set(velocities)) == 1
        assert velocities[0] not in rest


def test_hidden_units_get_incoming_weights_of_norm_1_and_a_sum_that_is_not_negative() -> None:
    dag, _, _ = superposed(2, 0, inputs=4, width=8, outputs=3, depth=3)
    weights = normalised(dag).weights
    assert weights is not None
    hidden = (dag.layer > 0) & (dag.layer < dag.n_layers - 1)
    norms = np.bincount(dag.targets, weights**2, minlength=dag.n_units)[hidden]
    assert norms == pytest.approx(1)
    assert (np.bincount(dag.targets, weights, minlength=dag.n_units)[hidden] >= 0).all()


def test_a_module_reads_what_differs_between_its_outputs_and_writes_what_its_inputs_send() -> None:
    read = np.array([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    written = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    reads, writes = module_bases(
        read, written, output_group=np.array([0, 0, 1]), input_group=np.array([1, 2]), n_modules=3
    )
    assert [np.abs(rows).tolist() for rows in reads] == [[[0, 1, 0]], [[0, 0, 1]], []]
    assert [np.abs(rows).tolist() for rows in writes] == [[], [[0, 1, 0]], [[1, 0, 0]]]


def test_units_are_ordered_by_their_weights() -> None:
    weights = np.array([[1.0, 0.0, -3.0], [2.0, 0.5, 0.0]])
    dag = LayeredDAG.from_masks([weights], weights=[weights])
    order = path_order(dag)
    assert sorted(order.tolist()) == list(range(5))
    assert dag.layer[order].tolist() == [0, 0, 0, 1, 1]
    assert order.tolist() == [1, 0, 2, 4, 3]
