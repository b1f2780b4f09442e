from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from modgraph import LayeredDAG
from modgraph.cluster import sparse
from modgraph.cluster.sparse import LayerTree, layer_tree
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


@settings(max_examples=300, deadline=None)
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
    assert packed.hops == lists.hops == 3
    assert packed.tree is not None
    assert lists.tree is not None
    for step in range(packed.tree.n_steps + 1):
        labels = (found.tree.cut(step)[found.row_of] for found in (packed, lists) if found.tree is not None)
        assert adjusted_rand_score(next(labels), next(labels)) == 1.0
