"""Clusters of units within one layer.

A clustering of rows takes the reachability rows of one layer, a boolean array of shape (n_units, n_columns), and gives
an integer label for each: `linkage`, `published`, or any callable of that form, for instance the ``fit_predict`` of a
scikit-learn clusterer. A `Method` sees the whole trimmed network; `METHODS` has those that `modgraph.detect_modules`
knows by name.
"""

from modgraph.cluster.methods import METHODS, Method
from modgraph.cluster.rows import Clustering, linkage, published

__all__ = ["METHODS", "Clustering", "Method", "linkage", "published"]
