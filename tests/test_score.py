from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from modgraph import LayeredDAG, ModuleHierarchy
from modgraph.functions import FunctionGraph, SubFunction, published, published_names
from modgraph.score import Criteria, Score, _follows_levels, criteria, reference_labels, score
from tests.networks import needs_published, published_dag, published_index
from tests.strategies import gate_graphs


def hierarchy(dag: LayeredDAG, labels: ArrayLike) -> ModuleHierarchy:
    """The hierarchy with the given labels, renumbered without gaps."""
    given_labels = np.asarray(labels)
    result = np.full(dag.n_units, -1, dtype=np.int64)
    kept = given_labels >= 0
    result[kept] = np.unique(given_labels[kept], return_inverse=True)[1]
    return ModuleHierarchy(dag=dag, labels=result, cluster_labels=result)


def ideal(target: FunctionGraph, levels: list[int]) -> tuple[LayeredDAG, list[int]]:
    """A network that shows its function: two units for each value that a layer of that level must hold.

    `levels` gives the level of each hidden layer. Returns the graph and the true labels.
    """
    level, depth = target.levels(), max(target.levels().values())
    modules = target.expected_modules(len(levels))
    module_of = {n: i for i, m in enumerate(modules) for n in m.sub_functions}
    module_of |= {target.inputs[p]: i for i, m in enumerate(modules) for p in m.inputs}
    parents = {s.name: {p.split(".")[0] for p in s.parents} for s in target.sub_functions}
    last_level = {n: depth if n in target.shown else max(level[r] - 1 for r in target.readers(n)) for n in level}
    layers = [list(target.inputs)]
    layers += [2 * [n for n in level if level[n] <= at <= last_level[n]] for at in levels]
    layers.append(list(target.shown))
    masks = [
        [[one == two or (two not in before and one in parents[two]) for one in before] for two in after]
        for before, after in itertools.pairwise(layers)
    ]
    return LayeredDAG.from_masks(masks), [module_of[name] for layer in layers for name in layer]


def hidden_levels(target: FunctionGraph) -> list[list[int]]:
    depth = max(target.levels().values())
    every = list(range(1, depth + 1))
    deeper = [[1, *every], [*every, depth]]
    return [every, *deeper] + ([every[:-1]] if target.min_hidden < depth else [])


@pytest.mark.parametrize("name", published_names())
def test_an_ideal_network_is_exact(name: str) -> None:
    target = published(name)
    for levels in hidden_levels(target):
        dag, labels = ideal(target, levels)
        found = hierarchy(dag, labels)
        result = score(found, target)
        assert result.inputs
        assert result.hidden
        assert result.outputs
        assert result.exact
        assert result.ari == result.ami == 1
        assert result.layer_ari == result.layer_ami == (1,) * dag.n_layers
        assert result.n_modules == result.expected_modules == len(target.expected_modules())
        assert [match.sub_function for match in result.matching] == [sub.name for sub in target.sub_functions]
        assert {match.similarity for match in result.matching} == {1}
        for match in result.matching:
            module = next(m for m in target.expected_modules() if match.sub_function in m.sub_functions)
            units = found.modules[match.module].units
            outputs = units[units >= dag.n_units - target.n_outputs] - (dag.n_units - target.n_outputs)
            assert tuple(outputs) == module.outputs


@given(gate_graphs())
def test_a_hierarchy_scored_against_itself_is_exact(target: FunctionGraph) -> None:
    dag, labels = ideal(target, list(range(1, max(target.levels().values()) + 1)))
    result = score(hierarchy(dag, labels), target)
    assert result.inputs
    assert result.outputs
    assert result.exact
    assert result.n_modules == result.expected_modules == len(target.expected_modules())


def test_one_misplaced_unit_changes_the_score() -> None:
    target = published("separable")
    dag, labels = ideal(target, [1, 1])
    assert repr(score(hierarchy(dag, labels), target)) == "Score(exact; 2 modules of 2, ari 1.000)"
    for unit, broken in ((0, "inputs"), (5, "nothing"), (dag.n_units - 1, "outputs")):
        moved = [*labels]
        moved[unit] = 1 - moved[unit]
        result = score(hierarchy(dag, moved), target)
        assert result.ari < 1
        assert result.ami < 1
        assert result.layer_ari[dag.layer[unit]] < 1
        right = {name for name in ("inputs", "hidden", "outputs") if getattr(result, name)}
        assert right == {"inputs", "hidden", "outputs"} - {broken}
        # A hidden unit in the wrong module changes neither inputs, outputs nor the number of modules.
        assert result.exact == (broken == "nothing")
    more = [*labels]
    more[5] = 2
    result = score(hierarchy(dag, more), target)
    assert repr(result).startswith("Score(right: inputs, outputs; 3 modules of 2, ari 0.")


