"""Layers for any directed graph: cycles become one unit each, inputs come first and outputs last."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from scipy.sparse import csr_array

from modgraph.arrays import BoolArray, FloatArray, IntArray

_SHOWN = 4  # names in a note or in the name of a unit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layering:
    """A directed graph as layers, its units numbered layer by layer."""

    edges: IntArray
    weights: FloatArray | None  # those of edges that became one are added up
    layer: IntArray
    nodes: list[list[int]]  # of each unit: one, or all of a cycle
    unit_names: list[str]
    is_copy: BoolArray  # whether a unit shows, in the last layer, an output that other units read
    notes: list[str]  # what was changed, one sentence each


def layered(
    edges: IntArray,
    *,
    names: Sequence[str],
    inputs: BoolArray | None = None,
    outputs: BoolArray | None = None,
    weights: FloatArray | None = None,
) -> Layering:
    """Give the nodes of a directed graph layers.

    Nodes that lie on a common cycle become one unit. Inputs are in layer 0, and edges that enter them are left out;
    every other unit is in the layer of the longest path that leads to it; outputs are in the last layer, and one that
    has successors is shown there by a copy with one edge of weight 1. By default inputs are the nodes without
    predecessors, and outputs those with predecessors and without successors.

    >>> found = layered(np.array([[0, 1], [1, 2], [2, 1], [1, 3]]), names=list("abcd"))
    >>> found.layer.tolist(), found.nodes, found.notes
    ([0, 1, 2], [[0], [1, 2], [3]], ['1 cycle became one unit each: b, c.'])
    """
    n_nodes = len(names)
    graph = csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n_nodes, n_nodes))
    component = (
        scipy.sparse.csgraph.connected_components(graph, connection="strong")[1]
        if n_nodes
        else np.zeros(0, dtype=np.int64)
    )
    # Number units by their first node, so that the order of the nodes is kept.
    _, first, unit = np.unique(component, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    unit = rank[unit.reshape(-1)].astype(np.int64)
    members: list[list[int]] = [[] for _ in range(first.size)]
    for node, number in enumerate(unit.tolist()):
        members[number].append(node)
    notes = _cycle_notes(edges, members, names)

    ends = unit[edges]
    between = ends[:, 0] != ends[:, 1]
    entered, left = (np.bincount(ends[between, at], minlength=first.size) > 0 for at in (1, 0))
    is_input = ~entered if inputs is None else _any_of(inputs, unit, first.size)
    is_output = entered & ~left if outputs is None else _any_of(outputs, unit, first.size)
    into_inputs = between & is_input[ends[:, 1]]
    if into_inputs.any():
        notes.append(f"Left out, because they enter inputs: {_some(int(into_inputs.sum()), 'edge')}.")
    between &= ~into_inputs
    if not is_input.any() or not is_output.any() or not between.any():
        raise ValueError("`graph` must have an input, an output, and an edge that lies on no cycle and enters no input")

    pairs, place = np.unique(ends[between], axis=0, return_inverse=True)
    values: FloatArray | None = None
    if weights is not None:
        values = np.bincount(place.reshape(-1), weights[between], minlength=len(pairs)).astype(np.float64)
    # Outputs that others read, and inputs that are outputs too, are shown by copies.
    left = np.bincount(pairs[:, 0], minlength=first.size) > 0
    copied = np.flatnonzero(is_output & (left | is_input))
    copies = np.arange(first.size, first.size + copied.size)
    pairs = np.concatenate([pairs, np.column_stack([copied, copies])])
    values = None if values is None else np.concatenate([values, np.ones(copied.size)])
    is_copy = np.arange(first.size + copied.size) >= first.size
    is_last = np.concatenate([is_output & ~(left | is_input), np.ones(copied.size, dtype=np.bool_)])
    depth = _longest_paths(pairs, np.where(np.concatenate([is_input, np.zeros(copied.size, dtype=np.bool_)]), 0, 1))
    depth[is_last] = depth[~is_last].max(initial=0) + 1
    layer = np.unique(depth, return_inverse=True)[1].reshape(-1)
    order = np.argsort(layer, kind="stable")
    number = np.argsort(order)
    members += [members[source] for source in copied.tolist()]
    nodes, is_copy = [members[at] for at in order.tolist()], is_copy[order]
    return Layering(
        edges=number[pairs],
        weights=values,
        layer=layer[order],
        nodes=nodes,
        unit_names=[_unit_name(some, names, copy) for some, copy in zip(nodes, is_copy.tolist(), strict=True)],
        is_copy=is_copy,
        notes=notes,
    )


def _unit_name(nodes: Sequence[int], names: Sequence[str], is_copy: bool) -> str:
    """Name a unit after its nodes."""
    some = " + ".join(names[node] for node in nodes[:_SHOWN])
    more = f" + {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    return f"{some}{more}{' (output)' if is_copy else ''}"


def chosen_nodes(
    argument: str, chosen: str | Iterable[Hashable] | Callable[[Any], bool], nodes: Sequence[Hashable], *, default: str
) -> BoolArray | None:
    """Turn nodes, a predicate, or the word for the default (None) into one boolean for each node."""
    if isinstance(chosen, str):
        if chosen != default:
            raise ValueError(f"`{argument}` must be {default!r}, nodes, or a function of a node (got {chosen!r})")
        return None
    if callable(chosen):
        return np.array([bool(chosen(node)) for node in nodes], dtype=np.bool_)
    wanted = set(chosen)
    missing = [node for node in wanted if node not in set(nodes)]
    if missing:
        raise ValueError(f"`{argument}` must be nodes of the graph (got {missing[0]!r})")
    return np.array([node in wanted for node in nodes], dtype=np.bool_)


def _any_of(chosen: BoolArray, unit: IntArray, n_units: int) -> BoolArray:
    """Say of each unit whether one of its nodes is chosen."""
    return np.bincount(unit[chosen], minlength=n_units) > 0


def _some(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _cycle_notes(edges: IntArray, members: Sequence[Sequence[int]], names: Sequence[str]) -> list[str]:
    cycles = [nodes for nodes in members if len(nodes) > 1]
    loops = int((edges[:, 0] == edges[:, 1]).sum())
    notes = []
    if cycles:
        largest = max(cycles, key=len)
        some = ", ".join(names[node] for node in largest[:_SHOWN]) + (", …" if len(largest) > _SHOWN else "")
        which = "" if len(cycles) == 1 else "the largest is "
        notes.append(f"{_some(len(cycles), 'cycle')} became one unit each: {which}{some}.")
    if loops:
        notes.append(f"Left out: {_some(loops, 'edge')} from a node to itself.")
    return notes


def _longest_paths(edges: IntArray, least: IntArray) -> IntArray:
    """Find the longest path that leads to each unit of a graph without cycles, and at least what `least` says."""
    depth = least.astype(np.int64)
    order = np.argsort(edges[:, 0], kind="stable")
    targets = edges[order, 1]
    starts = np.searchsorted(edges[order, 0], np.arange(least.size + 1))
    waiting = np.bincount(edges[:, 1], minlength=least.size)
    ready = np.flatnonzero(waiting == 0)
    while ready.size:  # units all of whose predecessors are done
        counts = starts[ready + 1] - starts[ready]
        where = np.repeat(starts[ready] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        reached = targets[where]
        np.maximum.at(depth, reached, np.repeat(depth[ready], counts) + 1)
        np.subtract.at(waiting, reached, 1)
        ready = np.unique(reached[waiting[reached] == 0])
    return depth
