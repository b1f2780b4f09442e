"""Several clusterings of one network side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modgraph.arrays import FloatArray, read_only
from modgraph.checks import require
from modgraph.cluster import Clustering
from modgraph.cluster.description import description_length
from modgraph.dag import LayeredDAG
from modgraph.evidence import SURE, Significance, significance
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
    evidence : tuple of Significance
        Whether the modules are more than chance; by default the bound without null networks.
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
    evidence: tuple[Significance, ...]
    ami: FloatArray
    seconds: tuple[float, ...]
    found: tuple[ModuleHierarchy, ...]

    @property
    def sure(self) -> tuple[float, ...]:
        """Share of the units that are in a module of confidence 0.9 or more; NaN without null networks."""
        return tuple(map(_sure_share, self.found, self.evidence))

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas ``DataFrame``: a row a method, with a column ``ami_…`` for each method."""
        pandas = require("pandas", purpose="`to_pandas`", extra="table")
        columns: dict[str, Any] = {
            "clusters": self.clusters,
            "n_modules": self.n_modules,
            "bits": self.bits,
            "p_value": [one.p_value for one in self.evidence],
            "effect_size": [one.effect_size for one in self.evidence],
            "sure": self.sure,
            **{f"ami_{name}": self.ami[:, place] for place, name in enumerate(self.methods)},
            "seconds": self.seconds,
        }
        table: pd.DataFrame = pandas.DataFrame(columns, index=pandas.Index(self.methods, name="method"))
        return table

    def table(self) -> list[list[str]]:
        """Return the table as text: the names of the columns, and a row for each method."""
        columns = {
            "method": list(self.methods),
            "clusters": [" ".join(map(str, counts)) for counts in self.clusters],
            "modules": [str(count) for count in self.n_modules],
            "bits": [f"{bits:.0f}" for bits in self.bits],
            "evidence": [one.p_text for one in self.evidence],
        }
        if any(one.n_null for one in self.evidence):
            columns["effect"] = [f"{one.effect_size:.1f}" for one in self.evidence]
            columns["sure"] = [f"{share:.0%}" for share in self.sure]
        columns["seconds"] = [f"{seconds:.2f}" for seconds in self.seconds]
        columns |= {f"ami {name}": [f"{value:.3f}" for value in self.ami[at]] for at, name in enumerate(self.methods)}
        head, cells = list(columns), zip(*columns.values(), strict=True)
        return [head, *map(list, cells)]

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
    n_null: int | None = 0,
    n_resamples: int = 20,
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
    n_null, n_resamples
        As for `significance`. By default no null networks are drawn, and the evidence is a bound that takes no time.

    Raises
    ------
    ValueError
        If a method isn't known, or a number is out of range.
    ImportError
        If the library of a method is missing.

    Examples
    --------
    >>> halves = np.kron(np.eye(2), np.ones((2, 2)))
    >>> print(compare_clusterings(LayeredDAG.from_masks([halves, halves]), methods=["linkage", "published"]))
    method     clusters  modules  bits  evidence  seconds  ami linkage  ami published
    linkage    2 2       2        46    p ≤ 1     ...  1.000        1.000
    published  2 2       2        46    p ≤ 1     ...  1.000        1.000
    """
    from sklearn.metrics import adjusted_mutual_info_score  # half a second to load

    found, evidence, seconds = [], [], []
    for method in methods:
        detect = partial(
            detect_modules, clustering=method, hops=hops, merge_threshold=merge_threshold, random_state=random_state
        )
        start = time.process_time()
        found.append(detect(dag))
        seconds.append(time.process_time() - start)
        evidence.append(
            significance(
                found[-1],
                n_null=n_null,
                n_resamples=n_resamples,
                random_state=random_state,
                detect=detect if callable(method) else None,
            )
        )
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
        evidence=tuple(evidence),
        ami=read_only(ami),
        seconds=tuple(seconds),
        found=tuple(found),
    )


def _sure_share(found: ModuleHierarchy, evidence: Significance) -> float:
    """Return the share of the units in modules that are sure."""
    if not evidence.n_null:
        return np.nan
    sure = np.array([module.confidence >= SURE for module in evidence.modules])
    return float(sure[found.labels[found.labels >= 0]].mean())
