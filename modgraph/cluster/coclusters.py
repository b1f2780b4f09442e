"""Inputs and outputs clustered together by the influence of one on the other: modules of ordinary pruned networks.

**What is clustered.** P, shape (outputs, inputs), is the influence of each input on each output
(`modgraph.influence`): signed sums over paths, or mean Jacobians over data. With every row of the absolute values of
P divided by its sum, e_oi is the share of output o's influence that comes from input i, and a partition of inputs and
outputs into k groups has the modularity ::

    Q = 1/n Σ_{o, i in one group} (e_oi − mean of e_i over outputs)

of a bipartite graph with these weights (Barber, Physical Review E 76, 066102, 2007), in which every output counts the
same. For each k it starts from Ward's clusters of the rows and moves inputs and outputs in turn to their best group
until nothing changes (Barber's BRIM).

**How many.** The same is done for networks whose weights were shuffled inside each matrix: same edges, same weights,
no function. The k is taken for which Q is furthest above their mean Q at that k (a gap statistic, as of Tibshirani,
Walther and Hastie, Journal of the Royal Statistical Society B 63, 411, 2001). Groups are *beyond chance* where this gap
is larger than in every shuffled network and Q is at least half as large again as theirs; otherwise there is one group.

**Who reads several.** An output may read more than one input group. The shares of its influence that come from each
group tell. In mean Jacobians over drawn inputs, influence can't cancel, so no group is hidden; but noise adds up. In
signed sums, noise cancels. So the second largest share is divided by the largest in both, and the mean of the two
ratios counts. Outputs are of two kinds where this mean falls into two clearly separate ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.labels import roots

LEAST_EXCESS = 0.5
"""How far Q has to be above that of shuffled networks, as a share of theirs."""

FIRST_CURVE = 8
"""Groups up to which Q is computed at first; doubled while the best number is in the upper half."""

LEAST_SEPARATION = 4.5
"""Distance of two kinds of outputs, in standard deviations within a kind, from which they are told apart."""

FEWEST_READERS = 3
"""Outputs that have to be of the second kind: one or two can't be told from outputs that pruning damaged."""

