"""Modules and their hierarchy: clusters merged across layers by the 0.9 rule, and the graph between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.checks import check_hops, check_share, require
from modgraph.cluster import METHODS, Clustering
from modgraph.cluster.by_influence import (
    LARGEST,
    SATURATED,
    InfluenceModules,
    influence_tells_more,
    modules_by_influence,
    paths_per_pair,
)
from modgraph.cluster.coclusters import EVEN
from modgraph.cluster.methods import Method, by_layer
from modgraph.dag import LayeredDAG, as_dag
from modgraph.labels import by_first_unit
from modgraph.merge import edge_counts, merge_clusters
from modgraph.names import counted
from modgraph.reach import spread
from modgraph.shown import Shown

if TYPE_CHECKING:
    import networkx

FEATURES = ("auto", "wiring", "influence", "attributes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module(Shown):
    """One module: clusters of one or more layers that feed each other almost exclusively.

    Attributes
    ----------
    id : int
        Its label in `ModuleHierarchy.labels`.
    units : ndarray of int
        The units it consists of, sorted.
    layers : tuple of int
        The layers it has units in.
    inputs, outputs : ndarray of int
        The input units it depends on and the output units that depend on it (its own included), sorted.
    level : int
        0 if no other module feeds it, else one more than the highest level of the modules that do.
    """

    id: int
    units: IntArray
    layers: tuple[int, ...]
    inputs: IntArray
    outputs: IntArray
    level: int

    def __repr__(self) -> str:
        return (
            f"Module({self.id}: {counted(len(self.units), 'unit')} in layers {list(self.layers)}, level {self.level}, "
            f"{counted(len(self.inputs), 'input')} → {counted(len(self.outputs), 'output')})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModuleGraph:
    """The graph between modules, as an edge list.

    Attributes
    ----------
    n_modules : int
    source, target : ndarray of int, shape (n_links,)
        Modules; sorted by source, then target.
    n_edges : ndarray of int, shape (n_links,)
        How many edges between units each link stands for.
    """

    n_modules: int
    source: IntArray
    target: IntArray
    n_edges: IntArray

    def levels(self) -> IntArray:
        """Return the level of each module, shape (n_modules,): the longest chain of links that leads to it.

        Modules that feed each other (possible below the merge threshold) share a level: chains run over strongly
        connected components.
        """
        component = np.arange(self.n_modules)
        if (self.source > self.target).any():  # else there is no cycle
            ones, shape = np.ones(len(self.source)), (self.n_modules, self.n_modules)
            links = coo_array((ones, (self.source, self.target)), shape=shape)
            component = scipy.sparse.csgraph.connected_components(links, connection="strong")[1]
        sources, targets = component[self.source], component[self.target]
        outside = sources != targets
        level = np.zeros(self.n_modules, dtype=np.int64)
        for _ in range(self.n_modules):
            raised = level.copy()
            np.maximum.at(raised, targets[outside], level[sources[outside]] + 1)
            if (raised == level).all():
                break
            level = raised
        return read_only(level[component])

    def to_networkx(self) -> networkx.DiGraph:
        """Return a networkx ``DiGraph`` with nodes 0 … n_modules − 1 and the edge attribute ``n_edges``."""
        graph = require("networkx", purpose="`to_networkx`", extra="graphs").DiGraph()
        graph.add_nodes_from(range(self.n_modules))
        for source, target, n_edges in zip(
            self.source.tolist(), self.target.tolist(), self.n_edges.tolist(), strict=True
        ):
            graph.add_edge(source, target, n_edges=n_edges)
        return graph

    def __repr__(self) -> str:
        return f"ModuleGraph({counted(self.n_modules, 'module')}, {counted(len(self.source), 'link')})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ModuleHierarchy(Shown):
    """The modules of a network and how they feed each other; what `detect_modules` finds.

    Attributes
    ----------
    dag : LayeredDAG
        The graph as given, before trimming.
    labels : ndarray of int, shape (n_units,)
        The module of each unit of `dag`, 0 … n_modules − 1 by first unit; −1: it was trimmed, or has no influence.
    cluster_labels : ndarray of int, shape (n_units,)
        The same before clusters were merged across layers.
    settings : mapping of str to str, int or float
        The arguments of `detect_modules`, and what it decided.
    shares : ndarray of float, shape (n_units, n_modules), or None
        Where modules were found by influence: how far each unit belongs to each module, as in `membership`; a hidden
        unit's label is then the module in which it has the largest share. None where every unit is in one module.
    links : ndarray of int, shape (n_links, 2), or None
        Where modules were found by influence: pairs of modules of which the second reads the first. None where every
        edge between modules says so.
    """

    dag: LayeredDAG
    labels: IntArray
    cluster_labels: IntArray
    settings: Mapping[str, Any] = field(default_factory=dict)
    shares: FloatArray | None = None
    links: IntArray | None = None
    # Results of `graph` and `modules`, computed on first use.
    _computed: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name, labels in (("labels", self.labels), ("cluster_labels", self.cluster_labels)):
            if labels.shape != (self.dag.n_units,):
                raise ValueError(
                    f"`{name}` must have a label for each of {self.dag.n_units} units (got shape {labels.shape})"
                )
            if labels.size and not -1 <= labels.min() <= labels.max() < labels.size:
                raise ValueError(f"`{name}` must be from −1 to {labels.size - 1} (got {labels.min()} … {labels.max()})")
        if self.shares is not None and self.shares.shape != (self.dag.n_units, self.n_modules):
            raise ValueError(f"`shares` must have shape {(self.dag.n_units, self.n_modules)} (got {self.shares.shape})")
        if self.links is not None and (
            self.links.ndim != 2
            or self.links.shape[1] != 2
            or (self.links.size and not 0 <= self.links.min() <= self.links.max() < self.n_modules)
        ):
            raise ValueError(f"`links` must be pairs of modules from 0 to {self.n_modules - 1} (got {self.links!r})")

    @property
    def n_modules(self) -> int:
        """Number of modules."""
        return int(self.labels.max()) + 1

    @property
    def membership(self) -> FloatArray:
        """How far each unit belongs to each module, 0 … 1; shape (n_units, n_modules).

        By wiring every unit of the trimmed network is in one module. By influence a hidden unit's share is the squared
        length of its axis in the subspace of its layer that the module's outputs read; an input's share says how its
        influence is divided between the outputs of the modules. A row may sum to less than 1: no module reads the rest.
        """
        if self.shares is not None:
            return self.shares
        kept = np.flatnonzero(self.labels >= 0)
        one_hot = np.zeros((self.dag.n_units, self.n_modules))
        one_hot[kept, self.labels[kept]] = 1
        return read_only(one_hot)

    @property
    def shared(self) -> BoolArray:
        """Which units serve several modules: the second share is half the largest or more; shape (n_units,)."""
        if self.shares is None or self.n_modules < 2:
            return read_only(np.zeros(self.dag.n_units, dtype=np.bool_))
        second, largest = np.sort(self.shares, axis=1)[:, -2:].T
        return read_only((largest > 0) & (second >= EVEN * largest))

    @property
    def graph(self) -> ModuleGraph:
        """The graph between the modules; computed once."""
        if "graph" not in self._computed:
            self._computed["graph"] = self._graph()
        graph: ModuleGraph = self._computed["graph"]
        return graph

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules, by id; computed once."""
        if "modules" not in self._computed:
            self._computed["modules"] = self._modules()
        modules: tuple[Module, ...] = self._computed["modules"]
        return modules

    def _graph(self) -> ModuleGraph:
        """Count the edges between modules."""
        source, target, n_edges = edge_counts(self.dag, self.labels)
        links = source != target
        if self.links is not None:
            given = self.links @ [self.n_modules, 1]
            links = np.isin(source * self.n_modules + target, given)
        return ModuleGraph(
            n_modules=self.n_modules,
            source=read_only(source[links]),
            target=read_only(target[links]),
            n_edges=read_only(n_edges[links]),
        )

    def _modules(self) -> tuple[Module, ...]:
        """Find what each module consists of, what it depends on and what depends on it."""
        kept = np.flatnonzero(self.labels >= 0)
        dag = self.dag.subgraph(self.labels >= 0)
        member = csr_array(
            (np.ones(kept.size, dtype=np.bool_), (self.labels[kept], np.arange(kept.size))),
            shape=(self.n_modules, kept.size),
        )
        connected = []
        for step, end in ((dag.adjacency.T.tocsr(), 0), (dag.adjacency, dag.n_layers - 1)):
            if self.links is None:
                reached = member + spread(member @ step, step, hops=dag.n_layers - 1, skips_layers=True)
            else:  # along the links: edges lead from every module to every other
                pairs = self.links if end else self.links[:, ::-1]
                ones = np.ones(len(pairs), dtype=np.bool_)
                link = csr_array((ones, tuple(pairs.T)), shape=(self.n_modules, self.n_modules))
                reached = member + spread(link, link, hops=self.n_modules, skips_layers=True) @ member
            connected.append([_columns(reached, row, among=dag.layer == end) for row in range(self.n_modules)])
        levels = self.graph.levels().tolist()
        return tuple(
            Module(
                id=label,
                units=read_only(kept[units]),
                layers=tuple(np.unique(dag.layer[units]).tolist()),
                inputs=read_only(kept[inputs]),
                outputs=read_only(kept[outputs]),
                level=levels[label],
            )
            for label, (inputs, outputs) in enumerate(zip(*connected, strict=True))
            for units in [_columns(member, label)]
        )

    def __repr__(self) -> str:
        kept = int((self.labels >= 0).sum())
        return f"ModuleHierarchy({counted(self.n_modules, 'module')}, {kept} of {counted(self.dag.n_units, 'unit')})"


