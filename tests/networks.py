"""The published networks, where they are at hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgraph import LayeredDAG

SHARED = Path(__file__).parents[2] / "shared"
FOLDER = SHARED / "published_networks"

needs_published = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published networks are not beside the repository")


@cache
def published_index() -> list[dict[str, Any]]:
    index: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text())
    return index


def published_dag(entry: dict[str, Any], *, weights: bool = False) -> LayeredDAG:
    levels = range(len(entry["layer_sizes"]) - 1)
    with np.load(FOLDER / entry["file"]) as arrays:
        return LayeredDAG.from_masks(
            [arrays[f"mask{i}"] for i in levels],
            weights=[arrays[f"weight{i}"] for i in levels] if weights else None,
            biases=[arrays[f"bias{i}"] for i in levels] if weights else None,
            activations=["relu"] * (len(levels) - 1) + ["sigmoid"] if weights else None,
        )
