"""The 832 published networks: the recorded labels, and what the order of the units may change."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from modgraph import detect_modules
from tests.networks import needs_published, published_dag, published_index
from tests.strategies import permuted

# Networks in which equal distances went one way by the order of the units, and "linkage" joins them at once.
TIED = {"0484.npz", "0564.npz", "0576.npz", "0642.npz", "0664.npz", "0823.npz"}


@needs_published
def test_published_gives_the_recorded_labels() -> None:
    for entry in published_index():
        dag = published_dag(entry)
        found = detect_modules(dag, clustering="published", hops=entry["hops"])
        kept = found.labels >= 0
        assert np.flatnonzero(~kept).tolist() == entry["removed_units"]
        assert np.bincount(dag.layer[kept]).tolist() == entry["condensed_sizes"]
        assert adjusted_rand_score(found.labels[kept], entry["reference_labels"]) == 1.0, entry["file"]


@needs_published
def test_linkage_differs_only_where_distances_are_equal() -> None:
    differs = set()
    for entry in published_index():
        found = detect_modules(published_dag(entry), hops=entry["hops"])
        if adjusted_rand_score(found.labels[found.labels >= 0], entry["reference_labels"]) < 1.0:
            differs.add(entry["file"])
    assert differs == TIED


@needs_published
def test_weights_leave_the_default_as_it_is() -> None:
    for entry in published_index():
        bare, with_weights = published_dag(entry), published_dag(entry, weights=True)
        found = detect_modules(with_weights)
        assert found.settings["features"].startswith("wiring: ")
        assert found.labels.tolist() == detect_modules(bare).labels.tolist(), entry["file"]


@needs_published
@pytest.mark.parametrize("seed", range(2))
def test_linkage_does_not_see_the_order_of_units(seed: int) -> None:
    # A sample here; tests/long/permute_units.py does all of them, many times.
    rng = np.random.default_rng(seed)
    index = published_index()
    sample = {entry["file"] for entry in rng.choice(np.array(index, dtype=object), 60)} | TIED
    for entry in index:
        if entry["file"] in sample:
            dag = published_dag(entry)
            other, place = permuted(dag, rng)
            before, after = (detect_modules(d, hops=entry["hops"]).labels for d in (dag, other))
            assert adjusted_rand_score(before, after[place]) == 1.0, entry["file"]
