"""Hierarchies and their graphs as JSON files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from modgraph.arrays import read_only
from modgraph.dag import LayeredDAG
from modgraph.files import write_whole
from modgraph.modules import Module, ModuleHierarchy

FORMAT = "modgraph hierarchy 1"  # the first field of every saved hierarchy


def is_hierarchy(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as those of `save_hierarchy` do."""
    with Path(path).open("rb") as file:
        return FORMAT.encode() in file.read(64)


def save_hierarchy(found: ModuleHierarchy, path: str | os.PathLike[str]) -> None:
    """Write a hierarchy and its graph as one JSON file.

    Parameters
    ----------
    found : ModuleHierarchy
    path : path-like
        Replaced only once the new file is complete.
    """
    dag = found.dag
    optional = {
        name: None if (values := getattr(dag, name)) is None else values.tolist()
        for name in ("weights", "biases", "activations", "unit_names", "positions")
    }
    document = {
        "format": FORMAT,
        "settings": dict(found.settings),
        "dag": {
            "layer": dag.layer.tolist(),
            "edges": dag.edges.tolist(),
            "dense_edges": dag.dense_edges,
            "layer_names": dag.layer_names,
            "notes": dag.notes,
            **optional,
        },
        "labels": found.labels.tolist(),
        "cluster_labels": found.cluster_labels.tolist(),
        "modules": [module_record(module) for module in found.modules],
    }
    write_whole(path, json.dumps(document))


def load_hierarchy(path: str | os.PathLike[str]) -> ModuleHierarchy:
    """Read a hierarchy that `save_hierarchy` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ModuleHierarchy

    Raises
    ------
    ValueError
        If the file is not such a hierarchy.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise KeyError(FORMAT)
        graph, settings = dict(document["dag"]), document["settings"]
        labels, cluster_labels = (np.array(document[name]) for name in ("labels", "cluster_labels"))
        if labels.dtype.kind != "i" or cluster_labels.dtype.kind != "i" or not isinstance(graph["dense_edges"], int):
            raise TypeError
        dag = LayeredDAG.from_edges(graph.pop("edges"), **graph)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise ValueError(f"`path` must be a module hierarchy saved by modgraph (got {os.fspath(path)!r})") from None
    return ModuleHierarchy(
        dag=dag, labels=read_only(labels), cluster_labels=read_only(cluster_labels), settings=settings
    )


def module_record(module: Module) -> dict[str, Any]:
    """Describe a module in types that JSON knows."""
    return {
        "id": module.id,
        "level": module.level,
        "layers": list(module.layers),
        "units": module.units.tolist(),
        "inputs": module.inputs.tolist(),
        "outputs": module.outputs.tolist(),
    }
