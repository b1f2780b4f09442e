"""The clusterings of `detect_modules`: each takes a trimmed network and gives a label for every unit."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import IntArray, read_only
from modgraph.cluster.rows import Clustering, linkage, published
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit
from modgraph.reach import layers_within, reachability, spread

# Up to here a dense boolean product is quicker than the set-up of a sparse one.
SMALL_GRAPH = 128


Clusters = tuple[IntArray, dict[str, bool]]


class Method(Protocol):
    """What a clustering is: a trimmed network, how far reach counts, and a source of randomness → labels and notes.

    No cluster spans two layers, labels are numbered by first unit, and output units are clusters of one. Notes say what
    a user should know of this run; they end in `ModuleHierarchy.settings`.
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
        # A cluster goes by its first unit here, so layers never share one.
        first: dict[int, int] = {}
        labels[start:stop] = [first.setdefault(label, unit) for unit, label in enumerate(found.tolist(), start)]
    return read_only(by_first_unit(labels))


def by_layer(clustering: Clustering) -> Method:
    """Turn a clustering of the rows of one layer into one of the network."""

    def method(dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:  # noqa: ARG001 (draws nothing)
        return cluster_layers(dag, clustering, hops=hops), {}

    return method


def _linkage(dag: LayeredDAG, /, *, hops: int, rng: np.random.Generator) -> Clusters:  # noqa: ARG001 (draws nothing)
    from modgraph.cluster.description import SMALLEST, described_linkage

    if max(dag.layer_sizes[:-1]) < SMALLEST:
        return cluster_layers(dag, linkage, hops=hops), {}
    within = layers_within(dag, hops)

    def small(dag: LayeredDAG, level: int) -> IntArray:
        return linkage(reachability(dag, level, hops=hops)[:, within[level][dag.layer]].toarray())

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
    "published": by_layer(published),
    "leiden": _leiden,
    "blockmodel": _blockmodel,
}
"""By name. *linkage* (the default) cuts trees of average linkage: in layers that are large enough to tell, where the
network has the shortest description (`modgraph.cluster.description`), in the others as the paper does, free of unit
order (`modgraph.cluster.linkage`). *published* is the paper's rule to the letter. *leiden* (igraph) and *blockmodel*
(graph-tool) are alternatives to compare with."""
