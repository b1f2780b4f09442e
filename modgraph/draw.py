"""The layered drawing of a hierarchy: units in rows, modules in boxes, few edge crossings (matplotlib)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modgraph import layout
from modgraph.arrays import FloatArray, IntArray
from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.evidence import Significance
from modgraph.functions import FunctionGraph
from modgraph.marks import Marks, colours, edge_strength, explain, marks, module_names, negative_edges, trimmed
from modgraph.modules import ModuleHierarchy, check_found
from modgraph.names import counted, layer_names, short
from modgraph.pixels import pixel_colours, squares
from modgraph.verify import Verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Font sizes in points.
_TITLE: Final = 10
_MODULE: Final = 9
_NAME: Final = 8  # of inputs and outputs
_LAYER: Final = 7

_TITLE_HEIGHT: Final = 0.36  # inches above the drawing for a title of one line
_LINE_HEIGHT: Final = 0.16  # inches for every other line of the title
_EXTRA_WIDTH: Final = 2.5  # points by which the line for the most edges is wider than the line for one


def draw(
    found: ModuleHierarchy,
    *,
    ax: Axes | None = None,
    target: FunctionGraph | None = None,
    names: Sequence[str] | None = None,
    image_shape: tuple[int, int] | None = None,
    evidence: Significance | None = None,
    verification: Verification | None = None,
) -> Axes:
    """Draw the trimmed network layer by layer, inputs at the bottom, each module in boxes of one colour.

    The units of a module in one layer share a box with the module's name; a band joins the boxes of a module in
    adjacent layers. Edges have the colour of the module they leave; an edge that skips a layer passes between the
    boxes. If the network has weights, edges of larger weight are wider, compared with those between the same layers,
    and edges of negative weight are dashed (not with `image_shape`). A unit that serves several modules
    (``found.shared``) has a rim in the colour of the module in which it has the second largest share.

    The title shows the layer sizes after trimming, the density and the number of modules. Texts that don't fit are
    left out; every module keeps its name somewhere, or none has one.

    Parameters
    ----------
    found : ModuleHierarchy
    ax : matplotlib.axes.Axes, optional
        Axes to draw on, at their present size (a layout engine that resizes them later leaves gaps). By default the
        axes of a new figure (``ax.figure``), as large as the network needs and unknown to pyplot.
    target : FunctionGraph, optional
        The function that the network was trained on. Inputs get its names, outputs the names of the bits they show,
        and modules the name of the sub-function that `modgraph.score` matches them with (``?`` marks an inexact
        match). Without a target a module is ``#`` and its id.
    names : sequence of str, optional
        Names of the modules by id, instead of the above.
    image_shape : (int, int), optional
        Rows and columns, if the inputs are the pixels of an image, row by row. They are drawn as an image, in the
        colours of their modules, pale where trimming removed them. The pixels of a module share a box above the image;
        a line from there stands for all their edges to a unit, thicker for more edges.
    evidence : Significance, optional
        The title has its p-value, and modules with weak evidence (p > 0.05 or confidence < 0.5) have a pale box with a
        dashed outline.
    verification : Verification, optional
        Certified modules are marked ``✓``.

    Raises
    ------
    ValueError
        If `target`, `names`, `image_shape`, `evidence` or `verification` is for another number of inputs, outputs or
        modules.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> ax = draw(detect_modules(dag))
    >>> ax.get_title()
    '4–3–2 · density 50 % · 2 modules'
    >>> ax.figure.savefig("modules.png")  # doctest: +SKIP
    """
    check_found(found)
    require("matplotlib", purpose="`draw`", extra="draw")
    from matplotlib.figure import Figure

    known = marks(found, evidence=evidence, verification=verification)
    texts = known.named(module_names(found, target, names))
    size = None if ax is None else (ax.bbox.width / ax.figure.dpi, ax.bbox.height / ax.figure.dpi)
    drawing = _place(found, target, texts, known, image_shape=image_shape, size=size)
    width, height = drawing.size
    title = _title(found, drawing)
    if ax is None:
        total = height + _TITLE_HEIGHT + _LINE_HEIGHT * title.count("\n")
        ax = Figure(figsize=(width, total)).add_axes((0, 0, 1, height / total))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    ax.set_title(title, fontsize=_TITLE)
    if image_shape is not None:
        pixel = drawing.image_width / image_shape[1]
        corner = ((width - drawing.image_width) / 2, layout.EDGE)
        ax.add_collection(squares(image_shape, pixel_colours(found), corner=corner, pixel=pixel), autolim=False)
    _draw_boxes(ax, drawing)
    _draw_edges(ax, drawing)
    _draw_units(ax, drawing)
    _draw_names(ax, drawing, layer_names(found.dag))
    return ax


_TEXT: Final[dict[str, Any]] = {"zorder": 5, "parse_math": False}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawing:
    """A network that `arrange` has placed."""

    dag: LayeredDAG
    labels: IntArray  # module of each unit, (n_units,)
    second: IntArray  # module with the second largest share of each shared unit, else −1, (n_units,)
    names: list[str]  # of the units
    n_edges: IntArray  # with an image, how many edges each line stands for
    rows: list[list[layout.Box]]
    angles: list[int | None]  # of the names of inputs and outputs
    colours: FloatArray  # of the modules, (n_modules, 3)
    marks: Marks
    image_width: float  # inches, 0 without an image
    size: tuple[float, float]  # width and height in inches


def _place(
    found: ModuleHierarchy,
    target: FunctionGraph | None,
    texts: Sequence[str],
    known: Marks,
    *,
    image_shape: tuple[int, int] | None,
    size: tuple[float, float] | None,
) -> _Drawing:
    """Place the trimmed network in a figure of this size, by default as large as it needs."""
    dag, labels, second, names = trimmed(found, target)
    n_pixels = n_edges = np.ones(0, dtype=np.int64)
    if image_shape is not None:
        layout.check_image_shape(found.dag, image_shape)
        n_inputs = dag.layer_sizes[0]
        columns = np.flatnonzero(found.labels >= 0)[:n_inputs] % image_shape[1]
        dag, labels, n_pixels, n_edges = layout.merge_inputs(dag, labels, columns)
        names = dag.layer_sizes[0] * [""] + names[n_inputs:]
        second = np.full(dag.n_units, -1)
    text_widths = [_text_width(text, _MODULE, bold=True) + 0.04 for text in texts]
    at_end = dag.layer % (dag.n_layers - 1) == 0
    name_widths = np.array([_text_width(n, _NAME) if end else 0.0 for n, end in zip(names, at_end, strict=True)])
    rows = layout.boxes(dag, labels, layout.order(dag, labels), texts, text_widths)
    width, height = size or (layout.MAX_WIDTH, None)
    if image_shape is not None:
        _count_pixels(rows[0], n_pixels, width=width)
    if size is None:
        width = layout.figure_width(rows, image=layout.image_size(image_shape)[0])
    image = layout.image_size(image_shape, width=width, height=height)
    height, angles = layout.arrange(dag, rows, name_widths, width=width, height=height, below=image[1])
    return _Drawing(
        dag=dag,
        labels=labels,
        second=second,
        names=names,
        n_edges=n_edges,
        rows=rows,
        angles=angles,
        colours=colours(found.n_modules),
        marks=known,
        image_width=image[0],
        size=(width, height),
    )


def _title(found: ModuleHierarchy, drawing: _Drawing) -> str:
    """Describe the trimmed network in one or two lines, and the marks in one each."""
    width, dag = drawing.size[0] - 0.2, found.dag.subgraph(found.labels >= 0)
    title = f"{'–'.join(map(str, dag.layer_sizes))} · density {100 * dag.density:.3g} % · "
    title += counted(found.n_modules, "module")
    if _text_width(title, _TITLE) > width:
        title = title.replace(" · ", "\n", 1)
    signs = explain(negative=bool(negative_edges(drawing.dag).any()), shared=bool((drawing.second >= 0).any()))
    notes = [*drawing.marks.notes, signs] if signs else drawing.marks.notes
    return "\n".join([title, *itertools.chain(*(_wrapped(note, width) for note in notes))])


def _draw_boxes(ax: Axes, drawing: _Drawing) -> None:
    """Draw the boxes of the modules, their names, and the bands between boxes of the same module."""
    from matplotlib.patches import FancyBboxPatch, PathPatch
    from matplotlib.path import Path

    for box in itertools.chain(*drawing.rows):
        colour, weak = drawing.colours[box.module], drawing.marks.weak[box.module]
        patch = FancyBboxPatch(
            (box.left, box.bottom),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={0.3 * box.height}",
            facecolor=0.95 + 0.05 * colour if weak else 0.78 + 0.22 * colour,
            edgecolor=colour,
            linestyle=(0, (3, 2)) if weak else "solid",
            gid=f"module-{box.module}-{box.layer}",
            zorder=2,
        )
        ax.add_patch(patch)
        if box.text:
            centred = drawing.image_width > 0 and box.layer == 0  # a box above an image has no units
            x = box.left + box.width / 2 if centred else box.text_x
            style = _TEXT | {"fontsize": _MODULE, "fontweight": "bold", "color": "0.1"}
            ax.text(x, box.y, box.text, ha="center" if centred else "left", va="center_baseline", **style)
    for module, corners in layout.bands(drawing.rows):
        path = Path(corners, [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3])
        colour = drawing.colours[module]
        ax.add_patch(PathPatch(path, color=colour, alpha=0.14, linewidth=0, gid="band", zorder=1))


def _draw_edges(ax: Axes, drawing: _Drawing) -> None:
    """Draw the edges."""
    from matplotlib.collections import LineCollection

    dag, n_edges, (width, height) = drawing.dag, drawing.n_edges, drawing.size
    lines = layout.waypoints(dag, drawing.rows, layout.places(dag, drawing.rows)[0])
    thin = 1 / np.sqrt(max(dag.n_edges, 1))  # many edges are thinner and paler
    linewidths = np.clip(16 * thin, 0.35, 1.3) * edge_strength(dag)
    if n_edges.size:
        layout.fan_out(dag, drawing.rows[0], lines)
        linewidths += _EXTRA_WIDTH * min(1, height / width) * (n_edges - 1) / max(n_edges.max() - 1, 1)
    alphas = np.full(dag.n_edges, layout.opacity(dag.n_edges))
    edges = LineCollection(
        [_bent(points) for points in lines],
        colors=np.column_stack([drawing.colours[drawing.labels[dag.sources]], alphas]),
        linewidths=linewidths,
        linestyles=[(0, (4, 1.5)) if negative else "solid" for negative in negative_edges(dag).tolist()],
        gid="edges",
        zorder=3,
    )
    ax.add_collection(edges, autolim=False)


def _draw_units(ax: Axes, drawing: _Drawing) -> None:
    """Draw a dot for each unit, except for the inputs if they are an image."""
    from matplotlib.collections import EllipseCollection

    xy, pitch = layout.places(drawing.dag, drawing.rows)
    shown = np.flatnonzero(drawing.dag.layer >= (1 if drawing.image_width else 0))
    diameters, second = layout.DOT * pitch[shown], drawing.second[shown]
    shared = second >= 0
    units = EllipseCollection(
        diameters,
        diameters,
        np.zeros(shown.size),
        units="xy",
        offsets=xy[shown],
        offset_transform=ax.transData,
        facecolors=drawing.colours[drawing.labels[shown]],
        edgecolors=np.where(shared[:, None], drawing.colours[second], 1.0),
        linewidths=np.where(shared, 0.2 * 72 * diameters, np.clip(2.5 * pitch[shown], 0.2, 0.8)),
        gid="units",
        zorder=4,
    )
    ax.add_collection(units, autolim=False)


def _draw_names(ax: Axes, drawing: _Drawing, layers: Sequence[str]) -> None:
    """Write the names of inputs, outputs and layers that have room."""
    for unit, x, y, side in layout.end_names(drawing.rows, drawing.angles):
        style = _TEXT | {"fontsize": _NAME, "rotation": drawing.angles[side > 0], "ha": "center", "color": "0.1"}
        ax.text(x, y, drawing.names[unit], va="bottom" if side > 0 else "top", **style)
    width, height = drawing.size
    if layout.names_layers(width) and height > 0.15 * drawing.dag.n_layers:
        style = _TEXT | {"fontsize": _LAYER, "va": "center", "color": "0.45"}
        for row, name in zip(drawing.rows, layers, strict=True):
            if row:
                ax.text(layout.EDGE, row[0].y, short(name, longest=layout.LONGEST_LAYER), **style)


def _wrapped(text: str, width: float) -> list[str]:
    """Break a text into lines of at most `width` inches."""
    lines = [""]
    for word in text.split(" "):  # not at no-break spaces
        longer = f"{lines[-1]} {word}".strip()
        if _text_width(longer, _TITLE) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _count_pixels(row: Sequence[layout.Box], n_pixels: IntArray, *, width: float) -> None:
    """Add the number of pixels to the name in each box, if there is room; boxes of one pixel get no text."""
    counts = [int(n_pixels[box.units[0]]) for box in row]
    names = [box.text * (n > 1) for box, n in zip(row, counts, strict=True)]
    long = [f"{name} · {n} pixels" if name else "" for name, n in zip(names, counts, strict=True)]
    short_widths, widths = ([_text_width(text, _MODULE, bold=True) for text in texts] for texts in (names, long))
    texts = (long, widths) if sum(widths) < 0.7 * width else (names, short_widths)
    for box, text, needed in zip(row, *texts, strict=True):
        box.text, box.text_width = text, needed


def _bent(points: FloatArray) -> FloatArray:
    """Return a smooth line through `points`, vertical in each."""
    t = np.linspace(0, 1, 15)[:, None]
    bend = np.hstack([t * t * (3 - 2 * t), t])
    return np.concatenate([start + bend * (end - start) for start, end in itertools.pairwise(points)])


@lru_cache(maxsize=4096)
def _text_width(text: str, size: int, *, bold: bool = False) -> float:
    """Return the width of one line of text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72
