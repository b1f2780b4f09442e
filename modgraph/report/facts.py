"""The content of the page: names, graphs to draw, rows of tables."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from modgraph.arrays import IntArray
from modgraph.dag import LayeredDAG
from modgraph.layout import layered
from modgraph.modules import Module, ModuleGraph, ModuleHierarchy
from modgraph.names import clean, counted

_FEW: Final = 12  # most names in a cell of a table
_MANY: Final = 60  # modules in a table without groups
_LEAST_SHARE: Final = 0.05  # smallest share of a module in a unit that is shown
_SETTINGS: Final = ("clustering", "hops", "merge_threshold")  # always in the table, even if not recorded


def cluster_graph(dag: LayeredDAG, labels: IntArray) -> tuple[LayeredDAG, IntArray, IntArray]:
    """Merge the units of a module in a layer; return the graph, and the module and the size of each new unit."""
    (layer, module), member, count = np.unique([dag.layer, labels], axis=1, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    ends = np.unique([member[dag.sources], member[dag.targets]], axis=1)
    return layered(ends, layer, n_layers=dag.n_layers), module, count


def level_graph(modules: Sequence[Module], graph: ModuleGraph) -> tuple[LayeredDAG, IntArray]:
    """Return the modules as units, layered by level, and the module of each unit.

    Edges between modules of the same level, which feed each other, are left out.
    """
    level = np.array([module.level for module in modules])
    of = np.argsort(level, kind="stable")
    place = np.argsort(of)
    upwards = level[graph.source] < level[graph.target]
    ends = np.array([place[graph.source[upwards]], place[graph.target[upwards]]])
    # A layered graph has at least two layers, even if there is one level.
    return layered(ends[:, np.lexsort(ends[::-1])], level[of], n_layers=max(2, int(level.max()) + 1)), of


def input_separable(modules: Sequence[Module], n_units: int) -> list[bool | None]:
    """Return whether each module shares no input with others of its level; None if it depends on no input."""
    users = np.zeros((max(module.level for module in modules) + 1, n_units), dtype=np.int64)
    for module in modules:
        users[module.level, module.inputs] += 1
    return [bool((users[m.level, m.inputs] == 1).all()) if m.inputs.size else None for m in modules]


def module_rows(
    found: ModuleHierarchy, modules: Sequence[Module], names: Sequence[str], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of the table of modules; `names` are those of all units."""
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


def by_level(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Sort rows of the table by id; many are grouped by level, each group with a title, few have none."""
    rows = sorted(rows, key=lambda row: row["id"])
    if len(rows) <= _MANY:
        return [("", rows)]
    levels = {level: [row for row in rows if row["level"] == level] for level in sorted({row["level"] for row in rows})}
    return [(f"Level {level}: {counted(len(part), 'module')}", part) for level, part in levels.items()]


def shares(found: ModuleHierarchy, texts: Sequence[str]) -> dict[int, str]:
    """Return the shares that modules have in each shared unit, in words, by the unit's place in the trimmed network."""
    place = np.cumsum(found.labels >= 0) - 1
    words = {}
    for unit in np.flatnonzero(found.shared).tolist():
        row = found.membership[unit]
        modules = [module for module in np.argsort(-row, kind="stable").tolist() if row[module] >= _LEAST_SHARE]
        words[int(place[unit])] = ", ".join(f"{texts[module]} {row[module]:.0%}" for module in modules[:_FEW])
    return words


def known(value: float, form: str) -> str:
    """Write a number, or a dash if it is unknown (NaN)."""
    return "–" if np.isnan(value) else form % value


def few(names: Sequence[str]) -> str:
    """Join names; of many names the first."""
    listed = ", ".join(names[:_FEW])
    return listed if len(names) <= _FEW else f"{listed}, … ({len(names)} in all)"


def settings(found: ModuleHierarchy) -> list[tuple[str, str]]:
    """Return the names and values of the settings of the detection, as far as the hierarchy records them."""
    known = {
        name: {True: "yes", False: "no"}[value] if isinstance(value, bool) else clean(str(value))
        for name, value in found.settings.items()
    }
    values = dict.fromkeys(_SETTINGS, "not recorded") | known
    return [(clean(name).replace("_", " ").capitalize(), value) for name, value in values.items()]


def origin(known: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """Return the date of the page and what is known of the network's origin."""
    date = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return [("Date", date), *((clean(name), clean(value)) for name, value in (known or {}).items())]


def versions() -> list[tuple[str, str]]:
    """Return the names and versions of the programs that write the page."""
    from modgraph import __version__

    return [("modgraph", __version__), ("numpy", np.__version__), ("Python", platform.python_version())]
