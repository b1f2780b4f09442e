"""How well a hierarchy of modules fits its target function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import scipy

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.dag import LayeredDAG
from modgraph.forward import ACTIVATIONS
from modgraph.functions import FunctionGraph
from modgraph.interventions import MAX_EXHAUSTIVE_INPUTS, check_sizes
from modgraph.modules import ModuleHierarchy, check_found
from modgraph.reach import reachability
from modgraph.verify import verify


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
    """Which of the paper's criteria a hierarchy meets.

    Attributes
    ----------
    inputs : bool
        The trimmed network keeps every input, and two inputs share a label exactly where the same sub-functions
        read them.
    hidden : bool
        The labels of the hidden layers follow the levels of the function (see `score`).
    outputs : bool
        Two outputs share a label exactly where they show the same sub-function.
    exact : bool
        `inputs` and `outputs` are True, and so is the number of modules (or `hidden`, if the target doesn't count
        modules). Always False if the network has too few hidden layers for the target.
    n_modules : int
        Modules found.
    expected_modules : int or None
        Modules of the target at this depth; None if nothing is expected.
    """

    inputs: bool
    hidden: bool
    outputs: bool
    exact: bool
    n_modules: int
    expected_modules: int | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Score(Criteria):
    """How well a hierarchy fits its target function; what `score` returns: the paper's `Criteria`, and more.

    Attributes
    ----------
    ari, ami : float
        Adjusted Rand index and adjusted mutual information of the labels and `reference_labels`, over all units of
        the trimmed network: 1 = the same partition, about 0 = chance.
    layer_ari, layer_ami : tuple of float
        The same for each layer; 1 for a layer without units.
    matching : tuple of Match
        The best one-to-one matching of modules with sub-functions, in the order of the sub-functions.
    functional : bool or None
        Whether interventions on the network confirm the hierarchy as a decomposition of the target:
        `modgraph.verify`, without random regroupings. None if the network's weights or activations are not known, or
        if it has more than 12 inputs.
    """

    ari: float
    ami: float
    layer_ari: tuple[float, ...]
    layer_ami: tuple[float, ...]
    matching: tuple[Match, ...]
    functional: bool | None = None

    def __repr__(self) -> str:
        passed = ", ".join(name for name in ("inputs", "hidden", "outputs") if getattr(self, name)) or "nothing"
        verdict = "exact" if self.exact else f"right: {passed}"
        return f"Score({verdict}; {self.n_modules} modules of {self.expected_modules}, ari {self.ari:.3f})"


def criteria(found: ModuleHierarchy, target: FunctionGraph) -> Criteria:
    """Judge a hierarchy by the paper's criteria alone; `score` computes more and takes longer.

    Raises ValueError if `found` and `target` differ in their numbers of inputs or outputs.
    """
    check_found(found)
    dag, labels = found.dag, found.labels
    check_sizes(dag, target)
    target_at_depth = target.at_depth(dag.n_layers - 2)
    expected = len(target_at_depth.expected_modules()) if target_at_depth else None
    layers = [labels[dag.layer == layer] for layer in range(dag.n_layers)]
    # If the network is too shallow for any expectation, inputs, hidden and outputs are judged by the whole target.
    graph = target_at_depth or target
    inputs = bool((layers[0] >= 0).all()) and _is_partition(layers[0], graph.input_partition())
    outputs = _is_partition(layers[-1], graph.output_partition())
    hidden = _follows_levels(
        [set(part[part >= 0].tolist()) for part in layers[1:-1]], [len(level) for level in _carried_values(graph)]
    )
    structure = found.n_modules == expected if target.counts_modules else hidden
    return Criteria(
        inputs=inputs,
        hidden=hidden,
        outputs=outputs,
        exact=target_at_depth is not None and inputs and outputs and structure,
        n_modules=found.n_modules,
        expected_modules=expected,
    )


def score(found: ModuleHierarchy, target: FunctionGraph) -> Score:
    """Judge a hierarchy by the function its network was trained on.

    The criteria are those of Patil, Michael, Dovrolis (2023), section 4, stated for any function graph. What is
    expected depends on the number of hidden layers (``target.at_depth``).

    *hidden* is True if the hidden layers can be assigned to levels of the function, in ascending order, so that the
    number of labels in each layer is the number of values that a layered network must hold at that level: one for
    each sub-function of the level, and one for each sub-function of an earlier level that is read or shown later.
    Layers of the same level must have the same labels. Example: `overlap` has one level, so every hidden layer must
    have the same two labels.

    Parameters
    ----------
    found : ModuleHierarchy
        Its merged labels are judged.
    target : FunctionGraph
        With as many inputs and outputs as the network, in the same order.

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
    check_found(found)
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score  # half a second to load

    dag, labels = found.dag, found.labels
    reference = reference_labels(dag, target)
    kept = [(labels >= 0) & (dag.layer == layer) for layer in range(dag.n_layers)]
    pairs = [(reference[units], labels[units]) for units in (labels >= 0, *kept)]
    # Rounded, so that equal partitions have exactly 1.
    ari, *layer_ari = [round(float(adjusted_rand_score(*pair)), 12) for pair in pairs]
    ami, *layer_ami = [round(float(adjusted_mutual_info_score(*pair)), 12) for pair in pairs]
    return Score(
        **asdict(criteria(found, target)),
        ari=ari,
        ami=ami,
        layer_ari=tuple(layer_ari),
        layer_ami=tuple(layer_ami),
        matching=_match(found, target.at_depth(dag.n_layers - 2) or target),
        functional=_functional(found, target),
    )


