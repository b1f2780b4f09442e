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
from numpy.typing import NDArray

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
        Its share of the votes, in (0, 1].
    confidence : float
        The share, or less if the function speaks against it; see `modgraph.sculpt.with_confidence`.
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
    confidence: float
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
    found_in: dict[Hashable, set[int]] = defaultdict(set)
    shown_by: dict[Hashable, tuple[tuple[float, ...], AnyCandidate, ModuleHierarchy]] = {}
    hierarchies: dict[bytes, ModuleHierarchy] = {}
    voting = [trial for trial in trials if trial]
    for number, candidates in enumerate(voting):
        costs = [cost(candidate) for candidate in candidates]
        limit = (1 + close) * min(costs)
        voters = [pair for pair in zip(costs, candidates, strict=True) if pair[0] <= limit]
        for price, candidate in voters:
            same = identity(candidate)
            if same not in hierarchies:  # many settings end at the same network
                hierarchies[same] = candidate.hierarchy
            key, place = hierarchy_key(hierarchies[same]), (price, *rank(candidate))
            votes[key] += 1 / len(voters)
            found_in[key].add(number)
            if key not in shown_by or place < shown_by[key][0]:
                shown_by[key] = place, candidate, hierarchies[same]
    if not votes:
        return None
    # Rounded, so that the order of the sum doesn't decide a tie.
    first, *others = sorted(votes, key=lambda key: (-round(votes[key], 9), shown_by[key][0], repr(key)))
    share, n_found, n_trials = min(1.0, votes[first] / len(voting)), len(found_in[first]), len(voting)
    _, best, hierarchy = shown_by[first]
    return Consensus(
        hierarchy=replace(hierarchy, settings={**hierarchy.settings, "consensus": _in_words(n_found, n_trials, share)}),
        network=best,
        share=share,
        confidence=share,
        n_trials=n_trials,
        n_found=n_found,
        runners_up=tuple((shown_by[key][2], votes[key] / n_trials) for key in others),
    )


HierarchyKey = tuple[tuple[int, ...], tuple[int, ...], int]


def hierarchy_key(found: ModuleHierarchy) -> HierarchyKey:
    """Return what two hierarchies must have in common to be the same; no permutation of hidden units changes it.

    That is the partition of the inputs, those that trimming removed apart, the partition of the outputs, and the number
    of modules.
    """
    partitions = []
    for end in (0, found.dag.n_layers - 1):
        labels = found.labels[found.dag.layer == end]
        labels[labels >= 0] = by_first_unit(labels[labels >= 0])
        partitions.append(tuple(labels.tolist()))
    inputs, outputs = partitions
    return inputs, outputs, found.n_modules


def n_cones(masks: Sequence[NDArray[np.bool_]]) -> int:
    """Count the pairs of a hidden unit and an output that it reaches.

    A unit's *cone* is what it reaches. Units that no input reaches don't count. `masks` are (out, in).
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
    """Choose a network for each trial (at least one candidate each) by a rule: its name, or a callable."""
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


def identity(candidate: _Candidate) -> bytes:
    """Return bytes that are equal for networks with the same edges."""
    return repr([mask.shape for mask in candidate.masks]).encode() + b"".join(m.tobytes() for m in candidate.masks)
