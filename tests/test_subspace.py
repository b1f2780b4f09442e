"""Modules as subspaces of hidden layers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, subspaces
from modgraph.subspace import overlap
from tests.strategies import permuted
from tests.test_by_influence import rescaled, superposed


def test_overlap_is_the_mean_squared_cosine_of_principal_angles() -> None:
    rng = np.random.default_rng(0)
    one, two = (np.linalg.qr(rng.normal(size=(9, n)))[0].T for n in (3, 5))
    cosines = np.linalg.svd(one @ two.T, compute_uv=False)
    assert overlap(one, two) == pytest.approx((cosines**2).mean())
    assert overlap(one, one[:2]) == pytest.approx(1)
    assert np.isnan(overlap(one, one[:0]))


@pytest.mark.parametrize("depth", [1, 3])
def test_planted_subspaces_are_found(depth: int) -> None:
    dag, _, _ = superposed(2, 0, width=60, depth=depth, outputs=12)
    found = subspaces(detect_modules(dag))
    assert [layer.level for layer in found.layers] == list(range(1, depth + 1))
    assert found.dimensions.shape == (depth, 2)
    for layer in found.layers:
        assert layer.own > 0.5
        assert layer.other < 0.1
        assert layer.p_value == 0.05
        assert (layer.null < layer.separation).all()
        assert layer.read_overlap[0, 1] < 0.1
        for module in layer.modules:
            for basis in (module.reads, module.writes):
                assert np.allclose(basis @ basis.T, np.eye(len(basis)))
                assert basis.shape[1] == 60
        assert np.allclose(np.diag(layer.overlap), [module.own for module in layer.modules])


def test_modules_that_mean_nothing_are_not_separated() -> None:
    dag, _, _ = superposed(2, 0, width=40, outputs=12)
    separated = 0
    for seed in range(5):
        labels = np.random.default_rng(seed).permutation(dag.n_units) % 2
        found = subspaces(ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels))
        separated += any(layer.p_value <= 0.05 for layer in found.layers)
    assert separated == 0


def test_a_module_that_reads_others_is_compared_with_what_they_write() -> None:
    dag, _, _ = superposed(2, 1, common=5, outputs=8, activation="identity")
    hierarchy = detect_modules(dag)
    assert hierarchy.n_modules == 3
    common = int(hierarchy.labels[-1])
    found = subspaces(hierarchy, n_shuffled=0)
    for layer in found.layers:
        above = layer.modules[common]
        assert len(above.writes) == 0
        assert above.own > 0.5
        assert np.isnan(above.other)
        assert layer.p_value == 1  # nothing to compare with


@settings(max_examples=5)
@given(st.integers(0, 100))
def test_order_and_scale_of_hidden_units_change_no_overlap(seed: int) -> None:
    dag, _, _ = superposed(2, seed, inputs=6, width=16, outputs=4)
    rng = np.random.default_rng(seed)
    scale = np.where((dag.layer == 1) | (dag.layer == 2), rng.uniform(0.2, 3, dag.n_units), 1.0)
    other, _ = permuted(rescaled(dag, scale), rng)
    before, after = (subspaces(detect_modules(one, features="influence"), n_shuffled=3) for one in (dag, other))
    for one, two in zip(before.layers, after.layers, strict=True):
        assert one.own == pytest.approx(two.own)
        assert one.other == pytest.approx(two.other, nan_ok=True)
        assert np.allclose(np.sort(one.null), np.sort(two.null))
        assert one.p_value == two.p_value


def test_units_off_every_path_are_in_no_subspace() -> None:
    dag, _, _ = superposed(2, 0, width=16)
    assert dag.weights is not None
    cut = dag.targets != 24 + 3
    pruned = LayeredDAG.from_edges(dag.edges[cut], layer=dag.layer, weights=dag.weights[cut])
    layer = subspaces(detect_modules(pruned), n_shuffled=0).layers[0]
    for module in layer.modules:
        assert not module.reads[:, 3].any()
        assert not module.writes[:, 3].any()


def test_subspaces_need_weights() -> None:
    halves = np.kron(np.eye(2), np.ones((2, 2)))
    found = detect_modules(LayeredDAG.from_masks([halves, halves]))
    with pytest.raises(ValueError, match="`found` must be of a network with weights"):
        subspaces(found)
    weighted = dataclasses.replace(found, dag=LayeredDAG.from_masks([halves, halves], weights=[halves, halves]))
    with pytest.raises(ValueError, match=r"`n_shuffled` must be an int ≥ 0 \(got -1\)"):
        subspaces(weighted, n_shuffled=-1)
    assert repr(subspaces(weighted, n_shuffled=0)).startswith("Subspaces(")
