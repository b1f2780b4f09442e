import numpy as np
import pytest

from modgraph import LayeredDAG
from modgraph.merge import merge_clusters


def fan(n_edges: int, n_stray: int) -> tuple[LayeredDAG, np.ndarray]:
    """One cluster sends `n_edges` edges to another and `n_stray` to a third, each of single-source units."""
    layer = [0] * (n_edges + n_stray) + [1] * 2 + [2]
    one, two, out = n_edges + n_stray, n_edges + n_stray + 1, n_edges + n_stray + 2
    edges = [[unit, one] for unit in range(n_edges)]
    edges += [[unit, two] for unit in range(n_edges, n_edges + n_stray)]
    edges += [[one, out], [two, out]]
    return LayeredDAG.from_edges(edges, layer=layer), np.array([0] * (n_edges + n_stray) + [1, 2, 3])


@pytest.mark.parametrize(("edges", "stray", "merged"), [(9, 1, False), (10, 1, True), (90, 10, False), (91, 9, True)])
def test_more_than_the_threshold_means_strictly_more(edges: int, stray: int, merged: bool) -> None:
    dag, clusters = fan(edges, stray)
    labels = merge_clusters(dag, clusters)
    assert (labels[edges + stray] == labels[0]) == merged


@pytest.mark.parametrize(("from_one", "merged"), [(9, False), (10, True)])
def test_more_than_the_threshold_of_the_entering_edges_means_strictly_more(from_one: int, merged: bool) -> None:
    # Edges from two clusters of inputs to one output: `from_one` from the first cluster, one from the second.
    dag = LayeredDAG.from_masks([np.ones((1, from_one + 1))])
    labels = merge_clusters(dag, np.array([0] * from_one + [1, 2]))
    assert (labels[-1] == labels[0]) == merged
    assert labels[-1] != labels[from_one]


def test_towards_outputs_only_entering_edges_count() -> None:
    dag = LayeredDAG.from_masks([[[1], [1]], [[1, 1], [1, 1]]])
    assert merge_clusters(dag, np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 0, 0]
    # The same two clusters inside the network stay apart from it: each gets half of what leaves.
    deeper = LayeredDAG.from_masks([[[1], [1]], [[1, 1], [1, 1]], [[1, 0], [0, 1]]])
    assert merge_clusters(deeper, np.array([0, 1, 1, 2, 3, 4, 5])).tolist() == [0, 0, 0, 1, 2, 1, 2]


def test_merging_reaches_across_skipped_layers() -> None:
    dag = LayeredDAG.from_edges([[0, 2], [1, 2], [2, 3]], layer=[0, 1, 2, 3])
    assert merge_clusters(dag, np.array([0, 1, 2, 3])).tolist() == [0, 1, 2, 2]
    dag = LayeredDAG.from_edges([[0, 2], [1, 3], [2, 4], [3, 5]], layer=[0, 1, 2, 2, 3, 3])
    assert merge_clusters(dag, np.arange(6)).tolist() == [0, 1, 0, 1, 0, 1]


def test_below_a_half_equal_claims_cancel() -> None:
    dag = LayeredDAG.from_edges([[0, 2], [1, 2], [2, 3]], layer=[0, 0, 1, 2])
    assert merge_clusters(dag, np.arange(4), threshold=0.4).tolist() == [0, 1, 2, 2]
    dag = LayeredDAG.from_edges([[0, 3], [1, 3], [2, 3], [3, 4]], layer=[0, 0, 0, 1, 2])
    assert merge_clusters(dag, np.array([0, 0, 1, 2, 3]), threshold=0.3).tolist() == [0, 0, 1, 0, 0]
