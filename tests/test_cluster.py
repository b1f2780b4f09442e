from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from modgraph.arrays import BoolArray, IntArray
from modgraph.cluster import published_linkage, tied_linkage
from modgraph.cluster.tree import published_tree, tied_tree
from tests.refit import modularity, refit_clusters


@st.composite
def rows(draw: st.DrawFn, max_rows: int = 9) -> BoolArray:
    """Boolean rows without empty ones, as reachability gives them."""
    n_rows, n_columns = draw(st.integers(2, max_rows)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = rng.random((n_rows, n_columns)) < draw(st.sampled_from([0.2, 0.5, 0.8]))
    features[np.arange(n_rows), rng.integers(n_columns, size=n_rows)] = True
    return features


def same_partition(one: IntArray, two: IntArray) -> bool:
    return bool(adjusted_rand_score(one, two) == 1.0)


# Rows for which both tests hold, with scores so close that any change of their formulas turns the choice.
CLOSE = [
    ["001011001", "011000111", "010000000"],
    ["000010000000", "011010100100", "111111011101"],
    ["01001100000", "00000110010", "10011001110", "01100010110"],
    ["0000000000001", "0010100100000", "0111000000111", "0101001111010"],
    ["011001100111", "111100111110", "000001001000"],
    ["101", "111", "011"],
]


def matrix(lines: list[str]) -> BoolArray:
    return np.array([[digit == "1" for digit in line] for line in lines])


@settings(max_examples=300)
@given(rows())
@example(matrix(CLOSE[0]))
@example(matrix(CLOSE[1]))
@example(matrix(CLOSE[2]))
def test_published_equals_a_new_fit_for_every_k(features: BoolArray) -> None:
    assert same_partition(published_linkage(features), refit_clusters(features))


@given(rows())
def test_modularity_curve_equals_the_definition(features: BoolArray) -> None:
    overlap = features.astype(int) @ features.T.astype(int)
    distinct = np.unique(features, axis=0)
    trees = [(features, published_tree(overlap))]
    if len(distinct) > 1:
        trees.append((distinct, tied_tree(distinct.astype(int) @ distinct.T.astype(int), np.ones(len(distinct), int))))
    for points, tree in trees:
        counts, curve = tree.modularity_curve()
        assert counts[0] == len(points)
        assert counts[-1] == 1
        for step, (count, value) in enumerate(zip(counts, curve, strict=True)):
            labels = tree.cut(step)
            assert len(np.unique(labels)) == count
            assert value == pytest.approx(modularity(points, labels), abs=2e-8)


@given(rows())
def test_copies_are_what_repeated_rows_would_be(features: BoolArray) -> None:
    distinct, inverse, counts = np.unique(features, axis=0, return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        return
    tree = tied_tree(distinct.astype(int) @ distinct.T.astype(int), counts)
    _, curve = tree.modularity_curve()
    for step, value in enumerate(curve):
        assert value == pytest.approx(modularity(features, tree.cut(step)[inverse]), abs=2e-8)


@settings(max_examples=300)
@given(rows(), st.integers(0, 2**32 - 1))
def test_linkage_does_not_depend_on_the_order_of_rows_or_columns(features: BoolArray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order, columns = rng.permutation(len(features)), rng.permutation(features.shape[1])
    assert same_partition(tied_linkage(features)[order], tied_linkage(features[order][:, columns]))


@given(rows())
def test_both_trees_agree_where_nothing_is_tied(features: BoolArray) -> None:
    overlap = features.astype(int) @ features.T.astype(int)
    one = published_tree(overlap)
    heights = np.array(one.between)
    norms = np.sqrt(np.diag(overlap))
    distances = 1 - (overlap / np.outer(norms, norms))[np.triu_indices(len(features), 1)]
    gaps = np.diff(np.sort(np.concatenate([distances, [0.0]])))
    if gaps.size and gaps.min() > 1e-6 and heights.size > 1:
        assert same_partition(tied_linkage(features), published_linkage(features))


def test_rows_in_a_symmetric_tie_share_a_fate() -> None:
    # 1 and 2 are equally near to 0 and mirror images of each other: no rule can tell them apart.
    features = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=bool)
    labels = tied_linkage(features)
    assert labels[1] == labels[2] or len(set(labels.tolist())) == 4


def test_perfect_blocks_are_found() -> None:
    blocks = np.kron(np.eye(4, dtype=bool), np.ones((3, 5), dtype=bool))
    for method in (tied_linkage, published_linkage):
        assert same_partition(method(blocks), np.repeat(np.arange(4), 3))


def test_equal_rows_are_one_cluster() -> None:
    features = np.ones((5, 3), dtype=bool)
    for method in (tied_linkage, published_linkage):
        assert len(np.unique(method(features))) == 1


def test_features_are_not_changed() -> None:
    features = np.array([[1, 0], [0, 1], [1, 1]], dtype=bool)
    before = features.copy()
    for method in (tied_linkage, published_linkage):
        method(features)
    assert (features == before).all()


@pytest.mark.parametrize("method", [tied_linkage, published_linkage])
def test_bad_arguments_get_one_sentence(method: object) -> None:
    assert callable(method)
    with pytest.raises(ValueError, match="`features` must be a matrix without empty rows"):
        method(np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match=r"`modularity_threshold` must be a number in \[0, 1\] \(got 2\)"):
        method(np.ones((2, 2), dtype=bool), modularity_threshold=2)


def test_a_hundred_thousand_copies_cluster_as_a_hundred_do() -> None:
    kinds = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0]], dtype=bool)
    few, many = (tied_linkage(np.repeat(kinds, copies, axis=0))[::copies] for copies in (100, 40_000))
    assert same_partition(few, many)