EVEN = 0.5
"""A second share that is this part of the largest, at least, counts as well: the unit is shared."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoClusters:
    """Groups of inputs and groups of outputs that read them.

    Attributes
    ----------
    input_group : ndarray of int, shape (n_inputs,)
        0 … n_groups − 1; −1 where an input influences nothing.
    input_share : ndarray of float, shape (n_inputs, n_groups)
        How an input's influence is divided between the outputs of each group; rows sum to 1 (0 for group −1).
    output_group : ndarray of int, shape (n_outputs,)
        Group g < n_groups reads input group g; groups from n_groups on read several; −1 where nothing has an influence.
    reads : ndarray of bool, shape (output groups, n_groups)
    modularity, expected : float
        Q, and its mean over shuffled networks, for the best number of groups.
    p_value : float
        Share of the networks, this one and the shuffled ones, whose gap is as large as this one's.
    n_shuffled : int
    """

    input_group: IntArray
    input_share: FloatArray
    output_group: IntArray
    reads: BoolArray
    modularity: float
    expected: float
    p_value: float
    n_shuffled: int

    @property
    def n_groups(self) -> int:
        """Number of input groups; 1 where there are none beyond chance."""
        return int(self.reads.shape[1])

    def __repr__(self) -> str:
        return (
            f"CoClusters({self.n_groups} of inputs, {len(self.reads)} of outputs, modularity {self.modularity:.2f}, "
            f"{self.expected:.2f} in shuffled networks)"
        )


def co_clusters(
    influence: FloatArray, shuffled: Sequence[FloatArray], *, reading: FloatArray | None = None
) -> CoClusters:
    """Cluster inputs and outputs by influence.

    Parameters
    ----------
    influence : ndarray of float, shape (n_outputs, n_inputs)
        Of each input on each output; signs don't matter.
    shuffled : sequence of such arrays
        The same for networks with shuffled weights; at least one.
    reading : ndarray of float, of the same shape, optional
        A second measurement. Both together decide which outputs read several input groups.

    Returns
    -------
    CoClusters

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> blocks = np.kron(np.eye(2), np.ones((6, 20))) + 0.1
    >>> co_clusters(blocks, [rng.permutation(blocks.ravel()).reshape(12, 40) for _ in range(19)])
    CoClusters(2 of inputs, 2 of outputs, modularity 0.42, 0.13 in shuffled networks)
    """
    n_outputs, n_inputs = influence.shape
    rows, columns = (np.flatnonzero((influence != 0).any(axis=axis)) for axis in (1, 0))
    k, q, expected, p_value, groups = 1, 0.0, 0.0, 1.0, None
    if min(len(rows), len(columns)) >= 2:
        observed = _shares(influence[np.ix_(rows, columns)])
        networks = [observed, *(_shares(one[np.ix_(rows, columns)]) for one in shuffled)]
        k, q, expected, p_value, groups = _best_number(networks)
    accepted = k > 1 and p_value <= 1 / len(networks) and q >= (1 + LEAST_EXCESS) * expected
    output_group, input_group = np.full(n_outputs, -1, dtype=np.int64), np.full(n_inputs, -1, dtype=np.int64)
    output_group[rows], input_group[columns] = 0, 0
    reads = np.ones((1, 1), dtype=np.bool_)
    share = np.zeros((n_inputs, k if accepted else 1))
    share[columns, 0] = 1
    if accepted and groups is not None:
        share[columns] = _column_shares(observed, groups.rows, k)
        input_group[columns] = share[columns].argmax(axis=1)
        measured = [observed] if reading is None else [observed, _shares(reading[np.ix_(rows, columns)])]
        output_group[rows], reads = _readers(measured, groups.rows, input_group[columns], k)
    return CoClusters(
        input_group=read_only(input_group),
        input_share=read_only(share),
        output_group=read_only(output_group),
        reads=read_only(reads),
        modularity=q,
        expected=expected,
        p_value=p_value,
        n_shuffled=len(shuffled),
    )


@dataclass(frozen=True, slots=True)
class _Groups:
    """A partition of rows and columns into groups of both."""

    rows: IntArray
    columns: IntArray
    modularity: float

    @property
    def number(self) -> int:
        """How many groups have rows."""
        return int(self.rows.max()) + 1


def best_modularity(influence: FloatArray, *, most: int = FIRST_CURVE) -> tuple[float, float]:
    """Return the largest Q for up to `most` groups, and the share of the influence that is inside these groups.

    Rows and columns without influence don't count.
    """
    rows, columns = (np.flatnonzero((influence != 0).any(axis=axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < 2:
        return 0.0, 1.0
    shares = _shares(influence[np.ix_(rows, columns)])
    tree = _tree(shares)
    found = [_best_groups(shares, tree, k) for k in range(1, min(most, *shares.shape) + 1)]
    best = max(found, key=lambda groups: groups.modularity)
    inside = shares[best.rows[:, None] == best.columns].sum() / len(shares)
    return best.modularity, float(inside)


def best_groups(influence: FloatArray, k: int) -> tuple[IntArray, IntArray]:
    """Return the best partition of rows and columns into at most k groups of both, whether beyond chance or not.

    Parameters
    ----------
    influence : ndarray of float, shape (n_outputs, n_inputs)
    k : int ≥ 1

    Returns
    -------
    rows, columns : ndarray of int, shapes (n_outputs,), (n_inputs,)
    """
    shares = _shares(influence)
    found = _best_groups(shares, _tree(shares), k)
    return found.rows, found.columns


def _best_number(networks: Sequence[FloatArray]) -> tuple[int, float, float, float, _Groups]:
    """Choose k for the first network, against the others: k, Q, expected Q, p-value and the groups."""
    size = min(networks[0].shape)
    most = min(FIRST_CURVE, size)
    trees = [_tree(shares) for shares in networks]
    while True:
        found = [
            [_best_groups(shares, tree, k) for k in range(1, most + 1)]
            for shares, tree in zip(networks, trees, strict=True)
        ]
        # Q with at most k groups: some of them may have become empty.
        curves = np.maximum.accumulate([[groups.modularity for groups in row] for row in found], axis=1)
        expected = curves[1:].mean(axis=0)
        best = int((curves[0] - expected)[1:].argmax()) + 1
        if best < most // 2 or most == size:
            break
        most = min(2 * most, size)
    gap = curves[0, best] - expected[best]
    # Each shuffled network is compared with the mean of the others, so that all are judged alike.
    n_shuffled = len(networks) - 1
    others = (curves[1:].sum(axis=0) - curves[1:]) / max(1, n_shuffled - 1)
    as_large = int(((curves[1:] - others).max(axis=1) >= gap).sum())
    groups = max(found[0][: best + 1], key=lambda groups: groups.modularity)
    p_value = (1 + as_large) / (n_shuffled + 1)
    return groups.number, float(curves[0, best]), float(expected[best]), p_value, groups


def _shares(influence: FloatArray) -> FloatArray:
    """Divide the rows of |P| by their sums; rows without influence are even."""
    size = np.abs(influence)
    sums = size.sum(axis=1, keepdims=True)
    return np.where(sums > 0, size / np.where(sums > 0, sums, 1), 1 / size.shape[1])


def _excess(shares: FloatArray) -> FloatArray:
    """Return (e_oi − mean of e_i) / n: what each pair adds to Q if it is in one group."""
    excess: FloatArray = (shares - shares.mean(axis=0)) / len(shares)
    return excess


def _tree(shares: FloatArray) -> FloatArray:
    """Return Ward's tree of the rows, or of the columns where they are fewer; columns count by their mean share."""
    excess = _excess(shares)
    standard = excess / np.sqrt(np.maximum(shares.mean(axis=0), np.finfo(float).tiny))
    points = standard if len(standard) <= standard.shape[1] else standard.T
    gram = points @ points.T
    squares = np.diag(gram)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * gram, 0))
    np.fill_diagonal(distances, 0)
    tree: FloatArray = scipy.cluster.hierarchy.linkage(
        scipy.spatial.distance.squareform((distances + distances.T) / 2, checks=False), "ward"
    )
    return tree


