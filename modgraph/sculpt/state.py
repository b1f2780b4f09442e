"""Checkpoints: files from which `sculpt` and `sculpt_wide` continue."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from modgraph.files import replacing
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import Population, Search
from modgraph.sculpt.objective import name_of
from modgraph.sculpt.prune import Schedule
from modgraph.sculpt.rounds import Round, State
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import Task

Arrays = dict[str, NDArray[Any]]
Built = TypeVar("Built")


def fingerprint(*parts: Any) -> str:
    """Return a text that identifies tasks, settings and whatever else prints; functions count by their names."""
    texts = []
    for part in parts:
        if isinstance(part, Task):
            digest = hashlib.sha256()
            for tensor in (part.inputs, part.targets):
                digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
            texts.append(digest.hexdigest())
        elif hasattr(part, "__dataclass_fields__"):
            values = ((field.name, getattr(part, field.name)) for field in fields(part))
            texts.append(str([(name, name_of(value) if callable(value) else value) for name, value in values]))
        else:
            texts.append(name_of(part) if callable(part) else str(part))
    return " ".join(texts)


def save_state(state: State[CompactMLP], path: str | os.PathLike[str], *, asked: str) -> None:
    """Write the state of `sculpt_wide`, and `asked`, which identifies what it was asked for, to a file (atomically)."""
    network = state.network
    facts = {
        "sizes": network.sizes,
        "dense": state.dense,
        "threshold": state.threshold,
        "phase": state.phase,
        "run": state.run,
        "rounds": [asdict(done) for done in state.rounds],
    }
    arrays = _schedule_arrays(state.schedule)
    for name in ("units", "masks", "weights", "biases"):
        for at, tensor in enumerate(getattr(network, name)):
            arrays[f"{name}{at}"] = tensor.cpu().numpy()
    _write(path, arrays, facts, asked=asked)


def load_state(
    path: str | os.PathLike[str], *, asked: str | None = None, device: torch.device | None = None
) -> State[CompactMLP] | None:
    """Read a state, None if there is no such file; a file that is none, or has another `asked`, raises a ValueError."""
    return _read(path, lambda arrays, facts: _wide_state(arrays, facts, device), asked=asked)


def _wide_state(arrays: Arrays, facts: dict[str, Any], device: torch.device | None) -> State[CompactMLP]:
    n_layers = len(facts["sizes"])
    units, masks, weights, biases = (
        tuple(torch.from_numpy(arrays[f"{name}{at}"]).to(device) for at in range(count))
        for name, count in (("units", n_layers), *((n, n_layers - 1) for n in ("masks", "weights", "biases")))
    )
    return State(
        network=CompactMLP(sizes=tuple(facts["sizes"]), units=units, masks=masks, weights=weights, biases=biases),
        dense=facts["dense"],
        threshold=facts["threshold"],
        phase=facts["phase"],
        run=facts["run"],
        schedule=_schedule(arrays),
        rounds=tuple(Round(**{**done, "sizes": tuple(done["sizes"])}) for done in facts["rounds"]),
    )


def save_search(search: Search, path: str | os.PathLike[str], *, asked: str) -> None:
    """Write the state of `sculpt`, as `save_state` does that of `sculpt_wide`."""
    stack = search.networks.stack
    arrays = _schedule_arrays(search.schedule)
    arrays |= {"parameters": stack.parameters.cpu().numpy(), "kept": stack.kept.cpu().numpy()}
    arrays |= {"seeds": search.networks.seeds, "correct": search.networks.correct}
    facts = {"sizes": stack.sizes, "phase": search.phase, "run": search.run, "network_steps": search.network_steps}
    _write(path, arrays, facts, asked=asked)


def load_search(path: str | os.PathLike[str], *, asked: str, device: torch.device) -> Search | None:
    """Read the state of `sculpt`, as `load_state` does that of `sculpt_wide`."""

    def build(arrays: Arrays, facts: dict[str, Any]) -> Search:
        parameters, kept = (torch.from_numpy(arrays[name]).to(device) for name in ("parameters", "kept"))
        stack = StackedMLP(sizes=tuple(facts["sizes"]), parameters=parameters, kept=kept)
        return Search(
            networks=Population(stack=stack, seeds=arrays["seeds"], correct=arrays["correct"]),
            phase=facts["phase"],
            run=facts["run"],
            schedule=_schedule(arrays),
            network_steps=facts["network_steps"],
        )

    return _read(path, build, asked=asked)


def _schedule_arrays(schedule: Schedule) -> Arrays:
    names = ("reached", "step", "running", "smallest")
    return {f"schedule_{name}": np.asarray(getattr(schedule, name)) for name in names}


def _schedule(arrays: Arrays) -> Schedule:
    return Schedule(
        reached=arrays["schedule_reached"],
        step=arrays["schedule_step"],
        running=arrays["schedule_running"],
        smallest=float(arrays["schedule_smallest"]),
    )


def _write(path: str | os.PathLike[str], arrays: Arrays, facts: dict[str, Any], *, asked: str) -> None:
    arrays = arrays | {"facts": np.array(json.dumps(facts | {"asked": asked}))}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(
    path: str | os.PathLike[str], build: Callable[[Arrays, dict[str, Any]], Built], *, asked: str | None
) -> Built | None:
    """Return what `build` makes of the arrays and facts in a file; None if there is no file."""
    if not Path(path).exists():
        return None
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        facts = json.loads(str(arrays.pop("facts")))
        state, asked_before = build(arrays, facts), facts["asked"]
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`checkpoint` must be a file that modgraph has written ({path} is not)") from error
    if asked is not None and asked_before != asked:
        raise ValueError(
            f"`checkpoint` must belong to the same task, sizes, seeds and settings ({path} belongs to others)"
        )
    return state
