"""How well a partition describes a network: the number of bits from which the network can be told.

**The description.** Tell the degrees of the units of each layer towards every other one, where they vary more than by
chance (`modgraph.cluster.degrees`). Then tell the cluster of every unit, which clusters are linked and by how many
edges, and where the edges are. The degrees take as many bits whatever the partition, and are left out. With n_l units
in K_l clusters of sizes n_r in layer l, its partition takes ::

    P_l = log n_l + log C(n_l − 1, K_l − 1) + log (n_l! / Π_r n_r!)

nats: the number of clusters, their sizes, who is where (Peixoto, Physical Review E 95, 012317, 2017, "Nonparametric
Bayesian inference of the microcanonical stochastic block model", the prior of partitions). Let layers a and b have E
edges, at a density ρ = E / (n_a n_b), and let a pair of clusters (r, s) with n_rs = n_r n_s places have μ_rs edges by
the degrees of its units. m of the K_a K_b pairs are *linked*: they have their own number of edges e_rs. All other pairs
are one background: it has the E₀ remaining edges, where the degrees let one expect ρ N₀ = E − Σ_linked μ_rs ::

    Q_ab = log (1 + min(K_a K_b, E)) + log C(K_a K_b, m) + Σ_linked [log min(n_rs, E) + log C(n_rs, e_rs) − S_rs]
         + log C(N₀, E₀)

    S_rs = (μ_rs / ρ) log (1 − ρ) + e_rs log (ρ / (1 − ρ)) − (n_rs − e_rs) log (1 − q_rs) − e_rs log q_rs,
    q_rs = μ_rs / n_rs

S_rs is by how much less likely the edges of the pair are by the degrees of its units than at the density ρ. Between
layers whose degrees vary no more than by chance, μ_rs = ρ n_rs, every S_rs is 0, and N₀ is the number of remaining
places: that is the description without degree correction. Where they vary more, only what goes beyond degrees makes the
description shorter.

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

`modgraph.cluster.by_description` finds the partition with the shortest description.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray, IndexArray, IntArray
from modgraph.cluster import description_kernels as kernels
from modgraph.cluster.degrees import degree_model
from modgraph.compiled import THREAD_EDGES, in_threads, plain
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit

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
    with plain(largest=max(dag.layer_sizes)):
        return in_bits(graph.length(clusters))


def in_bits(length: int) -> float:
    """Convert a code length from 2⁻²⁰ nat to bits."""
    return length / kernels.NAT / math.log(2)


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
    pointers : ndarray of int32, shape (n_units + 1,)
        Where the neighbours of each unit begin, sorted.
    leaving : ndarray of int32, shape (n_units,)
        Where those of its neighbours begin that are in later layers.
    neighbours : ndarray of int32, shape (2 n_edges,)
    edges_between : list of dict of int to int
        For each layer the layers it has edges with, and how many.
    degrees : list of dict of int to Degrees
        For each layer the degrees of its units towards each layer it has edges with.
    """

    dag: LayeredDAG
    layers: list[slice]
    pointers: IndexArray
    leaving: IndexArray
    neighbours: IndexArray
    edges_between: list[dict[int, int]]
    degrees: list[dict[int, Degrees]]

    @classmethod
    def of(cls, dag: LayeredDAG) -> TwoWayGraph:
        """List the neighbours of each unit."""
        edges_between: list[dict[int, int]] = [{} for _ in range(dag.n_layers)]
        towards = dag.layer[dag.targets]
        pairs, counts = np.unique(dag.layer[dag.sources] * dag.n_layers + towards, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            one, two = divmod(pair, dag.n_layers)
            edges_between[one][two] = edges_between[two][one] = count
        layers = [slice(start, stop) for start, stop in itertools.pairwise(dag.layer_starts.tolist())]
        degrees: list[dict[int, Degrees]] = [{} for _ in range(dag.n_layers)]
        edge_starts = np.searchsorted(dag.sources, dag.layer_starts).tolist()
        for pair in pairs.tolist():
            one, two = divmod(pair, dag.n_layers)
            edges = slice(edge_starts[one], edge_starts[one + 1])
            sources, targets = dag.sources[edges], dag.targets[edges]
            if len(sources) > edges_between[one][two]:
                between = towards[edges] == two
                sources, targets = sources[between], targets[between]
            model = degree_model(
                *(
                    np.bincount(ends - layers[level].start, minlength=layers[level].stop - layers[level].start)
                    for level, ends in ((one, sources), (two, targets))
                )
            )
            degrees[one][two] = Degrees(model.one, model.class_one, model.rate)
            degrees[two][one] = Degrees(model.two, model.class_two, model.rate.T)
        pointers = np.searchsorted(dag.sources, np.arange(dag.n_units + 1)).astype(np.int32)
        forwards = csr_array(
            (np.ones(dag.n_edges, dtype=np.bool_), dag.targets.astype(np.int32), pointers),
            shape=(dag.n_units, dag.n_units),
        )
        both = forwards + forwards.T.tocsr()
        ends = both.indptr.astype(np.int32, copy=False)
        return cls(
            dag=dag,
            layers=layers,
            pointers=ends,
            leaving=ends[1:] - np.diff(pointers),
            neighbours=both.indices.astype(np.int32, copy=False),
            edges_between=edges_between,
            degrees=degrees,
        )

    def length(self, clusters: IntArray) -> int:
        """Return the length of the whole description, in 2⁻²⁰ nat."""

        def part(level: int) -> int:
            length: int = LayerDescription(self, clusters, level, entering=False).length
            return length

        levels = [level for level, units in enumerate(self.layers) if units.start < units.stop]
        parts: list[int] = in_threads(part, levels, at_once=None if self.dag.n_edges >= THREAD_EDGES else 1)
        return sum(parts)

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
    units : slice
        Of the layer.
    clusters : ndarray of int, shape (n_units_of_layer,)
        The cluster of each unit of the layer.
    sizes : ndarray of int, shape (n_clusters,)
        Units in each cluster of the layer.
    other_clusters : ndarray of int32, shape (n_units,)
        The cluster of each unit of the layers that this one has edges with; those of different layers have different
        numbers.
    other_sizes : ndarray of int
        Units in each of those.
    degrees : BlockDegrees
        Sums of degrees, which say how many edges pairs of clusters would have by chance.
    pairs : BlockPairs
        The edges of the layer's clusters with those of other layers.
    costs : EdgeCosts
        What changes to those edges cost, by the cluster at the other end.
    one_cluster_less : int
        What one cluster less in this layer changes, in 2⁻²⁰ nat.
    """

    def __init__(self, graph: TwoWayGraph, clusters: IntArray, level: int, *, entering: bool = True) -> None:
        """`entering`: count the edges that enter the layer, not only those that leave it."""
        self.units = graph.layers[level]
        self._graph, self._level, self._entering = graph, level, entering
        sides = graph.degrees[level]
        size = self.units.stop - self.units.start
        n_classes = max((len(own.rate) for own in sides.values()), default=1)
        degree, degree_class = np.zeros((2, size, len(sides)), dtype=np.int32)
        self.other_clusters = np.zeros(graph.dag.n_units, dtype=np.int32)
        self._bounds = {}  # the numbers of the first cluster of each of the other layers and the next
        sizes, slot, rate = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], [np.zeros((0, n_classes))]
        start = 0
        for number, (other, own) in enumerate(sides.items()):
            others, facing = graph.layers[other], graph.degrees[other][level]
            sizes.append(np.bincount(clusters[others]))
            self.other_clusters[others] = clusters[others] + start
            self._bounds[other] = start, start + len(sizes[-1])
            start += len(sizes[-1])
            slot.append(np.full(len(sizes[-1]), number))
            degree[:, number], degree_class[:, number] = own.degree, own.degree_class
            density = graph.edges_between[level][other] / (size * (others.stop - others.start))
            # Not a matrix product: its sums may differ with the number of rows.
            sums = _sums(clusters[others], facing, len(sizes[-1]))
            rate.append(np.zeros((len(sums), n_classes)))
            rate[-1][:, : len(own.rate)] = (sums[:, None, :] * (own.rate / density)[None, :, :]).sum(axis=2)
        self.other_sizes = np.concatenate(sizes)
        self.degrees = kernels.BlockDegrees(
            np.concatenate(slot), degree, degree_class, np.zeros((0, 0, 0)), np.concatenate(rate)
        )
        self._describe(clusters[self.units])

    def with_clusters(self, clusters: IntArray) -> LayerDescription:
        """Describe another partition of the layer, 0 … n_clusters − 1."""
        new = copy.copy(self)
        new._describe(clusters)
        return new

    def _describe(self, clusters: IntArray) -> None:
        graph, level = self._graph, self._level
        self.clusters = clusters
        self.sizes = np.bincount(clusters)
        size, n_own = len(clusters), len(self.sizes)
        sides = graph.degrees[level]
        block_degree = np.zeros((n_own, len(sides), self.degrees.rate.shape[1]))
        for number, own in enumerate(sides.values()):
            block_degree[:, number, : len(own.rate)] = _sums(clusters, own, n_own)
        self.degrees = self.degrees._replace(block_degree=block_degree)
        starts = graph.pointers[:-1] if self._entering else graph.leaving
        self.pairs = kernels.block_edges(
            self.units.start,
            clusters,
            self.sizes,
            starts,
            graph.pointers[1:],
            graph.neighbours,
            self.other_clusters,
            self.degrees,
        )
        others = self.pairs.others
        places = np.repeat(self.sizes, np.diff(self.pairs.starts)) * self.other_sizes[others]
        self.length = (
            kernels.log_number(size)
            + kernels.log_choose(size - 1, n_own - 1)
            + kernels.log_factorials(np.array([size]))
            - kernels.log_factorials(self.sizes)
        )
        self.one_cluster_less = kernels.log_choose(size - 1, n_own - 2) - kernels.log_choose(size - 1, n_own - 1)
        place, edge, link, density, no_edge, odds = np.zeros((6, len(self.other_sizes)))
        n_edges_there = np.zeros(len(self.other_sizes), dtype=np.int64)
        self.costs = kernels.EdgeCosts(place, edge, link, density, no_edge, odds, n_edges_there)
        for other, (start, stop) in self._bounds.items():
            if other < level and not self._entering:
                continue
            in_other = (others >= start) & (others < stop) if len(self._bounds) > 1 else slice(None)
            n_edges = graph.edges_between[level][other]
            length, cost = kernels.edges_length(
                places[in_other],
                self.pairs.n_edges[in_other],
                self.pairs.fair_places[in_other],
                n_own * (stop - start),
                size * (graph.layers[other].stop - graph.layers[other].start),
                n_edges,
            )
            self.length += length
            for values, value in zip(self.costs, cost, strict=True):
                values[start:stop] = value
            self.one_cluster_less -= round((stop - start) * math.log1p(math.exp(-cost.link)) * kernels.NAT)


def _sums(clusters: IntArray, degrees: Degrees, n_clusters: int) -> FloatArray:
    """Sum the degrees by cluster and class; shape (n_clusters, n_classes)."""
    n_classes = len(degrees.rate)
    cells = clusters * n_classes + degrees.degree_class
    sums: FloatArray = np.bincount(cells, degrees.degree, minlength=n_clusters * n_classes).astype(np.float64)
    return sums.reshape(n_clusters, n_classes)


def cluster_bits(dag: LayeredDAG, labels: IntArray) -> FloatArray:
    """Return how far the edges of each unit's cluster are from what degrees explain, divided among its units.

    Of each pair of clusters with e edges in n places, of which degrees explain μ, that is n · KL(e / n ‖ μ / n), the
    logarithm of the likelihood ratio; a pair counts half for either cluster. All clusters of a layer that a cluster has
    no edges with count as one.

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
        with plain(largest=max(dag.layer_sizes)):
            layer = LayerDescription(graph, clusters, level)
        pairs = layer.pairs
        own = np.repeat(np.arange(len(layer.sizes)), np.diff(pairs.starts))
        places = layer.sizes[own] * layer.other_sizes[pairs.others]
        edges = pairs.n_edges
        expected = layer.costs.density[pairs.others] * pairs.fair_places
        by_degree = np.clip(expected, 1e-12, places * (1 - 1e-9))
        nats = np.bincount(
            own,
            scipy.special.xlogy(edges, edges / by_degree)
            + scipy.special.xlogy(places - edges, (places - edges) / (places - by_degree)),
            minlength=len(layer.sizes),
        )
        # Pairs without edges aren't listed: take all pairs of a cluster with a layer, minus the listed ones.
        slot = layer.degrees.slot
        in_layer = (slot[:, None] == np.arange(layer.degrees.degree.shape[1])).T
        rate = in_layer @ (layer.degrees.rate * layer.costs.density[:, None])
        missing = (layer.degrees.block_degree * rate).sum(axis=2)
        empty = np.outer(layer.sizes, in_layer @ layer.other_sizes)
        np.subtract.at(missing, (own, slot[pairs.others]), expected)
        np.subtract.at(empty, (own, slot[pairs.others]), places)
        chance = np.clip(np.divide(missing, empty, out=np.zeros_like(missing), where=empty > 0), 0, 1 - 1e-9)
        nats -= (empty * np.log1p(-chance)).sum(axis=1)
        by_cluster = nats / layer.sizes
        bits[units] = by_cluster[layer.clusters] / (2 * math.log(2))
    return bits
