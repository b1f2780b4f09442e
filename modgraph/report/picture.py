"""Layered graphs as inline SVG, for `page.html` and `page.js`; in CSS pixels, y downwards."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from modgraph import layout
from modgraph.arrays import FloatArray, IntArray
from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.marks import Marks, colours, edge_strength, negative_edges
from modgraph.names import counted, short
from modgraph.report.facts import cluster_graph

_INCH: Final = 96  # CSS pixels
_MODULE: Final = 12.0  # font size of modules in pixels, as in page.css
_NAME: Final = 11.0  # font size of units in pixels, as in page.css
_LONGEST: Final = 20  # most characters of the name of a unit or module
_IMAGE_HEIGHT: Final = 3.0  # maximum height of an image in inches


def template(
    name: str,
    *,
    purpose: str,
    room: str = "report",
    escape: bool = True,
    filters: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Load a jinja2 template from the folder of a room."""
    jinja2 = require("jinja2", purpose=purpose, extra="report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(f"modgraph.{room}", ""),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
    )
    environment.filters.update({"px": _px, **filters})
    return environment.get_template(name)


def hex_colours(n: int) -> list[str]:
    """Return the colours of modules 0 … n − 1 as CSS writes them."""
    return [f"#{bytes(rgb).hex()}" for rgb in np.round(255 * colours(n)).astype(np.uint8)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One drawing."""

    width: int
    height: int
    top: float  # inches from the lower end to the upper
    frame: tuple[float, float, float, float] | None  # left, top, width, height of an image in place of the first layer
    edge_width: float
    edge_opacity: float
    rim: float  # width of the rim of dots
    bands: list[tuple[int, str]]  # module and path
    # Attributes of SVG elements, and the module of each. Edges that leave the same module and look alike are one path:
    # each edge begins with an "M", and they are in the order of the graph's edges.
    edges: list[dict[str, Any]]
    path_of_edge: list[int]  # for each edge of the graph the number of its path in `edges`
    boxes: list[layout.Box]
    weak: Sequence[bool]  # of the modules
    # A unit, its module, its second module or −1, its place and its radius in pixels.
    dots: list[tuple[int, int, int, FloatArray, float]]
    texts: list[dict[str, Any]]


def picture(
    dag: LayeredDAG,
    labels: IntArray,
    *,
    names: Sequence[str],
    modules: Sequence[str],
    layers: Sequence[str],
    marks: Marks,
    second: IntArray | None = None,
    sizes: FloatArray | None = None,
    image_shape: tuple[int, int] | None = None,
    widest: float = 8.5,
) -> Picture:
    """Draw a layered graph, the first layer at the bottom, as `modgraph.layout` places it.

    `second` is as `modgraph.marks.second_modules` returns it; `sizes` are relative diameters of the dots, in (0, 1].
    With an `image_shape` the first layer is an image, and its `unit_index`
    gives the pixel of each unit.
    """
    names, modules = ([short(text, longest=_LONGEST) for text in texts] for texts in (names, modules))
    rows = layout.boxes(
        dag, labels, layout.order(dag, labels), modules, [_text_width(text, _MODULE) + 0.08 for text in modules]
    )
    if image_shape is not None:
        for box in rows[0]:  # an image has no boxes
            box.text, box.text_width = "", 0.0
    width = layout.figure_width(rows, widest=widest)
    name_widths = np.array([_text_width(name, _NAME) for name in names])
    height, angles = layout.arrange(dag, rows, name_widths, width=width, height=None)
    xy, pitch = layout.places(dag, rows)
    if not rows[-1]:  # a hierarchy of one level: no space for a second one
        height = max(box.y + box.height / 2 for row in rows for box in row) + 4 * layout.EDGE
    frame = None
    if image_shape is not None:
        cell = min(0.5 * width / image_shape[1], _IMAGE_HEIGHT / image_shape[0])
        size = cell * np.array(image_shape[::-1])
        corner = np.array([(width - size[0]) / 2, 4 * layout.EDGE])
        for box in itertools.chain(*rows[1:]):
            box.y += size[1]
            xy[box.units, 1] = box.y
        xy[dag.layer == 0] = corner + cell * layout.pixel_middles(dag.unit_index[dag.layer == 0], image_shape)
        pitch[dag.layer == 0] = cell / layout.DOT
        height += size[1]
        frame = (_px(corner[0]), _px(height - corner[1] - size[1]), _px(size[0]), _px(size[1]))
    across = _INCH * layout.DOT * pitch * (1 if sizes is None else sizes)
    texts = [
        _text(
            "row", short(layer, longest=layout.LONGEST_LAYER), layout.EDGE, xy[row[0].units[0], 1], height, full=layer
        )
        for row, layer in zip(rows, layers, strict=True)
        if row
    ]
    order_of_dots = [unit for box in itertools.chain(*rows) for unit in box.units]
    if image_shape is not None:
        rows[0].clear()
    all_boxes = [*itertools.chain(*rows)]
    texts += [_text("module", box.text, box.text_x, box.y, height, module=box.module) for box in all_boxes if box.text]
    for unit, x, y, side in layout.end_names(rows, angles):
        kind = f"name {'top' if side > 0 else 'bottom'}{' turned' * (angles[side > 0] == 90)}"
        texts.append(_text(kind, names[unit], x, y, height, unit=unit))
    # Edges of a module in three widths, solid or dashed: (module, width, negative) → number of the path.
    widths = np.clip(np.round(2 * edge_strength(dag)) / 2, 0.5, 1.5).tolist()
    look = [*zip(labels[dag.sources].tolist(), widths, negative_edges(dag).tolist(), strict=True)]
    number = {key: at for at, key in enumerate(dict.fromkeys(look))}
    curves: list[list[str]] = [[] for _ in number]
    for key, points in zip(look, layout.waypoints(dag, rows, xy), strict=True):
        curves[number[key]].append(_curve(points * [1, -1] + [0, height]))
    second = np.full(dag.n_units, -1) if second is None else second
    return Picture(
        width=round(_INCH * width),
        height=round(_INCH * height),
        top=height,
        frame=frame,
        edge_width=round(float(np.clip(21 / np.sqrt(max(dag.n_edges, 1)), 0.5, 1.7)), 2),
        edge_opacity=round(layout.opacity(dag.n_edges), 2),
        rim=round(min(0.8, 0.1 * float(across.min())), 3),
        bands=[(module, _band(corners, height)) for module, corners in layout.bands(rows)],
        edges=[
            {"module": module, "width": width, "negative": negative, "path": "".join(parts)}
            for (module, width, negative), parts in zip(number, curves, strict=True)
        ],
        path_of_edge=[number[key] for key in look],
        boxes=all_boxes,
        weak=marks.weak,
        dots=[(unit, labels[unit], second[unit], xy[unit], round(across[unit] / 2, 2)) for unit in order_of_dots],
        texts=texts,
    )


def overview(
    dag: LayeredDAG,
    labels: IntArray,
    *,
    names: Sequence[str],
    modules: Sequence[str],
    most_units: int,
    most_edges: int,
    **looks: Any,
) -> tuple[Picture, LayeredDAG, IntArray, Sequence[str]] | None:
    """Draw a network whole, or if it is large a dot for the units of a module in a layer; None if that is too large.

    Returns the picture, the graph it shows, and the module and the name of each dot.
    """
    if dag.n_units <= most_units and dag.n_edges <= most_edges:
        return picture(dag, labels, names=names, modules=modules, **looks), dag, labels, names
    clusters, of, count = cluster_graph(dag, labels)
    if clusters.n_units > most_units:
        return None
    names = [f"{counted(n, 'unit')} of {modules[m]}" for n, m in zip(count.tolist(), of.tolist(), strict=True)]
    looks |= {"second": None, "image_shape": None}
    return dotted(clusters, of, count, modules=modules, **looks), clusters, of, names


def dotted(dag: LayeredDAG, labels: IntArray, count: IntArray, **more: Any) -> Picture:
    """Draw dots that stand for `count` units each, without names, which their boxes have."""
    sizes = np.sqrt(np.maximum(count / count.max(), 0.06))  # the area grows with `count`; none is too small to see
    return picture(dag, labels, names=[""] * dag.n_units, sizes=sizes, **more)


def _px(inches: float) -> float:
    return round(_INCH * float(inches), 1)


def _text(kind: str, text: str, x: float, y: float, height: float, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "text": text, "x": _px(x), "y": _px(height - y), **more}


def _curve(points: FloatArray) -> str:
    """Return a path through `points`, vertical in each: the curve of `draw` as cubic Béziers, in tenths of a pixel."""
    at = np.round(10 * _INCH * points).astype(np.int64)
    parts = [f"M{at[0, 0]} {at[0, 1]}"]
    for dx, dy in np.diff(at, axis=0).tolist():
        parts.append(f"c0 {round(dy / 3)} {dx} {round(dy * 2 / 3)} {dx} {dy}".replace(" -", "-"))
    return "".join(parts)


def _band(corners: Sequence[tuple[float, float]], height: float) -> str:
    points = [f"{_px(x)} {_px(height - y)}" for x, y in corners]
    return f"M{points[0]}C{' '.join(points[1:4])}L{points[4]}C{' '.join(points[5:])}Z"


def _text_width(text: str, size: float) -> float:
    """Return an upper estimate of the width of one line of text in inches, for the usual fonts of browsers."""
    ems = sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.62 for letter in text)
    return ems * size / _INCH
