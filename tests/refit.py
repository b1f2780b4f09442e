"""The published rule written down plainly, with a new scikit-learn fit for every number of clusters: an oracle."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import ClusterWarning
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import pairwise_distances

from modgraph import LayeredDAG
from modgraph.arrays import BoolArray, IntArray
from modgraph.merge import merge_clusters
from modgraph.reach import reachability


def refit_clusters(features: BoolArray, *, modularity_threshold: float = 0.2) -> IntArray:
    """Cluster the rows as method.md section 2 says, refitting for every k."""
    n_rows, n_columns = features.shape
    if n_rows == 1:
        return np.zeros(1, dtype=np.int64)

    def fit(k: int) -> IntArray:
        model = AgglomerativeClustering(n_clusters=k, metric="cosine", linkage="average")
        with warnings.catch_warnings():  # scipy suspects a square feature matrix of being a distance matrix
            warnings.simplefilter("ignore", ClusterWarning)
            labels: IntArray = model.fit_predict(features.astype(np.float64))
        return labels

    best, lowest = 2, 0.0
    if n_rows > 2:
        curve = {k: modularity(features, fit(k)) for k in range(2, n_rows)}
        lowest = min(curve.values())
        best = max(k for k, value in curve.items() if value == lowest)
    if best in (2, n_rows - 1) or lowest > -modularity_threshold:
        labels = fit(n_rows - 1)
        one, two = features[labels == np.bincount(labels).argmax()][:2]
        overlap, expected, z_separate = _compare(one, two, n_columns)
        z_separate = -z_separate
        separate = overlap < 1 or (overlap < max(one.sum(), two.sum()) and overlap <= expected)
        halves = fit(2)
        one, two = features[halves == 0].any(axis=0), features[halves == 1].any(axis=0)
        overlap, expected, z_one = _compare(one, two, n_columns)
        together = (overlap >= 1 and overlap >= expected) or overlap >= max(one.sum(), two.sum())
        if separate and together:
            best = 1 if z_one >= z_separate else n_rows
        elif separate or together:
            best = n_rows if separate else 1
    return fit(best)


def modularity(features: BoolArray, labels: IntArray) -> float:
    """M of a partition, from its definition."""
    distance = pairwise_distances(features.astype(np.float64), metric="cosine")
    scaled = distance / distance.sum() if distance.sum() > 0 else distance
    total = 0.0
    for label in np.unique(labels):
        members = labels == label
        total += scaled[np.ix_(members, members)].sum() - scaled[members].sum() ** 2
    return round(float(total), 8)


def _compare(one: NDArray[np.bool_], two: NDArray[np.bool_], n_columns: int) -> tuple[int, float, float]:
    """Overlap of two rows, the overlap expected by chance, and z of their difference."""
    product = int(one.sum()) * int(two.sum())
    overlap, expected, chance = int((one & two).sum()), product / n_columns, product / n_columns**2
    deviation = math.sqrt(n_columns * chance * (1 - chance))
    return overlap, expected, (overlap - expected) / (deviation or 1.0)


def refit_modules(dag: LayeredDAG, *, hops: int) -> IntArray:
    """Module labels of the trimmed network, layer by layer, for networks without edges that skip layers."""
    trimmed = dag.trim()
    starts = trimmed.layer_starts.tolist()
    clusters = np.arange(trimmed.n_units)
    for level in range(trimmed.n_layers - 1):
        start, stop = starts[level], starts[level + 1]
        if start == stop:
            continue
        end = starts[min(level + hops, trimmed.n_layers - 1) + 1]
        rows = reachability(trimmed, level, hops=hops)[:, stop:end].toarray()
        clusters[start:stop] = start + refit_clusters(rows)
    return merge_clusters(trimmed, np.unique(clusters, return_inverse=True)[1])
