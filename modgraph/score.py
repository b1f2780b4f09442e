"""How well a hierarchy of modules fits its target function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.dag import LayeredDAG
from modgraph.functions import FunctionGraph
from modgraph.modules import ModuleHierarchy
from modgraph.reach import reachability


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A module and the sub-function it was matched with.

    Attributes
    ----------
    module : int
        The module's id.
    sub_function : str
    similarity : float
        0…1: mean of the Jaccard indices of their input supports and of their output reaches.
    """

    module: int
    sub_function: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Which of the paper's criteria a hierarchy meets; the fields are those of `Score`."""

    inputs: bool
    hidden: bool
    outputs: bool
    exact: bool
    n_modules: int
    expected_modules: int | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Score:
    """What `score` finds.

    Attributes
    ----------
    inputs : bool
        The trimmed network keeps every input, and their labels group them by the sub-functions that read them.
    hidden : bool
        The labels of the hidden layers follow the levels of the function (see `score`).
    outputs : bool
        The labels of the outputs group them by the sub-function they show.
    exact : bool
        `inputs` and `outputs`, and the expected number of modules (`hidden` in its place where the target doesn't
        count modules). Never where the network has too few hidden layers for the target.
    ari, ami : float
        Adjusted Rand index and adjusted mutual information of the labels and `reference_labels`, over all units of
        the trimmed network: 1 = the same partition, about 0 = chance.
    layer_ari, layer_ami : tuple of float
        The same for each layer; 1 for a layer without units.
    matching : tuple of Match
        The best one-to-one matching of modules with sub-functions, in the order of the sub-functions.
    n_modules : int
        Modules found.
    expected_modules : int or None
        Modules of the target at this depth; None where nothing is expected.
    """

    inputs: bool
    hidden: bool
    outputs: bool
    exact: bool
    ari: float
    ami: float
    layer_ari: tuple[float, ...]
    layer_ami: tuple[float, ...]
    matching: tuple[Match, ...]
    n_modules: int
    expected_modules: int | None

    def __repr__(self) -> str:
        parts = ", ".join(name for name in ("inputs", "hidden", "outputs") if getattr(self, name)) or "nothing"
        verdict = "exact" if self.exact else f"right: {parts}"
        return f"Score({verdict}; {self.n_modules} modules of {self.expected_modules}, ari {self.ari:.3f})"


def criteria(found: ModuleHierarchy, target: FunctionGraph) -> Criteria:
    """Judge a hierarchy by the paper's criteria alone: what `score` does first, without its slower parts.

    Parameters
    ----------
    found : ModuleHierarchy
    target : FunctionGraph

    Returns
    -------
    Criteria

    Raises
    ------
    ValueError
        If the numbers of inputs or outputs differ.
    """
    dag, labels = found.dag, found.labels
    _check_sizes(dag, target)
    goal = target.at_depth(dag.n_layers - 2)
    expected = len(goal.expected_modules()) if goal else None
    layers = [labels[dag.layer == layer] for layer in range(dag.n_layers)]
    # Too shallow for anything to be expected: inputs, hidden and outputs are still judged, by the whole target.
    judged = goal or target
    inputs = bool((layers[0] >= 0).all()) and _is_partition(layers[0], judged.input_partition())
    outputs = _is_partition(layers[-1], judged.output_partition())
    hidden = _follows_levels(
        [set(part[part >= 0].tolist()) for part in layers[1:-1]], [len(level) for level in _held(judged)]
    )
    total = found.n_modules == expected if target.counts_modules else hidden
    return Criteria(
        inputs=inputs,
        hidden=hidden,
        outputs=outputs,
        exact=goal is not None and inputs and outputs and total,
        n_modules=found.n_modules,
        expected_modules=expected,
    )


