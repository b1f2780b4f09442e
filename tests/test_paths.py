import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph import LayeredDAG, paths
from tests.strategies import dags, permuted


def exact_counts(dag: LayeredDAG) -> tuple[list[int], list[int]]:
    """Paths from inputs to each unit, and from each unit to outputs, in Python integers."""
    inwards = [int(level == 0) for level in dag.layer]
    outwards = [int(level == dag.n_layers - 1) for level in dag.layer]
    for source, target in dag.edges.tolist():
        inwards[target] += inwards[source]
    for source, target in reversed(dag.edges.tolist()):
        outwards[source] += outwards[target]
    return inwards, outwards


def assert_exact(dag: LayeredDAG) -> None:
    inwards, outwards = exact_counts(dag)
    total = sum(count for count, level in zip(inwards, dag.layer, strict=True) if level == dag.n_layers - 1)
    found = paths(dag)
    if total == 0:
        assert found.total_log == -math.inf
        assert not found.unit_centrality.any()
        assert not found.edge_centrality.any()
        return
    assert found.total_log == pytest.approx(math.log(total), rel=1e-12, abs=1e-12)
    units = [float(Fraction(a * b, total)) for a, b in zip(inwards, outwards, strict=True)]
    edges = [float(Fraction(inwards[a] * outwards[b], total)) for a, b in dag.edges.tolist()]
    assert found.unit_centrality.tolist() == pytest.approx(units, rel=1e-12)
    assert found.edge_centrality.tolist() == pytest.approx(edges, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(dags(max_units=7))
def test_counts_equal_python_integers(dag: LayeredDAG) -> None:
    assert_exact(dag)


def test_a_thousand_layers_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    dag = LayeredDAG.from_masks([rng.random((12, 12)) < 0.5 for _ in range(1000)])
    edges = np.concatenate([dag.edges, [[0, 12 * 700], [5, 12 * 1000 + 3], [12 * 300, 12 * 900]]])
    skipping = LayeredDAG.from_edges(edges, layer=dag.layer)
    assert paths(skipping).total_log > 1000
    assert_exact(skipping)


def test_few_paths_in_and_many_out_are_not_lost() -> None:
    """A unit with one path in and 2¹⁵⁰⁰ out, beside units with many in and one out."""
    doubling = [np.ones((2, 2))] * 1500
    wide = LayeredDAG.from_masks(doubling)
    late, early = wide.n_units - 1, 0
    # An input that jumps to the end, another end that leaves from the beginning.
    edges = np.concatenate([wide.edges, [[early, late]]])
    assert_exact(LayeredDAG.from_edges(edges, layer=wide.layer))


def waist(inputs: int, width: int) -> LayeredDAG:
    sizes = [inputs, 30, width, 30, inputs]
    return LayeredDAG.from_masks([np.ones((b, a)) for a, b in itertools.pairwise(sizes)])


def test_a_planted_waist_is_the_core() -> None:
    rng = np.random.default_rng(0)
    sizes = [60, 40, 8, 40, 60]
    masks = [rng.random((b, a)) < (1 if 8 in (a, b) else 0.2) for a, b in itertools.pairwise(sizes)]
    dag = LayeredDAG.from_masks(masks).trim()
    core = paths(dag).core(0.9)
    assert core.units.tolist() == np.flatnonzero(dag.layer == 2).tolist()
    assert core.share == pytest.approx(1.0)
    assert paths(dag).hourglass > 0.7


def test_hourglass_is_zero_without_a_waist() -> None:
    dag = LayeredDAG.from_masks([np.ones((20, 5)), np.ones((9, 20))])
    assert paths(dag).core().units.tolist() == [0, 1, 2, 3, 4]
    assert paths(dag).hourglass == 0.0
    assert paths(waist(20, 4)).hourglass == 1 - 4 / 20


def test_of_units_passed_by_the_same_paths_the_earliest_counts() -> None:
    chain = LayeredDAG.from_masks([np.ones((1, 6)), [[1]], [[1]], np.ones((6, 1))])
    assert paths(chain).core().units.tolist() == [6]
    two = LayeredDAG.from_masks([np.kron(np.eye(2), mask) for mask in (np.ones((1, 6)), [[1]], np.ones((6, 1)))])
    assert paths(two).core().units.tolist() == [12, 13]
    assert paths(two).hourglass == 1 - 2 / 12


def greedy(dag: LayeredDAG, tau: float) -> set[int]:
    """The same core by listing all paths."""
    ends: list[tuple[int, ...]] = [(unit,) for unit in range(dag.n_units) if dag.layer[unit] == 0]
    every = []
    while ends:
        path = ends.pop()
        if dag.layer[path[-1]] == dag.n_layers - 1:
            every.append(path)
        ends += [(*path, int(target)) for target in dag.targets[dag.sources == path[-1]]]
    left = list(every)
    chosen: set[int] = set()
    while every and len(every) - len(left) < tau * len(every):
        counts = np.bincount([unit for path in left for unit in path])
        most = np.flatnonzero(counts == counts.max())
        best = set(most[dag.layer[most] == dag.layer[most[0]]].tolist())
        chosen |= best
        left = [path for path in left if not best & set(path)]
    return chosen


@settings(max_examples=60, deadline=None)
@given(dags(max_units=5), st.sampled_from([0.3, 0.9, 1.0]))
def test_core_equals_the_greedy_one_of_listed_paths(dag: LayeredDAG, tau: float) -> None:
    assert set(paths(dag).core(tau).units.tolist()) == greedy(dag, tau)


@settings(max_examples=40, deadline=None)
@given(dags(max_units=6), st.integers(0, 2**32 - 1))
def test_unit_order_does_not_matter(dag: LayeredDAG, seed: int) -> None:
    other, place = permuted(dag, np.random.default_rng(seed))
    one, two = paths(dag), paths(other)
    assert one.total_log == pytest.approx(two.total_log)
    assert one.unit_centrality.tolist() == pytest.approx(two.unit_centrality[place].tolist())
    assert sorted(place[one.core().units].tolist()) == two.core().units.tolist()
    assert one.hourglass == pytest.approx(two.hourglass)


@pytest.mark.parametrize("tau", [0, 1.5, True, "all"])
def test_a_share_that_is_none_is_named(tau: float) -> None:
    with pytest.raises(ValueError, match=r"`tau` must be a number in \(0, 1\] \(got "):
        paths(waist(3, 2)).core(tau)
