from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from modgraph.functions import ExpectedModule, FunctionGraph, SubFunction, published, published_names
from tests.strategies import gate_graphs

USES = (1, 2, 4, 6, 8)


def f(a: int, b: int, c: int, d: int) -> int:
    return int((a and b and not c and not d) or (a and not b and c and not d) or (not a and not b and c and d))


def g(a: int, b: int, c: int, d: int) -> int:
    return int(bool(d and ((a and b and c) or (a and not b and not c) or (not a and b and not c))))


def by_hand(name: str, x: tuple[int, ...]) -> list[int]:
    """The outputs of a published function for one input, from the formulas of the paper."""
    use = int(name.rsplit("_", 1)[1]) if name[-1].isdecimal() else 8
    if name == "separable":
        return [x[0] ^ x[1], 1 - (x[0] ^ x[1]), x[2] ^ x[3], 1 - (x[2] ^ x[3])]
    if name == "separable_reused":
        a, b, c = x[0] & x[1], x[2] & x[3], x[4] & x[5]
        return [a | b, a | c, b | c]
    if name == "single":
        return [f(*x)] * 4
    if name.startswith("reuse"):
        m1, m2, m3 = x == (1, 1, 0, 0), x == (1, 0, 1, 0), x == (0, 0, 1, 1)
        return [int(m1 or m2), int(m2 or m3)] * use
    one, two = f(*x[:4]), g(*x[-4:])
    if name.startswith("overlap"):
        return [one, two] * use
    return [int(one and not two), int(two and not one)] * use


def test_published_names_are_those_of_the_paper() -> None:
    expected = ["separable", "reused", "separable_reused", "single"]
    expected += [f"reuse_{u}" for u in USES]
    expected += [f"overlap_{v}_use_{u}" for v in range(5) for u in USES]
    expected += [f"levels_use_{u}" for u in USES]
    assert sorted(published_names()) == sorted(expected)


@pytest.mark.parametrize("name", published_names())
def test_published_truth_tables(name: str) -> None:
    target = published(name)
    inputs, outputs = target.truth_table()
    rows = list(itertools.product((0, 1), repeat=target.n_inputs))
    assert inputs.tolist() == [list(row) for row in rows]
    assert outputs.tolist() == [by_hand(name, row) for row in rows]
    assert inputs.dtype == outputs.dtype == np.uint8
    assert not inputs.flags.writeable
    assert not outputs.flags.writeable
    assert target.name == name
    assert published(name) is target
    assert f"{target.n_outputs} outputs)" in repr(target)


def test_f_and_g_bit_by_bit() -> None:
    single = published("single").truth_table()[1][:, 0]
    assert single.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0]
    both = published("overlap_4_use_1").truth_table()[1]
    assert both[:, 0].tolist() == single.tolist()
    assert both[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "ones"),
    [
        ("separable", [8, 8, 8, 8]),
        ("reuse_1", [2, 2]),
        ("separable_reused", [28, 28, 28]),
        ("single", [3, 3, 3, 3]),
        ("overlap_0_use_1", [48, 48]),
        ("overlap_4_use_1", [3, 3]),
        ("levels_use_1", [39, 39]),
    ],
)
def test_counts_of_ones(name: str, ones: list[int]) -> None:
    assert published(name).truth_table()[1].sum(axis=0).tolist() == ones


def test_reused_is_reuse_8() -> None:
    assert replace(published("reused"), name="reuse_8") == published("reuse_8")


@pytest.mark.parametrize("name", published_names())
def test_outputs_depend_on_the_support_of_what_they_show_and_on_nothing_else(name: str) -> None:
    target = published(name)
    outputs = target.truth_table()[1].reshape((2,) * target.n_inputs + (-1,))
    for shown, column in zip(target.shown, range(target.n_outputs), strict=True):
        table = outputs[..., column]
        matters = [position for position in range(target.n_inputs) if np.diff(table, axis=position).any()]
        assert tuple(matters) == target.input_support(shown)


