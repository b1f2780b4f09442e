"""Stability: change a network a little, find its modules again, and see which units stay together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modgraph.arrays import FloatArray, IntArray, read_only
from modgraph.checks import check_int, check_share, require
from modgraph.cluster import METHODS
from modgraph.dag import LayeredDAG
from modgraph.modules import ModuleHierarchy, detect_modules

Detection = Callable[[LayeredDAG], ModuleHierarchy]

WEIGHT_NOISE: Final = 0.1
"""Standard deviation of the factors, of mean 1, by which weights are multiplied where influence decides."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stability:
    """Which units stay together when the network is changed a little; what `stability` finds.

    Attributes
    ----------
    unit_confidence : ndarray of float, shape (n_units,)
        Overlap of a unit's module with its module in the found hierarchy, the mean over the changed networks: units in
        both / units in either (Jaccard). NaN where trimming removed the unit.
    module_confidence : ndarray of float, shape (n_modules,)
        Largest such overlap of any module with this one, the mean over the changed networks (Hennig, Computational
        Statistics and Data Analysis 52, 258, 2007).
    consensus : ndarray of int, shape (n_units,)
        The module that most changed networks give to each unit, numbered as in the found hierarchy.
    agreement : ndarray of float, shape (n_resamples,)
        Share of the units with the same module in each changed network.
    """

    unit_confidence: FloatArray
    module_confidence: FloatArray
    consensus: IntArray
    agreement: FloatArray

    def __repr__(self) -> str:
        return f"Stability({self.agreement.mean():.0%} of units stay, {len(self.agreement)} changed networks)"


def stability(
    found_or_dag: ModuleHierarchy | LayeredDAG,
    *,
    dropped: float = 0.05,
    n_resamples: int = 20,
    random_state: int | np.random.Generator | None = 0,
    detect: Detection | None = None,
    n_jobs: int = 1,
) -> Stability:
    """Change a network a little, find its modules again, and see which units stay together.

    Where influence decides, every weight is also multiplied by a normal number of mean 1 and standard deviation 0.1.

    Parameters
    ----------
    found_or_dag : ModuleHierarchy or LayeredDAG
        A network is put through `detect_modules` first.
    dropped : float, in (0, 1]
        Share of the edges taken out at random each time; at least one edge.
    n_resamples : int ≥ 1
        Changed networks.
    random_state : int, Generator or None
    detect, n_jobs
        As in `significance`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from modgraph.planted import planted_modules
    >>> dag, _ = planted_modules([24, 24, 24], n_modules=2, rewired=0.05, random_state=0)
    >>> bool((stability(dag, n_resamples=5).module_confidence > 0.5).any())
    True
    """
    check_share("dropped", dropped, above_zero=True)
    check_int("n_resamples", n_resamples, at_least=1)
    found = hierarchy_of(found_or_dag, detect)
    detect = detection_of(found) if detect is None else detect
    rng = np.random.default_rng(random_state)
    seeds = rng.integers(1 << 63, size=n_resamples).tolist()
    noise = 0.0 if features_of(found) == "wiring" else WEIGHT_NOISE
    labelled = in_parallel(lambda seed: _changed_labels(found.dag, detect, dropped, noise, seed), seeds, n_jobs)
    return _compared(found.labels, labelled)


def hierarchy_of(found_or_dag: ModuleHierarchy | LayeredDAG, detect: Detection | None) -> ModuleHierarchy:
    """Return a hierarchy as it is, or detect the modules of a network."""
    if isinstance(found_or_dag, LayeredDAG):
        return (detect or detect_modules)(found_or_dag)
    if not isinstance(found_or_dag, ModuleHierarchy):
        raise ValueError(
            f"`found_or_dag` must be a ModuleHierarchy or a LayeredDAG (got {type(found_or_dag).__name__})"
        )
    return found_or_dag


def features_of(found: ModuleHierarchy) -> str:
    """Return what the modules were found by: "wiring", "influence" or "attributes"."""
    return str(found.settings.get("features", "wiring")).partition(":")[0]


def detection_of(found: ModuleHierarchy) -> Detection:
    """Return `detect_modules` with the settings of a hierarchy."""
    settings, features = found.settings, features_of(found)
    if features != "wiring":
        return lambda dag: detect_modules(dag, features=features)
    clustering = settings.get("clustering", "linkage")
    if clustering not in METHODS:
        raise ValueError(f"`detect` must be given for a clustering of your own (got {clustering!r} in `settings`)")
    return lambda dag: detect_modules(
        dag,
        features="wiring",
        clustering=clustering,
        hops=settings.get("hops"),
        merge_threshold=settings.get("merge_threshold", 0.9),
    )


def in_parallel(function: Callable[[int], Any], numbers: Sequence[int], n_jobs: int) -> list[Any]:
    """Apply a function to each number, `n_jobs` at a time."""
    if n_jobs == 1:
        return [function(number) for number in numbers]
    joblib = require("joblib", purpose="`n_jobs` other than 1", extra="sculpt")
    return list(joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(function)(number) for number in numbers))


def _changed_labels(dag: LayeredDAG, detect: Detection, dropped: float, noise: float, seed: int) -> IntArray:
    """Find the modules of a network with fewer edges and other weights."""
    rng = np.random.default_rng(seed)
    keep = np.ones(dag.n_edges, dtype=np.bool_)
    keep[rng.permutation(dag.n_edges)[: max(1, round(dropped * dag.n_edges))]] = False
    changed = dag.keep_edges(keep)
    if changed.weights is not None:
        factors = rng.normal(1.0, noise, size=changed.n_edges)
        changed = dataclasses.replace(changed, weights=read_only(changed.weights * factors))
    return detect(changed).labels


def _compared(labels: IntArray, labelled: Sequence[IntArray]) -> Stability:
    """Compare a partition with those of changed networks; units that are missing on either side don't count."""
    n_modules, n_units = int(labels.max(initial=-1)) + 1, len(labels)
    unit_sum, unit_count = np.zeros((2, n_units))
    module_sum, module_count = np.zeros((2, n_modules))
    votes = np.zeros((n_units, n_modules))
    agreement = []
    for other in labelled:
        both = np.flatnonzero((labels >= 0) & (other >= 0))
        if not both.size:
            continue
        one, two = labels[both], other[both]
        table = np.zeros((n_modules, int(two.max()) + 1))
        np.add.at(table, (one, two), 1)
        overlap = table / np.maximum(table.sum(axis=1)[:, None] + table.sum(axis=0) - table, 1)
        unit_sum[both] += overlap[one, two]
        unit_count[both] += 1
        present = table.sum(axis=1) > 0
        module_sum[present] += overlap.max(axis=1)[present]
        module_count[present] += 1
        match = np.full(table.shape[1], -1)
        from scipy.optimize import linear_sum_assignment  # loading it takes 0.2 s

        rows, columns = linear_sum_assignment(-overlap)
        match[columns] = rows
        named = match[two]
        votes[both[named >= 0], named[named >= 0]] += 1
        agreement.append(float((named == one).mean()))
    with np.errstate(invalid="ignore"):
        unit_confidence = np.where(labels >= 0, unit_sum / unit_count, np.nan)
        module_confidence = module_sum / module_count
    kept = np.flatnonzero(labels >= 0)
    votes[kept, labels[kept]] += 0.5  # of equally many votes the unit's own module wins
    consensus = np.where(labels >= 0, votes.argmax(axis=1) if n_modules else -1, -1)
    return Stability(
        unit_confidence=read_only(unit_confidence),
        module_confidence=read_only(module_confidence),
        consensus=read_only(consensus),
        agreement=read_only(np.array(agreement)),
    )
