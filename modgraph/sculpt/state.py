"""Checkpoints: files from which `sculpt` and `sculpt_wide` continue."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

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

KINDS = {kind.__name__: kind for kind in (CompactMLP, Population, Round, Schedule, Search, StackedMLP, State)}
"""What states are made of."""


def fingerprint(*parts: Any) -> str:
    """Return a text that identifies tasks, settings and whatever else prints; functions count by their names."""
    texts = []
    for part in parts:
        if isinstance(part, Task):
            digest = hashlib.sha256()
            for tensor in (part.inputs, part.targets):
                digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
            texts.append(digest.hexdigest())
        elif is_dataclass(part):
            values = ((field.name, getattr(part, field.name)) for field in fields(part))
            texts.append(str([(name, name_of(value) if callable(value) else value) for name, value in values]))
        else:
            texts.append(name_of(part) if callable(part) else str(part))
    return " ".join(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A file that holds a state, or None, which holds nothing."""

    path: str | os.PathLike[str] | None
    asked: str | None = None  # what the state belongs to, by its `fingerprint`; None: any is read
    device: torch.device | None = None  # where the tensors go that are read

    def save(self, state: Any) -> None:
        """Write a `State` or a `Search` (atomically)."""
        if self.path is None:
            return
        arrays: dict[str, NDArray[Any]] = {}
        facts = json.dumps({"state": _packed(state, arrays), "asked": self.asked})
        with replacing(self.path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(facts), **arrays)

    def load(self) -> Any:
        """Read the state; None if there is no file. Another file, or other `asked`, raises a ValueError."""
        if self.path is None or not Path(self.path).exists():
            return None
        try:
            with Path(self.path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            facts = json.loads(str(arrays.pop("facts")))
            state, asked = _unpacked(facts["state"], arrays, self.device), facts["asked"]
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"`checkpoint` must be a file that modgraph has written ({self.path} is not)") from error
        if self.asked is not None and asked != self.asked:
            raise ValueError(
                f"`checkpoint` must belong to the same task, sizes, seeds and settings ({self.path} belongs to others)"
            )
        return state


def _packed(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return a part of a state as JSON has it; its tensors and arrays go to `arrays`."""
    if isinstance(value, torch.Tensor | np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = value.cpu().numpy() if isinstance(value, torch.Tensor) else value
        return {"tensor" if isinstance(value, torch.Tensor) else "array": name}
    if isinstance(value, tuple):
        return [_packed(part, arrays) for part in value]
    if is_dataclass(value):
        parts = {field.name: _packed(getattr(value, field.name), arrays) for field in fields(value)}
        return {"kind": type(value).__name__, "parts": parts}
    return value


def _unpacked(value: Any, arrays: dict[str, NDArray[Any]], device: torch.device | None) -> Any:
    """Return what `_packed` got."""
    if isinstance(value, list):
        return tuple(_unpacked(part, arrays, device) for part in value)
    if not isinstance(value, dict):
        return value
    if "kind" in value:
        return KINDS[value["kind"]](**{k: _unpacked(part, arrays, device) for k, part in value["parts"].items()})
    return torch.from_numpy(arrays[value["tensor"]]).to(device) if "tensor" in value else arrays[value["array"]]
