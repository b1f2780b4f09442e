from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, load_network
from modgraph.io import save_supernodes
from modgraph.io.hierarchy import load_hierarchy, save_hierarchy
from modgraph.labels import by_first_unit
from tests.test_attribution import REAL, document, needs_real, write


def test_a_graph_is_read_as_it_is(tmp_path: Path) -> None:
    dag = load_network(write(tmp_path, document()))
    assert dag.layer_names == ("embeddings", "layer 0", "layer 3", "logits")
    assert dag.layer_sizes == (3, 3, 4, 2)
    assert dag.unit_names is not None
    assert dag.positions is not None
    assert dag.weights is not None
    assert dag.unit_names.tolist() == [
        "tok-a", "tok-b", "tok-c", "a1", "b1", "c1", "a2", "b2", "err", "c2", "out-b", "out-a"
    ]  # fmt: skip
    assert dag.positions.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 1, 2, 1, 1]
    names = dag.unit_names[dag.edges]
    read = {(one, two): weight for (one, two), weight in zip(names.tolist(), dag.weights.tolist(), strict=True)}
    assert read == {(link["source"], link["target"]): link["weight"] for link in document()["links"]}
    assert dag.notes == ()


def test_positions_stay_with_their_units(tmp_path: Path) -> None:
    dag = load_network(write(tmp_path, document()))
    part = dag.trim()
    assert dag.positions is not None
    assert part.positions is not None
    assert part.positions.tolist() == dag.positions[part.unit_index].tolist()
    assert dag.keep_edges(np.zeros(dag.n_edges, dtype=bool)).positions is dag.positions
    found = detect_modules(dag)
    save_hierarchy(found, tmp_path / "saved.json")
    again = load_hierarchy(tmp_path / "saved.json")
    assert again.dag == dag
    assert again.labels.tolist() == found.labels.tolist()


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    content = document()
    content["links"] += [
        {"source": "a2", "target": "a1", "weight": 1.0},  # closes a cycle
        {"source": "b2", "target": "err", "weight": 1.0},  # within a layer
        {"source": "tok-a", "target": "a1", "weight": 0.5},  # a repeat
        {"source": "tok-b", "target": "a2", "weight": 0.0},
    ]
    dag = load_network(write(tmp_path, content))
    assert [note.split(",")[0] for note in dag.notes] == [
        "2 links that lead to no later layer were left out",
        "1 repeated link were added to the first between the same nodes",
        "1 link of magnitude 0 or less were left out",
    ]
    assert dag.n_edges == len(document()["links"])
    assert dag.weights is not None
    assert dag.weights[0] == 2.5


def by_hand(dag: LayeredDAG) -> ModuleHierarchy:
    """Put the two features of the first two tokens into one module each, all other units alone."""
    assert dag.unit_names is not None
    names = ["a1" if name == "a2" else "b1" if name == "b2" else name for name in dag.unit_names.tolist()]
    labels = by_first_unit(np.array(names))
    return ModuleHierarchy(dag=dag, labels=labels, cluster_labels=np.arange(dag.n_units))


@pytest.mark.parametrize(("schema", "prefix"), [(None, "js-"), (1, "")])
def test_groups_are_written_with_the_ids_of_the_file(tmp_path: Path, schema: int | None, prefix: str) -> None:
    content = document()
    content["qParams"]["pinnedIds"] = []
    if schema is not None:
        content["metadata"]["schema_version"] = schema
    source = write(tmp_path, content)
    save_supernodes(by_hand(load_network(source)), tmp_path / "out.json", source=source)
    written = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert written["qParams"].pop("supernodes") == [
        ["sky", f"{prefix}a1", f"{prefix}a2"],
        ["river", f"{prefix}b1", f"{prefix}b2"],
    ]
    content["qParams"].pop("supernodes")
    assert written == content


def test_groups_without_texts_are_named_by_place(tmp_path: Path) -> None:
    content = document()
    for entry in content["nodes"]:
        del entry["clerp"]
    source = write(tmp_path, content)
    save_supernodes(by_hand(load_network(source)), tmp_path / "out.json", source=source)
    groups = json.loads((tmp_path / "out.json").read_text("utf-8"))["qParams"]["supernodes"]
    assert [group[0] for group in groups] == ["position 0, layers 0–3", "position 1, layers 0–3"]


def test_groups_need_the_file_of_the_graph(tmp_path: Path) -> None:
    found = by_hand(load_network(write(tmp_path, document())))
    other = copy.deepcopy(document())
    other["nodes"][0]["node_id"] = "somebody else"
    with pytest.raises(ValueError, match="`source` must hold every node of `found`"):
        save_supernodes(found, tmp_path / "out.json", source=write(tmp_path, other))


def broken(part: str, at: int, **values: Any) -> dict[str, Any]:
    content = document()
    content[part][at].update(values)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"nodes": 3, "links": [], "key": "node_id"}, "must have a list of 'nodes'"),
        ({"nodes": [], "links": [], "key": "node_id"}, "at least two layers"),
        ({"nodes": [1], "links": [], "key": "node_id"}, "node 0 must be an object"),
        (broken("nodes", 2, node_id=None), "`node_id` of node 2 must be a text"),
        (broken("nodes", 2, node_id="a2"), "a `node_id` of its own .got 'a2' twice"),
        (broken("nodes", 2, layer="first"), "`layer` of node 2 must be 'E' or a whole number .got 'first'"),
        (broken("nodes", 2, layer=None), "`layer` of node 2"),
        (broken("nodes", 2, ctx_idx=1.5), "`ctx_idx` of node 2 must be a whole number"),
        (broken("links", 1, source="nobody"), "`source` of link 1 must be the id of a node .got 'nobody'"),
        (broken("links", 1, target=["a1"]), "`target` of link 1 must be the id of a node"),
        (broken("links", 1, weight=float("nan")), "`weight` of link 1 must be a finite number .got nan"),
        (broken("links", 1, weight=10**400), "`weight` of link 1 must be a finite number"),
        (broken("links", 1, weight="3"), "`weight` of link 1 must be a finite number .got '3'"),
    ],
)
def test_a_broken_graph_is_one_clear_sentence(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_network(write(tmp_path, content))
    assert "\n" not in str(caught.value)


@needs_real
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_graphs_lose_nothing(path: Path, tmp_path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    dag = load_network(path)
    assert dag.notes == ()
    assert (dag.n_units, dag.n_edges) == (len(content["nodes"]), len(content["links"]))
    found = detect_modules(dag)
    save_supernodes(found, tmp_path / "out.json", source=path)
    written = json.loads((tmp_path / "out.json").read_text("utf-8"))
    key = "node_id" if path.stem.startswith("Gemma") else "jsNodeId"
    node_of = {entry[key]: entry["node_id"] for entry in content["nodes"]}
    assert dag.unit_names is not None
    unit = {name: at for at, name in enumerate(dag.unit_names.tolist())}
    groups = [sorted(unit[node_of[name]] for name in group[1:]) for group in written["qParams"]["supernodes"]]
    assert groups == [module.units.tolist() for module in found.modules if len(module.units) > 1]
    written["qParams"]["supernodes"] = content["qParams"]["supernodes"]
    assert written == content
