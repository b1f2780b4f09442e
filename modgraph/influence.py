"""How much every unit influences later ones: signed sums over paths, and mean Jacobians over data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, hstack, issparse

from modgraph.arrays import FloatArray
from modgraph.checks import check_choice, check_hops
from modgraph.dag import LayeredDAG
from modgraph.forward import Replay, push_through

Matrix = Any  # a scipy csr_array or a numpy ndarray of float: one set of operators serves both

DRAWN_SAMPLES = 256
"""Inputs that are drawn for Jacobians where no data are given."""

DENSE_FROM = 0.05
"""Share of nonzero entries from which a block is kept as an ndarray, which BLAS multiplies faster."""

CHUNK = 1 << 24
"""Numbers in memory at a time while Jacobians are summed over samples."""


def influence(
    dag: LayeredDAG,
    level: int,
    *,
    hops: int | None = None,
    kind: str = "paths",
    data: ArrayLike | None = None,
    activations: Sequence[str] | None = None,
    direction: str = "outwards",
    random_state: int | np.random.Generator | None = 0,
) -> csr_array:
    """Measure how much each unit of one layer influences every later unit within `hops` steps.

    *Paths*: the sum over all paths of at most `hops` edges, each counted as the product of its weights. The weights
    keep their sign, so paths can cancel; that is what separates modules where everything reaches everything. In a
    network whose activations are all "identity" this is the Jacobian.

    *Jacobian*: the mean over samples of ``|∂unit/∂unit|``, computed exactly, through the activations. With `hops`, only
    paths of that length count in each derivative.

    Parameters
    ----------
    dag : LayeredDAG
        With weights.
    level : int
        The layer whose units are the rows, 0 … n_layers − 1.
    hops : int ≥ 1, optional
        Longest path that counts, in edges; by default all paths.
    kind : {"paths", "jacobian"}
    data : array_like of float, shape (n_samples, n_inputs), optional
        For "jacobian": inputs to average over; by default 256 drawn from the standard normal distribution.
    activations : sequence of str, optional
        For "jacobian", as in `modgraph.forward`.
    direction : {"outwards", "inwards"}
        Outwards: the influence of the row on the column. Inwards: that of the column on the row.
    random_state : int, Generator or None
        For the inputs that are drawn.

    Returns
    -------
    csr_array of float, shape (units in the layer, n_units)
        0 where no path leads; a unit has no influence on itself. Values are signed for "paths" and ≥ 0 for "jacobian".

    Raises
    ------
    ValueError
        If an argument is out of its range, or the network lacks the weights or activations that are needed.

    Notes
    -----
    With R rows, time is O(R × edges), times the number of samples for "jacobian". Memory is that of the result, and of
    R × units of the widest layer × samples in a chunk for "jacobian" (about 130 MB, or one sample if that needs more).

    Examples
    --------
    Two paths lead from the second input to the output; one of them is negative, and they cancel:

    >>> dag = LayeredDAG.from_masks([[[1, 1], [0, 1]], [[1, 1]]], weights=[[[2, 1], [0, 1]], [[3, -3]]])
    >>> influence(dag, 0).toarray()
    array([[0., 0., 2., 0., 6.],
           [0., 0., 1., 1., 0.]])
    """
    if dag.weights is None:
        raise ValueError("`dag` must have weights")
    if not 0 <= level < dag.n_layers:
        raise ValueError(f"`level` must be a layer from 0 to {dag.n_layers - 1} (got {level})")
    limit = check_hops(hops, n_layers=dag.n_layers)
    check_choice("direction", direction, ("outwards", "inwards"))
    check_choice("kind", kind, ("paths", "jacobian"))
    if kind == "paths":
        found = path_sums(weight_blocks(dag), level, hops=limit, direction=direction)
    else:
        if data is None:
            data = np.random.default_rng(random_state).standard_normal((DRAWN_SAMPLES, dag.layer_sizes[0]))
        found = _mean_jacobian(dag, level, hops=limit, inwards=direction == "inwards", data=data, names=activations)
    n_rows = dag.layer_sizes[level]
    parts = [csr_array(found.get(at, csr_array((n_rows, size)))) for at, size in enumerate(dag.layer_sizes)]
    return csr_array(hstack(parts, format="csr"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The weights between each pair of layers that edges join.

    Attributes
    ----------
    sizes : tuple of int
        Units in each layer.
    weights : mapping of (int, int) to matrix, shape (units of the first, units of the second)
        Sorted by source layer, then target layer; ndarrays where more than a few entries are nonzero, else csr_arrays.
    """

    sizes: tuple[int, ...]
    weights: Mapping[tuple[int, int], Matrix]


def weight_blocks(dag: LayeredDAG) -> Blocks:
    """Return the weights of a network as one matrix for each pair of layers that edges join."""
    assert dag.weights is not None
    starts, sizes = dag.layer_starts, dag.layer_sizes
    blocks = {}
    for one, two, edges in dag.edges_by_layers():
        place = (dag.sources[edges] - starts[one], dag.targets[edges] - starts[two])
        blocks[one, two] = _packed(csr_array((dag.weights[edges], place), shape=(sizes[one], sizes[two])))
    return Blocks(sizes=sizes, weights=blocks)