def test_a_lost_input_is_not_right() -> None:
    dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [0, 0, 1, 0]], [[1, 0], [1, 0], [0, 1], [0, 1]]])
    result = score(hierarchy(dag, [0, 0, 1, -1, 0, 1, 0, 0, 1, 1]), published("separable"))
    assert not result.inputs
    assert not result.exact
    assert result.outputs
    assert result.ari == 1


def test_nothing_is_expected_of_too_few_hidden_layers() -> None:
    target = published("reuse_2")
    dag = LayeredDAG.from_masks([np.ones((3, 4)), np.ones((4, 3))])
    result = score(hierarchy(dag, [0, 0, 0, 0, 1, 1, 1, 2, 3, 2, 3]), target)
    assert result.inputs
    assert result.outputs
    assert not result.exact
    assert result.expected_modules is None
    assert repr(result).startswith("Score(right: inputs, hidden, outputs; 4 modules of None, ari ")


def test_shallow_networks_of_levels() -> None:
    target = published("levels_use_2")
    assert target.shallow is not None
    dag, labels = ideal(target.shallow, [1, 2])
    result = score(hierarchy(dag, labels), target)
    assert result.exact
    assert result.expected_modules == 3
    assert result.ari == 1
    assert not score(hierarchy(dag, [*labels[:-1], 3]), target).outputs


def test_overlaps_are_judged_by_their_hidden_layers() -> None:
    target = published("overlap_3_use_1")
    dag, labels = ideal(target, [1, 1])
    assert score(hierarchy(dag, labels), target).exact
    other = np.array(labels)
    other[dag.layer == 2] += 10  # two labels in every hidden layer, but not the same two
    result = score(hierarchy(dag, other), target)
    assert result.inputs
    assert result.outputs
    assert not result.hidden
    assert not result.exact
    # The number of modules doesn't matter.
    merged = np.where(np.array(labels) == 0, 3, labels)
    result = score(hierarchy(dag, merged), target)
    assert result.exact
    assert result.n_modules == 4


@pytest.mark.parametrize(
    ("layers", "held", "right"),
    [
        ([], [1], True),
        ([{0}], [1], True),
        ([{0, 1}], [1], False),
        ([{0}, {1}], [1], False),
        ([{0}, {1, 2}], [1, 2], True),
        ([{0}, {0}, {1, 2}, {1, 2}], [1, 2], True),
        ([{1, 2}, {0}], [1, 2], False),
        ([{1, 2}], [1, 2], True),
        ([{0, 1}, {2, 3}], [2, 1, 2], True),
        ([{0, 1}, {2}, {3, 4}], [2, 1, 2], True),
        ([{0, 1}, {2}, {3, 4}, {5, 6}], [2, 1, 2], False),
        ([set()], [1], False),
    ],
)
def test_hidden_layers_follow_levels(layers: list[set[int]], held: list[int], right: bool) -> None:
    assert _follows_levels(layers, held) == right


def test_units_equally_similar_to_several_sub_functions_get_a_further_label() -> None:
    target = published("overlap_4_use_1")
    # Units for F, for G, and two that serve both alike.
    dag = LayeredDAG.from_masks([np.ones((4, 4)), [[1, 0, 1, 1], [0, 1, 1, 1]]])
    assert reference_labels(dag, target).tolist() == [0, 0, 0, 0, 1, 2, 3, 3, 1, 2]
    # A unit that trimming removes gets −1.
    dag = LayeredDAG.from_masks([np.ones((4, 4)), [[1, 0, 1, 0], [0, 1, 1, 0]]])
    assert reference_labels(dag, target).tolist() == [0, 0, 0, 0, 1, 2, 3, -1, 1, 2]


