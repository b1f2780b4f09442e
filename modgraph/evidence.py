"""Evidence: whether the structure that was found is more than chance, and how sure each module is.

**Null networks.** `significance` puts random networks through the same detection: the same degrees where wiring decides
(`modgraph.null.swap_edges`), the same wiring and weights where influence or attributes do
(`modgraph.null.shuffle_weights`). The share of them that look at least as modular is the p-value.

**How modular a network is.** By wiring: the `largest_eigenvalue` of what degrees leave unexplained. It needs no
partition, so it also sees modules that are too weak to be found unit by unit. By influence: how far the modularity of
groups of inputs and outputs is above that of networks with shuffled weights (`modgraph.cluster.coclusters`). By
attributes: how alike in influence the units of a module are (`modgraph.cluster.attributed.likeness`).

**How well a module is marked off.** By how many bits its clusters make their edges more likely than degrees do
(`modgraph.cluster.description.cluster_bits`).

**Without null networks.** In a random network, with these degrees where they vary more than by chance, a partition
saves k bits with probability 2^−k at most, however it was found: code lengths obey Kraft's inequality (Grünwald, "The
Minimum Description Length Principle", 2007, section 3.3). ``n_null=0`` gives that bound at almost no cost. It is
approximate, as the probabilities of single edges are (`modgraph.cluster.degrees`).
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import scipy
from scipy.sparse import coo_array, csr_array

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.checks import check_int
from modgraph.cluster.attributed import likeness
from modgraph.cluster.by_influence import modules_by_influence
from modgraph.cluster.description import cluster_bits, description_length
from modgraph.dag import LayeredDAG
from modgraph.labels import by_first_unit
from modgraph.modules import ModuleHierarchy
from modgraph.null import shuffle_weights, swap_edges
from modgraph.paths import paths
from modgraph.sequential import EQUAL, Progress, effect_of, null_values, p_value_of
from modgraph.stability import Detection, detection_of, features_of, hierarchy_of, stability

SURE: Final = 0.9  # confidence from which on summaries count a module as sure
LEAST_BOUND: Final = 1e-12  # smallest bound that summaries name
MOST_DENSE: Final = 400  # units up to which the eigenvalue is computed from a dense matrix; beyond, by Lanczos' method
EIGENVALUE_ERROR: Final = 1e-11  # relative error of the eigenvalue by Lanczos' method


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModuleEvidence:
    """How sure one module is.

    Attributes
    ----------
    id : int
        Its label in `ModuleHierarchy.labels`.
    p_value : float
        Share of null networks that hold *any* module as well marked off as this one, this network counted with them.
        It controls the chance of one wrong module or more among all (Westfall and Young), and so the false-discovery
        rate. NaN without null networks.
    confidence : float, 0…1
        The smaller of its stability (see `Stability.module_confidence`) and 1 − `p_value`. NaN where neither is known.
    """

    id: int
    p_value: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Significance:
    """Whether a hierarchy is more than chance; what `significance` finds.

    Attributes
    ----------
    p_value : float, in (0, 1]
        Probability that a null network is as modular as this one, or more. NaN for attribution graphs without any.
    effect_size : float
        How far the statistic is above its mean in null networks, in their standard deviations; NaN without any.
    statistic : float
        How modular the network is: `largest_eigenvalue`, 0…1 (wiring), modularity above chance (influence) or likeness
        within modules (attributes). With ``n_null=0`` the bits that the clusters save in the description of the
        network. For `hourglass_significance` the hourglass score.
    null : ndarray of float, shape (n_null,)
        The same for the null networks, in the order in which they were drawn.
    kind : {"swapped edges", "shuffled weights", "none"}
        What the null networks are; "none" for the bound.
    modules : tuple of ModuleEvidence
        By module id.
    """

    p_value: float
    effect_size: float
    statistic: float
    null: FloatArray
    kind: str
    modules: tuple[ModuleEvidence, ...]

    @property
    def n_null(self) -> int:
        """Number of null networks."""
        return len(self.null)

    @property
    def p_text(self) -> str:
        """The p-value as text: "p = 0.05", "p ≤ 1e-12" where it is a bound, "p unknown" where there is none."""
        if math.isnan(self.p_value):
            return "p unknown"
        return f"p ≤ {max(self.p_value, LEAST_BOUND):.2g}" if self.kind == "none" else f"p = {self.p_value:.2g}"

    def summary(self) -> str:
        """Say the result in one line."""
        if self.kind == "none":
            if math.isnan(self.p_value):
                return "evidence: none for attribution graphs without null networks"
            if self.statistic <= 0:
                return "evidence: none beyond what degrees explain (no null networks drawn)"
            return f"evidence: the wiring saves {self.statistic:.1f} bits beyond degrees, by chance with {self.p_text}"
        if not self.n_null:
            return f"evidence: {self.p_text} beside networks with {self.kind}"
        line = (
            f"evidence: {self.p_text} beside {self.n_null} networks with {self.kind}, "
            f"{self.effect_size:.1f} standard deviations above them"
        )
        if not self.modules:
            return line
        sure = sum(module.confidence >= SURE for module in self.modules)
        return f"{line}; {sure} of {len(self.modules)} modules with confidence ≥ {SURE}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as numbers, texts and lists, for JSON; None for what is not finite."""
        facts = asdict(self) | {"n_null": self.n_null, "null": self.null.tolist()}
        for record in (facts, *facts["modules"]):
            unknown = [name for name, value in record.items() if isinstance(value, float) and not math.isfinite(value)]
            record.update(dict.fromkeys(unknown))
        return facts

    def __repr__(self) -> str:
        return f"Significance(p = {self.p_value:.3g}, effect size {self.effect_size:.2f}, {self.n_null} null networks)"


