"""From the operations of a network to its graph: every unit gets its layer and its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from modgraph.dag import LayeredDAG
from modgraph.io.ops import Operations
from modgraph.io.values import Block, Value, View
from modgraph.names import clean, unit_names


def finish(ops: Operations, outputs: Sequence[Value], *, output_names: Sequence[str] | None = None) -> LayeredDAG:
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
    alive = _alive(ops, shown)
    last = 1 + max(block.layer for block in (*read, *alive) if not block.is_output)
    hidden = sorted((block for block in (*read, *alive) if not block.is_output), key=lambda block: block.layer)
    order = [*hidden, *shown]
    levels = [last if block.is_output else block.layer for block in order]
    sizes = np.array([block.size for block in order])
    firsts = np.cumsum(sizes) - sizes
    place = np.full(ops.n_units, -1, dtype=np.int64)
    for block, first in zip(order, firsts, strict=True):
        place[block.first : block.first + (block.size or 0)] = np.arange(first, first + (block.size or 0))
    sums = [(first, block.sums) for block, first in zip(order, firsts, strict=True) if block.sums is not None]
    sources = place[np.concatenate([one.weights.indices for _, one in sums])]
    targets = np.concatenate([
        first + np.repeat(np.arange(one.biases.size), np.diff(one.weights.indptr)) for first, one in sums
    ])  # fmt: skip
    edges = np.lexsort((targets, sources))
    names = {level: {block.name: 0 for block, at in zip(order, levels, strict=True) if at == level} for level in levels}
    unread = [block.name for block in ops.inputs if block.number is None]
    dag = LayeredDAG.from_sorted_edges(
        sources[edges],
        targets[edges],
        layer=np.repeat(levels, sizes),
        n_layers=last + 1,
        dense_edges=sum(one.dense_edges for _, one in sums),
        weights=np.concatenate([one.weights.data for _, one in sums])[edges],
        biases=np.concatenate([np.zeros(b.size or 0) if b.sums is None else b.sums.biases for b in order]),
        activations=np.repeat([_activation(block) for block in order], sizes),
        layer_names=[clean(" + ".join(names.get(level, ()))) for level in range(last + 1)],
        notes=[f"Left out, because nothing reads it: input {', '.join(map(repr, unread[:6]))}."] if unread else (),
    )
    if output_names is None and not any(block.unit_names for block in read):
        return dag
    all_names, first = unit_names(dag), 0
    for block in read:
        size = block.size or 0
        all_names[first : first + size] = block.unit_names or all_names[first : first + size]
        first += size
    if output_names is not None and len(output_names) == dag.layer_sizes[-1]:
        all_names[-len(output_names) :] = output_names
    return replace(dag, unit_names=np.array(all_names, dtype=np.str_))


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


def _alive(ops: Operations, shown: Sequence[Block]) -> list[Block]:
    """List the blocks that an output depends on, but for inputs, in the order of reading."""
    wanted = {block.number for block in shown}
    for number in reversed(range(len(ops.blocks))):
        sums = ops.blocks[number].sums
        if number in wanted and sums is not None:
            wanted |= sums.blocks
    return [block for block in ops.blocks if block.number in wanted and block.sums is not None]


def _activation(block: Block) -> str:
    """Name what the units of a block do, with the marks in front, in brackets."""
    if block.sums is None:
        return "identity"
    marks = [f"({', '.join(sorted(block.sums.marks))})"] if block.sums.marks else []
    return "+".join([*marks, *block.activations]) or "identity"
