"""modgraph: uncover the hierarchical modules of pruned neural networks."""

from __future__ import annotations

from modgraph.dag import LayeredDAG
from modgraph.modules import Module, ModuleGraph, ModuleHierarchy, detect_modules

__all__ = ["LayeredDAG", "Module", "ModuleGraph", "ModuleHierarchy", "detect_modules"]