def _functional(found: ModuleHierarchy, target: FunctionGraph) -> bool | None:
    """Whether the hierarchy is verified by intervention; None where the network can't be computed exhaustively."""
    dag = found.dag
    if dag.weights is None or dag.activations is None or target.n_inputs > MAX_EXHAUSTIVE_INPUTS:
        return None
    if any(name.partition(":")[0] not in ACTIVATIONS for name in np.unique(dag.activations).tolist()):
        return None
    return verify(found, target=target, n_controls=0).functional


def reference_labels(dag: LayeredDAG, target: FunctionGraph) -> IntArray:
    """Label every unit with the module of the target that it should belong to, by its place in the graph alone.

    Inputs and outputs get the label of their expected module. A hidden unit gets the label of the most similar
    sub-function among those that a layered network must hold at the level of the unit's layer. Similarity is the
    mean of two Jaccard indices: of the input supports and of the output reaches. If sub-functions of several modules
    are equally similar, the unit gets a further label, one for each such set of modules. The levels of the hidden
    layers never decrease, skip none of the first ``min_hidden`` levels of the target, and maximise the sum of the
    similarities.

    Returns
    -------
    ndarray of int, shape (n_units,)
        Positions in ``target.expected_modules``, larger labels for tied sets, −1 where trimming would remove the
        unit.

    Raises
    ------
    ValueError
        If `dag` and `target` differ in their numbers of inputs or outputs.

    Examples
    --------
    >>> from modgraph.functions import published
    >>> halves = [[1, 1, 0, 0], [0, 0, 1, 1]]
    >>> dag = LayeredDAG.from_masks([halves, [[1, 0], [1, 0], [0, 1], [0, 1]]])
    >>> reference_labels(dag, published("separable"))
    array([0, 0, 1, 1, 0, 1, 0, 0, 1, 1])
    """
    check_sizes(dag, target)
    graph = target.at_depth(dag.n_layers - 2) or target
    modules = graph.expected_modules()
    module_of = {name: number for number, module in enumerate(modules) for name in module.sub_functions}
    names = [sub.name for sub in graph.sub_functions]
    # Reachability on the untrimmed graph suffices: all paths between an input and a kept unit are kept too.
    support = reachability(dag, 0).toarray().T
    reach = reachability(dag, dag.n_layers - 1, direction="inwards").toarray().T
    similarity, kept = _similarity(support, reach, graph), dag.on_path()
    hidden = [np.flatnonzero(kept & (dag.layer == layer)) for layer in range(1, dag.n_layers - 1)]
    carried = [[names.index(name) for name in level] for level in _carried_values(graph)]
    labels = np.full(dag.n_units, -1, dtype=np.int64)
    tie_labels: dict[frozenset[int], int] = {}
    levels = _layer_levels([similarity[units] for units in hidden], carried, graph)
    for units, level in zip(hidden, levels, strict=True):
        for unit in units.tolist():
            to_carried = similarity[unit, carried[level]]
            most_similar = np.flatnonzero(to_carried == to_carried.max())
            candidates = frozenset(module_of[names[carried[level][position]]] for position in most_similar)
            if len(candidates) == 1:
                labels[unit] = min(candidates)
            else:
                labels[unit] = tie_labels.setdefault(candidates, len(modules) + len(tie_labels))
    for number, module in enumerate(modules):
        labels[list(module.inputs)] = number
        labels[dag.layer_starts[-2] + np.array(module.outputs, dtype=np.int64)] = number
    labels[~kept] = -1
    return read_only(labels)


def _is_partition(labels: IntArray, partition: Iterable[Sequence[int]]) -> bool:
    """Whether equal labels are exactly the groups of `partition`."""
    groups = [set(labels[list(group)].tolist()) for group in partition]
    return all(len(group) == 1 for group in groups) and len(set().union(*groups)) == len(groups)


