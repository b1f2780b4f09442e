"""Modules of ordinary pruned networks, by influence: groups of inputs and outputs, and the units between them.

Inputs and outputs are clustered together (`modgraph.cluster.coclusters`). A hidden unit often serves several modules,
so modules of a hidden layer are subspaces, not sets of units: the directions that the outputs of a module *read* (the
span of the signed path sums from the layer to these outputs), and those that its inputs *write*. A unit's share in a
module is the squared length of the unit's axis within what the module reads.

**Symmetries.** Nothing here depends on the order of units, nor on the scale and sign of hidden units: hidden units are
scaled to have incoming weights of norm 1 whose sum isn't negative, and all are ordered by their weights, before
anything is drawn or measured.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgraph.arrays import FloatArray, IntArray, read_only
from modgraph.cluster.coclusters import CoClusters, best_modularity, co_clusters
from modgraph.dag import LayeredDAG
from modgraph.influence import Matrix, influence, path_sums, weight_blocks
from modgraph.null import shuffle_weights, swap_edges

N_SHUFFLED = 19
"""Networks with shuffled weights to compare with: the smallest number that allows a p-value of .05."""

SATURATED = 5.0
"""Paths per pair of an input and an output above which reachability tells little.

Measured: at most 4.5 in the 832 published networks, which are sculpted to the last edge; 7 or more in networks on
digits that keep a tenth of their weights.
"""

LARGEST = 1 << 24
"""Pairs of an input and an output up to which influence is tried: its matrix is dense."""

DRAWN = 256
"""Inputs that are drawn to see which outputs read several input groups."""

DRAWN_SPREAD = 0.3
"""Standard deviation of these inputs: small, so that the biases, which were trained, decide which units are active."""

MOST_WORK = 1 << 33
"""Products of numbers that the Jacobians at these inputs may take; else path sums have to do."""

READ_ENERGY = 0.95
"""Share of the squared path sums to a module's outputs that the subspace which it reads has to hold."""

