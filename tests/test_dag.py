import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array, csc_matrix, csr_array

from modgraph import LayeredDAG
from tests.strategies import dags, masks


@given(masks())
def test_edges_are_the_nonzero_entries(arrays: list[np.ndarray]) -> None:
    dag = LayeredDAG.from_masks(arrays, weights=[a * 0.5 for a in arrays])
    sizes = [arrays[0].shape[1], *(len(a) for a in arrays)]
    assert dag.layer_sizes == tuple(sizes)
    starts = np.cumsum([0, *sizes])
    expected = {
        (int(starts[level] + column), int(starts[level + 1] + row))
        for level, array in enumerate(arrays)
        for row, column in np.argwhere(array)
    }
    assert [tuple(edge) for edge in dag.edges.tolist()] == sorted(expected)
    assert dag.adjacency.sum() == dag.n_edges == len(expected)
    assert dag.density == len(expected) / sum(a.size for a in arrays)
    assert dag.weights is not None
    assert (dag.weights == 0.5).all()


@given(dags())
def test_trim_keeps_what_lies_on_a_path(dag: LayeredDAG) -> None:
    graph = nx.DiGraph(dag.edges.tolist())
    graph.add_nodes_from(range(dag.n_units))
    inputs = set(np.flatnonzero(dag.layer == 0).tolist())
    outputs = set(np.flatnonzero(dag.layer == dag.n_layers - 1).tolist())
    from_inputs = inputs.union(*(nx.descendants(graph, unit) for unit in inputs))
    to_outputs = outputs.union(*(nx.ancestors(graph, unit) for unit in outputs))
    trimmed = dag.trim()
    assert set(trimmed.unit_index.tolist()) == (from_inputs & to_outputs) | outputs
    assert trimmed.dense_edges == dag.dense_edges
    # Same edges, by who the units were; and nothing more to trim.
    kept = graph.subgraph(trimmed.unit_index.tolist())
    assert {tuple(edge) for edge in trimmed.unit_index[trimmed.edges].tolist()} == set(kept.edges)
    assert trimmed.trim().n_units == trimmed.n_units


def test_trim_twice_remembers_the_first_graph() -> None:
    dag = LayeredDAG.from_masks(
        [[[1, 0, 0], [0, 0, 0], [0, 1, 0]], [[1, 1, 0]]], weights=[np.ones((3, 3)), [[2, 3, 4]]]
    )
    trimmed = dag.trim()
    assert trimmed.unit_index.tolist() == [0, 3, 6]
    assert trimmed.trim().unit_index.tolist() == [0, 3, 6]
    assert trimmed.weights is not None
    assert trimmed.weights.tolist() == [1, 2]


@given(dags())
def test_from_edges_gives_back_the_graph(dag: LayeredDAG) -> None:
    again = LayeredDAG.from_edges(dag.edges[::-1], layer=dag.layer)
    assert (again.edges == dag.edges).all()
    assert again.layer_sizes == dag.layer_sizes


def test_repeated_edges_count_once() -> None:
    dag = LayeredDAG.from_edges([[0, 1], [0, 1], [1, 2], [0, 2]], layer=[0, 1, 2])
    assert dag.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert dag.skips_layers
    assert dag.dense_edges == 3


@given(dags())
def test_arrays_are_read_only_and_inputs_unchanged(dag: LayeredDAG) -> None:
    for array in (dag.sources, dag.targets, dag.layer, dag.unit_index, dag.edges, dag.layer_starts):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    edges, layer = dag.edges.copy(), dag.layer.copy()
    LayeredDAG.from_edges(edges, layer=layer)
    assert edges.flags.writeable
    assert layer.flags.writeable
    assert (edges == dag.edges).all()


