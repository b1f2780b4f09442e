"""The modules of many networks at once, for sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from modgraph.arrays import BoolArray, IntArray, read_only
from modgraph.checks import check_hops, check_share
from modgraph.cluster import tied_linkage
from modgraph.cluster.description import SMALLEST_LAYER
from modgraph.compiled import PLAIN_UNITS, plain
from modgraph.dag import LayeredDAG, as_dag
from modgraph.labels import by_first_unit
from modgraph.merge import merge_clusters
from modgraph.modules import ModuleHierarchy, detect_modules


def detect_many(
    dags: Iterable[LayeredDAG | Any], *, features: str = "auto", merge_threshold: float = 0.9, **settings: Any
) -> list[ModuleHierarchy]:
    """Find the modules of many networks; each result is that of `detect_modules`.

    Networks that keep fewer than ten units a layer, as sculpted ones do, have most of the work done for all of them
    together. Layers that are alike are clustered once.

    Parameters
    ----------
    dags : iterable of LayeredDAG, or of anything else that `detect_modules` takes
    features, merge_threshold, **settings
        As for `detect_modules`, the same for all networks.

    Returns
    -------
    list of ModuleHierarchy
        In the order of `dags`.

    Examples
    --------
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> detect_many([dag, dag])
    [ModuleHierarchy(2 modules, 9 of 9 units), ModuleHierarchy(2 modules, 9 of 9 units)]
    """
    given = [as_dag(dag) for dag in dags]
    found: dict[int, ModuleHierarchy] = {}
    if not settings and features in ("auto", "wiring"):
        check_share("merge_threshold", merge_threshold, above_zero=True)
        reason = "asked for" if features == "wiring" else "the network has no weights"
        by_depth: dict[int, list[int]] = {}
        for number, dag in enumerate(given):
            if (features == "wiring" or dag.weights is None) and not dag.skips_layers:
                by_depth.setdefault(dag.n_layers, []).append(number)
        clustered: dict[bytes, IntArray] = {}
        for n_layers, numbers in by_depth.items():
            # Compiling takes as long as some hundred networks in plain Python.
            with plain(largest=0 if len(given) < 200 else PLAIN_UNITS):
                together = list(_together([given[number] for number in numbers], merge_threshold, clustered))
            for number, (labels, cluster_labels) in zip(numbers, together, strict=True):
                if labels is not None and cluster_labels is not None:
                    found[number] = ModuleHierarchy(
                        dag=given[number],
                        labels=read_only(labels),
                        cluster_labels=read_only(cluster_labels),
                        settings={
                            "clustering": "linkage",
                            "hops": check_hops(None, n_layers=n_layers),
                            "merge_threshold": merge_threshold,
                            "features": f"wiring: {reason}",
                        },
                    )
    settings |= {"features": features, "merge_threshold": merge_threshold}
    return [found.get(number) or detect_modules(dag, **settings) for number, dag in enumerate(given)]


def _together(
    dags: Sequence[LayeredDAG], merge_threshold: float, clustered: dict[bytes, IntArray]
) -> Iterator[tuple[IntArray | None, IntArray | None]]:
    """Find the modules of networks of equally many layers: labels of the units, and of their clusters.

    None, None for a network with a layer that is empty or large after trimming. `clustered` holds the labels of layers
    that were clustered before.
    """
    n_layers = dags[0].n_layers
    n_units = np.array([dag.n_units for dag in dags])
    starts = np.concatenate([[0], np.cumsum(n_units)])
    # One graph of all networks: its layers hold those of the first network, then those of the second, …
    layer = np.concatenate([dag.layer for dag in dags])
    order = np.argsort(layer, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    edges = np.concatenate([dag.edges + start for dag, start in zip(dags, starts.tolist(), strict=False)])
    union = LayeredDAG.from_edges(place[edges], layer=layer[order])
    network = np.repeat(np.arange(len(dags)), n_units)[order]
    kept = union.on_path()
    sizes = np.bincount(network[kept] * n_layers + union.layer[kept], minlength=len(dags) * n_layers)
    sizes = sizes.reshape(-1, n_layers)
    fits = (sizes.min(axis=1) > 0) & (sizes[:, :-1].max(axis=1) < SMALLEST_LAYER)
    kept = kept & fits[network]
    trimmed = union.subgraph(kept)
    network, sizes = network[kept], np.where(fits[:, None], sizes, 0)
    clusters = np.arange(trimmed.n_units)
    if trimmed.n_units:
        reached = _reached(trimmed, network, sizes)
        ends = sizes.cumsum(axis=1).tolist()
        first = 0
        for level in range(n_layers - 1):
            for number, size in enumerate(sizes[:, level].tolist()):
                if size > 1:
                    rows = reached[first : first + size, ends[number][level] : ends[number][-1]]
                    # The order of the columns has no effect.
                    columns = np.sort((1 << np.arange(size)) @ rows)
                    key = columns.tobytes()
                    if key not in clustered:
                        clustered[key] = tied_linkage(rows)
                    clusters[first : first + size] = first + clustered[key]
                first += size
        clusters = by_first_unit(clusters)
    modules = merge_clusters(trimmed, clusters, threshold=merge_threshold) if trimmed.n_units else clusters
    labels = np.full((2, len(order)), -1, dtype=np.int64)
    labels[:, kept] = _within(modules, network), _within(clusters, network)
    labels = labels[:, place]
    for number, fit in enumerate(fits.tolist()):
        units = slice(starts[number], starts[number + 1])
        yield (labels[0, units].copy(), labels[1, units].copy()) if fit else (None, None)


def _reached(dag: LayeredDAG, network: IntArray, sizes: IntArray) -> BoolArray:
    """Return what each unit reaches; columns are the units of its own network, shape (n_units, n_columns)."""
    order = np.argsort(network, kind="stable")
    column = np.empty_like(order)
    column[order] = np.arange(len(order)) - (sizes.sum(axis=1).cumsum() - sizes.sum(axis=1))[network[order]]
    reached = np.zeros((dag.n_units, int(sizes.sum(axis=1).max())), dtype=np.bool_)
    bounds = np.searchsorted(dag.sources, dag.layer_starts)
    for start, stop in zip(bounds[-3::-1].tolist(), bounds[-2:0:-1].tolist(), strict=True):
        sources, targets = dag.sources[start:stop], dag.targets[start:stop]
        rows = reached[targets]
        rows[np.arange(len(targets)), column[targets]] = True
        units, first = np.unique(sources, return_index=True)
        reached[units] = np.logical_or.reduceat(rows, first)
    return reached


def _within(labels: IntArray, network: IntArray) -> IntArray:
    """Renumber the labels of each network 0, 1, …; no label is in two networks."""
    order = np.argsort(network, kind="stable")
    result = np.empty_like(labels)
    result[order] = by_first_unit(labels[order])
    first = np.full(int(network.max(initial=-1)) + 1, len(labels))
    np.minimum.at(first, network, result)
    renumbered: IntArray = result - first[network]
    return renumbered
