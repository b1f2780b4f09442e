"""One sub-function: a gate or a callable on bits, and the checks of both."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import read_only
from modgraph.checks import check_int

Bits = NDArray[np.uint8]
BitFunction = Callable[..., Any]

GATES: Final[Mapping[str, BitFunction]] = MappingProxyType(
    {
        "identity": lambda a: a,
        "not": lambda a: 1 - a,
        "and": lambda a, b, *more: reduce(np.bitwise_and, (a, b, *more)),
        "or": lambda a, b, *more: reduce(np.bitwise_or, (a, b, *more)),
        "xor": lambda a, b, *more: reduce(np.bitwise_xor, (a, b, *more)),
        "nand": lambda a, b, *more: 1 - reduce(np.bitwise_and, (a, b, *more)),
        "nor": lambda a, b, *more: 1 - reduce(np.bitwise_or, (a, b, *more)),
        "xnor": lambda a, b, *more: 1 - reduce(np.bitwise_xor, (a, b, *more)),
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class SubFunction:
    """One sub-function: what it reads and what it computes.

    Parameters
    ----------
    name : str
        Without ``"."`` and not starting with ``"~"``.
    parents : sequence of str
        References to the values it reads, in the order of the arguments of `function`.
    function : str or callable
        A gate (identity, not, and, or, xor, nand, nor, xnor), or any callable. It is called with one read-only uint8
        array (n,) of 0 and 1 for each parent bit, and returns a binary array (n,), or `n_outputs` of them. Write
        *not a* as ``1 - a``.
    n_outputs : int, default 1
        Number of bits it computes, ≥ 1.

    Raises
    ------
    ValueError
        If a field is not as described.

    Examples
    --------
    >>> SubFunction("P", ["x0", "x1"], function="xor")
    SubFunction('P' = xor(x0, x1))
    """

    name: str
    parents: Sequence[str]
    _: KW_ONLY
    function: str | BitFunction
    n_outputs: int = 1

    def __post_init__(self) -> None:
        check_name("name", self.name)
        object.__setattr__(self, "parents", check_strings(f"parents` of `{self.name}", self.parents))
        check_int(f"n_outputs` of `{self.name}", self.n_outputs, at_least=1)
        if not callable(self.function) and str(self.function) not in GATES:
            hint = suggestion(self.function, GATES)
            raise ValueError(f"`function` of `{self.name}` must be a callable or a gate (got {self.function!r}{hint})")

    def __repr__(self) -> str:
        gate = self.function if isinstance(self.function, str) else getattr(self.function, "__name__", "…")
        bits = f" → {self.n_outputs} bits" if self.n_outputs > 1 else ""
        return f"SubFunction({self.name!r} = {gate}({', '.join(self.parents)}){bits})"


def compute(sub: SubFunction, bits: Sequence[Bits]) -> Bits:
    """Apply `sub` to its parent bits, one array (n,) each; returns shape (n, `n_outputs` of `sub`)."""
    function = GATES[sub.function] if isinstance(sub.function, str) else sub.function
    shape = (sub.n_outputs, *bits[0].shape)
    returned = function(*bits)
    try:
        result = np.asarray(returned)
    except ValueError as error:  # arrays of several lengths
        raise ValueError(f"`function` of `{sub.name}` must give {shape[0]} × {shape[1]} bits ({error})") from error
    if result.shape != shape and not (sub.n_outputs == 1 and result.shape == shape[1:]):
        raise ValueError(f"`function` of `{sub.name}` must give {sub.n_outputs} × {shape[1]} bits (got {result.shape})")
    if not (binary := np.isin(result, (0, 1))).all():
        raise ValueError(f"`function` of `{sub.name}` must give 0 or 1 (got {result[~binary][0]}; not a is 1 - a)")
    return read_only_bits(result.reshape(shape).T)


def check_arity(sub: SubFunction, n_bits: int) -> None:
    """Raise ValueError if the function of `sub` does not take `n_bits` arguments."""
    function = GATES[sub.function] if isinstance(sub.function, str) else sub.function
    if isinstance(function, np.ufunc):
        fits = function.nin == n_bits
    else:
        try:
            inspect.signature(function).bind(*range(n_bits))
            fits = True
        except TypeError:
            fits = False
        except ValueError:  # built-ins may hide their signature
            fits = True
    if not fits:
        label = sub.function if isinstance(sub.function, str) else getattr(sub.function, "__name__", "it")
        raise ValueError(f"`parents` of `{sub.name}` must be as many bits as `{label}` takes (got {n_bits})")


def patterns(n_bits: int) -> Bits:
    """Return all patterns of 0 and 1, shape (2**n_bits, n_bits), most significant bit first."""
    octets = np.arange(2**n_bits, dtype=">u4").view(np.uint8).reshape(-1, 4)
    return read_only_bits(np.unpackbits(octets, axis=1)[:, 32 - n_bits :])


def read_only_bits(array: NDArray[Any]) -> Bits:
    """Copy `array` as uint8, read-only."""
    return read_only(np.array(array, dtype=np.uint8))


def suggestion(name: object, names: Iterable[str]) -> str:
    """Return the names that are spelt almost like `name`, as the end of an error message; empty without any."""
    matches = difflib.get_close_matches(str(name), list(names))
    return f"; nearest: {', '.join(matches)}" if matches else ""


def check_strings(argument: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return `values` as a tuple; ValueError unless they are one or more str."""
    names = () if isinstance(values, str) else tuple(values)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`{argument}` must be a non-empty sequence of str (got {values!r})")
    return names


def check_name(argument: str, name: object) -> None:
    """Raise ValueError if a reference could not contain `name`."""
    if not isinstance(name, str) or not name or "." in name or name.startswith("~"):
        raise ValueError(f"`{argument}` must be a non-empty str without '.' or a leading '~' (got {name!r})")
