"""What flows between the operations of a network: sums and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgraph.arrays import FloatArray, IntArray


@dataclass(slots=True, kw_only=True, eq=False)
class Block:
    """Units made at once; `layer` is one more than that of the last block that it reads."""

    name: str
    first: int
    size: int
    layer: int
    sums: Sums | None  # None for inputs
    is_output: bool = False


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

    @property
    def size(self) -> int:
        """Number of sums."""
        return int(self.biases.size)


@dataclass(slots=True, kw_only=True, eq=False)
class Units:
    """Units that are there, times `scale`, plus `shift`, and what else happened to them on the way."""

    units: IntArray
    blocks: frozenset[int]
    scale: FloatArray | None = None
    shift: FloatArray | None = None
    after: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.units.size)


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """An input whose size is not known before somebody reads it."""

    name: str
    block: int = -1
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
        return first if isinstance(first, Entry) and first.made is None else None


def is_sigmoid_of(value: Value, sums: Value) -> bool:
    """Whether a value is the sigmoid of sums, with which they make SiLU."""
    if len(value.parts) != 1 or len(sums.parts) != 1:
        return False
    one, two = value.parts[0], sums.parts[0]
    if not isinstance(one, Sums) or not isinstance(two, Sums) or one.base is not None:
        return False
    return one.weights is two.weights and one.activations == ("sigmoid",) and two.activations == ()


def dense_size(operands: Sequence[Sequence[Sums]]) -> int:
    """Count the edges of the dense network; operands that read the same units share them."""
    most: dict[frozenset[int], int] = {}
    for pieces in operands:
        own: dict[frozenset[int], int] = {}
        for piece in pieces:
            own[piece.blocks] = own.get(piece.blocks, 0) + piece.dense_edges
        for blocks, count in own.items():
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
