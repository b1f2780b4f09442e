"""The search for the partition with the shortest description: its starts, its moves and merges."""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Iterator

import numpy as np

from modgraph.arrays import BoolArray, IntArray
from modgraph.cluster import description_search_kernels as kernels
from modgraph.cluster.description import LayerDescription, TwoWayGraph
from modgraph.cluster.description_kernels import BlockPairs
from modgraph.cluster.sparse import LayerTree, layer_trees
from modgraph.compiled import in_threads
from modgraph.labels import by_first_unit, joined

# How many partitions are improved to the end: this number divided by the edges of the network. Where edges skip layers,
# a pass looks at more pairs of layers, and the edges count that many times more.
START_EDGES = 1 << 17
# Joined layers whose clusters are tried on a layer: those with which it has most edges.
RELABELLED_FROM = 4
# Improving ends where a pass over all layers shortens the description by less than one part in this many.
LEAST_GAIN = 1 << 16
# Fewest units for which a thread is started.
THREAD_UNITS = 1 << 12
# Passes over a layer by which a new partition of it is improved before it is compared with the old one.
REPLACE_ROUNDS = 8


class Search:
    """The search for the shortest description: `starts`, then `improve` each."""

    def __init__(self, graph: TwoWayGraph, free: list[int], hops: int) -> None:
        self.graph = graph
        self.trees: dict[int, LayerTree] = dict(zip(free, layer_trees(graph.dag, free, hops=hops), strict=True))
        n_pairs = sum(map(len, graph.edges_between)) / 2  # n_layers − 1 where no edge skips a layer
        work = graph.dag.n_edges * max(1.0, n_pairs / (graph.dag.n_layers - 1))
        self.affordable = max(1, int(START_EDGES / max(1.0, work)))
        self.explored: set[bytes] = set()
        self.linked: tuple[LayerDescription, BlockPairs] | None = None  # of the layer looked at last
        self.in_vain: set[bytes] = set()  # states of a layer that were found to gain nothing

    def starts(self, held: IntArray) -> list[IntArray]:
        """Cut all trees into equally many clusters, for a range of numbers.

        Where that makes more partitions than `START_EDGES` allows, they are improved by one pass each, those with the
        shortest descriptions first, until one comes out no better than an earlier one.
        """
        most = max((len(tree.row_of) for tree in self.trees.values()), default=0)
        octaves = range(1, max(2, most.bit_length()))
        if self.affordable >= 2 * len(octaves):
            numbers = sorted({round(2 ** (octave + part)) for octave in octaves for part in (0, 0.5)})
        else:
            numbers = [2**octave for octave in octaves]
        cuts: dict[bytes, IntArray] = {}
        for number in numbers:
            clusters = held.copy()
            for level in self.trees:
                clusters[self.graph.layers[level]] = self.cut(level, number)
            cuts.setdefault(clusters.tobytes(), clusters)
        if len(cuts) <= self.affordable:
            return sorted(cuts.values(), key=self.graph.length)
        found: list[tuple[IntArray, int]] = []
        for clusters in sorted(cuts.values(), key=self.graph.length):
            improved = self.improve(clusters, passes=1)
            if len(found) >= self.affordable and improved[1] >= min(length for _, length in found):
                break
            found.append(improved)
        return [clusters for clusters, _ in sorted(found, key=operator.itemgetter(1))[: self.affordable]]

    def cut(self, level: int, number: int) -> IntArray:
        """Cut a layer's tree into at most `number` clusters."""
        grown = self.trees[level]
        if grown.tree is None:
            return np.zeros(len(grown.row_of), dtype=np.int64)
        # After this many merges; those of one step happen together.
        merges = max(0, grown.tree.n_rows - number)
        step = int(grown.tree.steps[merges - 1]) if merges else 0
        return by_first_unit(grown.tree.cut(step)[grown.row_of])

    def improve(self, clusters: IntArray, *, passes: int | None = None) -> tuple[IntArray, int]:
        """Move units and join clusters, and without a limit of passes replace layers, until nothing is gained.

        A pass looks at the units whose neighbours changed clusters since they were looked at last. Before it ends, one
        pass looks at all.
        """
        graph = self.graph
        length = graph.length(clusters)
        waiting = np.ones(graph.dag.n_units, dtype=np.bool_)
        for done in itertools.count(1):
            before, all_waited = length, waiting.all()
            for level in self.trees:
                clusters, gained = self._settle(clusters, level, waiting)
                length -= gained
            if done == passes:
                break
            if before - length > length // LEAST_GAIN:
                continue
            if not all_waited:
                waiting[:] = True
                continue
            if clusters.tobytes() in self.explored:  # an earlier start went on from here
                break
            self.explored.add(clusters.tobytes())
            for level in self.trees:
                clusters, gained = self._replace(clusters, level, waiting)
                length -= gained
            if before - length <= length // LEAST_GAIN:
                break
        return clusters, graph.length(clusters)

    def _settle(self, clusters: IntArray, level: int, waiting: BoolArray) -> tuple[IntArray, int]:
        """Move units and join clusters of one layer; return the partition, and by how much it is shorter."""
        units = self.graph.layers[level]
        state = self._state(clusters, level, waiting[units])
        if state in self.in_vain:
            waiting[units] = False
            return clusters, 0
        layer = LayerDescription(self.graph, clusters, level)
        settled = self._settled(layer, waiting, rounds=1)
        if settled is layer:
            self.in_vain.add(state)
            return clusters, 0
        return with_layer(clusters, layer.units, settled.clusters), layer.length - settled.length

    def _settled(
        self, layer: LayerDescription, waiting: BoolArray, *, rounds: int, aim: int | None = None
    ) -> LayerDescription:
        """Move units and join clusters of one layer; give up where rounds don't bring the length near to `aim`."""
        for left in range(rounds - 1, -1, -1):
            before = layer
            layer = self._joined(self._moved(layer, waiting), waiting)
            gained = before.length - layer.length
            if layer is before or (aim is not None and layer.length - aim > left * gained):
                break
        return layer

    def _replace(self, clusters: IntArray, level: int, waiting: BoolArray) -> tuple[IntArray, int]:
        """Try other partitions of one layer; return the partition, and by how much it is shorter."""
        graph, units = self.graph, self.graph.layers[level]
        state = self._state(clusters, level, np.zeros(0, dtype=np.bool_))
        if state in self.in_vain:
            return clusters, 0
        old = shortest = LayerDescription(graph, clusters, level)
        n_clusters = len(old.sizes)
        numbers = sorted({max(1, n_clusters // 2), n_clusters, 2 * n_clusters})
        partitions = [self.cut(level, number) for number in numbers]
        joined = sorted(graph.edges_between[level].items(), key=lambda item: (-item[1], item[0]))
        partitions += [
            by_first_unit(graph.named_after(clusters, level, other)) for other, _ in joined[:RELABELLED_FROM]
        ]
        partitions.append(np.zeros_like(old.clusters))
        for partition in partitions:
            if (partition == old.clusters).all():
                continue
            own_waiting = np.zeros_like(waiting)
            own_waiting[units] = True
            new = old.with_clusters(partition)
            new = self._settled(new, own_waiting, rounds=REPLACE_ROUNDS, aim=shortest.length)
            if new.length < shortest.length:
                shortest = new
        if shortest is old:
            self.in_vain.add(state)
            return clusters, 0
        moved = np.flatnonzero(_rearranged(old.clusters, shortest.clusters)) + units.start
        self._mark(moved, waiting)
        return with_layer(clusters, units, shortest.clusters), old.length - shortest.length

    def _moved(self, layer: LayerDescription, waiting: BoolArray) -> LayerDescription:
        """Move units of a layer to the clusters where each of them alone shortens the description most."""
        chosen = np.flatnonzero(waiting[layer.units])
        if len(layer.sizes) == 1 or not len(chosen):
            return layer
        pairs = self._linked(layer)
        facts = (
            layer.units.start,
            layer.clusters,
            self.graph.pointers,
            self.graph.neighbours,
            layer.other_clusters,
            layer.sizes,
            layer.other_sizes,
            pairs,
            kernels.pair_lengths(pairs, layer.sizes, layer.other_sizes, layer.costs),
            *kernels.blocks_by_other(pairs, len(layer.other_sizes)),
            layer.degrees,
            layer.costs,
            layer.one_cluster_less,
        )
        parts = in_threads(
            lambda part: kernels.best_moves(part, *facts), np.array_split(chosen, 1 + len(chosen) // THREAD_UNITS)
        )
        target, change = (np.concatenate(part) for part in zip(*parts, strict=True))
        waiting[layer.units] = False
        for use in _best_halves(change):
            clusters = layer.clusters.copy()
            clusters[chosen[use]] = target[use]
            new = layer.with_clusters(by_first_unit(clusters))
            if new.length < layer.length:
                # Units that would have moved are looked at again.
                waiting[layer.units][chosen[change < 0]] = True
                self._mark(chosen[use] + layer.units.start, waiting)
                return new
        return layer

    def _joined(self, layer: LayerDescription, waiting: BoolArray) -> LayerDescription:
        """Join clusters of a layer that are each other's best partners."""
        n_clusters = len(layer.sizes)
        if n_clusters == 1:
            return layer
        one, two, change = kernels.best_merges(
            layer.sizes, layer.other_sizes, self._linked(layer), layer.degrees, layer.costs, layer.one_cluster_less
        )
        mutual = np.isin(one * n_clusters + two, two * n_clusters + one)
        one, two, change = one[mutual], two[mutual], change[mutual]
        for use in _best_halves(change):
            new_cluster = joined(one[use], two[use], n=n_clusters)
            new = layer.with_clusters(by_first_unit(new_cluster[layer.clusters]))
            if new.length < layer.length:
                is_joined = np.zeros(n_clusters, dtype=np.bool_)
                is_joined[one[use]] = is_joined[two[use]] = True
                self._mark(np.flatnonzero(is_joined[layer.clusters]) + layer.units.start, waiting)
                return new
        return layer

    def _linked(self, layer: LayerDescription) -> BlockPairs:
        """Return the linked pairs of clusters, and those that would be with one unit and one edge more."""
        if self.linked is None or self.linked[0] is not layer:
            self.linked = layer, kernels.linked_pairs(layer.pairs, layer.sizes, layer.other_sizes, layer.costs)
        return self.linked[1]

    def _state(self, clusters: IntArray, level: int, waiting: BoolArray) -> bytes:
        """Return a digest of all that decides what is gained in a layer: its clusters and those of joined layers."""
        digest = hashlib.blake2b(b"%d" % level, digest_size=16)
        digest.update(waiting.tobytes())
        for other in (level, *self.graph.edges_between[level]):
            digest.update(clusters[self.graph.layers[other]].tobytes())
        return digest.digest()

    def _mark(self, units: IntArray, waiting: BoolArray) -> None:
        """Have the neighbours of some units looked at again."""
        kernels.mark_neighbours(units, self.graph.pointers, self.graph.neighbours, waiting)


def _rearranged(one: IntArray, two: IntArray) -> BoolArray:
    """Return which units are not in the same set in both partitions."""
    _, pair, counts = np.unique(one * (two.max() + 1) + two, return_inverse=True, return_counts=True)
    rearranged: BoolArray = (counts[pair] < np.bincount(one)[one]) | (counts[pair] < np.bincount(two)[two])
    return rearranged


def _best_halves(change: IntArray) -> Iterator[BoolArray]:
    """Yield which changes are below 0, then the lower half of them, and so on; equal ones stay together."""
    wanted = np.sort(change[change < 0])
    count = len(wanted)
    while count:
        yield change <= wanted[count - 1]
        count //= 2


def with_layer(clusters: IntArray, units: slice, labels: IntArray) -> IntArray:
    """Return the partition with one layer replaced."""
    new = clusters.copy()
    new[units] = by_first_unit(labels)
    return new