def path_sums(blocks: Blocks, level: int, *, hops: int, direction: str = "outwards") -> dict[int, Matrix]:
    """Sum the products of weights over all paths of 1 … `hops` edges from (or to) the units of a layer.

    Returns matrices of shape (units of `level`, units of the layer), by layer that some path leads to.
    """
    steps = _steps(blocks, direction)
    # Paths of one edge; each round makes them one edge longer.
    ends = {two: weights for (one, two), weights in steps.items() if one == level}
    total = dict(ends)
    for _ in range(hops - 1):
        ends = _longer(ends, steps, _product)
        _add_to(total, ends)
    return total


def _steps(blocks: Blocks, direction: str) -> Mapping[tuple[int, int], Matrix]:
    """Return the weights by the layers that they lead from and to, in this direction."""
    if direction == "outwards":
        return blocks.weights
    return {(two, one): weights.T for (one, two), weights in blocks.weights.items()}


def _longer(
    ends: Mapping[int, Matrix], steps: Mapping[tuple[int, int], Matrix], product: Callable[[Matrix, Matrix], Matrix]
) -> dict[int, Matrix]:
    """Make paths one edge longer; they are kept by the layer that they lead to."""
    longer: dict[int, Matrix] = {}
    for (one, two), weights in steps.items():
        if one in ends:
            _add_to(longer, {two: product(ends[one], weights)})
    return longer


def _add_to(total: dict[int, Matrix], more: Mapping[int, Matrix]) -> None:
    for at, matrix in more.items():
        total[at] = _sum(total[at], matrix) if at in total else matrix


def _packed(matrix: csr_array) -> Matrix:
    """Return the matrix in the form that is quicker to multiply."""
    n_places = matrix.shape[0] * matrix.shape[1]
    return matrix.toarray() if matrix.nnz > DENSE_FROM * n_places else matrix


def _product(one: Matrix, two: Matrix) -> Matrix:
    # For dense × sparse multiply the transposes: scipy multiplies sparse × dense row by row.
    if issparse(two) and not issparse(one):
        return (two.T @ one.T).T
    product = one @ two
    return _packed(csr_array(product)) if issparse(product) else product


def _sum(one: Matrix, two: Matrix) -> Matrix:
    if issparse(one) and issparse(two):
        return _packed(csr_array(one + two))
    return np.asarray(one + two)


def _mean_jacobian(
    dag: LayeredDAG, level: int, *, hops: int, inwards: bool, data: ArrayLike, names: Sequence[str] | None
) -> dict[int, FloatArray]:
    """Average |∂unit/∂unit| over the rows of `data`, from or to the units of one layer; by layer."""
    replay = Replay(dag, data, activations=names)
    sums, activations = replay.sums(), replay.activations
    if not len(sums):
        raise ValueError(f"`data` must have one row or more (got shape {np.shape(data)})")
    steps = _steps(weight_blocks(dag), "inwards" if inwards else "outwards")
    through = [_activation_pusher(dag, activations, at, backwards=inwards) for at in range(dag.n_layers)]
    n_rows, starts = dag.layer_sizes[level], dag.layer_starts.tolist()
    length = max(1, CHUNK // max(1, n_rows * max(dag.layer_sizes)))
    mean: dict[int, FloatArray] = {}
    for first in range(0, len(sums), length):
        part = sums[first : first + length]
        by_layer = [part[:, starts[at] : starts[at + 1]] for at in range(dag.n_layers)]
        # Derivatives along paths of one length; they start from changes of the values of the units of `level`.
        ends = {level: np.broadcast_to(np.eye(n_rows), (len(part), n_rows, n_rows))}
        total: dict[int, FloatArray] = {}
        for _ in range(hops):
            if inwards:  # from the values of a layer to its sums, then along the edges to earlier values
                ends = {at: through[at](by_layer[at], changes) for at, changes in ends.items()}
            ends = _longer(ends, steps, _last_axis_product)
            if not inwards:
                ends = {at: through[at](by_layer[at], changes) for at, changes in ends.items()}
            _add_to(total, ends)
        for at, changes in total.items():
            mean[at] = mean.get(at, 0) + np.abs(changes).sum(axis=0) / len(sums)
    return mean


def _activation_pusher(
    dag: LayeredDAG, names: Any, level: int, *, backwards: bool
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Return what carries changes through the activations of a layer, given the layer's sums."""
    first, end = dag.layer_starts[level : level + 2].tolist()
    parts = [(name, np.flatnonzero(names[first:end] == name)) for name in np.unique(names[first:end]).tolist()]

    def through(sums: FloatArray, changes: FloatArray) -> FloatArray:
        if level == 0:
            return changes
        result = np.empty(changes.shape)
        for name, units in parts:
            result[:, :, units] = push_through(name, sums[:, units], changes[:, :, units], backwards=backwards)
        return result

    return through


def _last_axis_product(changes: FloatArray, weights: Matrix) -> FloatArray:
    """Multiply (n_samples, n_rows, n_units) with (n_units, n_other)."""
    flat = changes.reshape(-1, changes.shape[2])
    product: FloatArray = np.asarray(_product(flat, weights))
    return product.reshape(*changes.shape[:2], -1)
