"""What flows between the operations of a network: sums and units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from modgraph.arrays import FloatArray, IntArray
from modgraph.forward import ACTIVATIONS

# Where functions of one number are compared with the known activations.
_GRID: FloatArray = np.array([-3.1, -2.2, -1.3, -0.7, -0.2, 0.3, 0.8, 1.4, 2.2, 3.3, 7.0])
_TOLERANCE = 5e-5  # less than the exact and the approximate GELU differ there
_OVER_UNITS = ("softmax", "log_softmax")  # not functions of one number
_FUNCTIONS: Mapping[str, Callable[..., FloatArray]] = {
    **{name: function for name, function in ACTIVATIONS.items() if name not in _OVER_UNITS},
    "erf": erf,
    "pow": np.power,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "sign": np.sign,
    "reciprocal": np.reciprocal,
    "log": np.log,
    "log1p": np.log1p,
}


@dataclass(slots=True, kw_only=True, eq=False)
class Block:
    """Units made at once; `layer` is one more than that of the last block that it reads."""

    name: str
    first: int
    size: int
    layer: int
    sums: Sums | None  # None for inputs
    is_output: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Function:
    """A function that is applied to every entry of a part by itself: of which part, and its values on a grid."""

    of: Sums | Units
    values: FloatArray | None = None  # None where they are not known

    def then(self, activation: str) -> Function:
        """Apply an activation to the result."""
        name, _, number = activation.partition(":")
        if self.values is None or name not in _FUNCTIONS:
            return Function(of=self.of)
        with np.errstate(all="ignore"):
            return Function(of=self.of, values=_FUNCTIONS[name](self.values, *([float(number)] if number else [])))

    def scaled(self, scale: FloatArray, shift: FloatArray) -> Function:
        """Multiply and shift the result; by the same numbers for every entry, or the values are not known."""
        same = self.values is not None and np.ptp(scale) == 0 and np.ptp(shift) == 0
        return Function(of=self.of, values=self.values * scale[0] + shift[0] if same else None)

    def joined(self, others: Sequence[Function], *, multiply: bool) -> Function:
        """Add or multiply functions of the same part."""
        values = [one.values for one in (self, *others)]
        known = [one for one in values if one is not None]
        if len(known) < len(values):
            return Function(of=self.of)
        return Function(of=self.of, values=np.prod(known, axis=0) if multiply else np.sum(known, axis=0))

    @property
    def name(self) -> str | None:
        """The activation that it is, if it is a known one."""
        for name in ACTIVATIONS:
            if name not in _OVER_UNITS and self.values is not None:
                with np.errstate(all="ignore"):
                    if np.allclose(_FUNCTIONS[name](_GRID), self.values, rtol=_TOLERANCE, atol=_TOLERANCE):
                        return name
        return None


@dataclass(slots=True, kw_only=True, eq=False)
class Sums:
    """Weighted sums of units, one a row, and the activations to come on top; no units yet.

    `marks` say what else a row is than a weighted sum: the edges are right, a forward pass isn't possible.
    """

    name: str
    rows: IntArray
    units: IntArray
    weights: FloatArray
    biases: FloatArray
    dense_edges: int
    blocks: frozenset[int]  # those read
    activations: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()
    made: Units | None = None
    base: Sums | None = None  # what these are, times `scale`, plus `shift`
    scale: FloatArray | None = None
    shift: FloatArray | None = None
    function: Function | None = None  # None: these sums are a function of no other part

    @property
    def size(self) -> int:
        """Number of sums."""
        return int(self.biases.size)


@dataclass(slots=True, kw_only=True, eq=False)
class Units:
    """Units that exist, times `scale`, plus `shift`, and what else happened to them on the way."""

    units: IntArray
    blocks: frozenset[int]
    scale: FloatArray | None = None
    shift: FloatArray | None = None
    after: tuple[str, ...] = ()
    function: Function | None = None

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.units.size)


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """An input; its units are made when something reads it, and its size may not be known before."""

    name: str
    size: int | None = None
    unit_names: Sequence[str] | None = None
    made: Units | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Value:
    """What flows between operations.

    `maps`: each entry is a feature map (channels with positions). `flat`: such maps were flattened, so that each unit
    stands for as many entries in a row as it had positions. `turned`: it is transposed, units in rows.
    """

    parts: tuple[Sums | Units | Entry, ...]
    maps: bool = False
    flat: bool = False
    turned: bool = False

    @property
    def entry(self) -> Entry | None:
        """The input that this is, while its size is not known."""
        first = self.parts[0]
        return first if isinstance(first, Entry) and first.size is None else None


def function_of(part: Sums | Units) -> Function:
    """Return the function that a part is, of itself if of no other."""
    return Function(of=part, values=_GRID) if part.function is None else part.function


def dense_size(operands: Sequence[Sequence[Sums]]) -> int:
    """Count the edges of the dense network; operands that read the same units share them."""
    most: dict[frozenset[int], int] = {}
    for pieces in operands:
        counts: dict[frozenset[int], int] = {}
        for piece in pieces:
            counts[piece.blocks] = counts.get(piece.blocks, 0) + piece.dense_edges
        for blocks, count in counts.items():
            most[blocks] = max(most.get(blocks, 0), count)
    return sum(most.values())


def filled(values: FloatArray | None, otherwise: float, size: int) -> FloatArray:
    """Return `values`, or as many times `otherwise` where there are none."""
    return np.full(size, otherwise) if values is None else values


def marks_of(after: tuple[str, ...]) -> frozenset[str]:
    """Mark what happened between units and the sums of them."""
    return frozenset({f"{' and '.join(after)} before"}) if after else frozenset()


def activation_of(sums: Sums | None) -> str:
    """Name what units made of sums do, with the marks in front, in brackets."""
    if sums is None:
        return "identity"
    marks = [f"({', '.join(sorted(sums.marks))})"] if sums.marks else []
    return "+".join([*marks, *sums.activations]) or "identity"


def merged(
    rows: IntArray, units: IntArray, weights: FloatArray, *, width: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Add up the weights of equal pairs."""
    pairs, which = np.unique(rows * width + units, return_inverse=True)
    total = np.bincount(which, weights, minlength=pairs.size).astype(np.float64)
    return pairs // width, pairs % width, total
