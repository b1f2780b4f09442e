"""Units clustered so that the network has the shortest description (`modgraph.cluster.description`)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modgraph.arrays import IntArray, read_only
from modgraph.checks import check_memory
from modgraph.cluster import (
    description,
    description_plain,  # noqa: F401 (registers what runs without compiling)
)
from modgraph.cluster.description import LayerDescription, TwoWayGraph, in_bits
from modgraph.cluster.description_search import Search, with_layer
from modgraph.cluster.sparse import LAYERS_AT_ONCE, PAIRS_PER_ROW
from modgraph.compiled import PLAIN_UNITS, THREAD_EDGES, plain
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit

# If all layers have fewer than `PLAIN_UNITS` units, the search ends after this many partitions in a row from which no
# shorter description was reached.
MOST_IN_VAIN = 5
# Graphs with this many edges or more are always searched by compiled code.
PLAIN_EDGES = 1000
# Memory that the search takes, in bytes: for each edge, for each unit, and for each pair of similar units of one layer.
EDGE_BYTES = 76
UNIT_BYTES = 600
PAIR_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """The partition from which a network is described in the fewest bits that were found.

    Attributes
    ----------
    labels : ndarray of int, shape (n_units,)
        Cluster of each unit, numbered by first unit; no cluster spans two layers.
    bits : float
        Length of that description.
    trivial_bits : float
        Length of the description with one cluster in each layer that was free to change.
    capped : bool
        Whether some layer's linkage tree was (see `modgraph.cluster.sparse.LayerTree`).
    """

    labels: IntArray
    bits: float
    trivial_bits: float
    capped: bool

    def __repr__(self) -> str:
        return (
            f"Description({int(self.labels.max()) + 1} clusters, {self.bits:.1f} bits, "
            f"{self.trivial_bits:.1f} with one a layer)"
        )


def described_linkage(
    dag: LayeredDAG, *, hops: int, small: Callable[[LayeredDAG, int], IntArray]
) -> tuple[IntArray, Description | None]:
    """Cluster the layers that are large enough by description, and the others one by one.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    hops : int ≥ 1
    small : callable
        Given the network and a layer, returns a label for each unit of it; asked for the layers of fewer than
        `modgraph.cluster.description.SMALLEST_LAYER` units. The description takes their partitions as given.

    Returns
    -------
    labels : ndarray of int, shape (n_units,)
        Cluster of each unit, numbered by first unit; no cluster spans two layers. Output units are clusters of one.
    description : Description or None
        Of the network; None where no layer before the outputs was large enough.
    """
    large = np.array(dag.layer_sizes) >= description.SMALLEST_LAYER
    labels = np.full(dag.n_units, -1, dtype=np.int64)
    starts = dag.layer_starts.tolist()
    for level, (start, stop) in enumerate(itertools.pairwise(starts)):
        if start < stop and level < dag.n_layers - 1 and not large[level]:
            labels[start:stop] = small(dag, level)
    if not large[-1]:
        labels[starts[-2] :] = np.arange(dag.layer_sizes[-1])
    found = None
    if large[:-1].any():
        # Labels may be any ints: −1 must mean "not decided" only.
        decided = ~large[dag.layer]
        labels[decided] = by_first_unit(labels[decided])
        found = shortest_description(dag, hops=hops, held=labels)
        labels = found.labels.copy()
    labels[starts[-2] :] = np.arange(dag.layer_sizes[-1])
    # Layers never share a label.
    lowest = int(labels.min())
    span = int(labels.max()) - lowest + 1
    return read_only(by_first_unit(dag.layer * span + labels - lowest)), found


def shortest_description(dag: LayeredDAG, *, hops: int, held: IntArray | None = None) -> Description:
    """Find the partition of every layer from which the network is described in the fewest bits.

    Each layer's linkage tree is grown on what its units reach and what reaches them within `hops` steps. Then:

    1. All layers are cut into k clusters, for k = 2, 3, 4, 6, 8, … All of these are improved, or in small networks
       those with the shortest descriptions (see `MOST_IN_VAIN`), or in large networks (see `START_EDGES`) those that
       lead after a few passes.
    2. Units move to the cluster of their layer where they shorten the description most, all units of a layer
       at once, and pairs of clusters that are each other's best partner are joined, layer after layer until nothing
       changes. If that makes the description longer, because units or clusters would only do well without the
       others, the better half of them is tried, and so on.
    3. Then each layer in turn is replaced by other partitions, improved in the same way, if that is shorter: its tree
       cut at half as many, as many and twice as many clusters; each unit labelled by the cluster of an adjacent
       layer that it has most edges with; one cluster. Step 2 follows again, until less than one part in
       `LEAST_GAIN` is gained.

    The shortest of the results, or one cluster a layer, is returned. Lengths are counted in whole numbers (2⁻²⁰ nat)
    and nothing is decided by the order of units: where two choices are equal neither is taken.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    hops : int ≥ 1
    held : ndarray of int, shape (n_units,), optional
        Layers whose units have labels ≥ 0 keep them; −1 elsewhere.

    Returns
    -------
    Description

    Raises
    ------
    MemoryError
        If it would need more memory than is free.

    Examples
    --------
    >>> halves = np.kron(np.eye(2), np.ones((12, 12)))
    >>> shortest_description(LayeredDAG.from_masks([halves, halves]), hops=2)
    Description(6 clusters, 129.9 bits, 1157.9 with one a layer)
    """
    check_memory(_bytes_needed(dag, hops), purpose="clustering")
    graph = TwoWayGraph.of(dag)
    start = np.zeros(dag.n_units, dtype=np.int64)
    free = []
    for level, units in enumerate(graph.layers):
        if units.start == units.stop:
            continue
        if held is not None and (held[units] >= 0).all():
            start[units] = by_first_unit(held[units])
        else:
            free.append(level)
    with plain(largest=max(dag.layer_sizes) if dag.n_edges < PLAIN_EDGES else PLAIN_UNITS):
        search = Search(graph, free, hops)
        best, trivial = start, graph.length(start)
        shortest, in_vain = trivial, 0
        for clusters in search.starts(start):
            clusters, length = search.improve(clusters)
            in_vain += 1
            if length < shortest:
                best, shortest, in_vain = clusters, length, 0
            if in_vain == MOST_IN_VAIN and max(dag.layer_sizes) < PLAIN_UNITS:
                break
    offset = np.concatenate([[0], np.cumsum([best[units].max(initial=-1) + 1 for units in graph.layers])])
    return Description(
        labels=read_only(by_first_unit(best + offset[dag.layer])),
        bits=in_bits(shortest),
        trivial_bits=in_bits(trivial),
        capped=any(tree.capped for tree in search.trees.values()),
    )


def _bytes_needed(dag: LayeredDAG, hops: int) -> float:
    """Estimate the memory of `shortest_description`, in bytes, from above."""
    degree = 2 * dag.n_edges / dag.n_units
    pairs = max(dag.layer_sizes) * min(PAIRS_PER_ROW, degree ** (2 * min(hops, 2)))
    if dag.n_edges >= THREAD_EDGES:
        pairs *= min(LAYERS_AT_ONCE, os.cpu_count() or 1, dag.n_layers)
    return EDGE_BYTES * dag.n_edges + UNIT_BYTES * dag.n_units + PAIR_BYTES * pairs


def shortest_combination(dag: LayeredDAG, candidates: Mapping[int, Sequence[IntArray]]) -> IntArray:
    """Choose for each layer one of several partitions, so that the description is the shortest.

    First all layers take the first of theirs, or the second, and so on; one cluster a layer is also tried. From the
    shortest of these each layer in turn takes the partition that shortens the description most, until none does.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    candidates : mapping of int to sequence of ndarray of int
        By layer: labels of its units. Layers that are not named have one cluster.

    Returns
    -------
    ndarray of int, shape (n_units,)
        Cluster labels, numbered by first unit; no cluster spans two layers. Output units are clusters of one.
    """
    graph = TwoWayGraph.of(dag)
    best = np.zeros(dag.n_units, dtype=np.int64)
    shortest = graph.length(best)
    for choice in range(max(map(len, candidates.values()), default=0)):
        clusters = np.zeros_like(best)
        for level, partitions in candidates.items():
            if partitions:
                clusters[graph.layers[level]] = by_first_unit(partitions[min(choice, len(partitions) - 1)])
        length = graph.length(clusters)
        if length < shortest:
            best, shortest = clusters, length
    changed = True
    while changed:
        changed = False
        for level, partitions in candidates.items():
            units = graph.layers[level]
            now = LayerDescription(graph, best, level).length
            for labels in [*partitions, np.zeros(units.stop - units.start, dtype=np.int64)]:
                clusters = with_layer(best, units, labels)
                length = LayerDescription(graph, clusters, level).length
                if length < now:
                    best, now, changed = clusters, length, True
    best = best.copy()
    best[graph.layers[-1]] = np.arange(dag.layer_sizes[-1])
    return read_only(by_first_unit(best + dag.layer * dag.n_units))