def _carried_values(graph: FunctionGraph) -> list[list[str]]:
    """Return, for each level, the sub-functions whose value a layered network must hold there."""
    level = graph.levels()
    depth = max(level.values())
    last_level = {
        name: depth if name in graph.shown else max(level[reader] - 1 for reader in graph.readers(name))
        for name in level
    }
    return [[name for name in level if level[name] <= number <= last_level[name]] for number in range(1, depth + 1)]


def _layer_levels(
    similarity: Sequence[FloatArray], carried: Sequence[Sequence[int]], graph: FunctionGraph
) -> tuple[int, ...]:
    """Choose a level for each hidden layer so that its units are most similar to what a network holds there.

    See `reference_labels`; among equal sums the lower levels win. Dynamic programming over the layers.
    """
    n_required = min(graph.min_hidden, len(carried), len(similarity))
    best: dict[int, tuple[float, tuple[int, ...]]] = {-1: (0.0, ())}
    for of_layer in similarity:
        gains = [math.fsum(of_layer[:, columns].max(axis=1).tolist()) for columns in carried]
        extended: dict[int, tuple[float, tuple[int, ...]]] = {}
        for level, gain in enumerate(gains):
            choices = [
                (round(total + gain, 9), (*path, level))
                for previous, (total, path) in best.items()
                if previous == level or previous + 1 == level or n_required - 1 <= previous < level
            ]
            if choices:
                extended[level] = min(choices, key=lambda choice: (-choice[0], choice[1]))
        best = extended
    complete = [choice for level, choice in best.items() if level >= n_required - 1]
    return min(complete, key=lambda choice: (-choice[0], choice[1]))[1]


def _follows_levels(layers: Sequence[set[int]], n_carried: Sequence[int]) -> bool:
    """Whether the hidden layers can be assigned to ascending levels with the right numbers of labels.

    `layers` holds the labels of each hidden layer, `n_carried` the number of values to carry at each level. Layers of
    one level must have the same labels.
    """
    level, previous = -1, set[int]()
    for labels in layers:
        if level >= 0 and labels == previous:
            continue
        # Take the lowest level that fits: it leaves the most levels to the later layers.
        fitting = (number for number in range(level + 1, len(n_carried)) if n_carried[number] == len(labels))
        level = next(fitting, len(n_carried))
        if level == len(n_carried):
            return False
        previous = labels
    return True


def _jaccard(one: BoolArray, two: BoolArray) -> FloatArray:
    """Jaccard indices between the rows of `one` (n, m) and of `two` (k, m): shape (n, k), 1 for two empty rows."""
    both = one.astype(np.float64) @ two.T
    either = one.sum(axis=1)[:, None] + two.sum(axis=1) - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _similarity(support: BoolArray, reach: BoolArray, graph: FunctionGraph) -> FloatArray:
    """Mean Jaccard index of the support and reach of rows and of sub-functions: shape (n_rows, n_sub_functions)."""
    names = [sub.name for sub in graph.sub_functions]
    wanted_support = _indicator_rows([graph.input_support(name) for name in names], graph.n_inputs)
    wanted_reach = _indicator_rows([graph.output_reach(name) for name in names], graph.n_outputs)
    mean = (_jaccard(support, wanted_support) + _jaccard(reach, wanted_reach)) / 2
    return np.round(mean, 12)  # equal fractions become equal floats, whatever the order of the sums


def _indicator_rows(positions: Sequence[Sequence[int] | IntArray], size: int) -> BoolArray:
    """Return boolean rows of length `size`, True at the given positions."""
    rows = np.zeros((len(positions), size), dtype=np.bool_)
    for row, members in zip(rows, positions, strict=True):
        row[list(members)] = True
    return rows


def _match(found: ModuleHierarchy, graph: FunctionGraph) -> tuple[Match, ...]:
    """Match modules one-to-one with sub-functions so that the sum of similarities is largest."""
    # Sort by properties that don't depend on the numbering of hidden units, so that ties don't either.
    modules = sorted(found.modules, key=lambda m: (m.inputs.tolist(), m.outputs.tolist(), m.layers, m.units.size))
    first_output = found.dag.n_units - graph.n_outputs
    similarity = _similarity(
        _indicator_rows([module.inputs for module in modules], graph.n_inputs),
        _indicator_rows([module.outputs - first_output for module in modules], graph.n_outputs),
        graph,
    )
    pairs = zip(*scipy.optimize.linear_sum_assignment(similarity, maximize=True), strict=True)
    return tuple(
        Match(
            module=modules[row].id,
            sub_function=graph.sub_functions[column].name,
            similarity=float(similarity[row, column]),
        )
        for row, column in sorted(pairs, key=lambda pair: int(pair[1]))
    )
