"""Hierarchies and their graphs as JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modgraph.arrays import read_only
from modgraph.dag import LayeredDAG
from modgraph.edges import sorted_edges
from modgraph.files import check_regular_file, write_whole
from modgraph.io.request import Reader
from modgraph.modules import Module, ModuleHierarchy

FORMAT = "modgraph hierarchy 1"  # the first field of every saved hierarchy
_MOST_LAYERS = 1_000_000
_FIELDS = ("biases", "activations", "unit_names", "positions", "layer_names")  # that a graph may have


HIERARCHY = Reader(
    name="a hierarchy",
    matches=lambda file: FORMAT.encode() in file.start[:64],
    read=lambda request: request.without_small(load_hierarchy(request.path).dag),
)


def save_hierarchy(found: ModuleHierarchy, path: str | os.PathLike[str]) -> None:
    """Write a hierarchy and its graph as one JSON file.

    Parameters
    ----------
    found : ModuleHierarchy
    path : path-like
        Replaced only once the new file is complete.
    """
    dag = found.dag
    document = {
        "format": FORMAT,
        "settings": found.settings,
        "dag": {
            name: getattr(dag, name)
            for name in ("layer", "n_layers", "unit_index", "edges", "dense_edges", "weights", "notes", *_FIELDS)
        },
        "labels": found.labels,
        "cluster_labels": found.cluster_labels,
        "shares": found.shares,
        "links": found.links,
        "modules": [module_record(module) for module in found.modules],
    }
    write_whole(path, json.dumps(document, default=plain))


def load_hierarchy(path: str | os.PathLike[str]) -> ModuleHierarchy:
    """Read a hierarchy that `save_hierarchy` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ModuleHierarchy
        Its graph equals the one that was saved.

    Raises
    ------
    ValueError
        If the file is not such a hierarchy.
    """
    check_regular_file(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["format"] != FORMAT or not isinstance(document["settings"], dict):
            raise ValueError("not of that format")
        dag = _dag(document["dag"])
        # Files of earlier versions have neither shares nor links.
        shares, links = document.get("shares"), document.get("links")
        return ModuleHierarchy(
            dag=dag,
            labels=_ints(document["labels"], length=dag.n_units),
            cluster_labels=_ints(document["cluster_labels"], length=dag.n_units),
            settings=document["settings"],
            shares=None if shares is None else read_only(np.array(shares, dtype=np.float64)),
            links=None if links is None else read_only(np.array(links, dtype=np.int64).reshape(-1, 2)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = f": {error}" if type(error) is ValueError else ""
        raise ValueError(
            f"`path` must be a module hierarchy saved by modgraph (got {os.fspath(path)!r}{reason})"
        ) from None


def module_record(module: Module) -> dict[str, Any]:
    """Describe a module; `plain` makes JSON of it."""
    return {name: getattr(module, name) for name in ("id", "level", "layers", "units", "inputs", "outputs")}


def _dag(graph: dict[str, Any]) -> LayeredDAG:
    """Check the parts of a graph and put them together; layers may be empty, as they are after trimming."""
    layer = _ints(graph["layer"])
    n_layers = graph.get("n_layers", int(layer.max()) + 1 if layer.size else 0)
    if type(n_layers) is not int or not 2 <= n_layers <= _MOST_LAYERS or (np.diff(layer) < 0).any():
        raise ValueError("layers must be numbered from 0, in order")
    if layer.size and not 0 <= layer[0] <= layer[-1] < n_layers:
        raise ValueError(f"layers must be from 0 to {n_layers - 1}")
    edges, weights = sorted_edges(graph["edges"] or [], layer, graph.get("weights"))
    if len(edges) < len(graph["edges"] or []):
        raise ValueError("no edge may be there twice")
    dense_edges, unit_index, notes = graph["dense_edges"], graph.get("unit_index"), graph.get("notes", [])
    if isinstance(dense_edges, float) and dense_edges.is_integer():
        dense_edges = int(dense_edges)
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("notes must be texts")
    return LayeredDAG.from_sorted_edges(
        edges[:, 0],
        edges[:, 1],
        layer=layer,
        n_layers=n_layers,
        dense_edges=dense_edges,
        weights=weights,
        unit_index=None if unit_index is None else _ints(unit_index, length=layer.size),
        notes=notes,
        **{name: graph.get(name) for name in _FIELDS},
    )


def _ints(values: Any, *, length: int | None = None) -> Any:
    """Turn a list of ints into an array."""
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError("labels and layers must be lists of ints")
    if length is not None and len(values) != length:
        raise ValueError(f"there must be {length} labels, one a unit")
    return read_only(np.array(values, dtype=np.int64))


def plain(value: Any) -> Any:
    """Turn NumPy's numbers and arrays, and mappings of other kinds, into what JSON knows."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} can't be saved as JSON")
