"""The hierarchy of a Boolean function, from its truth table alone.

The method works on the algebraic normal form: the function as a sum (XOR) of monomials (ANDs of inputs). A set S of
inputs feeds the rest through one bit h exactly where f = C(R) ⊕ h(S)·D(R), with R the other inputs (Ashenhurst, 1957).
Read in monomials: those that touch S form a Cartesian product of parts in S and parts in R. Such a set is called
a block here. The blocks of a function form one tree, whose inner nodes are ANDs with negated operands, XORs,
or *prime*: functions of three or more operands without a block of their own (Ashenhurst's theorem). So the tree of
each output is unique; equal nodes of several outputs are then joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgraph.functions.graph import MAX_TABLE_INPUTS, FunctionGraph
from modgraph.functions.subfunction import BitFunction, Bits, SubFunction, check_strings, patterns

Coefficients = NDArray[np.bool_]
"""Algebraic normal form, shape (2,) * n_variables: True at the 0/1 exponents of each monomial of the sum."""

AND: Final = "and"
XOR: Final = "xor"
PRIME: Final = "prime"
INPUT: Final = "input"


@dataclass(frozen=True, slots=True)
class TableLookup:
    """A function given by its truth table: 0 or 1 at each pattern of the bits, the first bit most significant."""

    table: bytes
    label: str = PRIME

    @property
    def __name__(self) -> str:
        """What `SubFunction` calls it."""
        return self.label

    def __call__(self, *bits: Bits) -> Bits:
        """Look the bits up."""
        position = np.zeros(bits[0].shape, dtype=np.int64)
        for bit in bits:
            position = 2 * position + bit
        return np.frombuffer(self.table, dtype=np.uint8)[position]


class Node(NamedTuple):
    """A sub-function that is 0 where all inputs are 0.

    An AND node is ∧(operand ⊕ negated), complemented if all its operands are negated (so it is an OR then).
    """

    kind: str
    operands: tuple[int, ...] = ()  # numbers of nodes, ascending in `decompose`
    negated: tuple[bool, ...] = ()  # AND only
    table: bytes = b""  # PRIME only
    position: int = -1  # INPUT only

    def function(self) -> str | BitFunction:
        """Return what a `SubFunction` calls."""
        if self.kind == PRIME:
            return TableLookup(self.table)
        if self.kind == XOR or not any(self.negated):
            return self.kind
        if all(self.negated):
            return "or"
        literals = patterns(len(self.negated)) ^ np.array(self.negated)
        label = "and_" + "".join(str(int(negated)) for negated in self.negated)  # such as and_01: 1 = negated
        return TableLookup(literals.all(axis=1).astype(np.uint8).tobytes(), label)

    def items(self) -> frozenset[Any]:
        """Return the literals (operand, negated) of an AND, the operands of any other node."""
        return frozenset(zip(self.operands, self.negated, strict=True) if self.kind == AND else self.operands)


def decompose(table: ArrayLike, *, inputs: Sequence[str] | None = None, name: str = "decomposed") -> FunctionGraph:
    """Find the hierarchy of sub-functions that a truth table has.

    Every output is decomposed into its unique tree of ANDs, ORs, XORs and prime sub-functions with disjoint inputs
    (Ashenhurst, 1957). Equal or complementary sub-functions of several outputs become one. Operands that several
    ANDs (or XORs) have in common become a sub-function of their own: the choice that saves most operands first; sets
    that save equally much but exclude each other are left alone.

    A sub-function is 0 where all inputs are 0; outputs are negated (``"~"``) where they are not. A sub-function whose
    function is called ``prime`` cannot be decomposed further into parts with disjoint inputs. If no output can,
    `name` ends with ``", prime"``. Inputs that change no output are left out.

    What a table doesn't determine is not found: several bits that one sub-function passes on together (such as `H`
    of the published `reuse` functions), and sub-functions of overlapping inputs within one output.

    Parameters
    ----------
    table : array_like of 0 and 1, shape (2**n_inputs,) or (2**n_inputs, n_outputs)
        Row i holds the outputs for the binary digits of i, the first input most significant, as in
        `FunctionGraph.truth_table`.
    inputs : sequence of str, length n_inputs, optional
        Names of the inputs; by default x0, x1, …
    name : str
        The name of the graph.

    Raises
    ------
    ValueError
        If `table` is not of that shape, or an output is constant.

    Examples
    --------
    >>> table = [a & b | c & d for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)]
    >>> for sub in decompose(table).sub_functions:
    ...     print(sub)
    SubFunction('s0' = and(x0, x1))
    SubFunction('s1' = and(x2, x3))
    SubFunction('s2' = or(s0, s1))
    """
    columns = _columns(table)
    n_inputs = len(columns).bit_length() - 1
    names = tuple(f"x{i}" for i in range(n_inputs)) if inputs is None else check_strings("inputs", inputs)
    if len(names) != n_inputs:
        raise ValueError(f"`inputs` must be {n_inputs} names (got {len(names)})")
    nodes = _Nodes(n_inputs)
    shown: list[tuple[int, bool]] = []
    of_output: dict[bytes, int] = {}
    for output in range(columns.shape[1]):
        column = columns[:, output]
        negated = bool(column[0])
        key = np.packbits(column ^ negated).tobytes()
        if key not in of_output:
            coefficients = _normal_form((column ^ negated).reshape((2,) * n_inputs))
            essential = [i for i in range(n_inputs) if np.take(coefficients, 1, axis=i).any()]
            if not essential:
                raise ValueError(f"`table` must have no constant output (output {output} is always {int(negated)})")
            selected = tuple(slice(None) if i in essential else 0 for i in range(n_inputs))
            of_output[key] = _tree(coefficients[selected], essential, nodes)
        shown.append((of_output[key], negated))
    nodes.share_operands(set(of_output.values()))
    graph_name = name if _has_structure(nodes, of_output.values()) else f"{name}, prime"
    return _graph(nodes, shown, names=names, name=graph_name)


def _columns(table: ArrayLike) -> NDArray[np.bool_]:
    """Check a truth table; returns shape (2**n_inputs, n_outputs)."""
    values = np.asarray(table)
    columns = values[:, None] if values.ndim == 1 else values
    n_rows = len(columns) if columns.ndim == 2 else 0
    if n_rows < 2 or n_rows & (n_rows - 1) or columns.shape[1] == 0 or n_rows > 2**MAX_TABLE_INPUTS:
        raise ValueError(
            f"`table` must have 2**n rows, 1 ≤ n ≤ {MAX_TABLE_INPUTS}, and a column or more (got shape {values.shape})"
        )
    if not (binary := np.isin(columns, (0, 1))).all():
        raise ValueError(f"`table` must be 0 or 1 (got {columns[~binary][0]})")
    return columns.astype(np.bool_)


def _normal_form(values: NDArray[np.bool_]) -> Coefficients:
    """Turn a table, shape (2,) * n, into its normal form, and back: f = f(0) ⊕ x (f(0) ⊕ f(1)) for each axis x."""
    result = values.copy()
    for axis in range(values.ndim):
        halves = result.reshape(2**axis, 2, -1)
        halves[:, 1] ^= halves[:, 0]
    return result


def _tree(
    coefficients: Coefficients,
    operands: Sequence[int],
    nodes: _Nodes,
    spans_all: AbstractSet[tuple[int, int]] = frozenset(),
) -> int:
    """Decompose a function of nodes into nodes; returns the number of its root.

    `coefficients` has one axis for each operand, depends on each, and has no constant term. `spans_all` holds pairs of
    axes (a, b), a < b, known to be in no block but that of all axes.
    """
    n = coefficients.ndim
    if n == 1:
        return operands[0]
    if n == 2:
        if not coefficients[1, 1]:
            return nodes.add_xor(operands)
        # ab ⊕ ca ⊕ db = (a ⊕ d)(b ⊕ c) ⊕ cd
        return nodes.add_and([(operands[0], bool(coefficients[0, 1])), (operands[1], bool(coefficients[1, 0]))])
    known = set(spans_all)
    block = _some_block(coefficients, known)
    if block is None:
        return nodes.add_prime(operands, _normal_form(coefficients))
    rest = [axis for axis in range(n) if axis not in block]
    rows = coefficients.transpose([*block, *rest]).reshape(2 ** len(block), -1)
    touching = rows[1:].any(axis=0)  # D
    inner: NDArray[np.bool_] = np.any(rows, axis=1)  # h
    inner[0] = False
    inside = _tree(inner.reshape((2,) * len(block)), [operands[axis] for axis in block], nodes)
    outer = np.stack([rows[0], touching]).reshape((2,) * (1 + len(rest)))
    # Blocks of the outer function are blocks of this one, with the block just found in place of its bit.
    place = dict.fromkeys(block, 0) | {axis: 1 + i for i, axis in enumerate(rest)}
    still = {(min(place[a], place[b]), max(place[a], place[b])) for a, b in known}
    return _tree(outer, [inside, *(operands[axis] for axis in rest)], nodes, still)


def _some_block(coefficients: Coefficients, spans_all: set[tuple[int, int]]) -> list[int] | None:
    """Find a block of two or more axes, but not of all; None if the function is prime. Adds to `spans_all`."""
    n = coefficients.ndim
    for pair in combinations(range(n), 2):
        if pair in spans_all:
            continue
        block = _smallest_block(coefficients, pair, spans_all)
        if len(block) < n:
            return block
        spans_all.add(pair)
    return None


def _smallest_block(
    coefficients: Coefficients, pair: tuple[int, int], spans_all: AbstractSet[tuple[int, int]]
) -> list[int]:
    """Find the smallest block that contains two axes.

    The set S starts as the pair and grows by axes that every block containing S must contain. Let row(s) be the set of
    parts outside S of the monomials whose part in S is s. S is a block if all rows that aren't empty are equal. Else
    let row(s) lack something that the union U of all rows has. In a block M ⊇ S, U and row(s) are products of some
    sets of parts in M with one common set of parts outside M. So a pair of minimal Hamming distance, one
    in row(s) and one in U without row(s), differs within M only: all axes where the two differ are in M.
    """
    n = coefficients.ndim
    inside = list(pair)
    while len(inside) < n:
        outside = [axis for axis in range(n) if axis not in inside]
        rows = coefficients.transpose([*inside, *outside]).reshape(2 ** len(inside), -1)[1:]
        union = rows.any(axis=0)
        lacking = (rows != union).any(axis=1) & rows.any(axis=1)
        if not lacking.any():
            return sorted(inside)
        present = rows[lacking.argmax()]
        for k in _nearest_difference(present, union & ~present, n_axes=len(outside)):
            if any((min(outside[k], axis), max(outside[k], axis)) in spans_all for axis in inside):
                return list(range(n))
            inside.append(outside[k])
    return sorted(inside)


def _nearest_difference(present: NDArray[np.bool_], missing: NDArray[np.bool_], *, n_axes: int) -> Iterator[int]:
    """Find axes in which nearest elements of `present` and `missing` differ; at distance 1 those of all pairs.

    Both have shape (2**n_axes,), as in a truth table.
    """

    def flipped(elements: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
        return elements.reshape(2**axis, 2, -1)[:, ::-1].reshape(-1)

    adjacent = False
    for axis in range(n_axes):
        if (missing & flipped(present, axis)).any():
            adjacent = True
            yield axis
    if adjacent:
        return
    reached = [present]
    while not (meeting := reached[-1] & missing).any():
        wider = reached[-1].copy()
        for axis in range(n_axes):
            wider |= flipped(reached[-1], axis)
        reached.append(wider)
    place = int(meeting.argmax())
    for earlier in reached[-2::-1]:
        for axis in range(n_axes):
            neighbour = place ^ 2 ** (n_axes - 1 - axis)
            if earlier[neighbour]:
                yield axis
                place = neighbour
                break


class _Nodes:
    """Nodes without repeats, numbered; the first are the inputs."""

    def __init__(self, n_inputs: int) -> None:
        self.nodes: list[Node] = [Node(INPUT, position=i) for i in range(n_inputs)]
        self.number = {node: i for i, node in enumerate(self.nodes)}

    def add(self, node: Node) -> int:
        """Return the number of `node`, a new one if there is none like it."""
        if node not in self.number:
            self.number[node] = len(self.nodes)
            self.nodes.append(node)
        return self.number[node]

    def add_xor(self, operands: Sequence[int]) -> int:
        """Add an XOR; operands that are XORs are replaced by theirs."""
        flat: set[int] = set()
        for operand in operands:
            node = self.nodes[operand]
            flat ^= node.items() if node.kind == XOR else {operand}
        return self.add(_flat_node(XOR, flat))

    def add_and(self, literals: Sequence[tuple[int, bool]]) -> int:
        """Add an AND of (operand, negated); operands that are ANDs in the right polarity are replaced by theirs."""
        flat: set[tuple[int, bool]] = set()
        for operand, negated in literals:
            node = self.nodes[operand]
            if node.kind == AND and negated == all(node.negated):
                flat |= node.items()
            else:
                flat.add((operand, negated))
        return self.add(_flat_node(AND, flat))

    def add_prime(self, operands: Sequence[int], table: NDArray[np.bool_]) -> int:
        """Add a prime sub-function; `table` has one axis for each operand."""
        order = np.argsort(operands)
        values = np.ascontiguousarray(table.transpose(order)).astype(np.uint8).tobytes()
        return self.add(Node(PRIME, tuple(operands[i] for i in order), table=values))

    def used(self, roots: set[int]) -> list[int]:
        """Return the nodes that `roots` are made of, themselves included, ascending."""
        found, waiting = set(roots), list(roots)
        while waiting:
            for operand in self.nodes[waiting.pop()].operands:
                if operand not in found:
                    found.add(operand)
                    waiting.append(operand)
        return sorted(found)

    def share_operands(self, roots: set[int]) -> None:
        """Make operands that several ANDs or XORs have in common a node of their own; numbers of nodes stay."""
        for kind in (AND, XOR):
            excluded: set[frozenset[Any]] = set()
            while True:
                readers = {n: self.nodes[n].items() for n in self.used(roots) if self.nodes[n].kind == kind}
                saved = self._savings(readers, excluded)
                if not saved:
                    break
                best = [common for common, saving in saved.items() if saving == max(saved.values())]
                clashing = {
                    common for one, two in combinations(best, 2) if _exclude(one, two, readers) for common in (one, two)
                }
                excluded |= clashing
                for common in sorted(set(best) - clashing, key=sorted)[:1]:
                    self._extract(kind, common, readers)

    @staticmethod
    def _savings(readers: dict[int, frozenset[Any]], excluded: set[frozenset[Any]]) -> dict[frozenset[Any], int]:
        """Return, for each set that two or more readers have in common, how many operands sharing it saves."""
        common = {one & two for one, two in combinations(readers.values(), 2)}
        saved = {}
        for items in common - excluded:
            uses = sum(items <= of_reader for of_reader in readers.values())
            if len(items) > 1:
                saved[items] = (uses - 1) * (len(items) - 1)
        return saved

    def _extract(self, kind: str, common: frozenset[Any], readers: dict[int, frozenset[Any]]) -> None:
        """Replace `common` in all readers that have more operands than these by a node of its own."""
        shared = self.add(_flat_node(kind, common))
        literal: Any = shared if kind == XOR else (shared, all(self.nodes[shared].negated))
        for number, items in readers.items():
            if common < items:
                replaced = _flat_node(kind, (items - common) | {literal})
                del self.number[self.nodes[number]]
                self.nodes[number], self.number[replaced] = replaced, number


def _flat_node(kind: str, items: AbstractSet[Any]) -> Node:
    """Return an XOR of operands, or an AND of literals (operand, negated)."""
    ordered = sorted(items)
    if kind == XOR:
        return Node(XOR, tuple(ordered))
    return Node(AND, tuple(operand for operand, _ in ordered), tuple(negated for _, negated in ordered))


def _exclude(one: frozenset[Any], two: frozenset[Any], readers: dict[int, frozenset[Any]]) -> bool:
    """Whether two sets of operands overlap, without one in the other, within one reader."""
    overlap = bool(one & two) and not (one <= two or two <= one)
    return overlap and any(one | two <= items for items in readers.values())


def _has_structure(nodes: _Nodes, outputs: Iterable[int]) -> bool:
    """Whether some output is more than a prime sub-function of inputs."""
    return any(
        nodes.nodes[number].kind != PRIME or any(nodes.nodes[o].kind != INPUT for o in nodes.nodes[number].operands)
        for number in outputs
    )


def _graph(nodes: _Nodes, shown: Sequence[tuple[int, bool]], *, names: tuple[str, ...], name: str) -> FunctionGraph:
    """Write nodes as a `FunctionGraph`."""
    reference: dict[int, str] = {}
    subs: list[SubFunction] = []
    identities: dict[int, str] = {}
    taken = set(names)

    def new_name() -> str:
        number = len(subs)
        while f"s{number}" in taken:
            number += 1
        taken.add(f"s{number}")
        return f"s{number}"

    def write(number: int) -> None:
        if number in reference:
            return
        node = nodes.nodes[number]
        if node.kind == INPUT:
            reference[number] = names[node.position]
            return
        for operand in node.operands:
            write(operand)
        parents = [reference[operand] for operand in node.operands]
        reference[number] = new_name()
        subs.append(SubFunction(reference[number], parents, function=node.function()))

    outputs = []
    for number, negated in shown:
        write(number)
        text = reference[number]
        if nodes.nodes[number].kind == INPUT:  # an output can't show an input
            if number not in identities:
                identities[number] = new_name()
                subs.append(SubFunction(identities[number], [text], function="identity"))
            text = identities[number]
        outputs.append("~" * negated + text)
    kept = [text for i, text in enumerate(names) if i in reference]
    return with_least_depth(FunctionGraph(name=name, inputs=kept, sub_functions=subs, outputs=outputs))


def with_least_depth(graph: FunctionGraph) -> FunctionGraph:
    """Return `graph` with `min_hidden` set to what its levels need."""
    return replace(graph, min_hidden=max(1, max(graph.levels().values()) - 1))
