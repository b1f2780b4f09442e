"""Modules of attribution graphs: units that are alike in influence, token position and layer.

Finds, from structure alone, groups of features that do the same thing, often across several layers, as people who read
attribution graphs draw them:

1. Influence: with B the weights, those that enter a unit scaled to a sum of magnitudes of 1, (I − B)⁻¹ holds the sum
   over all paths. A unit's column says what it depends on, its row what depends on it. Both are taken in three forms:
   signed, square roots with the sign kept, and with all weights positive. They stress strong and weak influence
   differently.
2. Similarity: the mean cosine of an incoming and an outgoing form, plus a bonus for the same token position, plus one
   for close layers. No form and no bonus is best everywhere, so all are tried.
3. Agreement: average linkage of each similarity, cut at three sizes; how often two units come out together.
4. Partition: average linkage of the agreement, cut branch by branch where modularity with resolution 2 is largest
   (Reichardt and Bornholdt 2006, with the configuration model as the null).

The constants were chosen on graphs with groups drawn by people; ``python -m tests.long.attribution_graphs`` prints how
well they do on graphs that they were not chosen on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit, refined

POSITION_BONUSES = (0.25, 0.5, 1.0)
"""What the same token position adds to a similarity, where equal influence adds 1."""

LAYER_BONUSES = (0.25, 0.5)
"""What the same layer adds; it falls linearly to 0 for the first and the last layer."""

CUTS = (1.6, 2.0, 2.4)
"""Numbers of clusters of each similarity, as multiples of √n for n units."""

RESOLUTION = 2.0
"""Resolution of the modularity that cuts the final tree: more than 1 gives smaller modules."""

DIGITS = 9
"""Decimals that similarities are rounded to, so that the order of a sum's terms has no effect."""


def attributed_modules(
    dag: LayeredDAG,
    *,
    position_bonuses: Sequence[float] = POSITION_BONUSES,
    layer_bonuses: Sequence[float] = LAYER_BONUSES,
    cuts: Sequence[float] = CUTS,
    resolution: float = RESOLUTION,
) -> IntArray:
    """Find groups of units that may span layers in a graph that knows token positions.

    Parameters
    ----------
    dag : LayeredDAG
        With weights and positions (else ValueError). Nothing is trimmed.
    position_bonuses, layer_bonuses : sequence of float ≥ 0
    cuts : sequence of float > 0
    resolution : float > 0
        The constants of this module, in other settings.

    Returns
    -------
    ndarray of int, shape (n_units,)
        A label for every unit, numbered by first unit. Units of the first and last layer are alone; hidden units that
        no edge enters are −1: they are no part of a computation (in attribution graphs, reconstruction errors).

    Notes
    -----
    O(n³) for n units, dense: a few hundred units take less than a second. Units that weights, layers, positions and
    neighbours can't tell apart always share a module, so that the order of the units has no effect.

    Examples
    --------
    Two features at each of two token positions:

    >>> dag = LayeredDAG.from_edges(
    ...     [[0, 2], [0, 3], [1, 4], [1, 5], [2, 6], [3, 6], [4, 7], [5, 7]],
    ...     layer=[0, 0, 1, 1, 1, 1, 2, 2],
    ...     weights=[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0],
    ...     positions=[0, 1, 0, 0, 1, 1, 1, 1],
    ... )
    >>> attributed_modules(dag, cuts=[1.0]).tolist()
    [0, 1, 2, 2, 3, 3, 4, 5]
    """
    if dag.weights is None or dag.positions is None:
        raise ValueError("`dag` must have weights and positions")
    labels = np.full(dag.n_units, -1, dtype=np.int64)
    ends = (dag.layer == 0) | (dag.layer == dag.n_layers - 1)
    labels[ends] = np.flatnonzero(ends)
    inside = ~ends
    inside[np.setdiff1d(np.arange(dag.n_units), dag.targets)] = False
    if inside.any():
        bonuses = list(itertools.product(position_bonuses, layer_bonuses))
        labels[inside] = dag.n_units + _clusters(dag, inside, bonuses=bonuses, cuts=cuts, resolution=resolution)
    known = labels >= 0
    labels[known] = by_first_unit(labels[known])
    return read_only(labels)


