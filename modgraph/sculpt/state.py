"""Where the sculpting of a wide network stands, in memory and as a file that it can go on from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modgraph.files import replacing
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import Phase
from modgraph.sculpt.prune import Schedule

__all__ = ["Round", "State", "load_state", "save_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One training run of a wide network.

    Attributes
    ----------
    phase : {"dense", "units", "again", "edges"}
    target : float
        Percentage of the dense network's units or edges that was to be pruned; 0 where nothing was.
    sizes : tuple of int
        Units of every layer that the network had, those on no path left out.
    edges : int
        Edges that it had.
    epochs : int
        Passes over the training samples.
    validation, test : float
        Share of right output bits after its best epoch.
    accepted : bool
        Whether the validation accuracy was high enough; if not, the next round starts from the network before.
    seconds : float
        What it took.
    """

    phase: Phase
    target: float
    sizes: tuple[int, ...]
    edges: int
    epochs: int
    validation: float
    test: float
    accepted: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """All that the next round needs.

    Attributes
    ----------
    network : CompactMLP
        The last one accepted.
    threshold : float
        Validation accuracy that accepts a network; 0 until the dense network is trained.
    phase : {"dense", "units", "again", "edges"} or None
        What the next round belongs to; None: nothing is left to do.
    run : int
        Training runs that this phase has had.
    schedule : Schedule
        Of the phase, where it prunes.
    rounds : tuple of Round
        What has been done.
    """

    network: CompactMLP
    threshold: float
    phase: Phase | None
    run: int
    schedule: Schedule
    rounds: tuple[Round, ...]


def save_state(state: State, path: str | os.PathLike[str], *, asked: str) -> None:
    """Write a state, and `asked`, which says what it is a state of, as a whole."""
    network, schedule = state.network, state.schedule
    facts = {
        "asked": asked,
        "sizes": network.sizes,
        "threshold": state.threshold,
        "phase": state.phase,
        "run": state.run,
        "schedule": [schedule.reached[0], schedule.step[0], bool(schedule.running[0]), schedule.smallest],
        "rounds": [asdict(done) for done in state.rounds],
    }
    arrays = {"facts": np.array(json.dumps(facts))}
    for name in ("units", "masks", "weights", "biases"):
        for at, tensor in enumerate(getattr(network, name)):
            arrays[f"{name}{at}"] = tensor.numpy()
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_state(path: str | os.PathLike[str], *, asked: str | None = None) -> State | None:
    """Read a state; None where there is none. If `asked` is given, it must be what was asked for then.

    Raises
    ------
    ValueError
        If it is the state of something else.
    """
    if not Path(path).exists():
        return None
    with np.load(path, allow_pickle=False) as archive:
        facts: dict[str, Any] = json.loads(str(archive["facts"]))
        if asked is not None and facts["asked"] != asked:
            raise ValueError(
                f"`checkpoint` must be of the same task, sizes, seed and settings (got that of others: {path})"
            )
        n_layers = len(facts["sizes"])
        parts = [
            tuple(torch.from_numpy(archive[f"{name}{at}"]) for at in range(count))
            for name, count in (("units", n_layers), *((n, n_layers - 1) for n in ("masks", "weights", "biases")))
        ]
    reached, step, running, smallest = facts["schedule"]
    return State(
        network=CompactMLP(
            sizes=tuple(facts["sizes"]), units=parts[0], masks=parts[1], weights=parts[2], biases=parts[3]
        ),
        threshold=facts["threshold"],
        phase=facts["phase"],
        run=facts["run"],
        schedule=Schedule(
            reached=np.array([reached]), step=np.array([step]), running=np.array([running]), smallest=smallest
        ),
        rounds=tuple(Round(**{**done, "sizes": tuple(done["sizes"])}) for done in facts["rounds"]),
    )