def check_found(found: object) -> None:
    """Check that something is a hierarchy."""
    if not isinstance(found, ModuleHierarchy):
        raise ValueError(f"`found` must be a ModuleHierarchy (got {type(found).__name__}): call `detect_modules` first")


def detect_modules(
    dag: LayeredDAG | Any,
    *,
    features: str = "auto",
    clustering: str | Clustering = "linkage",
    hops: int | None = None,
    merge_threshold: float = 0.9,
    data: ArrayLike | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> ModuleHierarchy:
    """Find the modules of a pruned network, by its wiring or by the influence that its weights carry.

    *Wiring*: trim, cluster every layer by what its units reach, merge across layers. For networks that were sculpted to
    their last edges. *Influence*: cluster inputs and outputs by signed sums over paths of products of weights, and give
    each hidden unit its share in every module (`modgraph.cluster.by_influence`). For networks in which everything
    reaches everything: those that keep more than a few hundredths of their weights.

    Parameters
    ----------
    dag : LayeredDAG, path-like, live model or arrays
        All but a graph are read first, with the defaults of `load_network`, `from_module`, `from_estimator` or
        `from_arrays`.
    features : {"auto", "wiring", "influence", "attributes"}
        "attributes": for attribution graphs of language models, modules of units that are alike in influence, token
        position and layer (`modgraph.cluster.attributed`). They may span layers; `cluster_labels` are their parts in
        each layer; nothing is trimmed.
        "auto" takes attributes where the graph has weights and token positions, and influence where the network has
        weights, more than a few paths join an input and an output on average, and edges keep to modules less well than
        influence does; else, or if `clustering` or `hops` is given, wiring. ``settings["features"]`` has the reason.
    clustering : {"linkage", "published", "leiden", "blockmodel"} or callable
        For wiring: how the units of a layer are clustered (see `modgraph.cluster.METHODS`). A callable gets the
        reachability rows of a layer (ndarray of bool, shape (n_units, n_columns), no row empty, two rows or more) and
        returns a label for each row. The units of the output layer start as clusters of one.
    hops : int ≥ 1, optional
        For wiring: longest path that counts, in edges; by default all paths to the outputs.
    merge_threshold : float, in (0, 1]
        For wiring: see `modgraph.merge.merge_clusters`.
    data : array_like of float, shape (n_samples, n_inputs), optional
        For influence: measure it by mean Jacobians over these inputs, times the spread of each input, instead of path
        sums; needs activations. Inputs that are constant in `data` have no influence and no module (label −1).
    random_state : int, Generator or None
        For influence, "leiden" and "blockmodel".

    Raises
    ------
    ValueError
        If an argument is out of its range, `clustering` returns anything but a label for each row, or influence is
        asked for and the network has no weights.

    Examples
    --------
    Two inputs each for two separate outputs:

    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> found = detect_modules(dag)
    >>> found
    ModuleHierarchy(2 modules, 9 of 9 units)
    >>> found.labels.tolist()
    [0, 0, 1, 1, 0, 0, 1, 0, 1]
    """
    if callable(clustering):
        method: Method = by_layer(clustering)
    elif clustering in METHODS:
        method = METHODS[clustering]
    else:
        raise ValueError(f"`clustering` must be one of {sorted(METHODS)} or a callable (got {clustering!r})")
    if features not in FEATURES:
        raise ValueError(f"`features` must be one of {sorted(FEATURES)} (got {features!r})")
    dag = as_dag(dag)
    limit = check_hops(hops, n_layers=dag.n_layers)
    check_share("merge_threshold", merge_threshold, above_zero=True)
    if features == "influence" and dag.weights is None:
        raise ValueError('`dag` must have weights for `features` "influence"')
    has_attributes = dag.positions is not None and dag.weights is not None and clustering == "linkage" and hops is None
    if features == "attributes" or (features == "auto" and has_attributes):
        from modgraph.cluster.attributed import attributed_modules

        reason = "asked for" if features == "attributes" else "the graph has weights and token positions"
        return _hierarchy(
            dag,
            np.ones(dag.n_units, dtype=np.bool_),
            attributed_modules(dag),
            settings={"clustering": "attributed", "features": f"attributes: {reason}"},
        )
    rng = np.random.default_rng(random_state)
    kept = dag.on_path()
    trimmed = dag.subgraph(kept)
    name = clustering if isinstance(clustering, str) else getattr(clustering, "__qualname__", repr(clustering))
    settings = {"clustering": name, "hops": limit, "merge_threshold": merge_threshold}
    used, reason = features, "asked for"
    if features == "auto":
        used, reason = _tells_more(trimmed, clustering=name, hops=limit)
    if data is not None and features != "wiring":
        data = np.asarray(data, dtype=np.float64)
        if data.ndim != 2 or data.shape[1] != dag.layer_sizes[0]:
            raise ValueError(f"`data` must have shape (n_samples, {dag.layer_sizes[0]}) (got {data.shape})")
        data = data[:, kept[: dag.layer_sizes[0]]]
    if used == "influence":
        modules = modules_by_influence(trimmed, data=data, random_state=rng)
        if features == "influence" or influence_tells_more(trimmed, modules.groups, merge_threshold, rng):
            return _hierarchy(
                dag,
                kept,
                modules.labels,
                shares=modules.membership,
                links=modules.links,
                settings=settings | {"features": f"influence: {reason}; {_summary(modules)}"},
            )
        reason = "edges keep to modules better than influence does"
    clusters, notes = method(trimmed, hops=limit, rng=rng)
    labels = merge_clusters(trimmed, clusters, threshold=merge_threshold)
    return _hierarchy(
        dag, kept, labels, clusters=clusters, settings={**settings, "features": f"wiring: {reason}", **notes}
    )


def _tells_more(dag: LayeredDAG, *, clustering: str, hops: int) -> tuple[str, str]:
    """Say whether influence is worth a try in a trimmed network, and why or why not."""
    if dag.weights is None:
        return "wiring", "the network has no weights"
    if clustering != "linkage" or hops < dag.n_layers - 1:
        return "wiring", "a clustering or hops were asked for"
    if dag.layer_sizes[0] * dag.layer_sizes[-1] > LARGEST:
        return "wiring", "too many pairs of an input and an output to measure influence"
    n_paths = paths_per_pair(dag)
    joined = f"{n_paths:.3g} paths join an input and an output on average"
    return ("influence" if n_paths > SATURATED else "wiring"), joined


def _summary(modules: InfluenceModules) -> str:
    """Say how many groups influence shows, and how modular they are beside chance."""
    groups = modules.groups
    found = f"{counted(groups.n_groups, 'group')} of inputs" if groups.n_groups > 1 else "no groups beyond chance"
    shuffled = f"{groups.n_shuffled} networks with shuffled weights"
    silent = int((groups.input_group < 0).sum())
    without = f"; {counted(silent, 'input')} without influence" if silent else ""
    return f"{found} (modularity {groups.modularity:.2f}, {groups.expected:.2f} in {shuffled}){without}"


def _hierarchy(
    dag: LayeredDAG,
    kept: BoolArray,
    labels: IntArray,
    *,
    settings: Mapping[str, Any],
    clusters: IntArray | None = None,
    shares: FloatArray | None = None,
    links: IntArray | None = None,
) -> ModuleHierarchy:
    """Make a hierarchy of what is known of the units in `kept`; a cluster is by default a module's part in a layer."""
    if clusters is None:
        inside = labels >= 0
        clusters = np.full(labels.size, -1)
        clusters[inside] = by_first_unit(dag.layer[kept][inside] * (labels.max() + 1) + labels[inside])
    all_labels, all_clusters = np.full((2, dag.n_units), -1, dtype=np.int64)
    all_labels[kept], all_clusters[kept] = labels, clusters
    if shares is not None:
        all_shares = np.zeros((dag.n_units, shares.shape[1]))
        all_shares[kept] = shares
        shares = read_only(all_shares)
    return ModuleHierarchy(
        dag=dag,
        labels=read_only(all_labels),
        cluster_labels=read_only(all_clusters),
        settings=settings,
        shares=shares,
        links=links,
    )


def _columns(matrix: csr_array, row: int, *, among: BoolArray | None = None) -> IntArray:
    """Return the sorted columns of one row that are True, of those in `among`."""
    columns = np.sort(matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]).astype(np.int64)
    return columns if among is None else columns[among[columns]]
