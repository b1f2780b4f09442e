"""How many null networks it takes, and the p-value of what they show.

Null networks are drawn one after the other. A case that is clear either way ends early, by a rule that keeps the
p-value valid (Besag and Clifford, Biometrika 78, 301, 1991; see `modgraph.significance`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.checks import require
from modgraph.files import replacing
from modgraph.stability import in_parallel

Progress = Callable[[int, int], None]
Draw = Callable[[int], tuple[float, float]]
"""Draws a null network by its number: its statistic, and how well its best module is marked off."""

FIRST_LOOK: Final = 19  # null networks after which a clear case ends
CLEAR: Final = 6.0  # standard deviations that are clear
ENOUGH_EXCEEDING: Final = 10  # null networks as modular as the network that end it (h of Besag and Clifford)
MOST_NULL: Final = 199  # null networks at most
EQUAL: Final = 1e-9  # statistics that differ by less are equal but for rounding
FORMAT: Final = "modgraph evidence 3"  # what a file of results is, and of which statistics


def null_values(
    draw: Draw,
    observed: float,
    *,
    n_null: int | None,
    n_jobs: int = 1,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
) -> tuple[FloatArray, FloatArray]:
    """Measure null networks until the rule ends; `fingerprint` tells whether `checkpoint` is of the same ones."""
    most = MOST_NULL if n_null is None else n_null
    results = [] if checkpoint is None else _read(checkpoint, fingerprint)
    at_once = 1
    if n_jobs != 1:
        joblib = require("joblib", purpose="`n_jobs` other than 1", extra="sculpt")
        at_once = max(1, int(joblib.effective_n_jobs(n_jobs)))
    while True:
        needed = how_many(observed, np.array([value for value, _ in results]), n_null)
        if needed is not None:
            results = results[:needed]
            break
        numbers = range(len(results), min(most, len(results) + at_once))
        results += in_parallel(draw, numbers, n_jobs)
        if checkpoint is not None:
            document = {"format": FORMAT, "fingerprint": fingerprint, "null": results}
            with replacing(checkpoint) as part:
                part.write_text(json.dumps(document), encoding="utf-8")
        if progress is not None:
            progress(len(results), most)
    values, marks = np.array(results, dtype=np.float64).reshape(-1, 2).T
    return np.array(values), np.array(marks)


def how_many(observed: float, values: FloatArray, n_null: int | None) -> int | None:
    """Return how many of the null networks the rule needs, or None while it needs more than there are."""
    n = len(values)
    if n_null is not None:
        return n_null if n >= n_null else None
    exceeding = np.cumsum(values >= observed - EQUAL)
    if n and exceeding[-1] >= ENOUGH_EXCEEDING:
        return int(np.argmax(exceeding >= ENOUGH_EXCEEDING)) + 1
    if n >= FIRST_LOOK and exceeding[FIRST_LOOK - 1] == 0 and effect_of(observed, values[:FIRST_LOOK]) >= CLEAR:
        return FIRST_LOOK
    return MOST_NULL if n >= MOST_NULL else None


def p_value_of(observed: float, values: FloatArray, n_null: int | None) -> float:
    """Return the p-value; where the sequential rule ended it, that of Besag and Clifford."""
    n, count = len(values), int((values >= observed - EQUAL).sum())
    return count / n if n_null is None and count >= ENOUGH_EXCEEDING else (1 + count) / (1 + n)


def effect_of(observed: float, values: FloatArray) -> float:
    """Return the distance from the mean in standard deviations; 0 or infinite where all values are equal."""
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    distance = observed - float(values.mean())
    if deviation > EQUAL:
        return distance / deviation
    return 0.0 if abs(distance) <= EQUAL else float(np.copysign(np.inf, distance))


def _read(checkpoint: str | os.PathLike[str], fingerprint: str) -> list[tuple[float, float]]:
    """Read earlier results, if there are any."""
    path = Path(checkpoint)
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["format"], document["fingerprint"]) != (FORMAT, fingerprint):
            raise KeyError
        return [(float(value), float(mark)) for value, mark in document["null"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"`checkpoint` must be evidence on the same network, settings and seed (got {os.fspath(checkpoint)!r})"
        ) from None
