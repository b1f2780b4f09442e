"""Modules tested by intervention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, verify
from modgraph.arrays import IntArray
from modgraph.forward import ACTIVATIONS, Replay, forward
from modgraph.functions import FunctionGraph, SubFunction, published
from modgraph.score import criteria, score
from modgraph.verify import Verification
from tests.networks import FOLDER, needs_published, published_index
from tests.strategies import dags

# Two hidden units for each gate of two inputs: weights from the inputs, and biases. Their sum is 0 or at least 1.
GATES: dict[str, tuple[list[list[float]], list[float]]] = {
    "xor": ([[1, -1], [-1, 1]], [0, 0]),
    "or": ([[1, 0], [0, 1]], [0, 0]),
    "and": ([[1, 1], [2, 2]], [-1, -2]),
}


def gate_network(gates: list[str], negated: list[bool]) -> tuple[ModuleHierarchy, FunctionGraph]:
    """A network of separate gates of two inputs, two outputs each, and its true hierarchy."""
    n = len(gates)
    first, biases = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)
    second, out_biases = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)
    for i, (gate, negate) in enumerate(zip(gates, negated, strict=True)):
        two = slice(2 * i, 2 * i + 2)
        first[two, two], biases[two] = GATES[gate]
        for output, sign in ((2 * i, 1), (2 * i + 1, -1 if negate else 1)):
            second[output, two], out_biases[output] = 8 * sign, -4 * sign
    dag = LayeredDAG.from_masks(
        [first, second],
        weights=[first, second],
        biases=[biases, out_biases],
        activations=["relu", "sigmoid"],
    )
    target = FunctionGraph(
        name="gates",
        inputs=[f"x{i}" for i in range(2 * n)],
        sub_functions=[
            SubFunction(f"g{i}", [f"x{2 * i}", f"x{2 * i + 1}"], function=gate) for i, gate in enumerate(gates)
        ],
        outputs=[name for i, negate in enumerate(negated) for name in (f"g{i}", "~" * negate + f"g{i}")],
    )
    labels = np.tile(np.repeat(np.arange(n), 2), 3)
    return ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels), target


def moved(found: ModuleHierarchy, unit: int, module: int) -> ModuleHierarchy:
    """The hierarchy with one unit in another module."""
    labels = found.labels.copy()
    labels[unit] = module
    return replace(found, labels=labels, cluster_labels=labels)


gate_networks = st.lists(st.tuples(st.sampled_from(sorted(GATES)), st.booleans()), min_size=2, max_size=4).map(
    lambda drawn: gate_network([gate for gate, _ in drawn], [negate for _, negate in drawn])
)


@given(gate_networks)
@settings(max_examples=10, deadline=None)
def test_modules_that_compute_their_sub_function_are_certified(drawn: tuple[ModuleHierarchy, FunctionGraph]) -> None:
    found, target = drawn
    checked = verify(found, target=target)
    assert checked.exhaustive
    assert checked.functional
    assert checked.accuracy == checked.certified_share == 1
    for i, module in enumerate(checked.modules):
        assert module.certified
        assert module.sub_functions == (f"g{i}",)
        assert module.inputs.tolist() == module.outputs.tolist() == [2 * i, 2 * i + 1]
        assert module.n_states == 2
        assert module.sufficiency is not None
        assert module.support is not None
        assert module.interchange is not None
        assert (module.sufficiency.value, module.support.value, module.interchange.value) == (0, 1, 1)
        # Random regroupings of units are told apart.
        assert module.controls_certified == 0
        assert module.support.control is not None
        assert module.support.control < 1
        assert module.ablation.unreached == 0
    assert score(found, target).functional


@given(gate_networks, st.data())
@settings(max_examples=40, deadline=None)
def test_a_module_with_a_foreign_unit_is_never_certified(
    drawn: tuple[ModuleHierarchy, FunctionGraph], data: st.DataObject
) -> None:
    found, target = drawn
    unit = data.draw(st.integers(0, found.dag.n_units - 1))
    module = data.draw(st.sampled_from([m for m in range(found.n_modules) if m != found.labels[unit]]))
    wrong = moved(found, unit, module)
    checked = verify(wrong, target=target, n_controls=0)
    assert not checked.modules[module].certified
    assert not checked.functional
    assert not score(wrong, target).functional


@given(gate_networks, st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_order_of_hidden_units_changes_nothing(drawn: tuple[ModuleHierarchy, FunctionGraph], seed: int) -> None:
    found, target = drawn
    dag, rng = found.dag, np.random.default_rng(seed)
    wrong = moved(found, int(rng.integers(dag.n_units)), 0)
    if wrong.n_modules < found.n_modules:
        return
    place = np.arange(dag.n_units)
    hidden = np.flatnonzero(dag.layer == 1)
    place[hidden] = rng.permutation(hidden)

    def permuted(values: IntArray) -> IntArray:
        result = np.empty_like(values)
        result[place] = values
        return result

    other_dag = LayeredDAG.from_edges(
        place[dag.edges],
        layer=dag.layer,
        weights=dag.weights,
        biases=permuted(dag.biases),  # type: ignore[arg-type]
        activations=dag.activations.tolist(),  # type: ignore[union-attr]
    )
    labels = permuted(wrong.labels)
    other = ModuleHierarchy(dag=other_dag, labels=labels, cluster_labels=labels)

    def facts(checked: Verification) -> list[Any]:
        return [
            (m.certified, m.sub_functions, m.sufficiency, m.support, m.interchange, m.n_states, m.controls_certified)
            for m in checked.modules
        ]

    assert facts(verify(other, target=target)) == facts(verify(wrong, target=target))


@given(dags(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_replay_computes_what_a_network_with_constant_units_computes(dag: LayeredDAG, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = np.where(dag.layer == 0, "identity", rng.choice(["relu", "tanh"], size=dag.n_units)).tolist()
    biases = np.where(dag.layer == 0, 0.0, rng.normal(size=dag.n_units))
    network = LayeredDAG.from_edges(
        dag.edges, layer=dag.layer, weights=rng.normal(size=dag.n_edges), biases=biases, activations=names
    )
    inputs = rng.normal(size=(3, dag.layer_sizes[0]))
    replay = Replay(network, inputs)
    first_output = dag.n_units - dag.layer_sizes[-1]
    assert np.allclose(replay.values[:, first_output:], forward(network, inputs)[:, first_output:])
    units = np.flatnonzero(rng.random(dag.n_units) < 0.3)
    states = rng.normal(size=(3, units.size))
    given_states = dict(zip(units.tolist(), states.T, strict=True))
    values = np.zeros((3, dag.n_units))
    for unit in range(dag.n_units):
        into = np.flatnonzero(dag.targets == unit)
        total = values[:, dag.sources[into]] @ network.weights[into] + biases[unit]  # type: ignore[index]
        value = inputs[:, unit] if dag.layer[unit] == 0 else ACTIVATIONS[names[unit]](total)
        values[:, unit] = given_states.get(unit, value)
    assert np.allclose(replay.outputs(np.arange(3), units, states), values[:, first_output:])


def naive_outputs(dag: LayeredDAG, row: list[float], fixed: dict[int, float]) -> list[bool]:
    """The output bits of a small network, unit by unit."""
    values = dict(enumerate(row))
    for unit in range(dag.n_units):
        if dag.layer[unit] > 0:
            into = np.flatnonzero(dag.targets == unit)
            total = sum(dag.weights[e] * values[int(dag.sources[e])] for e in into) + dag.biases[unit]  # type: ignore[index]
            values[unit] = max(total, 0.0) if dag.layer[unit] < dag.n_layers - 1 else total
        values[unit] = fixed.get(unit, values[unit])
    return [values[unit] > 0 for unit in range(dag.n_units - dag.layer_sizes[-1], dag.n_units)]


def test_interchange_is_that_of_every_pair_of_inputs() -> None:
    """An oracle in plain Python, on a wrong module: OR with a hidden unit of XOR."""
    found, target = gate_network(["xor", "or"], [False, True])
    dag = found.dag
    wrong = moved(found, 4, 1)
    member = set(np.flatnonzero(wrong.labels == 1).tolist())
    boundary = [u for u in sorted(member) if u >= 8 or not member.issuperset(dag.targets[dag.sources == u].tolist())]
    assert boundary == [4, 10, 11]
    measured = verify(wrong, target=target, n_controls=0).modules[1]
    (name,) = measured.sub_functions
    exchanged = slice(0, 2) if name == "g0" else slice(2, 4)
    rows = target.truth_table()[0].tolist()
    right = []
    for base in rows:
        for source in rows:
            shown = naive_outputs(dag, source, {})
            # The hidden unit is relu(x0 − x1).
            state = {4: max(0.0, source[0] - source[1]), 10: shown[2] - 0.5, 11: shown[3] - 0.5}
            row = list(base)
            row[exchanged] = source[exchanged]
            expected = target.evaluate([row])[0].astype(bool).tolist()
            right.append(naive_outputs(dag, base, state) == expected)
    assert measured.boundary.tolist() == boundary
    assert measured.interchange is not None
    assert measured.interchange.value == pytest.approx(np.mean(right))
    assert 0 < measured.interchange.value < 1


def test_more_than_twelve_inputs_are_sampled() -> None:
    found, target = gate_network(["xor", "and"] * 4, [True] * 8)
    checked = verify(found, target=target, n_controls=2)
    assert not checked.exhaustive
    assert checked.n_samples == 2048
    assert checked.functional
    support = checked.modules[0].support
    assert support is not None
    assert 0.99 < support.low < support.value == 1
    assert not verify(moved(found, 20, 0), target=target, n_controls=0).modules[0].certified
    assert score(found, target).functional is None


def test_modules_are_described_without_a_target() -> None:
    found, _ = gate_network(["xor", "and"], [False, False])
    data = np.random.default_rng(0).random((500, 4))
    checked = verify(found, data=data)
    assert repr(checked) == "Verification(2 modules, 500 samples)"
    assert checked.certified_share is None
    for i, module in enumerate(checked.modules):
        assert module.certified is None
        assert module.interchange is None
        assert module.inputs.tolist() == module.outputs.tolist() == [2 * i, 2 * i + 1]
        assert module.explained == pytest.approx(1)
        assert module.bits > 4
        assert module.ablation.reached is not None
        assert module.ablation.control_unreached is not None
        assert module.ablation.reached > 0 == module.ablation.unreached
        assert module.ablation.control_unreached > 0
    # On the corners there are few states: XOR is 1 on half of them, AND on a quarter.
    corners = verify(found, data=np.indices((2,) * 4).reshape(4, -1).T)
    assert [module.n_states for module in corners.modules] == [2, 2]
    assert [module.bits for module in corners.modules] == pytest.approx([1, 0.8112781])


def test_a_module_that_passes_on_its_inputs_is_not_certified() -> None:
    """One hidden layer for a function of two levels: the inputs of f go to all hidden units, in no module of f."""
    found, target = gate_network(["xor", "or"], [False, False])
    wrong = replace(found, labels=np.array([0, 0, 1, 1, *[2] * 8]), cluster_labels=found.cluster_labels)
    checked = verify(wrong, target=target, n_controls=0)
    first = checked.modules[0]
    assert first.self_contained is False
    assert first.sufficiency is not None
    assert first.sufficiency.holds
    assert not first.certified


def test_arguments_are_checked() -> None:
    found, target = gate_network(["xor", "or"], [False, False])
    with pytest.raises(ValueError, match=r"`target` or `data` must be given \(got neither\)"):
        verify(found)
    with pytest.raises(
        ValueError, match=r"`target` must have the 4 inputs of the network \('separable_reused' has 6\)"
    ):
        verify(found, target=published("separable_reused"))
    with pytest.raises(ValueError, match=r"`data` must be of shape \(n_samples, 4\) \(got \(3,\)\)"):
        verify(found, data=[1, 2, 3])
    with pytest.raises(ValueError, match=r"`data` must be 0 or 1 where there is a target \(got 0\.5\)"):
        verify(found, target=target, data=[[0, 1, 0.5, 1]])
    with pytest.raises(ValueError, match=r"`n_controls` must be an int ≥ 0 \(got -1\)"):
        verify(found, target=target, n_controls=-1)
    bare = detect_modules(LayeredDAG.from_edges(found.dag.edges, layer=found.dag.layer))
    with pytest.raises(ValueError, match="`dag` must have weights"):
        verify(bare, target=target)
    assert score(bare, target).functional is None


@needs_published
def test_modules_of_published_exact_hierarchies_are_certified() -> None:
    """A sample; ``python -m tests.long.verification`` has all.

    With one hidden layer, no module of a `levels` network computes f or g.
    """
    tried = 0
    for entry in published_index()[::60]:
        n = len(entry["layer_sizes"]) - 1
        with np.load(FOLDER / entry["file"]) as arrays:
            masks, weights, biases = ([arrays[f"{kind}{i}"] for i in range(n)] for kind in ("mask", "weight", "bias"))
        activations = ["relu"] * (n - 1) + ["sigmoid"]
        dag = LayeredDAG.from_masks(masks, weights=weights, biases=biases, activations=activations)
        found, target = detect_modules(dag, hops=entry["hops"]), published(entry["function"])
        if criteria(found, target).exact and (n > 2 or "levels" not in target.name):
            tried += 1
            assert verify(found, target=target, n_controls=5).functional, entry["file"]
    assert tried > 5