N_MODULES = {"separable": 2, "reused": 3, "separable_reused": 6, "single": 1}
N_MODULES |= {f"reuse_{u}": 3 for u in USES} | {f"levels_use_{u}": 5 for u in USES}
N_MODULES |= {f"overlap_{v}_use_{u}": n for v, n in enumerate((2, 5, 5, 5, 3)) for u in USES}


@pytest.mark.parametrize(("name", "n_modules"), N_MODULES.items())
def test_expected_modules(name: str, n_modules: int) -> None:
    target = published(name)
    modules = target.expected_modules()
    assert len(modules) == n_modules
    # Every input, output and sub-function is in one module.
    assert sorted(i for module in modules for i in module.inputs) == list(range(target.n_inputs))
    assert sorted(i for module in modules for i in module.outputs) == list(range(target.n_outputs))
    assert sorted(n for module in modules for n in module.sub_functions) == sorted(s.name for s in target.sub_functions)
    # The modules respect the partitions.
    for group in target.input_partition():
        assert sum(bool(set(group) & set(module.inputs)) for module in modules) == 1


def test_expected_modules_of_overlaps() -> None:
    assert published("overlap_0_use_1").expected_modules() == (
        ExpectedModule(inputs=(0, 1, 2, 3), sub_functions=("F",), outputs=(0,)),
        ExpectedModule(inputs=(4, 5, 6, 7), sub_functions=("G",), outputs=(1,)),
    )
    assert published("overlap_3_use_2").expected_modules() == (
        ExpectedModule(inputs=(0,)),
        ExpectedModule(inputs=(1, 2, 3)),
        ExpectedModule(inputs=(4,)),
        ExpectedModule(sub_functions=("F",), outputs=(0, 2)),
        ExpectedModule(sub_functions=("G",), outputs=(1, 3)),
    )


def test_expected_modules_of_shallow_networks() -> None:
    levels = published("levels_use_4")
    assert levels.expected_modules(1) == levels.expected_modules(2)
    assert [(m.inputs, m.sub_functions, len(m.outputs)) for m in levels.expected_modules(2)] == [
        ((0, 1, 2, 3), ("f",), 0),
        ((4, 5, 6, 7), ("g",), 0),
        ((), ("M",), 8),
    ]
    assert levels.expected_modules(3) == levels.expected_modules()
    assert published("reuse_4").expected_modules(1) == ()
    assert len(published("reuse_4").expected_modules(2)) == 3
    assert levels.at_depth(3) is levels
    shallow = levels.at_depth(2)
    assert shallow is levels.shallow
    assert shallow is not None
    assert shallow.truth_table()[1].tolist() == levels.truth_table()[1].tolist()


def test_partitions() -> None:
    assert published("levels_use_1").input_partition() == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert published("reuse_2").input_partition() == ((0, 1, 2, 3),)
    assert published("reuse_2").output_partition() == ((0, 2), (1, 3))
    assert published("separable_reused").input_partition() == ((0, 1), (2, 3), (4, 5))
    assert published("separable_reused").output_partition() == ((0,), (1,), (2,))
    assert published("overlap_4_use_1").input_partition() == ((0, 1, 2, 3),)
    assert published("levels_use_1").output_reach("f") == (0, 1)
    assert published("levels_use_1").levels()["M"] == 2


def chain(*shown: str) -> FunctionGraph:
    subs = [
        SubFunction("first", ["a", "b"], function="and"),
        SubFunction("second", ["first"], function="not"),
        SubFunction("third", ["second", "c"], function="or"),
    ]
    return FunctionGraph(name="chain", inputs=["a", "b", "c"], sub_functions=subs, outputs=shown)


def test_chains_that_feed_only_each_other_are_one_module() -> None:
    assert [(m.inputs, m.sub_functions) for m in chain("third").expected_modules()] == [
        ((0, 1), ("first", "second")),
        ((2,), ()),
        ((), ("third",)),
    ]
    # A sub-function that an output shows doesn't join its reader.
    shown = chain("third", "first").expected_modules()
    assert [m.sub_functions for m in shown] == [("first",), (), ("second",), ("third",)]