def _cut(tree: FloatArray, k: int) -> IntArray:
    """Return the k clusters that all but the last k − 1 merges of the tree make."""
    n_merges = len(tree) + 1 - k
    parent = np.arange(2 * len(tree) + 1)
    parent[tree[:n_merges, :2].astype(np.int64)] = len(tree) + 1 + np.arange(n_merges)[:, None]
    clusters: IntArray = np.unique(roots(parent)[: len(tree) + 1], return_inverse=True)[1].astype(np.int64)
    return clusters


def _best_groups(shares: FloatArray, tree: FloatArray, k: int) -> _Groups:
    """Start from k clusters of the tree, then move rows and columns to their best groups until Q stops growing."""
    excess = _excess(shares)
    flipped = len(shares) > shares.shape[1]
    if flipped:
        excess = excess.T
    rows = _cut(tree, k)
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
    rows, columns = (best.columns, best.rows) if flipped else (best.rows, best.columns)
    # Groups without rows or without columns add nothing to Q, and are left out; what is in one fits nowhere better.
    used = np.intersect1d(rows, columns)
    number = np.zeros(k, dtype=np.int64)
    number[used] = np.arange(len(used))
    return _Groups(number[rows], number[columns], best.modularity)


def _column_shares(shares: FloatArray, row_group: IntArray, k: int) -> FloatArray:
    """Say how the influence of each column is divided between groups of rows, each group counting the same."""
    means = np.array([shares[row_group == group].mean(axis=0) for group in range(k)])
    divided: FloatArray = (means / means.sum(axis=0)).T
    return divided


def _readers(
    measured: Sequence[FloatArray], own: IntArray, input_group: IntArray, k: int
) -> tuple[IntArray, BoolArray]:
    """Tell which input groups each output reads; outputs that read several are groups of their own."""
    member = np.eye(k)[input_group]
    by_group = [shares @ member for shares in measured]
    evenness = np.mean([np.sort(share, axis=1)[:, -2] / share.max(axis=1) for share in by_group], axis=0)
    share = np.mean(by_group, axis=0)
    several = (evenness > _valley(evenness)) & (evenness >= EVEN)
    reads = np.eye(k, dtype=np.bool_)
    output_group = own.copy()
    if several.sum() >= FEWEST_READERS:
        kinds = share[several] >= EVEN * share[several].max(axis=1, keepdims=True)
        sets, which = np.unique(kinds, axis=0, return_inverse=True)
        output_group[several] = k + which.ravel()
        reads = np.concatenate([reads, sets])
    return output_group, reads


def _valley(values: FloatArray) -> float:
    """Return the limit between two clearly separate ranges of values; infinity where there is one range."""
    order = np.sort(values)
    best, limit = 0.0, np.inf
    for cut in range(1, len(order)):
        low, high = order[:cut], order[cut:]
        squares = ((low - low.mean()) ** 2).sum() + ((high - high.mean()) ** 2).sum()
        within = np.sqrt(squares / max(1, len(order) - 2))
        apart = high.mean() - low.mean()
        separation = apart / within if within > 0 else (np.inf if apart > 0 else 0.0)
        if separation > best:
            best, limit = separation, (low[-1] + high[0]) / 2
    return float(limit) if best >= LEAST_SEPARATION else np.inf
