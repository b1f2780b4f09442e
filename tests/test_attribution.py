"""Attribution graphs: reading, modules, groups back into the file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph import LayeredDAG, detect_modules, load_network, significance
from modgraph.arrays import FloatArray
from modgraph.cluster.attributed import (
    _best_partition,
    _profile_cosines,
    _tree,
    attributed_modules,
    canonical_kinds,
    likeness,
)
from modgraph.null import shuffle_weights
from tests.long.attribution_graphs import FOLDER, agreement, drawn_groups

REAL = sorted(FOLDER.glob("*.json"))
needs_real = pytest.mark.skipif(not REAL, reason="the shared attribution graphs are not there")


def node(name: str, layer: str, position: int, kind: str = "cross layer transcoder", text: str = "") -> dict[str, Any]:
    return {
        "node_id": name, "jsNodeId": f"js-{name}", "layer": layer, "ctx_idx": position, "feature_type": kind,
        "clerp": text,
    }  # fmt: skip


def document() -> dict[str, Any]:
    """Three tokens with two features each, two logits, and one reconstruction error."""
    nodes = [
        node("out-b", "9", 1, "logit"),
        node("out-a", "9", 1, "logit"),
        node("a1", "0", 0, text="sky"),
        node("a2", "3", 0, text="sky"),
        node("b1", "0", 1, text="sea"),
        node("b2", "3", 1, text="river"),
        node("err", "3", 1, "mlp reconstruction error"),
        node("tok-a", "E", 0, "embedding"),
        node("tok-b", "E", 1, "embedding"),
        node("tok-c", "E", 2, "embedding"),
        node("c1", "0", 2),
        node("c2", "3", 2),
    ]
    links = [
        ("tok-a", "a1", 2.0), ("tok-a", "a2", 1.5), ("a1", "a2", 1.0), ("a1", "out-a", 0.7), ("a2", "out-a", 3.0),
        ("tok-b", "b1", 1.0), ("tok-b", "b2", 2.5), ("b1", "b2", 0.5), ("b1", "out-b", -0.9), ("b2", "out-b", -4.0),
        ("err", "out-b", 0.25), ("tok-c", "c1", 1.0), ("c1", "c2", 1.7), ("c1", "out-a", 0.4), ("c2", "out-b", 0.6),
    ]  # fmt: skip
    return {
        "metadata": {"slug": "tiny"},
        "qParams": {"pinnedIds": ["js-a1"], "supernodes": [], "linkType": "both"},
        "nodes": nodes,
        "links": [{"source": one, "target": two, "weight": weight} for one, two, weight in links],
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "graph.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_modules_span_layers_and_are_split_by_layer_into_clusters(tmp_path: Path) -> None:
    dag = load_network(write(tmp_path, document()))
    found = detect_modules(dag)
    assert found.settings["features"] == "attributes: the graph has weights and token positions"
    assert dag.unit_names is not None
    label = dict(zip(dag.unit_names.tolist(), found.labels.tolist(), strict=True))
    assert label["err"] == -1
    assert label["a1"] == label["a2"]
    assert label["b1"] == label["b2"]
    assert label["a1"] != label["b1"]
    assert label["a1"] != label["c1"]
    assert label["b1"] != label["c1"]
    assert len({label[name] for name in ("tok-a", "tok-b", "out-a", "out-b", "a1", "b1")}) == 6
    modules, clusters = found.labels, found.cluster_labels
    alike = (modules[:, None] == modules) & (dag.layer[:, None] == dag.layer) & (modules >= 0)
    assert ((clusters[:, None] == clusters) & (clusters >= 0) == alike).all()
    assert detect_modules(dag, features="wiring").settings["clustering"] == "linkage"
    assert detect_modules(dag, clustering="published").settings["clustering"] == "published"


def test_attributes_need_positions() -> None:
    dag = LayeredDAG.from_masks([[[1.0]]], weights=[[[1.0]]])
    with pytest.raises(ValueError, match="`dag` must have weights and positions"):
        detect_modules(dag, features="attributes")


def test_huge_weights_do_no_harm(tmp_path: Path) -> None:
    content = document()
    for link in content["links"]:
        link["weight"] *= 1e307
    found = detect_modules(load_network(write(tmp_path, content)))
    plain = detect_modules(load_network(write(tmp_path, document())))
    assert found.labels.tolist() == plain.labels.tolist()


@st.composite
def attributed(draw: st.DrawFn) -> LayeredDAG:
    """A small graph with token positions and few different weights, so that ties are common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = [*draw(st.lists(st.integers(1, 7), min_size=3, max_size=5))]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    pairs = np.argwhere(layer[:, None] < layer)
    pairs = pairs[rng.random(len(pairs)) < draw(st.sampled_from([0.3, 0.7]))]
    weights = rng.choice([-1.0, 0.5, 1.0, 2.0], len(pairs)) if draw(st.booleans()) else rng.standard_normal(len(pairs))
    positions = rng.integers(0, draw(st.integers(1, 3)), len(layer))
    return LayeredDAG.from_edges(pairs, layer=layer, weights=weights, positions=positions)