def test_values_that_later_levels_need_are_held() -> None:
    target = FunctionGraph(
        name="relay",
        inputs=["a", "b", "c", "d"],
        sub_functions=[
            SubFunction("P", ["a", "b"], function="xor"),
            SubFunction("Q", ["c", "d"], function="xor"),
            SubFunction("R", ["P", "Q"], function="and"),
        ],
        outputs=["R", "P"],
    )
    dag, labels = ideal(target, [1, 2])
    assert dag.layer_sizes == (4, 4, 4, 2)
    assert score(hierarchy(dag, labels), target).exact


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("separable_reused", r"`target` must have the 4 inputs of the network \('separable_reused' has 6\)"),
        ("reuse_1", r"`target` must have the 4 outputs of the network \('reuse_1' has 2\)"),
    ],
)
def test_the_target_must_fit_the_network(name: str, message: str) -> None:
    dag, labels = ideal(published("separable"), [1])
    with pytest.raises(ValueError, match=message):
        score(hierarchy(dag, labels), published(name))
    with pytest.raises(ValueError, match=message):
        reference_labels(dag, published(name))


def permuted(dag: LayeredDAG, order: np.ndarray[Any, np.dtype[np.int64]]) -> LayeredDAG:
    """The same graph, where unit i is what unit ``order[i]`` was."""
    return LayeredDAG.from_edges(np.argsort(order)[dag.edges], layer=dag.layer[order])


@given(st.sampled_from(published_names()), st.data())
@settings(max_examples=40, deadline=None)
def test_permuted_units_and_renumbered_labels_get_the_same_score(name: str, data: st.DataObject) -> None:
    target = published(name)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = [target.n_inputs, *rng.integers(2, 6, size=rng.integers(1, 4)), target.n_outputs]
    dag = LayeredDAG.from_masks([rng.random((two, one)) < 0.5 for one, two in itertools.pairwise(sizes)])
    labels = np.where(dag.on_path(), rng.integers(0, 5, size=dag.n_units), -1)
    order = np.arange(dag.n_units)
    for layer in range(1, dag.n_layers - 1):
        order[dag.layer == layer] = rng.permutation(order[dag.layer == layer])
    renamed = np.where(labels >= 0, rng.permutation(5)[labels], -1)

    def comparable(result: Score) -> tuple[Any, ...]:
        pairs = [(match.sub_function, match.similarity) for match in result.matching]
        return (*astuple(replace(result, matching=(), ami=0, layer_ami=())), pairs)

    before = score(hierarchy(dag, labels), target)
    after = score(hierarchy(permuted(dag, order), renamed[order]), target)
    assert comparable(before) == comparable(after)
    assert after.ami == pytest.approx(before.ami)
    assert np.array_equal(reference_labels(dag, target)[order] < 0, reference_labels(permuted(dag, order), target) < 0)


# --- the published networks with their recorded labels ----------------------------------------------------------------

INPUTS = [(36, 36, 36, 36, 36), (35, 36, 36, 36, 36), (33, 36, 36, 36, 36), (23, 26, 28, 32, 31), (34, 34, 36, 36, 32)]
OUTPUTS = [(36, 36, 36, 36, 36), (36, 36, 36, 36, 36), (35, 36, 36, 36, 36), (21, 21, 25, 24, 26), (9, 11, 16, 19, 22)]
HIDDEN = [(36, 36, 36, 36, 36), (36, 36, 36, 36, 36), (36, 36, 36, 36, 36), (0, 0, 1, 2, 2), (0, 0, 2, 6, 6)]