def likeness(dag: LayeredDAG, labels: IntArray) -> tuple[float, FloatArray]:
    """Return how much more alike in influence units of one module are than any two units, positions not counted.

    Alike is the mean cosine over all forms of influence, in and out. The second value, shape (n_modules,), says how
    well each module is marked off: its excess over all pairs, times the square root of its number of pairs.
    """
    inside = (labels >= 0) & (dag.layer > 0) & (dag.layer < dag.n_layers - 1)
    order = np.argsort(canonical_kinds(dag), kind="stable")
    units = order[inside[order]]
    n_modules, n_pairs = int(labels.max(initial=-1)) + 1, len(units) * (len(units) - 1)
    if n_pairs == 0:
        return 0.0, np.zeros(n_modules)
    incoming, outgoing = _profile_cosines(dag, order, units)
    alike = np.mean([*incoming, *outgoing], axis=0)
    np.fill_diagonal(alike, 0)
    member = np.zeros((n_modules, len(units)))
    member[labels[units], np.arange(len(units))] = 1
    pairs = member.sum(axis=1) * (member.sum(axis=1) - 1)
    excess = np.round(((member @ alike) * member).sum(axis=1) - pairs * alike.sum() / n_pairs, DIGITS)
    return float(excess.sum() / max(pairs.sum(), 1)), excess / np.sqrt(np.maximum(pairs, 1))


def _clusters(
    dag: LayeredDAG,
    inside: BoolArray,
    *,
    bonuses: Sequence[tuple[float, float]],
    cuts: Sequence[float],
    resolution: float,
) -> IntArray:
    """Cluster the units of `inside`; returns a label for each. `bonuses` are those of the position and the layer."""
    assert dag.positions is not None
    kind = canonical_kinds(dag)
    # From here on units are sorted by kind, so that their order in the network has no effect.
    order = np.argsort(kind, kind="stable")
    units = order[inside[order]]
    kinds, member = np.unique(kind[units], return_inverse=True)
    if len(kinds) == 1:
        return np.zeros(len(units), dtype=np.int64)
    average = np.zeros((len(kinds), len(units)))
    average[member, np.arange(len(units))] = 1 / np.bincount(member)[member]
    layer, position = dag.layer[units], dag.positions[units]
    close = 1 - np.abs(layer[:, None] - layer) / (dag.n_layers - 1)
    same_position, close_layer = (average @ matrix @ average.T for matrix in (position[:, None] == position, close))
    incoming, outgoing = (
        [average @ cosines @ average.T for cosines in forms] for forms in _profile_cosines(dag, order, units)
    )
    together = np.zeros((len(kinds), len(kinds)))
    for one, two, (bonus, other) in itertools.product(incoming, outgoing, bonuses):
        similarity = ((one + two) / 2 + bonus * same_position + other * close_layer) / (1 + bonus + other)
        tree = _tree(np.round(similarity, DIGITS))
        for cut in cuts:
            labels = scipy.cluster.hierarchy.fcluster(tree, max(2, round(cut * len(kinds) ** 0.5)), "maxclust")
            together += labels[:, None] == labels
    together /= together.max()
    found = _best_partition(_tree(together), together, resolution=resolution)
    result = np.empty(dag.n_units, dtype=np.int64)
    result[units] = found[member]
    return result[inside]


def canonical_kinds(dag: LayeredDAG) -> IntArray:
    """Give each unit a number for all that tells it apart: layer, position, weights and, round by round, neighbours.

    The numbers, shape (n_units,), don't depend on the order of the units (see ``modgraph.labels.refined``).
    """
    positions = np.zeros(dag.n_units, dtype=np.int64) if dag.positions is None else dag.positions
    facts = [*zip(dag.layer.tolist(), positions.tolist(), strict=True)]
    return refined(facts, (dag.targets, dag.sources), (dag.sources, dag.targets), weights=dag.weights)