def test_an_overlap_as_large_as_expected_by_chance_counts_as_separate() -> None:
    # Any two rows share one of four columns and have two each: as many as chance gives them, 2 · 2 / 4.
    features = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)
    assert len(np.unique(published_linkage(features))) == 3
    features = np.array([[0, 1, 0, 1, 0, 0], [1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1]], dtype=bool)
    assert len(np.unique(tied_linkage(features))) == 3


def test_rows_without_a_common_column_are_separate() -> None:
    # All pairs are at the same distance: what decides is counted in arrays, not pair by pair.
    assert len(np.unique(tied_linkage(np.eye(600, dtype=bool)))) == 600


@pytest.mark.parametrize(("lines", "n_clusters"), [*zip(CLOSE, [1, 3, 1, 1, 3, 1], strict=True)])
def test_the_higher_score_decides_between_one_cluster_and_all_separate(lines: list[str], n_clusters: int) -> None:
    # Each is also what the scores say, computed by hand: z = (overlap − expected) / √(n p (1 − p)).
    assert len(np.unique(tied_linkage(matrix(lines)))) == n_clusters


def test_a_curve_at_the_threshold_decides_alone() -> None:
    features = np.kron(np.eye(4, dtype=bool), np.ones((3, 5), dtype=bool))
    features[:2, 5] = features[3:5, 10] = True  # no longer perfect: a threshold of 1 leaves it to the two tests
    overlap = features.astype(int) @ features.T.astype(int)
    lowest = min(published_tree(overlap).modularity_curve()[1])
    assert len(np.unique(published_linkage(features, modularity_threshold=-lowest))) == 4
    assert same_partition(refit_clusters(features, modularity_threshold=-lowest), np.repeat(np.arange(4), 3))


def test_rows_all_equally_near_stay_separate_where_no_test_holds() -> None:
    # Any two rows share the last column, more than by chance; each shares less than by chance with the others' union.
    features = matrix(["00011", "00101", "01001"])
    assert len(np.unique(tied_linkage(features))) == 3


@pytest.mark.parametrize("method", [tied_linkage, published_linkage])
def test_one_row_is_one_cluster(method: Callable[..., IntArray]) -> None:
    assert method([[1, 0, 1]]).tolist() == [0]
