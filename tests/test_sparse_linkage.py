from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from modgraph import LayeredDAG
from modgraph.cluster import sparse
from modgraph.cluster.sparse import LayerTree, layer_tree, similarity_graph
from modgraph.cluster.tree import MergeTree
from modgraph.planted import planted_modules
from modgraph.reach import reachability
from tests.strategies import dags, permuted


def same_tree(one: MergeTree, two: MergeTree) -> None:
    """Both trees have the same cuts, at the same heights."""
    assert one.n_steps == two.n_steps
    for step in range(one.n_steps + 1):
        assert adjusted_rand_score(one.cut(step), two.cut(step)) == 1.0
    counts, curve = one.modularity_curve()
    other_counts, other_curve = two.modularity_curve()
    assert counts == other_counts
    assert curve == pytest.approx(other_curve, abs=3e-8)
    if len(two.closest):  # the sparse graph knows no pairs that have nothing in common
        pairs = ({frozenset(pair) for pair in tree.closest.tolist()} for tree in (one, two))
        assert next(pairs) == next(pairs)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 60),
    st.integers(2, 30),
    st.sampled_from([0.05, 0.1, 0.3, 0.6]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_sparse_and_dense_trees_are_the_same(
    n_rows: int, n_columns: int, density: float, regular: bool, seed: int
) -> None:
    numbers = np.random.default_rng(seed).random((n_rows, n_columns))
    # Rows with two columns each have few different similarities, so most of them are tied.
    rows = csr_array(numbers.argsort(axis=1) < 2 if regular else numbers < density)
    distinct, row_of, copies = sparse._distinct(rows)
    assert (distinct.toarray()[row_of] == rows.toarray()).all()
    assert len(np.unique(rows.toarray(), axis=0)) == distinct.shape[0] == len(copies)
    if len(copies) > 1:
        dense = sparse._dense_tree((distinct.astype(np.int64) @ distinct.T.astype(np.int64)).toarray(), copies)
        thin = sparse._sparse_tree(distinct, copies)
        assert dense is not None
        assert thin is not None
        same_tree(dense, thin)


@settings(max_examples=50, deadline=None)
@given(dags(), st.integers(1, 4), st.sampled_from(["outwards", "inwards", "both"]))
def test_packed_rows_give_the_same_tree(dag: LayeredDAG, hops: int, direction: str) -> None:
    forwards = dag.adjacency
    steps = {"outwards": [forwards], "inwards": [forwards.T.tocsr()], "both": [forwards, forwards.T.tocsr()]}[direction]
    start, stop = dag.layer_starts[:2].tolist()
    found = layer_tree(dag, 0, hops=hops, direction=direction)
    packed = sparse._packed_tree(steps, start, stop, hops=hops)
    assert packed is not None
    assert adjusted_rand_score(found.row_of, packed[1]) == 1.0
    assert (found.tree is None) == (packed[0] is None)
    if found.tree is not None and packed[0] is not None:
        for step in range(found.tree.n_steps + 1):
            assert adjusted_rand_score(found.tree.cut(step)[found.row_of], packed[0].cut(step)[packed[1]]) == 1.0


@settings(max_examples=50, deadline=None)
@given(dags(), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_unit_order_does_not_matter(dag: LayeredDAG, hops: int, seed: int) -> None:
    other, place = permuted(dag, np.random.default_rng(seed))
    one, two = layer_tree(dag, 1, hops=hops), layer_tree(other, 1, hops=hops)
    start, stop = dag.layer_starts[1:3].tolist()
    where = place[start:stop] - start
    if one.tree is None or two.tree is None:
        assert one.tree is None
        assert two.tree is None
        return
    assert one.tree.n_steps == two.tree.n_steps
    for step in range(one.tree.n_steps + 1):
        assert adjusted_rand_score(one.tree.cut(step)[one.row_of], two.tree.cut(step)[two.row_of][where]) == 1.0


def test_rows_are_what_is_reached_either_way() -> None:
    dag, _ = planted_modules([30, 30, 30, 30], n_modules=3, random_state=0)
    found = layer_tree(dag, 1, hops=2)
    rows = reachability(dag, 1, hops=2) + reachability(dag, 1, hops=2, direction="inwards")
    assert adjusted_rand_score(found.row_of, np.unique(rows.toarray(), axis=0, return_inverse=True)[1]) == 1.0


def big_layer() -> LayerTree:
    dag, _ = planted_modules([4000, 4000, 4000], n_modules=125, fan_out=3, rewired=0.1, random_state=0)
    return layer_tree(dag.trim(), 0, hops=2)


def test_large_layers_use_the_sparse_graph_without_a_cap() -> None:
    found = big_layer()
    assert found.tree is not None
    assert found.tree.n_rows > sparse.DENSE_ROWS
    assert (found.hops, found.left_out, found.capped) == (2, 0, False)


def test_the_cap_first_shortens_the_reach_then_leaves_out_common_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "DENSE_ROWS", 100)
    monkeypatch.setattr(sparse, "DENSE_LIMIT", 100)
    monkeypatch.setattr(sparse, "FREE_STEPS", 1)
    monkeypatch.setattr(sparse, "STEPS_PER_ROW", 40)
    found = big_layer()
    assert (found.hops, found.left_out, found.capped) == (1, 0, True)
    monkeypatch.setattr(sparse, "STEPS_PER_ROW", 5)
    found = big_layer()
    assert found.capped
    assert found.hops == 1
    assert found.left_out > 0


@pytest.mark.parametrize("skips", [False, True])
def test_rows_that_surely_cost_too_much_are_not_made(monkeypatch: pytest.MonkeyPatch, skips: bool) -> None:
    for name, value in {"DENSE_ROWS": 100, "DENSE_LIMIT": 100, "FREE_STEPS": 1, "STEPS_PER_ROW": 40}.items():
        monkeypatch.setattr(sparse, name, value)
    dag, _ = planted_modules([600] * 4, n_modules=20, fan_out=4, rewired=0.05, random_state=0)
    if skips:
        edges = np.concatenate([dag.edges, [[unit, unit + 1200] for unit in range(600)]])
        dag = LayeredDAG.from_edges(edges, layer=dag.layer)
    answers: list[bool] = []
    is_costly = sparse._surely_costly

    def noting(*arguments: Any) -> bool:
        answers.append(is_costly(*arguments))
        return answers[-1]

    monkeypatch.setattr(sparse, "_surely_costly", noting)
    found = sparse.layer_trees(dag, range(4), hops=2)
    assert any(answers)
    monkeypatch.setattr(sparse, "_surely_costly", lambda *_: False)
    for one, two in zip(found, sparse.layer_trees(dag, range(4), hops=2), strict=True):
        assert (one.hops, one.left_out, one.capped) == (two.hops, two.left_out, two.capped)
        assert one.row_of.tolist() == two.row_of.tolist()
        assert one.tree is not None
        assert two.tree is not None
        assert one.tree.pairs.tolist() == two.tree.pairs.tolist()


def test_overlaps_of_full_matrices_and_of_sparse_ones_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = csr_array(np.random.default_rng(0).random((40, 300)) < 0.3)
    full = sparse._overlaps(rows)
    monkeypatch.setattr(sparse, "DENSE_ENTRIES", 0)
    assert full.tolist() == sparse._overlaps(rows).tolist() == (rows.toarray().astype(int) @ rows.toarray().T).tolist()


def test_threads_give_the_same_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    dag, _ = planted_modules([200] * 5, n_modules=8, fan_out=4, rewired=0.1, random_state=0)
    alone = sparse.layer_trees(dag, range(5), hops=2)
    monkeypatch.setattr(sparse, "THREAD_EDGES", 0)
    for one, two in zip(alone, sparse.layer_trees(dag, range(5), hops=2), strict=True):
        assert one.tree is not None
        assert two.tree is not None
        assert one.tree.pairs.tolist() == two.tree.pairs.tolist()


def test_full_rows_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "FULL_ENTRIES", 0)
    dag, _ = planted_modules([60, 60, 60, 60], n_modules=2, rewired=0.2, random_state=0)
    packed = layer_tree(dag, 0, hops=3)
    monkeypatch.undo()
    lists = layer_tree(dag, 0, hops=3)
    assert not packed.capped
    assert packed.left_out == 0
    assert packed.hops == lists.hops == 3
    assert packed.tree is not None
    assert lists.tree is not None
    for step in range(packed.tree.n_steps + 1):
        labels = (found.tree.cut(step)[found.row_of] for found in (packed, lists) if found.tree is not None)
        assert adjusted_rand_score(next(labels), next(labels)) == 1.0


