import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgraph import LayeredDAG
from modgraph.reach import layers_within, reachability, spread
from tests.strategies import dags


def as_networkx(dag: LayeredDAG) -> nx.DiGraph:
    graph = nx.DiGraph(dag.edges.tolist())
    graph.add_nodes_from(range(dag.n_units))
    return graph


@given(dags(), st.integers(1, 6) | st.none())
def test_reachability_equals_networkx_within_a_cutoff(dag: LayeredDAG, hops: int | None) -> None:
    graph = as_networkx(dag)
    for direction, view in (("outwards", graph), ("inwards", graph.reverse())):
        for level in range(dag.n_layers):
            found = reachability(dag, level, hops=hops, direction=direction).toarray()
            for row, unit in enumerate(np.flatnonzero(dag.layer == level).tolist()):
                expected = set(nx.single_source_shortest_path_length(view, unit, cutoff=hops)) - {unit}
                assert set(np.flatnonzero(found[row]).tolist()) == expected


@given(dags(), st.integers(1, 5))
def test_more_hops_never_lose_a_unit(dag: LayeredDAG, hops: int) -> None:
    for level in range(dag.n_layers):
        fewer, more = (reachability(dag, level, hops=h).toarray() for h in (hops, hops + 1))
        assert not (fewer & ~more).any()


@given(dags(), st.integers(1, 5))
def test_layers_within_is_the_reach_of_the_layers(dag: LayeredDAG, hops: int) -> None:
    graph = nx.DiGraph([(int(dag.layer[a]), int(dag.layer[b])) for a, b in dag.edges])
    graph.add_nodes_from(range(dag.n_layers))
    within = layers_within(dag, hops)
    for level in range(dag.n_layers):
        expected = set(nx.single_source_shortest_path_length(graph, level, cutoff=hops)) - {level}
        assert set(np.flatnonzero(within[level]).tolist()) == expected


@given(dags(), st.integers(1, 5))
def test_dense_matrices_reach_what_sparse_ones_do(dag: LayeredDAG, hops: int) -> None:
    step = dag.adjacency.toarray()
    dense = spread(step, step, hops=hops, skips_layers=dag.skips_layers)
    sparse = spread(dag.adjacency, dag.adjacency, hops=hops, skips_layers=dag.skips_layers)
    assert dense.dtype == np.bool_
    assert (dense == sparse.toarray()).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hops": 0}, r"`hops` must be an int ≥ 1 \(got 0\)"),
        ({"hops": 1.5}, r"`hops` must be an int ≥ 1 \(got 1.5\)"),
        ({"hops": True}, r"`hops` must be an int ≥ 1 \(got True\)"),
        ({"direction": "up"}, r"`direction` must be .* \(got 'up'\)"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments: dict[str, object], message: str) -> None:
    dag = LayeredDAG.from_masks([[[1]]])
    with pytest.raises(ValueError, match=message):
        reachability(dag, 0, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`level` must be an int from 0 to 1 \(got 2\)"):
        reachability(dag, 2)
