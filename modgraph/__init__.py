"""modgraph: uncover the hierarchical modules of pruned neural networks.

>>> import modgraph as mg
>>> dag = mg.LayeredDAG.from_masks([[[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 0], [0, 1]]])
>>> mg.detect_modules(dag).labels.tolist()
[0, 0, 1, 1, 0, 1, 0, 1]

Names are loaded on first use, so that ``import modgraph`` takes no time.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modgraph.shown import Shown

if TYPE_CHECKING:
    from modgraph import cluster, functions, io, sculpt
    from modgraph.compare import ClusteringComparison, compare_clusterings
    from modgraph.dag import LayeredDAG
    from modgraph.draw import draw
    from modgraph.evidence import ModuleEvidence, Significance, hourglass_significance, significance
    from modgraph.forward import forward
    from modgraph.influence import influence
    from modgraph.io import (
        from_arrays,
        from_estimator,
        from_module,
        load_hierarchy,
        load_network,
        save_hierarchy,
        save_network,
    )
    from modgraph.many import detect_many
    from modgraph.modules import Module, ModuleGraph, ModuleHierarchy, detect_modules
    from modgraph.paths import PathCore, PathCounts, paths
    from modgraph.pixels import draw_pixels
    from modgraph.report import report
    from modgraph.score import Criteria, Score, criteria, score
    from modgraph.stability import Stability, stability
    from modgraph.subspace import subspaces
    from modgraph.verify import Verification, verify
    from modgraph.views import draw_flows, draw_matrix

__version__ = "0.1.0"

__all__ = [
    "ClusteringComparison",
    "Criteria",
    "LayeredDAG",
    "Module",
    "ModuleEvidence",
    "ModuleGraph",
    "ModuleHierarchy",
    "PathCore",
    "PathCounts",
    "Score",
    "Significance",
    "Stability",
    "Verification",
    "cluster",
    "compare_clusterings",
    "criteria",
    "detect_many",
    "detect_modules",
    "draw",
    "draw_flows",
    "draw_matrix",
    "draw_pixels",
    "forward",
    "from_arrays",
    "from_estimator",
    "from_module",
    "functions",
    "hourglass_significance",
    "influence",
    "io",
    "load_hierarchy",
    "load_network",
    "paths",
    "report",
    "save_hierarchy",
    "save_network",
    "score",
    "sculpt",
    "significance",
    "stability",
    "subspaces",
    "verify",
]

_PACKAGES = ("cluster", "functions", "io", "sculpt")
_ROOMS = {
    "compare": ("ClusteringComparison", "compare_clusterings"),
    "dag": ("LayeredDAG",),
    "draw": ("draw",),
    "evidence": ("ModuleEvidence", "Significance", "hourglass_significance", "significance"),
    "forward": ("forward",),
    "influence": ("influence",),
    "io": (
        "from_arrays",
        "from_estimator",
        "from_module",
        "load_hierarchy",
        "load_network",
        "save_hierarchy",
        "save_network",
    ),
    "many": ("detect_many",),
    "modules": ("Module", "ModuleGraph", "ModuleHierarchy", "detect_modules"),
    "paths": ("PathCore", "PathCounts", "paths"),
    "pixels": ("draw_pixels",),
    "report": ("report",),
    "score": ("Criteria", "Score", "criteria", "score"),
    "stability": ("Stability", "stability"),
    "subspace": ("subspaces",),
    "verify": ("Verification", "verify"),
    "views": ("draw_flows", "draw_matrix"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"modgraph.{name}")
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'modgraph' has no attribute {name!r}")
    if name in ("detect_many", "detect_modules"):
        importlib.import_module("modgraph.io")  # which reads what is no graph
    value = globals()[name] = getattr(importlib.import_module(f"modgraph.{_ROOM_OF[name]}"), name)
    return value


def _as_html(result: Any) -> str | None:
    html: str | None = importlib.import_module("modgraph.report.notebook").as_html(result)
    return html


Shown.as_html = staticmethod(_as_html)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package that keeps its functions: importing the room `score` doesn't replace the function `score`."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _ROOM_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
