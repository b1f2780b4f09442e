"""What the page says of a hierarchy: names, the graphs to draw, the rows of its tables."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.functions import FunctionGraph
from modgraph.modules import Module, ModuleGraph, ModuleHierarchy
from modgraph.names import clean, unit_names

_FEW: Final = 12  # names in a cell of a table
_SETTINGS: Final = {"clustering": "Clustering", "hops": "Hops", "merge_threshold": "Merge threshold"}


def names_of(found: ModuleHierarchy, target: FunctionGraph | None) -> dict[int, str]:
    """Name the units that trimming keeps: inputs and outputs after the target, if there is one."""
    goal = {} if target is None else {"inputs": target.inputs, "outputs": target.outputs}
    names = unit_names(found.dag, **goal)
    return {unit: names[unit] for unit in np.flatnonzero(found.labels >= 0).tolist()}


def cluster_graph(dag: LayeredDAG, labels: IntArray) -> tuple[LayeredDAG, IntArray, IntArray]:
    """Make one unit of all units of a module in a layer; returns the graph, the module of each, and its size."""
    (layer, module), member, count = np.unique([dag.layer, labels], axis=1, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    ends = np.unique([member[dag.sources], member[dag.targets]], axis=1)
    return _graph(ends, layer, dag.n_layers), module, count


def level_graph(modules: Sequence[Module], graph: ModuleGraph) -> tuple[LayeredDAG, IntArray]:
    """Make layers of levels, units of modules; returns the graph and the module of each unit.

    Links within a level, between modules that feed each other, are left out.
    """
    level = np.array([module.level for module in modules])
    of = np.argsort(level, kind="stable")
    place = np.argsort(of)
    upwards = level[graph.source] < level[graph.target]
    ends = np.array([place[graph.source[upwards]], place[graph.target[upwards]]])
    # Two layers, as every layered graph has, even where there is one level.
    return _graph(ends[:, np.lexsort(ends[::-1])], level[of], max(2, int(level.max()) + 1)), of


def links_within_levels(modules: Sequence[Module], graph: ModuleGraph) -> int:
    """Count the links that `level_graph` leaves out."""
    level = np.array([module.level for module in modules])
    return int((level[graph.source] == level[graph.target]).sum())


def _graph(ends: IntArray, layer: IntArray, n_layers: int) -> LayeredDAG:
    """Build a graph from sorted edges; layers may be empty."""
    return LayeredDAG(
        sources=ends[0],
        targets=ends[1],
        layer=layer,
        unit_index=np.arange(layer.size),
        n_layers=n_layers,
        dense_edges=max(ends.shape[1], 1),
    )


def dot_sizes(count: IntArray) -> FloatArray:
    """Give dots an area that follows `count`, but none too small to see; relative diameters."""
    sizes: FloatArray = np.sqrt(np.maximum(count / count.max(), 0.06))
    return sizes


def input_separable(modules: Sequence[Module], n_units: int) -> list[bool | None]:
    """Whether each module shares no input with another one of its level; None where it depends on no input."""
    users = np.zeros((max(module.level for module in modules) + 1, n_units), dtype=np.int64)
    for module in modules:
        users[module.level, module.inputs] += 1
    return [bool((users[m.level, m.inputs] == 1).all()) if m.inputs.size else None for m in modules]


def module_rows(
    found: ModuleHierarchy, modules: Sequence[Module], names: dict[int, str], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """List the modules as the page's table shows them."""
    graph = found.graph
    separable = input_separable(modules, found.dag.n_units)
    readers: list[list[str]] = [[] for _ in modules]
    read: list[list[str]] = [[] for _ in modules]
    for source, end in zip(graph.source.tolist(), graph.target.tolist(), strict=True):
        readers[source].append(texts[end])
        read[end].append(texts[source])
    return [
        {
            "id": module.id,
            "text": texts[module.id],
            "n_units": module.units.size,
            "layers": ", ".join(map(str, module.layers)),
            "level": module.level,
            "inputs": few([names[unit] for unit in module.inputs.tolist()]),
            "outputs": few([names[unit] for unit in module.outputs.tolist()]),
            "separable": separable[module.id],
            "reads": few(read[module.id]),
            "reuse": len(readers[module.id]),
            "readers": few(readers[module.id]),
        }
        for module in modules
    ]


def few(names: Sequence[str]) -> str:
    """Join names, the first of them where they are many."""
    listed = ", ".join(names[:_FEW])
    return listed if len(names) <= _FEW else f"{listed}, … ({len(names)} in all)"


def settings(found: ModuleHierarchy) -> list[tuple[str, str]]:
    """List what the detection was asked for, as far as the hierarchy knows."""
    known = {_SETTINGS.get(name, name): clean(str(value)) for name, value in found.settings.items()}
    return [*(dict.fromkeys(_SETTINGS.values(), "not recorded") | known).items()]


def versions() -> list[tuple[str, str]]:
    """List what writes the page."""
    from modgraph import __version__

    return [("modgraph", __version__), ("numpy", np.__version__), ("Python", platform.python_version())]
