"""Decomposition of truth tables, and the random functions it is checked against."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph.functions import FunctionGraph, SubFunction, decompose, published, published_names, random
from modgraph.functions.decompose import _normal_form, _smallest_block
from tests.strategies import gate_graphs


def wiring(graph: FunctionGraph) -> dict[bytes, frozenset[bytes]]:
    """For each sub-function bit, as a truth table that starts with 0, the tables of what it reads.

    Identities and nots are left out: they are the same function up to a negation.
    """
    rows = graph.truth_table()[0]
    tables = {(name, 0): rows[:, column].tobytes() for column, name in enumerate(graph.inputs)}
    for name, bits in graph.values(rows).items():
        tables |= {(name, bit): (column ^ column[0]).tobytes() for bit, column in enumerate(bits.T)}
    sizes = {sub.name: sub.n_outputs for sub in graph.sub_functions}

    def read(reference: str) -> list[bytes]:
        name, dot, bit = reference.partition(".")
        return [tables[name, int(bit)]] if dot else [tables[name, i] for i in range(sizes.get(name, 1))]

    result: dict[bytes, frozenset[bytes]] = {}
    for sub in graph.sub_functions:
        parents = frozenset(table for reference in sub.parents for table in read(reference))
        result |= {tables[sub.name, bit]: parents for bit in range(sub.n_outputs) if parents != {tables[sub.name, bit]}}
    return result


DETERMINED = [name for name in published_names() if not name.startswith("reuse")]


@pytest.mark.parametrize("name", DETERMINED)
def test_published_graphs_come_back_from_their_tables(name: str) -> None:
    target = published(name)
    table = target.truth_table()[1]
    found = decompose(table, name=name)
    assert found.truth_table()[1].tolist() == table.tolist()
    assert found.inputs == target.inputs
    drawn, decomposed = wiring(target), wiring(found)
    # Every drawn sub-function is found. G = d · (…) is found in two steps: its factor is the only addition.
    assert drawn.keys() <= decomposed.keys()
    additional = decomposed.keys() - drawn.keys()
    assert len(additional) == ("overlap" in name or "levels" in name)
    for function, parents in drawn.items():
        assert decomposed[function] == parents or decomposed[function] & additional
    assert found.output_partition() == target.output_partition()


def test_reuse_has_another_structure_than_the_drawn_one() -> None:
    """The three bits of H are one way of many to compute A and B; the parity of two inputs is the only block."""
    found = decompose(published("reuse_1").truth_table()[1])
    assert [repr(sub) for sub in found.sub_functions] == [
        "SubFunction('s0' = xor(x1, x2))",
        "SubFunction('s1' = and_010(x0, x3, s0))",
        "SubFunction('s2' = xor(x0, x3))",
        "SubFunction('s3' = and_100(x1, x2, s2))",
    ]


def test_prime_functions_are_called_prime() -> None:
    found = decompose(published("single").truth_table()[1])
    assert found.name == "decomposed, prime"
    assert repr(found.sub_functions) == "(SubFunction('s0' = prime(x0, x1, x2, x3)),)"
    assert found.outputs == ("s0",) * 4
    assert pickle.loads(pickle.dumps(found)) == found


def test_operands_in_common_are_shared_unless_the_choice_is_open() -> None:
    rows = np.array(list(itertools.product((False, True), repeat=5))).T
    a, b, c, d, e = rows
    shared = decompose(np.column_stack([a & b & c, ~(a & b & d), c & d & e]))
    assert [sub.parents for sub in shared.sub_functions] == [
        ("x0", "x1"),
        ("x2", "s0"),
        ("x3", "s0"),
        ("x2", "x3", "x4"),
    ]
    assert shared.outputs == ("s1", "~s2", "s3")
    # ab and bc are both in abc, and each in one other product: neither is better.
    open_choice = decompose(np.column_stack([a & b & c, b & c & d, a & b & e]))
    assert [sub.parents for sub in open_choice.sub_functions] == [
        ("x0", "x1", "x2"),
        ("x1", "x2", "x3"),
        ("x0", "x1", "x4"),
    ]


def test_outputs_that_are_inputs_and_inputs_without_effect() -> None:
    rows = np.array(list(itertools.product((0, 1), repeat=3)))
    found = decompose(np.column_stack([rows[:, 0] & rows[:, 2], 1 - rows[:, 2]]), inputs=["a", "b", "c"])
    assert found.inputs == ("a", "c")
    assert found.outputs == ("s0", "~s1")
    assert repr(found.sub_functions[1]) == "SubFunction('s1' = identity(c))"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([0, 1, 1], r"`table` must have 2\*\*n rows, .* \(got shape \(3,\)\)"),
        ([0, 2], r"`table` must be 0 or 1 \(got 2\)"),
        ([[0, 1], [1, 1]], r"`table` must have no constant output \(output 1 is always 1\)"),
        (np.zeros((4, 0)), r"`table` must have 2\*\*n rows, .* \(got shape \(4, 0\)\)"),
    ],
)
def test_bad_tables_raise_one_sentence(table: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(table)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`inputs` must be 1 names \(got 2\)"):
        decompose([0, 1], inputs=["a", "b"])


@given(st.integers(3, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3, 0.5, 0.9]))
@settings(max_examples=80, deadline=None)
def test_the_smallest_block_is_that_of_the_definition(n: int, seed: int, density: float) -> None:
    """A set of inputs is a block if its patterns give at most two different columns (Ashenhurst)."""
    rng = np.random.default_rng(seed)
    table = rng.random((2,) * n) < density
    if n > 3 and rng.random() < 0.5:  # with a block
        inner = rng.random((2, 2, 2)) < 0.5
        table = np.stack([rng.random((2,) * (n - 3)) < 0.5, rng.random((2,) * (n - 3)) < 0.5])[inner.astype(int)]
    essential = all((np.take(table, 0, axis=i) != np.take(table, 1, axis=i)).any() for i in range(n))
    if not essential:
        return

    def is_block(axes: tuple[int, ...]) -> bool:
        rest = [axis for axis in range(n) if axis not in axes]
        return len(np.unique(table.transpose([*axes, *rest]).reshape(2 ** len(axes), -1), axis=0)) <= 2

    blocks = [set(axes) for size in range(2, n) for axes in itertools.combinations(range(n), size) if is_block(axes)]
    for pair in itertools.combinations(range(n), 2):
        smallest = min((block for block in blocks if set(pair) <= block), key=len, default=set(range(n)))
        assert _smallest_block(_normal_form(table), pair, set()) == sorted(smallest)


@given(gate_graphs())
@settings(max_examples=40, deadline=None)
def test_any_graph_is_computed_again_whatever_the_order_of_inputs(target: FunctionGraph) -> None:
    rows, table = target.truth_table()
    if (table == table[0]).all(axis=0).any():
        return  # an output is constant
    found = decompose(table, inputs=target.inputs)
    kept = [target.inputs.index(name) for name in found.inputs]
    assert found.evaluate(rows[:, kept]).tolist() == table.tolist()
    backwards = table.reshape((2,) * target.n_inputs + (-1,)).transpose([*range(target.n_inputs)[::-1], -1])
    other = decompose(backwards.reshape(table.shape), inputs=target.inputs[::-1])

    def supports(graph: FunctionGraph) -> list[list[str]]:
        return sorted(sorted(graph.inputs[i] for i in graph.input_support(sub.name)) for sub in graph.sub_functions)

    assert supports(other) == supports(found)


@given(st.integers(1, 3), st.integers(1, 2), st.sampled_from([None, 0, 2]), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_random_functions_come_back_from_their_tables(levels: int, reuse: int, overlap: int | None, seed: int) -> None:
    n_inputs = 10 if overlap is None else {1: 8, 2: 10, 3: 14}[levels] + (2 if overlap == 0 else 0)
    target = random(n_inputs, levels=levels, reuse=reuse, overlap=overlap, random_state=seed)
    assert target == random(n_inputs, levels=levels, reuse=reuse, overlap=overlap, random_state=seed)
    depth = target.levels()
    assert max(depth.values()) == levels
    for sub in target.sub_functions:
        assert len(target.readers(sub.name)) == (0 if depth[sub.name] == levels else reuse)
    both = sum(len(target.readers(name)) > 1 for name in target.inputs)
    assert both == (overlap or 0)
    found = decompose(target.truth_table()[1])
    assert wiring(found) == wiring(target)
    assert found.n_inputs == n_inputs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_inputs": 3}, r"`n_inputs` must be an int ≥ 4 \(got 3\)"),
        ({"n_inputs": 8, "levels": 0}, r"`levels` must be an int ≥ 1 \(got 0\)"),
        ({"n_inputs": 8, "overlap": 1}, r"`overlap` must be below half of .* \(got 1 for 8 inputs\)"),
        ({"n_inputs": 4, "reuse": 40}, r"`reuse` must be low enough for 4 inputs and 2 levels \(got 40\)"),
    ],
)
def test_bad_arguments_of_random_raise_one_sentence(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random(**arguments)


def test_a_sub_function_with_one_bit_may_be_any_callable() -> None:
    """`wiring`, the oracle above, knows callables and several bits."""
    target = FunctionGraph(
        name="t",
        inputs=["a", "b"],
        sub_functions=[SubFunction("P", ["a", "b"], function=lambda a, b: (a & b, a | b), n_outputs=2)],
        outputs=["P.0", "~P.1"],
    )
    assert len(wiring(target)) == 2
