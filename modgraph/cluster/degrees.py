"""Edges that units have by their degrees alone: what a description has to beat.

In a random network with given degrees, two units of high degree are more likely to be joined than two of low degree.
The least biased probabilities (those of maximum entropy) with n_a units in one layer and n_b in another are ::

    p_ij = x_i y_j / (1 + x_i y_j),   with  Σ_j p_ij = d_i  and  Σ_i p_ij = d_j

(Park and Newman, Physical Review E 70, 066117, 2004). In sparse networks that is d_i d_j / E, as in the block model of
Karrer and Newman (Physical Review E 83, 016107, 2011); in dense ones no p_ij exceeds 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from modgraph.arrays import FloatArray, IntArray

# Most classes into which the units of a layer are sorted by degree.
MOST_CLASSES = 16
# Largest d_i d_j / E up to which that is taken for p_ij itself.
SPARSE = 0.1
# Share by which degrees are drawn to their mean, so that all x_i stay finite.
SHRINKAGE = 1e-3
# Newton's steps, and the share of the edges that may be wrong after them.
MOST_STEPS = 100
TOLERANCE = 1e-6


class DegreeModel(NamedTuple):
    """How many edges units of two layers have by their degrees.

    Units i and j: ``one[i] · two[j] · rate[class_one[i], class_two[j]]``.

    Attributes
    ----------
    one, two : ndarray of int, shapes (n_a,), (n_b,)
        Degrees.
    class_one, class_two : ndarray of int, shapes (n_a,), (n_b,)
        Class of each unit; within a class the rate is the same.
    rate : ndarray of float, shape (n_classes_one, n_classes_two)
    """

    one: IntArray
    two: IntArray
    class_one: IntArray
    class_two: IntArray
    rate: FloatArray


def degree_model(one: IntArray, two: IntArray) -> DegreeModel:
    """Fit the probabilities of edges to the degrees of two layers.

    Parameters
    ----------
    one, two : ndarray of int ≥ 0, shapes (n_a,), (n_b,)
        Edges of each unit of one layer with the other; both sums are the number of edges, at least 1.

    Returns
    -------
    DegreeModel

    Examples
    --------
    >>> model = degree_model(np.array([2, 1, 1]), np.array([2, 2]))
    >>> (model.rate[model.class_one][:, model.class_two] * np.outer(model.one, model.two)).round(2).tolist()
    [[1.0, 1.0], [0.5, 0.5], [0.5, 0.5]]
    """
    n_edges = int(one.sum())
    equal = one.min() == one.max() and two.min() == two.max()
    if equal or int(one.max()) * int(two.max()) <= SPARSE * n_edges:
        return DegreeModel(one, two, np.zeros_like(one), np.zeros_like(two), np.array([[1 / n_edges]]))
    class_one, class_two = _classes(one, len(two)), _classes(two, len(one))
    size_one, size_two = np.bincount(class_one), np.bincount(class_two)
    mean_one = np.bincount(class_one, one) / size_one
    mean_two = np.bincount(class_two, two) / size_two
    chance = _fitted(mean_one, mean_two, size_one=size_one, size_two=size_two)
    degrees = np.outer(mean_one, mean_two)
    rate = np.divide(chance, degrees, out=np.zeros_like(chance), where=degrees > 0)
    return DegreeModel(one, two, class_one, class_two, rate)


def _classes(degree: IntArray, n_others: int) -> IntArray:
    """Sort units into classes: one for each degree, or of degrees whose log odds are near."""
    distinct, number = np.unique(degree, return_inverse=True)
    if len(distinct) > MOST_CLASSES:
        odds = np.log(np.maximum(distinct, 0.5)) - np.log(n_others + 1.0 - distinct)
        part = (odds - odds[0]) / (odds[-1] - odds[0]) * MOST_CLASSES
        number = np.unique(np.minimum(part.astype(np.int64), MOST_CLASSES - 1), return_inverse=True)[1][number]
    return number


def _fitted(mean_one: FloatArray, mean_two: FloatArray, *, size_one: IntArray, size_two: IntArray) -> FloatArray:
    """Find the p_ij of classes with these mean degrees and sizes, by Newton's method on the log odds."""
    n_one, n_two = size_one.sum(), size_two.sum()
    n_edges = mean_one @ size_one
    mean_one = mean_one + SHRINKAGE * (n_edges / n_one - mean_one)
    mean_two = mean_two + SHRINKAGE * (n_edges / n_two - mean_two)
    log_x = np.log(mean_one / (n_two - mean_one))
    log_y = np.log(mean_two / np.maximum(n_one - mean_two, 1e-3)) - np.log(n_edges / (n_one * n_two - n_edges))
    # Larger x with smaller y is the same network: this direction gets a curvature of its own.
    idle = np.concatenate([np.ones(len(log_x)), -np.ones(len(log_y))])
    for _ in range(MOST_STEPS):
        chance = scipy.special.expit(log_x[:, None] + log_y)
        missing = np.concatenate([size_one * (mean_one - chance @ size_two), size_two * (mean_two - size_one @ chance)])
        if np.abs(missing).max() < TOLERANCE * n_edges:
            break
        variance = chance * (1 - chance) * np.outer(size_one, size_two)
        curvature = np.block([[np.diag(variance.sum(axis=1)), variance], [variance.T, np.diag(variance.sum(axis=0))]])
        curvature += np.outer(idle, idle) * (variance.sum() / len(idle) ** 2) + TOLERANCE * np.eye(len(idle))
        step = np.linalg.solve(curvature, missing)
        step /= max(1.0, np.abs(step).max() / 2)
        log_x += step[: len(log_x)]
        log_y += step[len(log_x) :]
    return chance  # type: ignore[no-any-return]
