"""Modules of inputs that are pixels, as images (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.layout import check_image_shape, colours, module_names
from modgraph.modules import ModuleHierarchy

if TYPE_CHECKING:
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure, SubFigure

_TRIMMED, _OTHER, _RIM = 0.965, 0.89, 0.7  # greys: of pixels trimmed away, of other modules, around an image
_FILLED: Final = 0.92  # share of a pixel's side
_TITLE, _NOTE = 9, 8  # points
# Inches: an image is wide, at least and at most, and all of them together; above an image, around it, below them all.
_NARROW, _WIDE, _PAGE, _HEAD, _GAP, _FOOT = 1.3, 4.5, 10.5, 0.34, 0.15, 0.35
_PROPORTION: Final = 1.7  # width : height of a page, where there is a choice


def draw_pixels(
    found: ModuleHierarchy,
    image_shape: tuple[int, int],
    *,
    figure: Figure | SubFigure | None = None,
    names: Sequence[str] | None = None,
) -> Figure | SubFigure:
    """Show which pixels each module reads: one image a module, the largest first.

    The darker a pixel, the more edges leave it, on one scale for all images. Pixels of other modules are grey, pixels
    that trimming removed all but white. Modules of a single pixel share the last image, each in its own colour.

    Parameters
    ----------
    found : ModuleHierarchy
        Of a network whose inputs are the pixels of an image, row by row.
    image_shape : (int, int)
        Rows and columns.
    figure : matplotlib.figure.Figure or SubFigure, optional
        What to draw on; by default a new figure, as large as it takes and unknown to pyplot.
    names : sequence of str, optional
        What to call the modules, by id; by default ``#`` and the id.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
        With one axes for each image; ``figure.axes``.

    Raises
    ------
    ValueError
        If `image_shape` has another number of pixels than the network has inputs, or `names` another number of names
        than there are modules.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> figure = draw_pixels(detect_modules(dag), (2, 2))
    >>> [ax.get_title() for ax in figure.axes]
    ['#0 · 2 pixels', '#1 · 2 pixels']
    >>> figure.savefig("pixels.png")  # doctest: +SKIP
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("`draw_pixels` needs matplotlib: pip install 'modgraph-nn[draw]'") from error
    check_image_shape(found.dag, image_shape)
    texts = module_names(found, None, names)
    labels = found.labels[: found.dag.layer_sizes[0]]
    count = np.bincount(labels[labels >= 0], minlength=found.n_modules + 1)  # the last is that of −1
    large = [module for module in np.argsort(-count, kind="stable").tolist() if count[module] > 1]
    panels = [(f"{texts[module]} · {count[module]} pixels", labels == module) for module in large]
    singles = int((count == 1).sum())
    if singles or not large:
        panels.append((f"{singles} module{'s' * (singles != 1)} of one pixel", count[labels] == 1))
    ratio = image_shape[0] / image_shape[1]
    proportion = _PROPORTION if figure is None else float(figure.bbox.width / figure.bbox.height)
    n_columns = _columns(len(panels), ratio, proportion)
    n_rows = -(-len(panels) // n_columns)
    if figure is None:
        wide = float(np.clip(_PAGE / n_columns - _GAP, _NARROW, _WIDE))
        figure = Figure(figsize=(n_columns * (wide + _GAP) + _GAP, n_rows * (ratio * wide + _HEAD) + _FOOT))
    width, height = (float(size) / figure.dpi for size in figure.bbox.size)
    wide, high = (width - _GAP) / n_columns, (height - _FOOT) / n_rows  # of a place in the grid
    shades, most = _shades(found)
    for at, (title, chosen) in enumerate(panels):
        row, column = divmod(at, n_columns)
        left, bottom = _GAP + column * wide, height - (row + 1) * high
        box = (left / width, bottom / height, (wide - _GAP) / width, (high - _HEAD) / height)
        ax = figure.add_axes(
            box, xlim=(0, image_shape[1]), ylim=(0, image_shape[0]), aspect="equal", xticks=(), yticks=()
        )
        ax.spines[:].set_color(str(_RIM))
        ax.set_title(title, fontsize=_TITLE, parse_math=False)
        grey = np.where(labels < 0, _TRIMMED, _OTHER)[:, None]
        ax.add_collection(squares(image_shape, np.where(chosen[:, None], shades, grey)))
    note = f"pale to dark: 1 to {most} edges leave a pixel" if most > 1 else "one edge leaves each pixel"
    figure.text(0.5, _FOOT / 2 / height, note, fontsize=_NOTE, color="0.4", ha="center", va="center")
    return figure


def _columns(n: int, ratio: float, proportion: float) -> int:
    """Choose how many of `n` images, height : width = `ratio`, stand side by side on a page of such a proportion."""
    columns = np.arange(1, n + 1)
    rows = -(-n // columns)
    return int(columns[np.argmin(np.abs(np.log(columns / (rows * (ratio + 0.1)) / proportion)))])


def _shades(found: ModuleHierarchy) -> tuple[FloatArray, int]:
    """Colour each pixel, from a tint of the colour of its module to a shade of it; and say the most edges of one."""
    n_inputs = found.dag.layer_sizes[0]
    kept = (found.labels[found.dag.sources] >= 0) & (found.labels[found.dag.targets] >= 0)
    edges = np.bincount(found.dag.sources[kept], minlength=n_inputs)[:n_inputs]
    most = int(edges.max(initial=1))
    share = np.clip((edges - 1) / max(most - 1, 1), 0, 1)[:, None]
    white, dark = np.interp(share, [0, 0.5], [0.45, 0]), np.interp(share, [0.5, 1], [0, 0.45])
    shades: FloatArray = (white + (1 - white) * pixel_colours(found)) * (1 - dark)
    return shades, most


def pixel_colours(found: ModuleHierarchy) -> FloatArray:
    """Colours (sRGB, 0…1) of all inputs, (n_inputs, 3): those of their modules, pale where trimming removed them."""
    palette = np.vstack([colours(found.n_modules), np.full(3, _TRIMMED)])  # −1 is the last
    chosen: FloatArray = palette[found.labels[: found.dag.layer_sizes[0]]]
    return chosen


def squares(
    image_shape: tuple[int, int],
    colour: FloatArray,
    *,
    corner: tuple[float, float] = (0.0, 0.0),
    pixel: float = 1.0,
) -> PolyCollection:
    """Make an image of squares, row by row from the top, from the lower left `corner`; `colour`: (n_pixels, 3)."""
    from matplotlib.collections import PolyCollection

    down, along = np.divmod(np.arange(len(colour)), image_shape[1])
    middles = np.column_stack([along, image_shape[0] - 1 - down]) + 0.5
    around = _FILLED / 2 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    corners = np.array(corner) + pixel * (middles[:, None] + around)
    return PolyCollection(list(corners), facecolors=colour, linewidths=0, snap=False, gid="pixels")
