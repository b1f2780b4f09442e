"""Clusters of the rows of one layer by average linkage: free of unit order, or to the letter of the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import BoolArray, IntArray
from modgraph.checks import check_share
from modgraph.cluster.choose import choose_clusters
from modgraph.cluster.tree import published_tree, tied_tree

Clustering = Callable[[BoolArray], NDArray[Any]]


def tied_linkage(features: BoolArray, *, modularity_threshold: float = 0.2) -> IntArray:
    """Cluster rows by average linkage and the paper's rule for the number of clusters, whatever the order of the rows.

    `detect_modules` does this by default in tiny layers. It differs from `published_linkage` where distances are equal:
    those pairs are joined at once, in exact arithmetic, instead of by the order of the units
    (`modgraph.cluster.tree.tied_tree`).

    Parameters
    ----------
    features : array_like of bool, shape (n_rows, n_columns)
        What each unit reaches; no row may be empty.
    modularity_threshold : float, 0…1
        The curve's minimum decides alone only where it is at most −`modularity_threshold` (paper: 0.2).

    Returns
    -------
    ndarray of int, shape (n_rows,)
        Each row's cluster, named by any int.

    Raises
    ------
    ValueError
        If an argument is not of that form.

    Examples
    --------
    >>> tied_linkage([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]).tolist()
    [0, 0, 1, 1]
    """
    all_rows = _checked_rows(features, modularity_threshold)
    # Equal rows are at distance 0, so they are always one cluster: keep one of them, with the number of copies.
    position: dict[bytes, int] = {}
    copy_of: IntArray = np.array([position.setdefault(row.tobytes(), len(position)) for row in all_rows])
    copies: IntArray = np.bincount(copy_of)
    if len(copies) == 1:
        return copy_of
    rows = np.frombuffer(b"".join(position), dtype=np.bool_).reshape(len(copies), -1)
    overlap = _overlaps(rows)
    tree = tied_tree(overlap, copies)
    clusters = choose_clusters(
        tree,
        rows,
        overlaps=overlap[*tree.closest.T],
        copies=len(all_rows) - len(rows),
        modularity_threshold=modularity_threshold,
    )
    return clusters[copy_of]


def published_linkage(features: BoolArray, *, modularity_threshold: float = 0.2) -> IntArray:
    """Cluster rows by the paper's rule to the letter, which breaks ties by the order of the units.

    Average linkage on cosine distance, the number of clusters from the curve M(k) and two tests (paper, section
    3.2; here with one linkage and the incremental curve instead of a new fit for every k).

    Parameters
    ----------
    features : array_like of bool, shape (n_rows, n_columns)
        What each unit reaches; no row may be empty.
    modularity_threshold : float, 0…1
        The curve's minimum decides alone only where it is at most −`modularity_threshold` (paper: 0.2).

    Returns
    -------
    ndarray of int, shape (n_rows,)
        Each row's cluster, named by any int.

    Raises
    ------
    ValueError
        If an argument is not of that form.

    Examples
    --------
    >>> published_linkage([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]).tolist()
    [0, 0, 2, 2]
    """
    rows = _checked_rows(features, modularity_threshold)
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int64)
    overlap = _overlaps(rows)
    tree = published_tree(overlap)
    return choose_clusters(tree, rows, overlaps=overlap[*tree.closest.T], modularity_threshold=modularity_threshold)


def _checked_rows(features: BoolArray, modularity_threshold: float) -> BoolArray:
    """Check the arguments of a clustering and return its features as boolean rows."""
    rows = np.asarray(features, dtype=np.bool_)
    if rows.ndim != 2 or not len(rows) or not rows.any(axis=1).all():
        raise ValueError(f"`features` must be a matrix without empty rows (got shape {rows.shape})")
    check_share("modularity_threshold", modularity_threshold)
    return rows


def _overlaps(rows: BoolArray) -> IntArray:
    """Count the columns that each pair of rows has in common; shape (n_rows, n_rows)."""
    numbers = rows.astype(np.float32)  # a BLAS product, exact below 2²⁴ columns
    return (numbers @ numbers.T).astype(np.int64)