def test_values_of_sub_functions() -> None:
    values = published("levels_use_1").values([[1, 1, 0, 0, 0, 0, 0, 0]])
    assert {name: bits.tolist() for name, bits in values.items()} == {
        "f": [[1]],
        "g": [[0]],
        "M": [[1, 0]],
        "f_not_g": [[1]],
        "g_not_f": [[0]],
    }


def test_callables_of_several_kinds() -> None:
    target = FunctionGraph(
        name="mixed",
        inputs=["a", "b", "c"],
        sub_functions=[
            SubFunction("ufunc", ["a", "b"], function=np.logical_xor),
            SubFunction("many", ["a", "b", "c"], function=lambda *bits: np.sum(bits, axis=0) >= 2),
            SubFunction("pair", ["many", "ufunc"], function=lambda a, b: (a & b, a.astype(bool)), n_outputs=2),
        ],
        outputs=["~pair.0", "pair.1"],
    )
    a, b, c = target.truth_table()[0].T.astype(int)
    majority = (a + b + c >= 2).astype(int)
    assert target.truth_table()[1].T.tolist() == [(1 - (majority & (a ^ b))).tolist(), majority.tolist()]


def test_twenty_inputs_are_the_limit_of_a_truth_table() -> None:
    def parity(n_inputs: int) -> FunctionGraph:
        names = [f"x{i}" for i in range(n_inputs)]
        return FunctionGraph(
            name="parity", inputs=names, sub_functions=[SubFunction("P", names, function="xor")], outputs=["P"]
        )

    inputs, outputs = parity(20).truth_table()
    assert inputs.shape == (2**20, 20)
    assert outputs.sum() == 2**19
    with pytest.raises(ValueError, match=r"`inputs` must be at most 20 for a truth table \(got 21\)"):
        parity(21).truth_table()
    assert parity(21).evaluate(np.ones((1, 21))).tolist() == [[1]]


def test_published_functions_can_be_pickled() -> None:
    target = published("levels_use_2")
    assert pickle.loads(pickle.dumps(target)) == target


GATES: dict[str, Callable[[list[int]], int]] = {
    "identity": lambda bits: bits[0],
    "not": lambda bits: 1 - bits[0],
    "and": lambda bits: int(all(bits)),
    "or": lambda bits: int(any(bits)),
    "xor": lambda bits: sum(bits) % 2,
    "nand": lambda bits: 1 - int(all(bits)),
    "nor": lambda bits: 1 - int(any(bits)),
    "xnor": lambda bits: 1 - sum(bits) % 2,
}


@given(gate_graphs())
@settings(max_examples=60, deadline=None)
def test_the_truth_table_is_the_recursive_evaluation(target: FunctionGraph) -> None:
    subs = {sub.name: sub for sub in target.sub_functions}

    def value(name: str, row: dict[str, int]) -> int:
        if name in row:
            return row[name]
        function = subs[name].function
        assert isinstance(function, str)
        return GATES[function]([value(parent, row) for parent in subs[name].parents])

    for inputs, outputs in zip(*target.truth_table(), strict=True):
        row = dict(zip(target.inputs, inputs.tolist(), strict=True))
        expected = [value(ref.removeprefix("~"), row) ^ ref.startswith("~") for ref in target.outputs]
        assert outputs.tolist() == expected


@given(gate_graphs())
@settings(max_examples=60, deadline=None)
def test_supports_levels_and_modules_of_any_graph(target: FunctionGraph) -> None:
    level = target.levels()
    modules = target.expected_modules()
    for sub in target.sub_functions:
        above = [level[parent] for parent in sub.parents if parent in level]
        assert level[sub.name] == 1 + max(above, default=0)
        parts = [set(target.input_support(p)) if p in level else {target.inputs.index(p)} for p in sub.parents]
        assert set(target.input_support(sub.name)) == set().union(*parts)
        assert target.output_reach(sub.name)
    flat = [name for module in modules for name in module.sub_functions]
    assert sorted(flat) == sorted(level)
    assert sorted(i for module in modules for i in module.inputs) == list(range(target.n_inputs))
    outputs = sorted(i for module in modules for i in module.outputs)
    assert outputs == list(range(target.n_outputs))


