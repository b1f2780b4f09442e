"""A batch of networks gives what each network gives alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modgraph as mg
from modgraph.planted import planted_modules
from tests.networks import needs_published, published_dag, published_index
from tests.strategies import dags


def assert_same(one: mg.ModuleHierarchy, two: mg.ModuleHierarchy) -> None:
    assert one.labels.tolist() == two.labels.tolist()
    assert one.cluster_labels.tolist() == two.cluster_labels.tolist()
    assert one.settings == two.settings
    assert one.dag is two.dag


@settings(max_examples=60, deadline=None)
@given(st.lists(dags(max_units=6), max_size=5), st.sampled_from(["auto", "wiring"]), st.sampled_from([0.4, 0.9]))
def test_a_batch_gives_what_each_network_gives(networks: list[mg.LayeredDAG], features: str, threshold: float) -> None:
    found = mg.detect_many(networks, features=features, merge_threshold=threshold)
    assert len(found) == len(networks)
    for one, dag in zip(found, networks, strict=True):
        assert_same(one, mg.detect_modules(dag, features=features, merge_threshold=threshold))


def test_networks_of_all_kinds_in_one_batch() -> None:
    large, _ = planted_modules([40, 40, 40], n_modules=4, random_state=0)
    weighted = mg.LayeredDAG.from_masks([np.eye(3), np.eye(3)], weights=[np.eye(3), 2 * np.eye(3)])
    skipping = mg.LayeredDAG.from_edges([[0, 1], [1, 2], [0, 2]], layer=[0, 1, 2])
    nothing = mg.LayeredDAG.from_masks([np.zeros((2, 2)), np.zeros((2, 2))])
    networks = [large, weighted, skipping, nothing, mg.LayeredDAG.from_masks([np.eye(4)] * 3)]
    for one, dag in zip(mg.detect_many(networks), networks, strict=True):
        assert_same(one, mg.detect_modules(dag))


def test_other_settings_are_passed_on() -> None:
    dag = mg.LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((2, 2)))] * 3)
    [one] = mg.detect_many([dag], clustering="published", hops=1)
    assert_same(one, mg.detect_modules(dag, clustering="published", hops=1))
    assert mg.detect_many([]) == []


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`merge_threshold` must be .* \(got 2"):
        mg.detect_many([mg.LayeredDAG.from_masks([np.eye(2)])], merge_threshold=2)


@needs_published
def test_published_networks() -> None:
    networks = [published_dag(entry) for entry in published_index()[::4]]
    for one, dag in zip(mg.detect_many(networks), networks, strict=True):
        assert_same(one, mg.detect_modules(dag))


def test_two_dask_workers_share_a_batch() -> None:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    networks = [
        planted_modules([n, n, n], n_modules=2, fan_out=2, rewired=0.2, random_state=seed)[0]
        for n, seed in itertools.product((6, 8), range(4))
    ]
    with (
        distributed.LocalCluster(n_workers=2, processes=False, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        parts = client.gather(client.map(mg.detect_many, [networks[:4], networks[4:]]))
    for one, dag in zip([*parts[0], *parts[1]], networks, strict=True):
        assert one.labels.tolist() == mg.detect_modules(dag).labels.tolist()