def significance(
    found_or_dag: ModuleHierarchy | LayeredDAG,
    *,
    n_null: int | None = None,
    n_resamples: int = 20,
    random_state: int | np.random.Generator | None = 0,
    detect: Detection | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Significance:
    """Compare a hierarchy with those of null networks, to see if it is more than chance.

    The partition is found again in every null network, with the same settings. With e of n null networks at least as
    modular as this one, p = (1 + e) / (1 + n).

    Parameters
    ----------
    found_or_dag : ModuleHierarchy or LayeredDAG
        A network is put through `detect_modules` first.
    n_null : int ≥ 0, optional
        Null networks. By default as many as it takes, at most 199. It ends with the tenth that is as modular as this
        one: then p = 10 / n (Besag and Clifford, Biometrika 78, 301, 1991). It ends after 19 where none of them is and
        this network is 6 standard deviations above them: then p = 1/20. That is valid unless more than a twentieth of
        the null networks is as far above the others. 0: no null network, but the bound 2^−bits (see the module's text).
    n_resamples : int ≥ 0
        Changed networks for the stability of the modules; 0 leaves stability out of their confidence.
    random_state : int, Generator or None
    detect : callable, optional
        Finds the modules of a network; by default `detect_modules` with the settings of the found hierarchy. Needed
        where modules were found by a clustering of your own, or with ``data``.
    n_jobs : int
        Null networks at a time, by joblib (−1: one a processor). The result is the same.
    progress : callable, optional
        Called with the number of null networks done, and the largest number there may be.
    checkpoint : path-like, optional
        File of the results so far. If it exists, and is of the same network and settings, the work goes on from there.

    Raises
    ------
    ValueError
        If an argument is out of range, or the file is of something else.

    Examples
    --------
    >>> from modgraph.planted import planted_modules
    >>> dag, _ = planted_modules([24, 24, 24], n_modules=2, rewired=0.05, random_state=0)
    >>> significance(dag, n_null=19, n_resamples=0).p_value
    0.05
    >>> significance(dag, n_null=0).p_value < 0.01
    True
    """
    if n_null is not None:
        check_int("n_null", n_null, at_least=0)
    check_int("n_resamples", n_resamples, at_least=0)
    found = hierarchy_of(found_or_dag, detect)
    features = features_of(found)
    if n_null == 0:
        return _without_null(found)
    detect = detection_of(found) if detect is None else detect
    rng = np.random.default_rng(random_state)
    seed, stability_seed, detection_seed = rng.integers(1 << 63, size=3).tolist()
    comparison = _Comparison(found=found, detect=detect, features=features, seed=seed, detection_seed=detection_seed)
    observed, marks = comparison.measure(found)
    values, largest_marks = null_values(
        comparison.null,
        observed,
        n_null=n_null,
        n_jobs=n_jobs,
        progress=progress,
        checkpoint=checkpoint,
        fingerprint=comparison.fingerprint(),
    )
    module_p = [(1 + int((largest_marks >= mark - EQUAL).sum())) / (1 + len(values)) for mark in marks]
    stable = np.full(found.n_modules, np.nan)
    if n_resamples:
        stable = stability(
            found, n_resamples=n_resamples, random_state=stability_seed, detect=detect, n_jobs=n_jobs
        ).module_confidence
    return Significance(
        p_value=p_value_of(observed, values, n_null),
        effect_size=effect_of(observed, values),
        statistic=observed,
        null=read_only(values),
        kind="swapped edges" if features == "wiring" else "shuffled weights",
        modules=tuple(
            ModuleEvidence(id=number, p_value=p, confidence=float(np.fmin(stable[number], 1 - p)))
            for number, p in enumerate(module_p)
        ),
    )


def hourglass_significance(
    dag: LayeredDAG,
    *,
    n_null: int | None = None,
    random_state: int | np.random.Generator | None = 0,
    progress: Progress | None = None,
) -> Significance:
    """Compare the hourglass score of a network with those of networks in which every unit keeps its degrees.

    A waist that sizes and degrees explain, such as a narrow layer, is in the null networks too. So a small p-value says
    that the edges between the layers lead more paths through few units than their degrees do.

    Parameters
    ----------
    dag : LayeredDAG
    n_null, random_state, progress
        As for `significance`; at least one null network.

    Returns
    -------
    Significance
        Of `PathCounts.hourglass`; without modules.

    Examples
    --------
    A narrow layer makes an hourglass, as it does with these degrees in any wiring:

    >>> dag = LayeredDAG.from_masks([np.ones((2, 9)), np.ones((9, 2))])
    >>> found = hourglass_significance(dag)
    >>> round(found.statistic, 2), found.p_value
    (0.78, 1.0)
    """
    if n_null is not None:
        check_int("n_null", n_null, at_least=1)
    trimmed = dag.trim()
    seed = int(np.random.default_rng(random_state).integers(1 << 63))
    observed = paths(trimmed).hourglass

    def score(number: int) -> tuple[float, float]:
        null = swap_edges(trimmed, random_state=np.random.default_rng([seed, number]))
        return paths(null).hourglass, 0.0

    values, _ = null_values(score, observed, n_null=n_null, progress=progress)
    return Significance(
        p_value=p_value_of(observed, values, n_null),
        effect_size=effect_of(observed, values),
        statistic=observed,
        null=read_only(values),
        kind="swapped edges",
        modules=(),
    )


def _without_null(found: ModuleHierarchy) -> Significance:
    """Return what is known without null networks: the bound by wiring, the detection's own comparison by influence."""
    kept = found.labels >= 0
    dag = found.dag.subgraph(kept)
    statistic, p_value, kind = np.nan, np.nan, "none"
    if features_of(found) == "influence":
        statistic, p_value = _modularity_above_chance(dag, 0)
        kind = "shuffled weights"
    elif features_of(found) == "wiring":
        statistic = _saved_bits(dag, _clusters(found, kept))
        p_value = 2.0 ** -min(max(statistic, 0.0), 1000.0)
    return Significance(
        p_value=p_value,
        effect_size=np.nan,
        statistic=statistic,
        null=read_only(np.zeros(0)),
        kind=kind,
        modules=tuple(ModuleEvidence(id=at, p_value=np.nan, confidence=np.nan) for at in range(found.n_modules)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Comparison:
    """How null networks are drawn and measured."""

    found: ModuleHierarchy
    detect: Detection
    features: str
    seed: int
    detection_seed: int

    def null(self, number: int) -> tuple[float, float]:
        """Draw a null network by its number: how modular it is, and how well its best module is marked off."""
        rng = np.random.default_rng([self.seed, number])
        found = self.found
        dag = found.dag if self.features == "attributes" else found.dag.subgraph(found.labels >= 0)
        drawn = (swap_edges if self.features == "wiring" else shuffle_weights)(dag, random_state=rng)
        value, marks = self.measure(self.detect(drawn))
        return value, float(marks.max(initial=0.0))

    def measure(self, found: ModuleHierarchy) -> tuple[float, FloatArray]:
        """Return how modular a network is, and how well each module is marked off."""
        if self.features == "attributes":
            return likeness(found.dag, found.labels)
        kept = found.labels >= 0
        dag = found.dag.subgraph(kept)
        if self.features == "influence":
            value, _ = _modularity_above_chance(dag, self.detection_seed)
            return value, np.full(found.n_modules, value, dtype=np.float64)
        marks = np.zeros(found.n_modules)
        np.add.at(marks, found.labels[kept], cluster_bits(dag, _clusters(found, kept)))
        return largest_eigenvalue(dag), marks

    def fingerprint(self) -> str:
        """Return a text that differs between networks, settings and seeds."""
        digest = hashlib.sha256(repr((sorted(self.found.settings.items()), self.seed, self.features)).encode())
        for array in (self.found.dag.sources, self.found.dag.targets, self.found.dag.weights, self.found.labels):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _modularity_above_chance(dag: LayeredDAG, seed: int) -> tuple[float, float]:
    """Return how far groups by influence are above those of shuffled weights, and the p-value of that."""
    groups = modules_by_influence(dag, random_state=seed).groups
    return groups.modularity - groups.expected, groups.p_value


def _clusters(found: ModuleHierarchy, kept: BoolArray) -> IntArray:
    """Return the clusters of the trimmed network, outputs by module: those of one module are one cluster."""
    clusters = found.cluster_labels[kept].copy()
    outputs = found.dag.layer[kept] == found.dag.n_layers - 1
    clusters[outputs] = found.labels[kept][outputs] + found.dag.n_units
    return by_first_unit(clusters)


def largest_eigenvalue(dag: LayeredDAG) -> float:
    """Return how far the wiring is from what degrees explain, 0…1, in the one direction where it is farthest.

    Let A be the symmetric adjacency matrix, k the degrees, and ⟨k⟩ their mean. Degrees explain P: between two layers
    that E edges join, d_i d_j / E, with the degrees d of their units towards each other's layer. It is the largest
    eigenvalue of ::

        D^−1/2 (A − P) D^−1/2,   D = diag(k) + ⟨k⟩

    Modules give a few large eigenvalues, one less than there are modules; chance gives a band of smaller ones. The mean
    degree in D keeps units of few edges from giving large ones (Qin and Rohe, "Regularized spectral clustering under
    the degree-corrected stochastic blockmodel", NIPS 2013). 0 where `dag` has no edges.

    Examples
    --------
    >>> halves, full = np.kron(np.eye(2), np.ones((4, 4))), np.ones((8, 8))
    >>> [round(largest_eigenvalue(LayeredDAG.from_masks([mask, mask])), 3) for mask in (halves, full)]
    [0.507, 0.0]
    """
    n_units = dag.n_units
    if dag.n_edges == 0:
        return 0.0
    pairs, pair = np.unique(dag.layer_pair, return_inverse=True)
    ones, shape = np.ones(dag.n_edges), (n_units, len(pairs))
    leaving = csr_array(coo_array((ones, (dag.sources, pair)), shape=shape))
    entering = csr_array(coo_array((ones, (dag.targets, pair)), shape=shape))
    expected = leaving / np.bincount(pair)
    edges = csr_array(coo_array((ones, (dag.sources, dag.targets)), shape=(n_units, n_units)))
    degrees = np.asarray(leaving.sum(axis=1) + entering.sum(axis=1))
    scale = 1 / np.sqrt(degrees + degrees.mean())
    if n_units <= MOST_DENSE:
        matrix = (edges - expected @ entering.T).toarray() * scale[:, None] * scale
        return max(0.0, float(scipy.linalg.eigvalsh(matrix + matrix.T, subset_by_index=[n_units - 1, n_units - 1])[0]))

    def product(vector: FloatArray) -> FloatArray:
        scaled = vector.ravel() * scale
        forward = edges @ scaled - expected @ (entering.T @ scaled)
        backward = edges.T @ scaled - entering @ (expected.T @ scaled)
        found: FloatArray = (forward + backward) * scale
        return found

    matrix = scipy.sparse.linalg.LinearOperator((n_units, n_units), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=n_units)
    values = scipy.sparse.linalg.eigsh(
        matrix, k=1, which="LA", v0=start, tol=EIGENVALUE_ERROR, maxiter=100 * n_units, return_eigenvectors=False
    )
    return max(0.0, float(values[0]))


def _saved_bits(dag: LayeredDAG, clusters: IntArray) -> float:
    """Return by how many bits a partition shortens the description of a trimmed network."""
    if dag.n_edges == 0:
        return 0.0
    return description_length(dag, np.zeros_like(clusters)) - description_length(dag, clusters)