# The graph of similar rows, and the limits of its size


def test_similar_units_are_those_with_a_column_in_common() -> None:
    dag, _ = planted_modules([20, 15, 20], n_modules=3, fan_out=2, rewired=0.2, random_state=0)
    for direction in ("outwards", "inwards", "both"):
        for hops in (1, 2):
            found = similarity_graph(dag, 1, hops=hops, direction=direction)
            rows = np.zeros((15, dag.n_units), dtype=bool)
            for way in ("outwards", "inwards") if direction == "both" else (direction,):
                rows |= reachability(dag, 1, hops=hops, direction=way).toarray()
            rows[np.arange(15), dag.layer_starts[1] + np.arange(15)] = False
            units = rows.astype(int)
            distinct = [units[found.row_of == row][0] for row in range(len(found.copies))]
            assert found.copies.tolist() == np.bincount(found.row_of).tolist()
            assert len(np.unique(distinct, axis=0)) == len(distinct)
            assert (np.array(distinct)[found.row_of] == units).all()
            cosine = {
                (one, two): distinct[one] @ distinct[two] / np.sqrt(distinct[one].sum() * distinct[two].sum())
                for one in range(len(distinct))
                for two in range(one + 1, len(distinct))
                if distinct[one] @ distinct[two]
            }
            assert not found.capped
            assert sorted(map(tuple, found.pairs.tolist())) == sorted(cosine)
            for pair, value in zip(found.pairs.tolist(), found.cosine.tolist(), strict=True):
                assert value == pytest.approx(cosine[pair[0], pair[1]], abs=1e-8)