@given(attributed(), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_units_changes_nothing(dag: LayeredDAG, seed: int) -> None:
    assert dag.weights is not None
    assert dag.positions is not None
    order = np.lexsort((np.random.default_rng(seed).random(dag.n_units), dag.layer))
    place = np.argsort(order)
    other = LayeredDAG.from_edges(
        place[dag.edges].reshape(-1, 2),
        layer=dag.layer,
        weights=dag.weights,
        positions=dag.positions[order],
    )
    one, two = attributed_modules(dag)[order], attributed_modules(other)
    assert ((one[:, None] == one) == (two[:, None] == two)).all()
    assert ((one < 0) == (two < 0)).all()
    assert (canonical_kinds(dag)[order] == canonical_kinds(other)).all()
    (value, marks), (other_value, other_marks) = likeness(dag, attributed_modules(dag)), likeness(other, two)
    assert value == pytest.approx(other_value, abs=1e-6)
    assert sorted(marks) == pytest.approx(sorted(other_marks), abs=1e-6)


def grouped(seed: int) -> LayeredDAG:
    """Four groups of features in three layers, each with strong weights from and to its own tokens and outputs."""
    rng = np.random.default_rng(seed)
    layer, group = np.repeat(np.arange(5), [8, 8, 8, 8, 4]), np.arange(36) % 4
    pairs = np.argwhere(layer[:, None] < layer)
    own = group[pairs[:, 0]] == group[pairs[:, 1]]
    weights = rng.exponential(size=len(pairs)) * np.where(own, 1.0, 0.1)
    return LayeredDAG.from_edges(pairs, layer=layer, weights=weights, positions=rng.integers(0, 3, 36))


def test_likeness_is_that_of_the_units_alike() -> None:
    # Two features read the first token and write the first output, two the second ones.
    edges = [[0, 2], [0, 3], [1, 4], [1, 5], [2, 6], [3, 6], [4, 7], [5, 7]]
    dag = LayeredDAG.from_edges(edges, layer=[0, 0, 1, 1, 1, 1, 2, 2], weights=np.ones(8), positions=np.zeros(8, int))
    apart, mixed = (likeness(dag, np.array(labels)) for labels in ([0, 1, 2, 2, 3, 3, 4, 5], [0, 1, 2, 3, 2, 3, 4, 5]))
    # Incoming influence is equal within a pair; outgoing holds the unit itself, so the cosines are below 1.
    assert apart[0] > 0.4 > 0 > mixed[0]
    assert apart[1][2] == apart[1][3] > 0
    assert apart[1][[0, 1, 4, 5]].tolist() == [0.0] * 4
    assert likeness(dag, np.array([0, 1, -1, -1, -1, -1, 2, 3]))[0] == 0.0


@pytest.mark.slow
def test_groups_are_significant_and_shuffled_weights_are_not() -> None:
    found = significance(grouped(0), n_null=19, n_resamples=3)
    assert found.kind == "shuffled weights"
    assert found.p_value == 0.05
    assert found.statistic > found.null.max()
    assert any(module.p_value == 0.05 for module in found.modules)
    ranks = [significance(shuffle_weights(grouped(0), random_state=seed), n_null=4, n_resamples=0).p_value
             for seed in range(40)]  # fmt: skip
    # p = 1/5 in a fifth of them, within 3 standard errors.
    assert np.mean(np.array(ranks) <= 0.2) == pytest.approx(0.2, abs=0.19)
    alone = significance(grouped(0), n_null=0)
    assert np.isnan(alone.p_value)
    assert alone.summary() == "evidence: none for attribution graphs without null networks"


@needs_real
def test_modules_agree_with_people() -> None:
    scores = []
    for path in REAL:
        dag = load_network(path)
        units, groups = drawn_groups(path, dag)
        scores.append(agreement(detect_modules(dag).labels, units, groups))
    assert np.mean(scores) >= 0.45


@needs_real
def test_texts_and_drawn_groups_are_not_used(tmp_path: Path) -> None:
    path = next(path for path in REAL if "dallas" in path.stem)
    content = json.loads(path.read_text("utf-8"))
    del content["qParams"]
    for entry in content["nodes"]:
        del entry["clerp"]
    stripped = detect_modules(load_network(write(tmp_path, content)))
    assert stripped.labels.tolist() == detect_modules(load_network(path)).labels.tolist()


# The steps, written down plainly


def three_layers(seed: int) -> LayeredDAG:
    """Twelve units in four layers with edges between any two of them, also past a layer."""
    rng = np.random.default_rng(seed)
    layer = np.repeat(np.arange(4), [3, 4, 3, 2])
    pairs = np.argwhere(layer[:, None] < layer)
    pairs = pairs[rng.random(len(pairs)) < 0.7]
    return LayeredDAG.from_edges(
        pairs, layer=layer, weights=rng.normal(size=len(pairs)), positions=rng.integers(0, 2, len(layer))
    )


def sums_over_paths(dag: LayeredDAG, *, signed: bool) -> FloatArray:
    """What each unit (row) adds to each other (column) over all paths; of itself 1."""
    assert dag.weights is not None
    weights = np.zeros((dag.n_units, dag.n_units))
    weights[dag.sources, dag.targets] = dag.weights
    entering = np.abs(weights).sum(axis=0)
    weights = weights / np.where(entering > 0, entering, 1)
    step = weights if signed else np.abs(weights)
    total = power = np.eye(dag.n_units)
    for _ in range(dag.n_layers):
        power = power @ step
        total = total + power
    return total


def cosine(one: FloatArray, two: FloatArray) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / lengths if lengths > 0 else 0.0


def forms_of(dag: LayeredDAG) -> list[FloatArray]:
    signed = sums_over_paths(dag, signed=True)
    return [signed, np.sign(signed) * np.sqrt(np.abs(signed)), sums_over_paths(dag, signed=False)]


@pytest.mark.parametrize("seed", range(2))
def test_profiles_are_sums_over_all_paths(seed: int) -> None:
    dag = three_layers(seed)
    order = np.argsort(canonical_kinds(dag), kind="stable")
    units = order[(dag.layer[order] > 0) & (dag.layer[order] < 3)]
    found = _profile_cosines(dag, order, units)
    for form, incoming, outgoing in zip(forms_of(dag), *found, strict=True):
        others = form - np.eye(dag.n_units)
        for (i, one), (j, two) in itertools.product(enumerate(units), repeat=2):
            assert incoming[i, j] == pytest.approx(cosine(others[:, one], others[:, two]), abs=1e-9)
            assert outgoing[i, j] == pytest.approx(cosine(form[one], form[two]), abs=1e-9)


def test_likeness_is_the_mean_cosine_within_modules_beyond_that_of_all_pairs() -> None:
    dag = three_layers(0)
    labels = np.array([0, 1, 2, 3, 3, 4, 4, 3, 4, 4, 5, 6])
    inside = np.flatnonzero((dag.layer > 0) & (dag.layer < 3))
    alike = np.zeros((dag.n_units, dag.n_units))
    for form, (one, two) in itertools.product(forms_of(dag), itertools.permutations(inside, 2)):
        others = form - np.eye(dag.n_units)
        alike[one, two] += cosine(others[:, one], others[:, two]) / 6 + cosine(form[one], form[two]) / 6
    mean = alike.sum() / (7 * 6)
    value, marks = likeness(dag, labels)
    excess = {}
    for module in (3, 4):
        units = inside[labels[inside] == module]
        excess[module] = alike[np.ix_(units, units)].sum() - len(units) * (len(units) - 1) * mean
        assert marks[module] == pytest.approx(excess[module] / np.sqrt(len(units) * (len(units) - 1)), abs=1e-7)
    assert marks[[0, 1, 2, 5, 6]].tolist() == [0.0] * 5
    assert value == pytest.approx(sum(excess.values()) / (3 * 2 + 4 * 3), abs=1e-7)


@pytest.mark.parametrize("resolution", [0.5, 1.0, 2.0])
def test_a_tree_is_cut_where_modularity_is_largest(resolution: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights = rng.random((7, 7)) ** 3
        weights += weights.T
        tree = _tree(weights / weights.max())
        branches = [[leaf] for leaf in range(7)]
        for one, two in tree[:, :2].astype(int):
            branches.append(branches[one] + branches[two])
        off = weights - np.diag(np.diag(weights))

        def quality(parts: list[list[int]], off: FloatArray = off) -> float:
            inner = sum(off[np.ix_(part, part)].sum() for part in parts) / off.sum()
            return float(inner - resolution * sum((off[part].sum() / off.sum()) ** 2 for part in parts))

        def cuts(branch: int, tree: FloatArray = tree, branches: list[list[int]] = branches) -> list[list[list[int]]]:
            whole = [[branches[branch]]]
            if branch < 7:
                return whole
            one, two = tree[branch - 7, :2].astype(int).tolist()
            return whole + [[*a, *b] for a, b in itertools.product(cuts(one), cuts(two))]

        best = max(cuts(len(branches) - 1), key=quality)
        found = _best_partition(tree, weights, resolution=resolution)
        assert sorted(sorted(part) for part in best) == sorted(
            np.flatnonzero(found == label).tolist() for label in np.unique(found)
        )


def test_kinds_are_told_apart_by_layer_position_weights_and_neighbours() -> None:
    def kinds(edges: list[list[int]], weights: list[float], positions: list[int]) -> list[int]:
        dag = LayeredDAG.from_edges(edges, layer=[0, 0, 1, 1, 2], weights=weights, positions=np.array(positions))
        return [int(kind) for kind in canonical_kinds(dag)]

    edges = [[0, 2], [1, 3], [2, 4], [3, 4]]
    same = kinds(edges, [1.0, 1.0, 1.0, 1.0], [0] * 5)
    assert same[0] == same[1] != same[2] == same[3] != same[4]
    for weights, positions in (
        ([1.0, 1.0, 1.0, 2.0], [0] * 5),
        ([2.0, 1.0, 1.0, 1.0], [0] * 5),
        ([1.0] * 4, [0, 1, 0, 0, 0]),
        ([1.0] * 4, [0, 0, 1, 0, 0]),
    ):
        assert len({*kinds(edges, weights, positions)}) == 5


def test_a_shared_position_and_a_near_layer_decide_between_equal_influences() -> None:
    # Four features that read the same token and write the same output: two at either position.
    edges = [[0, feature] for feature in (1, 2, 3, 4)] + [[feature, 5] for feature in (1, 2, 3, 4)]
    weights = [1.0, 1.1, 1.0, 1.1, 1.0, 1.0, 1.1, 1.1]
    dag = LayeredDAG.from_edges(
        edges, layer=[0, 1, 1, 1, 1, 2], weights=weights, positions=np.array([0, 0, 1, 1, 0, 0])
    )
    assert attributed_modules(dag, cuts=[1.0]).tolist() == [0, 1, 2, 2, 1, 3]
    # Two in either of two layers, at one position.
    dag = LayeredDAG.from_edges(edges, layer=[0, 1, 1, 2, 2, 3], weights=weights, positions=np.zeros(6, dtype=int))
    assert attributed_modules(dag, cuts=[1.0]).tolist() == [0, 1, 1, 2, 2, 3]