def _profile_cosines(
    dag: LayeredDAG, order: IntArray, units: IntArray
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Compare what units depend on, and what depends on them, in three forms each; shapes (n, n) for n `units`."""
    assert dag.weights is not None
    # By layer first, so that the matrix of weights is triangular; then by kind.
    place = np.empty(dag.n_units, dtype=np.int64)
    place[order] = np.arange(dag.n_units)
    weights = np.zeros((dag.n_units, dag.n_units))
    weights[place[dag.sources], place[dag.targets]] = dag.weights
    largest = np.abs(weights).max(axis=0)
    weights /= np.where(largest > 0, largest, 1)  # first, so that huge weights don't overflow in the sum
    total = np.abs(weights).sum(axis=0)
    weights /= np.where(total > 0, total, 1)
    itself = np.eye(dag.n_units)
    signed = scipy.linalg.solve_triangular(itself - weights, itself, unit_diagonal=True)
    unsigned = scipy.linalg.solve_triangular(itself - np.abs(weights), itself, unit_diagonal=True)
    root = np.sign(signed) * np.sqrt(np.abs(signed))
    forms = (signed, root, unsigned)
    chosen = place[units]
    # Incoming profiles leave out the unit itself; outgoing profiles include it.
    incoming = tuple(_cosines((form - itself)[:, chosen].T) for form in forms)
    outgoing = tuple(_cosines(form[chosen]) for form in forms)
    return incoming, outgoing


def _cosines(rows: FloatArray) -> FloatArray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled = rows / np.where(length > 0, length, 1)
    cosines: FloatArray = scaled @ scaled.T
    return cosines


def _tree(similarity: FloatArray) -> FloatArray:
    """Join by average linkage; shape (n − 1, 4), as `scipy.cluster.hierarchy.linkage`."""
    distance = np.clip(1 - (similarity + similarity.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree: FloatArray = scipy.cluster.hierarchy.linkage(
        scipy.spatial.distance.squareform(distance, checks=False), "average"
    )
    return tree


def _best_partition(tree: FloatArray, weights: FloatArray, *, resolution: float) -> IntArray:
    """Cut every branch of a tree where the modularity of the whole is largest.

    Modularity is a sum over clusters, Q = Σ_c (w_c / w − γ (d_c / w)²), with w_c the weight inside c, d_c that of its
    units' edges, w the sum of all: so each branch can be decided alone, from the leaves up. `weights`, shape (n, n), is
    symmetric; its diagonal doesn't count.
    """
    n = len(weights)
    weights = weights.copy()
    np.fill_diagonal(weights, 0)
    whole = weights.sum() or 1.0
    members = [[leaf] for leaf in range(n)]
    rows = list(weights)
    inner = [0.0] * n
    gain = [-resolution * float(row.sum() / whole) ** 2 for row in rows]
    parts = [[leaf] for leaf in range(n)]  # the clusters of each branch, by number of their branch
    for one, two in tree[:, :2].astype(np.int64).tolist():
        inner.append(inner[one] + inner[two] + 2 * float(rows[one][members[two]].sum()))
        rows.append(rows[one] + rows[two])
        members.append(members[one] + members[two])
        joined = inner[-1] / whole - resolution * float(rows[-1].sum() / whole) ** 2
        apart = gain[one] + gain[two]
        # Keep ties apart, so that rounding doesn't decide.
        join = joined > apart + 1e-12
        gain.append(joined if join else apart)
        parts.append([len(members) - 1] if join else parts[one] + parts[two])
    labels = np.empty(n, dtype=np.int64)
    for branch in parts[-1]:
        labels[members[branch]] = branch
    return labels
