"""Marks in pictures and pages: weak and certified modules, strong and negative edges, shared units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.evidence import Significance
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted
from modgraph.verify import Verification

WEAK_P: Final = 0.05
"""A module with a larger p-value is weak."""

WEAK_CONFIDENCE: Final = 0.5
"""A module with a smaller confidence is weak."""

CERTIFIED: Final = "\N{CHECK MARK}"
NO_BREAK: Final = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Marks of the modules, by id, and sentences that explain them."""

    weak: tuple[bool, ...]  # modules with a large p-value or a small confidence
    certified: tuple[bool, ...]  # modules that intervention certified
    notes: tuple[str, ...]  # one line of text for each result that was given

    @classmethod
    def none(cls, n_modules: int) -> Marks:
        """Return the marks of modules of which nothing is known."""
        return cls(weak=(False,) * n_modules, certified=(False,) * n_modules, notes=())

    def named(self, texts: Sequence[str]) -> list[str]:
        """Add the sign of certified modules to their names."""
        return [f"{text} {CERTIFIED}" if sure else text for text, sure in zip(texts, self.certified, strict=True)]


def marks(found: ModuleHierarchy, *, evidence: Significance | None, verification: Verification | None) -> Marks:
    """Return the marks of the modules of a hierarchy."""
    for name, result in (("evidence", evidence), ("verification", verification)):
        if result is not None and len(result.modules) != found.n_modules:
            raise ValueError(
                f"`{name}` must be of the same hierarchy, of {counted(found.n_modules, 'module')} "
                f"(got {len(result.modules)})"
            )
    weak = certified = (False,) * found.n_modules
    notes = []
    if evidence is not None:
        # Unknown values (NaN) are not weak.
        weak = tuple(module.p_value > WEAK_P or module.confidence < WEAK_CONFIDENCE for module in evidence.modules)
        note = f"evidence: {evidence.p_text}"
        if evidence.n_null:
            note += f", {evidence.effect_size:.1f} standard deviations above {evidence.n_null} random networks"
        limits = f"p > {WEAK_P} or confidence < {WEAK_CONFIDENCE}".replace(" ", NO_BREAK)
        notes.append(f"{note} · dashed outline: {counted(sum(weak), 'weak module')} ({limits})" if any(weak) else note)
    if verification is not None and verification.target is not None:
        certified = tuple(bool(module.certified) for module in verification.modules)
        modules = counted(found.n_modules, "module")
        notes.append(f"{CERTIFIED} certified by intervention: {sum(certified)} of {modules}")
    return Marks(weak=weak, certified=certified, notes=tuple(notes))


def second_modules(found: ModuleHierarchy) -> IntArray:
    """Return the module with the second largest share of each shared unit, −1 for other units; shape (n_units,)."""
    second = np.full(found.dag.n_units, -1)
    shared = np.flatnonzero(found.shared)
    if shared.size:
        shares = found.membership[shared].copy()
        shares[np.arange(shared.size), found.labels[shared]] = -1
        second[shared] = shares.argmax(axis=1)
    return second


def edge_strength(dag: LayeredDAG) -> FloatArray:
    """Return the relative width of each edge: 0.4 to 1.6, by |weight| / largest |weight| between the same layers.

    Without weights it is 1; shape (n_edges,).
    """
    if dag.weights is None:
        return np.ones(dag.n_edges)
    size, between = np.abs(dag.weights), dag.layer_pair
    largest = np.zeros(dag.n_layers**2)
    np.maximum.at(largest, between, size)
    strength: FloatArray = 0.4 + 1.2 * size / np.where(largest > 0, largest, 1)[between]
    return strength


def negative_edges(dag: LayeredDAG) -> BoolArray:
    """Return which edges have a negative weight, shape (n_edges,)."""
    return np.zeros(dag.n_edges, dtype=np.bool_) if dag.weights is None else dag.weights < 0


def explain(*, negative: bool, shared: bool) -> str:
    """Return one line that explains dashed edges and rims, as far as a drawing has them."""
    texts = (negative * "dashed edges: negative weights", shared * "rim of a unit: a second module that it serves")
    return " · ".join(filter(None, texts))
