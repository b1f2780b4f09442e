"""Clusters of units within one layer.

A clustering of rows takes the reachability rows of one layer, a boolean array of shape (n_units, n_columns). It returns
an integer label for each: `tied_linkage`, `published_linkage`, or any callable of that form, for instance the
``fit_predict`` of a scikit-learn clusterer. A `Method` clusters a whole trimmed network; `METHODS` has those that
`modgraph.detect_modules` knows by name.
"""

from modgraph.cluster.methods import METHODS, Method
from modgraph.cluster.rows import Clustering, published_linkage, tied_linkage

__all__ = ["METHODS", "Clustering", "Method", "published_linkage", "tied_linkage"]
