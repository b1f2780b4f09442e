"""Modules of hidden layers as subspaces: what a module's outputs read, what its inputs write, and how these overlap.

In an ordinary pruned network hidden units serve several modules at once, yet modules stay apart: they use different
directions of the same units. The signed path sums from a hidden layer to a module's outputs span what the module
*reads*, those from its inputs to the layer what it *writes*. The overlap of two subspaces is the mean squared cosine of
their principal angles, relative to the smaller one: 1 if it lies in the other, 0 if they are orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.checks import check_int
from modgraph.cluster.by_influence import N_SHUFFLED, in_order, module_bases, normalised, path_order, to_outputs
from modgraph.cluster.coclusters import best_groups
from modgraph.dag import LayeredDAG
from modgraph.influence import path_sums, weight_blocks
from modgraph.modules import ModuleHierarchy, check_found
from modgraph.null import shuffle_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModuleSubspace:
    """One module in one hidden layer.

    Attributes
    ----------
    module : int
    reads, writes : ndarray of float, shape (n_dimensions, units of the layer)
        Orthonormal rows: the subspace that the module's outputs read (95 % of the squared path sums, after the mean
        over these outputs is taken off), and the one that its inputs write (90 %). Units are scaled to have incoming
        weights of norm 1. No rows where the module has no outputs (inputs).
    own : float
        Overlap of what it reads with what its inputs, and those of the modules that it reads, write.
    other : float
        Mean overlap of what it reads with what the inputs of each other module write. Both are NaN where a side is
        missing.
    """

    module: int
    reads: FloatArray
    writes: FloatArray
    own: float
    other: float

    def __repr__(self) -> str:
        return (
            f"ModuleSubspace(module {self.module}: reads {len(self.reads)} dimensions, writes {len(self.writes)}; "
            f"overlap with own inputs {self.own:.2f}, with others {self.other:.2f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSubspaces:
    """All modules in one hidden layer.

    Attributes
    ----------
    level : int
    modules : tuple of ModuleSubspace
    overlap : ndarray of float, shape (n_modules, n_modules)
        Of what the row module reads with what the column module writes.
    read_overlap : ndarray of float, shape (n_modules, n_modules)
        Of what two modules read.
    random : ndarray of float, shape (n_modules, n_modules)
        What `overlap` would be on average for random subspaces of the same dimensions.
    own, other : float
        Means over modules.
    separation : float
        Mean over modules of own − other; NaN for one module.
    null : ndarray of float, shape (n_shuffled,)
        The separation in networks with shuffled weights, with the groups of inputs and outputs that fit each best.
    p_value : float
        Share of these networks and the network itself that are separated as well or better; 1 for one module.
    """

    level: int
    modules: tuple[ModuleSubspace, ...]
    overlap: FloatArray
    read_overlap: FloatArray
    random: FloatArray
    own: float
    other: float
    separation: float
    null: FloatArray
    p_value: float

    def __repr__(self) -> str:
        dimensions = [len(module.reads) for module in self.modules]
        return (
            f"LayerSubspaces(layer {self.level}: {dimensions} dimensions read; overlap own {self.own:.2f}, "
            f"other {self.other:.2f}; p = {self.p_value:.3g})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subspaces:
    """Modules in all hidden layers; what `subspaces` finds.

    Attributes
    ----------
    layers : tuple of LayerSubspaces
        From the first hidden layer to the last.
    """

    layers: tuple[LayerSubspaces, ...]

    @property
    def dimensions(self) -> IntArray:
        """Dimensions that each module reads in each hidden layer: its course; shape (n_hidden_layers, n_modules)."""
        return read_only(np.array([[len(one.reads) for one in layer.modules] for layer in self.layers], dtype=np.int64))

    def __repr__(self) -> str:
        lines = "\n".join(f"  {layer!r}" for layer in self.layers)
        return f"Subspaces(\n{lines}\n)" if self.layers else "Subspaces(no hidden layer)"


def subspaces(
    found: ModuleHierarchy, *, n_shuffled: int = N_SHUFFLED, random_state: int | np.random.Generator | None = 0
) -> Subspaces:
    """Describe the modules of a network as subspaces of its hidden layers.

    Parameters
    ----------
    found : ModuleHierarchy
        Of a network with weights (else ValueError); the modules of its inputs and outputs are taken as given.
    n_shuffled : int ≥ 0
        Networks with shuffled weights to compare the separation with.
    random_state : int, Generator or None

    Examples
    --------
    >>> from modgraph import detect_modules
    >>> halves = np.kron(np.eye(2), np.ones((2, 2)))
    >>> dag = LayeredDAG.from_masks([halves, halves], weights=[halves, halves * [[1], [-1], [1], [-1]]])
    >>> subspaces(detect_modules(dag), n_shuffled=0)
    Subspaces(
      LayerSubspaces(layer 1: [1, 1] dimensions read; overlap own 1.00, other 0.00; p = 1)
    )
    """
    check_found(found)
    dag = found.dag
    if dag.weights is None:
        raise ValueError("`found` must be of a network with weights")
    check_int("n_shuffled", n_shuffled, at_least=0)
    rng = np.random.default_rng(random_state)
    kept = np.flatnonzero(dag.on_path())
    trimmed = normalised(dag.subgraph(dag.on_path()))
    order = path_order(trimmed)
    network = in_order(trimmed, order)
    labels = found.labels[kept][order]
    sources = _sources(found)
    last, starts = dag.n_layers - 1, network.layer_starts
    inputs, outputs = labels[: starts[1]], labels[starts[last] :]
    observed = _layers(network, inputs, outputs, sources)
    null: dict[int, list[float]] = {layer.level: [] for layer in observed}
    # Shuffled networks get the groups that fit them best, because the modules were fitted to the network too.
    both = np.intersect1d(inputs[inputs >= 0], outputs[outputs >= 0])
    for _ in range(n_shuffled if len(both) > 1 else 0):
        other = shuffle_weights(network, random_state=rng)
        rows, columns = best_groups(to_outputs(other), len(both))
        alone = np.eye(max(2, int(columns.max()) + 1), dtype=np.bool_)
        for layer in _layers(other, columns, rows, alone):
            null[layer.level].append(layer.separation)
    layers = []
    for layer in observed:
        level = layer.level
        values = np.nan_to_num(np.array(null[level]), nan=0.0)
        n_as_good = int((values >= layer.separation).sum())
        p_value = (1 + n_as_good) / (1 + len(values)) if np.isfinite(layer.separation) else 1.0
        # Back to the given order of the units; units that trimming removed are in no subspace.
        units = kept[order[starts[level] : starts[level + 1]]] - dag.layer_starts[level]
        size = dag.layer_sizes[level]
        modules = tuple(
            replace(m, reads=_spread_out(m.reads, units, size), writes=_spread_out(m.writes, units, size))
            for m in layer.modules
        )
        layers.append(replace(layer, modules=modules, null=read_only(values), p_value=p_value))
    return Subspaces(layers=tuple(layers))


def overlap(one: FloatArray, two: FloatArray) -> float:
    """Return the mean squared cosine of the principal angles of two subspaces, relative to the smaller one: 0 … 1.

    The rows of each, shape (n_dimensions, n_units), are orthonormal. NaN where one has no dimensions.

    Examples
    --------
    >>> overlap(np.eye(4)[:2], np.eye(4)[1:4])
    0.5
    """
    smaller = min(len(one), len(two))
    return float(((one @ two.T) ** 2).sum() / smaller) if smaller else float("nan")


def _layers(dag: LayeredDAG, inputs: IntArray, outputs: IntArray, sources: BoolArray) -> list[LayerSubspaces]:
    """Compute subspaces and overlaps for every hidden layer, for given modules of inputs and outputs.

    `sources[i, j]` says whether module i reads module j, itself included. There is no null yet.
    """
    last = dag.n_layers - 1
    blocks = weight_blocks(dag)
    read = path_sums(blocks, last, hops=last, direction="inwards")
    written = path_sums(blocks, 0, hops=last)
    layers = []
    for level in range(1, last):
        if level not in read or level not in written:
            continue
        reads, writes = module_bases(
            read[level], written[level], output_group=outputs, input_group=inputs, n_modules=len(sources)
        )
        crossed = np.array([[overlap(a, b) for b in writes] for a in reads])
        own, other = np.full((2, len(sources)), np.nan)
        for module, from_module in enumerate(sources):
            from_own = [writes[one] for one in np.flatnonzero(from_module) if len(writes[one])]
            if from_own and len(reads[module]):
                joint = np.linalg.svd(np.concatenate(from_own), full_matrices=False)
                own[module] = overlap(reads[module], joint[2][joint[1] > 1e-9])
            other[module] = _mean(crossed[module][~from_module])
        read_size, write_size = (np.array([len(basis) for basis in bases]) for bases in (reads, writes))
        layers.append(
            LayerSubspaces(
                level=level,
                modules=tuple(
                    ModuleSubspace(module=i, reads=a, writes=b, own=float(own[i]), other=float(other[i]))
                    for i, (a, b) in enumerate(zip(reads, writes, strict=True))
                ),
                overlap=read_only(crossed),
                read_overlap=read_only(np.array([[overlap(a, b) for b in reads] for a in reads])),
                random=read_only(np.maximum(read_size[:, None], write_size) / dag.layer_sizes[level]),
                own=_mean(own),
                other=_mean(other),
                separation=_mean(own - other),
                null=read_only(np.empty(0)),
                p_value=1.0,
            )
        )
    return layers


def _sources(found: ModuleHierarchy) -> BoolArray:
    """Say which modules each module reads, itself included; shape (n_modules, n_modules)."""
    sources = np.eye(found.n_modules, dtype=np.bool_)
    if found.links is not None:
        sources[found.links[:, 1], found.links[:, 0]] = True
    return sources


def _mean(values: FloatArray) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _spread_out(rows: FloatArray, units: IntArray, size: int) -> FloatArray:
    """Put the columns at the places of `units` among `size`."""
    spread = np.zeros((len(rows), size))
    spread[:, units] = rows
    return read_only(spread)
