"""The operations that readers of torch modules, ONNX and Keras share, one method each.

A method either gives the result or raises `NotSupported`, which says what about the operation isn't; the reader adds
which layer it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from modgraph.arrays import FloatArray, IntArray
from modgraph.io.limits import EDGE_BYTES, UNIT_BYTES, spend
from modgraph.io.tensor import Weights, from_array, pruned, vector
from modgraph.io.values import (
    Block,
    Function,
    NotSupported,
    Sums,
    Value,
    View,
    dense_size,
    filled,
    function_of,
    marks_of,
)

MOST_UNITS = 1 << 26  # in a network
MOST_PARTS = 10_000  # in a concatenation
MOST_ACTIVATIONS = 50  # on top of each other
UNKNOWN_FUNCTION = "expression"  # of one value: an activation without a name


class Operations:
    """What can be done with values on the way to a graph; keeps the blocks that were read, in that order."""

    def __init__(self, *, threshold: float) -> None:
        self.threshold = threshold
        self.blocks: list[Block] = []
        self.inputs: list[Block] = []
        self.n_units = 0

    # --- Inputs and units ---------------------------------------------------------------------------------------------

    def input(self, name: str, *, size: int | None = None, unit_names: Sequence[str] | None = None) -> Value:
        """Add an input; without a size it takes that of the first layer that reads it."""
        self.inputs.append(Block(name=name, size=size, unit_names=unit_names))
        return Value(views=(View(block=self.inputs[-1]),))

    def sized(self, value: Value, size: int) -> None:
        """Say how large an input is, if that is not known yet."""
        if value.unsized is not None:
            value.unsized.size = size

    def require_known(self, value: Value, operation: str) -> None:
        """Say that an input's size is needed."""
        if value.unsized is not None:
            raise ValueError(
                f"the size of input {value.unsized.name!r} must be known before {operation!r} (not supported)"
            )

    def read(self, view: View) -> IntArray:
        """Make the block of a view units of the graph; returns the numbers of those in the view."""
        block = view.block
        if block.number is None:
            size = block.size or 0
            if size < 1 or self.n_units + size > MOST_UNITS:
                raise ValueError(
                    f"{block.name!r} must have at least one unit, and the network at most {MOST_UNITS} (got {size})"
                )
            spend(UNIT_BYTES * size, f"{block.name!r}, with {size} units,")
            if block.sums is not None:
                block.layer = 1 + max((self.blocks[number].layer for number in block.sums.blocks), default=0)
            block.number, block.first = len(self.blocks), self.n_units
            self.blocks.append(block)
            self.n_units += size
        return block.first + (np.arange(view.size) if view.rows is None else view.rows)

    def summed(self, view: View) -> Sums:
        """Return the weighted sums below a view."""
        sums = view.block.sums
        assert sums is not None
        if view.rows is None:
            return sums
        spend(EDGE_BYTES * sums.weights.nnz, "a choice of entries")
        dense = sums.dense_edges * view.size // (view.block.size or 1)
        return replace(sums, weights=sums.weights[view.rows], biases=sums.biases[view.rows], dense_edges=dense)

    def relayed(self, view: View) -> Sums:
        """Make units of a view, and sums of one unit each."""
        each = csr_array((np.ones(view.size), np.arange(view.size), np.arange(view.size + 1)))
        return replace(self._sums(Value(views=(view,)), each, np.zeros(view.size)), dense_edges=view.size)

    # --- Weights ------------------------------------------------------------------------------------------------------

    def linear(
        self,
        name: str,
        value: Value,
        weight: Weights | None,
        bias: FloatArray | None = None,
        *,
        mask: Weights | None = None,
        factor: float = 1.0,
    ) -> Value:
        """Apply weights, (out, in), times `factor`; a mask may be all there is."""
        if value.maps and not value.flat:
            raise NotSupported("it reads the positions of feature maps: flatten them first")
        edges = self._edges(name, weight, mask)
        edges.data *= factor
        return self._weigh(name, value, edges, bias=bias)

    def _edges(self, name: str, weight: Weights | None, mask: Weights | None) -> csr_array:
        """Return the edges of weights or kernels."""
        given, kept = (None if one is None else from_array(name, one) for one in (weight, mask))
        either = kept if given is None else given
        assert either is not None
        return pruned(name, either, mask=kept, threshold=0.0 if given is None else self.threshold)

    def _weigh(
        self, name: str, value: Value, edges: csr_array, *, bias: FloatArray | None, kind: str = "", groups: int = 1
    ) -> Value:
        """Apply edges, (out, in), in `groups`; `kind` marks a layer that is more than a weighted sum."""
        n_out, n_in = edges.shape
        self.sized(value, n_in)
        size = value.size
        repeats = n_in // size if value.flat and n_in % size == 0 else 1
        if n_in != size * repeats:
            raise ValueError(f"layer {name!r} must read {size} values, what the layer before it gives (got {n_in})")
        biases = np.zeros(n_out) if bias is None else vector(f"the bias of {name!r}", bias, length=n_out)
        marks = {kind} - {""}
        if repeats > 1:
            columns = edges.indices.astype(np.int64) // repeats
            edges = csr_array((edges.data**2, (_rows(edges), columns)), shape=(n_out, size))
            edges.data = np.sqrt(edges.data)
            marks |= {"flattened maps"}
        sums = self._sums(value, edges, biases)
        sums = replace(sums, dense_edges=n_out * size // groups, marks=sums.marks | marks)
        return Value(views=(_new(name, sums),), maps=value.maps and not value.flat, turned=value.turned)

    def _sums(self, value: Value, edges: csr_array, biases: FloatArray) -> Sums:
        """Make units of what a value shows, and sums of them; nothing flows where a scale is 0."""
        units = np.concatenate([self.read(view) for view in value.views])
        scale = np.concatenate([filled(view.scale, 1.0, view.size) for view in value.views])
        shift = np.concatenate([filled(view.shift, 0.0, view.size) for view in value.views])
        rows, columns, values = _rows(edges), edges.indices, edges.data
        flows = scale[columns] != 0
        return Sums(
            weights=_matrix(
                rows[flows], units[columns[flows]], (values * scale[columns])[flows], n_rows=edges.shape[0]
            ),
            biases=biases + np.bincount(rows, values * shift[columns], minlength=biases.size),
            dense_edges=0,
            blocks=frozenset(view.block.number for view in value.views if view.block.number is not None),
            marks=marks_of(next((view.after for view in value.views if view.after), ())),
        )

    def product(
        self, name: str, one: Any, two: Any, *, bias: Any = None, mask: Any = None, factor: float = 1.0
    ) -> Value:
        """Multiply matrices, one of them weights; a `bias` may be a value too."""
        value, weight = (one, two) if isinstance(one, Value) else (two, one)
        if isinstance(weight, Value) or not isinstance(value, Value):
            raise NotSupported("it multiplies two computed values, as attention does")
        if weight.ndim != 2:
            raise NotSupported(f"its weights have {weight.ndim} dimensions, not 2")
        if (value is two) != value.turned:
            raise NotSupported("the samples must be rows, unless both factors are transposed")
        if value is one:
            weight, mask = weight.T, None if mask is None else mask.T
        is_value = isinstance(bias, Value)
        if bias is not None and not is_value and bias.size == 1:
            bias = np.full(len(weight), bias.item())
        result = self.linear(name, value, weight, None if is_value else bias, mask=mask, factor=factor)
        return self.join(name, [result, bias]) if isinstance(bias, Value) else result

    def convolution(
        self,
        name: str,
        value: Value,
        weight: Weights | None,
        bias: FloatArray | None = None,
        *,
        groups: int = 1,
        mask: Weights | None = None,
        transposed: bool = False,
    ) -> Value:
        """Apply kernels, (out, in / groups, …): an edge where any weight of a kernel is."""
        is_input = len(value.views) == 1 and any(value.views[0].block is block for block in self.inputs)
        if value.flat or value.turned or not (value.maps or is_input):
            raise NotSupported("a convolution must read the input or feature maps")
        kernel = mask if weight is None else weight
        shape = () if kernel is None else kernel.shape
        if len(shape) < 3 or groups < 1 or shape[0] % groups:
            raise NotSupported(f"its weights of shape {shape} are no kernels in {groups} groups")
        if transposed:  # (in, out / groups, …)
            weight, mask = (None if one is None else _turned_kernel(one, groups) for one in (weight, mask))
        edges = self._edges(name, weight, mask)
        (n_out, n_in), is_kernel = edges.shape, math.prod(shape[2:]) > 1
        columns = edges.indices + _rows(edges) // (n_out // groups) * n_in
        edges = csr_array((edges.data, columns, edges.indptr), shape=(n_out, n_in * groups))
        kind = "convolution" if is_kernel else ""
        return replace(self._weigh(name, value, edges, bias=bias, kind=kind, groups=groups), maps=True)

    # --- Entry by entry -----------------------------------------------------------------------------------------------

    def apply(self, value: Value, activation: str) -> Value:
        """Apply something to every entry by itself."""
        if activation == "identity":
            return value
        self.require_known(value, activation)
        views = tuple(
            self._applied(view, activation, function_of(view).then(activation), affine=view.scale is not None)
            for view in value.views
        )
        return replace(value, views=views)

    def _applied(self, view: View, activation: str, function: Function, *, affine: bool = False) -> View:
        if len(view.after) + len(view.block.activations) > MOST_ACTIVATIONS:
            raise ValueError(f"there must be fewer activations on top of each other (at {activation!r})")
        if view.block.sums is None or view.after:
            return replace(view, after=(*view.after, activation), function=function)
        names = (*view.block.activations, *(("affine",) if affine else ()), activation)
        return replace(_new(view.block.name, self.summed(view), names), function=function)

    def scaled(self, name: str, value: Value, scale: float | FloatArray, shift: float | FloatArray) -> Value:
        """Multiply and shift every entry by a number of its own, as BatchNorm does."""
        scale, shift = np.atleast_1d(scale), np.atleast_1d(shift)
        n = max(scale.size, shift.size)
        if n == 1:
            self.require_known(value, name)
        self.sized(value, n)
        size = value.size
        if n not in (1, size):
            if value.flat and n % size == 0:
                return self.apply(value, "normalised maps")
            raise ValueError(f"{name!r} must have {size} numbers, one for each value it reads (got {n})")
        spend(UNIT_BYTES // 4 * size, repr(name))
        scale, shift = np.broadcast_to(scale, (size,)), np.broadcast_to(shift, (size,))
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise ValueError(f"{name!r} must be finite")
        views, first = [], 0
        for view in value.views:
            part = slice(first, first + view.size)
            views.append(self._scaled(name, view, scale[part], shift[part]))
            first += view.size
        return replace(value, views=tuple(views))

    def _scaled(self, name: str, view: View, scale: FloatArray, shift: FloatArray) -> View:
        function = function_of(view).scaled(scale, shift)
        if view.is_bare:
            sums = self.summed(view)
            spend(EDGE_BYTES // 4 * sums.weights.nnz, repr(name))
            rows = _rows(sums.weights)
            flows = scale[rows] != 0
            weights = (sums.weights.data * scale[rows])[flows]
            matrix = _matrix(rows[flows], sums.weights.indices[flows], weights, n_rows=view.size)
            scaled = replace(sums, weights=matrix, biases=sums.biases * scale + shift)
            return replace(_new(view.block.name, scaled), function=function)
        if UNKNOWN_FUNCTION in view.block.activations and function.name is not None:
            return self._function(function)
        if view.after:
            return replace(view, after=(*view.after, "affine"), function=function)
        scale, shift = filled(view.scale, 1.0, view.size) * scale, filled(view.shift, 0.0, view.size) * scale + shift
        return replace(view, scale=scale, shift=shift, function=function)

    def _function(self, function: Function) -> View:
        """Apply a function to the view that it is of."""
        return self._applied(function.of, function.name or UNKNOWN_FUNCTION, function)

    def gate(self, name: str, value: Value) -> Value:
        """Multiply one half with the sigmoid of the other, as GLU does."""
        half = value.size // 2
        one, two = (self.take(value, np.arange(half) + first) for first in (0, half))
        return self.join(name, [one, self.apply(two, "sigmoid")], multiply=True)

    # --- Several values -----------------------------------------------------------------------------------------------

    def arithmetic(self, name: str, operation: str, terms: Sequence[Any]) -> Value:
        """Add, subtract, multiply, divide or negate values, and constants of one number for each value."""
        if operation == "neg":
            return self.scaled(name, terms[0], -1.0, 0.0)
        if operation == "add" and len(terms) != 2 and all(isinstance(term, Value) for term in terms):
            return self.join(name, terms)
        if len(terms) != 2:
            raise NotSupported(f"it has {len(terms)} terms, some of them constants")
        if operation == "rsub":
            terms, operation = terms[::-1], "sub"
        one, two = terms
        if isinstance(one, Value) and isinstance(two, Value):
            if operation == "sub":
                two = self.scaled(name, two, -1.0, 0.0)
            if operation == "div":
                two = self.apply(two, "reciprocal")
            return self.join(name, [one, two], multiply=operation not in ("add", "sub"))
        value, constant = (one, two) if isinstance(one, Value) else (two, one)
        number = np.asarray(constant)
        if number.dtype.kind not in "biuf" or (number.ndim > 1 and max(number.shape) != number.size):
            raise NotSupported(f"arithmetic with a constant of shape {number.shape}, not of one number for each value")
        number = number.reshape(-1).astype(np.float64)
        if operation == "add":
            return self.scaled(name, value, 1.0, number)
        if operation == "sub":
            return self.scaled(name, value, 1.0, -number) if value is one else self.scaled(name, value, -1.0, number)
        if operation == "div" and value is not one:
            value = self.apply(value, "reciprocal")
        with np.errstate(all="ignore"):
            return self.scaled(name, value, 1 / number if operation == "div" and value is one else number, 0.0)

    def join(self, name: str, values: Sequence[Value], *, multiply: bool = False) -> Value:
        """Add or multiply values entry by entry: a unit has the edges of all; a product has no forward pass."""
        known = [value for value in values if value.unsized is None]
        if not known:
            self.require_known(values[0], name)
        for value in values:
            self.sized(value, known[0].size)
        sizes = {value.size for value in values}
        if len(sizes) > 1 or len({(value.maps, value.flat, value.turned) for value in values}) > 1:
            raise ValueError(f"{name!r} must join values of one size (got {sorted(sizes)})")
        one_function = self._one_function(values, multiply=multiply)
        if one_function is not None:
            return replace(values[0], views=one_function)
        called = set()
        operands: list[list[Sums]] = []
        for value in values:
            operands.append([])
            for view in value.views:
                # A gate: silu(a) · b is one unit, with the edges of both sums.
                is_sums = view.is_bare or (multiply and view.block.sums is not None)
                operands[-1].append(self.summed(view) if is_sums else self.relayed(view))
                called |= {view.block.name} if is_sums else set()
        pieces = [piece for operand in operands for piece in operand]
        spend(EDGE_BYTES * sum(piece.weights.nnz for piece in pieces), repr(name))
        stacked = [vstack([piece.weights for piece in operand], format="csr") for operand in operands]
        joined = Sums(
            weights=_matrix(
                *(np.concatenate(part) for part in ([_rows(one) for one in stacked], [one.indices for one in stacked],
                                                    [one.data for one in stacked])),
                n_rows=sizes.pop(),
            ),
            biases=np.sum([np.concatenate([piece.biases for piece in operand]) for operand in operands], axis=0),
            dense_edges=dense_size(operands),
            blocks=frozenset().union(*(piece.blocks for piece in pieces)),
            marks=frozenset(["product"] if multiply else []).union(*(piece.marks for piece in pieces)),
        )  # fmt: skip
        return replace(values[0], views=(_new(called.pop() if len(called) == 1 else name, joined),))

    def _one_function(self, values: Sequence[Value], *, multiply: bool) -> tuple[View, ...] | None:
        """Join functions of the same view to one: 0.5·h·(1 + tanh(h)) is an activation, not two units.

        Returns None where values are functions of different things, or nothing but weighted sums are added.
        """
        functions = [[function_of(view) for view in value.views] for value in values]
        if len({tuple(id(one.of) for one in row) for row in functions}) > 1:
            return None
        has_function = any(view.after or view.block.activations for value in values for view in value.views)
        if not multiply and not has_function:
            return None
        return tuple(self._function(row[0].joined(row[1:], multiply=multiply)) for row in zip(*functions, strict=True))

    def concatenate(self, name: str, values: Sequence[Value], axis: Any) -> Value:
        """Put values behind each other."""
        if not all(isinstance(value, Value) for value in values):
            raise NotSupported("it puts constants beside values")
        if axis not in ((0, -2) if values[0].turned else (1,) if values[0].maps else (1, 2, -1)):
            raise NotSupported(f"it concatenates along axis {axis}, not along that of the units")
        if any(value.flat for value in values) and len(values) > 1:
            raise ValueError(f"{name!r} concatenates flattened feature maps, which is not supported")
        if len({(value.maps, value.turned) for value in values}) > 1:
            raise ValueError(f"{name!r} must concatenate values of one kind")
        size = sum(value.size for value in values)
        views = tuple(view for value in values for view in value.views)
        if len(views) > MOST_PARTS or size > MOST_UNITS:
            raise ValueError(f"{name!r} must concatenate fewer values (got {len(views)})")
        spend(UNIT_BYTES // 4 * size, f"{name!r}")
        return replace(values[0], views=views)

    # --- Parts and shapes ---------------------------------------------------------------------------------------------

    def take(self, value: Value, chosen: IntArray) -> Value:
        """Choose some entries, by position."""
        ends = np.cumsum([view.size for view in value.views])
        whose = np.searchsorted(ends, chosen, side="right")
        if value.flat or np.any(np.diff(whose) < 0):
            raise ValueError("a choice of entries must keep their order, and follow no flattened feature maps")
        views: list[View] = []
        for number, view in enumerate(value.views):
            at = chosen[whose == number] - (ends[number] - view.size)
            if at.size == view.size and (np.diff(at) > 0).all():
                views.append(view)
            elif at.size:
                spend(EDGE_BYTES * at.size, "a choice of entries")
                scale, shift = (None if one is None else one[at] for one in (view.scale, view.shift))
                rows = at if view.rows is None else view.rows[at]
                views.append(replace(view, rows=rows, scale=scale, shift=shift, function=None))
        return replace(value, views=tuple(views))

    def split(
        self, value: Value, axis: Any, *, sizes: Sequence[int] | None = None, step: int = 0, n_parts: int = 1
    ) -> tuple[Value, ...]:
        """Cut a value into parts of these sizes, else of `step` entries each, else into `n_parts` equal ones."""
        if axis not in ((1,) if value.maps else (1, 2, -1)) or value.turned:
            raise NotSupported(f"it splits along axis {axis}, not along that of the units")
        size = value.size
        spend(UNIT_BYTES * size, "a split")
        if sizes is None:
            step = max(step or math.ceil(size / n_parts), 1)
            sizes = [min(step, size - first) for first in range(0, size, step)]
        if not sizes or min(sizes) < 1 or sum(sizes) != size:
            raise NotSupported(f"{size} values can't be split into parts of {list(sizes)[:8]}")
        ends = np.cumsum(sizes)
        return tuple(self.take(value, np.arange(end - n, end)) for end, n in zip(ends, sizes, strict=True))

    def choose(self, value: Value, where: slice, axis: Any) -> Value:
        """Choose some entries."""
        if axis not in (1, -1) or value.turned:
            raise NotSupported(f"it slices axis {axis}, not that of the units")
        if (where.step or 1) < 1:
            raise NotSupported("it slices backwards")
        spend(UNIT_BYTES * value.size, "a slice")
        return self.take(value, np.arange(*where.indices(value.size)))

    def flatten(self, value: Value, axis: int) -> Value:
        """Join all axes from `axis` on."""
        if value.maps and axis != 1:
            raise NotSupported(f"it flattens from axis {axis}, which joins samples")
        return replace(value, flat=value.maps)

    def transpose(self, value: Value, axes: Any) -> Value:
        """Swap samples and units."""
        if value.maps or axes not in (None, (), (0, 1), (1, 0)):
            raise NotSupported(f"it permutes the axes of feature maps or to {axes}")
        return replace(value, turned=not value.turned)

    def reshape(self, value: Value, shape: Sequence[int | None]) -> Value:
        """Keep or flatten the values of a sample; None stands for a size that is not known."""
        last = shape[-1] if shape else None
        if value.unsized is not None and len(shape) == 2 and last is not None and last > 0:
            self.sized(value, last)
        if value.maps and not value.flat:
            if len(shape) != 2:
                raise NotSupported(f"it reshapes feature maps to {list(shape)}, which is no flattening")
            return replace(value, flat=True)
        if last is None or last in (-1, 0) or value.flat or value.unsized is not None or last == value.size:
            return value
        raise NotSupported(f"it must keep or flatten the values of a sample, not reshape them to {list(shape)}")

    def pool(self, value: Value) -> Value:
        """Pool or pad the positions of feature maps."""
        if not value.maps or value.flat:
            raise NotSupported("pooling must read feature maps")
        return self.apply(value, "pooling")

    def reduce(self, value: Value, axes: Sequence[int], *, keeps_axes: bool) -> Value:
        """Reduce the positions of feature maps."""
        if not axes or {0, 1} & set(axes):
            raise NotSupported(f"it reduces axes {list(axes)}, not only positions of feature maps")
        return replace(self.pool(value), maps=keeps_axes)


def _turned_kernel(weight: Any, groups: int) -> NDArray[Any]:
    """Turn the kernel of a transposed convolution, (in, out / groups, …), to (out, in / groups, …)."""
    n_in, n_out, *positions = weight.shape
    parts = weight.reshape(groups, n_in // groups, n_out, *positions).swapaxes(1, 2)
    turned: NDArray[Any] = parts.reshape(groups * n_out, n_in // groups, *positions)
    return turned


def _new(name: str, sums: Sums, activations: tuple[str, ...] = ()) -> View:
    return View(block=Block(name=name, size=sums.biases.size, sums=sums, activations=activations))


def _rows(matrix: csr_array) -> IntArray:
    """Return the row of every entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _matrix(rows: IntArray, units: IntArray, weights: FloatArray, *, n_rows: int) -> csr_array:
    """Put weights into a matrix; those of equal pairs are added up, and zeros stay."""
    return csr_array((weights, (rows, units)), shape=(n_rows, MOST_UNITS))
