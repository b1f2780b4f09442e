"""Contradictions: what a truth table says of the modules of networks that compute it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from modgraph.arrays import BoolArray, IntArray
from modgraph.sculpt.choose import AnyCandidate, Consensus, HierarchyKey, hierarchy_key, identity


def least_contradicting(
    trials: Iterable[Sequence[AnyCandidate]], *, function: tuple[ArrayLike, ArrayLike]
) -> list[list[AnyCandidate]]:
    """Keep, in each trial, the networks whose modules contradict the function least.

    All networks of a trial compute the same function, so the function itself tells which modules are possible. A
    module must not hold two inputs that different outputs depend on, nor two outputs that depend on different inputs;
    and two outputs that are always equal, or always opposite, belong to one module. Each pair of inputs or outputs that
    is placed otherwise is a *contradiction*. The networks of a trial with the fewest are kept.

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
                counts[same] = n_contradictions(hierarchy_key(candidate.hierarchy), known)
        numbers = [counts[identity(candidate)] for candidate in candidates]
        fewest = min(numbers, default=0)
        result.append([one for one, number in zip(candidates, numbers, strict=True) if number == fewest])
    return result


def with_confidence(
    agreed: Consensus[AnyCandidate], *, function: tuple[ArrayLike, ArrayLike]
) -> Consensus[AnyCandidate]:
    """Return an agreement with the confidence that its votes and the function give it.

    A sub-function of one bit has two states, so an output can tell apart two states of its inputs at most. Where
    an output tells apart m > 2 states of the inputs of one module, at least m − 1 thresholds lie between them, and the
    module stands for all of them: either it splits a sub-function or it joins several. The confidence is the share of
    the votes, divided by m − 1 for the largest m.

    The states are counted in the truth table, as Ashenhurst (1957) does. If that isn't complete (see
    `least_contradicting`), the confidence is the share. Sub-functions of several bits, or of inputs that overlap, get
    less confidence than they deserve.

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
    groups = np.array(hierarchy_key(agreed.hierarchy)[0])
    most = 2
    for group in np.unique(groups[groups >= 0]):
        own = np.flatnonzero(groups == group)
        axes = [*own, *np.flatnonzero(groups != group), len(groups)]
        states = known.cube.transpose(axes).reshape(2 ** len(own), -1, known.cube.shape[-1])
        most = max(most, *(len(np.unique(states[..., i], axis=0)) for i in range(states.shape[-1])))
    return replace(agreed, confidence=agreed.share / (most - 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dependence:
    """What a complete truth table says about its inputs and outputs, as classes (integers from 0)."""

    cube: BoolArray  # (2, …, 2, n_out): the outputs at each pattern of the inputs
    inputs: IntArray  # (n_in,): inputs of a class change the same outputs
    outputs: IntArray  # (n_out,): outputs of a class depend on the same inputs
    values: IntArray  # (n_out,): outputs of a class are always equal or always opposite


def dependence(function: tuple[ArrayLike, ArrayLike]) -> Dependence | None:
    """Find what each output of a truth table depends on; None if the table isn't complete."""
    inputs, outputs = (np.asarray(part) for part in function)
    n_rows, n_inputs = inputs.shape
    bits = inputs == inputs.max(axis=0)
    two_valued = (bits | (inputs == inputs.min(axis=0))).all()
    if not two_valued or n_rows != 2**n_inputs or len(np.unique(bits, axis=0)) < n_rows:
        return None
    # Rows in the order of their bits: flipping input i swaps the halves of axis i.
    order = np.lexsort(bits.T[::-1])
    cube = outputs[order].astype(np.bool_).reshape(*[2] * n_inputs, -1)
    depends = np.array(  # (inputs, outputs)
        [
            (cube.take(0, axis=i) != cube.take(1, axis=i)).reshape(-1, cube.shape[-1]).any(axis=0)
            for i in range(n_inputs)
        ]
    )
    flat = cube.reshape(n_rows, -1)
    return Dependence(
        cube=cube,
        inputs=_classes(depends),
        outputs=_classes(depends.T),
        values=_classes((flat ^ flat[0]).T),  # opposites agree
    )


def _classes(rows: BoolArray) -> IntArray:
    """Give equal rows the same integer."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(len(rows))


def n_contradictions(key: HierarchyKey, known: Dependence) -> int:
    """Count the pairs of inputs or outputs that a hierarchy places otherwise than the function allows."""
    inputs, outputs = (np.array(partition) for partition in key[:2])

    def n_pairs(left: IntArray, right: IntArray) -> int:
        """Count the pairs together in `left` and apart in `right`."""
        pairs = (left[:, None] == left) & (right[:, None] != right) & (left >= 0) & (right >= 0)
        return int(np.triu(pairs, 1).sum())

    return n_pairs(inputs, known.inputs) + n_pairs(outputs, known.outputs) + n_pairs(known.values, outputs)
