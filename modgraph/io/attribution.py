"""Attribution graphs of language models: the JSON files of the circuit viewers, and groups of nodes back into them.

A file holds ``nodes`` (``node_id``, ``layer``, ``ctx_idx`` = token position, ``feature_type``, …) and ``links``
(``source``, ``target``, ``weight``), as in neuronpedia's graph schema 1. The texts of the nodes (``clerp``) and the
groups in the file (``qParams``) are never read into the graph, so that no result depends on them.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modgraph.dag import LayeredDAG
from modgraph.files import write_whole
from modgraph.io.request import File, Reader, Request
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted

EMBEDDING = "embedding"
LOGIT = "logit"
FIRST, LAST = -math.inf, math.inf  # where embeddings and logits stand in the order of the layers
_LARGEST = sys.float_info.max  # weight
_ENDS = {FIRST: "embeddings", LAST: "logits"}


def _matches(file: File) -> bool:
    """Whether a file is JSON that names nodes, by `node_id`, and links."""
    if file.start.lstrip()[:1] != b"{" or file.suffix not in (".json", ""):
        return False
    content = file.path.read_bytes()
    return all(name in content for name in (b'"nodes"', b'"links"', b'"node_id"'))


def _read(request: Request) -> LayeredDAG:
    """Read an attribution graph with signed weights; unit names are node ids, positions are token positions.

    Layers follow the layers of the model, embeddings first and logits last. Links that lead to no later layer are left
    out, and a note says how many and how much weight they carry.
    """
    document = _document(request.path)
    nodes, links = document["nodes"], document["links"]
    ids: list[str] = _column(nodes, "node_id", good=lambda value: isinstance(value, str), wanted="a text")
    number = {name: at for at, name in enumerate(ids)}
    if len(number) < len(ids):
        twice = next(name for at, name in enumerate(ids) if number[name] != at)
        raise ValueError(f"every node must have a `node_id` of its own (got {twice!r} twice)")
    levels, layer = np.unique([_layer(node, at) for at, node in enumerate(nodes)], return_inverse=True)
    if levels.size < 2:
        raise ValueError(f"nodes must lie in at least two layers (got {levels.size})")
    order = np.argsort(layer, kind="stable")
    layer, unit = layer[order], np.argsort(order)
    is_node, is_finite, is_position = (
        lambda value: isinstance(value, str) and value in number,
        lambda value: isinstance(value, int | float) and abs(value) <= _LARGEST,
        lambda value: value is None or (isinstance(value, int) and abs(value) < 1 << 31),
    )
    positions = _column(nodes, "ctx_idx", good=is_position, wanted="a whole number")
    weight = np.array(_column(links, "weight", good=is_finite, wanted="a finite number"), dtype=np.float64)
    names = [_column(links, end, good=is_node, wanted="the id of a node") for end in ("source", "target")]
    ends = unit[np.array([[number[name] for name in column] for column in names], dtype=np.int64).T]
    forwards = layer[ends[:, 0]] < layer[ends[:, 1]]
    pairs, which = np.unique(ends[forwards], axis=0, return_inverse=True)
    sums = np.bincount(which.reshape(-1), weight[forwards], minlength=len(pairs)).astype(np.float64)
    kept = np.abs(sums) > request.threshold
    if not np.isfinite(sums[kept]).all():
        raise ValueError("the weights of repeated links must have a finite sum")

    notes = []
    backwards, repeated, small = int((~forwards).sum()), int(forwards.sum()) - len(pairs), int((~kept).sum())
    if backwards:
        share = np.abs(weight[~forwards]).sum() / (np.abs(weight).sum() or 1.0)
        notes.append(
            f"{counted(backwards, 'link')} that lead to no later layer were left out, "
            f"with {share:.2g} of all absolute weight"
        )
    if repeated:
        notes.append(f"{counted(repeated, 'repeated link')} were added to the first between the same nodes")
    if small:
        notes.append(f"{counted(small, 'link')} of magnitude {request.threshold:g} or less were left out")
    for kind, place, end in ((EMBEDDING, FIRST, "first"), (LOGIT, LAST, "last")):
        if place not in levels:
            notes.append(f"no node is of type {kind!r}: the {end} layer of the graph is the {end} that has nodes")
    without = positions.count(None)
    if without:
        notes.append(f"{counted(without, 'node')} had no token position (`ctx_idx`), so that none is used")
    return LayeredDAG.from_edges(
        pairs[kept],
        layer=layer,
        weights=sums[kept],
        unit_names=[ids[at] for at in order.tolist()],
        layer_names=[_ENDS.get(place) or f"layer {place:.0f}" for place in levels.tolist()],
        positions=None if without else np.array(positions, dtype=np.int64)[order],
        notes=notes,
    )


ATTRIBUTION = Reader(name="an attribution graph", matches=_matches, read=_read)


def save_supernodes(found: ModuleHierarchy, path: str | os.PathLike[str], *, source: str | os.PathLike[str]) -> None:
    """Write an attribution graph again, with the modules as its groups (``qParams.supernodes``).

    Every module of at least two nodes becomes a group. A group is named after the text (``clerp``) of its nodes that
    most outgoing weight carries; where they have none, by positions and layers. Ids are of the kind that the file uses:
    ``jsNodeId`` or ``node_id``. Nothing else in the file changes.

    Parameters
    ----------
    found : ModuleHierarchy
        Of the graph in `source`.
    path : path-like
        Replaced only once the new file is complete.
    source : path-like
        The attribution graph that was read.

    Raises
    ------
    ValueError
        If `source` is no attribution graph, or doesn't hold the nodes of `found`.
    """
    document = _document(source)
    nodes = {node.get("node_id"): node for node in document["nodes"]}
    dag = found.dag
    names = [] if dag.unit_names is None else dag.unit_names.tolist()
    unknown = next((name for name in names if name not in nodes), None)
    if not names or unknown is not None:
        raise ValueError(f"`source` must hold every node of `found` (got {os.fspath(source)!r} without {unknown!r})")
    settings = document.get("qParams")
    settings = settings if isinstance(settings, dict) else {}
    key = _id_key(document, settings)
    leaving = np.bincount(
        dag.sources, None if dag.weights is None else np.abs(dag.weights), minlength=dag.n_units
    ).tolist()
    groups = []
    for module in found.modules:
        if len(module.units) < 2:
            continue
        members = [nodes[names[unit]] for unit in module.units.tolist()]
        spoken: dict[str, float] = defaultdict(float)
        for unit, node in zip(module.units.tolist(), members, strict=True):
            text = node.get("clerp")
            if isinstance(text, str) and text.strip():
                spoken[text.strip()] += leaving[unit]
        label = max(spoken, key=lambda text: (spoken[text], text)) if spoken else _described(dag, module.units.tolist())
        groups.append([label, *(str(node.get(key, node["node_id"])) for node in members)])
    document["qParams"] = {**settings, "supernodes": groups}
    write_whole(path, json.dumps(document, ensure_ascii=False))


def _described(dag: LayeredDAG, units: list[int]) -> str:
    """Say where units lie, such as "position 3, layers 1–4"."""
    assert dag.layer_names is not None
    names = [name.removeprefix("layer ") for name in dag.layer_names]
    where = [] if dag.positions is None else [("position", np.unique(dag.positions[units]).tolist())]
    where.append(("layer", [names[level] for level in np.unique(dag.layer[units])]))
    return ", ".join(f"{word} {at[0]}" if len(at) == 1 else f"{word}s {at[0]}–{at[-1]}" for word, at in where)


def _id_key(document: dict[str, Any], settings: dict[str, Any]) -> str:
    """Tell which ids the groups of a file are made of."""
    nodes = document["nodes"]
    known = {key: {node[key] for node in nodes if isinstance(node.get(key), str)} for key in ("node_id", "jsNodeId")}
    used: set[Any] = set()
    for name in ("pinnedIds", "supernodes"):
        for entry in settings[name] if isinstance(settings.get(name), list) else []:
            used.update(name for name in (entry[1:] if isinstance(entry, list) else [entry]) if isinstance(name, str))
    votes = {key: len(used & ids) for key, ids in known.items()}
    if votes["node_id"] != votes["jsNodeId"]:
        return max(votes, key=lambda key: votes[key])
    # No group to go by: files of neuronpedia's schema use node ids, older ones `jsNodeId`, where these are unique.
    metadata = document.get("metadata")
    newer = isinstance(metadata, dict) and "schema_version" in metadata
    return "node_id" if newer or len(known["jsNodeId"]) < len(nodes) else "jsNodeId"


# --- The parts of a file ----------------------------------------------------------------------------------------------


def _document(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"`path` must be a JSON file (got {os.fspath(path)!r})") from None
    for part in ("nodes", "links"):
        if not isinstance(document, dict) or not isinstance(document.get(part), list):
            raise ValueError(f"an attribution graph must have a list of {part!r} (got {os.fspath(path)!r})")
        for at, entry in enumerate(document[part]):
            if not isinstance(entry, dict):
                raise ValueError(f"{part[:-1]} {at} must be an object (got {type(entry).__name__})")
    whole: dict[str, Any] = document
    return whole


def _column(entries: list[dict[str, Any]], name: str, *, good: Callable[[Any], bool], wanted: str) -> list[Any]:
    """Return a field, which must be of some form, of all nodes or links."""
    for at, entry in enumerate(entries):
        value = entry.get(name)
        if isinstance(value, bool) or not good(value):
            what = "node" if name in ("node_id", "ctx_idx") else "link"
            raise ValueError(f"`{name}` of {what} {at} must be {wanted} (got {value!r})")
    return [entry.get(name) for entry in entries]


def _layer(node: dict[str, Any], at: int) -> float:
    """Place a node in the order of the layers."""
    value = node.get("layer")
    kind = node.get("feature_type")
    if kind == EMBEDDING or value in ("E", "embedding"):
        return FIRST
    if kind == LOGIT:
        return LAST
    number = value if isinstance(value, str | int) and not isinstance(value, bool) else "?"
    try:
        return float(int(number))
    except (ValueError, OverflowError):
        raise ValueError(f"`layer` of node {at} must be 'E' or a whole number (got {value!r})") from None
