"""Checkpoints: the state of the sculpting of a wide network, and the file it can continue from."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modgraph.files import replacing
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import Phase
from modgraph.sculpt.prune import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One training run of a wide network.

    Attributes
    ----------
    phase : {"dense", "units", "again", "edges"}
    target : float
        Percentage of the dense network's units or edges that pruning was to remove; 0 where nothing is pruned.
    sizes : tuple of int
        Units of every layer of the trained network, without those on no path.
    edges : int
        Number of its edges.
    epochs : int
        Passes over the training samples.
    validation, test : float
        Share of correct output bits after the best epoch.
    accepted : bool
        Whether the validation accuracy was high enough; if not, the next round starts from the network before this one.
    seconds : float
        Wall-clock time.
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
    """Everything that the next round needs."""

    network: CompactMLP  # the last accepted network
    threshold: float  # validation accuracy from which a network is accepted; 0 until the dense network is trained
    phase: Phase | None  # phase of the next round; None: finished
    run: int  # number of training runs of this phase so far
    schedule: Schedule  # used in the phases "units" and "edges"
    rounds: tuple[Round, ...]  # all rounds so far


def save_state(state: State, path: str | os.PathLike[str], *, asked: str) -> None:
    """Write a state, and `asked`, which identifies the task and the settings, to a file (atomically)."""
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
    """Read a state, None if there is no such file; a file that is none, or has another `asked`, raises a ValueError."""
    if not Path(path).exists():
        return None
    try:
        state, asked_before = _read(path)
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`checkpoint` must be a file that sculpt_wide has written ({path} is not)") from error
    if asked is not None and asked_before != asked:
        raise ValueError(
            f"`checkpoint` must belong to the same task, sizes, seed and settings ({path} belongs to others)"
        )
    return state


def _read(path: str | os.PathLike[str]) -> tuple[State, str]:
    """Read a state and what `save_state` got as `asked`."""
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
        facts: dict[str, Any] = json.loads(str(archive["facts"]))
        n_layers = len(facts["sizes"])
        units, masks, weights, biases = (
            tuple(torch.from_numpy(archive[f"{name}{at}"]) for at in range(count))
            for name, count in (("units", n_layers), *((n, n_layers - 1) for n in ("masks", "weights", "biases")))
        )
    reached, step, running, smallest = facts["schedule"]
    state = State(
        network=CompactMLP(sizes=tuple(facts["sizes"]), units=units, masks=masks, weights=weights, biases=biases),
        threshold=facts["threshold"],
        phase=facts["phase"],
        run=facts["run"],
        schedule=Schedule(
            reached=np.array([reached]), step=np.array([step]), running=np.array([running]), smallest=smallest
        ),
        rounds=tuple(Round(**{**done, "sizes": tuple(done["sizes"])}) for done in facts["rounds"]),
    )
    return state, facts["asked"]
