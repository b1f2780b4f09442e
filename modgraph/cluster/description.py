"""How many clusters each layer has, and which: the partition that describes the network in the fewest bits.

**The description.** Tell the cluster of every unit, then which clusters are linked and by how many edges, then where
the edges are. With n_l units in K_l clusters of sizes n_r in layer l, its partition takes ::

    P_l = log n_l + log C(n_l − 1, K_l − 1) + log (n_l! / Π_r n_r!)

nats: the number of clusters, their sizes, who is where (Peixoto, Physical Review E 95, 012317, 2017, "Nonparametric
Bayesian inference of the microcanonical stochastic block model", the prior of partitions). Between layers a and b with
E edges, m of the K_a K_b pairs of clusters are *linked*. A linked pair (r, s) has a number of edges e_rs of its own;
all other places are one background, which holds the E₀ edges left over in N₀ = n_a n_b − Σ_linked n_r n_s places ::

    Q_ab = log (1 + min(K_a K_b, E)) + log C(K_a K_b, m) + Σ_linked [log min(n_r n_s, E) + log C(n_r n_s, e_rs)]
         + log C(N₀, E₀).

Those pairs are linked for which this is shortest (as far as a few rounds of choosing them, given the density of
the background, find). The length is Σ P_l + Σ Q_ab. It is that of a microcanonical stochastic block model without
degree correction, whose places are only those between layers (as in the bipartite model of Larremore, Clauset and
Jacobs, Physical Review E 90, 012805, 2014), with a prior of our own for the edge counts, under which most pairs of
clusters are empty but for noise. A prior that is flat over the counts of all pairs can't tell more than about √n
clusters apart (Peixoto, Physical Review Letters 110, 148701, 2013).

**When it beats the modularity curve.** M(k) compares clusters with the average over the layer, so that it joins modules
where there are many (its minimum for m equal ones is −1/m, and it has a limit near √n), and it always finds some.
The description has no such limit, and one cluster a layer is a valid answer. But partitions have to be paid for with
edges, which tiny layers don't have (see `resolvable`): there the published tests decide.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.cluster.sparse import LayerTree, layer_tree
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit

# Layers of fewer units are not decided by description (see `resolvable`).
SMALLEST = 10
# Partitions that are improved to the end: as many as have this number of edges in all.
START_EDGES = 1 << 17
# Improving ends where a pass over all layers shortens the description by less than one part in this many.
LEAST_GAIN = 1 << 16
# Passes over a layer that shall replace what it was.
REPLACE_ROUNDS = 8


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
        Length of the description with one cluster a layer (those held apart).
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


def description_length(dag: LayeredDAG, labels: IntArray) -> float:
    """Return the length of the description of a network by a partition of its layers (see the module's text).

    Parameters
    ----------
    dag : LayeredDAG
    labels : ndarray of int, shape (n_units,)
        Any names of clusters; units of different layers are in different clusters whatever their labels.

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
    network = _Network.of(dag)
    names = np.empty(dag.n_units, dtype=np.int64)
    for part in network.parts:
        names[part] = np.unique(labels[part], return_inverse=True)[1]
    return _bits(network.length(names))


def resolvable(dag: LayeredDAG) -> BoolArray:
    """Say which layers are large enough for a description to tell two modules from one.

    They have `SMALLEST` units or more, and in a network of these layer sizes and numbers of edges two equal modules
    without an edge between them would shorten the description: half of what that saves on the edges on either side (the
    other half is due to the layers there) is more than the partition of the layer costs. In other layers no real
    partition, less perfect, can pay for itself, so that the description has nothing to say about them.

    `SMALLEST` is measured: on planted modules the description is ahead of the modularity curve and its tests from ten
    units a layer on; on the 832 published networks, whose layers have 2 to 8 hidden units, it is behind them (491 of
    832 exact instead of 573, if it decides from four units on; `scripts/against_louvain.py`).

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
    if max(sizes) < SMALLEST:
        return read_only(found)
    from modgraph.cluster.blocks import log_choose, log_number

    network = _Network.of(dag)
    for level, size in enumerate(sizes):
        if size < SMALLEST:
            continue
        saved = 0
        for other, n_edges in network.joined[level].items():
            places = size * sizes[other]
            # Two modules of half the units and half the edges; a denser network has no room for that.
            edges = min(n_edges, places // 2) // 2
            saved += log_number(2) + log_choose(places, n_edges)
            saved -= log_number(1 + min(4, n_edges)) + log_choose(4, 2)
            saved -= 2 * (log_number(min(places // 4, n_edges)) + log_choose(places // 4, edges))
        partition = log_number(size) + log_number(size - 1) + log_choose(size, size // 2)
        found[level] = saved > 2 * partition
    return read_only(found)


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
        Given the network and a layer, returns a label for each unit of it; asked for the layers that are not
        `resolvable`. The description takes their partitions as given.

    Returns
    -------
    labels : ndarray of int, shape (n_units,)
        Cluster of each unit, numbered by first unit; no cluster spans two layers. Output units are clusters of one.
    description : Description or None
        Of the network; None where no layer before the outputs was large enough.
    """
    large = resolvable(dag)
    labels = np.full(dag.n_units, -1, dtype=np.int64)
    starts = dag.layer_starts.tolist()
    for level, (start, stop) in enumerate(itertools.pairwise(starts)):
        if start < stop and level < dag.n_layers - 1 and not large[level]:
            labels[start:stop] = small(dag, level)
    if not large[-1]:
        labels[starts[-2] :] = np.arange(dag.layer_sizes[-1])
    description = None
    if large[:-1].any():
        # Labels are any ints: give those that are held a name ≥ 0.
        decided = ~large[dag.layer]
        labels[decided] = _numbered(labels[decided])
        description = shortest_description(dag, hops=hops, held=labels)
        labels = description.labels.copy()
    labels[starts[-2] :] = np.arange(dag.layer_sizes[-1])
    # Layers never share a label.
    _, names = np.unique(np.column_stack([dag.layer, labels]), axis=0, return_inverse=True)
    return read_only(by_first_unit(names)), description


def shortest_description(dag: LayeredDAG, *, hops: int, held: IntArray | None = None) -> Description:
    """Find the partition of every layer from which the network is described in the fewest bits.

    Each layer's linkage tree is grown on what its units reach and what reaches them within `hops` steps. Then:

    1. All layers are cut into k clusters, for k = 2, 3, 4, 6, 8, … All of these are improved, or in large networks
       (see `START_EDGES`) those that lead after a few passes.
    2. Units move to the cluster of their layer where they shorten the description most, all units of a layer
       at once, and pairs of clusters that are each other's best partner are joined, layer after layer until nothing
       changes. Of units or clusters that would only do well without the others, the better half is tried, and so on.
    3. Then each layer in turn is replaced by other partitions, improved in the same way, if that is shorter: its tree
       cut at half as many, as many and twice as many clusters; each unit named after the cluster of an adjacent
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

    Examples
    --------
    >>> halves = np.kron(np.eye(2), np.ones((12, 12)))
    >>> shortest_description(LayeredDAG.from_masks([halves, halves]), hops=2)
    Description(6 clusters, 129.9 bits, 1157.9 with one a layer)
    """
    network = _Network.of(dag)
    start = np.zeros(dag.n_units, dtype=np.int64)
    free = []
    for level, part in enumerate(network.parts):
        if part.start == part.stop:
            continue
        if held is not None and (held[part] >= 0).all():
            start[part] = np.unique(held[part], return_inverse=True)[1]
        else:
            free.append(level)
    search = _Search(network, free, hops)
    best, trivial = start, network.length(start)
    shortest = trivial
    for labels, _ in search.starts(start):
        labels, length = search.improve(labels)
        if length < shortest:
            best, shortest = labels, length
    offset = np.concatenate([[0], np.cumsum([best[part].max(initial=-1) + 1 for part in network.parts])])
    names = best + offset[dag.layer]
    return Description(
        labels=read_only(by_first_unit(names)),
        bits=_bits(shortest),
        trivial_bits=_bits(trivial),
        capped=any(tree.capped for tree in search.trees.values()),
    )


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
    network = _Network.of(dag)
    best = np.zeros(dag.n_units, dtype=np.int64)
    shortest = network.length(best)
    for choice in range(max(map(len, candidates.values()), default=0)):
        labels = np.zeros_like(best)
        for level, partitions in candidates.items():
            if partitions:
                labels[network.parts[level]] = _numbered(partitions[min(choice, len(partitions) - 1)])
        length = network.length(labels)
        if length < shortest:
            best, shortest = labels, length
    changed = True
    while changed:
        changed = False
        for level, partitions in candidates.items():
            part = network.parts[level]
            now = _Layer(network, best, level).length
            for names in [*partitions, np.zeros(part.stop - part.start, dtype=np.int64)]:
                labels = _with(best, part, names)
                length = _Layer(network, labels, level).length
                if length < now:
                    best, now, changed = labels, length, True
    best = best.copy()
    best[network.parts[-1]] = np.arange(dag.layer_sizes[-1])
    return read_only(by_first_unit(best + dag.layer * dag.n_units))


def _bits(length: int) -> float:
    from modgraph.cluster.blocks import NAT

    return length / NAT / math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Network:
    """The edges of a layered graph from both ends.

    Partitions here are arrays of labels that count from 0 in each layer.
    """

    dag: LayeredDAG
    parts: list[slice]  # the units of each layer
    pointers: IntArray
    neighbours: IntArray
    joined: list[dict[int, int]]  # for each layer the layers it has edges with, and how many

    @classmethod
    def of(cls, dag: LayeredDAG) -> _Network:
        ends = np.concatenate([dag.sources, dag.targets])
        order = np.argsort(ends, kind="stable")
        joined: list[dict[int, int]] = [{} for _ in range(dag.n_layers)]
        pairs, counts = np.unique(dag.layer[dag.sources] * dag.n_layers + dag.layer[dag.targets], return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            one, two = divmod(pair, dag.n_layers)
            joined[one][two] = joined[two][one] = count
        return cls(
            dag=dag,
            parts=[slice(start, stop) for start, stop in itertools.pairwise(dag.layer_starts.tolist())],
            pointers=np.searchsorted(ends[order], np.arange(dag.n_units + 1)),
            neighbours=np.concatenate([dag.targets, dag.sources])[order],
            joined=joined,
        )

    def length(self, labels: IntArray) -> int:
        """Return the length of the whole description, in 2⁻²⁰ nat."""
        return sum(
            _Layer(self, labels, level, before=False).length
            for level, part in enumerate(self.parts)
            if part.start < part.stop
        )

    def named_after(self, labels: IntArray, level: int, other: int) -> IntArray:
        """Name each unit of a layer after the cluster of another layer that it has most edges with, if that is one."""
        part, there = self.parts[level], self.parts[other]
        size = part.stop - part.start
        unit = np.repeat(np.arange(size), np.diff(self.pointers[part.start : part.stop + 1]))
        ends = self.neighbours[self.pointers[part.start] : self.pointers[part.stop]]
        among = (ends >= there.start) & (ends < there.stop)
        n_names = int(labels[there].max()) + 1
        pairs, counts = np.unique(unit[among] * n_names + labels[ends[among]], return_counts=True)
        unit, name = np.divmod(pairs, n_names)
        most = np.zeros(size, dtype=np.int64)
        np.maximum.at(most, unit, counts)
        top = counts == most[unit]
        single = np.bincount(unit[top], minlength=size) == 1
        names = n_names + labels[part]
        chosen = top & single[unit]
        names[unit[chosen]] = name[chosen]
        return names


class _Layer:
    """One layer's clusters and their edges, given the clusters of the other layers: its part of the description."""

    def __init__(self, network: _Network, labels: IntArray, level: int, *, before: bool = True) -> None:
        """`before`: count the edges that enter the layer, not only those that leave it."""
        from modgraph.cluster import blocks

        part = network.parts[level]
        self.part, self.labels = part, labels[part]
        self.own = np.bincount(self.labels)
        counts = [int(labels[other].max(initial=-1)) + 1 for other in network.parts]
        offset = np.concatenate([[0], np.cumsum(counts)])
        self.everyone = labels + offset[network.dag.layer]
        self.sizes = np.bincount(self.everyone, minlength=offset[-1])
        self.edges = blocks.block_edges(
            np.argsort(self.labels, kind="stable") + part.start,
            np.concatenate([[0], np.cumsum(self.own)]),
            network.pointers,
            network.neighbours,
            self.everyone,
            int(offset[-1]),
        )
        starts, others, edges = self.edges
        places = np.repeat(self.own, np.diff(starts)) * self.sizes[others]
        n_units, n_blocks = len(self.labels), len(self.own)
        self.length: int = (
            blocks.log_number(n_units)
            + blocks.log_choose(n_units - 1, n_blocks - 1)
            + blocks.log_factorials(np.array([n_units]))
            - blocks.log_factorials(self.own)
        )
        # What one cluster less changes, and what links cost, for moves.
        self.fewer = blocks.log_choose(n_units - 1, n_blocks - 2) - blocks.log_choose(n_units - 1, n_blocks - 1)
        self.laws: FloatArray = np.zeros((offset[-1], 4))
        for other, n_edges in network.joined[level].items():
            if other < level and not before:
                continue
            there = (others >= offset[other]) & (others < offset[other + 1])
            n_places = n_units * (network.parts[other].stop - network.parts[other].start)
            length, law = blocks.pair_length(places[there], edges[there], n_blocks * counts[other], n_places, n_edges)
            self.length += length
            self.laws[offset[other] : offset[other + 1]] = law
            self.fewer -= round(counts[other] * math.log1p(math.exp(-law[2])) * blocks.NAT)

    def links(self) -> tuple[IntArray, IntArray, IntArray]:
        """Return the linked pairs of clusters (and those that nearly are)."""
        from modgraph.cluster.blocks import linked_pairs

        starts, others, edges = self.edges
        kept: tuple[IntArray, IntArray, IntArray] = linked_pairs(starts, others, edges, self.own, self.sizes, self.laws)
        return kept


class _Search:
    """The search for the shortest description: `starts`, then `improve` each."""

    def __init__(self, network: _Network, free: list[int], hops: int) -> None:
        self.network = network
        self.trees: dict[int, LayerTree] = {level: layer_tree(network.dag, level, hops=hops) for level in free}

    def starts(self, held: IntArray) -> list[tuple[IntArray, int]]:
        """Cut all trees into equally many clusters, for a range of numbers, and improve the more promising ones.

        With every pass over the layers the half with the longer descriptions is given up, until all that are left can
        be afforded.
        """
        affordable = max(1, START_EDGES // max(1, self.network.dag.n_edges))
        most = max((len(tree.row_of) for tree in self.trees.values()), default=0)
        octaves = range(1, max(2, most.bit_length()))
        if affordable >= 2 * len(octaves):
            numbers = sorted({round(2 ** (octave + part)) for octave in octaves for part in (0, 0.5)})
        else:
            numbers = [2**octave for octave in octaves]
        cuts: dict[bytes, IntArray] = {}
        for number in numbers:
            labels = held.copy()
            for level in self.trees:
                labels[self.network.parts[level]] = self.cut(level, number)
            cuts.setdefault(labels.tobytes(), labels)
        found = [(labels, self.network.length(labels)) for labels in cuts.values()]
        while len(found) > affordable:
            found = [self.improve(labels, passes=1) for labels, _ in found]
            found = sorted(found, key=operator.itemgetter(1))[: max(affordable, len(found) // 2)]
        return found

    def cut(self, level: int, number: int) -> IntArray:
        """Cut a layer's tree into at most `number` clusters."""
        grown = self.trees[level]
        if grown.tree is None:
            return np.zeros(len(grown.row_of), dtype=np.int64)
        # After this many merges; those of one step happen together.
        merges = max(0, grown.tree.n_rows - number)
        step = int(grown.tree.steps[merges - 1]) if merges else 0
        return _numbered(grown.tree.cut(step)[grown.row_of])

    def improve(self, labels: IntArray, *, passes: int | None = None) -> tuple[IntArray, int]:
        """Move units and join clusters, and without a limit of passes replace layers, until nothing is gained."""
        network = self.network
        length = network.length(labels)
        for done in itertools.count(1):
            before = length
            for level in self.trees:
                labels = self._settle(labels, level, rounds=1)
            length = network.length(labels)
            if done == passes:
                break
            if before - length > length // LEAST_GAIN:
                continue
            if passes is None:
                for level in self.trees:
                    labels = self._replace(labels, level)
                length = network.length(labels)
            if before - length <= length // LEAST_GAIN:
                break
        return labels, length

    def _settle(self, labels: IntArray, level: int, *, rounds: int) -> IntArray:
        """Move units and join clusters of one layer."""
        for _ in range(rounds):
            before = labels
            labels = self._join(self._move(labels, level), level)
            if labels is before:
                break
        return labels

    def _replace(self, labels: IntArray, level: int) -> IntArray:
        """Try other partitions of one layer."""
        network, part = self.network, self.network.parts[level]
        shortest = _Layer(network, labels, level).length
        n_blocks = int(labels[part].max()) + 1
        others = [self.cut(level, number) for number in sorted({max(1, n_blocks // 2), n_blocks, 2 * n_blocks})]
        others += [network.named_after(labels, level, other) for other in network.joined[level]]
        others.append(np.zeros(part.stop - part.start, dtype=np.int64))
        for other in others:
            new = self._settle(_with(labels, part, other), level, rounds=REPLACE_ROUNDS)
            length = _Layer(network, new, level).length
            if length < shortest:
                labels, shortest = new, length
        return labels

    def _move(self, labels: IntArray, level: int) -> IntArray:
        """Move units of a layer to the clusters where each of them alone shortens the description most."""
        from modgraph.cluster.blocks import best_moves

        layer = _Layer(self.network, labels, level)
        if len(layer.own) == 1:
            return labels
        target, change = best_moves(
            layer.part.start,
            layer.labels,
            self.network.pointers,
            self.network.neighbours,
            layer.everyone,
            layer.own,
            layer.sizes,
            *layer.links(),
            layer.laws,
            layer.fewer,
        )
        for use in _best_halves(change):
            new = _with(labels, layer.part, np.where(use, target, layer.labels))
            if _Layer(self.network, new, level).length < layer.length:
                return new
        return labels

    def _join(self, labels: IntArray, level: int) -> IntArray:
        """Join clusters of a layer that are each other's best partners."""
        from modgraph.cluster.blocks import best_merges

        layer = _Layer(self.network, labels, level)
        n_blocks = len(layer.own)
        if n_blocks == 1:
            return labels
        one, two, change = best_merges(layer.own, layer.sizes, *layer.links(), layer.laws, layer.fewer)
        mutual = np.isin(one * n_blocks + two, two * n_blocks + one)
        one, two, change = one[mutual], two[mutual], change[mutual]
        for use in _best_halves(change):
            links = coo_array((np.ones(int(use.sum())), (one[use], two[use])), shape=(n_blocks, n_blocks))
            group = connected_components(links, directed=False)[1]
            new = _with(labels, layer.part, group[layer.labels])
            if _Layer(self.network, new, level).length < layer.length:
                return new
        return labels


def _best_halves(change: IntArray) -> Iterator[BoolArray]:
    """Yield which changes are below 0, then the lower half of them, and so on; equal ones stay together."""
    wanted = np.sort(change[change < 0])
    count = len(wanted)
    while count:
        yield change <= wanted[count - 1]
        count //= 2


def _numbered(names: IntArray) -> IntArray:
    return np.unique(names, return_inverse=True)[1]


def _with(labels: IntArray, part: slice, names: IntArray) -> IntArray:
    """Return the partition with one layer replaced."""
    new = labels.copy()
    new[part] = _numbered(names)
    return new
