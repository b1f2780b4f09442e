"""Paths from inputs to outputs: how many there are, and which units and edges they pass through.

The number of paths through a unit is the number of paths that lead to it times the number that leave it. A unit that
many paths pass through is reused by much of what comes later. Where a few units in the middle carry nearly all paths,
the network is an hourglass (Sabrin and Dovrolis, "The hourglass effect in hierarchical dependency networks", Network
Science 5, 2017; K. Sabrin, Y. Wei, M. van den Heuvel and C. Dovrolis, PLOS Computational Biology 16, 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.checks import check_share
from modgraph.dag import LayeredDAG

COVERED = 0.9  # share of all paths that a core covers, by default (as Sabrin and Dovrolis use)
EQUAL_SHARES = 1e9  # shares of paths that differ by less than one part in this many are equal but for rounding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathCore:
    """The few units that most paths pass through.

    Attributes
    ----------
    units : ndarray of int
        Sorted.
    share : float
        Share of all paths that pass through one of them, 0…1.
    """

    units: IntArray
    share: float

    def __repr__(self) -> str:
        return f"PathCore({len(self.units)} of the units, {self.share:.1%} of paths)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PathCounts:
    """How many paths lead from the inputs to the outputs of a network, and through what; see `paths`.

    Attributes
    ----------
    dag : LayeredDAG
        The network.
    total_log : float
        Natural logarithm of the number of paths; −inf where there is none.
    unit_centrality : ndarray of float, shape (n_units,)
        Share of all paths that pass through each unit, 0…1.
    edge_centrality : ndarray of float, shape (n_edges,)
        Share of all paths that pass through each edge, 0…1, in the order of ``dag.sources``.
    """

    dag: LayeredDAG
    total_log: float
    unit_centrality: FloatArray
    edge_centrality: FloatArray

    def core(self, tau: float = COVERED) -> PathCore:
        """Find a small set of units that a share `tau`, in (0, 1], of all paths passes through (the τ-core).

        The smallest such set is hard to find (NP-complete). As in the papers, the unit that most of the remaining paths
        pass through is taken again and again. Of units that equally many pass through, all those of the earliest layer
        are taken together, so that the order of the units doesn't matter.

        Examples
        --------
        Four inputs and four outputs share one unit:

        >>> paths(LayeredDAG.from_masks([[[1, 1, 1, 1]], [[1], [1], [1], [1]]])).core(0.9)
        PathCore(1 of the units, 100.0% of paths)
        """
        return _core(self.dag, tau, np.ones(self.dag.n_units, dtype=np.bool_))

    @property
    def hourglass(self) -> float:
        """The hourglass score at τ = 0.9: 1 − (size of the core) / (size of the core of inputs and outputs alone).

        0 where inputs or outputs cover the paths as well as any units do, near 1 where a narrow waist is between them.
        0 where there are no paths. Below 0 where many equal units in the middle are taken at once.
        """
        dag = self.dag
        if self.total_log == -math.inf:
            return 0.0
        ends = (dag.layer == 0) | (dag.layer == dag.n_layers - 1)
        return 1 - len(self.core().units) / len(_core(dag, COVERED, ends).units)

    def __repr__(self) -> str:
        digits = self.total_log / math.log(10)
        return f"PathCounts({'no' if digits == -math.inf else f'10^{digits:.2f}'} paths, {self.dag.n_units} units)"


def paths(dag: LayeredDAG) -> PathCounts:
    """Count the paths from inputs to outputs of `dag`, in all and through every unit and edge.

    Edges may skip layers. Two passes over the edges; counts are floats with separate exponents, so that thousands of
    layers don't overflow.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 1], [0, 1], [0, 1]], [[1, 1, 1]]])
    >>> counts = paths(dag)
    >>> round(np.exp(counts.total_log))
    4
    >>> counts.unit_centrality.tolist()
    [0.25, 0.75, 0.5, 0.25, 0.25, 1.0]
    """
    from modgraph.paths_kernels import STEP, products

    (value, exponent), (value_out, exponent_out), total, total_exponent = _counts(
        dag, np.ones(dag.n_units, dtype=np.bool_)
    )
    if total == 0:
        units, edges, total_log = np.zeros(dag.n_units), np.zeros(dag.n_edges), -math.inf
    else:
        every = np.arange(dag.n_units)
        sides = value, exponent, value_out, exponent_out, total, total_exponent
        units, edges = products(every, every, *sides), products(dag.sources, dag.targets, *sides)
        total_log = math.log(total) + total_exponent * STEP * math.log(2)
    return PathCounts(
        dag=dag,
        total_log=total_log,
        unit_centrality=read_only(np.minimum(units, 1.0)),
        edge_centrality=read_only(np.minimum(edges, 1.0)),
    )


Counts = tuple[FloatArray, IntArray]


def _counts(dag: LayeredDAG, open_units: BoolArray) -> tuple[Counts, Counts, float, int]:
    """Count the paths into and out of each unit, and all of them as value and exponent."""
    from modgraph.paths_kernels import STEP, count_paths

    last = dag.layer == dag.n_layers - 1
    inwards = count_paths(dag.sources, dag.targets, dag.layer == 0, open_units)
    outwards = count_paths(dag.targets[::-1], dag.sources[::-1], last, open_units)
    value, exponent = (counts[last] for counts in inwards)
    largest = int(exponent[value > 0].max(initial=0))
    # Ignore counts that are more than two steps below the largest: less than 2^−1000 of it.
    total = math.fsum(np.ldexp(value, np.maximum(exponent - largest, -2) * STEP * (value > 0)).tolist())
    return inwards, outwards, total, largest


def _core(dag: LayeredDAG, tau: float, candidates: BoolArray) -> PathCore:
    """Take the candidates that most of the remaining paths pass through, until few enough remain."""
    from modgraph.paths_kernels import STEP, products

    check_share("tau", tau, above_zero=True)
    open_units = np.ones(dag.n_units, dtype=np.bool_)
    every = np.arange(dag.n_units)
    first = None
    while True:
        (value, exponent), (value_out, exponent_out), total, steps = _counts(dag, open_units)
        if first is None:
            first = total, steps
        left = 0.0 if total == 0 else total / first[0] * math.ldexp(1.0, max((steps - first[1]) * STEP, -1074))
        covered = 1 - left
        if covered >= tau - 1 / EQUAL_SHARES or total == 0:
            break
        shares = products(every, every, value, exponent, value_out, exponent_out, total, steps) * candidates
        most = np.flatnonzero(shares >= shares.max() * (1 - 1 / EQUAL_SHARES))
        open_units[most[dag.layer[most] == dag.layer[most[0]]]] = False
    return PathCore(units=read_only(np.flatnonzero(~open_units)), share=covered)