XOR = SubFunction("P", ["a", "b"], function="xor")


def build(**changes: Any) -> FunctionGraph:
    """A valid graph, with some of its fields changed."""
    return FunctionGraph(**{"name": "t", "inputs": ["a", "b"], "sub_functions": [XOR], "outputs": ["P"], **changes})


def subs(*more: tuple[str, list[str]], function: str = "and") -> list[SubFunction]:
    return [XOR, *(SubFunction(name, parents, function=function) for name, parents in more)]


BAD_GRAPHS: list[tuple[dict[str, Any], str]] = [
    ({"inputs": []}, r"`inputs` must be a non-empty sequence of str \(got \[\]\)"),
    ({"inputs": "ab"}, r"`inputs` must be a non-empty sequence of str \(got 'ab'\)"),
    ({"inputs": ["a", "b", "a"]}, r"must have different names \(got 'a' twice\)"),
    ({"inputs": ["a", "b", "P"]}, r"must have different names \(got 'P' twice\)"),
    ({"inputs": ["a", "b", "~c"]}, r"`inputs` must be a non-empty str without '\.' or a leading '~' \(got '~c'\)"),
    ({"inputs": ["a", "b", "c"]}, r"`inputs` must all be read \(got 'c', which no sub-function reads\)"),
    ({"sub_functions": []}, r"`sub_functions` must hold at least one SubFunction \(got none\)"),
    ({"sub_functions": ["P"]}, r"`sub_functions` must hold SubFunction objects \(got 'P'\)"),
    ({"sub_functions": [XOR, XOR]}, r"must have different names \(got 'P' twice\)"),
    ({"sub_functions": subs(("Q", ["P", "bee"]))}, r"`parents` of `Q` must name inputs or sub-functions \(got 'bee'"),
    ({"sub_functions": subs(("Q", ["P", "P.1"]))}, r"`parents` of `Q` must name a bit of `P`, 0 to 0 \(got 'P\.1'\)"),
    ({"sub_functions": subs(("Q", ["P", "a"]))}, r"must all be used \(got 'Q', on which no output depends\)"),
    ({"sub_functions": subs(("Q", ["P"])), "outputs": ["Q"]}, r"`parents` of `Q` must be as many .* takes \(got 1\)"),
    (
        {"sub_functions": subs(("Q", ["a", "b"]), function="not"), "outputs": ["P", "Q"]},
        r"`parents` of `Q` must be as many bits as `not` takes \(got 2\)",
    ),
    ({"outputs": []}, r"`outputs` must be a non-empty sequence of str"),
    ({"outputs": ["Q"]}, r"`outputs` must name inputs or sub-functions \(got 'Q'\)"),
    ({"outputs": ["P", "~a"]}, r"`outputs` must show sub-functions, not inputs \(got '~a'\)"),
    ({"min_hidden": -1}, r"`min_hidden` must be an int ≥ 0 \(got -1\)"),
    ({"shallow": published("single")}, r"`shallow` must have 2 inputs and 1 outputs \(got FunctionGraph\('single'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_GRAPHS)
def test_bad_graphs_raise_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value)


def test_a_cycle_is_named_in_the_error() -> None:
    loop = subs(("Q", ["R", "a"]), ("R", ["Q", "b"]))
    with pytest.raises(ValueError, match=r"no cycle \(got (Q → R → Q|R → Q → R)\)"):
        build(sub_functions=loop, outputs=["P", "Q"])


@pytest.mark.parametrize(
    ("function", "n_outputs", "message"),
    [
        (lambda a: a, 1, r"`parents` of `Q` must be as many bits as `<lambda>` takes \(got 2\)"),
        (np.logical_not, 1, r"`parents` of `Q` must be as many bits as `logical_not` takes \(got 2\)"),
        (lambda a, b: ~(a & b), 1, r"`function` of `Q` must give 0 or 1 \(got 25[45]; not a is 1 - a\)"),
        (lambda a, b: a + b, 1, r"`function` of `Q` must give 0 or 1 \(got 2;"),
        (lambda a, b: (a + b) / 2, 1, r"`function` of `Q` must give 0 or 1 \(got 0\.5;"),
        (lambda *bits: len(bits) - 1, 1, r"`function` of `Q` must give 1 × 4 bits \(got \(\)\)"),
        (lambda a, b: (a, b), 1, r"`function` of `Q` must give 1 × 4 bits \(got \(2, 4\)\)"),
        (lambda *bits: bits[0], 2, r"`function` of `Q` must give 2 × 4 bits \(got \(4,\)\)"),
        (lambda a, b: (a, b[1:]), 2, r"`function` of `Q` must give 2 × 4 bits"),
    ],
)
def test_bad_callables_raise_one_sentence(function: Callable[..., Any], n_outputs: int, message: str) -> None:
    outputs = ["P", "Q.0"] if n_outputs > 1 else ["P", "Q"]
    with pytest.raises(ValueError, match=message):
        build(
            sub_functions=[XOR, SubFunction("Q", ["a", "b"], function=function, n_outputs=n_outputs)], outputs=outputs
        )


def test_callables_cannot_change_their_arguments() -> None:
    def or_in_place(a: Any, b: Any) -> Any:
        a |= b
        return a

    with pytest.raises(ValueError, match="read-only"):
        build(sub_functions=[SubFunction("P", ["a", "b"], function=or_in_place)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, r"`name` must be a non-empty str without '\.' or a leading '~' \(got ''\)"),
        ({"name": "a.b"}, r"`name` must be .* \(got 'a\.b'\)"),
        ({"parents": []}, r"`parents` of `P` must be a non-empty sequence of str \(got \[\]\)"),
        ({"n_outputs": 0}, r"`n_outputs` of `P` must be an int ≥ 1 \(got 0\)"),
        ({"function": "xorr"}, r"`function` of `P` must be a callable or a gate \(got 'xorr'; nearest: xor"),
        ({"function": 3}, r"`function` of `P` must be a callable or a gate \(got 3\)"),
    ],
)
def test_bad_sub_functions_raise_one_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubFunction(**{"name": "P", "parents": ["a", "b"], "function": "xor", **fields})


