"""What happens to values on the way to a graph: weights, functions of every entry, sums of values, choices of entries.

A method either gives the result or raises `NotSupported`, which says what about the operation isn't; the table of
operations adds which layer it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, vstack

from modgraph.arrays import FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.io.limits import EDGE_BYTES, UNIT_BYTES, spend
from modgraph.io.tensor import Weights, from_array, pruned, vector
from modgraph.io.values import Block, Function, NotSupported, Sums, Value, View, dense_size, filled, function_of
from modgraph.names import clean

MOST_UNITS = 1 << 26  # in a network
MOST_ACTIVATIONS = 50  # on top of each other
UNKNOWN_FUNCTION = "expression"  # of one value: an activation without a name


class Operations:
    """What can be done with values; keeps the blocks that were read, in that order."""

    def __init__(self, *, threshold: float) -> None:
        self.threshold = threshold
        self.blocks: list[Block] = []
        self.inputs: list[Block] = []
        self.n_units = 0

    # --- Inputs and units ---------------------------------------------------------------------------------------------

    def input(self, name: str, *, size: int | None = None) -> Value:
        """Add an input; without a size it takes that of the first layer that reads it."""
        self.inputs.append(Block(name=name, size=size))
        return Value(views=(View(block=self.inputs[-1]),))

    def sized(self, value: Value, size: int) -> None:
        """Say how large an input is, if that is not known yet."""
        if value.unsized is not None:
            value.unsized.size = size

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
        return self._sums(Value(views=(view,)), each, np.zeros(view.size), dense_edges=view.size)

    # --- Weights ------------------------------------------------------------------------------------------------------

    def weigh(
        self,
        name: str,
        value: Value,
        weight: Weights | None,
        bias: FloatArray | None = None,
        *,
        mask: Weights | None = None,
        factor: float = 1.0,
        groups: int | None = None,
    ) -> Value:
        """Apply weights, (out, in), or in `groups` kernels, (out, in / groups, …), times `factor`.

        A mask may be all there is. An edge of a convolution is there where any weight of its kernel is.
        """
        given, kept = (None if one is None else from_array(name, one) for one in (weight, mask))
        either = kept if given is None else given
        assert either is not None
        is_input = len(value.views) == 1 and value.views[0].block in self.inputs
        if groups is None:
            if value.maps and not value.flat:
                raise NotSupported("it reads the positions of feature maps: flatten them first")
        elif value.flat or value.turned or not (value.maps or is_input):
            raise NotSupported("a convolution must read the input or feature maps")
        elif len(either.shape) < 3 or groups < 1 or either.shape[0] % groups:
            raise NotSupported(f"its weights of shape {either.shape} are no kernels in {groups} groups")
        edges = pruned(name, either, mask=kept, threshold=0.0 if given is None else self.threshold)
        edges.data *= factor
        (n_out, n_in), marks = edges.shape, set()
        if groups is not None:
            columns = edges.indices + _rows(edges) // (n_out // groups) * n_in
            n_in *= groups
            edges = csr_array((edges.data, columns, edges.indptr), shape=(n_out, n_in))
            marks |= {"convolution"} if math.prod(either.shape[2:]) > 1 else set()
        self.sized(value, n_in)
        size = value.size
        if value.flat and n_in > size and n_in % size == 0:
            marks |= {"flattened maps"}
            columns = edges.indices.astype(np.int64) // (n_in // size)
            edges = csr_array((edges.data**2, (_rows(edges), columns)), shape=(n_out, size))
            edges.data = np.sqrt(edges.data)
        elif n_in != size:
            raise ValueError(f"layer {name!r} must read {size} values, what the layer before it gives (got {n_in})")
        biases = np.zeros(n_out) if bias is None else vector(f"the bias of {name!r}", bias, length=n_out)
        sums = self._sums(value, edges, biases, dense_edges=n_out * size // (groups or 1), marks=marks)
        return Value(views=(_new(name, sums),), maps=groups is not None, turned=value.turned)

    def _sums(
        self, value: Value, edges: csr_array, biases: FloatArray, *, dense_edges: int, marks: Set[str] = frozenset()
    ) -> Sums:
        """Make units of what a value shows, and sums of them; nothing flows where a scale is 0."""
        units = np.concatenate([self.read(view) for view in value.views])
        scale = np.concatenate([filled(view.scale, 1.0, view.size) for view in value.views])
        shift = np.concatenate([filled(view.shift, 0.0, view.size) for view in value.views])
        rows, columns, values = _rows(edges), edges.indices, edges.data
        flows = scale[columns] != 0
        weights = (values * scale[columns])[flows]
        after = next((view.after for view in value.views if view.after), ())
        return Sums(
            weights=_matrix(rows[flows], units[columns[flows]], weights, n_rows=edges.shape[0]),
            biases=biases + np.bincount(rows, values * shift[columns], minlength=biases.size),
            dense_edges=dense_edges,
            blocks=frozenset(view.block.number for view in value.views if view.block.number is not None),
            marks=frozenset(marks | ({f"{' and '.join(after)} before"} if after else set())),
        )

    # --- Entry by entry -----------------------------------------------------------------------------------------------

    def apply(self, value: Value, activation: str) -> Value:
        """Apply something to every entry by itself."""
        if activation == "identity":
            return value
        views = [self._applied(view, activation, function_of(view).then(activation)) for view in value.views]
        return replace(value, views=tuple(views))

    def _applied(self, view: View, activation: str, function: Function) -> View:
        if len(view.after) + len(view.block.activations) > MOST_ACTIVATIONS:
            raise ValueError(f"there must be fewer activations on top of each other (at {activation!r})")
        if view.block.sums is None or view.after:
            return replace(view, after=(*view.after, activation), function=function)
        names = (*view.block.activations, *(() if view.scale is None else ("affine",)), activation)
        return replace(_new(view.block.name, self.summed(view), names), function=function)

    def scaled(self, name: str, value: Value, scale: float | FloatArray, shift: float | FloatArray) -> Value:
        """Multiply and shift every entry by a number of its own, as BatchNorm does."""
        scale, shift = np.broadcast_arrays(np.atleast_1d(scale), shift)
        if scale.size > 1:
            self.sized(value, scale.size)
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise ValueError(f"{name!r} must be finite")
        if value.unsized is not None:  # one number for all entries, however many there will be
            return replace(value, views=(self._scaled(name, value.views[0], scale, shift),))
        size = value.size
        if scale.size not in (1, size):
            if value.flat and scale.size % size == 0:
                return self.apply(value, "normalised maps")
            raise ValueError(f"{name!r} must have {size} numbers, one for each value it reads (got {scale.size})")
        spend(UNIT_BYTES // 4 * size, repr(name))
        ends = np.cumsum([view.size for view in value.views])
        parts = zip(
            value.views, *(np.split(np.broadcast_to(one, (size,)), ends) for one in (scale, shift)), strict=False
        )
        return replace(value, views=tuple(self._scaled(name, *part) for part in parts))

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
        before, added = (1.0 if view.scale is None else view.scale), (0.0 if view.shift is None else view.shift)
        return replace(view, scale=before * scale, shift=added * scale + shift, function=function)

    def _function(self, function: Function) -> View:
        """Apply a function to the view that it is of."""
        return self._applied(function.of, function.name or UNKNOWN_FUNCTION, function)

    # --- Several values -----------------------------------------------------------------------------------------------

    def join(self, name: str, values: Sequence[Value], *, multiply: bool = False) -> Value:
        """Add or multiply values entry by entry: a unit has the edges of all; a product has no forward pass."""
        if len({(value.maps, value.flat, value.turned) for value in values}) > 1:
            raise ValueError(f"{name!r} must join values of one kind")
        one_function = self._one_function(values, multiply=multiply)
        if one_function is not None:
            return replace(values[0], views=one_function)
        known = next((value for value in values if value.unsized is None), values[0])
        for value in values:
            self.sized(value, known.size)
        sizes = {value.size for value in values}
        if len(sizes) > 1:
            raise ValueError(f"{name!r} must join values of one size (got {sorted(sizes)})")
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
        stacked = [vstack([piece.weights for piece in operand], format="coo") for operand in operands]
        rows, units, weights = (
            np.concatenate([getattr(one, part) for one in stacked]) for part in ("row", "col", "data")
        )
        joined = Sums(
            weights=_matrix(rows, units, weights, n_rows=sizes.pop()),
            biases=np.sum([np.concatenate([piece.biases for piece in operand]) for operand in operands], axis=0),
            dense_edges=dense_size(operands),
            blocks=frozenset().union(*(piece.blocks for piece in pieces)),
            marks=frozenset(["product"] if multiply else []).union(*(piece.marks for piece in pieces)),
        )
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
                scale, shift = (
                    None if one is None else filled(one, 0, view.size)[at] for one in (view.scale, view.shift)
                )
                rows = at if view.rows is None else view.rows[at]
                views.append(replace(view, rows=rows, scale=scale, shift=shift, function=None))
        return replace(value, views=tuple(views))


# --- The graph --------------------------------------------------------------------------------------------------------


def finish(ops: Operations, outputs: Sequence[Value]) -> LayeredDAG:
    """Build the graph that `outputs` depend on.

    A unit's layer is the longest path from an input; outputs are in the last layer.
    """
    views = [view for value in outputs if value.size for view in value.views]
    for view in views:
        ops.read(view)
    shown = [_output(ops, view) for view in views]
    read = [block for block in ops.inputs if block.number is not None]
    if not read or not shown:
        raise ValueError("there must be a weight layer between an input and an output")
    wanted = {block.number for block in (*read, *shown)}
    for block in reversed(ops.blocks):
        wanted |= block.sums.blocks if block.number in wanted and block.sums is not None else set()
    alive = [*read, *(block for block in ops.blocks if block.number in wanted and block.sums is not None)]
    hidden = sorted((block for block in alive if not block.is_output), key=lambda block: block.layer)
    last = 1 + hidden[-1].layer
    order = [*hidden, *shown]
    levels = [last if block.is_output else block.layer for block in order]
    sizes = [block.size or 0 for block in order]
    read_as = np.concatenate([np.arange(block.first, block.first + (block.size or 0)) for block in order])
    place = np.full(ops.n_units, -1, dtype=np.int64)
    place[read_as] = np.arange(read_as.size)
    sums = [block.sums for block in order if block.sums is not None]
    matrix = vstack([one.weights for one in sums], format="coo")
    summing = np.flatnonzero(np.repeat([block.sums is not None for block in order], sizes))
    sources, targets = place[matrix.col], summing[matrix.row]
    edges = np.lexsort((targets, sources))
    names = {level: {block.name: 0 for block, at in zip(order, levels, strict=True) if at == level} for level in levels}
    unread = [block.name for block in ops.inputs if block.number is None]
    return LayeredDAG.from_sorted_edges(
        sources[edges],
        targets[edges],
        layer=np.repeat(levels, sizes),
        n_layers=last + 1,
        dense_edges=sum(one.dense_edges for one in sums),
        weights=matrix.data[edges],
        biases=np.concatenate([np.zeros(b.size or 0) if b.sums is None else b.sums.biases for b in order]),
        activations=np.repeat([_activation(block) for block in order], sizes),
        layer_names=[clean(" + ".join(names.get(level, ()))) for level in range(last + 1)],
        notes=[f"Left out, because nothing reads it: input {', '.join(map(repr, unread[:6]))}."] if unread else (),
    )


def _output(ops: Operations, view: View) -> Block:
    """Return the block that shows a view of the outputs: its own, or where others read it too, one that relays it."""
    block = view.block
    plain = view.rows is None and view.scale is None and not view.after
    is_read = any(block.number in other.sums.blocks for other in ops.blocks if other.sums is not None)
    if not plain or is_read or block.sums is None or block.is_output:
        relay = View(block=Block(name=f"{block.name} (output)", size=view.size, sums=ops.relayed(view)))
        ops.read(relay)
        block = relay.block
    block.is_output = True
    return block


def _activation(block: Block) -> str:
    """Name what the units of a block do, with the marks in front, in brackets."""
    if block.sums is None:
        return "identity"
    marks = [f"({', '.join(sorted(block.sums.marks))})"] if block.sums.marks else []
    return "+".join([*marks, *block.activations]) or "identity"


def _new(name: str, sums: Sums, activations: tuple[str, ...] = ()) -> View:
    return View(block=Block(name=name, size=sums.biases.size, sums=sums, activations=activations))


def _rows(matrix: csr_array) -> IntArray:
    """Return the row of every entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _matrix(rows: IntArray, units: IntArray, weights: FloatArray, *, n_rows: int) -> csr_array:
    """Put weights into a matrix; those of equal pairs are added up, and zeros stay."""
    return csr_array((weights, (rows, units)), shape=(n_rows, MOST_UNITS))
