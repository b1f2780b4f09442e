"""How well a partition describes a network: the number of bits from which the network can be told.

**The description.** Tell the degrees of all units: how many edges each has to every other layer. Then tell the cluster
of every unit, which clusters are linked and by how many edges, and where the edges are. The degrees take as many bits
whatever the partition, and are left out. With n_l units in K_l clusters of sizes n_r in layer l, its partition takes ::

    P_l = log n_l + log C(n_l − 1, K_l − 1) + log (n_l! / Π_r n_r!)

nats: the number of clusters, their sizes, who is where (Peixoto, Physical Review E 95, 012317, 2017, "Nonparametric
Bayesian inference of the microcanonical stochastic block model", the prior of partitions). Let layers a and b have E
edges, at a density ρ = E / (n_a n_b), and let a pair of clusters (r, s) with n_rs = n_r n_s places have μ_rs edges by
the degrees of its units (`modgraph.cluster.degrees`). m of the K_a K_b pairs are *linked*: they have their own number
of edges e_rs. All other pairs are one background: it has the E₀ remaining edges, where the degrees let one expect
ρ N₀ = E − Σ_linked μ_rs ::

    Q_ab = log (1 + min(K_a K_b, E)) + log C(K_a K_b, m) + Σ_linked [log min(n_rs, E) + log C(n_rs, e_rs) − S_rs]
         + log C(N₀, E₀)

    S_rs = (μ_rs / ρ) log (1 − ρ) + e_rs log (ρ / (1 − ρ)) − (n_rs − e_rs) log (1 − q_rs) − e_rs log q_rs,
    q_rs = μ_rs / n_rs

S_rs is by how much less likely the edges of the pair are by the degrees of its units than at the density ρ. If all
units have the same degree then μ_rs = ρ n_rs, every S_rs is 0, and N₀ is the number of remaining places: that is the
description without degree correction. Only what goes beyond degrees makes it shorter.

Those pairs are linked for which this is shortest, as far as a few rounds of choosing them find: each round takes the
density of the background from the round before. The length is Σ P_l + Σ Q_ab. It is that of a microcanonical stochastic
block model with degree correction (Karrer and Newman, Physical Review E 83, 016107, 2011), with places only between
layers (as in the bipartite model of Larremore, Clauset and Jacobs, Physical Review E 90, 012805, 2014), at most one
edge in each, and a prior of our own for the edge counts: most pairs of clusters are empty except for noise. A prior
that is flat over the counts of all pairs can't tell more than about √n clusters apart (Peixoto, Physical Review Letters
110, 148701, 2013).

**When it beats the modularity curve.** M(k) compares clusters with the average over the layer. So it joins modules
where there are many (its minimum for m equal ones is −1/m, and it has a limit near √n), and it always finds some.
The description has no such limit, and one cluster a layer is a valid answer: it is the answer where edges lie as in a
random network with the same degrees. But each partition costs bits that only edges pay back, and tiny layers have too
few: there the published tests decide (`SMALLEST_LAYER`).

`modgraph.cluster.description_search` finds the partition with the shortest description.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import xlogy

from modgraph.arrays import FloatArray, IntArray
from modgraph.cluster.degrees import degree_model
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit

if TYPE_CHECKING:  # loads numba
    from modgraph.cluster.description_kernels import BlockDegrees, BlockPairs

# Fewest units of a layer that is decided by description. On the 832 published networks, whose hidden layers have 2 to 8
# units, the description is behind the published rule (`tests/long/against_louvain.py --smallest 4`).
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


def in_bits(length: int) -> float:
    """Convert a code length from 2⁻²⁰ nat to bits."""
    from modgraph.cluster.description_kernels import NAT

    return length / NAT / math.log(2)


class Degrees(NamedTuple):
    """The degrees of the units of one layer towards another (one side of a `modgraph.cluster.degrees.DegreeModel`).

    Attributes
    ----------
    degree, degree_class : ndarray of int, shape (n_units_of_layer,)
    rate : ndarray of float, shape (n_classes, n_classes_of_the_other_layer)
    """

    degree: IntArray
    degree_class: IntArray
    rate: FloatArray


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
    degrees : list of dict of int to Degrees
        For each layer the degrees of its units towards each layer it has edges with.
    """

    dag: LayeredDAG
    layers: list[slice]
    pointers: IntArray
    neighbours: IntArray
    edges_between: list[dict[int, int]]
    degrees: list[dict[int, Degrees]]

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
        layers = [slice(start, stop) for start, stop in itertools.pairwise(dag.layer_starts.tolist())]
        out_degrees, in_degrees = (
            np.bincount(ends * dag.n_layers + dag.layer[others], minlength=dag.n_units * dag.n_layers)
            for ends, others in ((dag.sources, dag.targets), (dag.targets, dag.sources))
        )
        degrees: list[dict[int, Degrees]] = [{} for _ in range(dag.n_layers)]
        for pair in pairs.tolist():
            one, two = divmod(pair, dag.n_layers)
            model = degree_model(
                out_degrees.reshape(-1, dag.n_layers)[layers[one], two],
                in_degrees.reshape(-1, dag.n_layers)[layers[two], one],
            )
            degrees[one][two] = Degrees(model.one, model.class_one, model.rate)
            degrees[two][one] = Degrees(model.two, model.class_two, model.rate.T)
        return cls(
            dag=dag,
            layers=layers,
            pointers=np.searchsorted(ends[order], np.arange(dag.n_units + 1)),
            neighbours=np.concatenate([dag.targets, dag.sources])[order],
            edges_between=edges_between,
            degrees=degrees,
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
    degrees : BlockDegrees
        Sums of degrees, which say how many edges pairs of clusters would have by chance.
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
        self.degrees: BlockDegrees = _block_degrees(graph, clusters, level, offset)
        self.pairs: BlockPairs = kernels.block_edges(
            np.argsort(self.clusters, kind="stable") + units.start,
            np.concatenate([[0], np.cumsum(self.sizes)]),
            graph.pointers,
            graph.neighbours,
            self.all_clusters,
            self.degrees,
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
        place, edge, link, density = np.zeros((4, offset[-1]))
        self.costs = kernels.EdgeCosts(place, edge, link, density, np.zeros(offset[-1], dtype=np.int64))
        for other, n_edges in graph.edges_between[level].items():
            if other < level and not entering:
                continue
            in_other = (others >= offset[other]) & (others < offset[other + 1])
            length, cost = kernels.edges_length(
                places[in_other],
                self.pairs.n_edges[in_other],
                self.pairs.fair_places[in_other],
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


def _block_degrees(graph: TwoWayGraph, clusters: IntArray, level: int, offset: IntArray) -> BlockDegrees:
    """Sum up the degrees of each cluster of a layer, and of the clusters that it has edges with.

    `offset`: the number of the first cluster of each layer.
    """
    from modgraph.cluster import description_kernels as kernels

    units = graph.layers[level]
    size, n_own = units.stop - units.start, int(clusters[units].max(initial=-1)) + 1
    sides = graph.degrees[level]
    n_classes = max((len(own.rate) for own in sides.values()), default=1)
    slot = np.full(offset[-1], -1)
    degree, degree_class = np.zeros((2, size, len(sides)), dtype=np.int64)
    block_degree = np.zeros((n_own, len(sides), n_classes))
    rate = np.zeros((offset[-1], n_classes))
    for number, (other, own) in enumerate(sides.items()):
        others, facing = graph.layers[other], graph.degrees[other][level]
        slot[offset[other] : offset[other + 1]] = number
        degree[:, number], degree_class[:, number] = own.degree, own.degree_class
        block_degree[:, number, : len(own.rate)] = _sums(clusters[units], own, n_own)
        density = graph.edges_between[level][other] / (size * (others.stop - others.start))
        # Not a matrix product: its sums may differ with the number of rows.
        sums = _sums(clusters[others], facing, int(offset[other + 1] - offset[other]))
        rate[offset[other] : offset[other + 1], : len(own.rate)] = (
            sums[:, None, :] * (own.rate / density)[None, :, :]
        ).sum(axis=2)
    return kernels.BlockDegrees(slot, degree, degree_class, block_degree, rate)


def _sums(clusters: IntArray, degrees: Degrees, n_clusters: int) -> FloatArray:
    """Sum the degrees by cluster and class; shape (n_clusters, n_classes)."""
    n_classes = len(degrees.rate)
    cells = clusters * n_classes + degrees.degree_class
    sums: FloatArray = np.bincount(cells, degrees.degree, minlength=n_clusters * n_classes).astype(np.float64)
    return sums.reshape(n_clusters, n_classes)


def cluster_bits(dag: LayeredDAG, labels: IntArray) -> FloatArray:
    """Return how far the edges of each unit's cluster are from what degrees explain, divided among its units.

    Of each pair of clusters with e edges in n places, of which degrees explain μ, that is n · KL(e / n ‖ μ / n), the
    logarithm of the likelihood ratio; a pair counts half for either cluster.

    Parameters
    ----------
    dag : LayeredDAG
    labels : ndarray of int, shape (n_units,)
        As in `description_length`.

    Returns
    -------
    ndarray of float ≥ 0, shape (n_units,)
        In bits.
    """
    graph = TwoWayGraph.of(dag)
    clusters = np.empty(dag.n_units, dtype=np.int64)
    for units in graph.layers:
        clusters[units] = by_first_unit(np.asarray(labels)[units])
    bits = np.zeros(dag.n_units)
    for level, units in enumerate(graph.layers):
        if units.start == units.stop:
            continue
        layer = LayerDescription(graph, clusters, level)
        pairs = layer.pairs
        own = np.repeat(np.arange(len(layer.sizes)), np.diff(pairs.starts))
        places = layer.sizes[own] * layer.all_sizes[pairs.others]
        edges = pairs.n_edges
        by_degree = np.clip(layer.costs.density[pairs.others] * pairs.fair_places, 1e-12, places * (1 - 1e-9))
        nats = np.bincount(
            own,
            xlogy(edges, edges / by_degree) + xlogy(places - edges, (places - edges) / (places - by_degree)),
            minlength=len(layer.sizes),
        )
        # Pairs without edges aren't listed: the edges that degrees let one expect there, by layer.
        missing = layer.degrees.block_degree.sum(axis=2)
        np.add.at(missing, (own, layer.degrees.slot[pairs.others]), -by_degree)
        density = np.zeros(missing.shape[1])
        density[layer.degrees.slot[pairs.others]] = layer.costs.density[pairs.others]
        nats += np.maximum(missing, 0) @ np.divide(-np.log1p(-density), density, out=density * 0, where=density > 0)
        by_cluster = nats / layer.sizes
        bits[units] = by_cluster[layer.clusters] / (2 * math.log(2))
    return bits
