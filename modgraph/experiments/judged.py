"""Stored trials, judged: what each candidate costs, which hierarchy it shows, and whether that is right."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.experiments.store import Store, StoredNetwork
from modgraph.experiments.sweep import Trial, target_of
from modgraph.functions import FunctionGraph, decompose
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted
from modgraph.score import criteria
from modgraph.sculpt import Consensus, consensus, least_contradicting, with_confidence
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
    """The n accepted candidates of one trial, lowest cost first (see `modgraph.sculpt.consensus`)."""

    trial: Trial
    chosen: int  # position of the network that a rule of choice picks alone; −1 if no network was accepted
    edges: IntArray  # (n,)
    cones: IntArray  # (n,)
    passing: IntArray  # units that feed another module than their own, (n,)
    contradictions: IntArray  # pairs of inputs or outputs placed otherwise than the function allows, (n,)
    shown: tuple[Hashable, ...]  # the hierarchy of each
    right: dict[str, BoolArray]  # which meet each of `CRITERIA`, (n,)


def judge(
    store: Store, trial: Trial, *, choose: Callable[[Sequence[StoredNetwork]], StoredNetwork] = fewest_edges
) -> JudgedTrial:
    """Read one trial from the store, judge each different network once, and let a rule of choice pick one."""
    accepted = [candidate for candidate in store.candidates(trial.key) if candidate.accepted]
    target = target_of(trial.function)
    function, depth = dependence(target.truth_table()), len(trial.hidden)
    known: dict[bytes, dict[str, Any]] = {}
    facts = []
    for candidate in accepted:
        same = b"".join(mask.tobytes() for mask in candidate.masks)
        if same not in known:
            found = candidate.hierarchy
            met, key = criteria(found, target), hierarchy_key(found)
            known[same] = {
                "edges": candidate.edges,
                "cones": n_cones(candidate.masks),
                "passing": _n_passing(found),
                "contradictions": n_contradictions(key, function, hidden_layers=depth) if function else 0,
                "shown": key,
                **{name: getattr(met, name) for name in CRITERIA},
            }
        facts.append((known[same], candidate))
    facts.sort(key=lambda fact: (fact[0]["cones"] * fact[0]["edges"], *rank(fact[1])))
    best = choose(accepted) if accepted else None

    def column(name: str, dtype: type = np.int64) -> Any:
        return read_only(np.array([fact[name] for fact, _ in facts], dtype=dtype))

    return JudgedTrial(
        trial=trial,
        chosen=next((position for position, (_, candidate) in enumerate(facts) if candidate is best), -1),
        **{name: column(name) for name in ("edges", "cones", "passing", "contradictions")},
        shown=tuple(fact["shown"] for fact, _ in facts),
        right={name: column(name, np.bool_) for name in CRITERIA},
    )


def _n_passing(found: ModuleHierarchy) -> int:
    """Count the units that feed another module than their own."""
    source, target = found.labels[found.dag.sources], found.labels[found.dag.targets]
    return len(np.unique(found.dag.sources[(source >= 0) & (target >= 0) & (source != target)]))


def right_share(trials: Sequence[JudgedTrial], criterion: str, cost: Callable[[JudgedTrial], IntArray]) -> float:
    """Return the share of trials whose network of the lowest cost is right; ties count in proportion."""
    return float(np.mean([trial.right[criterion][(c := cost(trial)) == c.min()].mean() for trial in trials]))


def agreed_on(store: Store, trials: Sequence[Trial]) -> tuple[Consensus[StoredNetwork] | None, FunctionGraph]:
    """Return what the trials of one function agree on, None if no network was accepted, and the function."""
    target = target_of(trials[0].function)
    accepted = [[one for one in store.candidates(trial.key) if one.accepted] for trial in trials]
    table = target.truth_table()
    agreed = consensus(least_contradicting(accepted, function=table))
    return agreed and with_confidence(agreed, function=table), target


def n_certified(found: ModuleHierarchy, target: FunctionGraph) -> int:
    """Count the modules that `modgraph.verify` certifies.

    Each may be a sub-function of the target, of what is expected of it in shallower networks, or of the finest
    decomposition of its truth table.
    """
    graphs = [target, *(graph for depth in (1, 2, 3) if (graph := target.at_depth(depth)) is not None)]
    graphs.append(decompose(target.truth_table()[1], name=f"{target.name}, decomposed"))
    checks = [verify(found, target=graph, n_controls=0) for graph in graphs]
    return sum(any(bool(check.modules[number].certified) for check in checks) for number in range(found.n_modules))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What trials of one function and depth agree on."""

    text: str  # modules, and how many of them contain inputs and outputs
    votes: float  # its share of the votes
    certified: int  # modules that interventions certify; see `n_certified`
    n_modules: int


def shown_by(store: Store, trials: Sequence[Trial]) -> Shown:
    """Say what trials of one function and depth agree on."""
    agreed, target = agreed_on(store, trials)
    if agreed is None:
        return Shown(text="no network", votes=0, certified=0, n_modules=0)
    found = agreed.hierarchy
    ends = [found.labels[found.dag.layer == layer] for layer in (0, found.dag.n_layers - 1)]
    inputs, outputs = (len(set(labels[labels >= 0].tolist())) for labels in ends)
    return Shown(
        text=f"{counted(found.n_modules, 'module')}; {inputs} of inputs, {outputs} of outputs",
        votes=agreed.share,
        certified=1 if found.n_modules == 1 else n_certified(found, target),  # 1: the function
        n_modules=found.n_modules,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """How the networks do that trials of one function and depth choose together."""

    right: BoolArray  # whether the network of each trial is right, (n_trials,)
    answer: bool  # whether the hierarchy with most votes is right, in the network that shows it at the lowest cost
    share: float  # its share of the votes; 0 if no trial votes
    resampled: FloatArray  # share of right trials in resamples of the trials, each with its own vote, (N_RESAMPLES,)


def agreement(
    trials: Sequence[JudgedTrial],
    criterion: str,
    *,
    costs: Sequence[FloatArray | IntArray] | None = None,
    close: float = CLOSE,
) -> Agreement:
    """Let trials of one function and depth vote as in `modgraph.sculpt.consensus`, and judge what each then chooses.

    In each trial the networks vote whose cost, by default edges × cones, is at most the share `close` above the lowest,
    and of them only those with the fewest contradictions, as in `modgraph.sculpt.sculpt`.
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
    drawn = np.random.default_rng(0).multinomial(len(trials), [1 / len(trials)] * len(trials), size=N_RESAMPLES)
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
