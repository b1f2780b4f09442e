"""`Shown`: what notebooks show of a result, without an import of the rooms that draw it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class Shown:
    """A result that notebooks show as HTML; ``import modgraph`` sets `as_html`."""

    __slots__ = ()
    as_html: ClassVar[Callable[[Any], str | None]] = staticmethod(lambda _: None)

    def _repr_html_(self) -> str | None:
        """Return the result as HTML, or None, for which notebooks show the repr."""
        return Shown.as_html(self)
