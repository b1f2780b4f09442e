from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy
from sklearn.metrics import adjusted_rand_score

from modgraph.cluster.coclusters import _readers, _tree, _valley, best_groups, best_modularity, co_clusters
from tests.test_by_influence import modularity


def test_co_clusters_take_the_number_that_stands_out() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 4, 12):
        truth = np.kron(np.eye(k), np.ones((3, 8))) + 0.3 * rng.random((3 * k, 8 * k))
        shuffled = [rng.permutation(truth.ravel()).reshape(truth.shape) for _ in range(19)]
        found = co_clusters(truth, shuffled)
        assert found.n_groups == k
        assert adjusted_rand_score(found.input_group, np.repeat(np.arange(k), 8)) == 1


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_the_best_modularity_is_nearly_that_of_trying_all_partitions(shape: tuple[int, int]) -> None:
    reached = []
    for seed in range(6):
        influence = np.random.default_rng(seed).normal(size=shape) ** 3
        best = 0.0
        for rows in itertools.product(range(3), repeat=shape[0]):
            member = np.array(rows) == np.arange(3)[:, None]
            # Given the groups of the rows, each column is best where it adds most.
            shares = np.abs(influence) / np.abs(influence).sum(axis=1, keepdims=True)
            columns = (member @ (shares - shares.mean(axis=0))).argmax(axis=0)
            best = max(best, modularity(influence, rows, columns))
        found, inside = best_modularity(influence)
        three = best_groups(influence, 3)
        assert modularity(influence, *three) <= found + 1e-12
        if max(*three[0], *three[1]) == 2 and modularity(influence, *three) == pytest.approx(found):
            assert inside == pytest.approx(shares[three[0][:, None] == three[1]].sum() / shape[0])
        reached.append(found / best)
    assert np.mean(reached) > 0.9


def test_rows_and_columns_without_influence_do_not_count() -> None:
    blocks = np.kron(np.eye(2), np.ones((4, 8))).astype(np.float64)
    wide = np.zeros((10, 18))
    wide[1:9, 1:17] = blocks
    assert best_modularity(wide) == best_modularity(blocks) == (0.5, 1.0)
    assert best_modularity(np.ones((1, 4))) == (0.0, 1.0)
    assert best_modularity(np.zeros((3, 3))) == (0.0, 1.0)
    shuffled = [np.random.default_rng(seed).permutation(wide.ravel()).reshape(wide.shape) for seed in range(19)]
    found = co_clusters(wide, shuffled)
    assert found.output_group.tolist() == [-1, *[0] * 4, *[1] * 4, -1]
    assert found.input_group.tolist() == [-1, *[0] * 8, *[1] * 8, -1]
    assert found.input_share.sum(axis=1).tolist() == [0, *[1] * 16, 0]
    assert found.reads.tolist() == [[True, False], [False, True]]
    assert (found.modularity, found.p_value, found.n_shuffled) == (0.5, 0.05, 19)


def test_the_modularity_is_compared_with_that_of_shuffled_networks() -> None:
    rng = np.random.default_rng(1)
    influence = np.kron(np.eye(2), np.ones((3, 8))) + 0.6 * rng.random((6, 16))
    shuffled = [rng.permutation(influence.ravel()).reshape(influence.shape) for _ in range(19)]
    found = co_clusters(influence, shuffled)
    assert found.n_groups == 2
    assert found.modularity == pytest.approx(modularity(influence, found.output_group, found.input_group))
    # At most two groups: one makes no Q.
    expected = np.mean([max(0.0, modularity(other, *best_groups(other, 2))) for other in shuffled])
    assert found.expected == pytest.approx(expected)
    shares = np.abs(influence) / influence.sum(axis=1, keepdims=True)
    means = np.array([shares[found.output_group == group].mean(axis=0) for group in range(2)])
    assert found.input_share == pytest.approx((means / means.sum(axis=0)).T)
    # A shuffled network beside the others: no more than chance, and one group.
    chance = co_clusters(shuffled[0], shuffled[1:])
    assert chance.p_value > 1 / 19
    assert chance.n_groups == 1
    assert chance.input_share.tolist() == [[1.0]] * 16
    assert chance.output_group.tolist() == [0] * 6


def test_p_values_count_the_networks_that_stand_out_as_much() -> None:
    blocks = np.kron(np.eye(2), np.ones((4, 4))).astype(np.float64) + 0.1
    rng = np.random.default_rng(0)
    even = [rng.permutation(blocks.ravel()).reshape(8, 8) for _ in range(7)]
    order = np.arange(8) % 2 * 4 + np.arange(8) // 2
    found = co_clusters(blocks, [*even, blocks[order], blocks[:, order]])
    assert found.p_value == pytest.approx(3 / 10)
    assert found.n_groups == 1
    assert co_clusters(blocks, even).p_value == pytest.approx(1 / 8)
    assert co_clusters(blocks, even).n_groups == 2


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_the_first_groups_are_those_of_wards_tree(shape: tuple[int, int]) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(shape[1]), size=shape[0])
    mean = shares.mean(axis=0)
    points = (shares - mean) / np.sqrt(mean) / shape[0]
    # Rows, or columns where they are fewer.
    expected = scipy.cluster.hierarchy.linkage(points if shape[0] < shape[1] else points.T, "ward")
    assert _tree(shares) == pytest.approx(expected)


def test_two_kinds_of_values_are_told_apart_only_where_a_valley_is_clear() -> None:
    assert _valley(np.array([0.9, 0.02, 0.91, 0.0, 0.92, 0.01])) == pytest.approx((0.02 + 0.9) / 2)
    assert _valley(np.array([0.2, 0.2, 0.6])) == pytest.approx(0.4)
    assert _valley(np.array([0.5, 0.5, 0.5])) == np.inf
    assert _valley(np.linspace(0, 1, 9)) == np.inf
    # Two kinds of three at distance d with standard deviation 0.1 (4 degrees of freedom): 4.5 of them are needed.
    kind = np.array([-1, 0, 1]) * 0.1
    for distance, limit in ((0.44, np.inf), (0.46, 0.23)):
        assert _valley(np.concatenate([kind, kind + distance])) == pytest.approx(limit)


def test_outputs_that_read_several_groups_are_groups_of_their_own() -> None:
    # Inputs 0–2 and 3–5; three outputs of each group, then three that read both, one of them a little unevenly.
    one, two, both = [1, 1, 1, 0.01, 0, 0], [0, 0.01, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0.9]
    shares = np.array([one] * 3 + [two] * 3 + [both, both, [1, 1, 1, 0.8, 0.9, 0.9]])
    shares /= shares.sum(axis=1, keepdims=True)
    own, inputs = np.array([0] * 3 + [1] * 3 + [0, 0, 0]), np.array([0, 0, 0, 1, 1, 1])
    group, reads = _readers([shares], own, inputs, 2)
    assert group.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert reads.tolist() == [[True, False], [False, True], [True, True]]
    # Two such outputs are too few to tell.
    group, reads = _readers([shares[:-1]], own[:-1], inputs, 2)
    assert group.tolist() == own[:-1].tolist()
    assert reads.tolist() == [[True, False], [False, True]]
    # Measured twice, the mean counts: in the second, the last three read one group.
    group, _ = _readers([shares, np.concatenate([shares[:6], shares[:3]])], own, inputs, 2)
    assert group.tolist() == own.tolist()
