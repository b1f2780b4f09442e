"""Images of the pixels that each module reads (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.checks import require
from modgraph.layout import check_image_shape, pixel_middles
from modgraph.marks import colours, module_names
from modgraph.modules import ModuleHierarchy
from modgraph.names import counted

if TYPE_CHECKING:
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure, SubFigure

# Greys, from black 0 to white 1.
_TRIMMED: Final = 0.965  # pixels that trimming removed
_OTHER: Final = 0.89  # pixels of other modules
_FRAME: Final = 0.7  # frame of an image

# Font sizes in points.
_TITLE: Final = 9
_NOTE: Final = 8

# Lengths in inches.
_MIN_IMAGE: Final = 1.3  # smallest width of an image
_MAX_IMAGE: Final = 4.5  # largest width of an image
_MAX_FIGURE: Final = 10.5  # largest width of a figure
_HEAD: Final = 0.34  # space above each image, for its title
_GAP: Final = 0.15  # space between images
_FOOT: Final = 0.35  # space below all images, for the note

_PROPORTION: Final = 1.7  # width / height of a new figure, about
_FILLED: Final = 0.92  # side of a drawn square / side of a pixel


def draw_pixels(
    found: ModuleHierarchy,
    image_shape: tuple[int, int],
    *,
    figure: Figure | SubFigure | None = None,
    names: Sequence[str] | None = None,
) -> Figure | SubFigure:
    """Draw the pixels that each module reads: one image for each module, the largest module first.

    A pixel is darker, the more edges leave it, on the same scale in all images. Pixels of other modules are grey;
    pixels that trimming removed are almost white. Modules of a single pixel share the last image, each in its colour.

    Parameters
    ----------
    found : ModuleHierarchy
        The inputs of its network are the pixels of an image, row by row.
    image_shape : (int, int)
        Rows and columns.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Figure to draw on; by default a new one, as large as needed and unknown to pyplot.
    names : sequence of str, optional
        Names of the modules, by id; by default ``#`` and the id.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
        ``figure.axes`` has one axes for each image.

    Raises
    ------
    ValueError
        If `image_shape` or `names` is for another number of inputs or modules.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> figure = draw_pixels(detect_modules(dag), (2, 2))
    >>> [ax.get_title() for ax in figure.axes]
    ['#0 · 2 pixels', '#1 · 2 pixels']
    >>> figure.savefig("pixels.png")  # doctest: +SKIP
    """
    require("matplotlib", purpose="`draw_pixels`", extra="draw")
    from matplotlib.figure import Figure

    check_image_shape(found.dag, image_shape)
    texts = module_names(found, None, names)
    labels = found.labels[: found.dag.layer_sizes[0]]
    count = np.bincount(labels[labels >= 0], minlength=found.n_modules + 1)  # the last, 0, is for label −1
    large = [module for module in np.argsort(-count, kind="stable").tolist() if count[module] > 1]
    panels = [(f"{texts[module]} · {count[module]} pixels", labels == module) for module in large]
    singles = int((count == 1).sum())
    if singles or not large:
        panels.append((f"{counted(singles, 'module')} of one pixel", count[labels] == 1))
    ratio = image_shape[0] / image_shape[1]
    proportion = _PROPORTION if figure is None else float(figure.bbox.width / figure.bbox.height)
    n_columns = _columns(len(panels), ratio, proportion)
    n_rows = -(-len(panels) // n_columns)
    if figure is None:
        image_width = float(np.clip(_MAX_FIGURE / n_columns - _GAP, _MIN_IMAGE, _MAX_IMAGE))
        size = (n_columns * (image_width + _GAP) + _GAP, n_rows * (ratio * image_width + _HEAD) + _FOOT)
        figure = Figure(figsize=size)
    width, height = (float(size) / figure.dpi for size in figure.bbox.size)
    cell_width, cell_height = (width - _GAP) / n_columns, (height - _FOOT) / n_rows
    shades, most = _shades(found)
    for number, (title, chosen) in enumerate(panels):
        row, column = divmod(number, n_columns)
        left, bottom = _GAP + column * cell_width, height - (row + 1) * cell_height
        box = (left / width, bottom / height, (cell_width - _GAP) / width, (cell_height - _HEAD) / height)
        ax = figure.add_axes(
            box, xlim=(0, image_shape[1]), ylim=(0, image_shape[0]), aspect="equal", xticks=(), yticks=()
        )
        ax.spines[:].set_color(str(_FRAME))
        ax.set_title(title, fontsize=_TITLE, parse_math=False)
        grey = np.where(labels < 0, _TRIMMED, _OTHER)[:, None]
        ax.add_collection(squares(image_shape, np.where(chosen[:, None], shades, grey)))
    note = f"pale to dark: 1 to {most} edges leave a pixel" if most > 1 else "one edge leaves each pixel"
    figure.text(0.5, _FOOT / 2 / height, note, fontsize=_NOTE, color="0.4", ha="center", va="center")
    return figure


def _columns(n: int, ratio: float, proportion: float) -> int:
    """Choose the number of columns for `n` images (height/width: `ratio`) in a figure (width/height: `proportion`)."""
    columns = np.arange(1, n + 1)
    rows = -(-n // columns)
    return int(columns[np.argmin(np.abs(np.log(columns / (rows * (ratio + 0.1)) / proportion)))])


def _shades(found: ModuleHierarchy) -> tuple[FloatArray, int]:
    """Return the colour of each pixel, from a tint to a shade of its module's colour, and the most edges of a pixel."""
    n_inputs = found.dag.layer_sizes[0]
    kept = (found.labels[found.dag.sources] >= 0) & (found.labels[found.dag.targets] >= 0)
    edges = np.bincount(found.dag.sources[kept], minlength=n_inputs)[:n_inputs]
    most = int(edges.max(initial=1))
    share = np.clip((edges - 1) / max(most - 1, 1), 0, 1)[:, None]
    white, dark = np.interp(share, [0, 0.5], [0.45, 0]), np.interp(share, [0.5, 1], [0, 0.45])
    shades: FloatArray = (white + (1 - white) * pixel_colours(found)) * (1 - dark)
    return shades, most


def pixel_colours(found: ModuleHierarchy) -> FloatArray:
    """Return the colours (sRGB, 0…1) of the modules of all inputs, (n_inputs, 3); pale where trimming removed them."""
    palette = np.vstack([colours(found.n_modules), np.full(3, _TRIMMED)])  # the last is for label −1
    chosen: FloatArray = palette[found.labels[: found.dag.layer_sizes[0]]]
    return chosen


def squares(
    image_shape: tuple[int, int], colour: FloatArray, *, corner: tuple[float, float] = (0.0, 0.0), pixel: float = 1.0
) -> PolyCollection:
    """Return the squares of an image whose lower left is `corner`; `colour`: (n_pixels, 3), row by row from the top."""
    from matplotlib.collections import PolyCollection

    middles = pixel_middles(np.arange(len(colour)), image_shape)
    around = _FILLED / 2 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    corners = np.array(corner) + pixel * (middles[:, None] + around)
    return PolyCollection(list(corners), facecolors=colour, linewidths=0, snap=False, gid="pixels")