def test_several_bits_must_be_shown_one_by_one() -> None:
    with pytest.raises(ValueError, match=r"`outputs` must show one bit each, as in 'H\.0' \(got '~H'\)"):
        replace(published("reuse_1"), outputs=["~H", "A"])


def test_bad_arguments_of_methods() -> None:
    target = published("separable")
    with pytest.raises(ValueError, match=r"`inputs` must have shape \(n_samples, 4\) \(got \(4,\)\)"):
        target.evaluate([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"`inputs` must be 0 or 1 \(got 2\)"):
        target.values([[0, 1, 0, 2]])
    for method in (target.readers, target.input_support, target.output_reach):
        with pytest.raises(ValueError, match=r"`name` must name inputs or sub-functions \(got 'R'\)"):
            method("R")


def test_the_error_for_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"`name` must be a published function \(got 'seperable'; nearest: separable"):
        published("seperable")


def test_fixed_sub_functions_have_the_values_given() -> None:
    target = published("levels_use_1")
    rows = target.truth_table()[0]
    f, g = (target.values(rows)[name][:, 0] for name in "fg")
    fixed = target.evaluate(rows, fixed={"f": 1 - f[:, None]})
    assert fixed.tolist() == np.column_stack([(1 - f) & (1 - g), f & g]).tolist()
    assert target.values(rows, fixed={"f": 1 - f[:, None]})["f"][:, 0].tolist() == (1 - f).tolist()
    for name, shape in (("f", (256, 2)), ("x0", (256, 1))):
        with pytest.raises(ValueError, match=rf"`fixed` must map sub-functions .* \(got '{name}'"):
            target.values(rows, fixed={name: np.zeros(shape)})