def four_rows() -> csr_array:
    """Four rows of three columns, which 2, 3 and 1 of them have: 2² + 3² + 1² steps find 4 pairs, each twice."""
    return csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]], dtype=bool))


def test_as_many_steps_and_pairs_as_the_limit_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**limits: float) -> bool:
        for name in ("STEPS_PER_ROW", "PAIRS_PER_ROW", "FREE_STEPS"):
            monkeypatch.setattr(sparse, name, limits.get(name, 0))
        return sparse._similarities(four_rows(), np.ones(4, dtype=int)) is not None

    assert found(STEPS_PER_ROW=14 / 4, PAIRS_PER_ROW=8 / 4)
    assert not found(STEPS_PER_ROW=13 / 4, PAIRS_PER_ROW=8 / 4)
    assert not found(STEPS_PER_ROW=14 / 4, PAIRS_PER_ROW=7 / 4)
    assert found(FREE_STEPS=14)
    assert not found(FREE_STEPS=13)
    assert found(FREE_STEPS=13, STEPS_PER_ROW=14 / 4)


def test_similarities_are_summed_over_copies() -> None:
    found = sparse._similarities(four_rows(), np.array([1, 2, 3, 4]))
    assert found is not None
    starts, others, similarity, one = found
    rows, copies = four_rows().toarray().astype(int), np.array([1, 2, 3, 4])
    assert starts.tolist() == [0, 3, 4, 6, 8]
    for row in range(4):
        for place in range(starts[row], starts[row + 1]):
            other = others[place]
            cosine = rows[row] @ rows[other] / np.sqrt(rows[row].sum() * rows[other].sum())
            assert similarity[place] / one == pytest.approx(cosine * copies[row] * copies[other], abs=1e-7)


def test_sparser_rows_are_tried_until_they_are_affordable() -> None:
    one_hop = csr_array(np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1]], dtype=bool))
    more = csr_array(np.ones((4, 4), dtype=bool))

    def affordable(most: int) -> tuple[list[list[bool]], int, int]:
        rows, used, left_out = sparse._affordable([one_hop, more], lambda rows: rows if rows.nnz <= most else None)
        return rows.toarray().tolist(), used, left_out

    assert affordable(16) == (more.toarray().tolist(), 2, 0)
    assert affordable(15) == (one_hop.toarray().tolist(), 1, 0)
    # The first column, which three units have; then the last two, which two have; then all.
    assert affordable(7) == (one_hop.toarray()[:, 1:].tolist(), 1, 1)
    assert affordable(4) == (one_hop.toarray()[:, 1:2].tolist(), 1, 3)
    assert affordable(0) == ([[], [], [], []], 1, 4)


