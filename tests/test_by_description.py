import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from modgraph import LayeredDAG, detect_modules
from modgraph.arrays import IntArray
from modgraph.cluster import by_description, tied_linkage
from modgraph.cluster.by_description import described_linkage, shortest_description
from modgraph.cluster.description import description_length
from modgraph.cluster.methods import cluster_layers
from modgraph.labels import by_first_unit
from modgraph.planted import planted_modules
from modgraph.reach import reachability
from tests.networks import needs_published, published_dag, published_index
from tests.strategies import dags, permuted


@settings(max_examples=40, deadline=None)
@given(dags(max_units=9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_unit_order_does_not_matter(dag: LayeredDAG, hops: int, seed: int) -> None:
    dag = dag.trim()
    if min(dag.layer_sizes) == 0:
        return
    other, place = permuted(dag, np.random.default_rng(seed))
    one, two = (shortest_description(graph, hops=hops) for graph in (dag, other))
    assert one.bits == two.bits
    assert adjusted_rand_score(one.labels, two.labels[place]) == 1.0


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([2, 3, 6]), st.integers(0, 2**32 - 1))
def test_unit_order_does_not_matter_with_modules(rewired: float, n_modules: int, seed: int) -> None:
    dag = planted_modules([24, 24, 24], n_modules=n_modules, fan_out=3, rewired=rewired, random_state=seed)[0].trim()
    other, place = permuted(dag, np.random.default_rng(seed))
    one, two = (shortest_description(graph, hops=2) for graph in (dag, other))
    assert one.bits == two.bits
    assert adjusted_rand_score(one.labels, two.labels[place]) == 1.0


@settings(max_examples=30, deadline=None)
@given(dags(max_units=9))
def test_what_is_found_is_no_longer_than_trivial_and_no_cluster_spans_layers(dag: LayeredDAG) -> None:
    dag = dag.trim()
    found = shortest_description(dag, hops=2)
    assert found.bits <= found.trivial_bits
    assert found.bits == pytest.approx(description_length(dag, found.labels), abs=1e-6)
    assert found.trivial_bits == pytest.approx(description_length(dag, np.zeros(dag.n_units, dtype=int)), abs=1e-6)
    assert len(np.unique(found.labels)) == len({(int(a), int(b)) for a, b in zip(found.labels, dag.layer, strict=True)})


FAMILIES = [
    ([80] * 6, 4),
    ([240] * 6, 12),
    ([300, 60] * 3, 6),
    ([160] * 6, (8, 8, 8, 4, 4, 4)),
]


@pytest.mark.parametrize(("sizes", "n_modules"), FAMILIES)
def test_planted_modules_are_found_at_ten_percent_rewired(sizes: list[int], n_modules: int | tuple[int, ...]) -> None:
    dag, labels = planted_modules(sizes, n_modules=n_modules, rewired=0.1, random_state=0)
    trimmed = dag.trim()
    truth = labels[trimmed.unit_index]
    found = shortest_description(trimmed, hops=2).labels
    for level in range(dag.n_layers - 1):
        part = trimmed.layer == level
        assert adjusted_mutual_info_score(truth[part], found[part]) > 0.9


@pytest.mark.parametrize(("sizes", "n_modules"), FAMILIES)
def test_rewired_networks_are_not_modular(sizes: list[int], n_modules: int | tuple[int, ...]) -> None:
    dag = planted_modules(sizes, n_modules=n_modules, rewired=1, random_state=0)[0].trim()
    assert shortest_description(dag, hops=2).labels.max() + 1 == dag.n_layers


def test_many_modules_are_not_joined() -> None:
    dag, labels = planted_modules([1000] * 4, n_modules=40, fan_out=3, rewired=0.02, random_state=0)
    trimmed = dag.trim()
    found = shortest_description(trimmed, hops=2).labels
    for level in range(3):
        part = trimmed.layer == level
        assert adjusted_rand_score(labels[trimmed.unit_index][part], found[part]) > 0.97


def test_held_layers_keep_their_clusters() -> None:
    dag, labels = planted_modules([40, 40, 40], n_modules=4, random_state=0)
    held = np.where(dag.layer == 1, labels // 2, -1)
    found = shortest_description(dag, hops=2, held=held).labels
    assert adjusted_rand_score(found[dag.layer == 1], held[dag.layer == 1]) == 1.0


def by_published_rule(dag: LayeredDAG, level: int) -> IntArray:
    rows = reachability(dag, level).toarray()[:, dag.layer > level]
    return tied_linkage(rows) if len(rows) > 1 else np.zeros(1, dtype=np.int64)


def test_small_layers_are_decided_one_by_one() -> None:
    dag = LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((2, 2)))] * 2)
    labels, description = described_linkage(dag, hops=2, small=by_published_rule)
    assert description is None
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]


