"""modgraph: uncover the hierarchical modules of pruned neural networks.

>>> import modgraph as mg
>>> dag = mg.LayeredDAG.from_masks([[[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 0], [0, 1]]])
>>> mg.detect_modules(dag).labels.tolist()
[0, 0, 1, 1, 0, 1, 0, 1]

`modgraph.sculpt` (training and pruning) is loaded on first use, because it brings torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from modgraph import cluster, functions, io
from modgraph.compare import ClusteringComparison, compare_clusterings
from modgraph.dag import LayeredDAG
from modgraph.draw import draw
from modgraph.evidence import ModuleEvidence, Significance, Stability, significance, stability
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
from modgraph.modules import Module, ModuleGraph, ModuleHierarchy, detect_modules
from modgraph.paths import PathCore, PathCounts, paths
from modgraph.pixels import draw_pixels
from modgraph.report import report
from modgraph.score import Criteria, Score, criteria, score
from modgraph.subspace import subspaces
from modgraph.verify import Verification, verify

if TYPE_CHECKING:
    from modgraph import sculpt as sculpt

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
    "detect_modules",
    "draw",
    "draw_pixels",
    "forward",
    "from_arrays",
    "from_estimator",
    "from_module",
    "functions",
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


def __getattr__(name: str) -> ModuleType:
    if name == "sculpt":
        return importlib.import_module("modgraph.sculpt")
    raise AttributeError(f"module 'modgraph' has no attribute {name!r}")
