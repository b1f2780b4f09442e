"""From the operations of a network to its graph: what the readers of traced models, ONNX and Keras share.

A *value* is what flows between operations: a vector of sums and units. A weight layer makes *sums*, weighted sums of
units that are not units yet; an addition joins sums, BatchNorm scales them, an activation closes them. They become
units, a *block* of them, when the next weight layer reads them. So an activation, BatchNorm and Dropout add no units,
and a residual addition y = f(x) + x gives one unit for each y, with the edges of f and one from x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.io.budget import EDGE_BYTES, UNIT_BYTES, spend
from modgraph.io.values import (
    Block,
    Entry,
    Function,
    Sums,
    Units,
    Value,
    activation_of,
    dense_size,
    filled,
    function_of,
    marks_of,
    merged,
)
from modgraph.names import clean, unit_names

MOST_UNITS = 1 << 26  # in a network
MOST_PARTS = 10_000  # in a concatenation
MOST_ACTIVATIONS = 50  # on top of each other
UNKNOWN_FUNCTION = "expression"  # of one value: an activation without a name


@dataclass(slots=True, kw_only=True, eq=False)
class Builder:
    """Collects blocks of units; `finish` numbers them by layer."""

    blocks: list[Block] = field(default_factory=list)
    n_units: int = 0
    inputs: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    # --- Inputs -------------------------------------------------------------------------------------------------------

    def input(self, name: str, *, size: int | None = None, unit_names: Sequence[str] | None = None) -> Value:
        """Add an input; without a size it takes that of the first layer that reads it."""
        self.inputs.append(Entry(name=name, size=size, unit_names=unit_names))
        return Value(parts=(self.inputs[-1],))

    def sized(self, value: Value, size: int) -> None:
        """Say how large an input is, if that is not known yet."""
        if value.entry is not None:
            value.entry.size = size

    def _block(self, name: str, size: int, *, layer: int, sums: Sums | None) -> int:
        if size < 1 or self.n_units + size > MOST_UNITS:
            raise ValueError(f"{name!r} must have at least one unit, and the network at most {MOST_UNITS} (got {size})")
        spend(UNIT_BYTES * size, f"{name!r}, with {size} units,")
        self.blocks.append(Block(name=name, first=self.n_units, size=size, layer=layer, sums=sums))
        self.n_units += size
        return len(self.blocks) - 1

    def _all_of(self, number: int) -> Units:
        block = self.blocks[number]
        return Units(units=np.arange(block.first, block.first + block.size), blocks=frozenset([number]))

    # --- Looking at values --------------------------------------------------------------------------------------------

    def parts(self, value: Value) -> tuple[Sums | Units, ...]:
        """Return the parts of a value of known size."""
        known: list[Sums | Units] = []
        for part in value.parts:
            if isinstance(part, Entry):
                if part.size is None:
                    raise ValueError(
                        f"the size of input {part.name!r} must be known where it is first used: "
                        "read it with a weight layer first"
                    )
                if part.made is None:
                    part.made = self._all_of(self._block(part.name, part.size, layer=0, sums=None))
                known.append(part.made)
            else:
                known.append(part)
        return tuple(known)

    def size(self, value: Value) -> int:
        """Return how many sums and units a value holds."""
        return sum(part.size or 0 for part in value.parts) if value.entry is None else len(self.parts(value))

    def made(self, part: Sums | Units) -> Units:
        """Turn sums into units."""
        if isinstance(part, Units):
            return part
        if part.base is not None:
            return replace(self.made(part.base), scale=part.scale, shift=part.shift)
        if part.made is None:
            layer = 1 + max((self.blocks[number].layer for number in part.blocks), default=0)
            part.made = self._all_of(self._block(part.name, part.size, layer=layer, sums=part))
        return part.made

    def units(self, value: Value) -> Units:
        """Turn a whole value into units."""
        made = [self.made(part) for part in self.parts(value)]
        if len(made) == 1:
            return made[0]
        scaled, shifted = (any(getattr(part, name) is not None for part in made) for name in ("scale", "shift"))
        return Units(
            units=np.concatenate([part.units for part in made]),
            blocks=frozenset().union(*(part.blocks for part in made)),
            scale=np.concatenate([filled(part.scale, 1.0, part.size) for part in made]) if scaled else None,
            shift=np.concatenate([filled(part.shift, 0.0, part.size) for part in made]) if shifted else None,
            after=next((part.after for part in made if part.after), ()),
        )

    def open(self, part: Sums | Units) -> Sums:
        """Turn a part into sums that more can be added to."""
        if isinstance(part, Sums) and not part.activations:  # a `base` has some
            return part
        units = self.made(part)
        return Sums(
            name="",
            rows=np.arange(units.size),
            units=units.units,
            weights=filled(units.scale, 1.0, units.size),
            biases=filled(units.shift, 0.0, units.size),
            dense_edges=units.size,
            blocks=units.blocks,
            marks=marks_of(units.after),
        )

    # --- Operations ---------------------------------------------------------------------------------------------------

    def linear(
        self,
        value: Value,
        weights: csr_array,
        *,
        bias: FloatArray | None,
        name: str,
        kind: str | None = None,
        groups: int = 1,
    ) -> Value:
        """Apply a weight layer, (out, in), in `groups`; `kind` marks one that is more than a weighted sum."""
        n_out, n_in = weights.shape
        self.sized(value, n_in)
        size = self.size(value)
        repeats = n_in // size if value.flat and n_in % size == 0 else 1
        if n_in != size * repeats:
            raise ValueError(f"layer {name!r} must read {size} values, what the layer before it gives (got {n_in})")
        source = self.units(value)
        rows = np.repeat(np.arange(n_out), np.diff(weights.indptr))
        columns, values = weights.indices.astype(np.int64), weights.data
        marks = marks_of(source.after) | ({kind} if kind else set())
        if repeats > 1:
            rows, columns, values = merged(rows, columns // repeats, values**2, width=size)
            values = np.sqrt(values)
            marks |= {"flattened maps"}
        biases = np.zeros(n_out) if bias is None else bias
        if source.shift is not None:
            biases = biases + np.bincount(rows, values * source.shift[columns], minlength=n_out)
        if source.scale is not None:
            flows = source.scale[columns] != 0
            rows, columns, values = rows[flows], columns[flows], (values * source.scale[columns])[flows]
        sums = Sums(
            name=name,
            rows=rows,
            units=source.units[columns],
            weights=values,
            biases=biases,
            dense_edges=n_out * size // groups,
            blocks=source.blocks,
            marks=frozenset(marks),
        )
        return Value(parts=(sums,), maps=value.maps and not value.flat, turned=value.turned)

    def activate(self, value: Value, activation: str) -> Value:
        """Apply something to every entry by itself."""
        if activation == "identity":
            return value
        self.require_known(value, activation)
        parts: list[Sums | Units] = []
        for part in self.parts(value):
            if len(part.after if isinstance(part, Units) else part.activations) > MOST_ACTIVATIONS:
                raise ValueError(f"there must be fewer activations on top of each other (at {activation!r})")
            function = function_of(part).then(activation)
            if isinstance(part, Units):
                parts.append(replace(part, after=(*part.after, activation), function=function))
            else:
                before = ("affine",) if part.base is not None else ()
                names = (*part.activations, *before, activation)
                parts.append(_activated(part, names, function))
        return replace(value, parts=tuple(parts))

    def require_known(self, value: Value, operation: str) -> None:
        """Say that an input's size is needed."""
        entry = value.entry
        if entry is not None:
            raise ValueError(f"the size of input {entry.name!r} must be known before {operation!r} (not supported)")

    def scale(self, value: Value, scale: FloatArray, *, shift: FloatArray, name: str) -> Value:
        """Multiply and shift every entry by a number of its own, as BatchNorm does."""
        n = max(scale.size, shift.size)
        if n == 1:
            self.require_known(value, name)
        self.sized(value, n)
        size = self.size(value)
        if n not in (1, size):
            if value.flat and n % size == 0:
                return self.activate(value, "normalised maps")
            raise ValueError(f"{name!r} must have {size} numbers, one for each value it reads (got {n})")
        scale, shift = np.broadcast_to(scale, (size,)), np.broadcast_to(shift, (size,))
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise ValueError(f"{name!r} must be finite")
        parts: list[Sums | Units] = []
        first = 0
        for part in self.parts(value):
            s, t = scale[first : first + part.size], shift[first : first + part.size]
            first += part.size
            function = function_of(part).scaled(s, t)
            if isinstance(part, Sums) and not part.activations:
                spend(EDGE_BYTES // 4 * part.rows.size, repr(name))
                flows = s[part.rows] != 0
                parts.append(
                    replace(
                        part,
                        rows=part.rows[flows],
                        units=part.units[flows],
                        weights=part.weights[flows] * s[part.rows[flows]],
                        biases=part.biases * s + t,
                        made=None,
                        function=function,
                    )
                )
            elif isinstance(part, Sums) and UNKNOWN_FUNCTION in part.activations and function.name is not None:
                parts.append(_function_part(function))
            elif isinstance(part, Units) and part.after:
                parts.append(replace(part, after=(*part.after, "affine"), function=function))
            else:
                now = filled(part.scale, 1.0, part.size) * s, filled(part.shift, 0.0, part.size) * s + t
                if isinstance(part, Units):
                    parts.append(replace(part, scale=now[0], shift=now[1], function=function))
                else:
                    base = part.base or part
                    parts.append(replace(part, base=base, made=None, scale=now[0], shift=now[1], function=function))
        return replace(value, parts=tuple(parts))

    def add(self, values: Sequence[Value], *, name: str) -> Value:
        """Add values of equal size: the edges of all."""
        return self._join(values, name=name, kind=None)

    def multiply(self, values: Sequence[Value], *, name: str) -> Value:
        """Multiply values entry by entry: a unit has the edges of all, and no forward pass."""
        return self._join(values, name=name, kind="product")

    def _join(self, values: Sequence[Value], *, name: str, kind: str | None) -> Value:
        known = [value for value in values if value.entry is None]
        if not known:
            self.require_known(values[0], name)
        for value in values:
            self.sized(value, self.size(known[0]))
        sizes = {self.size(value) for value in values}
        if len(sizes) > 1 or len({(value.maps, value.flat, value.turned) for value in values}) > 1:
            raise ValueError(f"{name!r} must join values of one size (got {sorted(sizes)})")
        (size,) = sizes
        one_function = self._one_function(values, multiply=kind is not None)
        if one_function is not None:
            return replace(values[0], parts=one_function)
        whole: list[list[Sums]] = []
        for value in values:
            opened, first = [], 0
            for part in self.parts(value):
                # A gate: silu(a) · b is one unit, with the edges of both sums.
                one = part if kind is not None and isinstance(part, Sums) else self.open(part)
                opened.append(replace(one, rows=one.rows + first))
                first += part.size
            whole.append(opened)
        pieces = [piece for opened in whole for piece in opened]
        spend(EDGE_BYTES * sum(piece.rows.size for piece in pieces), repr(name))
        rows, units, weights = merged(
            np.concatenate([piece.rows for piece in pieces]),
            np.concatenate([piece.units for piece in pieces]),
            np.concatenate([piece.weights for piece in pieces]),
            width=self.n_units,
        )
        called = {piece.name for piece in pieces if piece.name}
        sums = Sums(
            name=called.pop() if len(called) == 1 else name,
            rows=rows,
            units=units,
            weights=weights,
            biases=sum((np.concatenate([p.biases for p in opened]) for opened in whole), start=np.zeros(size)),
            dense_edges=dense_size(whole),
            blocks=frozenset().union(*(piece.blocks for piece in pieces)),
            marks=frozenset({kind} if kind else ()).union(*(piece.marks for piece in pieces)),
        )
        return replace(values[0], parts=(sums,))

    def _one_function(self, values: Sequence[Value], *, multiply: bool) -> tuple[Sums | Units, ...] | None:
        """Join functions of the same sums or units to one: 0.5·h·(1 + tanh(h)) is an activation, not two units.

        Returns None where values are functions of different things, or nothing but weighted sums are added.
        """
        columns = [self.parts(value) for value in values]
        functions = [[function_of(part) for part in column] for column in columns]
        if len({tuple(id(one.of) for one in column) for column in functions}) > 1:
            return None
        has_function = any(part.after if isinstance(part, Units) else part.activations for c in columns for part in c)
        if not multiply and not has_function:
            return None
        return tuple(_function_part(row[0].joined(row[1:], multiply=multiply)) for row in zip(*functions, strict=True))

    def concatenate(self, values: Sequence[Value], *, name: str) -> Value:
        """Put values behind each other."""
        if any(value.flat for value in values) and len(values) > 1:
            raise ValueError(f"{name!r} concatenates flattened feature maps, which is not supported")
        if len({(value.maps, value.turned) for value in values}) > 1:
            raise ValueError(f"{name!r} must concatenate values of one kind")
        parts = tuple(part for value in values for part in self.parts(value))
        if len(parts) > MOST_PARTS or sum(part.size for part in parts) > MOST_UNITS:
            raise ValueError(f"{name!r} must concatenate fewer values (got {len(parts)})")
        spend(UNIT_BYTES // 4 * sum(part.size for part in parts), f"{name!r}")
        return replace(values[0], parts=parts)

    def take(self, value: Value, chosen: IntArray) -> Value:
        """Choose some entries, by position."""
        size = self.size(value)
        parts: list[Sums | Units] = []
        first = 0
        all_parts = self.parts(value)
        whose = np.repeat(np.arange(len(all_parts)), [part.size for part in all_parts])[chosen]
        if value.flat or size == 0 or np.any(np.diff(whose) < 0):
            raise ValueError("a choice of entries must keep their order, and follow no flattened feature maps")
        for number, part in enumerate(all_parts):
            at = chosen[whose == number] - first
            first += part.size
            if at.size == 0:
                continue
            spend(EDGE_BYTES * (at.size if isinstance(part, Units) else part.rows.size), "a choice of entries")
            if isinstance(part, Sums) and part.base is not None:
                part = self.made(part)
            if isinstance(part, Units):
                taken: Sums | Units = replace(
                    part,
                    units=part.units[at],
                    scale=None if part.scale is None else part.scale[at],
                    shift=None if part.shift is None else part.shift[at],
                    function=None,
                )
            else:
                matrix = csr_array(
                    (np.arange(part.rows.size) + 1, (part.rows, np.arange(part.rows.size))),
                    shape=(part.size, part.rows.size),
                )[at]
                edges = matrix.indices
                taken = replace(
                    part,
                    rows=np.repeat(np.arange(at.size), np.diff(matrix.indptr)),
                    units=part.units[edges],
                    weights=part.weights[edges],
                    biases=part.biases[at],
                    dense_edges=part.dense_edges * at.size // part.size,
                    made=None,
                    base=None,
                    function=None,
                )
            parts.append(taken)
        return replace(value, parts=tuple(parts))

    # --- The end ------------------------------------------------------------------------------------------------------

    def finish(self, outputs: Sequence[Value], *, output_names: Sequence[str] | None = None) -> LayeredDAG:
        """Give every unit its layer, the longest path from an input, and its number; outputs are the last layer.

        Blocks that no output reads are left out.
        """
        parts = [part for value in outputs for part in self.parts(value)]
        if not any(entry.made for entry in self.inputs) or not parts:
            raise ValueError("there must be a weight layer between an input and an output")
        for part in parts:
            self.made(part)
        shown = [self._output(part) for part in parts]
        alive = self._alive(shown)
        last = 1 + max(block.layer for block in alive if not block.is_output)
        order = sorted(alive, key=lambda block: last if block.is_output else block.layer)  # stable
        hidden = [block for block in order if not block.is_output]
        order = [*hidden, *(self.blocks[number] for number in shown)]
        place = np.full(self.n_units, -1, dtype=np.int64)
        sizes = np.array([block.size for block in order])
        for block, first in zip(order, np.cumsum(sizes) - sizes, strict=True):
            place[block.first : block.first + block.size] = np.arange(first, first + block.size)
        levels = [last if block.is_output else block.layer for block in order]
        made = [block for block in order if block.sums is not None]
        sums = [block.sums for block in made if block.sums is not None]
        sources = place[np.concatenate([part.units for part in sums])]
        targets = place[np.concatenate([part.rows + block.first for block, part in zip(made, sums, strict=True)])]
        edges = np.lexsort((targets, sources))
        called = [
            " + ".join(dict.fromkeys(b.name for b, at in zip(order, levels, strict=True) if at == level))
            for level in range(last + 1)
        ]
        unread = [entry.name for entry in self.inputs if entry.made is None]
        if unread:
            self.notes.append(f"Left out, because nothing reads it: input {', '.join(map(repr, unread[:6]))}.")
        dag = LayeredDAG.from_sorted_edges(
            sources[edges],
            targets[edges],
            layer=np.repeat(levels, sizes),
            n_layers=last + 1,
            dense_edges=sum(part.dense_edges for part in sums),
            weights=np.concatenate([part.weights for part in sums])[edges],
            biases=np.concatenate([np.zeros(b.size) if b.sums is None else b.sums.biases for b in order]),
            activations=np.repeat([activation_of(block.sums) for block in order], sizes),
            layer_names=[clean(name) for name in called],
            notes=self.notes,
        )
        return self._with_unit_names(dag, output_names)

    def _with_unit_names(self, dag: LayeredDAG, output_names: Sequence[str] | None) -> LayeredDAG:
        """Name all units where inputs or outputs have names; those that have none as everywhere."""
        read = [entry for entry in self.inputs if entry.made is not None]
        if output_names is None and not any(entry.unit_names for entry in read):
            return dag
        names, first = unit_names(dag), 0
        for entry in read:
            size = entry.size or 0
            names[first : first + size] = entry.unit_names or names[first : first + size]
            first += size
        if output_names is not None and len(output_names) == dag.layer_sizes[-1]:
            names[-len(output_names) :] = output_names
        return replace(dag, unit_names=np.array(names, dtype=np.str_))

    def _output(self, part: Sums | Units) -> int:
        """Make a part of the outputs a block of its own that nobody else reads; returns its number."""
        units = self.made(part)
        number = min(units.blocks)
        block = self.blocks[number]
        plain = units.scale is None and units.shift is None and not units.after
        whole = np.array_equal(units.units, np.arange(block.first, block.first + block.size))
        read = any(number in other.sums.blocks for other in self.blocks if other.sums is not None)
        if not plain or not whole or read or block.sums is None or block.is_output:
            relay = replace(self.open(units), name=f"{block.name} (output)")
            (number,) = self.made(relay).blocks
        self.blocks[number].is_output = True
        return number

    def _alive(self, shown: Sequence[int]) -> list[Block]:
        """List the inputs, in the order of entry, and the blocks that an output depends on, in that of making."""
        alive: BoolArray = np.zeros(len(self.blocks), dtype=np.bool_)
        alive[list(shown)] = True
        for number in reversed(range(len(self.blocks))):
            sums = self.blocks[number].sums
            if alive[number] and sums is not None:
                alive[list(sums.blocks)] = True
        entries = [min(entry.made.blocks) for entry in self.inputs if entry.made is not None]
        others = [n for n in np.flatnonzero(alive).tolist() if self.blocks[n].sums is not None]
        return [self.blocks[number] for number in (*entries, *others)]


def _activated(sums: Sums, names: tuple[str, ...], function: Function) -> Sums:
    return replace(sums, activations=names, made=None, base=None, scale=None, shift=None, function=function)


def _function_part(function: Function) -> Sums | Units:
    """Apply a function to the part that it is of."""
    part, name = function.of, function.name or UNKNOWN_FUNCTION
    if isinstance(part, Units):
        return replace(part, after=(*part.after, name), function=function)
    return _activated(part, (*part.activations, name), function)