def score(found: ModuleHierarchy, target: FunctionGraph) -> Score:
    """Judge a hierarchy by the function its network was trained on.

    The criteria are those of Patil, Michael, Dovrolis (2023), section 4, for any function graph. What to expect
    follows the number of hidden layers, ``target.at_depth``.

    *hidden* asks for an assignment of the hidden layers to levels of the function, never decreasing, so that each
    layer has as many labels as a layered network must hold values at its level: one for each sub-function of that
    level, and one for each of an earlier level that is still read or shown later. Layers of one level must have
    the same labels. So for `overlap`, with its single level: the same two labels in every hidden layer.

    Parameters
    ----------
    found : ModuleHierarchy
        Its merged labels are judged.
    target : FunctionGraph
        With as many inputs and outputs as the network, in the same order.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        If the numbers of inputs or outputs differ.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> from modgraph.functions import published
    >>> halves = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    >>> found = detect_modules(LayeredDAG.from_masks([halves, halves]))
    >>> score(found, published("separable"))
    Score(exact; 2 modules of 2, ari 1.000)
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score  # half a second to load

    judged = criteria(found, target)
    dag, labels = found.dag, found.labels
    reference = reference_labels(dag, target)
    kept = [(labels >= 0) & (dag.layer == layer) for layer in range(dag.n_layers)]
    pairs = [(reference[units], labels[units]) for units in (labels >= 0, *kept)]
    # Rounded, so that equal partitions have exactly 1.
    ari, *layer_ari = [round(float(adjusted_rand_score(*pair)), 12) for pair in pairs]
    ami, *layer_ami = [round(float(adjusted_mutual_info_score(*pair)), 12) for pair in pairs]
    return Score(
        inputs=judged.inputs,
        hidden=judged.hidden,
        outputs=judged.outputs,
        exact=judged.exact,
        ari=ari,
        ami=ami,
        layer_ari=tuple(layer_ari),
        layer_ami=tuple(layer_ami),
        matching=_match(found, target.at_depth(dag.n_layers - 2) or target),
        n_modules=judged.n_modules,
        expected_modules=judged.expected_modules,
    )


def reference_labels(dag: LayeredDAG, target: FunctionGraph) -> IntArray:
    """Label every unit with the module of the target that it should belong to, from its place in the graph alone.

    Inputs and outputs have the label of the expected module they are part of. A hidden unit has that of the
    sub-function whose input support and output reach are the most like its own (mean of the two Jaccard indices)
    among those that a layered network must hold at the level of the unit's layer; units that are as like several, of
    different modules, get a label of their own for that set. The levels of the hidden layers never decrease, leave
    out none of the first ``min_hidden`` levels of the target, and make the sum of these similarities the largest.

    Parameters
    ----------
    dag : LayeredDAG
    target : FunctionGraph
        With as many inputs and outputs as `dag`.

    Returns
    -------
    ndarray of int, shape (n_units,)
        Positions in ``target.expected_modules``, labels beyond them for the tied sets, −1 where trimming would
        remove the unit.

    Raises
    ------
    ValueError
        If the numbers of inputs or outputs differ.

    Examples
    --------
    >>> from modgraph.functions import published
    >>> halves = [[1, 1, 0, 0], [0, 0, 1, 1]]
    >>> dag = LayeredDAG.from_masks([halves, [[1, 0], [1, 0], [0, 1], [0, 1]]])
    >>> reference_labels(dag, published("separable"))
    array([0, 0, 1, 1, 0, 1, 0, 0, 1, 1])
    """
    _check_sizes(dag, target)
    goal = target.at_depth(dag.n_layers - 2) or target
    modules = goal.expected_modules()
    module_of = {name: number for number, module in enumerate(modules) for name in module.sub_functions}
    names = [sub.name for sub in goal.sub_functions]
    # The whole graph gives the same: what lies between an input and a unit that trimming keeps is kept too.
    support = reachability(dag, 0).toarray().T
    reach = reachability(dag, dag.n_layers - 1, direction="inwards").toarray().T
    similarity, kept = _similarity(support, reach, goal), dag.on_path()
    hidden = [np.flatnonzero(kept & (dag.layer == layer)) for layer in range(1, dag.n_layers - 1)]
    held = [[names.index(name) for name in level] for level in _held(goal)]
    labels = np.full(dag.n_units, -1, dtype=np.int64)
    tied: dict[frozenset[int], int] = {}
    for units, level in zip(hidden, _layer_levels([similarity[units] for units in hidden], held, goal), strict=True):
        for unit in units.tolist():
            likeness = similarity[unit, held[level]]
            best = np.flatnonzero(likeness == likeness.max())
            nearest = frozenset(module_of[names[held[level][position]]] for position in best)
            labels[unit] = min(nearest) if len(nearest) == 1 else tied.setdefault(nearest, len(modules) + len(tied))
    first_output = dag.n_units - goal.n_outputs
    for number, module in enumerate(modules):
        labels[list(module.inputs)] = number
        labels[[first_output + position for position in module.outputs]] = number
    labels[~kept] = -1
    return read_only(labels)


def _check_sizes(dag: LayeredDAG, target: FunctionGraph) -> None:
    for kind, size, wanted in (
        ("inputs", dag.layer_sizes[0], target.n_inputs),
        ("outputs", dag.layer_sizes[-1], target.n_outputs),
    ):
        if size != wanted:
            raise ValueError(f"`target` must have the {size} {kind} of the network ({target.name!r} has {wanted})")


def _is_partition(labels: IntArray, partition: Iterable[Sequence[int]]) -> bool:
    """Whether equal labels are exactly the groups of `partition`."""
    groups = [set(labels[list(group)].tolist()) for group in partition]
    return all(len(group) == 1 for group in groups) and len(set().union(*groups)) == len(groups)


def _held(graph: FunctionGraph) -> list[list[str]]:
    """Find, for each level, the sub-functions whose value a layered network must hold there."""
    level = graph.levels()
    depth = max(level.values())
    until = {
        name: depth if name in graph.shown else max(level[reader] - 1 for reader in graph.readers(name))
        for name in level
    }
    return [[name for name in level if level[name] <= at <= until[name]] for at in range(1, depth + 1)]


def _layer_levels(
    similarity: Sequence[FloatArray], held: Sequence[Sequence[int]], graph: FunctionGraph
) -> tuple[int, ...]:
    """Choose the level of each hidden layer so that its units are the most like what a network holds there.

    Levels never decrease, and none of the first ``graph.min_hidden`` is left out if there are layers enough. On equal
    sums the lower levels win. Dynamic programming over layers: O(layers × levels²).
    """
    covered = min(graph.min_hidden, len(held), len(similarity))
    best: dict[int, tuple[float, tuple[int, ...]]] = {-1: (0.0, ())}
    for layer in similarity:
        gains = [math.fsum(layer[:, columns].max(axis=1).tolist()) for columns in held]
        following: dict[int, tuple[float, tuple[int, ...]]] = {}
        for level, gain in enumerate(gains):
            ways = [
                (round(total + gain, 9), (*path, level))
                for before, (total, path) in best.items()
                if before == level or before + 1 == level or covered - 1 <= before < level
            ]
            if ways:
                following[level] = min(ways, key=lambda way: (-way[0], way[1]))
        best = following
    ends = [way for level, way in best.items() if level >= covered - 1]
    return min(ends, key=lambda way: (-way[0], way[1]))[1]


def _follows_levels(layers: Sequence[set[int]], held: Sequence[int]) -> bool:
    """Whether hidden layers can be given levels, never decreasing, with `held` labels each, the same in one level."""
    at, before = -1, set[int]()
    for labels in layers:
        if at >= 0 and labels == before:
            continue
        # The earliest level that fits leaves the most choice to later layers.
        at = next((level for level in range(at + 1, len(held)) if held[level] == len(labels)), len(held))
        if at == len(held):
            return False
        before = labels
    return True


def _jaccard(one: BoolArray, two: BoolArray) -> FloatArray:
    """Jaccard indices of the rows of `one` (n, m) and the rows of `two` (k, m), shape (n, k); 1 for two empty rows."""
    first, second = one.astype(np.float64), two.astype(np.float64)
    both = first @ second.T
    either = first.sum(axis=1)[:, None] + second.sum(axis=1) - both
    result: FloatArray = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return result


def _similarity(support: BoolArray, reach: BoolArray, graph: FunctionGraph) -> FloatArray:
    """How much rows of inputs and outputs are like each sub-function of `graph`: shape (n_rows, n_sub_functions)."""
    names = [sub.name for sub in graph.sub_functions]
    wanted_support = _rows([graph.input_support(name) for name in names], graph.n_inputs)
    wanted_reach = _rows([graph.output_reach(name) for name in names], graph.n_outputs)
    mean = (_jaccard(support, wanted_support) + _jaccard(reach, wanted_reach)) / 2
    return np.round(mean, 12)  # so that equal fractions are equal numbers, whatever the order of the sums


def _rows(positions: Sequence[Sequence[int] | IntArray], size: int) -> BoolArray:
    rows: NDArray[np.bool_] = np.zeros((len(positions), size), dtype=np.bool_)
    for row, members in zip(rows, positions, strict=True):
        row[list(members)] = True
    return rows


def _match(found: ModuleHierarchy, graph: FunctionGraph) -> tuple[Match, ...]:
    """Match modules with sub-functions so that the sum of similarities is the largest."""
    # In an order that the numbering of hidden units does not touch, so neither do ties.
    modules = sorted(found.modules, key=lambda m: (m.inputs.tolist(), m.outputs.tolist(), m.layers, m.units.size))
    first_output = found.dag.n_units - graph.n_outputs
    similarity = _similarity(
        _rows([module.inputs for module in modules], graph.n_inputs),
        _rows([module.outputs - first_output for module in modules], graph.n_outputs),
        graph,
    )
    pairs = zip(*linear_sum_assignment(similarity, maximize=True), strict=True)
    return tuple(
        Match(
            module=modules[row].id,
            sub_function=graph.sub_functions[column].name,
            similarity=float(similarity[row, column]),
        )
        for row, column in sorted(pairs, key=lambda pair: int(pair[1]))
    )
