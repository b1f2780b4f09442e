"""A target function as a directed acyclic graph of Boolean sub-functions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from modgraph.functions.subfunction import (
    Bits,
    SubFunction,
    as_bits,
    check_arity,
    check_int,
    check_name,
    compute,
    nearest,
    patterns,
    strings,
)

MAX_TABLE_INPUTS: Final = 20
"""More inputs than this have no truth table."""
_TRIED_BITS: Final = 10  # a callable is tried on all patterns of its parent bits, up to 2¹⁰ of them


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
        What tables and pictures call it.
    inputs : sequence of str
        Names of the input units; each must be read by a sub-function.
    sub_functions : sequence of SubFunction
        In any order; an output must depend on each.
    outputs : sequence of str
        The bit that each output unit shows: ``"P"``, ``"~P"``, ``"H.1"``.
    min_hidden : int, default 1
        The fewest hidden layers of a network in which the modules of this graph can be told apart.
    shallow : FunctionGraph, optional
        What to expect of networks with fewer; without it nothing is expected of them.
    counts_modules : bool, default True
        Whether an *exact* hierarchy must have the expected number of modules. Where it need not, its hidden layers
        must be right (so the paper judges `overlap`, without a number of modules).

    Raises
    ------
    ValueError
        If a name is repeated, a reference unknown, a sub-function or an input unused, a number of arguments wrong,
        what a callable gives of the wrong shape or not binary, or if there is a cycle.

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
        object.__setattr__(self, "inputs", strings("inputs", self.inputs))
        object.__setattr__(self, "sub_functions", tuple(self.sub_functions))
        object.__setattr__(self, "outputs", strings("outputs", self.outputs))
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
        return tuple(name for name, _ in _shown(self))

    def values(self, inputs: ArrayLike) -> dict[str, Bits]:
        """Compute every sub-function on samples.

        Parameters
        ----------
        inputs : array_like of 0 and 1, shape (n_samples, n_inputs)

        Returns
        -------
        dict of str → ndarray of uint8, shape (n_samples, bits of the sub-function)
            Read-only.

        Raises
        ------
        ValueError
            If `inputs` has another shape or is not binary.

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
        table = {name: as_bits(samples[:, [column]]) for column, name in enumerate(self.inputs)}
        subs = {sub.name: sub for sub in self.sub_functions}
        for name in _order(self):
            table[name] = compute(subs[name], [table[n][:, bit] for n, bit in _bits(self, subs[name].parents)])
        return {name: table[name] for name in subs}

    def evaluate(self, inputs: ArrayLike) -> Bits:
        """Compute the outputs on samples.

        Parameters
        ----------
        inputs : array_like of 0 and 1, shape (n_samples, n_inputs)

        Returns
        -------
        ndarray of uint8, shape (n_samples, n_outputs)
            Read-only.

        Raises
        ------
        ValueError
            If `inputs` has another shape or is not binary.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("separable").evaluate([[1, 0, 1, 1]])
        array([[1, 0, 0, 1]], dtype=uint8)
        """
        values = self.values(inputs)
        columns = [
            values[name][:, bit] ^ reference.startswith("~")
            for reference, (name, bit) in zip(self.outputs, _shown(self), strict=True)
        ]
        return as_bits(np.column_stack(columns))

    def truth_table(self) -> tuple[Bits, Bits]:
        """All inputs and their outputs.

        Returns
        -------
        inputs : ndarray of uint8, shape (2**n_inputs, n_inputs)
            Row i holds the binary digits of i, most significant (the first input) first. Read-only.
        outputs : ndarray of uint8, shape (2**n_inputs, n_outputs)
            Read-only.

        Raises
        ------
        ValueError
            With more than 20 inputs.

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
        parents = _parents(self)
        level = dict.fromkeys(self.inputs, 0)
        for name in _order(self):
            level[name] = 1 + max(level[parent] for parent in parents[name])
        return {name: level[name] for name in parents}

    def readers(self, name: str) -> tuple[str, ...]:
        """Sub-functions that read an input or a sub-function directly; ValueError if there is no such name.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("overlap_1_use_1").readers("x3")
        ('F', 'G')
        """
        _bits(self, [name], argument="name")
        return tuple(reader for reader, parents in _parents(self).items() if name in parents)

    def input_support(self, name: str) -> tuple[int, ...]:
        """Positions of the inputs that a sub-function depends on; ValueError if there is no such name.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("levels_use_1").input_support("g")
        (4, 5, 6, 7)
        """
        _bits(self, [name], argument="name")
        parents = _parents(self)
        found = _closure(name, lambda n: parents.get(n, ()))
        return tuple(position for position, n in enumerate(self.inputs) if n in found)

    def output_reach(self, name: str) -> tuple[int, ...]:
        """Positions of the outputs that depend on a sub-function; ValueError if there is no such name.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("reuse_2").output_reach("A")
        (0, 2)
        """
        found = _closure(name, self.readers)
        return tuple(position for position, n in enumerate(self.shown) if n in found)

    def input_partition(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the inputs, grouped by the set of sub-functions that read them directly.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("overlap_1_use_1").input_partition()
        ((0, 1, 2), (3,), (4, 5, 6))
        """
        return _grouped(self.readers(name) for name in self.inputs)

    def output_partition(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the outputs, grouped by the sub-function they show, whichever bit and sign.

        Examples
        --------
        >>> from modgraph.functions import published
        >>> published("separable").output_partition()
        ((0, 1), (2, 3))
        """
        return _grouped(self.shown)

    def at_depth(self, hidden_layers: int | None = None) -> FunctionGraph | None:
        """Return the graph to expect of a network with so many hidden layers; None where nothing is expected.

        Parameters
        ----------
        hidden_layers : int, optional
            By default, enough.

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
        """Return the modules that a network of this function should show.

        The paper's merge rule (section 3.3) at the level of functions: a group of inputs, or a sub-function that
        no output shows, is one module with the sub-function that reads it if nothing else reads it and that
        sub-function reads nothing else. The rest are modules of their own; outputs belong to what they show.

        Parameters
        ----------
        hidden_layers : int, optional
            Number of hidden layers of the network; by default as many as it takes.

        Returns
        -------
        tuple of ExpectedModule
            Groups of inputs come first. Empty where nothing is expected of so few layers.

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
        groups, parents, order = graph.input_partition(), _parents(graph), _order(graph)
        module = {graph.inputs[position]: number for number, group in enumerate(groups) for position in group}
        leader = {name: graph.inputs[groups[number][0]] for name, number in module.items()}  # a group acts as one
        for name in order:
            source, *others = {leader.get(parent, parent) for parent in parents[name]}
            alone = not others and graph.readers(source) == (name,) and source not in graph.shown
            module[name] = module[source] if alone else max(module.values()) + 1
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
        n_bits = len(_bits(graph, sub.parents, argument=f"parents` of `{sub.name}"))
        check_arity(sub, n_bits)
    _order(graph)
    _shown(graph)
    for reference in graph.outputs:
        name, dot, _ = reference.removeprefix("~").partition(".")
        if name in graph.inputs:
            raise ValueError(f"`outputs` must show sub-functions, not inputs (got {reference!r})")
        if not dot and len(_bits(graph, [name])) > 1:
            raise ValueError(f"`outputs` must show one bit each, as in '{name}.0' (got {reference!r})")
    for name in names:
        if name not in graph.inputs and not graph.output_reach(name):
            raise ValueError(f"`sub_functions` must all be used (got {name!r}, on which no output depends)")
        if name in graph.inputs and not graph.readers(name):
            raise ValueError(f"`inputs` must all be read (got {name!r}, which no sub-function reads)")
    for sub in graph.sub_functions:
        n_bits = len(_bits(graph, sub.parents))
        tried = patterns(min(n_bits, _TRIED_BITS))
        compute(sub, [tried[:, column % _TRIED_BITS] for column in range(n_bits)])
    check_int("min_hidden", graph.min_hidden, least=0)
    size = (graph.n_inputs, graph.n_outputs)
    if graph.shallow is not None and (graph.shallow.n_inputs, graph.shallow.n_outputs) != size:
        raise ValueError(f"`shallow` must have {size[0]} inputs and {size[1]} outputs (got {graph.shallow!r})")


def _bits(graph: FunctionGraph, references: Sequence[str], *, argument: str = "parents") -> list[tuple[str, int]]:
    """Resolve references to (name, bit) pairs; a bare name gives all its bits."""
    sizes = dict.fromkeys(graph.inputs, 1) | {sub.name: sub.n_outputs for sub in graph.sub_functions}
    pairs: list[tuple[str, int]] = []
    for reference in references:
        name, dot, bit = reference.partition(".")
        if name not in sizes:
            near = nearest(name, sizes)
            raise ValueError(f"`{argument}` must name inputs or sub-functions (got {reference!r}{near})")
        if dot and not (bit.isdecimal() and int(bit) < sizes[name]):
            raise ValueError(f"`{argument}` must name a bit of `{name}`, 0 to {sizes[name] - 1} (got {reference!r})")
        pairs += [(name, int(bit))] if dot else [(name, i) for i in range(sizes[name])]
    return pairs


def _parents(graph: FunctionGraph) -> dict[str, tuple[str, ...]]:
    """Find what each sub-function reads, without bits and repeats."""
    return {s.name: tuple(dict.fromkeys(name for name, _ in _bits(graph, s.parents))) for s in graph.sub_functions}


def _order(graph: FunctionGraph) -> list[str]:
    """Sub-functions, parents first."""
    parents = _parents(graph)
    try:
        return [name for name in TopologicalSorter(parents).static_order() if name in parents]
    except CycleError as error:
        raise ValueError(f"`sub_functions` must have no cycle (got {' → '.join(error.args[1])})") from None


def _shown(graph: FunctionGraph) -> list[tuple[str, int]]:
    """Resolve the (sub-function, bit) that each output shows."""
    return _bits(graph, [reference.removeprefix("~") for reference in graph.outputs], argument="outputs")


def _grouped(keys: Iterable[Hashable]) -> tuple[tuple[int, ...], ...]:
    """Positions of equal keys, in the order of their first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return tuple(map(tuple, groups.values()))


def _closure(start: str, following: Callable[[str], Iterable[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        waiting = list(dict.fromkeys(n for name in waiting for n in following(name) if n not in found))
        found.update(waiting)
    return found