def test_masks_given_are_not_locked_or_shared() -> None:
    array = np.ones((2, 2))
    dag = LayeredDAG.from_masks([array], weights=[array])
    array[0, 0] = 5.0
    assert dag.weights is not None
    assert dag.weights.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": []}, "`masks` must hold at least one"),
        ({"masks": [np.ones((2, 0))]}, r"`masks\[0\]` must be a non-empty \(out, in\) array \(got shape \(2, 0\)\)"),
        ({"masks": [[1, 2]]}, r"`masks\[0\]` must be a non-empty"),
        ({"masks": [[["a"]]]}, r"`masks\[0\]` must hold real numbers"),
        ({"masks": [[[1.0, np.nan]]]}, r"`masks\[0\]` must be finite \(got nan at \(0, 1\)\)"),
        ({"masks": [np.ones((2, 3)), np.ones((1, 3))]}, r"`masks\[1\]` must have 2 columns.*\(got shape \(1, 3\)\)"),
        ({"masks": [[[1]]], "weights": [[[np.inf]]]}, r"`weights\[0\]` must be finite \(got inf"),
        ({"masks": [[[1]]], "weights": [[[1.0, 2.0]]]}, "`weights` must have the shapes of `masks`"),
    ],
)
def test_bad_masks_get_one_sentence(arguments: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayeredDAG.from_masks(arguments["masks"], weights=arguments.get("weights"))


@pytest.mark.parametrize(
    ("edges", "layer", "message"),
    [
        ([[0, 1]], [], "`layer` must be a non-empty vector"),
        ([[0, 1]], [0.5, 1.0], "`layer` must be a non-empty vector of ints"),
        ([[0, 1]], [0, 2], "`layer` must start at 0"),
        ([[0, 1]], [0, 0], "`layer` must start at 0"),
        ([[0, 1, 2]], [0, 1], "`edges` must be ints of shape"),
        ([[0, 5]], [0, 1], "`edges` must name units from 0 to 1"),
        ([[1, 0]], [0, 1], "`edges` must lead to a later layer .got 1 → 0"),
    ],
)
def test_bad_edges_get_one_sentence(edges: list[list[int]], layer: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayeredDAG.from_edges(edges, layer=layer)


@pytest.mark.parametrize(
    ("edges", "weights", "message"),
    [
        ([[0, 1]], [np.nan], "`weights` must be 1 finite numbers"),
        ([[0, 1]], [1.0, 2.0], "`weights` must be 1 finite numbers"),
        ([[0, 1], [0, 1]], [1.0, 2.0], "`edges` must not repeat an edge that has a weight .got 0 → 1 twice"),
    ],
)
def test_bad_edge_weights_get_one_sentence(edges: list[list[int]], weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayeredDAG.from_edges(edges, layer=[0, 1], weights=weights)


@given(dags(), st.integers(0, 99))
def test_edge_weights_follow_their_edges(dag: LayeredDAG, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(dag.n_edges)
    weights = dag.edges[order] @ [1000.0, 1.0]
    again = LayeredDAG.from_edges(dag.edges[order], layer=dag.layer, weights=weights)
    assert again.weights is not None
    assert (again.weights == again.edges @ [1000.0, 1.0]).all()


@given(masks(), st.integers(0, 99))
def test_sparse_matrices_give_the_graph_of_dense_ones(arrays: list[np.ndarray], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.random(a.shape) + 0.5 for a in arrays]
    dense = LayeredDAG.from_masks(arrays, weights=values)
    for kind in (csr_array, csc_matrix, coo_array):
        assert LayeredDAG.from_masks([kind(a) for a in arrays], weights=values) == dense
        weighted = [kind(a * v) for a, v in zip(arrays, values, strict=True)]
        assert LayeredDAG.from_masks(weighted, weights=weighted) == dense
        assert LayeredDAG.from_masks(arrays, weights=weighted) == dense


def test_stored_zeros_are_no_edges_and_repeated_entries_are_added() -> None:
    entries = coo_array(([0.0, 1.0, 2.0, 1.0, -1.0], ([0, 0, 0, 1, 1], [0, 1, 1, 0, 0])), shape=(2, 2))
    dag = LayeredDAG.from_masks([entries], weights=[entries])
    assert dag.edges.tolist() == [[1, 2]]
    assert dag.weights is not None
    assert dag.weights.tolist() == [3.0]


def test_sparse_masks_are_never_made_dense() -> None:
    n = 200_000  # dense: 40 GB
    dag = LayeredDAG.from_masks([csr_array((np.ones(n), (np.arange(n), np.arange(n))))])
    assert (dag.n_edges, dag.dense_edges) == (n, n * n)


def test_torch_tensors_of_any_kind_are_masks() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.nn.Linear(3, 2).weight
    plain = weight.detach().numpy()
    dag = LayeredDAG.from_masks([plain], weights=[plain])
    assert LayeredDAG.from_masks([weight], weights=[weight]) == dag
    assert LayeredDAG.from_masks([weight.to_sparse()], weights=[weight.to_sparse()]) == dag
    assert LayeredDAG.from_masks([weight > 0]).n_edges == int((plain > 0).sum())
    assert LayeredDAG.from_masks([weight.to(torch.bfloat16)]).n_edges == dag.n_edges
    assert weight.requires_grad


@pytest.mark.parametrize("dense_edges", [0, -3, float("nan"), 1.0, True, 1])
def test_dense_edges_must_be_at_least_the_edges(dense_edges: int) -> None:
    with pytest.raises(ValueError, match="`dense_edges` must be an int ≥ 2"):
        LayeredDAG.from_edges([[0, 2], [1, 2]], layer=[0, 0, 1], dense_edges=dense_edges)


def test_dense_edges_of_numpy_are_ints() -> None:
    dag = LayeredDAG.from_edges([[0, 1]], layer=[0, 1], dense_edges=np.int64(4))  # type: ignore[arg-type]
    assert type(dag.dense_edges) is int
    with pytest.raises(ValueError, match="`dense_edges` must be an int ≥ 1"):
        LayeredDAG.from_edges(np.empty((0, 2), dtype=int), layer=[0, 1], dense_edges=0)


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="longdouble is float64 here")
def test_numbers_beyond_float64_are_refused() -> None:
    huge = np.array([[np.longdouble("1e400")]])
    with pytest.raises(ValueError, match=r"`masks\[0\]` must be finite"):
        LayeredDAG.from_masks([huge])
    with pytest.raises(ValueError, match=r"`weights\[0\]` must be finite"):
        LayeredDAG.from_masks([[[1]]], weights=[huge])
    with pytest.raises(ValueError, match="`weights` must be 1 finite numbers"):
        LayeredDAG.from_edges([[0, 1]], layer=[0, 1], weights=huge[0])
    with pytest.raises(ValueError, match=r"`biases\[0\]` must be 1 finite numbers"):
        LayeredDAG.from_masks([[[1]]], biases=[huge[0]])


def test_selections_must_be_booleans() -> None:
    dag = LayeredDAG.from_masks([[[1, 1]]])
    with pytest.raises(ValueError, match=r"`kept` must be 3 booleans, one for each unit \(got shape \(3,\), int64\)"):
        dag.subgraph([0, 1, 1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`kept` must be 2 booleans, one for each edge"):
        dag.keep_edges(np.ones(3, dtype=bool))
