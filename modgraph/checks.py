"""Argument checks: each returns the checked value or raises one sentence that names the argument and the value."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgraph.arrays import FloatArray, IntArray, StrArray


def check_int(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> int:
    """Return `value` as an int within its bounds.

    Examples
    --------
    >>> check_int("hops", 0, at_least=1)
    Traceback (most recent call last):
    ValueError: `hops` must be an int ≥ 1 (got 0)
    """
    whole = not isinstance(value, bool | np.bool_) and isinstance(value, int | np.integer)
    if not whole or value < at_least or (at_most is not None and value > at_most):
        bounds = f"≥ {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"`{name}` must be an int {bounds} (got {value!r})")
    return int(value)


def check_share(name: str, value: Any, *, above_zero: bool = False) -> float:
    """Return `value` as a number from 0 (or above it) to 1.

    Examples
    --------
    >>> check_share("merge_threshold", 1.5, above_zero=True)
    Traceback (most recent call last):
    ValueError: `merge_threshold` must be a number in (0, 1] (got 1.5)
    """
    number = not isinstance(value, bool | np.bool_) and isinstance(value, int | float | np.integer | np.floating)
    if not number or not (value > 0 if above_zero else value >= 0) or not value <= 1:
        raise ValueError(f"`{name}` must be a number in {'(0' if above_zero else '[0'}, 1] (got {value!r})")
    return float(value)


def check_texts(name: str, texts: Sequence[str] | StrArray, *, length: int) -> StrArray:
    """Copy `length` texts into an array."""
    is_text_array = isinstance(texts, np.ndarray) and texts.dtype.kind == "U"
    if isinstance(texts, str) or not (is_text_array or all(isinstance(text, str) for text in texts)):
        raise ValueError(f"`{name}` must be a sequence of texts (got {texts!r})")
    if len(texts) != length:
        raise ValueError(f"`{name}` must be {length} texts (got {len(texts)})")
    return np.array(texts, dtype=np.str_)


def check_finite_vector(name: str, values: ArrayLike, *, length: int) -> FloatArray:
    """Copy `length` finite numbers into a vector."""
    try:
        vector = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be {length} finite numbers (got {values!r})") from None
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise ValueError(f"`{name}` must be {length} finite numbers (got shape {vector.shape})")
    return vector


def check_ints(name: str, values: ArrayLike, *, length: int) -> IntArray:
    """Copy `length` ints into a vector."""
    vector = np.array(values)
    if vector.shape != (length,) or vector.dtype.kind not in "iu":
        raise ValueError(f"`{name}` must be {length} ints (got shape {vector.shape}, {vector.dtype})")
    return vector.astype(np.int64)


def require(library: str, *, purpose: str, extra: str) -> Any:
    """Import an optional library, or say what needs it and which extra brings it.

    Examples
    --------
    >>> require("no_such_library", purpose="`draw`", extra="draw")
    Traceback (most recent call last):
    ImportError: `draw` needs no_such_library: pip install 'modgraph-nn[draw]'
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {library}: pip install 'modgraph-nn[{extra}]'") from error
