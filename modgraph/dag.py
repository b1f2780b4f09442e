"""`LayeredDAG`, the layered directed acyclic graph that all other rooms use.

A network is a sparse boolean adjacency over all its units plus the layer of each unit. Units are numbered layer by
layer (layer 0 = inputs, last layer = outputs); an edge always leads to a later layer and may skip layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from modgraph.arrays import BoolArray, FloatArray, IntArray, Matrix, StrArray, as_matrix, read_only
from modgraph.checks import check_finite_vector, check_int, check_int_vector, check_mask, check_texts
from modgraph.digraph import chosen_nodes, layered

_UNIT_FIELDS: Final = ("layer", "unit_index", "biases", "activations", "unit_names", "positions")  # one entry a unit
_EDGE_FIELDS: Final = ("sources", "targets", "weights")  # one entry an edge


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LayeredDAG:
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
            One per weight layer, in the order of ``torch.nn.Linear.weight``; nonzero = edge. Boolean masks,
            or the pruned weights themselves.
        weights : sequence of the same kinds, shapes as `masks`, optional
            The weight of every edge; entries where the mask is zero are ignored, but must be finite.
        biases : sequence of array_like, shapes (out,), optional
            One vector per weight layer.
        activations : sequence of str, optional
            One name per weight layer, such as "relu" (see `forward`).
        unit_names : sequence of str, length n_units, optional
        layer_names : sequence of str, length n_layers, optional
            One more than there are masks: inputs first.

        Returns
        -------
        LayeredDAG

        Raises
        ------
        ValueError
            If there is no mask or a layer has no units; if shapes do not chain, or an entry is not finite as a
            64-bit float; if the number of biases or names is wrong.
        """
        matrices = _matrices("masks", masks)
        sizes = [matrices[0].shape[1], *(m.shape[0] for m in matrices)]
        if weights is not None:
            values = _matrices("weights", weights)
            if [m.shape for m in values] != [m.shape for m in matrices]:
                raise ValueError(
                    "`weights` must have the shapes of `masks` "
                    f"(got {[m.shape for m in values]} for {[m.shape for m in matrices]})"
                )
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        names = None if activations is None else check_texts("activations", activations, length=len(matrices))
        sources, targets = [], []
        kept = []
        for position, matrix in enumerate(matrices):
            # Transposed, so that edges are sorted by source, then target.
            source, target = np.nonzero(matrix.T) if not issparse(matrix) else _sorted_entries(matrix)
            sources.append(source + starts[position])
            targets.append(target + starts[position + 1])
            if weights is not None:
                picked = values[position][target, source]
                picked = picked.toarray().reshape(-1) if issparse(picked) else picked
                kept.append(np.asarray(picked, dtype=np.float64))
        return cls.from_sorted_edges(
            np.concatenate(sources),
            np.concatenate(targets),
            layer=np.repeat(np.arange(len(sizes)), sizes),
            n_layers=len(sizes),
            dense_edges=sum(m.shape[0] * m.shape[1] for m in matrices),
            weights=None if weights is None else np.concatenate(kept),
            biases=None if biases is None else _all_biases(biases, sizes=sizes),
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
        biases : array_like of float, shape (n_units,), optional
            Finite; 0 for inputs.
        activations, unit_names : sequence of str, length n_units, optional
        layer_names : sequence of str, length n_layers, optional
        positions : array_like of int, shape (n_units,), optional
            The token position of each unit.
        notes : sequence of str
            What reading could not know or left out.

        Returns
        -------
        LayeredDAG

        Raises
        ------
        ValueError
            If an argument is not of that form.
        """
        layers = np.asarray(layer)
        if layers.ndim != 1 or layers.size == 0 or not np.issubdtype(layers.dtype, np.integer):
            raise ValueError(f"`layer` must be a non-empty vector of ints (got shape {layers.shape}, {layers.dtype})")
        steps = np.diff(layers)
        if layers[0] != 0 or (steps < 0).any() or (steps > 1).any() or layers[-1] == 0:
            raise ValueError(
                "`layer` must start at 0 and never decrease or skip a number, with at least two layers "
                f"(got {layers.tolist() if layers.size <= 20 else layers})"
            )
        pairs = np.asarray(edges)
        pairs = pairs.reshape(0, 2).astype(np.int64) if pairs.size == 0 else pairs
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
            raise ValueError(f"`edges` must be ints of shape (n_edges, 2) (got {pairs.shape}, {pairs.dtype})")
        if pairs.size and (pairs.min() < 0 or pairs.max() >= layers.size):
            raise ValueError(f"`edges` must name units from 0 to {layers.size - 1} (got {pairs.min()} … {pairs.max()})")
        backwards = np.flatnonzero(layers[pairs[:, 0]] >= layers[pairs[:, 1]])
        if backwards.size:
            source, target = pairs[backwards[0]].tolist()
            raise ValueError(
                f"`edges` must lead to a later layer (got {source} → {target}, "
                f"layers {layers[source]} → {layers[target]})"
            )
        sizes = np.bincount(layers)
        joined = {(level, level + 1) for level in range(sizes.size - 1)}
        joined |= {divmod(both, sizes.size) for both in np.unique(layers[pairs] @ [sizes.size, 1]).tolist()}
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        pairs = pairs[order]
        repeated = (pairs[1:] == pairs[:-1]).all(axis=1)
        values = None
        if weights is not None:
            values = check_finite_vector("weights", weights, length=order.size)
            if repeated.any():
                source, target = pairs[1:][repeated][0].tolist()
                raise ValueError(f"`edges` must not repeat an edge that has a weight (got {source} → {target} twice)")
            values = values[order]
        elif repeated.any():
            pairs = pairs[np.concatenate([[True], ~repeated])]
        return cls.from_sorted_edges(
            pairs[:, 0],
            pairs[:, 1],
            layer=layers,
            n_layers=int(sizes.size),
            dense_edges=int(sum(sizes[a] * sizes[b] for a, b in joined)) if dense_edges is None else dense_edges,
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
        the last layer.

        Parameters
        ----------
        edges : sequence of pairs of nodes, or array_like of int, shape (n_edges, 2)
            Source and target of each edge. Nodes are any hashable values; repeats count once, with the sum of their
            weights.
        inputs : "sources", nodes, or function of a node
            Layer 0. Edges that enter inputs are left out.
        outputs : "sinks", nodes, or function of a node
            The last layer. An output that has successors is shown there by a copy with one edge.
        weights : array_like of float, shape (n_edges,), optional
            Finite.

        Returns
        -------
        LayeredDAG
            Its unit names are the nodes, its notes say what became of cycles and what was left out.

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

        For code that produces edges in this order. `from_edges` checks and sorts them.

        Parameters
        ----------
        sources, targets : ndarray of int, shape (n_edges,)
            Source and target unit of each edge, sorted by source, then target, without repeats; the target's layer
            is later than the source's.
        layer : ndarray of int, shape (n_units,)
            The layer of every unit, never decreasing, from 0 to ``n_layers − 1``; layers may be empty.
        n_layers : int
        dense_edges : int ≥ 1 and ≥ n_edges
            Edges of the network before pruning.
        weights : ndarray of float, shape (n_edges,), or None
            Finite.
        unit_index : ndarray of int, shape (n_units,), optional
            Number of each unit in the graph as first built; by default 0 … n_units − 1.
        biases : array_like of float, shape (n_units,), optional
            Finite; 0 for inputs.
        activations, unit_names : sequence of str, length n_units, optional
        layer_names : sequence of str, length n_layers, optional
        positions : array_like of int, shape (n_units,), optional
            The token position of each unit.
        notes : sequence of str, optional
            What could not be known when the network was read, or was left out.

        Returns
        -------
        LayeredDAG

        Raises
        ------
        ValueError
            If `dense_edges` is below its bounds, `biases` are not finite, or names are not as many as needed.

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

    def trim(self) -> LayeredDAG:
        """Drop the units that lie on no path from an input to an output.

        Outputs always stay. The result is the same as dropping units without incoming or without outgoing edges
        until nothing changes (paper, section 3.1). It takes O(edges): a unit is kept if it can be reached from layer 0
        and can reach the last layer.

        Returns
        -------
        LayeredDAG
            Its `unit_index` has the former number of each unit. Layers keep their numbers, also empty ones.
        """
        return self.subgraph(self.on_path())

    def on_path(self) -> BoolArray:
        """Find the units that `trim` keeps: outputs, and units on a path from an input to an output.

        Returns
        -------
        ndarray of bool, shape (n_units,)
        """
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
        """Keep the units where `kept` is True, and the edges between them.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_units,)

        Returns
        -------
        LayeredDAG

        Raises
        ------
        ValueError
            If `kept` is not of that form.
        """
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
        """Keep the edges where `kept` is True, and all units and everything known about them.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_edges,)

        Returns
        -------
        LayeredDAG

        Raises
        ------
        ValueError
            If `kept` is not of that form.
        """
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


def _matrices(name: str, arrays: Sequence[Matrix]) -> list[Matrix]:
    """Return `arrays` as finite numpy or CSR matrices whose shapes chain."""
    matrices = [as_matrix(array) for array in arrays]
    if not matrices:
        raise ValueError(f"`{name}` must hold at least one (out, in) array (got none)")
    for position, matrix in enumerate(matrices):
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"`{name}[{position}]` must be a non-empty (out, in) array (got shape {matrix.shape})")
        if matrix.dtype.kind not in "biuf":
            raise ValueError(f"`{name}[{position}]` must hold real numbers (got dtype {matrix.dtype})")
        # Sparse matrices list the entries that are not zero, dense ones all entries.
        entries = matrix.tocoo().data if issparse(matrix) else matrix.ravel()
        with np.errstate(over="ignore"):
            finite = np.isfinite(entries.astype(np.float64, copy=False))
        if not finite.all():
            place = int(np.argmin(finite))
            row, column = (
                [int(at[place]) for at in matrix.tocoo().coords] if issparse(matrix) else divmod(place, matrix.shape[1])
            )
            raise ValueError(f"`{name}[{position}]` must be finite (got {entries[place]} at ({row}, {column}))")
    for position, (one, two) in enumerate(itertools.pairwise(matrices)):
        if two.shape[1] != one.shape[0]:
            raise ValueError(
                f"`{name}` must chain: `{name}[{position + 1}]` must have {one.shape[0]} columns, "
                f"one for each row of `{name}[{position}]` (got shape {two.shape})"
            )
    return matrices


def _sorted_entries(matrix: csr_array) -> tuple[IntArray, IntArray]:
    """Return column and row of each nonzero entry of a sparse matrix, sorted by column, then row."""
    by_column = matrix.tocsc()
    by_column.eliminate_zeros()
    columns = np.repeat(np.arange(matrix.shape[1]), np.diff(by_column.indptr))
    return columns, by_column.indices.astype(np.int64)


def _all_biases(biases: Sequence[ArrayLike], *, sizes: Sequence[int]) -> FloatArray:
    """Join the biases of all layers; inputs have 0."""
    if len(biases) != len(sizes) - 1:
        raise ValueError(f"`biases` must be {len(sizes) - 1} vectors, one a weight layer (got {len(biases)})")
    vectors = [check_finite_vector(f"biases[{at}]", vector, length=sizes[at + 1]) for at, vector in enumerate(biases)]
    return np.concatenate([np.zeros(sizes[0]), *vectors])
