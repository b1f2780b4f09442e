"""Results as HTML, for notebooks."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, Final

import numpy as np

from modgraph.compare import ClusteringComparison
from modgraph.dag import LayeredDAG
from modgraph.marks import Marks, trimmed
from modgraph.modules import Module, ModuleHierarchy
from modgraph.names import counted, layer_names, unit_names
from modgraph.report import facts
from modgraph.report.picture import hex_colours, overview, picture, template

_MOST_UNITS: Final = 300  # that are drawn, or dots for several; also most modules in a table
_MOST_EDGES: Final = 3000  # that are drawn
_GREY: Final = "#6b7683"  # of units without modules


def as_html(result: Any) -> str | None:
    """Return a graph, a hierarchy, a module or a comparison as HTML; None without jinja2.

    Examples
    --------
    >>> as_html(LayeredDAG.from_masks([[[1, 1]]])).startswith('<div class="modgraph">')
    True
    """
    try:
        page = template("notebook.html", purpose="a notebook")
    except ImportError:
        return None
    shown: dict[str, Any] = {"picture": None, "names": None, "colours": [], "head": [], "rows": [], "notes": ()}
    text: str = page.render(shown | {"title": repr(result)} | _content(result))
    return text


@singledispatch
def _content(result: object) -> dict[str, Any]:
    """Return what the template shows: a picture, the names of its dots, colours, a table (head, rows), notes."""
    raise TypeError(f"`result` must be a graph, a hierarchy, a module or a comparison (got {type(result).__name__})")


@_content.register
def _(result: ClusteringComparison) -> dict[str, Any]:
    head, *rows = result.table()
    return {"head": head, "rows": rows}


@_content.register
def _(result: Module) -> dict[str, Any]:
    values = {name: getattr(result, name) for name in ("units", "layers", "inputs", "outputs")}
    rows = [[name, facts.few([str(number) for number in value])] for name, value in values.items()]
    return {"rows": [*rows, ["level", result.level]]}


@_content.register
def _(result: LayeredDAG) -> dict[str, Any]:
    rows = zip(layer_names(result), result.layer_sizes, result.trim().layer_sizes, strict=True)
    content = {"head": ["layer", "units", "after trimming"], "rows": [*rows], "notes": result.notes}
    if result.n_units > _MOST_UNITS or result.n_edges > _MOST_EDGES:
        return content
    names, grey = unit_names(result), np.zeros(result.n_units, dtype=np.int64)
    shown = picture(result, grey, names=names, modules=[""], layers=layer_names(result), marks=Marks.none(1))
    return content | {"picture": shown, "names": names, "colours": [_GREY]}


@_content.register
def _(result: ModuleHierarchy) -> dict[str, Any]:
    dag, labels, second, names = trimmed(result)
    texts = [f"#{m}" for m in range(result.n_modules)]
    shown = overview(
        dag,
        labels,
        names=names,
        modules=texts,
        layers=layer_names(dag),
        marks=Marks.none(len(texts)),
        most_units=_MOST_UNITS,
        most_edges=_MOST_EDGES,
        second=second,
    )
    rows = []
    for m in result.modules[:_MOST_UNITS]:
        layers = facts.few([str(layer) for layer in m.layers])
        rows.append([texts[m.id], m.units.size, layers, m.level, m.inputs.size, m.outputs.size])
    more = [f"{counted(len(texts) - _MOST_UNITS, 'module')} more"] if len(texts) > _MOST_UNITS else []
    return {
        "picture": shown and shown[0],
        "names": shown and shown[3],
        "colours": hex_colours(len(texts)),
        "head": ["module", "units", "layers", "level", "inputs", "outputs"],
        "rows": rows,
        "notes": [*result.dag.notes, *more],
    }
