"""Functions that numba compiles when they are first called, with a cache that works on any machine.

Numba, which takes half a second to load, is loaded with the first call. Small inputs need neither: inside `plain()`
functions that this process hasn't compiled run as Python, with the same results, for `PLAIN_SECONDS` in all.
"""

from __future__ import annotations

import functools
import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

announce: Callable[[str], None] | None = None
"""Called once, with a sentence, before something is compiled that is not in the cache."""

PLAIN_SECONDS = 5.0
"""How long a process runs such functions as Python. Compiling takes three times as long, loading a fifth."""

PLAIN_UNITS = 64
"""Units of a layer from which on functions are always compiled."""

THREAD_EDGES = 1 << 16
"""Edges of a network from which on several of its layers are worked on at once."""

_plain_since: ContextVar[float | None] = ContextVar("plain_since", default=None)
_plain_spent = 0.0


@contextmanager
def plain(*, largest: int) -> Iterator[None]:
    """Run functions that aren't compiled yet as plain Python if the largest layer has few units.

    Inside another `plain`, that one decides.
    """
    global _plain_spent
    if _plain_since.get() is not None:
        yield
        return
    start = time.process_time()
    token = _plain_since.set(start - _plain_spent if largest < PLAIN_UNITS else -np.inf)
    try:
        # Numba doesn't warn where an integer overflows or a float is divided by 0.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            yield
    finally:
        _plain_since.reset(token)
        if largest < PLAIN_UNITS:
            _plain_spent += time.process_time() - start


class _Calls(threading.local):
    """What a thread is doing."""

    running = 0  # calls of compiled functions


_calls = _Calls()
_interrupted = False


@contextmanager
def interrupts_between_calls() -> Iterator[None]:
    """Raise the KeyboardInterrupt of a signal after a compiled function has returned.

    Raised while numba builds its arguments or result, it may end the process.
    """

    def handle(number: int, frame: Any) -> None:
        global _interrupted
        if _calls.running:
            _interrupted = True
        else:
            signal.default_int_handler(number, frame)

    global _interrupted
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _interrupted = False


class Kernel:
    """A function that is compiled when it is first called. Other attributes are those of numba's dispatcher."""

    def __init__(self, function: Callable[..., Any], *, cache: bool, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._cached, self._options = function, cache, options
        self._dispatcher: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        since = _plain_since.get()
        if self._dispatcher is None and since is not None and time.process_time() - since < PLAIN_SECONDS:
            return self.python(*arguments)
        global _interrupted
        _calls.running += 1
        try:
            result = self.dispatcher(*arguments)
        finally:
            _calls.running -= 1
        if _interrupted and not _calls.running:
            _interrupted = False
            raise KeyboardInterrupt
        return result

    @functools.cached_property
    def python(self) -> Callable[..., Any]:
        """The same as plain Python; it calls what it calls as plain Python, too."""
        function = self._function
        names = dict(function.__globals__)
        for name in function.__code__.co_names:
            if isinstance(names.get(name), Kernel) and names[name] is not self:
                names[name] = names[name].python
        return FunctionType(function.__code__, names, function.__name__, function.__defaults__)

    def without_compiling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate what does the same by array operations, to be called instead of plain Python."""
        self.python = function
        return function

    @property
    def dispatcher(self) -> Any:
        """Numba's dispatcher."""
        if self._dispatcher is None:
            import numba

            dispatcher = numba.njit(**self._options)(self._function)
            if self._cached and hasattr(dispatcher, "enable_caching"):  # not if NUMBA_DISABLE_JIT is set
                found = _cache_of(self._function)
                if found is not None:
                    dispatcher._cache = found
            self._dispatcher = dispatcher
        return self._dispatcher

    def __getattr__(self, name: str) -> Any:
        # Numba asks for `_numba_type_` where one compiled function calls another.
        if name.startswith("__") or name == "_dispatcher":
            raise AttributeError(name)
        return getattr(self.dispatcher, name)


def njit(*, cache: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
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
    return lambda function: Kernel(function, cache=cache, options=options)


def in_threads(function: Callable[[Any], Any], parts: Sequence[Any], *, at_once: int | None = None) -> list[Any]:
    """Call `function` for each part, in as many threads as numba may use; the results in the order of the parts.

    `at_once`: most threads. Threads gain only where the work is done by compiled code that leaves Python to others
    (``nogil``) or by numpy and scipy.
    """
    if len(parts) <= 1 or at_once == 1:
        return [function(part) for part in parts]
    import numba

    n_threads = min(numba.get_num_threads(), len(parts), len(parts) if at_once is None else at_once)
    context = copy_context()
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda part: context.copy().run(function, part), parts))


@functools.cache
def _cache_class() -> type:
    """Return a cache on disk that compiles anew where a file is damaged or can't be written."""
    from numba.core.caching import FunctionCache

    class ForgivingCache(FunctionCache):
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            global announce
            found = None
            try:
                found = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
            except Exception:  # a cut or empty file: unpickling it may raise anything
                try:
                    self.flush()  # type: ignore[no-untyped-call]
                except OSError:
                    self.disable()  # type: ignore[no-untyped-call]
            if found is None and announce is not None:
                announce("compiling, once")
                announce = None
            return found

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)  # type: ignore[no-untyped-call]
            except OSError:  # the disk may be full by now
                self.disable()  # type: ignore[no-untyped-call]

    return ForgivingCache


def _cache_of(function: Callable[..., Any]) -> Any:
    """Open the cache of a function in the first folder that can be written; None where there is none."""
    try:
        return _cache_class()(function)
    except RuntimeError:  # "cannot cache function …: no locator available"
        pass
    folder = _temporary_folder()
    if folder is None:
        return None
    import numba

    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        return _cache_class()(function)
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
