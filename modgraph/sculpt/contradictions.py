"""Contradictions: what a truth table says of the modules of networks that compute it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from modgraph.arrays import BoolArray, IntArray
from modgraph.functions import FunctionGraph, decompose
from modgraph.functions.graph import MAX_TABLE_INPUTS
from modgraph.labels import by_first_unit
from modgraph.sculpt.choose import AnyCandidate, Consensus, HierarchyKey, hierarchy_key, identity

NEVER: Final = np.iinfo(np.int64).max
"""More hidden layers than a network has."""


def least_contradicting(
    trials: Iterable[Sequence[AnyCandidate]], *, function: tuple[ArrayLike, ArrayLike]
) -> list[list[AnyCandidate]]:
    """Keep, in each trial, the networks whose modules contradict the function least.

    All networks of a trial compute the same function, so the function itself tells which modules are possible. Each
    pair of inputs or outputs that is placed otherwise is a *contradiction*; the networks of a trial with the fewest
    are kept. A module must not hold

    - two inputs that different outputs depend on,
    - two outputs that depend on different inputs,
    - two different outputs that need not share their last units.

    Two outputs that are always equal, or always opposite, belong to one module, and so do two inputs that the same
    sub-functions read. Sub-functions are those of the finest decomposition of the table
    (`modgraph.functions.decompose`). If all that two outputs share are in its first s levels, units of s hidden layers
    can compute these, and each output can have units of its own in the next one. If both outputs read the same
    operands, the same units can serve both there, and it takes one layer more.

    Parameters
    ----------
    trials : iterable of sequences of SculptedNetwork or StoredNetwork
        Networks that compute the function.
    function : pair of array-like
        Inputs (n, n_in) and outputs (n, n_out) of its truth table. If the table isn't complete (n < 2^n_in, or inputs
        that take more than two values), all networks are kept: then it doesn't tell what an output depends on.

    Returns
    -------
    list of lists
        The kept networks of each trial, in their order.
    """
    known = dependence(function)
    if known is None:
        return [list(candidates) for candidates in trials]
    counts: dict[bytes, int] = {}
    result = []
    for candidates in trials:
        for candidate in candidates:
            same = identity(candidate)
            if same not in counts:  # many settings end at the same network
                counts[same] = n_contradictions(
                    hierarchy_key(candidate.hierarchy), known, hidden_layers=len(candidate.masks) - 1
                )
        numbers = [counts[identity(candidate)] for candidate in candidates]
        fewest = min(numbers, default=0)
        result.append([one for one, number in zip(candidates, numbers, strict=True) if number == fewest])
    return result


def with_confidence(
    agreed: Consensus[AnyCandidate], *, function: tuple[ArrayLike, ArrayLike]
) -> Consensus[AnyCandidate]:
    """Return an agreement with the confidence that its votes and the function give it.

    The truth table has a finest decomposition (`modgraph.functions.decompose`), which no network has seen, and which
    has modules itself. If they are those of the agreement (the same groups of inputs and of outputs, and as many
    modules), the confidence is the share of the votes. If not, either the networks are wrong, or the decomposition is,
    or both are. Nothing here tells which, so the confidence is a third of the share. The hierarchy's
    `settings` say whether they are the same.

    A decomposition doesn't show sub-functions of several bits, nor those of overlapping inputs within one output. Right
    modules of such functions get less confidence than they deserve. If the table isn't complete (see
    `least_contradicting`), the confidence is the share.

    Parameters
    ----------
    agreed : Consensus
    function : pair of array-like
        As in `least_contradicting`.

    Returns
    -------
    Consensus
    """
    known = dependence(function)
    if known is None:
        return agreed
    same = hierarchy_key(agreed.hierarchy) == _expected(known, hidden_layers=len(agreed.network.masks) - 1)
    said = {"decomposition of the truth table": "the same modules" if same else "other modules"}
    hierarchy = replace(agreed.hierarchy, settings={**agreed.hierarchy.settings, **said})
    return replace(agreed, hierarchy=hierarchy, confidence=agreed.share if same else agreed.share / 3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dependence:
    """What a complete truth table says about its inputs and outputs; classes are integers from 0."""

    inputs: IntArray  # (n_in,): inputs of a class change the same outputs
    readers: IntArray  # (n_in,): inputs of a class are read by the same sub-functions; −1: by none
    values: IntArray  # (n_out,): outputs of a class are always equal or always opposite
    layers: IntArray  # (n_out, n_out): hidden layers that two outputs need to have units of their own
    graph: FunctionGraph  # the finest decomposition; its inputs are called by their numbers


def dependence(function: tuple[ArrayLike, ArrayLike]) -> Dependence | None:
    """Find what each output of a truth table depends on; None if the table isn't complete, too large, or constant."""
    inputs, outputs = (np.asarray(part) for part in function)
    n_rows, n_inputs = inputs.shape
    bits = inputs == inputs.max(axis=0)
    two_valued = (bits | (inputs == inputs.min(axis=0))).all()
    is_complete = two_valued and n_rows == 2**n_inputs and len(np.unique(bits, axis=0)) == n_rows
    if not is_complete or n_inputs > MAX_TABLE_INPUTS:
        return None
    # Rows in the order of their bits: flipping input i swaps the halves of axis i.
    table = outputs[np.lexsort(bits.T[::-1])].astype(np.bool_)
    varying = np.flatnonzero((table != table[0]).any(axis=0))
    if not len(varying):
        return None
    cube = table.reshape(*[2] * n_inputs, -1)
    depends = np.array(  # (inputs, outputs)
        [
            (cube.take(0, axis=i) != cube.take(1, axis=i)).reshape(-1, table.shape[1]).any(axis=0)
            for i in range(n_inputs)
        ]
    )
    graph = decompose(table[:, varying], inputs=[str(i) for i in range(n_inputs)])
    values = _classes((table ^ table[0]).T)  # opposites agree
    layers = np.where(values[:, None] == values, NEVER, 1)
    parents = {sub.name: frozenset(sub.parents) for sub in graph.sub_functions}
    levels, shown = graph.levels(), dict(zip(varying.tolist(), graph.shown, strict=True))
    below = {name: _below(name, parents) for name in graph.shown}
    for one, two in combinations(varying.tolist(), 2):
        if layers[one, two] == 1 and (depends[:, one] == depends[:, two]).all():
            name, other = shown[one], shown[two]
            shared = max((levels[sub] for sub in below[name] & below[other]), default=0)
            layers[one, two] = layers[two, one] = 1 + shared + (parents[name] == parents[other])
    readers = np.full(n_inputs, -1)
    for number, group in enumerate(graph.input_partition()):
        readers[[int(graph.inputs[position]) for position in group]] = number
    return Dependence(inputs=_classes(depends), readers=readers, values=values, layers=layers, graph=graph)


