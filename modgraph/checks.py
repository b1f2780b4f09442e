"""Argument checks: each returns the checked value or raises one sentence that names the argument and the value."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from modgraph.arrays import BoolArray, FloatArray, IntArray, StrArray

DISTRIBUTION: Final = "modgraph-nn"
"""The name of this package for pip."""


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


def check_ints(name: str, values: Iterable[int], *, at_least: int) -> tuple[int, ...]:
    """Return `values` as a tuple of one or more ints, none below `at_least`."""
    wanted = f"`{name}` must be a sequence of ints ≥ {at_least}, at least one of them"
    try:
        numbers = tuple(values)
    except TypeError:
        raise TypeError(f"{wanted} (got {values!r})") from None
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers)
    if not numbers or not whole or min(numbers) < at_least:
        raise ValueError(f"{wanted} (got {list(numbers)})")
    return tuple(int(number) for number in numbers)


def check_number(name: str, value: Any, accepts: Callable[[float], bool], *, wanted: str) -> float:
    """Return `value` as a number for which `accepts` is true; `wanted` says in words which these are."""
    number = not isinstance(value, bool | np.bool_) and isinstance(value, int | float | np.integer | np.floating)
    if not number or not accepts(value):
        raise ValueError(f"`{name}` must be {wanted} (got {value!r})")
    return float(value)


def check_share(name: str, value: Any, *, above_zero: bool = False) -> float:
    """Return `value` as a number from 0 (or above it) to 1."""
    wanted = f"a number in {'(0' if above_zero else '[0'}, 1]"
    return check_number(name, value, lambda x: (0 < x <= 1) or (x == 0 and not above_zero), wanted=wanted)


def check_hops(hops: int | None, *, n_layers: int) -> int:
    """Return `hops` as a number of steps that can differ from fewer ones: at most ``n_layers − 1``, also for None."""
    return n_layers - 1 if hops is None else min(check_int("hops", hops, at_least=1), n_layers - 1)


def check_positive(name: str, value: Any) -> float:
    """Return `value` as a finite number above 0."""
    return check_number(name, value, lambda x: 0 < x < np.inf, wanted="a number > 0")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        *first, last = (f'"{choice}"' for choice in choices)
        raise ValueError(f"`{name}` must be {', '.join(first)} or {last} (got {value!r})")
    return value


def check_mask(name: str, mask: ArrayLike, *, length: int, item: str) -> BoolArray:
    """Return `mask` as an array with one boolean for each item."""
    array = np.asarray(mask)
    if array.dtype != np.bool_ or array.shape != (length,):
        raise ValueError(
            f"`{name}` must be {length} booleans, one for each {item} (got shape {array.shape}, {array.dtype})"
        )
    return array


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
        with np.errstate(over="ignore"):  # a longdouble beyond the range of float64 becomes infinite
            vector = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be {length} finite numbers (got {values!r})") from None
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise ValueError(f"`{name}` must be {length} finite numbers (got shape {vector.shape})")
    return vector


def check_int_vector(name: str, values: ArrayLike, *, length: int) -> IntArray:
    """Copy `length` ints into a vector."""
    vector = np.array(values)
    if vector.shape != (length,) or vector.dtype.kind not in "iu":
        raise ValueError(f"`{name}` must be {length} ints (got shape {vector.shape}, {vector.dtype})")
    return vector.astype(np.int64)


def require(library: str, *, purpose: str, extra: str) -> Any:
    """Import an optional library, or say what needs it and how to install it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImportError(missing(library, purpose=purpose, extra=extra)) from error


def missing(library: str, *, purpose: str, extra: str) -> str:
    """Say what needs a library, and the command that installs it.

    The command installs the extra from where this package came from: a folder, a file or a repository. If that is not
    recorded, it installs the library alone.
    """
    import json  # these five are slow to load
    import shlex
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    name = library.partition(".")[0]
    try:
        recorded = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        recorded = None
    if recorded is None:
        return f"{purpose} needs {name}: pip install {name}"
    origin = json.loads(recorded)
    url = origin["url"]
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        revision = vcs.get("requested_revision")
        source = f"{DISTRIBUTION}[{extra}] @ {vcs['vcs']}+{url}{'' if revision is None else f'@{revision}'}"
    elif url.startswith("file:"):
        source = f"{url2pathname(urlsplit(url).path)}[{extra}]"
    else:
        source = f"{DISTRIBUTION}[{extra}] @ {url}"
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"{purpose} needs {name}: pip install {editable}{shlex.quote(source)}"


def check_memory(n_bytes: float, *, purpose: str) -> None:
    """Refuse what needs more memory than is free."""
    free = free_memory()
    if free is not None and n_bytes > free:
        raise MemoryError(
            f"{purpose} needs about {n_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: "
            "prune the network further, or use a machine with more"
        )


def free_memory() -> float | None:
    """Return how many bytes this process can still get, by /proc and its control group; None where neither says so."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        pass
    try:
        most, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        found += [float(most) - float(used)] if most != "max" else []
    except OSError:
        pass
    return min(found, default=None)