WRITTEN_ENERGY = 0.90
"""Share of the squared path sums from a module's inputs that the subspace which it writes has to hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InfluenceModules:
    """Modules by influence, of a trimmed network.

    Attributes
    ----------
    groups : CoClusters
        Of inputs and outputs, in the order of the network's units.
    labels : ndarray of int, shape (n_units,)
        The module of each unit: of a hidden unit, the one in which it has the largest share. −1 for an output that
        nothing has an influence on.
    membership : ndarray of float, shape (n_units, n_modules)
        Shares, 0 … 1.
    links : ndarray of int, shape (n_links, 2)
        Pairs of modules of which the second reads what the first computes.
    """

    groups: CoClusters
    labels: IntArray
    membership: FloatArray
    links: IntArray


def paths_per_pair(dag: LayeredDAG) -> float:
    """Return the number of paths from inputs to outputs, divided by the number of pairs of an input and an output."""
    count = (dag.layer == 0).astype(np.float64)
    left = dag.layer[dag.sources]
    with np.errstate(over="ignore"):
        for level in range(dag.n_layers - 1):
            edges = left == level
            count += np.bincount(dag.targets[edges], count[dag.sources[edges]], minlength=dag.n_units)
    sizes = dag.layer_sizes
    return float(count[dag.layer == dag.n_layers - 1].sum() / (sizes[0] * sizes[-1])) if sizes[0] else 0.0


def influence_tells_more(dag: LayeredDAG, groups: CoClusters, threshold: float, rng: np.random.Generator) -> bool:
    """Say whether influence separates the modules of a trimmed network better than its wiring does.

    The wiring is that between each two layers, and which outputs each input reaches. It counts where groups hold more
    than a share `threshold` of the edges (or of the pairs), with the modularity of these groups. If that is more than
    the modularity of `groups`, but these are beyond chance, each modularity is compared after the mean over its null
    networks is subtracted: for wiring, matrices with the same degrees (`modgraph.null.swap_edges`). A few edges between
    small layers are always modular.
    """
    ordered = in_order(dag, path_order(dag))
    wired = [(matrix, q) for matrix, (q, inside) in wiring_modularity(ordered) if inside > threshold]
    if max([0.0, *(q for _, q in wired)]) < groups.modularity:
        return True
    if groups.n_groups == 1:
        return False
    for matrix, q in wired:
        edges = LayeredDAG.from_masks([matrix])
        swapped = [to_outputs(_unweighted(swap_edges(edges, random_state=rng))) for _ in range(N_SHUFFLED)]
        if q - np.mean([best_modularity(one)[0] for one in swapped]) >= groups.modularity - groups.expected:
            return False
    return True


def wiring_modularity(dag: LayeredDAG) -> list[tuple[FloatArray, tuple[float, float]]]:
    """Return matrices of zeros and ones: which outputs each input reaches, then the edges between each two layers.

    Beside each is its largest modularity, and the share of its ones that is inside the groups (`best_modularity`).
    """
    unweighted = _unweighted(dag)
    matrices: list[FloatArray] = [(to_outputs(unweighted) > 0).astype(np.float64)]
    matrices += [_dense(block).T for block in weight_blocks(unweighted).weights.values()]
    return [(matrix, best_modularity(matrix)) for matrix in matrices]


def _unweighted(dag: LayeredDAG) -> LayeredDAG:
    return dataclasses.replace(dag, weights=np.ones(dag.n_edges))


def modules_by_influence(
    dag: LayeredDAG, *, data: ArrayLike | None = None, random_state: int | np.random.Generator | None = 0
) -> InfluenceModules:
    """Find modules by influence.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed, with weights.
    data : array_like of float, shape (n_samples, inputs of `dag`), optional
        Influence is then the mean Jacobian over these inputs, times the spread of each input, instead of path sums.
    random_state : int, Generator or None
        For the shuffled networks and the drawn inputs.
    """
    rng = np.random.default_rng(random_state)
    comparable = normalised(dag)
    order = path_order(comparable)
    ordered, comparable = in_order(dag, order), in_order(comparable, order)
    n_inputs, starts = dag.layer_sizes[0], dag.layer_starts
    if data is None:
        observed = to_outputs(comparable)
        shuffled = [to_outputs(shuffle_weights(comparable, random_state=rng)) for _ in range(N_SHUFFLED)]
    else:
        inputs = np.asarray(data, dtype=np.float64)[:, order[:n_inputs]]
        spread = inputs.std(axis=0) * (np.ptp(inputs, axis=0) > 0)  # exactly 0 for a constant, whatever rounding does
        observed = _jacobian(ordered, inputs) * spread
        shuffled = [_jacobian(shuffle_weights(ordered, random_state=rng), inputs) * spread for _ in range(N_SHUFFLED)]
    groups = co_clusters(observed, shuffled, reading=_drawn_jacobian(ordered, rng))
    labels, membership = _labels(comparable, groups)
    # Back to the given order. Modules are numbered by their first unit; one that is no unit's label is left out.
    place = np.argsort(order)
    labels, membership = labels[place], membership[place]
    by_first = [*dict.fromkeys(labels[labels >= 0].tolist())]
    number = np.full(membership.shape[1], -1, dtype=np.int64)
    number[by_first] = np.arange(len(by_first))
    labels, membership = np.where(labels >= 0, number[labels], -1), membership[:, by_first]
    links = [
        (number[group], number[module])
        for module, read in enumerate(groups.reads)
        for group in np.flatnonzero(read).tolist()
        if read.sum() > 1 and number[group] >= 0 and number[module] >= 0
    ]
    at_outputs = place[starts[-2] :] - starts[-2]
    return InfluenceModules(
        groups=dataclasses.replace(
            groups,
            input_group=read_only(groups.input_group[place[:n_inputs]]),
            input_share=read_only(groups.input_share[place[:n_inputs]]),
            output_group=read_only(groups.output_group[at_outputs]),
        ),
        labels=read_only(labels),
        membership=read_only(membership),
        links=read_only(np.array(sorted(links), dtype=np.int64).reshape(-1, 2)),
    )


def module_bases(
    read: Matrix, written: Matrix, *, output_group: IntArray, input_group: IntArray, n_modules: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return the subspaces of a hidden layer that each module's outputs read and its inputs write, as orthonormal rows.

    `read`, shape (n_outputs, n_units), has the path sums from the layer to the outputs; `written`, shape (n_inputs,
    n_units), those from the inputs to the layer; `output_group` and `input_group` the module of each output and input.
    A module without outputs (inputs) reads (writes) nothing: no rows.
    """
    reads, writes = [], []
    for module in range(n_modules):
        rows = _dense(read)[output_group == module]
        # Subtract the mean over a module's outputs, which a softmax ignores; a single output keeps its row.
        reads.append(basis(rows - rows.mean(axis=0) if len(rows) > 1 else rows, energy=READ_ENERGY))
        writes.append(basis(_dense(written)[input_group == module], energy=WRITTEN_ENERGY))
    return reads, writes


def basis(rows: FloatArray, *, energy: float) -> FloatArray:
    """Return the fewest leading right singular vectors that hold a share of the squared entries, as rows."""
    if not rows.any():
        return np.zeros((0, rows.shape[1]))
    _, values, vectors = np.linalg.svd(rows, full_matrices=False)
    share = np.cumsum(values**2) / (values**2).sum()
    n_dimensions = int(np.searchsorted(share, energy - 1e-12)) + 1
    leading: FloatArray = vectors[:n_dimensions]
    return leading


