"""How much memory the content of one file may take: a fixed amount, and more for a larger file.

A few bytes can describe gigabytes: compressed zeros, one tensor under many names, an array doubled again and again.
`load_network` opens one budget for each file, and whatever makes arrays spends from it first. Live objects have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

BYTES_FOR_ANY_FILE = 1 << 26
BYTES_FOR_EACH_BYTE = 256  # of the file; a dense layer stored as 16-bit numbers takes a twentieth of this
EDGE_BYTES = 32  # source, target and weight, and room to sort them
UNIT_BYTES = 128  # layer, index, bias, and the name of an activation

_left: ContextVar[int | None] = ContextVar("bytes left", default=None)


@contextmanager
def budget(file_size: int) -> Iterator[None]:
    """Limit what is spent inside the block to what a file of `file_size` bytes may take."""
    token = _left.set(BYTES_FOR_ANY_FILE + BYTES_FOR_EACH_BYTE * file_size)
    try:
        yield
    finally:
        _left.reset(token)


def grant(file_size: int) -> None:
    """Add what one more file, which belongs to the first, may take."""
    left = _left.get()
    if left is not None:
        _left.set(left + BYTES_FOR_EACH_BYTE * file_size)


def bytes_left() -> int | None:
    """Return what is left of the budget; None outside one."""
    return _left.get()


def spend(n_bytes: int, name: str) -> None:
    """Take `n_bytes` from the budget, before they are made; raise ValueError if fewer are left."""
    left = _left.get()
    if left is None:
        return
    if n_bytes > left:
        raise ValueError(f"{name} would take {n_bytes} bytes, more than a file of this size may take ({left} are left)")
    _left.set(left - n_bytes)
