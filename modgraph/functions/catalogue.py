"""The published functions, by name. Their truth tables equal the released ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final

from modgraph.functions.graph import FunctionGraph
from modgraph.functions.subfunction import Bits, SubFunction, suggestion

_USES: Final = (1, 2, 4, 6, 8)


def _products_of_f(a: Bits, b: Bits, c: Bits, d: Bits) -> tuple[Bits, Bits, Bits]:
    """H = the three products of F: ab¬c¬d, a¬bc¬d, ¬a¬bcd."""
    return a & b & (1 - c) & (1 - d), a & (1 - b) & c & (1 - d), (1 - a) & (1 - b) & c & d


def _f(a: Bits, b: Bits, c: Bits, d: Bits) -> Bits:
    """F = ab¬c¬d ∨ a¬bc¬d ∨ ¬a¬bcd."""
    first, second, third = _products_of_f(a, b, c, d)
    return first | second | third


def _g(a: Bits, b: Bits, c: Bits, d: Bits) -> Bits:
    """G = d · (abc ∨ a¬b¬c ∨ ¬ab¬c)."""
    found: Bits = d & (a & b & c | a & (1 - b) & (1 - c) | (1 - a) & b & (1 - c))
    return found


def _one_without_the_other(f: Bits, g: Bits) -> tuple[Bits, Bits]:
    """M = (f¬g, ¬fg)."""
    return f & (1 - g), (1 - f) & g


def _names(stop: int, start: int = 0) -> list[str]:
    return [f"x{number}" for number in range(start, stop)]


def _gates(function: str, **parents: str) -> list[SubFunction]:
    """Return sub-functions with the same gate; each keyword is a name, its value the parents, separated by spaces."""
    return [SubFunction(name, references.split(), function=function) for name, references in parents.items()]


def _separable(name: str) -> FunctionGraph:
    subs = _gates("xor", P="x0 x1", Q="x2 x3")
    return FunctionGraph(name=name, inputs=_names(4), sub_functions=subs, outputs=["P", "~P", "Q", "~Q"])


def _separable_reused(name: str) -> FunctionGraph:
    subs = _gates("and", a="x0 x1", b="x2 x3", c="x4 x5") + _gates("or", a_or_b="a b", a_or_c="a c", b_or_c="b c")
    return FunctionGraph(name=name, inputs=_names(6), sub_functions=subs, outputs=["a_or_b", "a_or_c", "b_or_c"])


def _single(name: str) -> FunctionGraph:
    f = SubFunction("F", _names(4), function=_f)
    return FunctionGraph(name=name, inputs=_names(4), sub_functions=[f], outputs=["F"] * 4)


def _reuse(name: str, use: int) -> FunctionGraph:
    h = SubFunction("H", _names(4), function=_products_of_f, n_outputs=3)
    subs = [h, *_gates("or", A="H.0 H.1", B="H.1 H.2")]
    return FunctionGraph(name=name, inputs=_names(4), sub_functions=subs, outputs=["A", "B"] * use, min_hidden=2)


def _overlap(name: str, shared: int, use: int) -> FunctionGraph:
    inputs = _names(8 - shared)
    subs = [SubFunction("F", inputs[:4], function=_f), SubFunction("G", inputs[-4:], function=_g)]
    return FunctionGraph(name=name, inputs=inputs, sub_functions=subs, outputs=["F", "G"] * use, counts_modules=False)


def _levels(name: str, use: int) -> FunctionGraph:
    subs = [
        SubFunction("f", _names(4), function=_f),
        SubFunction("g", _names(8, 4), function=_g),
        SubFunction("M", ["f", "g"], function=_one_without_the_other, n_outputs=2),
    ]
    shallow = FunctionGraph(name=f"{name}, shallow", inputs=_names(8), sub_functions=subs, outputs=["M.0", "M.1"] * use)
    shown = _gates("identity", f_not_g="M.0", g_not_f="M.1")
    return replace(
        shallow,
        name=name,
        sub_functions=subs + shown,
        outputs=["f_not_g", "g_not_f"] * use,
        min_hidden=3,
        shallow=shallow,
    )


_Builder = Callable[[str], FunctionGraph]
_CATALOGUE: Final[Mapping[str, _Builder]] = MappingProxyType(
    {
        "separable": _separable,
        "reused": partial(_reuse, use=8),
        "separable_reused": _separable_reused,
        "single": _single,
        **{f"reuse_{use}": partial(_reuse, use=use) for use in _USES},
        **{f"overlap_{v}_use_{use}": partial(_overlap, shared=v, use=use) for v in range(5) for use in _USES},
        **{f"levels_use_{use}": partial(_levels, use=use) for use in _USES},
    }
)


def published_names() -> tuple[str, ...]:
    """Names of the published functions.

    Examples
    --------
    >>> len(published_names())
    39
    """
    return tuple(_CATALOGUE)


@lru_cache
def published(name: str) -> FunctionGraph:
    """Return a function of the paper by name, the same object every time.

    `name` is one of `published_names`: ``separable``, ``reused`` (= ``reuse_8``), ``separable_reused``, ``single``,
    ``reuse_{u}``, ``overlap_{v}_use_{u}``, ``levels_use_{u}`` with u = 1, 2, 4, 6, 8 and v = 0…4; else ValueError.

    Examples
    --------
    >>> published("overlap_3_use_8")
    FunctionGraph('overlap_3_use_8', 5 inputs, 2 sub-functions, 16 outputs)
    """
    if name not in _CATALOGUE:
        raise ValueError(f"`name` must be a published function (got {name!r}{suggestion(name, _CATALOGUE)})")
    return _CATALOGUE[name](name)
