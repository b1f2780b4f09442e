"""How well a partition describes a network: the number of bits from which the network can be told.

**The description.** Tell the cluster of every unit, then which clusters are linked and by how many edges, then where
the edges are. With n_l units in K_l clusters of sizes n_r in layer l, its partition takes ::

    P_l = log n_l + log C(n_l − 1, K_l − 1) + log (n_l! / Π_r n_r!)

nats: the number of clusters, their sizes, who is where (Peixoto, Physical Review E 95, 012317, 2017, "Nonparametric
Bayesian inference of the microcanonical stochastic block model", the prior of partitions). Between layers a and b with
E edges, m of the K_a K_b pairs of clusters are *linked*. A linked pair (r, s) has its own number of edges e_rs.
All other pairs of units are one background, which holds the E₀ remaining edges in N₀ = n_a n_b − Σ_linked n_r n_s
places ::

    Q_ab = log (1 + min(K_a K_b, E)) + log C(K_a K_b, m) + Σ_linked [log min(n_r n_s, E) + log C(n_r n_s, e_rs)]
         + log C(N₀, E₀).

Those pairs are linked for which this is shortest, as far as a few rounds of choosing them find: each round takes the
density of the background from the round before. The length is Σ P_l + Σ Q_ab. It is that of a microcanonical stochastic
block model without degree correction, with places only between layers (as in the bipartite model of Larremore, Clauset
and Jacobs, Physical Review E 90, 012805, 2014) and with a prior of our own for the edge counts: most pairs of clusters
are empty except for noise. A prior that is flat over the counts of all pairs can't tell more than about √n clusters
apart (Peixoto, Physical Review Letters 110, 148701, 2013).

**When it beats the modularity curve.** M(k) compares clusters with the average over the layer. So it joins modules
where there are many (its minimum for m equal ones is −1/m, and it has a limit near √n), and it always finds some.
The description has no such limit, and one cluster a layer is a valid answer. But each partition costs bits that only
edges pay back, and tiny layers have too few (see `resolvable`): there the published tests decide.

`modgraph.cluster.description_search` finds the partition with the shortest description.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modgraph.arrays import BoolArray, IntArray, read_only
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit

if TYPE_CHECKING:  # loads numba
    from modgraph.cluster.description_kernels import BlockPairs

# Fewest units of a layer that is decided by description (see `resolvable`).
SMALLEST_LAYER = 10


def description_length(dag: LayeredDAG, labels: IntArray) -> float:
    """Return the length of the description of a network by a partition of its layers (see the module's text).

    Parameters
    ----------
    dag : LayeredDAG
    labels : ndarray of int, shape (n_units,)
        Cluster of each unit, named by any int; units of different layers are in different clusters whatever their
        labels.

    Returns
    -------
    float
        In bits.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((8, 8)))])
    >>> description_length(dag, np.zeros(32)) > description_length(dag, np.repeat([0, 1, 0, 1], 8))
    True
    """
    graph = TwoWayGraph.of(dag)
    clusters = np.empty(dag.n_units, dtype=np.int64)
    for units in graph.layers:
        clusters[units] = by_first_unit(np.asarray(labels)[units])
    return in_bits(graph.length(clusters))


def resolvable(dag: LayeredDAG) -> BoolArray:
    """Say which layers are large enough for a description to tell two modules from one.

    A layer is large enough if it has `SMALLEST_LAYER` units or more, and if two equal modules without an edge between
    them would shorten the description of a network of these layer sizes and numbers of edges. The saving on the
    edges on either side counts half, since the other half is due to the layers at their other ends; it must be more
    than the partition of the layer costs. In other layers a real partition, which is less perfect, can't pay for
    itself.

    `SMALLEST_LAYER` is measured: on planted modules the description is ahead of the modularity curve and its tests
    from ten units a layer on. On the 832 published networks, whose layers have 2 to 8 hidden units, it is behind them
    (491 of 832 exact instead of 573, if it decides from four units on; `tests/long/against_louvain.py`).

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.

    Returns
    -------
    ndarray of bool, shape (n_layers,)

    Examples
    --------
    >>> small, large = (LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((n, n)))]) for n in (2, 12))
    >>> resolvable(small).tolist(), resolvable(large).tolist()
    ([False, False], [True, True])
    """
    sizes = dag.layer_sizes
    found = np.zeros(dag.n_layers, dtype=np.bool_)
    if max(sizes) < SMALLEST_LAYER:
        return read_only(found)
    from modgraph.cluster.description_kernels import log_choose, log_number

    graph = TwoWayGraph.of(dag)
    for level, size in enumerate(sizes):
        if size < SMALLEST_LAYER:
            continue
        saved = 0
        for other, n_edges in graph.edges_between[level].items():
            places = size * sizes[other]
            # Each module has half the units of both layers, so a quarter of the places, and half the edges.
            edges = min(n_edges, places // 2) // 2
            saved += log_number(2) + log_choose(places, n_edges)
            saved -= log_number(1 + min(4, n_edges)) + log_choose(4, 2)
            saved -= 2 * (log_number(min(places // 4, n_edges)) + log_choose(places // 4, edges))
        partition = log_number(size) + log_number(size - 1) + log_choose(size, size // 2)
        found[level] = saved > 2 * partition
    return read_only(found)


def in_bits(length: int) -> float:
    """Convert a code length from 2⁻²⁰ nat to bits."""
    from modgraph.cluster.description_kernels import NAT

    return length / NAT / math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoWayGraph:
    """A layered graph as lists of neighbours of either direction.

    Its methods take partitions as arrays of clusters that count from 0 in each layer.

    Attributes
    ----------
    dag : LayeredDAG
    layers : list of slice
        The units of each layer.
    pointers : ndarray of int, shape (n_units + 1,)
        Where the neighbours of each unit begin.
    neighbours : ndarray of int, shape (2 n_edges,)
    edges_between : list of dict of int to int
        For each layer the layers it has edges with, and how many.
    """

    dag: LayeredDAG
    layers: list[slice]
    pointers: IntArray
    neighbours: IntArray
    edges_between: list[dict[int, int]]

    @classmethod
    def of(cls, dag: LayeredDAG) -> TwoWayGraph:
        """List the neighbours of each unit."""
        ends = np.concatenate([dag.sources, dag.targets])
        order = np.argsort(ends, kind="stable")
        edges_between: list[dict[int, int]] = [{} for _ in range(dag.n_layers)]
        pairs, counts = np.unique(dag.layer[dag.sources] * dag.n_layers + dag.layer[dag.targets], return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            one, two = divmod(pair, dag.n_layers)
            edges_between[one][two] = edges_between[two][one] = count
        return cls(
            dag=dag,
            layers=[slice(start, stop) for start, stop in itertools.pairwise(dag.layer_starts.tolist())],
            pointers=np.searchsorted(ends[order], np.arange(dag.n_units + 1)),
            neighbours=np.concatenate([dag.targets, dag.sources])[order],
            edges_between=edges_between,
        )

    def length(self, clusters: IntArray) -> int:
        """Return the length of the whole description, in 2⁻²⁰ nat."""
        return sum(
            LayerDescription(self, clusters, level, entering=False).length
            for level, units in enumerate(self.layers)
            if units.start < units.stop
        )

    def named_after(self, clusters: IntArray, level: int, other: int) -> IntArray:
        """Relabel each unit of a layer by the cluster of another layer that it has most edges with.

        A unit that has as many edges with two of them keeps its own cluster.
        """
        units, other_units = self.layers[level], self.layers[other]
        size = units.stop - units.start
        unit = np.repeat(np.arange(size), np.diff(self.pointers[units.start : units.stop + 1]))
        neighbours = self.neighbours[self.pointers[units.start] : self.pointers[units.stop]]
        in_other = (neighbours >= other_units.start) & (neighbours < other_units.stop)
        n_clusters = int(clusters[other_units].max()) + 1
        pairs, counts = np.unique(unit[in_other] * n_clusters + clusters[neighbours[in_other]], return_counts=True)
        unit, cluster = np.divmod(pairs, n_clusters)
        most = np.zeros(size, dtype=np.int64)
        np.maximum.at(most, unit, counts)
        has_most = counts == most[unit]
        is_untied = np.bincount(unit[has_most], minlength=size) == 1
        labels = n_clusters + clusters[units]
        chosen = has_most & is_untied[unit]
        labels[unit[chosen]] = cluster[chosen]
        return labels


class LayerDescription:
    """One layer's part of the description, given the clusters of the other layers.

    Attributes
    ----------
    length : int
        In 2⁻²⁰ nat.
    clusters : ndarray of int, shape (n_units_of_layer,)
        The cluster of each unit of the layer.
    sizes : ndarray of int, shape (n_clusters,)
        Units in each cluster of the layer.
    all_clusters : ndarray of int, shape (n_units,)
        The cluster of each unit of the network; those of different layers have different numbers.
    all_sizes : ndarray of int
        Units in each of those.
    pairs : BlockPairs
        The edges of the layer's clusters with all clusters.
    costs : EdgeCosts
        What changes to those edges cost, by the cluster at the other end.
    one_cluster_less : int
        What one cluster less in this layer changes, in 2⁻²⁰ nat.
    """

    def __init__(self, graph: TwoWayGraph, clusters: IntArray, level: int, *, entering: bool = True) -> None:
        """`entering`: count the edges that enter the layer, not only those that leave it."""
        from modgraph.cluster import description_kernels as kernels

        units = graph.layers[level]
        self.units, self.clusters = units, clusters[units]
        self.sizes = np.bincount(self.clusters)
        n_clusters = [int(clusters[other].max(initial=-1)) + 1 for other in graph.layers]
        offset = np.concatenate([[0], np.cumsum(n_clusters)])
        self.all_clusters = clusters + offset[graph.dag.layer]
        self.all_sizes = np.bincount(self.all_clusters, minlength=offset[-1])
        self.pairs: BlockPairs = kernels.block_edges(
            np.argsort(self.clusters, kind="stable") + units.start,
            np.concatenate([[0], np.cumsum(self.sizes)]),
            graph.pointers,
            graph.neighbours,
            self.all_clusters,
            int(offset[-1]),
        )
        others = self.pairs.others
        places = np.repeat(self.sizes, np.diff(self.pairs.starts)) * self.all_sizes[others]
        size, n_own = len(self.clusters), len(self.sizes)
        self.length: int = (
            kernels.log_number(size)
            + kernels.log_choose(size - 1, n_own - 1)
            + kernels.log_factorials(np.array([size]))
            - kernels.log_factorials(self.sizes)
        )
        self.one_cluster_less = kernels.log_choose(size - 1, n_own - 2) - kernels.log_choose(size - 1, n_own - 1)
        place, edge, link = np.zeros((3, offset[-1]))
        self.costs = kernels.EdgeCosts(place, edge, link, np.zeros(offset[-1], dtype=np.int64))
        for other, n_edges in graph.edges_between[level].items():
            if other < level and not entering:
                continue
            in_other = (others >= offset[other]) & (others < offset[other + 1])
            length, cost = kernels.edges_length(
                places[in_other],
                self.pairs.n_edges[in_other],
                n_own * n_clusters[other],
                size * (graph.layers[other].stop - graph.layers[other].start),
                n_edges,
            )
            self.length += length
            for values, value in zip(self.costs, cost, strict=True):
                values[offset[other] : offset[other + 1]] = value
            self.one_cluster_less -= round(n_clusters[other] * math.log1p(math.exp(-cost.link)) * kernels.NAT)

    def linked_pairs(self) -> BlockPairs:
        """Return the linked pairs of clusters, and those that would be with one unit and one edge more."""
        from modgraph.cluster import description_kernels as kernels

        pairs: BlockPairs = kernels.linked_pairs(self.pairs, self.sizes, self.all_sizes, self.costs)
        return pairs
