"""Which units are reachable within a number of hops: unions of sparse boolean matrix powers."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import BoolArray
from modgraph.checks import check_choice, check_hops, check_int
from modgraph.dag import LayeredDAG

BoolMatrix = Any  # a scipy csr_array or a numpy ndarray of bool: both have the operators used here


def reachability(dag: LayeredDAG, level: int, *, hops: int | None = None, direction: str = "outwards") -> csr_array:
    """Find the units that each unit of one layer reaches within `hops` steps.

    A breadth-first search by boolean matrix products: the new frontier is the product of the frontier with the
    adjacency, minus what was reached before. It stops when nothing is new.

    Parameters
    ----------
    dag : LayeredDAG
    level : int
        The layer whose units are the rows, 0 … n_layers − 1.
    hops : int ≥ 1, optional
        Longest path that counts, in edges; by default all paths.
    direction : {"outwards", "inwards"}
        Follow the edges towards the outputs, or against them towards the inputs.

    Returns
    -------
    csr_array of bool, shape (units in the layer, n_units)
        True where a path of 1 … `hops` edges leads to (or comes from) the unit; a unit doesn't reach itself.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 0], [1, 1]], [[1, 0]]])
    >>> reachability(dag, 0).toarray().astype(int)
    array([[0, 0, 1, 1, 1],
           [0, 0, 0, 1, 0]])
    >>> reachability(dag, 0, hops=1).toarray().astype(int)
    array([[0, 0, 1, 1, 0],
           [0, 0, 0, 1, 0]])
    """
    check_int("level", level, at_least=0, at_most=dag.n_layers - 1)
    limit = check_hops(hops, n_layers=dag.n_layers)
    check_choice("direction", direction, ("outwards", "inwards"))
    step = dag.adjacency if direction == "outwards" else dag.adjacency.T.tocsr()
    start, stop = dag.layer_starts[level : level + 2].tolist()
    return spread(step[start:stop], step, hops=limit, skips_layers=dag.skips_layers)


def spread(frontier: BoolMatrix, step: BoolMatrix, *, hops: int, skips_layers: bool) -> BoolMatrix:
    """Find what is reachable in `hops` steps, given what is reachable in one.

    Parameters
    ----------
    frontier : csr_array or ndarray of bool, shape (n_rows, n_units)
        What each row reaches in one step.
    step : of the same kind, shape (n_units, n_units)
    hops : int ≥ 1
    skips_layers : bool
        False: no unit is at two distances from another.

    Returns
    -------
    csr_array or ndarray of bool, shape (n_rows, n_units)
    """
    # Sparse and dense boolean matrices share these operators: @ is or-of-ands, + is or, > is and-not.
    reached = frontier
    for _ in range(hops - 1):
        frontier = frontier @ step
        if frontier.sum() == 0:
            break
        if skips_layers:
            frontier = frontier > reached
        reached = reached + frontier
    return reached


def layers_within(dag: LayeredDAG, hops: int) -> BoolArray:
    """Find which layers are reachable within `hops` steps from each layer.

    Parameters
    ----------
    dag : LayeredDAG
    hops : int ≥ 1

    Returns
    -------
    ndarray of bool, shape (n_layers, n_layers)
        ``[a, b]`` is True where some chain of at most `hops` edges between layers leads from layer a to layer b.
    """
    step = np.zeros((dag.n_layers, dag.n_layers), dtype=np.bool_)
    step[dag.layer[dag.sources], dag.layer[dag.targets]] = True
    reached = step
    for _ in range(min(hops, dag.n_layers - 1) - 1):
        reached = reached | (reached @ step)
    return reached