def test_large_layers_are_decided_together() -> None:
    dag, truth = planted_modules([60, 60, 4], n_modules=(4, 4, 4), random_state=0)
    labels, description = described_linkage(dag, hops=2, small=by_published_rule)
    assert description is not None
    assert len(np.unique(labels[-4:])) == 4
    assert len(np.unique(labels)) == 12  # layers share none
    for level in (0, 1):
        assert adjusted_rand_score(labels[dag.layer == level], truth[dag.layer == level]) == 1.0


@needs_published
def test_published_networks_are_left_to_the_published_rule() -> None:
    for entry in published_index()[::8]:
        dag = published_dag(entry).trim()
        labels, description = described_linkage(dag, hops=entry["hops"], small=by_published_rule)
        assert description is None
        assert adjusted_rand_score(labels, cluster_layers(dag, tied_linkage, hops=entry["hops"])) == 1.0


@pytest.mark.parametrize(("n_units", "described"), [(9, False), (10, True)])
def test_layers_of_ten_units_are_described(n_units: int, described: bool) -> None:
    dag = LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((4, 5)))[:, :n_units]])
    assert ("capped" in detect_modules(dag).settings) == described


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dag, _ = planted_modules([40, 40, 40], n_modules=4, random_state=0)
    monkeypatch.setattr("modgraph.checks.free_memory", lambda: 1e4)
    with pytest.raises(MemoryError, match=r"clustering needs about 0\.\d GB of memory and 0\.0 GB are free: prune"):
        detect_modules(dag)


def test_the_best_of_given_partitions_is_taken_in_each_layer() -> None:
    dag, module = planted_modules([30, 30, 30], n_modules=2, fan_out=6, random_state=0)
    right = [module[dag.layer == level] for level in range(3)]
    wrong = np.arange(30) % 2
    nearly = np.where(np.arange(30) < 2, 1 - right[1], right[1])
    # No choice is right in both layers at once.
    found = by_description.shortest_combination(dag, {0: [wrong, right[0], wrong], 1: [wrong, nearly, right[1], wrong]})
    for level in (0, 1):
        assert adjusted_rand_score(found[dag.layer == level], right[level]) == 1
    assert len({*found.tolist()}) == 2 + 2 + 30
    random = [np.random.default_rng(seed).integers(2, size=30) for seed in range(2)]
    found = by_description.shortest_combination(dag, {0: random, 1: [wrong]})
    assert len({*found[dag.layer < 2].tolist()}) == 2  # one cluster a layer is better
    assert found.tolist() == by_first_unit(found).tolist()


def test_memory_is_estimated_from_above() -> None:
    # 10 units with 16 edges in a layer of 5 at most: 3.2 neighbours each, so 3.2⁴ pairs a unit, or at most 128.
    dag = LayeredDAG.from_masks([np.ones((4, 4)), np.zeros((2, 4))])
    assert by_description._bytes_needed(dag, 1) == pytest.approx(76 * 16 + 600 * 10 + 24 * 4 * 3.2**2)
    assert by_description._bytes_needed(dag, 2) == pytest.approx(76 * 16 + 600 * 10 + 24 * 4 * 3.2**4)
    assert by_description._bytes_needed(dag, 9) == by_description._bytes_needed(dag, 2)


@pytest.mark.parametrize(("sizes", "n_modules"), [([24] * 3, 3), ([24, 48, 24], 4)])
def test_what_is_found_is_no_longer_than_what_was_planted(sizes: list[int], n_modules: int) -> None:
    for seed, rewired in enumerate((0.05, 0.15)):
        dag, module = planted_modules(sizes, n_modules=n_modules, fan_out=4, rewired=rewired, random_state=seed)
        trimmed = dag.trim()
        planted = description_length(trimmed, module[trimmed.unit_index])
        assert shortest_description(trimmed, hops=2).bits <= planted + 0.01


def test_a_layer_without_units_is_not_decided() -> None:
    # Nothing enters unit 2, the only one of its layer.
    dag = LayeredDAG.from_edges([[0, 3], [1, 3], [3, 4]], layer=[0, 0, 1, 2, 3]).trim()
    labels, description = described_linkage(dag, hops=2, small=by_published_rule)
    assert labels.tolist() == [0, 0, 1, 2]
    assert description is None
