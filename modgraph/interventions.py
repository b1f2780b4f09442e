"""The parts of tests by intervention: a network with its values on samples, and sub-functions to exchange."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.forward import Replay
from modgraph.functions import ExpectedModule, FunctionGraph
from modgraph.functions.subfunction import patterns
from modgraph.modules import Module, ModuleHierarchy

MAX_EXHAUSTIVE_INPUTS: Final = 12
"""Functions of more inputs are verified on a sample of their truth table."""
N_SAMPLES: Final = 2048  # rows of that sample
MAX_PAIRS: Final = 100_000  # (input, state) pairs up to which all interchanges are done
N_PAIRS: Final = 20_000  # interchanges drawn if there are more pairs
STATE_DECIMALS: Final = 5  # values that agree to this many decimals are the same state


def sample_inputs(n_inputs: int, data: ArrayLike | None, rng: np.random.Generator) -> tuple[FloatArray, bool]:
    """Return the inputs to test on, and whether they are all patterns in the order of a truth table."""
    if data is not None:
        rows = np.asarray(data, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != n_inputs or len(rows) == 0:
            raise ValueError(f"`data` must be of shape (n_samples, {n_inputs}) (got {rows.shape})")
        return rows, False
    if n_inputs > MAX_EXHAUSTIVE_INPUTS:
        return rng.integers(2, size=(N_SAMPLES, n_inputs)).astype(np.float64), False
    return patterns(n_inputs).astype(np.float64), True


def check_sizes(dag: LayeredDAG, target: FunctionGraph) -> None:
    """Raise ValueError unless a target has as many inputs and outputs as a network."""
    for kind, size, wanted in (
        ("inputs", dag.layer_sizes[0], target.n_inputs),
        ("outputs", dag.layer_sizes[-1], target.n_outputs),
    ):
        if size != wanted:
            raise ValueError(f"`target` must have the {size} {kind} of the network ({target.name!r} has {wanted})")


def entropy(counts: IntArray) -> float:
    """Entropy in bits of a distribution given by counts."""
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -math.fsum((shares * np.log2(shares)).tolist()))


class Claim:
    """An expected module as something to test: its value on every sample, and the outputs if the value is exchanged."""

    def __init__(self, graph: FunctionGraph, expected: ExpectedModule, rows: FloatArray) -> None:
        inner = set(expected.sub_functions)
        leaving = [n for n in expected.sub_functions if n in graph.shown or not inner.issuperset(graph.readers(n))]
        self.is_inputs = not leaving
        self.positions = list(expected.inputs)
        self.outputs = expected.outputs
        self.names = tuple(leaving) or tuple(graph.inputs[i] for i in expected.inputs)
        support = [graph.input_support(name) for name in self.names]
        self.support = sorted(set(expected.inputs if self.is_inputs else ()).union(*support))
        self.reach = sorted(set[int]().union(*(graph.output_reach(name) for name in self.names)))
        self.graph = graph
        self.rows = rows.astype(np.uint8)
        if self.is_inputs:
            bits = self.rows[:, self.positions]
            self.widths = [1] * len(self.positions)
        else:
            values = graph.values(self.rows)
            self.widths = [values[name].shape[1] for name in leaving]
            bits = np.column_stack([values[name] for name in leaving])
        self.patterns, code = np.unique(bits, axis=0, return_inverse=True)
        self.code: IntArray = code.reshape(-1)
        self._exchanged: NDArray[np.uint8] | None = None

    @property
    def exchanged(self) -> NDArray[np.uint8]:
        """The outputs for each value of the sub-function and each sample, shape (n_values, n_samples, n_outputs)."""
        if self._exchanged is None:
            self._exchanged = np.stack([self._outputs(pattern) for pattern in self.patterns])
        return self._exchanged

    def _outputs(self, pattern: NDArray[np.uint8]) -> NDArray[np.uint8]:
        n = len(self.rows)
        if self.is_inputs:
            rows = self.rows.copy()
            rows[:, self.positions] = pattern
            return self.graph.evaluate(rows)
        parts = np.split(pattern, np.cumsum(self.widths)[:-1])
        fixed = {name: np.tile(part, (n, 1)) for name, part in zip(self.names, parts, strict=True)}
        return self.graph.evaluate(self.rows, fixed=fixed)


class Bench:
    """A network with its values on the samples, for tests of sets of units."""

    def __init__(
        self, found: ModuleHierarchy, replay: Replay, rows: FloatArray, *, exhaustive: bool, has_target: bool
    ) -> None:
        dag = found.dag
        self.dag, self.exhaustive, self.has_target = dag, exhaustive, has_target
        self.replay = replay
        self.n_inputs = dag.layer_sizes[0]
        self.first_output = dag.n_units - dag.layer_sizes[-1]
        self.rows = rows
        kept = found.labels >= 0
        self.kept = np.flatnonzero(kept)
        between = kept[dag.sources] & kept[dag.targets]
        self.sources, self.targets = dag.sources[between], dag.targets[between]
        # Edges are sorted by source, so those that leave one layer are one slice.
        bounds = np.searchsorted(self.sources, dag.layer_starts).tolist()
        self.leaving = [slice(first, end) for first, end in itertools.pairwise(bounds)]
        shown = replay.activations[self.first_output :]
        self.threshold: FloatArray = np.where(shown == "sigmoid", 0.5, 0.0)
        self.outputs = self.replay.values[:, self.first_output :]
        self.bits = self.as_bits(self.outputs)
        self._unit_codes: dict[int, tuple[IntArray, int]] = {}
        self._flipped: dict[int, FloatArray] = {}

    def as_bits(self, outputs: FloatArray) -> NDArray[np.uint8]:
        """Turn output values into bits."""
        return (outputs > self.threshold).astype(np.uint8)

    def boundary(self, member: BoolArray) -> IntArray:
        """Return the units with edges that leave a set of units, and the outputs in it."""
        outer = np.zeros(member.size, dtype=np.bool_)
        outer[self.sources[member[self.sources] & ~member[self.targets]]] = True
        outer[self.first_output :] |= member[self.first_output :]
        return np.flatnonzero(outer)

    def is_closed(self, member: BoolArray) -> bool:
        """Whether no path leaves a set of units and comes back to it."""
        after = np.zeros(member.size, dtype=np.bool_)  # units outside that a path from the set leads to
        for edges in self.leaving:
            sources, targets = self.sources[edges], self.targets[edges]
            if (after[sources] & member[targets]).any():
                return False
            after[targets[(member[sources] | after[sources]) & ~member[targets]]] = True
        return True

    def states(self, units: IntArray) -> IntArray:
        """Return a number for each sample, equal where the states of some units are equal."""
        state = np.zeros(len(self.rows), dtype=np.int64)
        largest = 1
        for unit in units.tolist():
            if unit not in self._unit_codes:
                values, code = np.unique(self._discrete(self.replay.values, unit), return_inverse=True)
                self._unit_codes[unit] = code.reshape(-1), values.size
            code, size = self._unit_codes[unit]
            state = state * size + code
            largest *= size
            if largest > 2**31:
                state = np.unique(state, return_inverse=True)[1].reshape(-1)
                largest = int(state.max()) + 1
        return np.unique(state, return_inverse=True)[1].reshape(-1)

    def _discrete(self, values: FloatArray, unit: int) -> FloatArray:
        column = values[:, unit]
        if unit >= self.first_output and self.has_target:
            column = (column > self.threshold[unit - self.first_output]).astype(np.float64)
        return np.round(column, STATE_DECIMALS)

    def unchanged(self, units: IntArray, state: IntArray, position: int) -> float:
        """Share of samples whose state stays when an input is flipped (0 ↔ 1)."""
        if self.exhaustive:
            halves = state.reshape(2**position, 2, -1)
            return float((halves[:, 0] == halves[:, 1]).mean())
        if position not in self._flipped:
            rows = self.rows.copy()
            rows[:, position] = 1 - rows[:, position]
            self._flipped[position] = self.replay.for_inputs(rows)
        other, values = self._flipped[position], self.replay.values
        same = np.ones(len(self.rows), dtype=np.bool_)
        for unit in units.tolist():
            same &= self._discrete(other, unit) == self._discrete(values, unit)
        return float(same.mean())

    # --- The tests ----------------------------------------------------------------------------------------------------

    def sufficiency(self, state: IntArray, claim: Claim) -> float:
        """Entropy, in bits, of the sub-function's value where the state is known."""
        n_values = len(claim.patterns)
        joint = np.bincount(state * n_values + claim.code, minlength=(int(state.max()) + 1) * n_values)
        return round(max(0.0, entropy(joint) - entropy(joint.reshape(-1, n_values).sum(axis=1))), 12)

    def support(self, units: IntArray, state: IntArray, claim: Claim) -> float:
        """Smallest share of samples whose state stays, over the inputs that the sub-function doesn't depend on."""
        outside = [position for position in range(self.n_inputs) if position not in claim.support]
        return min((self.unchanged(units, state, position) for position in outside), default=1.0)

    def interchange(
        self, units: IntArray, state: IntArray, claim: Claim, *, rng: np.random.Generator, n_pairs: int | None = None
    ) -> tuple[int, int, bool]:
        """Exchange the state between inputs; returns how many pairs come out right, of how many, and whether of all.

        Inputs with the same state and the same value of the sub-function are exchanged once, and counted as often as
        there are such inputs.
        """
        n = len(self.rows)
        kinds = state * len(claim.patterns) + claim.code
        _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
        all_pairs = n_pairs is None and first.size * n <= MAX_PAIRS
        if all_pairs:
            base, source = np.tile(np.arange(n), first.size), np.repeat(first, n)
        else:
            base, source = rng.integers(n, size=(2, n_pairs or N_PAIRS))
        outputs = self.replay.outputs(base, units, self.replay.values[np.ix_(source, units)])
        right = (self.as_bits(outputs) == claim.exchanged[claim.code[source], base]).all(axis=1)
        if all_pairs:
            return int(right.reshape(-1, n).sum(axis=1) @ counts), n * n, True
        return int(right.sum()), right.size, False

    def ablated(self, units: IntArray) -> FloatArray:
        """Return how much each output changes when units are set to their means; see `Ablation`."""
        means = self.replay.values[:, units].mean(axis=0)
        n = len(self.rows)
        outputs = self.replay.outputs(np.arange(n), units, np.tile(means, (n, 1)))
        if self.has_target:
            changed: FloatArray = (self.as_bits(outputs) != self.bits).mean(axis=0)
            return changed
        spread = self.outputs.std(axis=0)
        shift: FloatArray = np.abs(outputs - self.outputs).mean(axis=0) / np.where(spread > 0, spread, 1.0)
        return shift

    def explained(self, units: IntArray, outputs: IntArray) -> float:
        """Share of the variance of some outputs that a linear function of the units explains."""
        wanted = self.outputs[:, outputs] - self.outputs[:, outputs].mean(axis=0)
        known = self.replay.values[:, units] - self.replay.values[:, units].mean(axis=0)
        total = float((wanted**2).sum())
        if total == 0:
            return 0.0
        rest = wanted - known @ np.linalg.lstsq(known, wanted, rcond=None)[0]
        return float(min(1.0, max(0.0, 1 - (rest**2).sum() / total)))

    def regroupings(self, module: Module, n_controls: int, rng: np.random.Generator) -> Iterator[BoolArray]:
        """Draw sets of units other than the module, as many from each layer."""
        # Sorted by their values, so that the numbering of units doesn't matter.
        ordered = sorted(self.kept.tolist(), key=lambda u: np.round(self.replay.values[:, u], STATE_DECIMALS).tobytes())
        pools = [[unit for unit in ordered if self.dag.layer[unit] == level] for level in module.layers]
        counts = [int((self.dag.layer[module.units] == level).sum()) for level in module.layers]
        if all(count == len(pool) for count, pool in zip(counts, pools, strict=True)):
            return
        in_module = np.zeros(self.dag.n_units, dtype=np.bool_)
        in_module[module.units] = True
        for _ in range(n_controls):
            member = in_module
            while (member == in_module).all():
                member = np.zeros(self.dag.n_units, dtype=np.bool_)
                for count, pool in zip(counts, pools, strict=True):
                    member[rng.choice(pool, size=count, replace=False)] = True
            yield member
