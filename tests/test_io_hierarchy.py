"""Saved hierarchies load equal, whatever the graph and the settings are; broken ones get one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, load_hierarchy, load_network, save_hierarchy
from tests import hostile
from tests.networks import two_strands
from tests.strategies import dags

PLAIN = st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5) | st.none() | st.booleans()
NUMPY = st.sampled_from([np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a")])


@st.composite
def hierarchies(draw: st.DrawFn) -> ModuleHierarchy:
    """Any graph, trimmed or not, perhaps with an empty layer, with all that a graph may carry."""
    dag = draw(dags())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dressed = LayeredDAG.from_edges(
        dag.edges,
        layer=dag.layer,
        weights=rng.normal(size=dag.n_edges) if draw(st.booleans()) else None,
        dense_edges=dag.dense_edges + draw(st.integers(0, 9)),
        biases=rng.normal(size=dag.n_units) if draw(st.booleans()) else None,
        activations=["relu"] * dag.n_units if draw(st.booleans()) else None,
        unit_names=[draw(st.text(max_size=3)).rstrip("\0") for _ in range(dag.n_units)]
        if draw(st.booleans())
        else None,
        layer_names=[f"layer {at}" for at in range(dag.n_layers)] if draw(st.booleans()) else None,
    )
    kept = rng.random(dag.n_units) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    kept[-1] = True
    graph = replace(dressed.subgraph(kept), notes=tuple(draw(st.lists(st.text(max_size=5), max_size=2))))
    settings = draw(st.dictionaries(st.text(max_size=5), PLAIN | NUMPY, max_size=3))
    labels = np.zeros(graph.n_units, dtype=np.int64)
    return ModuleHierarchy(dag=graph, labels=labels, cluster_labels=labels, settings=settings)


@given(hierarchies())
def test_every_saved_hierarchy_loads_equal(tmp_path_factory: pytest.TempPathFactory, found: ModuleHierarchy) -> None:
    path = tmp_path_factory.mktemp("saved") / "modules.json"
    save_hierarchy(found, path)
    again = load_hierarchy(path)
    assert again.dag == found.dag
    assert again.dag.unit_index.tolist() == found.dag.unit_index.tolist()
    assert again.labels.tolist() == found.labels.tolist()
    assert again.cluster_labels.tolist() == found.cluster_labels.tolist()
    assert again.settings == found.settings
    assert load_network(path) == found.dag


def test_a_trimmed_graph_with_an_empty_layer_comes_back(tmp_path: Path) -> None:
    masks = [[[1, 0], [0, 1]], [[0, 0]], [[1]], [[1]]]
    dag = LayeredDAG.from_masks(masks, weights=masks).trim()
    assert 0 in dag.layer_sizes
    save_hierarchy(detect_modules(dag), tmp_path / "modules.json")
    assert load_hierarchy(tmp_path / "modules.json").dag == dag


def test_numbers_of_numpy_are_saved(tmp_path: Path) -> None:
    dag = replace(LayeredDAG.from_masks([[[1, 1]]]), dense_edges=np.int64(2))  # type: ignore[arg-type]
    found = replace(detect_modules(dag), settings={"hops": np.int64(1), "threshold": np.float64(0.9)})
    save_hierarchy(found, tmp_path / "a.json")
    assert load_hierarchy(tmp_path / "a.json").settings == {"hops": 1, "threshold": 0.9}
    assert load_hierarchy(tmp_path / "a.json").dag == dag


def test_a_threshold_keeps_biases_activations_and_names(tmp_path: Path) -> None:
    dag = LayeredDAG.from_masks(
        [[[1, 1]]],
        weights=[[[0.05, 2.0]]],
        biases=[[0.5]],
        activations=["relu"],
        unit_names=["a", "b", "c"],
        layer_names=["in", "out"],
    )
    save_hierarchy(detect_modules(dag), tmp_path / "a.json")
    read = load_network(tmp_path / "a.json", threshold=0.1)
    assert read == dag.keep_edges(np.array([False, True]))
    assert read.biases is not None


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    found = load_hierarchy(hostile.hierarchy_with()(tmp_path))
    assert found.dag == LayeredDAG.from_masks([[[1]]])


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": []},
        {"settings": None},
        {"settings": "text"},
        {"dag": []},
        {"labels": [0.5, 1]},
        {"labels": [0, 10**30]},
        {"labels": [0]},
        {"layer": [1, 0]},
        {"layer": [0, True]},
        {"n_layers": 10**15},
        {"n_layers": 1},
        {"edges": [[0, 1], [0, 1]]},
        {"edges": [[1, 0]]},
        {"edges": [[0, 2]]},
        {"edges": [[0]]},
        {"edges": None},
        {"dense_edges": 0},
        {"dense_edges": -3},
        {"dense_edges": float("nan")},
        {"dense_edges": [2]},
        {"weights": [float("inf")]},
        {"weights": [1.0, 2.0]},
        {"unit_index": [0]},
        {"notes": "text"},
        {"unit_names": [1, 2]},
        {"biases": ["a", "b"]},
    ],
)
def test_broken_hierarchies_get_one_sentence(changes: dict[str, Any], tmp_path: Path) -> None:
    path = hostile.hierarchy_with(**changes)(tmp_path)
    if changes == {"dag": []}:
        path.write_text(json.dumps({**hostile.HIERARCHY, **changes}))
    if changes == {"edges": None}:  # no edges at all are none
        assert load_hierarchy(path).dag.n_edges == 0
        return
    with pytest.raises(ValueError, match="`path` must be a module hierarchy saved by modgraph"):
        load_hierarchy(path)


def test_pipes_and_deep_files_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a regular file"):
        load_hierarchy(hostile.link_to_zeros(tmp_path))
    with pytest.raises(ValueError, match="must be a module hierarchy"):
        load_hierarchy(hostile.json_deep(tmp_path))


@given(dags())
def test_saved_hierarchies_come_back(tmp_path_factory: pytest.TempPathFactory, dag: LayeredDAG) -> None:
    path = tmp_path_factory.mktemp("saved") / "modules.json"
    weighted = LayeredDAG.from_edges(
        dag.edges,
        layer=dag.layer,
        weights=np.linspace(-1, 1, dag.n_edges),
        biases=np.arange(dag.n_units) / 2,
        activations=["relu"] * dag.n_units,
        unit_names=[f"unit {unit}" for unit in range(dag.n_units)],
        layer_names=[f"layer {level}" for level in range(dag.n_layers)],
    )
    found = detect_modules(weighted, hops=2)
    save_hierarchy(found, path)
    again = load_hierarchy(path)
    assert [p.name for p in path.parent.iterdir()] == ["modules.json"]
    assert again.labels.tolist() == found.labels.tolist()
    assert again.cluster_labels.tolist() == found.cluster_labels.tolist()
    assert again.settings == found.settings
    assert again.dag.edges.tolist() == dag.edges.tolist()
    assert again.dag.weights is not None
    assert again.dag.weights.tolist() == np.linspace(-1, 1, dag.n_edges).tolist()
    assert repr(again.modules) == repr(found.modules)
    for name in ("biases", "activations", "unit_names", "layer_names"):
        assert list(getattr(again.dag, name)) == list(getattr(weighted, name))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "modules.json"
    path.write_text("precious")
    bad = ModuleHierarchy(
        dag=two_strands(), labels=np.zeros(10, int), cluster_labels=np.zeros(10, int), settings={"x": object()}
    )
    with pytest.raises(TypeError):
        save_hierarchy(bad, path)
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["modules.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "not json", '{"format": "other"}', '{"format": "modgraph hierarchy 1"}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"`path` must be a module hierarchy saved by modgraph .*other\.json"):
        load_hierarchy(path)


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "modules.json"
    save_hierarchy(detect_modules(two_strands()), path)
    document = json.loads(path.read_text())
    document["labels"][0] = 10**12
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"`labels` must be from −1 to 9 \(got 0 … 1000000000000"):
        load_hierarchy(path)


def test_labels_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "modules.json"
    save_hierarchy(detect_modules(two_strands()), path)
    document = json.loads(path.read_text())
    document["labels"] = document["labels"][:-1]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="there must be 10 labels, one a unit"):
        load_hierarchy(path)
