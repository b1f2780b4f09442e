"""Stored trials, judged: what each candidate costs, which hierarchy it shows, and whether that is right."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.experiments.store import Store, StoredNetwork
from modgraph.experiments.sweep import Trial
from modgraph.functions import published
from modgraph.score import criteria
from modgraph.sculpt.choose import CLOSE, hierarchy_key, n_cones, rank

N_RESAMPLES = 1000
"""Resamples of the trials for an interval of the agreement's success rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedTrial:
    """The accepted candidates of one trial, best first: by cones, then edges (see `modgraph.sculpt.choose`).

    Attributes
    ----------
    trial : Trial
    networks : tuple of StoredNetwork
    edges, cones : ndarray of int, shape (n,)
    shown : tuple of hashable
        The hierarchy of each (see `modgraph.sculpt.choose.hierarchy_key`).
    right : mapping of str to ndarray of bool, shape (n,)
        Which candidates meet each of the paper's criteria: "inputs", "outputs", "hidden", "exact".
    """

    trial: Trial
    networks: tuple[StoredNetwork, ...]
    edges: IntArray
    cones: IntArray
    shown: tuple[Hashable, ...]
    right: dict[str, BoolArray]


def judge(store: Store, trial: Trial) -> JudgedTrial:
    """Read one trial from the store and judge each different network once."""
    accepted = [candidate for candidate in store.candidates(trial.key) if candidate.accepted]
    target = published(trial.function)
    known: dict[bytes, tuple[int, Hashable, dict[str, bool]]] = {}
    facts = []
    for candidate in accepted:
        same = b"".join(mask.tobytes() for mask in candidate.masks)
        if same not in known:
            found = candidate.hierarchy
            met = criteria(found, target)
            right = {name: bool(getattr(met, name)) for name in ("inputs", "outputs", "hidden", "exact")}
            known[same] = n_cones(candidate.masks), hierarchy_key(found), right
        facts.append((known[same], candidate))
    facts.sort(key=lambda fact: (fact[0][0], *rank(fact[1])))
    names = ("inputs", "outputs", "hidden", "exact")
    return JudgedTrial(
        trial=trial,
        networks=tuple(candidate for _, candidate in facts),
        edges=read_only(np.array([candidate.edges for _, candidate in facts], dtype=np.int64)),
        cones=read_only(np.array([fact[0] for fact, _ in facts], dtype=np.int64)),
        shown=tuple(fact[1] for fact, _ in facts),
        right={name: read_only(np.array([fact[2][name] for fact, _ in facts], dtype=np.bool_)) for name in names},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """How the networks do that trials of one function and depth choose together.

    Attributes
    ----------
    right : ndarray of bool, shape (n_trials,)
        Whether the network of each trial is right.
    share : float
        Share of the votes for the hierarchy with most votes; 0 if no trial votes.
    resampled : ndarray of float, shape (N_RESAMPLES,)
        Share of right trials in resamples of the trials, each with a vote of its own.
    """

    right: BoolArray
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

    Parameters
    ----------
    trials : sequence of JudgedTrial
        Of one function and depth.
    criterion : {"inputs", "outputs", "hidden", "exact"}
    costs : sequence of ndarray, each of shape (n,), optional
        What the voting networks are near the least of in each trial; by default their cones.
    close : float ≥ 0
        How near, as a share.
    seed : int
        Of the resamples.
    """
    if costs is None:
        costs = [trial.cones for trial in trials]
    best: dict[Hashable, tuple[int, int]] = {}
    for trial in trials:
        for key, *size in zip(trial.shown, trial.cones.tolist(), trial.edges.tolist(), strict=True):
            best[key] = min(best.get(key, (size[0], size[1])), (size[0], size[1]))
    keys = {key: column for column, key in enumerate(sorted(best, key=lambda key: (best[key], repr(key))))}
    votes = np.zeros((len(trials), len(keys)))
    shows, right = np.zeros((2, *votes.shape), dtype=np.bool_)
    for row, (trial, cost) in enumerate(zip(trials, costs, strict=True)):
        if not trial.shown:
            continue
        columns = np.array([keys[key] for key in trial.shown])
        near = cost <= (1 + close) * cost.min()
        votes[row] = np.bincount(columns[near], minlength=len(keys)) / near.sum()
        shown, first = np.unique(columns, return_index=True)  # the first network is the best one
        shows[row, shown] = True
        right[row, shown] = trial.right[criterion][first]
    if not keys:
        return Agreement(right=np.zeros(len(trials), dtype=np.bool_), share=0.0, resampled=np.zeros(N_RESAMPLES))
    drawn = np.random.default_rng(seed).multinomial(len(trials), [1 / len(trials)] * len(trials), size=N_RESAMPLES)
    counts = np.vstack([np.ones(len(trials), dtype=np.int64), drawn])
    # A trial takes the hierarchy with most votes that it shows. Equally many votes: the smallest cones, by column.
    preferred = counts @ votes - 1e-9 * np.arange(len(keys))  # (1 + N_RESAMPLES, keys)
    taken = np.where(shows, preferred[:, None, :], -np.inf).argmax(axis=2)  # (…, trials)
    is_right = right[np.arange(len(trials)), taken]
    voting = max(1, int(shows.any(axis=1).sum()))
    return Agreement(
        right=read_only(is_right[0]),
        share=float((votes.sum(axis=0)).max() / voting),
        resampled=read_only((is_right[1:] * drawn).sum(axis=1) / len(trials)),
    )
