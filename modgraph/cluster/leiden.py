"""Leiden on each layer, as an alternative to linkage, and on the whole graph at once."""

from __future__ import annotations

import random

import numpy as np

from modgraph.arrays import FloatArray, IntArray, read_only
from modgraph.checks import check_positive, require
from modgraph.cluster.by_description import shortest_combination
from modgraph.cluster.sparse import SimilarityGraph, similarity_graph
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit

# Number of resolutions tried in each layer, from one cluster to units apart, evenly spaced on a logarithmic scale.
RESOLUTIONS = 24
# Most iterations of Leiden. Where many partitions are equally good it would go from one to another without an end.
MAX_ITERATIONS = 50


def leiden(dag: LayeredDAG, *, hops: int, rng: np.random.Generator) -> IntArray:
    """Cluster each layer by Leiden on its similarity graph, the resolution chosen by description length.

    The units of a layer are joined where the cosine of what they reach, and are reached by, within `hops` steps is
    above 0. The quality is that of a constant Potts model, Σ_clusters [Σ_pairs cosine − γ n (n − 1) / 2], which has no
    resolution limit of its own (Traag, Van Dooren and Nesterov, Physical Review E 84, 016114, 2011); the algorithm
    is Leiden in igraph (Traag, Waltman and van Eck, Scientific Reports 9, 5233, 2019). A range of γ is tried,
    first the same for all layers, then one for each layer in turn until nothing changes. The clusters with the
    shortest description are taken (`modgraph.cluster.description`); one cluster a layer is also tried.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    hops : int ≥ 1
    rng : numpy.random.Generator
        Leiden visits units in random order: the same seed gives the same clusters, for one order of the units.

    Returns
    -------
    ndarray of int, shape (n_units,)
        Cluster labels, numbered by first unit; no cluster spans two layers. Output units are clusters of one.

    Raises
    ------
    ImportError
        If igraph is missing.

    Examples
    --------
    >>> halves = np.kron(np.eye(2), np.ones((12, 12)))
    >>> dag = LayeredDAG.from_masks([halves, halves])
    >>> np.bincount(leiden(dag, hops=2, rng=np.random.default_rng(0))).tolist()[:4]
    [12, 12, 12, 12]
    """
    candidates = {}
    for level, size in enumerate(dag.layer_sizes):
        if size:
            graph = similarity_graph(dag, level, hops=hops)
            candidates[level] = [_clusters(graph, gamma, rng) for gamma in _resolutions(graph)]
    return shortest_combination(dag, candidates)


def leiden_partition(
    dag: LayeredDAG, *, resolution: float = 1.0, random_state: int | np.random.Generator | None = 0
) -> IntArray:
    """Partition the whole network at once, as a multiplex of its layers of edges, to compare with.

    Each pair of layers with edges is one directed graph over all units; the modularity of these graphs, in which an
    edge is as likely as its source's outgoing and its target's incoming edges make it, is summed and maximised over
    one partition of all units (leidenalg's multiplex; Mucha et al., Science 328, 876, 2010). So clusters
    may span layers, as modules do.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed here first.
    resolution : float > 0
        Larger: more, smaller clusters.
    random_state : int, Generator or None

    Returns
    -------
    ndarray of int, shape (n_units,)
        Labels for the units of `dag`, numbered by first unit; −1 where trimming would remove the unit.

    Raises
    ------
    ValueError
        If `resolution` is out of range.
    ImportError
        If leidenalg is missing.

    Examples
    --------
    >>> halves = np.kron(np.eye(2), np.ones((3, 3)))
    >>> leiden_partition(LayeredDAG.from_masks([halves, halves]), random_state=0).tolist()
    [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    """
    check_positive("resolution", resolution)
    igraph = require("igraph", purpose="`leiden_partition`", extra="graphs")
    leidenalg = require("leidenalg", purpose="`leiden_partition`", extra="graphs")
    rng = np.random.default_rng(random_state)
    kept = dag.on_path()
    trimmed = dag.subgraph(kept)
    pair = trimmed.layer[trimmed.sources] * trimmed.n_layers + trimmed.layer[trimmed.targets]
    edges = trimmed.edges
    graphs = [igraph.Graph(n=trimmed.n_units, edges=edges[pair == one], directed=True) for one in np.unique(pair)]
    labels = np.arange(trimmed.n_units)
    if graphs:
        labels = np.array(
            leidenalg.find_partition_multiplex(
                graphs,
                leidenalg.RBConfigurationVertexPartition,
                resolution_parameter=resolution,
                n_iterations=MAX_ITERATIONS,
                seed=int(rng.integers(1 << 31)),
            )[0]
        )
    found = np.full(dag.n_units, -1, dtype=np.int64)
    found[kept] = by_first_unit(labels)
    return read_only(found)


def _resolutions(graph: SimilarityGraph) -> FloatArray:
    """Return resolutions from the mean similarity over all pairs (one cluster, about) to the largest."""
    size = len(graph.row_of)
    if not len(graph.cosine):
        return np.ones(1)  # any resolution keeps equal rows together and different rows apart
    one, two = graph.pairs.T
    total = (graph.cosine * graph.copies[one] * graph.copies[two]).sum()
    return np.geomspace(total / (size * (size - 1) / 2), graph.cosine.max(), RESOLUTIONS)


def _clusters(graph: SimilarityGraph, resolution: float, rng: np.random.Generator) -> IntArray:
    """Run Leiden on the distinct rows, each as heavy as the units that have it; labels of the units."""
    igraph = require("igraph", purpose="the clustering 'leiden'", extra="graphs")
    one, two = graph.pairs.T
    network = igraph.Graph(n=len(graph.copies), edges=graph.pairs)
    # igraph draws from one generator for the whole process: lend it a seeded one.
    igraph.set_random_number_generator(random.Random(int(rng.integers(1 << 62))))
    try:
        found = network.community_leiden(
            objective_function="CPM",
            weights=graph.cosine * graph.copies[one] * graph.copies[two],
            node_weights=graph.copies.tolist(),
            resolution=resolution,
            n_iterations=MAX_ITERATIONS,
        )
    finally:
        igraph.set_random_number_generator(random)
    labels: IntArray = np.array(found.membership, dtype=np.int64)[graph.row_of]
    return labels
