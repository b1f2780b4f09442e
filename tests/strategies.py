"""Hypothesis strategies: random layered graphs, and the same graph with its units in another order."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from modgraph import LayeredDAG
from modgraph.arrays import IntArray
from modgraph.functions import FunctionGraph, SubFunction

GATES = ["identity", "not", "and", "or", "xor", "nand", "nor", "xnor"]


@st.composite
def masks(draw: st.DrawFn, max_units: int = 7, max_layers: int = 5) -> list[IntArray]:
    """Masks of a small pruned MLP, often with units that lie on no path."""
    sizes = draw(st.lists(st.integers(1, max_units), min_size=2, max_size=max_layers))
    density = draw(st.sampled_from([0.15, 0.4, 0.8]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [(rng.random((n_out, n_in)) < density).astype(int) for n_in, n_out in itertools.pairwise(sizes)]


@st.composite
def dags(draw: st.DrawFn, max_units: int = 6, skips: bool = True) -> LayeredDAG:
    """A small layered graph; with `skips`, some edges may lead past the next layer."""
    dag = LayeredDAG.from_masks(draw(masks(max_units=max_units)))
    if not skips:
        return dag
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chance = draw(st.sampled_from([0.0, 0.1, 0.5]))
    pairs = np.argwhere(dag.layer[:, None] < dag.layer - 1)
    extra = pairs[rng.random(len(pairs)) < chance]
    return LayeredDAG.from_edges(np.concatenate([dag.edges, extra]), layer=dag.layer)


@st.composite
def weighted(draw: st.DrawFn, graphs: st.SearchStrategy[LayeredDAG]) -> LayeredDAG:
    """One of `graphs` with random weights and biases."""
    dag = draw(graphs)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    biases = np.where(dag.layer > 0, rng.normal(size=dag.n_units), 0.0)
    return LayeredDAG.from_edges(dag.edges, layer=dag.layer, weights=rng.normal(size=dag.n_edges), biases=biases)


def permuted(dag: LayeredDAG, rng: np.random.Generator, *, hidden_only: bool = False) -> tuple[LayeredDAG, IntArray]:
    """Shuffle the units within each layer; returns the new graph and the new place of every unit."""
    place = np.arange(dag.n_units)
    starts = dag.layer_starts
    for level in range(int(hidden_only), dag.n_layers - int(hidden_only)):
        place[starts[level] : starts[level + 1]] = rng.permutation(place[starts[level] : starts[level + 1]])
    biases = None if dag.biases is None else dag.biases[np.argsort(place)]
    names = None if dag.activations is None else dag.activations[np.argsort(place)].tolist()
    other = LayeredDAG.from_edges(
        place[dag.edges],
        layer=dag.layer,
        weights=dag.weights,
        dense_edges=dag.dense_edges,
        biases=biases,
        activations=names,
    )
    return other, place


@st.composite
def gate_graphs(draw: st.DrawFn) -> FunctionGraph:
    """Random gates on random earlier values; what nothing reads is shown by an output."""
    names = [f"x{i}" for i in range(draw(st.integers(1, 5)))]
    n_inputs, subs = len(names), []
    unread = list(names)
    for number in range(draw(st.integers(1, 6))):
        gate = draw(st.sampled_from(GATES))
        few, most = (1, 1) if gate in ("identity", "not") else (2, 3)
        parents = draw(st.lists(st.sampled_from(names), min_size=few, max_size=most))
        names.append(f"s{number}")
        subs.append(SubFunction(names[-1], parents, function=gate))
        unread = [name for name in [*unread, names[-1]] if name not in parents]
    left = [name for name in unread if name.startswith("x")]
    if left:
        subs.append(SubFunction("rest", [*left, names[-1]], function="xor"))
        unread = [name for name in [*unread, "rest"] if name.startswith(("s", "rest")) and name != names[-1]]
    outputs = [draw(st.sampled_from(["", "~"])) + name for name in draw(st.permutations(unread))]
    return FunctionGraph(
        name="random", inputs=names[:n_inputs], sub_functions=draw(st.permutations(subs)), outputs=outputs
    )
