"""Which network is right: rules that choose one network of a trial, and the hierarchy that networks agree on.

The sparsest network is not always the one with the right structure: among equally accurate networks a difference of
one or two edges is chance. A right structure keeps apart what can be kept apart, so few pairs of a unit and an output
are joined (small *cones*), and many settings and seeds end at it. Both can be seen without knowing the target.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgraph.arrays import BoolArray, IntArray
from modgraph.labels import by_first_unit
from modgraph.names import counted

if TYPE_CHECKING:
    from modgraph.modules import ModuleHierarchy

CLOSE: Final = 0.1
"""Networks vote whose cost is at most this share above the lowest of their trial (`modgraph reproduce selection`)."""


class _Candidate(Protocol):
    """A `SculptedNetwork`, or one from a store."""

    @property
    def unit_step(self) -> float: ...
    @property
    def edge_step(self) -> float: ...
    @property
    def edges(self) -> int: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def masks(self) -> tuple[NDArray[np.bool_], ...]: ...
    @property
    def hierarchy(self) -> ModuleHierarchy: ...


AnyCandidate = TypeVar("AnyCandidate", bound=_Candidate)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Consensus(Generic[AnyCandidate]):
    """The hierarchy that networks agree on; what `consensus` returns.

    Attributes
    ----------
    hierarchy : ModuleHierarchy
        The modules of `network`; ``settings["consensus"]`` says how many trials agree, so a report of it does too.
    network : SculptedNetwork or StoredNetwork
        The network that shows the hierarchy at the lowest cost.
    share : float
        Its share of the votes, in (0, 1]: a measure of confidence.
    n_trials : int
        Trials that voted: those with an accepted network.
    n_found : int
        Trials of which a voting network shows the hierarchy.
    runners_up : tuple of (ModuleHierarchy, float)
        The other hierarchies, each as its best network shows it, with their shares; most votes first.
    """

    hierarchy: ModuleHierarchy
    network: AnyCandidate
    share: float
    n_trials: int
    n_found: int
    runners_up: tuple[tuple[ModuleHierarchy, float], ...]

    def __str__(self) -> str:
        return _in_words(self.n_found, self.n_trials, self.share)

    def __repr__(self) -> str:
        return f"Consensus({counted(self.hierarchy.n_modules, 'module')}, {self})"


def consensus(trials: Iterable[Sequence[AnyCandidate]], *, close: float = CLOSE) -> Consensus[AnyCandidate] | None:
    """Find the hierarchy that the networks of one or more trials agree on.

    In each trial the networks with the lowest cost vote, those at most `close` above the lowest, as a share. A trial
    has one vote, divided equally among them. The cost is edges × cones, where *cones* counts the pairs of a hidden unit
    and an output that it reaches (`n_cones`): saving a share of either counts alike. Two networks show the same
    hierarchy if they agree on the partition of the inputs, the partition of the outputs and the number of modules; so
    networks of different widths can vote together. Of hierarchies with equally many votes the one at the lower cost
    wins, then the one with fewer edges.

    Parameters
    ----------
    trials : iterable of sequences of SculptedNetwork or StoredNetwork
        The accepted networks of each trial of one function and number of layers; trials without any don't vote.
    close : float ≥ 0

    Returns
    -------
    Consensus or None
        None if there is no network.

    Examples
    --------
    >>> from modgraph.sculpt import sculpt
    >>> xor = ([[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]])
    >>> out = sculpt(xor, hidden=(8,), seeds=[0, 1], unit_steps=[50], edge_steps=[10, 5])
    >>> consensus([out.candidates])
    Consensus(1 module, found in 1 of 1 trial, with 100 % of the votes)
    """
    votes: dict[Hashable, float] = defaultdict(float)
    found_in: dict[Hashable, int] = defaultdict(int)
    shown_by: dict[Hashable, tuple[tuple[float, ...], AnyCandidate]] = {}
    hierarchies: dict[bytes, ModuleHierarchy] = {}
    n_trials = 0
    for candidates in trials:
        if not candidates:
            continue
        n_trials += 1
        costs = [cost(candidate) for candidate in candidates]
        limit = (1 + close) * min(costs)
        voters = [pair for pair in zip(costs, candidates, strict=True) if pair[0] <= limit]
        shown = set()
        for price, candidate in voters:
            same = _identity(candidate)
            if same not in hierarchies:  # many settings end at the same network
                hierarchies[same] = candidate.hierarchy
            key = hierarchy_key(hierarchies[same])
            votes[key] += 1 / len(voters)
            shown.add(key)
            place = (price, *rank(candidate))
            if key not in shown_by or place < shown_by[key][0]:
                shown_by[key] = place, candidate
        for key in shown:
            found_in[key] += 1
    if not votes:
        return None
    # Rounded, so that the order of the sum doesn't decide a tie.
    first, *others = sorted(votes, key=lambda key: (-round(votes[key], 9), shown_by[key][0], repr(key)))

    def hierarchy(key: Hashable) -> ModuleHierarchy:
        return hierarchies[_identity(shown_by[key][1])]

    share, n_found = min(1.0, votes[first] / n_trials), found_in[first]
    best = hierarchy(first)
    return Consensus(
        hierarchy=replace(best, settings={**best.settings, "consensus": _in_words(n_found, n_trials, share)}),
        network=shown_by[first][1],
        share=share,
        n_trials=n_trials,
        n_found=n_found,
        runners_up=tuple((hierarchy(key), votes[key] / n_trials) for key in others),
    )


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
            same = _identity(candidate)
            if same not in counts:  # many settings end at the same network
                counts[same] = n_contradictions(hierarchy_key(candidate.hierarchy), known)
        numbers = [counts[_identity(candidate)] for candidate in candidates]
        fewest = min(numbers, default=0)
        result.append([one for one, number in zip(candidates, numbers, strict=True) if number == fewest])
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dependence:
    """What a complete truth table says about its inputs and outputs, as classes (integers from 0).

    Attributes
    ----------
    inputs : ndarray of int, shape (n_in,)
        Inputs of a class change the same outputs.
    outputs : ndarray of int, shape (n_out,)
        Outputs of a class depend on the same inputs.
    values : ndarray of int, shape (n_out,)
        Outputs of a class are always equal or always opposite.
    """

    inputs: IntArray
    outputs: IntArray
    values: IntArray


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


HierarchyKey = tuple[tuple[int, ...], tuple[int, ...], int]


def hierarchy_key(found: ModuleHierarchy) -> HierarchyKey:
    """Return what two hierarchies must have in common to be the same; no permutation of hidden units changes it.

    Parameters
    ----------
    found : ModuleHierarchy

    Returns
    -------
    tuple
        The partition of the inputs, those that trimming removed apart; the partition of the outputs; the number of
        modules.
    """
    layer = found.dag.layer
    ends = (found.labels[layer == end] for end in (0, found.dag.n_layers - 1))
    inputs, outputs = (_partition(labels) for labels in ends)
    return inputs, outputs, found.n_modules


def _partition(labels: NDArray[np.int64]) -> tuple[int, ...]:
    """Renumber labels by first unit, from 0; −1 stays."""
    result = np.full(labels.shape, -1)
    result[labels >= 0] = by_first_unit(labels[labels >= 0])
    return tuple(result.tolist())


def n_cones(masks: Sequence[NDArray[np.bool_]]) -> int:
    """Count the pairs of a hidden unit and an output that it reaches.

    A unit's *cone* is what it reaches. Units that no input reaches don't count.

    Parameters
    ----------
    masks : sequence of ndarray of bool
        (out, in).

    Returns
    -------
    int

    Examples
    --------
    >>> n_cones([np.eye(2, dtype=bool), np.array([[True, True], [False, True]])])
    3
    """
    fed = [np.ones(masks[0].shape[1], dtype=np.bool_)]
    for mask in masks[:-1]:
        fed.append(mask @ fed[-1])
    reached = np.eye(masks[-1].shape[0], dtype=np.bool_)  # (outputs, units of a layer)
    total = 0
    for mask, units in zip(masks[:0:-1], fed[:0:-1], strict=True):
        reached = reached @ mask
        total += int(reached[:, units].sum())
    return total


def cost(candidate: _Candidate) -> int:
    """Return edges × cones, the lower the better; see `consensus`."""
    return candidate.edges * n_cones(candidate.masks)


def fewest_edges(candidates: Sequence[AnyCandidate]) -> AnyCandidate:
    """Choose the candidate with the fewest edges (the published choice).

    Ties go to the higher accuracy, then the larger unit step, then the larger edge step.

    Parameters
    ----------
    candidates : sequence of SculptedNetwork or StoredNetwork
        The accepted networks of one trial, at least one.

    Returns
    -------
    SculptedNetwork or StoredNetwork
    """
    return min(candidates, key=rank)


def smallest_cones(candidates: Sequence[AnyCandidate]) -> AnyCandidate:
    """Choose the candidate with the fewest pairs of a unit and an output that it reaches; ties as in `fewest_edges`.

    Parameters
    ----------
    candidates : sequence of SculptedNetwork or StoredNetwork
        The accepted networks of one trial, at least one.

    Returns
    -------
    SculptedNetwork or StoredNetwork
    """
    return min(candidates, key=lambda candidate: (n_cones(candidate.masks), *rank(candidate)))


def fewest_joined_inputs(candidates: Sequence[AnyCandidate]) -> AnyCandidate:
    """Choose the candidate in which the fewest pairs of inputs meet in a unit of the first hidden layer.

    Inputs whose effects only add up can be kept apart until the outputs; those that interact can't. Ties as in
    `fewest_edges`.

    Parameters
    ----------
    candidates : sequence of SculptedNetwork or StoredNetwork
        Accepted networks, at least one.

    Returns
    -------
    SculptedNetwork or StoredNetwork
    """

    def n_pairs(candidate: AnyCandidate) -> int:
        first = candidate.masks[0].astype(np.int64)  # (units, inputs)
        return int(np.triu(first.T @ first, 1).astype(bool).sum())

    return min(candidates, key=lambda candidate: (n_pairs(candidate), *rank(candidate)))


def by_consensus(trials: Sequence[Sequence[AnyCandidate]], *, close: float = CLOSE) -> list[AnyCandidate]:
    """Choose a network for each trial so that the trials agree as far as they can.

    A second pass after `consensus`: each trial takes its network that shows the hierarchy with most votes, or if it has
    none, the hierarchy with the next most votes. If several networks show it, the one at the lowest cost is taken; ties
    as in `fewest_edges`.

    Parameters
    ----------
    trials : sequence of sequences of SculptedNetwork or StoredNetwork
        The accepted networks of each trial, at least one.
    close : float ≥ 0
        As in `consensus`.

    Returns
    -------
    list of SculptedNetwork or StoredNetwork
    """
    found = consensus(trials, close=close)
    if found is None:
        return []
    order = [hierarchy_key(hierarchy) for hierarchy in (found.hierarchy, *(other for other, _ in found.runners_up))]
    chosen = []
    for candidates in trials:
        shown: dict[Hashable, AnyCandidate] = {}
        for candidate in sorted(candidates, key=lambda one: (cost(one), *rank(one))):
            shown.setdefault(hierarchy_key(candidate.hierarchy), candidate)
            if order[0] in shown:
                break
        chosen.append(next(shown[key] for key in order if key in shown))
    return chosen


def chosen_networks(
    trials: Sequence[Sequence[AnyCandidate]], choose: str | Callable[[Sequence[AnyCandidate]], AnyCandidate]
) -> list[AnyCandidate]:
    """Choose a network for each trial (at least one candidate each) by a rule: its name, or a callable for one trial.

    Raises
    ------
    ValueError
        If there is no rule of this name.
    """
    check_rule(choose)
    if choose == "consensus":
        return by_consensus(trials)
    rule = RULES[choose] if isinstance(choose, str) else choose
    return [rule(candidates) for candidates in trials]


def check_rule(choose: object) -> None:
    """Raise ValueError if `choose` is neither the name of a rule nor a callable."""
    if not callable(choose) and choose not in (*RULES, "consensus"):
        raise ValueError(f"`choose` must be one of {sorted((*RULES, 'consensus'))} or a callable (got {choose!r})")


RULES: Final[dict[str, Callable[..., Any]]] = {
    "fewest_edges": fewest_edges,
    "smallest_cones": smallest_cones,
    "fewest_joined_inputs": fewest_joined_inputs,
}
"""The rules of choice for one trial, by name."""


def _in_words(n_found: int, n_trials: int, share: float) -> str:
    return f"found in {n_found} of {counted(n_trials, 'trial')}, with {100 * share:.0f} % of the votes"


def rank(candidate: _Candidate) -> tuple[float, ...]:
    """Return what orders candidates, the best first: edges, accuracy, unit step, edge step."""
    return candidate.edges, -candidate.accuracy, -candidate.unit_step, -candidate.edge_step


def _identity(candidate: _Candidate) -> bytes:
    """Return bytes that are equal for networks with the same edges."""
    return repr([mask.shape for mask in candidate.masks]).encode() + b"".join(m.tobytes() for m in candidate.masks)
