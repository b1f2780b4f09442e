"""A target function as a directed acyclic graph of Boolean sub-functions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from modgraph.checks import check_int
from modgraph.functions.subfunction import (
    Bits,
    SubFunction,
    check_arity,
    check_name,
    check_strings,
    compute,
    patterns,
    read_only_bits,
    suggestion,
)

MAX_TABLE_INPUTS: Final = 20
"""`FunctionGraph.truth_table` takes at most this many inputs."""
_MAX_TRIED_BITS: Final = 10  # a new graph tries each callable on all patterns of at most this many bits


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedModule:
    """A module that a network should show for its function graph.

    Attributes
    ----------
    inputs, outputs : tuple of int
        Positions of the input and output units in it; may be empty.
    sub_functions : tuple of str
        The sub-functions it computes; empty for a group of inputs that more than one module reads.
    """

    inputs: tuple[int, ...] = ()
    sub_functions: tuple[str, ...] = ()
    outputs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FunctionGraph:
    """A target function as a directed acyclic graph of sub-functions.

    Parameters
    ----------
    name : str
        Its name in tables and pictures.
    inputs : sequence of str
        Names of the input units; each must be read by a sub-function.
    sub_functions : sequence of SubFunction
        In any order; each must have an output that depends on it.
    outputs : sequence of str
        The bit that each output unit shows: ``"P"``, ``"~P"`` (negated), ``"H.1"`` (bit 1 of ``H``).
    min_hidden : int, default 1
        The fewest hidden layers of a network in which the modules of this graph can be told apart.
    shallow : FunctionGraph, optional
        The graph to expect of networks with fewer hidden layers. Without it nothing is expected of them.
    counts_modules : bool, default True
        Whether an *exact* hierarchy must have the expected number of modules. If not, its hidden layers must be right
        instead (the paper judges `overlap` so).

    Raises
    ------
    ValueError
        If a name is repeated, a reference is unknown, a sub-function or an input is unused, a number of arguments is
        wrong, a callable returns a wrong shape or values other than 0 and 1, or there is a cycle.

    Examples
    --------
    >>> FunctionGraph(
    ...     name="half adder",
    ...     inputs=["a", "b"],
    ...     sub_functions=[
    ...         SubFunction("sum", ["a", "b"], function="xor"),
    ...         SubFunction("carry", ["a", "b"], function="and"),
    ...     ],
    ...     outputs=["carry", "sum"],
    ... )
    FunctionGraph('half adder', 2 inputs, 2 sub-functions, 2 outputs)
    """

    name: str
    inputs: Sequence[str]
    sub_functions: Sequence[SubFunction]
    outputs: Sequence[str]
    min_hidden: int = 1
    shallow: FunctionGraph | None = None
    counts_modules: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", check_strings("inputs", self.inputs))
        object.__setattr__(self, "sub_functions", tuple(self.sub_functions))
        object.__setattr__(self, "outputs", check_strings("outputs", self.outputs))
        _validate(self)

    @property
    def n_inputs(self) -> int:
        """Number of input units."""
        return len(self.inputs)

    @property
    def n_outputs(self) -> int:
        """Number of output units."""
        return len(self.outputs)

    @property
    def shown(self) -> tuple[str, ...]:
        """The sub-function that each output shows."""
        return tuple(name for name, _ in _output_bits(self))

    def values(self, inputs: ArrayLike, *, fixed: Mapping[str, ArrayLike] | None = None) -> dict[str, Bits]:
        """Compute every sub-function on samples.

        Parameters
        ----------
        inputs : array_like of 0 and 1, shape (n_samples, n_inputs)
        fixed : mapping of str → array_like of 0 and 1, shape (n_samples, bits of the sub-function), optional
            Sub-functions that have these values, whatever they read (an intervention).

        Returns
        -------
        dict of str → ndarray of uint8, shape (n_samples, bits of the sub-function)
            Read-only.

        Raises
        ------
        ValueError
            If `inputs` or `fixed` has another shape or is not binary.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("reused").values([[1, 1, 0, 0]])["H"]
        array([[1, 0, 0]], dtype=uint8)
        """
        samples = np.asarray(inputs)
        if samples.ndim != 2 or samples.shape[1] != self.n_inputs:
            raise ValueError(f"`inputs` must have shape (n_samples, {self.n_inputs}) (got {samples.shape})")
        if not (binary := np.isin(samples, (0, 1))).all():
            raise ValueError(f"`inputs` must be 0 or 1 (got {samples[~binary][0]})")
        table = {name: read_only_bits(samples[:, [column]]) for column, name in enumerate(self.inputs)}
        subs = {sub.name: sub for sub in self.sub_functions}
        given = {name: read_only_bits(np.asarray(bits)) for name, bits in (fixed or {}).items()}
        for name, bits in given.items():
            size = (len(samples), subs[name].n_outputs) if name in subs else None
            if not np.isin(bits, (0, 1)).all():
                raise ValueError(f"`fixed` must map to arrays of 0 and 1 (got {name!r}: {bits.max()})")
            if bits.shape != size:
                raise ValueError(
                    f"`fixed` must map sub-functions to arrays of shape {size} (got {name!r}: {bits.shape})"
                )
        for name in _topological_order(self):
            if name in given:
                table[name] = given[name]
            else:
                table[name] = compute(subs[name], [table[n][:, bit] for n, bit in _resolve(self, subs[name].parents)])
        return {name: table[name] for name in subs}

    def evaluate(self, inputs: ArrayLike, *, fixed: Mapping[str, ArrayLike] | None = None) -> Bits:
        """Compute the outputs on samples, read-only uint8 of shape (n_samples, n_outputs).

        `inputs`, `fixed` and errors are as in `values`.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("separable").evaluate([[1, 0, 1, 1]])
        array([[1, 0, 0, 1]], dtype=uint8)
        """
        values = self.values(inputs, fixed=fixed)
        columns = [
            values[name][:, bit] ^ reference.startswith("~")
            for reference, (name, bit) in zip(self.outputs, _output_bits(self), strict=True)
        ]
        return read_only_bits(np.column_stack(columns))

    def truth_table(self) -> tuple[Bits, Bits]:
        """All inputs (2**n_inputs, n_inputs) and their outputs (2**n_inputs, n_outputs), read-only uint8.

        Row i of the inputs holds the binary digits of i, most significant (the first input) first. ValueError with more
        than 20 inputs.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> inputs, outputs = published("single").truth_table()
        >>> inputs[outputs[:, 0] == 1].tolist()
        [[0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0]]
        """
        if self.n_inputs > MAX_TABLE_INPUTS:
            raise ValueError(f"`inputs` must be at most {MAX_TABLE_INPUTS} for a truth table (got {self.n_inputs})")
        rows = patterns(self.n_inputs)
        return rows, self.evaluate(rows)

    def levels(self) -> dict[str, int]:
        """Level of each sub-function: 1 where it reads inputs only, else one more than its deepest parent.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("levels_use_1").levels()
        {'f': 1, 'g': 1, 'M': 2, 'f_not_g': 3, 'g_not_f': 3}
        """
        parents = _parent_names(self)
        level = dict.fromkeys(self.inputs, 0)
        for name in _topological_order(self):
            level[name] = 1 + max(level[parent] for parent in parents[name])
        return {name: level[name] for name in parents}

    def readers(self, name: str) -> tuple[str, ...]:
        """Sub-functions that read an input or a sub-function directly; ValueError if there is no such name."""
        _resolve(self, [name], argument="name")
        return tuple(reader for reader, parents in _parent_names(self).items() if name in parents)

    def input_support(self, name: str) -> tuple[int, ...]:
        """Positions of the inputs that a sub-function depends on; ValueError if there is no such name.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("levels_use_1").input_support("g")
        (4, 5, 6, 7)
        """
        _resolve(self, [name], argument="name")
        parents = _parent_names(self)
        found = _linked_names(name, lambda n: parents.get(n, ()))
        return tuple(position for position, n in enumerate(self.inputs) if n in found)

    def output_reach(self, name: str) -> tuple[int, ...]:
        """Positions of the outputs that depend on a sub-function; ValueError if there is no such name.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("reuse_2").output_reach("A")
        (0, 2)
        """
        found = _linked_names(name, self.readers)
        return tuple(position for position, n in enumerate(self.shown) if n in found)

    def input_partition(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the inputs, grouped by the set of sub-functions that read them directly.

        >>> from modgraph.functions import published
        >>> published("overlap_1_use_1").input_partition()
        ((0, 1, 2), (3,), (4, 5, 6))
        """
        return _group_positions(self.readers(name) for name in self.inputs)

    def output_partition(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the outputs, grouped by the sub-function they show, whichever bit and sign.

        >>> from modgraph.functions import published
        >>> published("separable").output_partition()
        ((0, 1), (2, 3))
        """
        return _group_positions(self.shown)

    def at_depth(self, hidden_layers: int | None = None) -> FunctionGraph | None:
        """Return the graph to expect of a network with this many `hidden_layers`, or None if nothing is expected.

        By default, with enough hidden layers for this graph.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("levels_use_1").at_depth(2)
        FunctionGraph('levels_use_1, shallow', 8 inputs, 3 sub-functions, 2 outputs)
        """
        if hidden_layers is None or hidden_layers >= self.min_hidden:
            return self
        return None if self.shallow is None else self.shallow.at_depth(hidden_layers)

    def expected_modules(self, hidden_layers: int | None = None) -> tuple[ExpectedModule, ...]:
        """Return the modules that a network with this many `hidden_layers` (by default enough) should show.

        This is the paper's merge rule (section 3.3) applied to functions. A group of inputs, or a sub-function that no
        output shows, joins the module of its reader if it has one reader and that reader reads nothing else. All
        others are modules of their own. Outputs belong to the module of the sub-function they show. Groups of inputs
        come first; nothing is expected of a network that is too shallow.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> for module in published("overlap_4_use_1").expected_modules():
        ...     print(module)
        ExpectedModule(inputs=(0, 1, 2, 3), sub_functions=(), outputs=())
        ExpectedModule(inputs=(), sub_functions=('F',), outputs=(0,))
        ExpectedModule(inputs=(), sub_functions=('G',), outputs=(1,))
        """
        graph = self.at_depth(hidden_layers)
        if graph is None:
            return ()
        groups, parents, order = graph.input_partition(), _parent_names(graph), _topological_order(graph)
        module = {graph.inputs[position]: number for number, group in enumerate(groups) for position in group}
        # The first input stands for its group.
        leader = {name: graph.inputs[groups[number][0]] for name, number in module.items()}
        for name in order:
            source, *others = {leader.get(parent, parent) for parent in parents[name]}
            joins = not others and graph.readers(source) == (name,) and source not in graph.shown
            module[name] = module[source] if joins else max(module.values()) + 1
        return tuple(
            ExpectedModule(
                inputs=tuple(position for position, n in enumerate(graph.inputs) if module[n] == number),
                sub_functions=tuple(n for n in order if module[n] == number),
                outputs=tuple(position for position, n in enumerate(graph.shown) if module[n] == number),
            )
            for number in range(max(module.values()) + 1)
        )

    def __repr__(self) -> str:
        count = f"{self.n_inputs} inputs, {len(self.sub_functions)} sub-functions, {self.n_outputs} outputs"
        return f"FunctionGraph({self.name!r}, {count})"


def _validate(graph: FunctionGraph) -> None:
    if not graph.sub_functions:
        raise ValueError("`sub_functions` must hold at least one SubFunction (got none)")
    for sub in graph.sub_functions:
        if not isinstance(sub, SubFunction):
            raise ValueError(f"`sub_functions` must hold SubFunction objects (got {sub!r})")
    names = [*graph.inputs, *(sub.name for sub in graph.sub_functions)]
    for name in names:
        check_name("inputs", name)
        if names.count(name) > 1:
            raise ValueError(f"`inputs` and `sub_functions` must have different names (got {name!r} twice)")
    for sub in graph.sub_functions:
        check_arity(sub, len(_resolve(graph, sub.parents, argument=f"parents` of `{sub.name}")))
    _topological_order(graph)
    _output_bits(graph)
    for reference in graph.outputs:
        name, dot, _ = reference.removeprefix("~").partition(".")
        if name in graph.inputs:
            raise ValueError(f"`outputs` must show sub-functions, not inputs (got {reference!r})")
        if not dot and len(_resolve(graph, [name])) > 1:
            raise ValueError(f"`outputs` must show one bit each, as in '{name}.0' (got {reference!r})")
    for name in names:
        if name not in graph.inputs and not graph.output_reach(name):
            raise ValueError(f"`sub_functions` must all be used (got {name!r}, on which no output depends)")
        if name in graph.inputs and not graph.readers(name):
            raise ValueError(f"`inputs` must all be read (got {name!r}, which no sub-function reads)")
    for sub in graph.sub_functions:
        n_bits = len(_resolve(graph, sub.parents))
        rows = patterns(min(n_bits, _MAX_TRIED_BITS))
        compute(sub, [rows[:, column % _MAX_TRIED_BITS] for column in range(n_bits)])
    check_int("min_hidden", graph.min_hidden, at_least=0)
    size = (graph.n_inputs, graph.n_outputs)
    if graph.shallow is not None and (graph.shallow.n_inputs, graph.shallow.n_outputs) != size:
        raise ValueError(f"`shallow` must have {size[0]} inputs and {size[1]} outputs (got {graph.shallow!r})")


def _resolve(graph: FunctionGraph, references: Sequence[str], *, argument: str = "parents") -> list[tuple[str, int]]:
    """Resolve references to (name, bit) pairs; a name without a bit stands for all its bits."""
    sizes = dict.fromkeys(graph.inputs, 1) | {sub.name: sub.n_outputs for sub in graph.sub_functions}
    pairs: list[tuple[str, int]] = []
    for reference in references:
        name, dot, bit = reference.partition(".")
        if name not in sizes:
            hint = suggestion(name, sizes)
            raise ValueError(f"`{argument}` must name inputs or sub-functions (got {reference!r}{hint})")
        if dot and not (bit.isdecimal() and int(bit) < sizes[name]):
            raise ValueError(f"`{argument}` must name a bit of `{name}`, 0 to {sizes[name] - 1} (got {reference!r})")
        pairs += [(name, int(bit))] if dot else [(name, i) for i in range(sizes[name])]
    return pairs


def _parent_names(graph: FunctionGraph) -> dict[str, tuple[str, ...]]:
    """Return the names that each sub-function reads, without bits and repeats."""
    return {s.name: tuple(dict.fromkeys(name for name, _ in _resolve(graph, s.parents))) for s in graph.sub_functions}


def _topological_order(graph: FunctionGraph) -> list[str]:
    """Return the names of the sub-functions, parents first."""
    parents = _parent_names(graph)
    try:
        return [name for name in TopologicalSorter(parents).static_order() if name in parents]
    except CycleError as error:
        raise ValueError(f"`sub_functions` must have no cycle (got {' → '.join(error.args[1])})") from None


def _output_bits(graph: FunctionGraph) -> list[tuple[str, int]]:
    """Return the (sub-function, bit) that each output shows."""
    return _resolve(graph, [reference.removeprefix("~") for reference in graph.outputs], argument="outputs")


def _group_positions(keys: Iterable[Hashable]) -> tuple[tuple[int, ...], ...]:
    """Group the positions of equal keys, in the order of their first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return tuple(map(tuple, groups.values()))


def _linked_names(start: str, following: Callable[[str], Iterable[str]]) -> set[str]:
    """Return `start` and all names that repeated use of `following` leads to."""
    found, frontier = {start}, {start}
    while frontier:
        frontier = {n for name in frontier for n in following(name)} - found
        found |= frontier
    return found
