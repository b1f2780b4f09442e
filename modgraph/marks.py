"""Colours, names and marks in pictures and pages: of modules, strong and negative edges, shared units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.evidence import Significance
from modgraph.functions import FunctionGraph
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted, unit_names
from modgraph.score import score
from modgraph.verify import Verification

_OKABE_ITO: Final = ("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "4D4D4D")

WEAK_P: Final = 0.05
"""A module with a larger p-value is weak."""

WEAK_CONFIDENCE: Final = 0.5
"""A module with a smaller confidence is weak."""

CERTIFIED: Final = "\N{CHECK MARK}"
NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def colours(n: int) -> FloatArray:
    """Return colours (sRGB, 0…1) for modules 0 … n − 1, shape (n, 3); neighbouring ids differ.

    Up to eight modules have the colours of Okabe and Ito, which colour-blind people can tell apart. More get hues at
    multiples of the golden angle and three lightnesses of the OKLCH space.
    """
    if n <= len(_OKABE_ITO):
        return np.array([list(bytes.fromhex(code)) for code in _OKABE_ITO[:n]]).reshape(n, 3) / 255
    number = np.arange(n)
    hue = number * np.pi * (3 - np.sqrt(5)) + 0.6
    lightness = np.array([0.6, 0.73, 0.46])[number % 3] + 0.06 * (number * np.sqrt(2) % 1)
    lab = np.column_stack([lightness, 0.13 * np.cos(hue), 0.13 * np.sin(hue)])
    cones = lab @ [[1, 1, 1], [0.396338, -0.105561, -0.0894842], [0.215804, -0.0638542, -1.29149]]
    rgb = cones**3 @ [[4.07674, -1.26844, -0.00419609], [-3.30771, 2.60976, -0.703419], [0.23097, -0.341319, 1.70761]]
    linear: FloatArray = np.clip(rgb, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def module_names(found: ModuleHierarchy, target: FunctionGraph | None, given: Sequence[str] | None = None) -> list[str]:
    """Name modules after the sub-function that they match (``?`` marks an inexact match), else ``#`` and the id.

    If names are `given` (as the argument `names`), they are used instead.
    """
    if given is not None and len(given) != found.n_modules:
        raise ValueError(f"`names` must be {found.n_modules} texts, one for each module (got {len(given)})")
    names = [f"#{module}" for module in range(found.n_modules)]
    for match in score(found, target).matching if target is not None else ():
        if match.similarity > 0:
            names[match.module] = match.sub_function + "?" * (match.similarity < 1)
    return names if given is None else list(given)


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


def names_of(found: ModuleHierarchy, target: FunctionGraph | None) -> list[str]:
    """Name all units, inputs and outputs after the target if there is one."""
    return unit_names(found.dag, **({} if target is None else {"inputs": target.inputs, "outputs": target.outputs}))


def trimmed(
    found: ModuleHierarchy, target: FunctionGraph | None = None
) -> tuple[LayeredDAG, IntArray, IntArray, list[str]]:
    """Return the trimmed network, and the module, the second module (else −1) and the name of each of its units."""
    kept = found.labels >= 0
    names = np.array(names_of(found, target), dtype=object)[kept].tolist()
    return found.dag.subgraph(kept), found.labels[kept], second_modules(found)[kept], names


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
