"""The published networks, where they are at hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgraph import LayeredDAG
from modgraph.arrays import IntArray
from modgraph.labels import by_first_unit
from modgraph.planted import planted_modules

SHARED = Path(__file__).parents[2] / "shared"
FOLDER = SHARED / "published_networks"

needs_published = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published networks are not beside the repository")


@cache
def published_index() -> list[dict[str, Any]]:
    index: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text())
    return index


def published_dag(entry: dict[str, Any], *, weights: bool = False) -> LayeredDAG:
    levels = range(len(entry["layer_sizes"]) - 1)
    with np.load(FOLDER / entry["file"]) as arrays:
        return LayeredDAG.from_masks(
            [arrays[f"mask{i}"] for i in levels],
            weights=[arrays[f"weight{i}"] for i in levels] if weights else None,
            biases=[arrays[f"bias{i}"] for i in levels] if weights else None,
            activations=["relu"] * (len(levels) - 1) + ["sigmoid"] if weights else None,
        )


def skipping_network(seed: int) -> tuple[LayeredDAG, IntArray]:
    """Three planted layers with some edges from the first to the last, and clusters: halves of modules, some wrong."""
    rng = np.random.default_rng(seed)
    network, module = planted_modules([12, 10, 14], n_modules=2, fan_out=4, rewired=0.1, random_state=seed)
    skipping = [[source, 22 + source % 5] for source in range(9)]
    dag = LayeredDAG.from_edges(np.concatenate([network.edges, skipping]), layer=network.layer)
    labels = 2 * module + rng.integers(2, size=dag.n_units)
    labels = np.where(rng.random(dag.n_units) < 0.2, rng.integers(4, size=dag.n_units), labels)
    return dag, np.concatenate([by_first_unit(labels[dag.layer == level]) for level in range(3)])


def edge_matrix(dag: LayeredDAG) -> IntArray:
    """1 for each edge, in both directions."""
    edges = np.zeros((dag.n_units, dag.n_units), dtype=np.int64)
    edges[dag.sources, dag.targets] = edges[dag.targets, dag.sources] = 1
    return edges


def two_strands(copies: int = 1) -> LayeredDAG:
    """Two separate strands, each 2 inputs → 2 units → 1 output, `copies` times over."""
    block = np.kron(np.eye(2 * copies, dtype=int), np.ones((2, 2), dtype=int))
    return LayeredDAG.from_masks([block, np.kron(np.eye(2 * copies, dtype=int), np.ones((1, 2), dtype=int))])
