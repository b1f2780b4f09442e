"""Inputs and outputs clustered together by the influence of one on the other: modules of ordinary pruned networks.

**What is clustered.** P, shape (outputs, inputs), is the influence of each input on each output (`modgraph.influence`):
signed sums over paths, or mean Jacobians over data. With every row of |P| divided by its sum, e_oi is the share of
output o's influence that comes from input i, and a partition of inputs and outputs into k groups has the modularity ::

    Q = 1/n Σ_{o, i in one group} (e_oi − mean of e_i over outputs)

of a bipartite graph with these weights (Barber, Physical Review E 76, 066102, 2007), in which every output counts the
same. For each k it starts from Ward's clusters of the rows and moves inputs and outputs in turn to their best group
until nothing changes (Barber's BRIM).

**How many.** The same is done for networks whose weights were shuffled inside each matrix: same edges, same weights, no
function. The k is taken for which Q is furthest above their mean Q at that k (a gap statistic, as of Tibshirani, Walther
and Hastie, Journal of the Royal Statistical Society B 63, 411, 2001). Groups are *beyond chance* where this gap is larger
than in every shuffled network and Q is at least half as large again as theirs; otherwise there is one group.

**Symmetries.** Nothing here depends on the order of units, nor on the scale and sign of hidden units: units are scaled
to have incoming weights of norm 1 whose sum isn't negative, and ordered by their weights, before anything is drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform

from modgraph.dag import BoolArray, FloatArray, IntArray, LayeredDAG, frozen

N_SHUFFLES = 19
"""Shuffled networks to compare with: the smallest number that allows a p-value of .05."""

LEAST_EXCESS = 0.5
"""How far Q has to be above that of shuffled networks, as a share of theirs."""

FIRST_CURVE = 8
"""Groups up to which Q is computed at first; doubled while the best number is in the upper half."""

LEAST_SEPARATION = 4.0
"""Distance of two kinds of outputs, in standard deviations within a kind, from which they are told apart."""

EVEN = 0.5
"""An output reads an input group if its share is this part of the largest share, at least."""

LARGEST = 4096
"""Inputs or outputs, whichever are fewer, up to which this is tried."""

Measure = Callable[[LayeredDAG], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoClusters:
    """Groups of inputs and groups of outputs that read them.

    Attributes
    ----------
    input_group : ndarray of int, shape (n_inputs,)
        0 … n_groups − 1.
    output_group : ndarray of int, shape (n_outputs,)
        Group g < n_groups reads input group g; groups from n_groups on read several.
    reads : ndarray of bool, shape (output groups, input groups)
    modularity, expected : float
        Q, and its mean over shuffled networks, for n_groups groups (before one group was decided for).
    p_value : float
        Share of the networks, this one and the shuffled ones, whose gap is as large as this one's.
    n_shuffled : int
    """

    input_group: IntArray
    output_group: IntArray
    reads: BoolArray
    modularity: float
    expected: float
    p_value: float
    n_shuffled: int

    @property
    def n_groups(self) -> int:
        """Number of input groups."""
        return int(self.reads.shape[1])

    @property
    def beyond_chance(self) -> bool:
        """Whether there are groups (see the module's text)."""
        return self.n_groups > 1

    def __repr__(self) -> str:
        return (
            f"CoClusters({self.n_groups} of inputs, {len(self.reads)} of outputs, modularity {self.modularity:.2f}, "
            f"{self.expected:.2f} in shuffled networks)"
        )


def co_clusters(
    dag: LayeredDAG, measure: Measure, *, rng: np.random.Generator, n_shuffled: int = N_SHUFFLES
) -> CoClusters:
    """Cluster inputs and outputs by influence.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed, with weights.
    measure : callable
        A network → the influence of each input on each output, shape (n_outputs, n_inputs); signs don't matter.
    rng : numpy.random.Generator
        For the shuffled networks.
    n_shuffled : int ≥ 1

    Returns
    -------
    CoClusters
    """
    n_inputs, n_outputs = dag.layer_sizes[0], dag.layer_sizes[-1]
    if min(n_inputs, n_outputs) < 2:
        return _one_group(n_inputs, n_outputs, n_shuffled=0)
    observed = _shares(measure(dag))
    null = [_shares(measure(shuffled(dag, rng))) for _ in range(n_shuffled)]
    trees = [_tree(shares) for shares in (observed, *null)]
    most = min(FIRST_CURVE, n_inputs, n_outputs)
    while True:
        curves = np.array(
            [
                [_best_groups(shares, tree, k).modularity for k in range(1, most + 1)]
                for shares, tree in zip((observed, *null), trees, strict=True)
            ]
        )
        expected = curves[1:].mean(axis=0)
        k = int((curves[0] - expected).argmax()) + 1
        if k <= most // 2 or most == min(n_inputs, n_outputs):
            break
        most = min(2 * most, n_inputs, n_outputs)
    # Each shuffled network is compared with the mean of the others, so that all are judged alike.
    others = (curves[1:].sum(axis=0) - curves[1:]) / max(1, n_shuffled - 1)
    gap = (curves[0] - expected).max()
    p_value = (1 + int(((curves[1:] - others).max(axis=1) >= gap).sum())) / (n_shuffled + 1)
    q, chance = float(curves[0, k - 1]), float(expected[k - 1])
    if k == 1 or p_value > 1 / (n_shuffled + 1) or q < (1 + LEAST_EXCESS) * chance:
        best = (k, q, chance) if k > 1 else (2, float(curves[0, 1]), float(expected[1]))
        found = _one_group(n_inputs, n_outputs, n_shuffled=n_shuffled)
        return dataclasses.replace(found, modularity=best[1], expected=best[2], p_value=p_value)
    groups = _best_groups(observed, trees[0], k)
    output_group, reads = _readers(observed, groups)
    return CoClusters(
        input_group=frozen(groups.columns),
        output_group=frozen(output_group),
        reads=frozen(reads),
        modularity=q,
        expected=chance,
        p_value=p_value,
        n_shuffled=n_shuffled,
    )


def _one_group(n_inputs: int, n_outputs: int, *, n_shuffled: int) -> CoClusters:
    return CoClusters(
        input_group=frozen(np.zeros(n_inputs, dtype=np.int64)),
        output_group=frozen(np.zeros(n_outputs, dtype=np.int64)),
        reads=frozen(np.ones((1, 1), dtype=np.bool_)),
        modularity=0.0,
        expected=0.0,
        p_value=1.0,
        n_shuffled=n_shuffled,
    )


def normalised(dag: LayeredDAG) -> LayeredDAG:
    """Scale every hidden unit so that path sums from inputs to outputs stay as they are and units become comparable.

    A unit's incoming weights get norm 1 and a sum that isn't negative; its outgoing weights make up for it.

    Parameters
    ----------
    dag : LayeredDAG
        With weights.

    Returns
    -------
    LayeredDAG
        Without biases and activations, which this would not fit.
    """
    assert dag.weights is not None
    weights = dag.weights.copy()
    scale = np.ones(dag.n_units)
    entered = dag.layer[dag.targets]
    for level in range(1, dag.n_layers - 1):
        edges = np.flatnonzero(entered == level)
        targets = dag.targets[edges]
        weights[edges] *= scale[dag.sources[edges]]
        squares = np.bincount(targets, weights[edges] ** 2, minlength=dag.n_units)
        sums = np.bincount(targets, weights[edges], minlength=dag.n_units)
        units = (dag.layer == level) & (squares > 0)
        scale[units] = np.sqrt(squares[units]) * np.where(sums[units] < 0, -1, 1)
        weights[edges] /= scale[targets]
    edges = np.flatnonzero(entered == dag.n_layers - 1)
    weights[edges] *= scale[dag.sources[edges]]
    return dataclasses.replace(dag, weights=frozen(weights), biases=None, activations=None)


def ordered(dag: LayeredDAG) -> tuple[LayeredDAG, IntArray]:
    """Order the units of each layer by their weights, whatever order they had.

    Parameters
    ----------
    dag : LayeredDAG
        With weights.

    Returns
    -------
    dag : LayeredDAG
    place : ndarray of int, shape (n_units,)
        The new number of each unit. Units of equal weights keep their order.
    """
    assert dag.weights is not None
    size = np.abs(dag.weights)
    keys = [
        np.bincount(ends, size**power, minlength=dag.n_units)
        for power in (1, 2, 3)
        for ends in (dag.sources, dag.targets)
    ]
    # Rounded: the same sum in another order may differ in its last digits.
    order = np.lexsort([*(_rounded(key) for key in keys), dag.layer])
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    sources, targets = place[dag.sources], place[dag.targets]
    edges = np.lexsort((targets, sources))
    moved = dataclasses.replace(
        dag,
        sources=frozen(sources[edges]),
        targets=frozen(targets[edges]),
        weights=frozen(dag.weights[edges]),
        unit_index=frozen(dag.unit_index[order]),
        biases=None if dag.biases is None else frozen(dag.biases[order]),
        activations=None if dag.activations is None else frozen(dag.activations[order]),
        unit_names=None if dag.unit_names is None else frozen(dag.unit_names[order]),
    )
    return moved, place


def _rounded(values: FloatArray) -> FloatArray:
    """Round to ten significant digits."""
    unit = 10.0 ** np.floor(np.log10(np.where(values > 0, values, 1)) - 9)
    rounded: FloatArray = np.round(values / unit) * unit
    return rounded


def shuffled(dag: LayeredDAG, rng: np.random.Generator) -> LayeredDAG:
    """Shuffle the weights between each pair of layers among their edges.

    Parameters
    ----------
    dag : LayeredDAG
        With weights.
    rng : numpy.random.Generator

    Returns
    -------
    LayeredDAG
    """
    assert dag.weights is not None
    weights = dag.weights.copy()
    pair = dag.layer[dag.sources] * dag.n_layers + dag.layer[dag.targets]
    for name in np.unique(pair).tolist():
        edges = pair == name
        weights[edges] = rng.permutation(weights[edges])
    return dataclasses.replace(dag, weights=frozen(weights))


@dataclass(frozen=True, slots=True)
class _Groups:
    """A partition of rows and columns into groups of both."""

    rows: IntArray
    columns: IntArray
    modularity: float


def _shares(influence: FloatArray) -> FloatArray:
    """Divide the rows of |P| by their sums; rows without influence are even."""
    size = np.abs(influence)
    sums = size.sum(axis=1, keepdims=True)
    return np.where(sums > 0, size / np.where(sums > 0, sums, 1), 1 / size.shape[1])


def _excess(shares: FloatArray) -> FloatArray:
    """Return (e_oi − mean of e_i) / n: what each pair adds to Q if it is in one group."""
    excess: FloatArray = (shares - shares.mean(axis=0)) / len(shares)
    return excess


def _tree(shares: FloatArray) -> FloatArray | None:
    """Return Ward's tree of the rows, or of the columns where they are fewer; columns count by their mean share."""
    excess = _excess(shares)
    standard = excess / np.sqrt(np.maximum(shares.mean(axis=0), np.finfo(float).tiny))
    points = standard if len(standard) <= standard.shape[1] else standard.T
    gram = points @ points.T
    squares = np.diag(gram)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * gram, 0))
    np.fill_diagonal(distances, 0)
    tree: FloatArray = linkage(squareform((distances + distances.T) / 2, checks=False), "ward")
    return tree


