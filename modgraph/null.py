"""Null networks: the same degrees, or the same weights, without any structure beyond them.

For modules by wiring the null networks keep the degrees of all units (`swap_edges`); for modules by influence, the
wiring and the weights' values (`shuffle_weights`). An edge between two layers is exchanged only with other edges
between the same two layers.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from modgraph.arrays import FloatArray, IntArray, read_only
from modgraph.checks import check_choice
from modgraph.dag import LayeredDAG

SWAPS = 10.0  # swaps made between two layers, per edge; after as many an edge is in its old place by chance only
PILOT_ATTEMPTS = 4  # attempts, per edge, that measure how often a swap succeeds
MOST_ATTEMPTS = 2000  # attempts, per edge, at most: if few swaps are possible, few networks have these degrees
DENSE = 0.5  # share of places from which on the places without an edge are swapped (the same networks, more successes)


def swap_edges(
    dag: LayeredDAG,
    *,
    weights: str = "keep",
    random_state: int | np.random.Generator | None = 0,
) -> LayeredDAG:
    """Draw a network with the same degrees: every unit keeps its numbers of edges from and to every other layer.

    Two edges between the same two layers, a → b and c → d, become a → d and c → b unless one of those exists. With
    enough such swaps every network with these degrees is equally likely, whatever the order of the units
    (Rao, Jana and Bandyopadhyay, Sankhyā A 58, 1996; Fosdick, Larremore, Nishimura and Ugander, SIAM Review 60, 2018).
    In a trimmed network no unit loses its path from an input to an output.

    Parameters
    ----------
    dag : LayeredDAG
        Best trimmed: edges at units that lie on no path are swapped like others.
    weights : {"keep", "shuffle"}
        Where weights go, if there are any. "keep": each unit keeps the weights of the edges that leave it, in a random
        order. "shuffle": all weights between two layers in a random order.
    random_state : int, Generator or None

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([np.kron(np.eye(2), np.ones((3, 3)))])
    >>> null = swap_edges(dag, random_state=1)
    >>> np.bincount(null.sources).tolist() == np.bincount(dag.sources).tolist()
    True
    >>> bool((null.targets == dag.targets).all())
    False
    """
    check_choice("weights", weights, ("keep", "shuffle"))
    rng = np.random.default_rng(random_state)
    targets = dag.targets.copy()
    values = None if dag.weights is None else dag.weights.copy()
    starts = dag.layer_starts
    for one, two, edges in dag.edges_by_layers():
        first, second = starts[one : one + 2], starts[two : two + 2]
        sources, ends = dag.sources[edges] - first[0], dag.targets[edges] - second[0]
        new = _swapped(sources, ends, int(first[1] - first[0]), int(second[1] - second[0]), rng)
        targets[edges] = new + second[0]
        if values is not None:
            if weights == "shuffle":
                values[edges] = values[edges][rng.permutation(len(edges))]
            else:
                # Permute the weights of the edges that leave each unit; edges are sorted by source.
                values[edges] = values[edges][np.lexsort((rng.random(len(edges)), sources))]
    return _with_edges(dag, dag.sources, targets, values)


def shuffle_weights(
    dag: LayeredDAG, *, zeros: bool = False, random_state: int | np.random.Generator | None = 0
) -> LayeredDAG:
    """Put the weights between each two layers in a random order, with their signs; all else stays.

    Parameters
    ----------
    dag : LayeredDAG
        With weights, unless `zeros`.
    zeros : bool
        Whether the places without an edge are shuffled too: then the numbers of edges between layers stay, but not the
        degrees, and units may come off every path. By default only weights move.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        If there are no weights and `zeros` is False.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1.0, -2.0], [0.0, 3.0]]], weights=[[[1.0, -2.0], [0.0, 3.0]]])
    >>> sorted(shuffle_weights(dag, random_state=0).weights.tolist())
    [-2.0, 1.0, 3.0]
    """
    if not isinstance(zeros, bool | np.bool_):
        raise ValueError(f"`zeros` must be True or False (got {zeros!r})")
    if dag.weights is None and not zeros:
        raise ValueError("`dag` must have weights to shuffle (got none)")
    rng = np.random.default_rng(random_state)
    sources, targets = dag.sources.copy(), dag.targets.copy()
    values = None if dag.weights is None else dag.weights.copy()
    starts = dag.layer_starts
    for one, two, edges in dag.edges_by_layers():
        if zeros:
            rows, columns = (int(starts[level + 1] - starts[level]) for level in (one, two))
            places = rng.choice(rows * columns, size=len(edges), replace=False, shuffle=False)
            sources[edges], targets[edges] = places // columns + starts[one], places % columns + starts[two]
        if values is not None:
            values[edges] = values[edges][rng.permutation(len(edges))]
    return _with_edges(dag, sources, targets, values)


def _swapped(
    sources: IntArray, targets: IntArray, n_sources: int, n_targets: int, rng: np.random.Generator
) -> IntArray:
    """Return new targets for the edges between two layers, with units counted within their layers."""
    from modgraph import null_kernels

    dense = len(sources) > DENSE * n_sources * n_targets
    if dense:
        # Swapping two places without an edge gives the same networks as swapping two edges.
        filled = np.zeros((n_sources, n_targets), dtype=np.bool_)
        filled[sources, targets] = True
        ones, twos = np.nonzero(~filled)
    else:
        ones, twos = sources, targets.copy()
    n_edges = len(ones)
    if n_edges < 2:
        return targets
    table = null_kernels.edge_table(ones, twos, n_targets)
    state = rng.integers(1 << 64, size=1, dtype=np.uint64)
    pilot = int(PILOT_ATTEMPTS * n_edges) + 64
    made = null_kernels.swap_edges(ones, twos, n_targets, table, state, pilot)
    # Fix the number of attempts now: if it depended on their success, networks would not be equally likely.
    attempts = SWAPS * n_edges * pilot / max(made, 1)
    null_kernels.swap_edges(ones, twos, n_targets, table, state, int(min(attempts, MOST_ATTEMPTS * n_edges)) + 64)
    if not dense:
        return twos
    filled[:] = True
    filled[ones, twos] = False
    return np.nonzero(filled)[1]


def _with_edges(dag: LayeredDAG, sources: IntArray, targets: IntArray, weights: FloatArray | None) -> LayeredDAG:
    """Return the network with other edges, sorted."""
    order = np.lexsort((targets, sources))
    return dataclasses.replace(
        dag,
        sources=read_only(sources[order]),
        targets=read_only(targets[order]),
        weights=None if weights is None else read_only(weights[order]),
    )
