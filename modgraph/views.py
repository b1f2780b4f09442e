"""Pictures of clusterings side by side (`draw_flows`) and of edges sorted by module (`draw_matrix`); matplotlib."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.sparse import vstack

from modgraph.arrays import FloatArray, IntArray
from modgraph.checks import check_choice, check_int_vector, require
from modgraph.influence import influence
from modgraph.marks import colours
from modgraph.modules import ModuleHierarchy, check_found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRIMMED: Final = 0.8  # grey of units that trimming removed
_BOX: Final = 0.09  # width of a box, in distances between columns
_GAPS: Final = 0.25  # most of a column's height that the gaps between its boxes take
_GAP: Final = 0.02  # largest gap between boxes, in heights of a column
_SWEEPS: Final = 8  # over the columns, to put boxes beside those that they share units with
_SMALLEST_TEXT: Final = 8  # points of height that a name needs
_MOST_CELLS: Final = 800  # rows and columns of a picture of a matrix


def draw_flows(clusterings: Mapping[str, ModuleHierarchy | ArrayLike], *, ax: Axes | None = None) -> Axes:
    """Draw several clusterings of the same units as columns, and the units that their modules share as bands.

    This picture, called alluvial, compares methods, settings, densities, or clusters before and after merging. A box is
    a module, as high as the share of the units that it has; a band is as high as the share of the units that lead from
    box to box. A module has the colour of the module in the column before that it shares most units with (one to one).
    Below each column are its name and the number of its modules. Units that only some clusterings trimmed away are in a
    grey box; those that all trimmed away are left out.

    Parameters
    ----------
    clusterings : mapping of str to ModuleHierarchy or array_like of int, shape (n_units,)
        The name of each column, and its hierarchy or labels; −1 = trimmed away.
    ax : matplotlib.axes.Axes, optional
        By default the axes of a new figure (``ax.figure``), unknown to pyplot.

    Raises
    ------
    ValueError
        If there are no clusterings, they are not of the same number of units, or all units are trimmed away.

    Examples
    --------
    >>> ax = draw_flows({"one": [0, 0, 1, 1], "other": [0, 0, 0, 1]})
    >>> [text.get_text() for text in ax.texts]
    ['#0', '#1', '#0', '#1']
    >>> ax.figure.savefig("flows.png")  # doctest: +SKIP
    """
    require("matplotlib", purpose="`draw_flows`", extra="draw")
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.path import Path

    columns = _columns(clusterings)
    overlaps = [one.members.T @ other.members for one, other in itertools.pairwise(columns)]
    _match_colours(columns, overlaps)
    _sort_boxes(columns, overlaps)
    if ax is None:
        ax = Figure(figsize=(2.2 * len(columns), 4.6), layout="constrained").add_subplot()
    palette = np.vstack([colours(1 + max(int(column.colour.max()) for column in columns)), np.full(3, _TRIMMED)])
    curve = [Path.MOVETO, *3 * [Path.CURVE4], Path.LINETO, *3 * [Path.CURVE4]]
    bands, shades = [], []
    for left, overlap in enumerate(overlaps):
        one, other = columns[left : left + 2]
        ends = [one.parts(overlap, other.order), other.parts(overlap.T, one.order).swapaxes(0, 1)]
        x, mid, right = left + _BOX / 2, left + 0.5, left + 1 - _BOX / 2
        for box, next_box in np.argwhere(overlap).tolist():
            (a, b), (c, d) = (part[box, next_box] for part in ends)
            corners = [(x, a), (mid, a), (mid, c), (right, c), (right, d), (mid, d), (mid, b), (x, b)]
            bands.append(Path(corners, curve))
            shades.append(palette[one.colour[box]])
    ax.add_collection(PathCollection(bands, facecolors=shades, alpha=0.4, linewidths=0, gid="bands"), autolim=False)
    points = ax.bbox.height / ax.figure.dpi * 72
    for x, column in enumerate(columns):
        for box in column.order.tolist():
            top, height = column.top[box], column.height[box]
            colour = palette[column.colour[box]]
            ax.bar(x, height, _BOX, bottom=top, color=colour, linewidth=0)
            if height * points >= _SMALLEST_TEXT and column.colour[box] >= 0:
                style: dict[str, Any] = {"fontsize": 8, "va": "center", "parse_math": False}
                ax.text(x + 0.6 * _BOX, top + height / 2, f"#{box}", **style)
    ax.set(xlim=(-2 * _BOX, len(columns) - 1 + 4 * _BOX), ylim=(1, 0), yticks=[])
    names = [f"{name} ({(c.colour >= 0).sum()})" for name, c in zip(clusterings, columns, strict=True)]
    ax.set_xticks(range(len(columns)), names, parse_math=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


@dataclass(slots=True, kw_only=True, eq=False)
class _Column:
    """A clustering: a box for each module, and one more, the last, if units were trimmed away."""

    members: IntArray  # 1 where a unit is in a box, (n_units, n_boxes)
    colour: IntArray  # number of the colour of each box, −1 for units trimmed away, (n_boxes,)
    order: IntArray  # boxes from top to bottom, (n_boxes,)

    @property
    def gap(self) -> float:
        """Distance between boxes, in heights of the column."""
        return min(_GAP, _GAPS / max(self.order.size - 1, 1))

    @property
    def unit(self) -> float:
        """Height of a unit."""
        return (1 - self.gap * (self.order.size - 1)) / len(self.members)

    @property
    def height(self) -> FloatArray:
        """Height of each box."""
        heights: FloatArray = self.unit * self.members.sum(axis=0)
        return heights

    @property
    def top(self) -> FloatArray:
        """Distance of each box from the top."""
        tops = np.empty(self.order.size)
        steps = self.height[self.order] + self.gap
        tops[self.order] = np.cumsum(steps) - steps
        return tops

    def parts(self, overlap: IntArray, order: IntArray) -> FloatArray:
        """Return the top and bottom of the part of each box that it shares with each box of another column.

        `overlap`: (n_boxes, n_other); `order`: of the other boxes. Shape (n_boxes, n_other, 2).
        """
        bottom = np.empty(overlap.shape)
        bottom[:, order] = np.cumsum(overlap[:, order], axis=1)
        parts: FloatArray = self.top[:, None, None] + self.unit * np.stack([bottom - overlap, bottom], axis=2)
        return parts


def _columns(clusterings: Mapping[str, ModuleHierarchy | ArrayLike]) -> list[_Column]:
    """Check the clusterings and turn each into boxes."""
    if not isinstance(clusterings, Mapping) or not clusterings:
        raise ValueError(f"`clusterings` must be a mapping from names to clusterings (got {clusterings!r})")
    given = [c.labels if isinstance(c, ModuleHierarchy) else np.asarray(c) for c in clusterings.values()]
    labels = np.stack([check_int_vector("clusterings", one, length=given[0].size) for one in given])
    labels = labels[:, (labels >= 0).any(axis=0)]
    if not labels.size:
        raise ValueError("`clusterings` must not trim all units away")
    columns = []
    for row in labels:
        n_modules = int(row.max()) + 1
        boxes = np.arange(n_modules + (row.min() < 0))
        members = (np.where(row < 0, n_modules, row)[:, None] == boxes).astype(np.int64)
        columns.append(_Column(members=members, colour=np.where(boxes < n_modules, boxes, -1), order=boxes))
    return columns


def _match_colours(columns: list[_Column], overlaps: list[IntArray]) -> None:
    """Give each module the colour of the earlier module that shares most units with it; others get new colours."""
    used = int(columns[0].colour.max()) + 1
    for (before, column), overlap in zip(itertools.pairwise(columns), overlaps, strict=True):
        modules, earlier = column.colour >= 0, before.colour >= 0
        rows, matched = scipy.optimize.linear_sum_assignment(-overlap[earlier][:, modules])
        same = overlap[rows, matched] > 0
        colour = np.full(int(modules.sum()), -1)
        colour[matched[same]] = before.colour[rows[same]]
        new = colour < 0
        colour[new] = used + np.arange(new.sum())
        used += int(new.sum())
        column.colour[modules] = colour


def _sort_boxes(columns: list[_Column], overlaps: list[IntArray]) -> None:
    """Sort the boxes of each column by the mean place of the units in the column beside, in sweeps to and fro."""
    links = [(one, other, overlap) for (one, other), overlap in zip(itertools.pairwise(columns), overlaps, strict=True)]
    back = [(other, one, overlap.T) for one, other, overlap in reversed(links)]
    for fixed, sorted_column, overlap in [*links, *back] * _SWEEPS + links:
        middle = fixed.top + fixed.height / 2
        place = middle @ overlap / np.maximum(overlap.sum(axis=0), 1)
        sorted_column.order = np.lexsort((place, sorted_column.colour < 0))


def draw_matrix(found: ModuleHierarchy, *, values: str = "edges", ax: Axes | None = None) -> Axes:
    """Draw which unit leads to which, sorted by module: modules are blocks along the diagonal.

    Rows are the units that edges leave, columns those that they enter, each sorted by module, then by layer. Weights
    and influence are red above 0 and blue below; edges without weights are black. The title says which share lies
    within modules. With more than 800 units a dot shows the largest value of several.

    Parameters
    ----------
    found : ModuleHierarchy
    values : {"edges", "influence"}
        The weights of edges, or the influence of every unit on all later ones (`modgraph.influence`).
    ax : matplotlib.axes.Axes, optional
        By default the axes of a new figure (``ax.figure``), unknown to pyplot.

    Raises
    ------
    ValueError
        If `values` is anything else, or is "influence" and the network has no weights.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> draw_matrix(detect_modules(dag)).get_title()
    '100 % of edges within modules'
    """
    check_found(found)
    require("matplotlib", purpose="`draw_matrix`", extra="draw")
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    check_choice("values", values, ("edges", "influence"))
    kept = found.labels >= 0
    dag, labels = found.dag.subgraph(kept), found.labels[kept]
    if values == "edges":
        signed = dag.weights is not None
        amounts = np.ones(dag.n_edges) if dag.weights is None else dag.weights
        sources, targets = dag.sources, dag.targets
    else:
        if dag.weights is None:
            raise ValueError('`values` must be "edges" for a network without weights (got "influence")')
        signed = True
        matrix = vstack([influence(dag, level) for level in range(dag.n_layers)]).tocoo()
        sources, targets, amounts = matrix.row, matrix.col, matrix.data
    place = np.argsort(np.lexsort((dag.layer, labels)))
    n_cells = min(dag.n_units, _MOST_CELLS)
    cell = place * n_cells // dag.n_units
    largest, smallest = np.zeros((2, n_cells, n_cells))
    np.maximum.at(largest, (cell[sources], cell[targets]), amounts)
    np.minimum.at(smallest, (cell[sources], cell[targets]), amounts)
    shown = np.where(largest >= -smallest, largest, smallest)
    # A few large values leave the others visible.
    most = float(np.quantile(np.abs(shown[shown != 0]), 0.95)) if shown.any() else 1.0
    if ax is None:
        ax = Figure(figsize=(5.4, 5.6), layout="constrained").add_subplot()
    n = dag.n_units
    cmap, bounds = ("RdBu_r", (-most, most)) if signed else ("Greys", (0.0, 1.0))
    ax.imshow(
        shown, extent=(0, n, n, 0), interpolation="nearest", cmap=cmap, vmin=bounds[0], vmax=bounds[1], gid="matrix"
    )
    palette = colours(found.n_modules)
    points = 72 * min(ax.bbox.width, ax.bbox.height) / ax.figure.dpi
    starts = np.searchsorted(np.sort(labels), np.arange(found.n_modules + 1)).tolist()
    for module, (start, stop) in enumerate(itertools.pairwise(starts)):
        size = stop - start
        ax.add_patch(Rectangle((start, start), size, size, fill=False, edgecolor=palette[module], linewidth=1.2))
        ax.add_patch(Rectangle((-0.03 * n, start), 0.02 * n, size, facecolor=palette[module], clip_on=False))
        if size / n * points >= _SMALLEST_TEXT:
            ax.text(-0.045 * n, (start + stop) / 2, f"#{module}", ha="right", va="center", fontsize=8)
    size = np.abs(amounts)
    within = size[labels[sources] == labels[targets]].sum() / size.sum() if size.any() else 1.0
    what = "influence" if values == "influence" else "weight" if signed else "edges"
    ax.set(xlim=(0, n), ylim=(n, 0), xticks=[], yticks=[], title=f"{100 * within:.0f} % of {what} within modules")
    ax.set_xlabel("from the unit of the row to the unit of the column")
    return ax