def _below(name: str, parents: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the sub-functions that one depends on, itself included."""
    found, following = set[str](), {name}
    while following:
        found |= following
        following = {parent for sub in following for parent in parents[sub] if parent in parents} - found
    return found


def _classes(rows: BoolArray) -> IntArray:
    """Give equal rows the same integer."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(len(rows))


def _expected(known: Dependence, *, hidden_layers: int) -> HierarchyKey:
    """Return what the finest decomposition leads to expect of a network's hierarchy; 0 modules if it is too shallow."""
    inputs = known.readers.copy()
    inputs[inputs >= 0] = by_first_unit(inputs[inputs >= 0])
    n_modules = len(known.graph.expected_modules(hidden_layers))
    return tuple(inputs.tolist()), tuple(by_first_unit(known.values).tolist()), n_modules


def n_contradictions(key: HierarchyKey, known: Dependence, *, hidden_layers: int) -> int:
    """Count the pairs of inputs or outputs that a hierarchy of so many hidden layers places otherwise than possible."""
    inputs, outputs = (np.array(partition) for partition in key[:2])

    def n_pairs(pairs: BoolArray, labels: IntArray) -> int:
        return int(np.triu(pairs & (labels >= 0)[:, None] & (labels >= 0), 1).sum())

    same_input, same_output = inputs[:, None] == inputs, outputs[:, None] == outputs
    return (
        n_pairs(same_input & (known.inputs[:, None] != known.inputs), inputs)
        + n_pairs(~same_input & (known.readers[:, None] == known.readers) & (known.readers >= 0), inputs)
        + n_pairs(same_output & (known.layers <= hidden_layers), outputs)
        + n_pairs(~same_output & (known.layers == NEVER), outputs)
    )
