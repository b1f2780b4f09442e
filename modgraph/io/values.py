"""What flows between the operations of a network.

A *value* is a row of views on *blocks*, each a vector of units that may come to be: inputs, or weighted sums of other
units with activations on top. A block becomes units of the graph, with numbers, when a weight layer or an output reads
it. So activations, BatchNorm and Dropout add no units, and a residual addition y = f(x) + x gives one unit for each y,
with the edges of f and one from x.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from scipy.sparse import csr_array

from modgraph.arrays import FloatArray, IntArray
from modgraph.forward import ACTIVATIONS

# Where functions of one number are compared with the known activations.
_GRID: FloatArray = np.array([-3.1, -2.2, -1.3, -0.7, -0.2, 0.3, 0.8, 1.4, 2.2, 3.3, 7.0])
_TOLERANCE = 5e-5  # less than the exact and the approximate GELU differ there
_OVER_UNITS = ("softmax", "log_softmax")  # not functions of one number
_FUNCTIONS: Mapping[str, Callable[..., FloatArray]] = {
    **{name: function for name, function in ACTIVATIONS.items() if name not in _OVER_UNITS},
    "erf": lambda values: scipy.special.erf(values),
    "pow": np.power,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "sign": np.sign,
    "reciprocal": np.reciprocal,
    "log": np.log,
    "log1p": np.log1p,
}


class NotSupported(Exception):  # noqa: N818 (it never leaves this package: readers turn it into a ValueError)
    """Says what about an operation isn't supported."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Weighted sums of units, one a row of `weights`, whose columns are numbers of units; it may hold explicit zeros.

    `marks` say what else a row is than a weighted sum: the edges are right, a forward pass isn't possible.
    """

    weights: csr_array
    biases: FloatArray
    dense_edges: int
    blocks: frozenset[int]  # those read, by their place in the order of reading
    marks: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True, eq=False)
class Block:
    """Units that may come to be; `layer` is one more than that of the last block that the sums read."""

    name: str
    size: int | None  # of an input, None until a layer reads it
    sums: Sums | None = None  # None for inputs
    activations: tuple[str, ...] = ()
    number: int | None = None  # in the order of reading; None: nothing has read it
    first: int = 0  # number of its first unit
    layer: int = 0
    is_output: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """Entries of a block, all or those in `rows`, times `scale`, plus `shift`, and what else happened on the way.

    `scale` and `shift` hold one number, or one for each entry.
    """

    block: Block
    rows: IntArray | None = None
    scale: FloatArray | None = None
    shift: FloatArray | None = None
    after: tuple[str, ...] = ()
    function: Function | None = None  # None: it is a function of no other view

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(self.rows.size if self.rows is not None else self.block.size or 0)

    @property
    def is_bare(self) -> bool:
        """Whether these are weighted sums, with nothing on top."""
        return self.block.sums is not None and not self.block.activations and self.scale is None and not self.after


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Value:
    """What flows between operations.

    `maps`: each entry is a feature map (channels with positions). `flat`: such maps were flattened, so that each unit
    stands for as many entries in a row as it had positions. `turned`: it is transposed, units in rows.
    """

    views: tuple[View, ...]
    maps: bool = False
    flat: bool = False
    turned: bool = False

    @property
    def unsized(self) -> Block | None:
        """The input that this is, while its size is not known."""
        block = self.views[0].block
        return block if block.size is None else None

    @property
    def size(self) -> int:
        """Number of entries."""
        unsized = self.unsized
        if unsized is not None:
            raise ValueError(
                f"the size of input {unsized.name!r} must be known where it is first used: "
                "read it with a weight layer first"
            )
        return sum(view.size for view in self.views)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Function:
    """A function that is applied to every entry of a view by itself: of which view, and its values on a grid."""

    of: View
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
        """Add or multiply functions of the same view."""
        known = [one.values for one in (self, *others) if one.values is not None]
        if len(known) <= len(others):
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


def function_of(view: View) -> Function:
    """Return the function that a view is, of itself if of no other."""
    return Function(of=view, values=_GRID) if view.function is None else view.function


def filled(values: FloatArray | None, otherwise: float, size: int) -> FloatArray:
    """Return `values`, one for each entry, or as many times `otherwise` where there are none."""
    return np.broadcast_to(otherwise if values is None else values, (size,))


def dense_size(operands: Sequence[Sequence[Sums]]) -> int:
    """Count the edges of the dense network; operands that read the same units share them."""
    most: Counter[frozenset[int]] = Counter()
    for pieces in operands:
        counts: Counter[frozenset[int]] = Counter()
        for piece in pieces:
            counts[piece.blocks] += piece.dense_edges
        most |= counts  # the larger ones
    return most.total()
