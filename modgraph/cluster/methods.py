"""The clusterings of `detect_modules`: each takes a trimmed network and gives a label for every unit."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import IntArray, read_only
from modgraph.cluster.by_description import described_linkage
from modgraph.cluster.description import SMALLEST_LAYER
from modgraph.cluster.rows import Clustering, published_linkage, tied_linkage
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit
from modgraph.reach import layers_within, reachability, spread

# Most units of a network whose reachability is found by dense matrix products: they are quicker up to here.
SMALL_GRAPH = 128

Clusters = tuple[IntArray, dict[str, bool]]


class Method(Protocol):
    """A clustering of a whole network: takes a trimmed graph, hops and a random generator; returns labels and notes.

    No cluster spans two layers, labels are numbered by first unit, and output units are clusters of one. Notes are what
    a user should know of this run; `detect_modules` adds them to `ModuleHierarchy.settings`.
    """

    def __call__(self, dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:
        """Return a label for each unit, shape (n_units,), and the notes."""


def cluster_layers(dag: LayeredDAG, method: Clustering, *, hops: int) -> IntArray:
    """Cluster the units of every layer by what they reach.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    method : callable
        As in `detect_modules`.
    hops : int ≥ 1

    Returns
    -------
    ndarray of int, shape (n_units,)
        Cluster labels, numbered by first unit; no cluster spans two layers.
    """
    starts = dag.layer_starts.tolist()
    within = layers_within(dag, hops)
    skips = dag.skips_layers
    if dag.n_units > SMALL_GRAPH:
        step = dag.adjacency
    else:
        step = np.zeros((dag.n_units, dag.n_units), dtype=np.bool_)
        step[dag.sources, dag.targets] = True
    labels = np.arange(dag.n_units)
    for level in range(dag.n_layers - 1):
        start, stop = starts[level], starts[level + 1]
        if stop - start == 0:
            continue
        reached = spread(step[start:stop], step, hops=hops, skips_layers=skips)[:, within[level][dag.layer]]
        rows = reached.toarray() if isinstance(reached, csr_array) else reached
        found = np.asarray(method(rows)) if len(rows) > 1 else np.zeros(1, dtype=np.int64)
        if found.shape != (len(rows),) or found.dtype.kind not in "iu":
            raise ValueError(
                f"`clustering` must return an int for each of {len(rows)} rows "
                f"(got shape {found.shape}, dtype {found.dtype})"
            )
        # The label is the cluster's first unit, so layers never share one.
        first: dict[int, int] = {}
        labels[start:stop] = [first.setdefault(label, unit) for unit, label in enumerate(found.tolist(), start)]
    return read_only(by_first_unit(labels))


def by_layer(clustering: Clustering) -> Method:
    """Turn a clustering of the rows of one layer into one of the network."""

    def method(dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:  # noqa: ARG001 (draws nothing)
        return cluster_layers(dag, clustering, hops=hops), {}

    return method


def _linkage(dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:  # noqa: ARG001 (draws nothing)
    if max(dag.layer_sizes[:-1]) < SMALLEST_LAYER:
        return cluster_layers(dag, tied_linkage, hops=hops), {}
    within = layers_within(dag, hops)

    def small(dag: LayeredDAG, level: int) -> IntArray:
        return tied_linkage(reachability(dag, level, hops=hops)[:, within[level][dag.layer]].toarray())

    labels, description = described_linkage(dag, hops=hops, small=small)
    return labels, {} if description is None else {"capped": description.capped}


def _leiden(dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:
    from modgraph.cluster.leiden import leiden

    return leiden(dag, hops=hops, rng=rng), {}


def _blockmodel(dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:
    from modgraph.cluster.blockmodel import blockmodel

    return blockmodel(dag, hops=hops, rng=rng), {}


METHODS: dict[str, Method] = {
    "linkage": _linkage,
    "published": by_layer(published_linkage),
    "leiden": _leiden,
    "blockmodel": _blockmodel,
}
"""The clusterings by name. *linkage* (the default) cuts trees of average linkage. In layers that are large enough it
takes the cut from which the network has the shortest description (`modgraph.cluster.description`), elsewhere the cut of
the paper's rule, free of unit order (`modgraph.cluster.tied_linkage`). *published* is the paper's rule to the letter
(`modgraph.cluster.published_linkage`). *leiden* (igraph) and *blockmodel* (graph-tool) are alternatives."""
