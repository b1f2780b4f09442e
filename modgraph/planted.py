"""Random layered graphs with known modules, of any size, on which a clustering can be measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from modgraph.arrays import IntArray, read_only
from modgraph.checks import check_int, check_share
from modgraph.dag import LayeredDAG


def planted_modules(
    layer_sizes: Sequence[int],
    *,
    n_modules: int | Sequence[int],
    fan_out: int = 4,
    rewired: float = 0.0,
    random_state: int | np.random.Generator | None = 0,
) -> tuple[LayeredDAG, IntArray]:
    """Draw a layered graph whose edges stay within modules, except for a given share.

    A layer of n units and M modules gives unit i to module ⌊iM/n⌋. Every unit has edges to `fan_out` different units
    of its module in the next layer, drawn uniformly; then each edge leads, with probability `rewired`, to a unit drawn
    uniformly from the whole next layer instead. Between layers with different numbers of modules the edges stay
    within the larger modules. Time and memory are linear in the number of edges.

    Parameters
    ----------
    layer_sizes : sequence of int ≥ 1
        Two layers or more.
    n_modules : int ≥ 1, or a sequence of them, one a layer
        At most as many as units; of the numbers in adjacent layers one must divide the other.
    fan_out : int ≥ 1
        Edges that leave a unit; a module of fewer units in the next layer gets an edge to each of them.
    rewired : float, 0…1
        1: no trace of the modules is left. Edges that coincide count once.
    random_state : int, Generator or None

    Returns
    -------
    dag : LayeredDAG
        Not trimmed: some units may have no incoming edge.
    labels : ndarray of int, shape (n_units,)
        The module of each unit within its layer, 0 … M − 1.

    Examples
    --------
    >>> dag, labels = planted_modules([6, 4], n_modules=2, fan_out=2, random_state=0)
    >>> dag
    LayeredDAG([6, 4], 12 edges, density 0.5)
    >>> labels.tolist()
    [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    """
    sizes = [int(size) for size in layer_sizes]
    counts = [n_modules] * len(sizes) if isinstance(n_modules, int) else [int(count) for count in n_modules]
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"`layer_sizes` must be two or more ints ≥ 1 (got {sizes})")
    if len(counts) != len(sizes) or not all(1 <= count <= size for count, size in zip(counts, sizes, strict=True)):
        raise ValueError(f"`n_modules` must be from 1 to the size of each layer (got {n_modules} for {sizes})")
    if any(max(pair) % min(pair) for pair in itertools.pairwise(counts)):
        raise ValueError(f"`n_modules` of adjacent layers must divide each other (got {n_modules})")
    check_int("fan_out", fan_out, at_least=1)
    check_share("rewired", rewired)
    rng = np.random.default_rng(random_state)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    edges = []
    for level, (size, following) in enumerate(itertools.pairwise(sizes)):
        shared = min(counts[level : level + 2])
        module = np.arange(size) * shared // size
        # The first unit of module m in a layer of n units is ⌈mn/M⌉.
        bounds = -(-np.arange(shared + 1) * following // shared)
        targets = bounds[module][:, None] + _distinct(np.diff(bounds)[module], fan_out, rng)
        units = np.broadcast_to(np.arange(size)[:, None], targets.shape)
        # Where the module has fewer units than `fan_out`, numbers from its size on are not edges.
        drawn = targets < bounds[module + 1][:, None]
        pairs = np.column_stack([units[drawn], targets[drawn]])
        moved = rng.random(len(pairs)) < rewired
        pairs[moved, 1] = rng.integers(following, size=int(moved.sum()))
        edges.append(pairs + starts[level : level + 2])
    labels = np.concatenate([np.arange(size) * count // size for size, count in zip(sizes, counts, strict=True)])
    dag = LayeredDAG.from_edges(np.concatenate(edges), layer=np.repeat(np.arange(len(sizes)), sizes))
    return dag, read_only(labels)


def _distinct(sizes: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """Draw `count` different numbers below each of `sizes`; shape (len(sizes), count).

    Floyd's sampling (Bentley and Floyd, Communications of the ACM 30, 1987), one step for all rows at once. A row
    whose size is below `count` gets every number, and numbers from its size on.
    """
    chosen = np.empty((len(sizes), count), dtype=np.int64)
    for step in range(count):
        last = np.maximum(sizes - count, 0) + step
        number = rng.integers(last + 1)
        taken = (chosen[:, :step] == number[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken | (last >= sizes), last, number)
    return chosen
