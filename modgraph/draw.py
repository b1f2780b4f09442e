"""The layered drawing of a hierarchy: units in rows, modules in boxes, few edge crossings (matplotlib)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.functions import FunctionGraph
from modgraph.layout import (
    DOT,
    EDGE,
    PAD,
    WIDEST,
    Box,
    arrange,
    bands,
    boxes,
    check_image_shape,
    colours,
    fan_out,
    figure_width,
    gathered,
    image_size,
    module_names,
    names_layers,
    order,
    places,
    unit_names,
    waypoints,
)
from modgraph.modules import ModuleHierarchy
from modgraph.pixels import pixel_colours, squares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLE, _MODULE, _NAME, _ROW = 10, 9, 8, 7  # points
_THICK = 2.5  # points that the line of most edges is thicker than that of one


def draw(
    found: ModuleHierarchy,
    *,
    ax: Axes | None = None,
    target: FunctionGraph | None = None,
    names: Sequence[str] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Axes:
    """Draw the trimmed network layer by layer, inputs at the bottom, every module in boxes of its own colour.

    The units of one module in one layer stand together in a box labelled with the module; where the module goes on
    in the next layer, a band joins the boxes. Edges have the colour of the module they leave; where one skips a
    layer, it passes between the boxes. The title has the layer sizes after trimming, the density and the number of
    modules. Texts are left out where they do not fit.

    Parameters
    ----------
    found : ModuleHierarchy
    ax : matplotlib.axes.Axes, optional
        What to draw on, filled as large as it is now (a layout engine that resizes it later leaves gaps); by default
        that of a new figure (``ax.figure``), as large as the network needs and unknown to pyplot.
    target : FunctionGraph, optional
        The function the network was trained on: inputs have its names, outputs those of the bits they show, and
        modules that of the sub-function `modgraph.score` matched them with, with ``?`` where they are not quite
        alike. Otherwise inputs and outputs have the names of the graph, or are x0, x1, … and y0, y1, …, and a module
        is ``#`` and its id.
    names : sequence of str, optional
        What to call the modules instead, by id.
    image_shape : (int, int), optional
        Rows and columns, where the inputs are the pixels of an image, row by row: they are drawn as one, in the
        colours of their modules, pale where trimming removed them. The pixels of a module share a box above the
        image, and the lines from there stand for all their edges: the thicker, the more.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If `target` has another number of inputs or outputs than the network, `names` another number of names than
        there are modules, or `image_shape` another number of pixels than there are inputs.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> ax = draw(detect_modules(dag))
    >>> ax.get_title()
    '4–3–2 · density 50 % · 2 modules'
    >>> ax.figure.savefig("modules.png")  # doctest: +SKIP
    """
    try:
        from matplotlib.collections import EllipseCollection, LineCollection
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch, PathPatch
        from matplotlib.path import Path
    except ImportError as error:
        raise ImportError("`draw` needs matplotlib: pip install 'modgraph-nn[draw]'") from error
    texts = module_names(found, target, names)  # the first to look at `target`
    known = unit_names(found.dag, target)
    kept, colour_of = found.labels >= 0, colours(found.n_modules)
    dag, labels = found.dag.subgraph(kept), found.labels[kept]
    own = [known.get(unit, "") for unit in np.flatnonzero(kept).tolist()]
    facts = f"density {100 * dag.density:.3g} % · {found.n_modules} module{'s' * (found.n_modules != 1)}"
    title = f"{'–'.join(map(str, dag.layer_sizes))} · {facts}"
    n_inputs = dag.layer_sizes[0]
    if image_shape is not None:
        check_image_shape(found.dag, image_shape)
        dag, labels, n_pixels, n_edges = gathered(dag, labels, np.flatnonzero(kept)[:n_inputs] % image_shape[1])
        own = dag.layer_sizes[0] * [""] + own[n_inputs:]
    text_widths = [_text_width(text, _MODULE, bold=True) + 0.04 for text in texts]
    name_widths = np.array([_text_width(name, _NAME) for name in own])
    rows = boxes(dag, labels, order(dag, labels), texts, text_widths)
    width, height = WIDEST, None
    if ax is not None:
        width, height = ax.bbox.width / ax.figure.dpi, ax.bbox.height / ax.figure.dpi
    if image_shape is not None:
        _count_pixels(rows[0], n_pixels, width=width)
    if ax is None:
        width = figure_width(rows, image=image_size(image_shape)[0])
    image = image_size(image_shape, width=width, height=height)
    height, angles = arrange(dag, rows, name_widths, width=width, height=height, below=image[1])
    if _text_width(title, _TITLE) > width - 0.2:
        title = title.replace(" · ", "\n", 1)
    if ax is None:
        total = height + 0.36 + 0.16 * title.count("\n")
        ax = Figure(figsize=(width, total)).add_axes((0, 0, 1, height / total))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    ax.set_title(title, fontsize=_TITLE)
    if image_shape is not None:
        corner, pixel = ((width - image[0]) / 2, EDGE), image[0] / image_shape[1]
        ax.add_collection(squares(image_shape, pixel_colours(found), corner=corner, pixel=pixel), autolim=False)

    style: dict[str, Any] = {"zorder": 5, "color": "0.1", "parse_math": False}
    for box in itertools.chain(*rows):
        colour = colour_of[box.module]
        patch = FancyBboxPatch(
            (box.left, box.y - box.height / 2),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={0.3 * box.height}",
            facecolor=0.78 + 0.22 * colour,
            edgecolor=colour,
            gid=f"module-{box.module}-{box.layer}",
            zorder=2,
        )
        ax.add_patch(patch)
        if box.text:
            inside = style | {"fontsize": _MODULE, "fontweight": "bold", "va": "center_baseline"}
            alone = image_shape is not None and box.layer == 0  # without dots
            x = box.left + (box.width / 2 if alone else PAD * box.pitch + 0.02)
            ax.text(x, box.y, box.text, ha="center" if alone else "left", **inside)
    for module, corners in bands(rows):
        path = Path(corners, [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3])
        ax.add_patch(PathPatch(path, color=colour_of[module], alpha=0.14, linewidth=0, gid="band", zorder=1))
    xy, pitch = places(dag, rows)
    thin = 1 / np.sqrt(max(dag.n_edges, 1))
    lines, thick = waypoints(dag, rows, xy), np.full(dag.n_edges, np.clip(16 * thin, 0.35, 1.3))
    dots = np.arange(dag.n_units)
    if image_shape is not None:
        fan_out(dag, rows[0], lines)
        thick += _THICK * min(1, height / width) * (n_edges - 1) / max(n_edges.max(initial=1) - 1, 1)
        dots = np.flatnonzero(dag.layer > 0)
    edges = LineCollection(
        [_bent(points) for points in lines],
        colors=np.column_stack([colour_of[labels[dag.sources]], np.full(dag.n_edges, np.clip(11 * thin, 0.2, 0.8))]),
        linewidths=thick,
        gid="edges",
        zorder=3,
    )
    units = EllipseCollection(
        *(DOT * pitch[dots], DOT * pitch[dots], 0 * pitch[dots]),
        units="xy",
        offsets=xy[dots],
        offset_transform=ax.transData,
        facecolors=colour_of[labels[dots]],
        edgecolors="white",
        linewidths=np.clip(2.5 * pitch[dots], 0.2, 0.8),
        gid="units",
        zorder=4,
    )
    for collection in (edges, units):
        ax.add_collection(collection, autolim=False)
    for row, angle, up in ((rows[0], angles[0], -1), (rows[-1], angles[1], 1)):
        for box in row if angle is not None else ():
            side = style | {"fontsize": _NAME, "rotation": angle, "ha": "center", "va": "bottom" if up > 0 else "top"}
            for unit, x in zip(box.units, box.xs.tolist(), strict=True):
                ax.text(x, box.y + up * (box.height / 2 + EDGE / 2), own[unit], **side)
    titles = ["inputs", *(f"layer {level}" for level in range(1, dag.n_layers - 1)), "outputs"]
    for row, text in zip(rows, titles, strict=True):
        if row and names_layers(width) and height > 0.15 * dag.n_layers:
            ax.text(EDGE, row[0].y, text, fontsize=_ROW, va="center", zorder=5, color="0.45")
    return ax


def _count_pixels(row: Sequence[Box], n_pixels: IntArray, *, width: float) -> None:
    """Say in each box, which has no dots, how many pixels it stands for, if there is room; nothing in those of one."""
    counts = [int(n_pixels[box.units[0]]) for box in row]
    names = [box.text * (n > 1) for box, n in zip(row, counts, strict=True)]
    long = [f"{name} · {n} pixels" if name else "" for name, n in zip(names, counts, strict=True)]
    short_widths, widths = ([_text_width(text, _MODULE, bold=True) for text in texts] for texts in (names, long))
    texts = (long, widths) if sum(widths) < 0.7 * width else (names, short_widths)
    for box, text, needed in zip(row, *texts, strict=True):
        box.text, box.text_width = text, needed


def _bent(points: FloatArray) -> FloatArray:
    """Lead a line through `points`, upright in each."""
    t = np.linspace(0, 1, 15)[:, None]
    bend = np.hstack([t * t * (3 - 2 * t), t])
    return np.concatenate([start + bend * (end - start) for start, end in itertools.pairwise(points)])


@lru_cache(maxsize=4096)
def _text_width(text: str, size: int, *, bold: bool = False) -> float:
    """Width of one line of text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72
