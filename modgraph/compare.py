"""Several clusterings of one network side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modgraph.arrays import FloatArray, read_only
from modgraph.checks import require
from modgraph.cluster import Clustering
from modgraph.cluster.description import description_length
from modgraph.dag import LayeredDAG
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.shown import Shown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusteringComparison(Shown):
    """The result of `compare_clusterings`; every field has one entry for each method, in the order of `methods`.

    Attributes
    ----------
    methods : tuple of str
    clusters : tuple of tuple of int
        Clusters in each layer before the outputs.
    n_modules : tuple of int
        Modules after merging across layers.
    bits : tuple of float
        Description length of the network by the clusters (`modgraph.cluster.description`); the outputs as one cluster
        or as clusters of one, whichever is shorter.
    ami : ndarray of float, shape (n_methods, n_methods)
        Adjusted mutual information of the clusters of two methods, the mean over the layers before the outputs.
    seconds : tuple of float
        Processor time.
    found : tuple of ModuleHierarchy
    """

    methods: tuple[str, ...]
    clusters: tuple[tuple[int, ...], ...]
    n_modules: tuple[int, ...]
    bits: tuple[float, ...]
    ami: FloatArray
    seconds: tuple[float, ...]
    found: tuple[ModuleHierarchy, ...]

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas ``DataFrame``: a row a method, with a column ``ami_…`` for each method."""
        pandas = require("pandas", purpose="`to_pandas`", extra="table")
        columns: dict[str, Any] = {
            "clusters": self.clusters,
            "n_modules": self.n_modules,
            "bits": self.bits,
            **{f"ami_{name}": self.ami[:, place] for place, name in enumerate(self.methods)},
            "seconds": self.seconds,
        }
        table: pd.DataFrame = pandas.DataFrame(columns, index=pandas.Index(self.methods, name="method"))
        return table

    def table(self) -> list[list[str]]:
        """Return the table as text: the names of the columns, and a row for each method."""
        head = ["method", "clusters", "modules", "bits", "seconds", *(f"ami {name}" for name in self.methods)]
        rows = [
            [
                name,
                " ".join(map(str, self.clusters[place])),
                str(self.n_modules[place]),
                f"{self.bits[place]:.0f}",
                f"{self.seconds[place]:.2f}",
                *(f"{value:.3f}" for value in self.ami[place]),
            ]
            for place, name in enumerate(self.methods)
        ]
        return [head, *rows]

    def __str__(self) -> str:
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        )

    def __repr__(self) -> str:
        return f"ClusteringComparison({', '.join(self.methods)})"


def compare_clusterings(
    dag: LayeredDAG,
    *,
    methods: Sequence[str | Clustering] = ("linkage", "published", "leiden"),
    hops: int | None = None,
    merge_threshold: float = 0.9,
    random_state: int | np.random.Generator | None = 0,
) -> ClusteringComparison:
    """Cluster one network by several methods and set the results side by side.

    Parameters
    ----------
    dag : LayeredDAG
    methods : sequence of str or callable
        As `clustering` of `detect_modules`; a callable goes by its name.
    hops, merge_threshold, random_state
        As for `detect_modules`; an int as `random_state` seeds each method anew.

    Raises
    ------
    ValueError
        If a method isn't known.
    ImportError
        If the library of a method is missing.

    Examples
    --------
    >>> halves = np.kron(np.eye(2), np.ones((2, 2)))
    >>> print(compare_clusterings(LayeredDAG.from_masks([halves, halves]), methods=["linkage", "published"]))
    method     clusters  modules  bits  seconds  ami linkage  ami published
    linkage    2 2       2        46    ...  1.000        1.000
    published  2 2       2        46    ...  1.000        1.000
    """
    from sklearn.metrics import adjusted_mutual_info_score  # half a second to load

    found, seconds = [], []
    for method in methods:
        start = time.process_time()
        found.append(
            detect_modules(
                dag, clustering=method, hops=hops, merge_threshold=merge_threshold, random_state=random_state
            )
        )
        seconds.append(time.process_time() - start)
    kept = dag.on_path()
    trimmed = dag.subgraph(kept)
    labels = [one.cluster_labels[kept] for one in found]
    inner = [trimmed.layer == level for level in range(trimmed.n_layers - 1)]
    inner = [units for units in inner if units.any()]
    ami = np.ones((len(found), len(found)))
    for one in range(len(found)):
        for two in range(one):
            shared = [adjusted_mutual_info_score(labels[one][units], labels[two][units]) for units in inner]
            ami[one, two] = ami[two, one] = np.mean(shared) if shared else 1.0
    outputs = trimmed.layer == trimmed.n_layers - 1
    return ClusteringComparison(
        methods=tuple(one.settings["clustering"] for one in found),
        clusters=tuple(tuple(len(np.unique(part[units])) for units in inner) for part in labels),
        n_modules=tuple(one.n_modules for one in found),
        bits=tuple(
            min(description_length(trimmed, part), description_length(trimmed, np.where(outputs, -1, part)))
            for part in labels
        ),
        ami=read_only(ami),
        seconds=tuple(seconds),
        found=tuple(found),
    )