def published_cells() -> dict[tuple[str, str, int | None], tuple[int, int]]:
    """(function, criterion, hidden layers or None for all) → (published successes, trials)."""
    cells: dict[tuple[str, str, int | None], tuple[int, int]] = {}
    for name in ("separable", "single", "separable_reused"):
        cells[name, "exact", None] = (36, 36)
    # `reused` with the usual three widths is the cell u = 8 of reuse_u.
    cells |= {("reused", "exact", depth): (n, 12) for depth, n in ((1, 0), (2, 12), (3, 11))}
    rates: list[tuple[str, int, tuple[float, ...]]] = [
        ("reuse_{}", 1, (0, 0, 0, 0)),
        ("reuse_{}", 2, (0.58, 0.92, 1, 1)),
        ("reuse_{}", 3, (0.67, 0.75, 0.83, 0.83)),
        ("levels_use_{}", 2, (-1, 1, 1, 1, 0.83)),
        ("levels_use_{}", 3, (-1, 0.50, 0.83, 1, 1)),
        ("levels_use_{}", 4, (-1, 0.75, 0.92, 1, 1)),
    ]
    for name, depth, row in rates:
        for use, rate in zip((1, 2, 4, 6, 8), row, strict=False):
            if rate >= 0:
                cells[name.format(use), "exact", depth] = (round(12 * rate), 12)
    for criterion, table in (("inputs", INPUTS), ("outputs", OUTPUTS), ("hidden", HIDDEN)):
        for shared, counts in enumerate(table):
            for use, count in zip((1, 2, 4, 6, 8), counts, strict=True):
                cells[f"overlap_{shared}_use_{use}", criterion, None] = (count, 36)
    return cells


Trials = dict[tuple[str, tuple[int, ...], int], list[ModuleHierarchy]]


@pytest.fixture(scope="module")
def recorded() -> Trials:
    """Hierarchies of the recorded labels, by trial: (function, layer sizes, seed)."""
    trials: Trials = defaultdict(list)
    for entry in published_index():
        dag = published_dag(entry)
        labels = np.full(dag.n_units, -1)
        labels[np.setdiff1d(np.arange(dag.n_units), entry["removed_units"])] = entry["reference_labels"]
        trials[entry["function"], tuple(entry["layer_sizes"]), entry["seed"]].append(hierarchy(dag, labels))
    return trials


@pytest.fixture(scope="module")
def recorded_criteria(recorded: Trials) -> dict[tuple[str, tuple[int, ...], int], list[Criteria]]:
    """The paper's criteria alone, which take a twentieth of the time of `score`."""
    return {trial: [criteria(found, published(trial[0])) for found in every] for trial, every in recorded.items()}


@needs_published
def test_published_rates(recorded_criteria: dict[tuple[str, tuple[int, ...], int], list[Criteria]]) -> None:
    """Complete cells have the published rate; in the others the sample leaves room for it.

    Some trials ended with networks of equally few edges; they succeed if one of those does.
    """
    complete = 0
    for (name, criterion, depth), (successes, trials) in published_cells().items():
        won = [
            any(getattr(result, criterion) for result in results)
            for (function, sizes, _), results in recorded_criteria.items()
            if function == name and depth in (None, len(sizes) - 2) and (name != "reused" or max(sizes[1:-1]) >= 24)
        ]
        place = f"{name}, {criterion}, {depth} hidden layers: {sum(won)} of {len(won)}, published {successes}"
        assert won, place
        assert sum(won) <= successes, place
        assert len(won) - sum(won) <= trials - successes, place
        complete += len(won) == trials
    assert complete == 6


@needs_published
def test_reused_in_narrow_networks(
    recorded_criteria: dict[tuple[str, tuple[int, ...], int], list[Criteria]],
) -> None:
    won = defaultdict(list)
    for (function, sizes, _), (result, *_more) in recorded_criteria.items():
        if function == "reused" and len(sizes) > 3:
            won[sizes[1]].append(result.exact)
    assert {width: sum(results) for width, results in won.items()} == {8: 3, 12: 4, 16: 4, 20: 3, 24: 8, 36: 8, 48: 7}
    # Two narrow widths, 12 and 16, give the published 97 %; all seven give 37 of 40.
    counted = [result for width in (12, 16, 24, 36, 48) for result in won[width]]
    assert (sum(counted), len(counted)) == (31, 32)


@needs_published
def test_exact_networks_match_their_reference(recorded: Trials) -> None:
    first = {(name, sizes): seed for name, sizes, seed in reversed(recorded)}  # one trial of each function and size
    for (name, sizes), seed in first.items():
        target = published(name)
        for found in recorded[name, sizes, seed]:
            if not criteria(found, target).exact:
                continue
            result = score(found, target)
            assert {match.similarity for match in result.matching} == {1}
            assert len(result.matching) == len(target.at_depth(len(result.layer_ari) - 2).sub_functions)  # type: ignore[union-attr]
            if not name.startswith("levels"):  # where a hidden layer may still carry f and g
                assert result.ari == pytest.approx(1) or name == "reused"