def _best_groups(shares: FloatArray, tree: FloatArray, k: int) -> _Groups:
    """Start from k clusters of the tree, then move rows and columns to their best groups until Q stops growing."""
    excess = _excess(shares)
    flipped = len(shares) > shares.shape[1]
    if flipped:
        excess = excess.T
    rows = cut_tree(tree, n_clusters=k)[:, 0]
    best = _Groups(np.zeros(len(excess), dtype=np.int64), np.zeros(excess.shape[1], dtype=np.int64), 0.0)
    # Each round adds to Q, so that this ends.
    while True:
        sums = np.zeros((k, excess.shape[1]))
        for group in range(k):
            sums[group] = excess[rows == group].sum(axis=0)
        columns = sums.argmax(axis=0)
        member = np.zeros((excess.shape[1], k))
        member[np.arange(excess.shape[1]), columns] = 1
        gains = excess @ member
        rows = gains.argmax(axis=1)
        q = float(gains.max(axis=1).sum())
        if q <= best.modularity * (1 + 1e-9) + 1e-12:
            break
        best = _Groups(rows, columns, q)
    return _Groups(best.columns, best.rows, best.modularity) if flipped else best


def _readers(shares: FloatArray, groups: _Groups) -> tuple[IntArray, BoolArray]:
    """Tell which input groups each output reads; outputs that read several are groups of their own.

    Outputs are of two kinds where the largest share that an output has in an input group falls into two clearly separate
    ranges; those in the lower range read every group of which they have a fair share.
    """
    names, rows = np.unique(groups.rows, return_inverse=True)
    del names
    n_groups = int(groups.columns.max()) + 1
    share = np.column_stack([shares[:, groups.columns == group].sum(axis=1) for group in range(n_groups)])
    largest = share.max(axis=1)
    several = np.zeros(len(share), dtype=np.bool_)
    limit = _valley(largest)
    if limit is not None:
        several = (largest < limit) & (np.sort(share, axis=1)[:, -2] >= EVEN * largest)
    reads = np.eye(n_groups, dtype=np.bool_)
    output_group = groups.rows.copy()
    del rows
    if several.any():
        sets, which = np.unique(share[several] >= EVEN * largest[several, None], axis=0, return_inverse=True)
        output_group[several] = n_groups + which.ravel()
        reads = np.concatenate([reads, sets])
    return output_group, reads


def _valley(values: FloatArray) -> float | None:
    """Return the limit between two clearly separate ranges of values; None where there is one range."""
    order = np.sort(values)
    best, limit = 0.0, None
    for cut in range(1, len(order)):
        low, high = order[:cut], order[cut:]
        within = np.sqrt((((low - low.mean()) ** 2).sum() + ((high - high.mean()) ** 2).sum()) / max(1, len(order) - 2))
        separation = (high.mean() - low.mean()) / within if within > 0 else np.inf * (high.mean() > low.mean())
        if separation > best:
            best, limit = separation, (low[-1] + high[0]) / 2
    return limit if best >= LEAST_SEPARATION else None
