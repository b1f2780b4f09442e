"""The nested stochastic block model of graph-tool (optional: it is not on PyPI), with blocks that keep to layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from modgraph.arrays import IntArray, read_only
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedBlocks:
    """A nested block model of a network.

    Attributes
    ----------
    labels : ndarray of int, shape (n_units,)
        Block of each unit at the lowest level, numbered by first unit; no block spans two layers.
    levels : tuple of ndarray of int, shapes (n_units,)
        The same at each level, lowest first.
    bits : float
        Description length of the network by the model.
    trivial_bits : float
        The same with one block a layer.
    bits_per_edge : float
        Bits that the blocks save, (trivial_bits − bits) / edges; 0 where there is no edge.
    """

    labels: IntArray
    levels: tuple[IntArray, ...]
    bits: float
    trivial_bits: float
    bits_per_edge: float

    def __repr__(self) -> str:
        n_blocks = int(self.labels.max()) + 1
        return f"NestedBlocks({n_blocks} blocks, {len(self.levels)} levels, gain {self.bits_per_edge:.3f} bits an edge)"


def nested_blocks(
    dag: LayeredDAG,
    *,
    degree_corrected: bool = False,
    random_state: int | np.random.Generator | None = 0,
) -> NestedBlocks:
    """Fit the nested stochastic block model (Peixoto, Physical Review X 4, 011047, 2014) with graph-tool.

    The network is a directed graph whose blocks may not mix layers (``pclabel``), found by one run of agglomerative
    multilevel Monte Carlo (``minimize_nested_blockmodel_dl``).

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    degree_corrected : bool
        False: units that differ only in their number of edges may be in different blocks. True: the units of a block
        may have any numbers of edges. Telling those costs bits, and in pruned networks, whose degrees are even, it
        rarely saves as many.
    random_state : int, Generator or None
        graph-tool's own generator is seeded from it.

    Returns
    -------
    NestedBlocks

    Raises
    ------
    ImportError
        If graph-tool is missing.
    """
    gt = _graph_tool()
    rng = np.random.default_rng(random_state)
    graph = gt.Graph(directed=True)
    graph.add_vertex(dag.n_units)
    graph.add_edge_list(dag.edges)
    layer = graph.new_vertex_property("int", vals=dag.layer)
    gt.seed_rng(int(rng.integers(1, 1 << 31)))
    arguments = {"deg_corr": degree_corrected, "pclabel": layer}
    state = gt.minimize_nested_blockmodel_dl(graph, state_args=arguments)
    levels = []
    blocks = np.arange(dag.n_units)
    for level in state.get_bs():
        blocks = np.asarray(level)[blocks]
        levels.append(read_only(by_first_unit(blocks)))
    # The trivial model: one block a layer, and one block of those.
    trivial = gt.NestedBlockState(graph, bs=[dag.layer, np.zeros(dag.n_layers, dtype=int)], state_args=arguments)
    bits, trivial_bits = (found.entropy() / math.log(2) for found in (state, trivial))
    return NestedBlocks(
        labels=levels[0],
        levels=tuple(levels),
        bits=bits,
        trivial_bits=trivial_bits,
        bits_per_edge=(trivial_bits - bits) / dag.n_edges if dag.n_edges else 0.0,
    )


def blockmodel(dag: LayeredDAG, *, hops: int, rng: np.random.Generator) -> IntArray:  # noqa: ARG001 (one signature)
    """Cluster by the lowest level of the nested block model.

    Parameters
    ----------
    dag : LayeredDAG
        Trimmed.
    hops : int
        Not used: the model describes edges, not reachability.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int, shape (n_units,)
        Cluster labels, numbered by first unit; no cluster spans two layers. Output units are clusters of one.

    Raises
    ------
    ImportError
        If graph-tool is missing.
    """
    labels = nested_blocks(dag, random_state=rng).labels.copy()
    outputs = dag.layer == dag.n_layers - 1
    labels[outputs] = dag.n_units + np.arange(outputs.sum())
    return read_only(by_first_unit(labels))


def _graph_tool() -> ModuleType:
    try:
        import graph_tool.all as gt
    except ImportError as error:
        raise ImportError(
            "the block model needs graph-tool, which pip can't install: `apt install python3-graph-tool` on Debian and "
            "Ubuntu, `conda install -c conda-forge graph-tool` elsewhere"
        ) from error
    return gt  # type: ignore[no-any-return]
