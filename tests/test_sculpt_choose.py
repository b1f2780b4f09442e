"""Rules of choice and the vote, on hand-drawn networks whose cones and modules can be counted on paper."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgraph import LayeredDAG, detect_modules
from modgraph.functions import published, published_names
from modgraph.reach import reachability
from modgraph.sculpt import (
    SculptedNetwork,
    by_consensus,
    consensus,
    fewest_edges,
    least_contradicting,
    sculpt,
    smallest_cones,
    with_confidence,
)
from modgraph.sculpt.choose import chosen_networks, hierarchy_key, n_cones
from modgraph.sculpt.contradictions import dependence, n_contradictions
from tests.strategies import masks as some_masks

# Four inputs, four hidden units, two outputs. Apart: each output reads its own half; 12 edges × 4 cones = 48.
APART = ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], [[1, 1, 0, 0], [0, 0, 1, 1]])
# Mixed: three units that feed both outputs; 14 edges × 6 cones = 84; a fourth unit is not used.
MIXED = ([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], [[1, 1, 1, 0], [1, 1, 1, 0]])
# Sparse: one unit that reads every input and feeds both outputs; 6 edges × 2 cones = 12.
SPARSE = ([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [[1, 0, 0, 0], [1, 0, 0, 0]])


def network(drawn: tuple[list[list[int]], ...], **fields: float) -> SculptedNetwork:
    masks = tuple(np.array(layer, dtype=bool) for layer in drawn)
    weights = tuple(mask.astype(np.float32) for mask in masks)
    biases = tuple(mask.any(axis=1).astype(np.float32) for mask in masks)
    chosen = {"seed": 0, "unit_step": 50.0, "edge_step": 2.0, "accuracy": 1.0, **fields}
    return SculptedNetwork(masks=masks, weights=weights, biases=biases, accepted=True, **chosen)  # type: ignore[arg-type]


@given(some_masks())
def test_cones_are_what_hidden_units_reach(drawn: list[np.ndarray]) -> None:
    masks = [mask.astype(bool) for mask in drawn]
    dag = LayeredDAG.from_masks(masks)
    fed = np.zeros(dag.n_units, dtype=bool)
    fed[reachability(dag, 0).toarray().any(axis=0)] = True
    reached = reachability(dag, dag.n_layers - 1, direction="inwards").toarray()
    hidden = (dag.layer > 0) & (dag.layer < dag.n_layers - 1)
    assert n_cones(masks) == reached[:, hidden & fed].sum()


def test_a_trial_has_one_vote_however_many_networks_it_has() -> None:
    found = consensus([[network(APART)], [network(APART)], [network(MIXED)] * 9])
    assert found is not None
    assert found.hierarchy.n_modules == 2
    assert found.share == pytest.approx(2 / 3)
    assert (found.n_found, found.n_trials) == (2, 3)
    ((other, share),) = found.runners_up
    assert other.n_modules == 1
    assert share == pytest.approx(1 / 3)
    assert str(found) == "found in 2 of 3 trials, with 67 % of the votes"


def test_only_networks_with_a_low_cost_vote() -> None:
    trial = [network(APART), network(MIXED), network(MIXED)]
    strict, loose = consensus([trial]), consensus([trial], close=0.8)
    assert strict is not None
    assert loose is not None
    assert strict.network is trial[0]
    assert strict.share == 1
    assert loose.network is trial[1]
    assert loose.share == pytest.approx(2 / 3)


def test_the_network_of_a_consensus_shows_it_best() -> None:
    two_edges_more = ([*APART[0][:3], [1, 1, 1, 1]], [*APART[1]])
    plain, dense = network(APART), network(two_edges_more, unit_step=70.0)
    found = consensus([[dense], [plain, network(APART, accuracy=0.5)]])
    assert found is not None
    assert found.network is plain


def test_a_tie_goes_to_the_lower_cost_whatever_the_order() -> None:
    trials = [[network(MIXED)], [network(APART)]]
    for some in (trials, trials[::-1]):
        found = consensus(some)
        assert found is not None
        assert (found.hierarchy.n_modules, found.share) == (2, 0.5)


def test_no_network_no_consensus() -> None:
    assert consensus([]) is None
    assert consensus([[], []]) is None
    found = consensus([[], [network(APART)]])
    assert found is not None
    assert found.n_trials == 1


@given(st.permutations(range(4)), st.sampled_from([APART, MIXED, SPARSE]))
def test_the_order_of_hidden_units_changes_nothing(order: list[int], drawn: tuple[list[list[int]], ...]) -> None:
    first, last = (np.array(layer) for layer in drawn)
    other = network((first[order].tolist(), last[:, order].tolist()))
    one = network(drawn)
    assert hierarchy_key(one.hierarchy) == hierarchy_key(other.hierarchy)
    assert n_cones(one.masks) == n_cones(other.masks)
    found = consensus([[one], [other]])
    assert found is not None
    assert found.share == 1


def test_an_input_that_was_removed_is_not_one_that_is_alone() -> None:
    apart = detect_modules(LayeredDAG.from_masks([[[1, 0, 0], [0, 0, 1]], [[1, 0], [0, 1]]]))
    kept = detect_modules(LayeredDAG.from_masks([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]]]))
    three = detect_modules(LayeredDAG.from_masks([[[1, 0], [0, 1]], [[1, 0], [0, 1]]]))
    assert hierarchy_key(apart) == hierarchy_key(kept)
    assert hierarchy_key(apart) != hierarchy_key(three)


def test_rules_by_name() -> None:
    trial = [network(SPARSE, unit_step=20.0), network(APART), network(MIXED)]
    assert chosen_networks([trial], "fewest_edges") == [fewest_edges(trial)] == [trial[0]]
    assert chosen_networks([trial, trial[1:]], "smallest_cones") == [trial[0], trial[1]]
    assert chosen_networks([trial], lambda some: some[2]) == [trial[2]]
    with pytest.raises(ValueError, match=r"`choose` must be one of .* or a callable \(got 'best'\)"):
        sculpt(([[0], [1]], [[0], [1]]), hidden=(2,), choose="best")


def test_trials_choose_what_they_agree_on_if_they_have_it() -> None:
    first, second = [network(APART), network(MIXED)], [network(MIXED), network(APART), network(SPARSE)]
    third, fourth = [network(APART)], [network(SPARSE), network(MIXED)]
    # `first` and `third` vote for two modules, the others for one. With two votes each, the lower cost wins: one.
    assert by_consensus([first, second, third]) == [first[0], second[1], third[0]]
    assert by_consensus([first, second, third, fourth]) == [first[1], second[2], third[0], fourth[0]]
    assert chosen_networks([first, second, third], "consensus") == [first[0], second[1], third[0]]


def test_ties_of_cones_go_to_fewer_edges() -> None:
    fewer = ([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], APART[1])
    trial = [network(APART), network(fewer)]
    assert smallest_cones(trial) is trial[1]


def test_sculpt_returns_what_its_networks_agree_on() -> None:
    table = ([[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]])
    out = sculpt(table, hidden=(8,), seeds=[0, 1, 2], unit_steps=[50, 25], edge_steps=[10])
    assert out.consensus is not None
    again = consensus([[c for c in out.candidates if c.seed == seed and c.accepted] for seed in (0, 1, 2)])
    assert again is not None
    assert again.network is out.consensus.network
    assert repr(out.consensus) in repr(out)
    assert out.consensus.network in out.candidates
    hopeless = sculpt(table, hidden=(1,), seeds=[0], unit_steps=[50], edge_steps=[10])
    assert hopeless.consensus is None


def halves(rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """x0 xor x1 and x2 and x3, as a complete table with its rows in any order."""
    inputs = np.array(list(product([0, 1], repeat=4)))
    if rng is not None:
        inputs = rng.permutation(inputs)
    return inputs, np.column_stack([inputs[:, 0] ^ inputs[:, 1], inputs[:, 2] & inputs[:, 3]])


def test_networks_that_contradict_the_function_are_left_out() -> None:
    apart, mixed, sparse = network(APART), network(MIXED), network(SPARSE)
    assert least_contradicting([[sparse, apart, mixed], [mixed], []], function=halves()) == [[apart], [mixed], []]
    # Parity of all inputs, twice: every input matters to both outputs, and the outputs are opposite.
    inputs, _ = halves()
    parity = inputs.sum(axis=1) % 2
    kept = least_contradicting([[sparse, apart, mixed]], function=(inputs, np.column_stack([parity, 1 - parity])))
    assert kept == [[sparse, mixed]]


def test_contradictions_are_counted_in_pairs() -> None:
    known = dependence(halves(np.random.default_rng(0)))
    assert known is not None

    def count(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
        return n_contradictions((inputs, outputs, 0), known, hidden_layers=1)

    assert count((0, 0, 1, 1), (0, 1)) == 0
    assert count((0, 1, 2, 2), (0, 1)) == 1
    assert count((0, 0, 0, 1), (0, 1)) == 2 + 1
    assert count((0, 0, 0, 0), (0, 0)) == 4 + 1
    assert count((0, -1, 0, -1), (0, 1)) == 1


def test_outputs_are_apart_where_there_is_room_for_units_of_their_own() -> None:
    inputs = np.random.default_rng(1).permutation(np.array(list(product([0, 1], repeat=4))))
    a, b, c, d = inputs.T
    outputs = np.column_stack(
        [(a ^ b) & c, (a ^ b) | c, 1 - ((a ^ b) & c), (a & b) ^ c, (a ^ b ^ c) & d, (a ^ b) & c & d]
    )
    known = dependence((inputs, outputs))
    assert known is not None
    never = np.iinfo(np.int64).max
    # The first two read the same operands, a ^ b and c: one layer for a ^ b, one that they share, one of their own.
    # The fourth shares nothing with them. The last two depend on d, too, and share a ^ b.
    expected = [
        [never, 3, never, 1, 1, 1],
        [3, never, 3, 1, 1, 1],
        [never, 3, never, 1, 1, 1],
        [1, 1, 1, never, 1, 1],
        [1, 1, 1, 1, never, 2],
        [1, 1, 1, 1, 2, never],
    ]
    assert known.layers.tolist() == expected
    for hidden_layers, number in ((2, 0), (3, 1)):
        found = ((0, 0, 0, 0), (0, 0, 0, 1, 2, 3), 0)
        # Outputs 0 and 2 are opposite; 1 differs from both.
        assert n_contradictions(found, known, hidden_layers=hidden_layers) == 2 * number + 3  # and d apart from a, b, c


def test_an_incomplete_table_says_nothing() -> None:
    inputs, outputs = halves()
    assert dependence((inputs[1:], outputs[1:])) is None
    assert dependence((np.vstack([inputs[1:], inputs[1]]), outputs)) is None
    assert dependence((inputs + np.arange(16)[:, None], outputs)) is None
    trial = [network(APART), network(SPARSE)]
    assert least_contradicting([trial], function=(inputs[1:], outputs[1:])) == [trial]


def test_confidence_falls_where_the_table_has_other_modules() -> None:
    """The modules of the network hold a, b and c, d; the votes are two of three."""
    agreed = consensus([[network(APART)], [network(APART)], [network(MIXED)]])
    assert agreed is not None
    assert agreed.confidence == agreed.share == pytest.approx(2 / 3)
    inputs, outputs = halves(np.random.default_rng(0))
    a, b, c, d = inputs.T
    for other, confidence in (
        (outputs, 2 / 3),
        (np.column_stack([a ^ b, (a ^ b) & c & d]), 2 / 9),  # the same inputs, another number of modules
        (np.column_stack([a ^ c, b & d]), 2 / 9),
        (np.column_stack([a ^ b, a ^ b]), 2 / 9),  # c and d change nothing
        (np.zeros((16, 2)), 2 / 3),  # says nothing
    ):
        with_table = with_confidence(agreed, function=(inputs, other))
        assert with_table.confidence == pytest.approx(confidence)
        assert with_table.share == agreed.share
    assert with_confidence(agreed, function=(inputs[1:], outputs[1:])).confidence == agreed.share


@pytest.mark.parametrize("name", published_names())
def test_no_published_hierarchy_contradicts_its_function(name: str) -> None:
    target = published(name)
    known = dependence(target.truth_table())
    assert known is not None

    def labels(partition: Iterable[Collection[int]]) -> tuple[int, ...]:
        label_of = {unit: number for number, part in enumerate(partition) for unit in part}
        return tuple(label_of[unit] for unit in sorted(label_of))

    for hidden_layers in (1, 2, 3, 4):
        if (graph := target.at_depth(hidden_layers)) is not None:
            key = (labels(graph.input_partition()), labels(graph.output_partition()), 0)
            assert n_contradictions(key, known, hidden_layers=hidden_layers) == 0