def entries(rows: list[Any]) -> list[int | None]:
    return [None if row is None else row.nnz for row in rows]


def test_rows_end_where_nothing_new_is_reached_or_too_much() -> None:
    chain = LayeredDAG.from_masks([np.eye(3), np.eye(3), np.eye(3)])
    rows, complete = sparse._within([chain.adjacency], 0, 3, hops=9, skips_layers=False)
    assert entries(rows) == [3, 6, 9]
    assert complete
    assert entries(sparse._within([chain.adjacency], 0, 3, hops=2, skips_layers=False)[0]) == [3, 6]
    # By a skipping edge unit 0 reaches unit 2 in one hop, and in two.
    skipping = LayeredDAG.from_edges([[0, 1], [1, 2], [0, 2], [2, 3]], layer=[0, 1, 2, 3])
    rows, complete = sparse._within([skipping.adjacency], 0, 1, hops=9, skips_layers=True)
    assert entries(rows) == [2, 3]
    assert complete


def test_rows_that_fill_up_are_not_followed_further(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = LayeredDAG.from_masks([np.ones((4, 4))] * 3)
    monkeypatch.setattr(sparse, "FULL_ENTRIES", 15)  # 16 entries, all that its 4 rows and 4 columns have
    assert entries(sparse._within([dense.adjacency], 0, 4, hops=3, skips_layers=False)[0]) == [16]
    assert not sparse._within([dense.adjacency], 0, 4, hops=3, skips_layers=False)[1]
    monkeypatch.setattr(sparse, "FULL_ENTRIES", 16)
    assert len(sparse._within([dense.adjacency], 0, 4, hops=3, skips_layers=False)[0]) == 2
    monkeypatch.setattr(sparse, "FULL_ENTRIES", 15)
    monkeypatch.setattr(sparse, "FULL_SHARE", 1.0)
    assert len(sparse._within([dense.adjacency], 0, 4, hops=3, skips_layers=False)[0]) == 3


def test_packed_rows_are_limited_by_memory_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = LayeredDAG.from_masks([np.eye(8), np.eye(8)])
    steps = [chain.adjacency, chain.adjacency.T.tocsr()]
    needed = 2 * 24 * 24 // 8
    monkeypatch.setattr(sparse, "PACKED_BYTES", needed)
    found = sparse._packed_tree(steps, 8, 16, hops=2)
    assert found is not None
    assert len({*found[1].tolist()}) == 8
    monkeypatch.setattr(sparse, "PACKED_BYTES", needed - 1)
    assert sparse._packed_tree(steps, 8, 16, hops=2) is None
    monkeypatch.undo()
    monkeypatch.setattr(sparse, "DENSE_LIMIT", 8)
    assert sparse._packed_tree(steps, 8, 16, hops=2) is not None
    monkeypatch.setattr(sparse, "DENSE_LIMIT", 7)
    assert sparse._packed_tree(steps, 8, 16, hops=2) is None


def test_many_distinct_rows_are_joined_on_the_sparse_graph_or_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0]], dtype=bool))
    monkeypatch.setattr(sparse, "DENSE_ROWS", 4)
    dense = sparse._tree(rows)
    monkeypatch.setattr(sparse, "DENSE_ROWS", 3)
    thin = sparse._tree(rows)
    assert dense is not None
    assert thin is not None
    assert dense[0] is not None
    assert thin[0] is not None
    assert len(dense[0].closest) > 0 == len(thin[0].closest)
    same_tree(dense[0], thin[0])
    for name in ("FREE_STEPS", "STEPS_PER_ROW", "PAIRS_PER_ROW"):
        monkeypatch.setattr(sparse, name, 0)
    monkeypatch.setattr(sparse, "DENSE_LIMIT", 4)
    again = sparse._tree(rows)
    assert again is not None
    assert again[0] is not None
    assert len(again[0].closest) > 0
    monkeypatch.setattr(sparse, "DENSE_LIMIT", 3)
    assert sparse._tree(rows) is None
