"""Stored trials, judged: what each candidate costs, which hierarchy it shows, and whether that is right."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.experiments.store import Store, StoredNetwork
from modgraph.experiments.sweep import Trial, target_of
from modgraph.functions import FunctionGraph, decompose
from modgraph.modules import ModuleHierarchy
from modgraph.score import criteria
from modgraph.sculpt.choose import CLOSE, fewest_edges, hierarchy_key, n_cones, rank
from modgraph.sculpt.contradictions import dependence, n_contradictions
from modgraph.verify import verify

CRITERIA: Final = ("inputs", "outputs", "hidden", "exact")
"""The paper's criteria, as `modgraph.Criteria` names them."""

_MANY: Final = np.iinfo(np.int64).max
"""More contradictions than there can be."""

N_RESAMPLES: Final = 1000
"""Resamples of the trials for an interval of the agreement's success rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedTrial:
    """The accepted candidates of one trial, lowest cost first (see `modgraph.sculpt.consensus`).

    Attributes
    ----------
    trial : Trial
    chosen : int
        Position of the network that a rule of choice picks alone; −1 if no network was accepted.
    edges, cones : ndarray of int, shape (n,)
    passing : ndarray of int, shape (n,)
        Units of each that feed another module than their own.
    contradictions : ndarray of int, shape (n,)
        Pairs of inputs or outputs that each places otherwise than the function allows (`least_contradicting`).
    shown : tuple of hashable
        The hierarchy of each (see `modgraph.sculpt.Consensus`).
    right : mapping of str to ndarray of bool, shape (n,)
        Which candidates meet each of the paper's criteria: "inputs", "outputs", "hidden", "exact".
    """

    trial: Trial
    chosen: int
    edges: IntArray
    cones: IntArray
    passing: IntArray
    contradictions: IntArray
    shown: tuple[Hashable, ...]
    right: dict[str, BoolArray]


def judge(
    store: Store, trial: Trial, *, choose: Callable[[Sequence[StoredNetwork]], StoredNetwork] = fewest_edges
) -> JudgedTrial:
    """Read one trial from the store, judge each different network once, and let a rule of choice pick one."""
    accepted = [candidate for candidate in store.candidates(trial.key) if candidate.accepted]
    target = target_of(trial.function)
    function = dependence(target.truth_table())
    known: dict[bytes, tuple[int, Hashable, dict[str, bool], int, int]] = {}
    facts = []
    for candidate in accepted:
        same = b"".join(mask.tobytes() for mask in candidate.masks)
        if same not in known:
            found = candidate.hierarchy
            met = criteria(found, target)
            right = {name: bool(getattr(met, name)) for name in CRITERIA}
            key = hierarchy_key(found)
            wrong = n_contradictions(key, function) if function else 0
            known[same] = n_cones(candidate.masks), key, right, _n_passing(found), wrong
        facts.append((known[same], candidate))
    facts.sort(key=lambda fact: (fact[0][0] * fact[1].edges, *rank(fact[1])))
    best = choose(accepted) if accepted else None
    return JudgedTrial(
        trial=trial,
        chosen=next((position for position, (_, candidate) in enumerate(facts) if candidate is best), -1),
        edges=read_only(np.array([candidate.edges for _, candidate in facts], dtype=np.int64)),
        cones=read_only(np.array([fact[0] for fact, _ in facts], dtype=np.int64)),
        passing=read_only(np.array([fact[3] for fact, _ in facts], dtype=np.int64)),
        contradictions=read_only(np.array([fact[4] for fact, _ in facts], dtype=np.int64)),
        shown=tuple(fact[1] for fact, _ in facts),
        right={name: read_only(np.array([fact[2][name] for fact, _ in facts], dtype=np.bool_)) for name in CRITERIA},
    )


def _n_passing(found: ModuleHierarchy) -> int:
    """Count the units that feed another module than their own."""
    source, target = found.labels[found.dag.sources], found.labels[found.dag.targets]
    return len(np.unique(found.dag.sources[(source >= 0) & (target >= 0) & (source != target)]))


def n_certified(found: ModuleHierarchy, target: FunctionGraph) -> int:
    """Count the modules that `modgraph.verify` certifies.

    Each may be a sub-function of the target, of what is expected of it in shallower networks, or of the finest
    decomposition of its truth table.
    """
    graphs = [target, *(graph for depth in (1, 2, 3) if (graph := target.at_depth(depth)) is not None)]
    graphs.append(decompose(target.truth_table()[1], name=f"{target.name}, decomposed"))
    checks = [verify(found, target=graph, n_controls=0) for graph in graphs]
    return sum(any(bool(check.modules[number].certified) for check in checks) for number in range(found.n_modules))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """How the networks do that trials of one function and depth choose together.

    Attributes
    ----------
    right : ndarray of bool, shape (n_trials,)
        Whether the network of each trial is right.
    answer : bool
        Whether the hierarchy with most votes is right, in the network that shows it at the lowest cost.
    share : float
        Its share of the votes; 0 if no trial votes.
    resampled : ndarray of float, shape (N_RESAMPLES,)
        Share of right trials in resamples of the trials, each with a vote of its own.
    """

    right: BoolArray
    answer: bool
    share: float
    resampled: FloatArray


def agreement(
    trials: Sequence[JudgedTrial],
    criterion: str,
    *,
    costs: Sequence[FloatArray | IntArray] | None = None,
    close: float = CLOSE,
    seed: int = 0,
) -> Agreement:
    """Let trials vote as in `modgraph.sculpt.consensus`, and judge the network that each trial then chooses.

    As in `modgraph.sculpt.sculpt`, only the networks of a trial with the fewest contradictions count.

    Parameters
    ----------
    trials : sequence of JudgedTrial
        Of one function and depth.
    criterion : {"inputs", "outputs", "hidden", "exact"}
    costs : sequence of ndarray, each of shape (n,), optional
        In each trial the networks near the lowest cost vote; by default, edges × cones.
    close : float ≥ 0
        How near, as a share.
    seed : int
        Of the resamples.
    """
    if costs is None:
        costs = [trial.edges * trial.cones for trial in trials]
    kept = [trial.contradictions == trial.contradictions.min(initial=_MANY) for trial in trials]
    best: dict[Hashable, tuple[int, int]] = {}
    for trial, keep in zip(trials, kept, strict=True):
        for position in np.flatnonzero(keep):
            place = int(trial.cones[position] * trial.edges[position]), int(trial.edges[position])
            key = trial.shown[position]
            best[key] = min(best.get(key, place), place)
    keys = {key: column for column, key in enumerate(sorted(best, key=lambda key: (best[key], repr(key))))}
    votes = np.zeros((len(trials), len(keys)))
    shows, right = np.zeros((2, *votes.shape), dtype=np.bool_)
    lowest = np.full(votes.shape, np.inf)
    for row, (trial, every, keep) in enumerate(zip(trials, costs, kept, strict=True)):
        if not trial.shown:
            continue
        cost = every[keep]
        columns = np.array([keys[trial.shown[position]] for position in np.flatnonzero(keep)])
        near = cost <= (1 + close) * cost.min()
        votes[row] = np.bincount(columns[near], minlength=len(keys)) / near.sum()
        shown, first = np.unique(columns, return_index=True)  # the first network is the best one
        shows[row, shown] = True
        right[row, shown] = trial.right[criterion][keep][first]
        lowest[row, shown] = cost[first]
    if not keys:
        none = np.zeros(len(trials), dtype=np.bool_)
        return Agreement(right=none, answer=False, share=0.0, resampled=np.zeros(N_RESAMPLES))
    drawn = np.random.default_rng(seed).multinomial(len(trials), [1 / len(trials)] * len(trials), size=N_RESAMPLES)
    counts = np.vstack([np.ones(len(trials), dtype=np.int64), drawn])
    # A trial takes the hierarchy with most votes that it shows. Equally many votes: the lowest cost, by column.
    preferred = counts @ votes - 1e-9 * np.arange(len(keys))  # (1 + N_RESAMPLES, keys)
    taken = np.where(shows, preferred[:, None, :], -np.inf).argmax(axis=2)  # (…, trials)
    is_right = right[np.arange(len(trials)), taken]
    winner = int(preferred[0].argmax())
    return Agreement(
        right=read_only(is_right[0]),
        answer=bool(right[lowest[:, winner].argmin(), winner]),
        share=float(votes[:, winner].sum() / shows.any(axis=1).sum()),
        resampled=read_only((is_right[1:] * drawn).sum(axis=1) / len(trials)),
    )
