"""Compilation by numba with a cache that works on any machine. Importing this room loads numba, which takes 0.5 s."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


class _ForgivingCache(FunctionCache):
    """A cache on disk that compiles anew where a file is damaged or can't be written."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled function; None where it isn't in the cache or its file is damaged."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # a cut or empty file: unpickling it may raise anything
            try:
                self.flush()  # type: ignore[no-untyped-call]
            except OSError:
                self.disable()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled function, if the folder can be written (the disk may be full by now)."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError:
            self.disable()  # type: ignore[no-untyped-call]


def njit(*, cache: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function by ``numba.njit``, whatever folders can be written.

    Compiled code is cached beside the source, else in the user's cache folder (or ``NUMBA_CACHE_DIR``), as numba
    does. Where none of these can be written, it is cached in a folder of the user's own in the temporary folder. Where
    that can't be written either, functions are compiled in each process. Damaged cache files are replaced.

    Parameters
    ----------
    cache : bool
        False: compile in each process.
    **options
        Other options of ``numba.njit``.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> @njit()
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if cache and hasattr(dispatcher, "enable_caching"):  # not if NUMBA_DISABLE_JIT is set
            found = _cache_of(function)
            if found is not None:
                dispatcher._cache = found
        return dispatcher

    return decorate


def _cache_of(function: Callable[..., Any]) -> _ForgivingCache | None:
    """Open the cache of a function in the first folder that can be written; None where there is none."""
    try:
        return _ForgivingCache(function)  # type: ignore[no-untyped-call]
    except RuntimeError:  # "cannot cache function …: no locator available"
        pass
    folder = _temporary_folder()
    if folder is None:
        return None
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        return _ForgivingCache(function)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return None
    finally:
        config.CACHE_DIR = before


def _temporary_folder() -> Path | None:
    """Make a folder in the temporary folder that only this user can write; None where that isn't possible.

    Cached code is executed, so a folder that another user made or can change is never used.
    """
    if not hasattr(os, "getuid"):
        return None
    try:
        folder = Path(tempfile.gettempdir()) / f"modgraph-compiled-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_private = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if is_private and stat.S_ISDIR(status.st_mode) else None
