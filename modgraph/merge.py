"""Merging clusters across layers: the 0.9 rule."""

from __future__ import annotations

import numpy as np

from modgraph.arrays import IntArray, read_only
from modgraph.checks import check_share
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit, roots


def merge_clusters(dag: LayeredDAG, clusters: IntArray, *, threshold: float = 0.9) -> IntArray:
    """Merge clusters of different layers that feed each other almost exclusively (the 0.9 rule).

    Cluster j joins the module of an earlier cluster i if more than `threshold` of the edges that leave i lead to j
    and more than `threshold` of the edges that enter j come from i; for output units the second condition is enough
    (paper, section 3.3). Where edges skip layers, i need not be in the layer before j's. Below a threshold of
    0.5 several i may qualify: j joins the one that sends most edges, and none where two send equally many.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    clusters : ndarray of int ≥ 0, shape (n_units,)
        The cluster of each unit, numbered by first unit without gaps; no cluster spans two layers.
    threshold : float, in (0, 1]
        A cluster without edges is always a module of its own.

    Returns
    -------
    ndarray of int, shape (n_units,)
        Module labels, numbered by first unit.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 1], [1, 1]], [[1, 1], [1, 1]]])
    >>> merge_clusters(dag, np.array([0, 0, 1, 1, 2, 3])).tolist()
    [0, 0, 0, 0, 0, 0]
    """
    check_share("threshold", threshold, above_zero=True)
    n_clusters = int(clusters.max()) + 1
    source, target, edges = edge_counts(dag, clusters)
    leaving = np.bincount(source, edges, minlength=n_clusters)
    entering = np.bincount(target, edges, minlength=n_clusters)
    is_output = np.zeros(n_clusters, dtype=np.bool_)
    is_output[clusters[dag.layer == dag.n_layers - 1]] = True
    # One division is correctly rounded: nine edges of ten are exactly 0.9, not more.
    joins = (edges / entering[target] > threshold) & ((edges / leaving[source] > threshold) | is_output[target])
    source, target, edges = source[joins], target[joins], edges[joins]
    most = np.zeros(n_clusters)
    np.maximum.at(most, target, edges)
    has_most = edges == most[target]
    is_untied = np.bincount(target[has_most], minlength=n_clusters)[target] == 1
    parent = np.arange(n_clusters)
    parent[target[has_most & is_untied]] = source[has_most & is_untied]
    return read_only(by_first_unit(roots(parent)[clusters]))


def edge_counts(dag: LayeredDAG, labels: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Count the edges between labels, as (source, target, count); edges of units labelled −1 don't count."""
    sources, targets = labels[dag.sources], labels[dag.targets]
    inside = (sources >= 0) & (targets >= 0)
    n_labels = int(labels.max()) + 1
    pairs, counts = np.unique(sources[inside] * n_labels + targets[inside], return_counts=True)
    return pairs // n_labels, pairs % n_labels, counts