def _labels(dag: LayeredDAG, groups: CoClusters) -> tuple[IntArray, FloatArray]:
    """Return each unit's module and its shares in all."""
    n_modules = len(groups.reads)
    membership = np.zeros((dag.n_units, n_modules))
    starts = dag.layer_starts.tolist()
    outputs = np.flatnonzero(groups.output_group >= 0)
    membership[starts[-2] + outputs, groups.output_group[outputs]] = 1
    membership[: starts[1], : groups.n_groups] = groups.input_share
    blocks = weight_blocks(dag)
    read = path_sums(blocks, dag.n_layers - 1, hops=dag.n_layers - 1, direction="inwards")
    written = path_sums(blocks, 0, hops=dag.n_layers - 1)
    for level in range(1, dag.n_layers - 1):
        units = slice(starts[level], starts[level + 1])
        if n_modules == 1:
            membership[units] = 1
        elif level in read and level in written:
            reads, writes = module_bases(
                read[level],
                written[level],
                output_group=groups.output_group,
                input_group=groups.input_group,
                n_modules=n_modules,
            )
            for module in range(n_modules):
                # If a module has no outputs of its own, because all read other modules too, use what its inputs write.
                rows = reads[module] if len(reads[module]) else writes[module]
                membership[units, module] = (rows**2).sum(axis=0)
    membership /= np.maximum(1, membership.sum(axis=1, keepdims=True))
    labels = np.where(membership.any(axis=1), membership.argmax(axis=1), -1)
    return labels, membership


def normalised(dag: LayeredDAG) -> LayeredDAG:
    """Scale every hidden unit so that path sums from inputs to outputs stay as they are and units become comparable.

    A unit's incoming weights get norm 1 and a sum that isn't negative; its outgoing weights make up for it. Biases and
    activations, which this would not fit, are left out.
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
    return dataclasses.replace(dag, weights=read_only(weights), biases=None, activations=None)


def path_order(dag: LayeredDAG) -> IntArray:
    """Order the units of each layer by their weights; units of equal weights stay in the order they had."""
    assert dag.weights is not None
    size = np.abs(dag.weights)
    keys = [
        np.bincount(ends, size**power, minlength=dag.n_units).astype(np.float64)
        for power in (1, 2, 3)
        for ends in (dag.sources, dag.targets)
    ]
    # Rounded: the same sum in another order may differ in its last digits.
    order: IntArray = np.lexsort([*(_rounded(key) for key in keys), dag.layer])
    return order


def in_order(dag: LayeredDAG, order: IntArray) -> LayeredDAG:
    """Renumber the units: the first is `order[0]`, and so on."""
    assert dag.weights is not None
    place = np.argsort(order)
    sources, targets = place[dag.sources], place[dag.targets]
    edges = np.lexsort((targets, sources))
    return dataclasses.replace(
        dag,
        sources=read_only(sources[edges]),
        targets=read_only(targets[edges]),
        weights=read_only(dag.weights[edges]),
        unit_index=read_only(dag.unit_index[order]),
        biases=None if dag.biases is None else read_only(dag.biases[order]),
        activations=None if dag.activations is None else read_only(dag.activations[order]),
        unit_names=None,
    )


def _rounded(values: FloatArray) -> FloatArray:
    """Round to ten significant digits."""
    unit = 10.0 ** np.floor(np.log10(np.where(values > 0, values, 1)) - 9)
    rounded: FloatArray = np.round(values / unit) * unit
    return rounded


def to_outputs(dag: LayeredDAG) -> FloatArray:
    """Return the signed path sums from inputs to outputs, shape (n_outputs, n_inputs)."""
    last = dag.n_layers - 1
    sums = path_sums(weight_blocks(dag), last, hops=last, direction="inwards").get(0)
    if sums is None:
        return np.zeros((dag.layer_sizes[-1], dag.layer_sizes[0]))
    return _dense(sums)


def _dense(matrix: Matrix) -> FloatArray:
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.toarray())


def _jacobian(dag: LayeredDAG, inputs: FloatArray) -> FloatArray:
    """Return mean |∂output sum/∂input| over inputs, shape (n_outputs, n_inputs)."""
    assert dag.activations is not None
    # A softmax over all outputs would make each depend on all inputs.
    names = np.where(dag.layer == dag.n_layers - 1, "identity", dag.activations)
    plain = dataclasses.replace(dag, activations=names)
    slopes = influence(plain, dag.n_layers - 1, kind="jacobian", data=inputs, direction="inwards")
    return np.asarray(slopes[:, : dag.layer_sizes[0]].toarray())


def _drawn_jacobian(dag: LayeredDAG, rng: np.random.Generator) -> FloatArray | None:
    """Return the mean Jacobian over drawn inputs; None where activations are unknown or it would take long."""
    if dag.activations is None or DRAWN * dag.layer_sizes[-1] * dag.n_edges > MOST_WORK:
        return None
    inputs = rng.normal(0, DRAWN_SPREAD, (DRAWN, dag.layer_sizes[0]))
    try:
        return _jacobian(dag, inputs)
    except ValueError:  # an activation that `forward` doesn't know
        return None
