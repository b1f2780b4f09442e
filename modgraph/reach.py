"""Which units are reachable within a number of hops: unions of sparse boolean matrix powers."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from modgraph.arrays import BoolArray
from modgraph.dag import LayeredDAG

Matrix = Any  # a scipy csr_array or a numpy ndarray of bool: one set of operators serves both


def reachability(dag: LayeredDAG, level: int, *, hops: int | None = None, direction: str = "outwards") -> csr_array:
    """Find the units that each unit of one layer reaches within `hops` steps.

    A breadth-first search as boolean products: the units met first after one step more are the product of the
    frontier with the adjacency, minus what was reached before, until nothing is new.

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
    if not 0 <= level < dag.n_layers:
        raise ValueError(f"`level` must be a layer from 0 to {dag.n_layers - 1} (got {level})")
    limit = check_hops(hops, dag)
    if direction not in ("outwards", "inwards"):
        raise ValueError(f'`direction` must be "outwards" or "inwards" (got {direction!r})')
    step = dag.adjacency if direction == "outwards" else dag.adjacency.T.tocsr()
    start, stop = dag.layer_starts[level : level + 2].tolist()
    return spread(step[start:stop], step, hops=limit, skips_layers=dag.skips_layers)


def spread(frontier: Matrix, step: Matrix, *, hops: int, skips_layers: bool) -> Matrix:
    """Continue from what is reachable in one step to what is reachable in `hops`.

    Parameters
    ----------
    frontier : csr_array or ndarray of bool, shape (n_rows, n_units)
        What each row reaches in one step.
    step : of the same kind, shape (n_units, n_units)
    hops : int ≥ 1
    skips_layers : bool
        False says that no unit can be met at two distances.

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
    """Find which layers can be met within `hops` steps from each layer.

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


def check_hops(hops: int | None, dag: LayeredDAG) -> int:
    """Return `hops` as the number of steps worth taking, or say what is wrong with it."""
    if hops is None:
        return dag.n_layers - 1
    if isinstance(hops, bool) or not isinstance(hops, int | np.integer) or hops < 1:
        raise ValueError(f"`hops` must be an int ≥ 1 (got {hops!r})")
    return min(int(hops), dag.n_layers - 1)
