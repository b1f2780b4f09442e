"""`LayeredDAG`, the layered directed acyclic graph that all other rooms use.

A network is a sparse boolean adjacency over all its units plus the layer of each unit. Units are numbered layer by
layer (layer 0 = inputs, last layer = outputs); an edge always leads to a later layer and may skip layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from modgraph.arrays import BoolArray, FloatArray, IntArray, Matrix, StrArray, read_only
from modgraph.checks import check_finite_vector, check_int, check_int_vector, check_mask, check_texts
from modgraph.digraph import chosen_nodes, layered
from modgraph.edges import check_layers, dense_places, join_biases, mask_edges, sorted_edges
from modgraph.shown import Shown

_UNIT_FIELDS: Final = ("layer", "unit_index", "biases", "activations", "unit_names", "positions")  # one entry a unit
_EDGE_FIELDS: Final = ("sources", "targets", "weights")  # one entry an edge


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LayeredDAG(Shown):
    """A layered directed acyclic graph: sorted edges and the layer of every unit.

    Build one with `from_masks` or `from_edges`; the fields are what those fill in.

    Attributes
    ----------
    sources, targets : ndarray of int, shape (n_edges,)
        The units that each edge leaves and enters, sorted by source, then target, without repeats.
    layer : ndarray of int, shape (n_units,)
        The layer of each unit, never decreasing; 0 = inputs.
    unit_index : ndarray of int, shape (n_units,)
        Number of each unit in the graph as first built (``0 … n_units−1`` until units are dropped).
    n_layers : int
        Number of layers, inputs and outputs included. A layer may be empty after trimming.
    dense_edges : int
        Edges of the dense network that this one was pruned from; trimming doesn't change it.
    weights : ndarray of float, shape (n_edges,), or None
        Weight of each edge, in the order of `sources`.
    biases : ndarray of float, shape (n_units,), or None
        Added to each unit's weighted sum; 0 for inputs.
    activations : ndarray of str, shape (n_units,), or None
        Function applied to that sum (names as in `forward`); "identity" for inputs.
    unit_names : ndarray of str, shape (n_units,), or None
    layer_names : tuple of str, length n_layers, or None
    positions : ndarray of int, shape (n_units,), or None
        The token position of each unit, in graphs of language models.
    notes : tuple of str
        What could not be known when the network was read, or was left out; one sentence each.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 0], [1, 1], [0, 0]], [[1, 1, 0]]])
    >>> dag
    LayeredDAG([2, 3, 1], 5 edges, density 0.556)
    >>> dag.trim()
    LayeredDAG([2, 2, 1], 5 edges, density 0.556)
    """

    sources: IntArray
    targets: IntArray
    layer: IntArray
    unit_index: IntArray
    n_layers: int
    dense_edges: int
    weights: FloatArray | None = None
    biases: FloatArray | None = None
    activations: StrArray | None = None
    unit_names: StrArray | None = None
    layer_names: tuple[str, ...] | None = None
    positions: IntArray | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_masks(
        cls,
        masks: Sequence[Matrix],
        *,
        weights: Sequence[Matrix] | None = None,
        biases: Sequence[ArrayLike] | None = None,
        activations: Sequence[str] | None = None,
        unit_names: Sequence[str] | None = None,
        layer_names: Sequence[str] | None = None,
    ) -> LayeredDAG:
        """Build the graph of a pruned multi-layer perceptron.

        Parameters
        ----------
        masks : sequence of array_like, scipy sparse matrices or torch tensors, shapes (out, in)
            One per weight layer, in the order of ``torch.nn.Linear.weight``; nonzero = edge. Boolean masks, or the
            pruned weights themselves.
        weights : sequence of the same kinds and shapes, optional
            The weight of every edge, finite; entries where the mask is zero are ignored.
        biases : sequence of array_like, shapes (out,), optional
        activations : sequence of str, optional
            One name per weight layer, such as "relu" (see `forward`).
        unit_names : sequence of str, length n_units, optional
        layer_names : sequence of str, length n_layers, optional
            One more than there are masks: inputs first.

        Raises
        ------
        ValueError
            If there is no mask, a layer has no units, shapes do not chain, an entry is not finite as a 64-bit float,
            or the number of biases or names is wrong.
        """
        found = mask_edges(masks, weights)
        sizes = found.sizes
        names = None if activations is None else check_texts("activations", activations, length=len(sizes) - 1)
        return cls.from_sorted_edges(
            found.sources,
            found.targets,
            layer=np.repeat(np.arange(len(sizes)), sizes),
            n_layers=len(sizes),
            dense_edges=found.dense_edges,
            weights=found.weights,
            biases=None if biases is None else join_biases(biases, sizes=sizes),
            activations=None if names is None else np.repeat(np.array(["identity", *names]), sizes),
            unit_names=unit_names,
            layer_names=layer_names,
        )

    @classmethod
    def from_edges(
        cls,
        edges: ArrayLike,
        *,
        layer: ArrayLike,
        weights: ArrayLike | None = None,
        dense_edges: int | None = None,
        biases: ArrayLike | None = None,
        activations: Sequence[str] | None = None,
        unit_names: Sequence[str] | None = None,
        layer_names: Sequence[str] | None = None,
        positions: ArrayLike | None = None,
        notes: Sequence[str] = (),
    ) -> LayeredDAG:
        """Build a graph from an edge list; edges may skip layers.

        Parameters
        ----------
        edges : array_like of int, shape (n_edges, 2)
            Source and target unit of each edge; the target's layer is later than the source's. Repeats count once.
        layer : array_like of int, shape (n_units,)
            The layer of every unit, never decreasing, starting at 0, none empty.
        weights : array_like of float, shape (n_edges,), optional
            The weight of each edge, finite. With it no edge may be repeated.
        dense_edges : int ≥ n_edges, optional
            Edges of the network before pruning; by default all pairs of units in the pairs of layers that are
            next to each other or joined by an edge.
        biases, activations, unit_names, layer_names, positions, notes
            As the attributes of `LayeredDAG`; biases finite.

        Raises
        ------
        ValueError
            If an argument is not of that form.
        """
        layers = check_layers(layer)
        pairs, values = sorted_edges(edges, layers, weights)
        return cls.from_sorted_edges(
            pairs[:, 0],
            pairs[:, 1],
            layer=layers,
            n_layers=int(layers[-1]) + 1,
            dense_edges=dense_places(pairs, layers) if dense_edges is None else dense_edges,
            weights=values,
            biases=biases,
            activations=activations,
            unit_names=unit_names,
            layer_names=layer_names,
            positions=positions,
            notes=notes,
        )

    @classmethod
    def from_digraph(
        cls,
        edges: Iterable[tuple[Hashable, Hashable]] | ArrayLike,
        *,
        inputs: str | Iterable[Hashable] | Callable[[Any], bool] = "sources",
        outputs: str | Iterable[Hashable] | Callable[[Any], bool] = "sinks",
        weights: ArrayLike | None = None,
    ) -> LayeredDAG:
        """Build a graph from the edges of any directed graph, cycles too.

        Nodes on a common cycle become one unit. A unit's layer is the longest path that leads to it; outputs are in
        the last layer. Unit names are the nodes; notes say what became of cycles and what was left out.

        Parameters
        ----------
        edges : sequence of pairs of nodes, or array_like of int, shape (n_edges, 2)
            Source and target of each edge, any hashable values; repeats count once, with the sum of their weights.
        inputs : "sources", nodes, or function of a node
            Layer 0. Edges that enter inputs are left out.
        outputs : "sinks", nodes, or function of a node
            The last layer. An output that has successors is shown there by a copy with one edge.
        weights : array_like of float, shape (n_edges,), optional
            Finite.

        Raises
        ------
        ValueError
            If there is no input, output or edge between units, or an argument is not of that form.

        Examples
        --------
        >>> dag = LayeredDAG.from_digraph([("a", "b"), ("b", "c"), ("c", "b"), ("b", "d")])
        >>> dag.unit_names.tolist(), dag.notes
        (['a', 'b + c', 'd'], ('1 cycle became one unit each: b, c.',))
        """
        rows: list[Any] = edges.tolist() if isinstance(edges, np.ndarray) else list(edges)  # type: ignore[arg-type]
        if any(isinstance(row, str) or len(row) != 2 for row in rows):
            raise ValueError("`edges` must be pairs of nodes, source and target")
        nodes: list[Any] = list(dict.fromkeys(node for row in rows for node in row))
        if all(isinstance(node, int) for node in nodes):
            nodes.sort()
        place = {node: at for at, node in enumerate(nodes)}
        names = [str(node) for node in nodes]
        found = layered(
            np.array([[place[source], place[target]] for source, target in rows], dtype=np.int64).reshape(-1, 2),
            names=names,
            inputs=chosen_nodes("inputs", inputs, nodes, default="sources"),
            outputs=chosen_nodes("outputs", outputs, nodes, default="sinks"),
            weights=None if weights is None else check_finite_vector("weights", weights, length=len(rows)),
        )
        return cls.from_edges(
            found.edges, layer=found.layer, weights=found.weights, unit_names=found.unit_names, notes=found.notes
        )

    @classmethod
    def from_sorted_edges(
        cls,
        sources: IntArray,
        targets: IntArray,
        *,
        layer: IntArray,
        n_layers: int,
        dense_edges: int,
        weights: FloatArray | None,
        unit_index: IntArray | None = None,
        biases: ArrayLike | None = None,
        activations: Sequence[str] | StrArray | None = None,
        unit_names: Sequence[str] | StrArray | None = None,
        layer_names: Sequence[str] | None = None,
        positions: ArrayLike | None = None,
        notes: Sequence[str] = (),
    ) -> LayeredDAG:
        """Build a graph from edges that are known to be valid, unique and sorted; they are not checked.

        `from_edges` checks and sorts edges.

        Parameters
        ----------
        sources, targets, layer, n_layers, dense_edges, weights, unit_index
            As the attributes of `LayeredDAG`; layers may be empty. `unit_index` is 0 … n_units − 1 by default.
        biases, activations, unit_names, layer_names, positions, notes
            As in `from_edges`.

        Raises
        ------
        ValueError
            If `dense_edges` is below 1 or n_edges, biases are not finite, or names are not as many as needed.

        Examples
        --------
        >>> units = np.array([0, 1])
        >>> LayeredDAG.from_sorted_edges(
        ...     units, units + 2, layer=np.array([0, 0, 1, 1]), n_layers=2, dense_edges=4, weights=None
        ... )
        LayeredDAG([2, 2], 2 edges, density 0.5)
        """
        units = [
            None if names is None else read_only(check_texts(name, names, length=layer.size))
            for name, names in (("activations", activations), ("unit_names", unit_names))
        ]
        check_int("dense_edges", dense_edges, at_least=max(1, sources.size))
        if biases is not None:
            biases = read_only(check_finite_vector("biases", biases, length=layer.size))
        if layer_names is not None:
            layer_names = tuple(check_texts("layer_names", layer_names, length=n_layers).tolist())
        return cls(
            sources=read_only(np.ascontiguousarray(sources, dtype=np.int64)),
            targets=read_only(np.ascontiguousarray(targets, dtype=np.int64)),
            layer=read_only(layer.astype(np.int64)),
            unit_index=read_only(np.arange(layer.size) if unit_index is None else unit_index),
            n_layers=n_layers,
            dense_edges=int(dense_edges),
            weights=None if weights is None else read_only(weights),
            biases=biases,
            activations=units[0],
            unit_names=units[1],
            layer_names=layer_names,
            positions=None
            if positions is None
            else read_only(check_int_vector("positions", positions, length=layer.size)),
            notes=tuple(notes),
        )

    @property
    def n_units(self) -> int:
        """Number of units, inputs and outputs included."""
        return int(self.layer.size)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return int(self.sources.size)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Units in each layer."""
        return tuple(np.bincount(self.layer, minlength=self.n_layers).tolist())

    @property
    def density(self) -> float:
        """Edges kept / edges of the dense network, 0…1."""
        return self.n_edges / self.dense_edges

    @property
    def edges(self) -> IntArray:
        """All edges as (source, target) rows, sorted; shape (n_edges, 2)."""
        return read_only(np.column_stack([self.sources, self.targets]))

    @property
    def adjacency(self) -> csr_array:
        """The boolean adjacency: True at ``[i, j]`` where an edge leads from unit i to unit j; (n_units, n_units)."""
        pointers = np.searchsorted(self.sources, np.arange(self.n_units + 1))
        matrix = csr_array(
            (np.ones(self.n_edges, dtype=np.bool_), self.targets.copy(), pointers), shape=(self.n_units, self.n_units)
        )
        matrix.has_canonical_format = True
        return matrix

    @property
    def skips_layers(self) -> bool:
        """Whether some edge leads past the next layer."""
        return bool((self.layer[self.targets] - self.layer[self.sources] > 1).any())

    @property
    def layer_starts(self) -> IntArray:
        """The first unit of each layer, and at the end `n_units`; shape (n_layers + 1,)."""
        return read_only(np.searchsorted(self.layer, np.arange(self.n_layers + 1)))

    @property
    def layer_pair(self) -> IntArray:
        """The number of the pair of layers that each edge joins, ``source layer · n_layers + target layer``."""
        return self.layer[self.sources] * self.n_layers + self.layer[self.targets]

    def edges_by_layers(self) -> Iterator[tuple[int, int, IntArray]]:
        """Yield each pair of layers that edges join, sorted, and the numbers of these edges in order."""
        layer_pair = self.layer_pair
        order = np.argsort(layer_pair, kind="stable")
        pairs, first = np.unique(layer_pair[order], return_index=True)
        for pair, edges in zip(pairs.tolist(), np.split(order, first[1:]), strict=False):
            yield *divmod(pair, self.n_layers), edges

    def trim(self) -> LayeredDAG:
        """Drop the units that lie on no path from an input to an output; outputs always stay.

        The same as dropping units without incoming or without outgoing edges until nothing changes (paper, section
        3.1), in O(edges). Layers keep their numbers, also empty ones; `unit_index` has the former number of each unit.
        """
        return self.subgraph(self.on_path())

    def on_path(self) -> BoolArray:
        """Find the units that `trim` keeps; ndarray of bool, shape (n_units,)."""
        last = self.layer == self.n_layers - 1
        forwards, backwards = self.layer == 0, last.copy()
        sources, targets = self.sources, self.targets
        # Edges are sorted by source, so those that leave one layer are one slice.
        bounds = np.searchsorted(self.sources, self.layer_starts)
        leaving = [slice(start, stop) for start, stop in itertools.pairwise(bounds.tolist())]
        for part in leaving:
            forwards[targets[part][forwards[sources[part]]]] = True
        for part in reversed(leaving):
            backwards[sources[part][backwards[targets[part]]]] = True
        return read_only((forwards & backwards) | last)

    def subgraph(self, kept: BoolArray) -> LayeredDAG:
        """Keep the units where `kept`, ndarray of bool (n_units,), is True, and the edges between them."""
        kept = check_mask("kept", kept, length=self.n_units, item="unit")
        new_number = np.cumsum(kept) - 1
        part = self.keep_edges(kept[self.sources] & kept[self.targets])
        return replace(
            part,
            **part._selected(_UNIT_FIELDS, kept),
            sources=read_only(new_number[part.sources]),
            targets=read_only(new_number[part.targets]),
        )

    def keep_edges(self, kept: BoolArray) -> LayeredDAG:
        """Keep the edges where `kept`, ndarray of bool (n_edges,), is True, and all units and what is known of them."""
        kept = check_mask("kept", kept, length=self.n_edges, item="edge")
        return replace(self, **self._selected(_EDGE_FIELDS, kept))

    def _selected(self, fields: Sequence[str], kept: BoolArray) -> dict[str, Any]:
        """Select the same entries of several fields; a field that is None stays None."""
        values = {name: getattr(self, name) for name in fields}
        return {name: None if value is None else read_only(value[kept]) for name, value in values.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LayeredDAG):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.sources.tobytes(), self.targets.tobytes(), self.layer.tobytes(), self.dense_edges))

    def __repr__(self) -> str:
        return f"LayeredDAG({list(self.layer_sizes)}, {self.n_edges} edges, density {self.density:.3g})"


READERS: list[Callable[[Any], LayeredDAG]] = []
"""What reads files, live models and arrays: `modgraph.io` adds its reader, and the graph layer needn't import it."""


def as_dag(dag: Any) -> LayeredDAG:
    """Return a graph as it is; read anything else, where `modgraph.io` is loaded."""
    if isinstance(dag, LayeredDAG):
        return dag
    if not READERS:
        raise ValueError(f"`dag` must be a LayeredDAG (got {type(dag).__name__}): call `modgraph.load_network` first")
    return READERS[-1](dag)
