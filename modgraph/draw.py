"""The layered drawing of a hierarchy: units in rows, modules in boxes, few edge crossings.

Three steps: the order of the units in each layer (`_order`), where that is in inches (`_arrange`), and ink (`draw`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modgraph.dag import FloatArray, IntArray, LayeredDAG
from modgraph.functions import FunctionGraph
from modgraph.modules import ModuleHierarchy
from modgraph.score import score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OKABE_ITO: Final = ("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "4D4D4D")
_SWEEPS: Final = 12  # over all layers, from each end
# Inches. From unit to unit: at most, and what the texts of a row give way to; a new figure; row to row; margins.
_PITCH, _TIGHT, _WIDTHS, _TALLEST, _STEPS, _LEFT, _EDGE = 0.34, 0.1, (3.2, 11.0), 12.0, (0.8, 1.5), 0.66, 0.08
_GAP, _PAD, _DOT = 0.65, 0.25, 0.64  # pitches: between boxes (and an _EDGE), within them, across a unit
_TITLE, _MODULE, _NAME, _ROW = 10, 9, 8, 7  # points


def draw(found: ModuleHierarchy, *, ax: Axes | None = None, target: FunctionGraph | None = None) -> Axes:
    """Draw the trimmed network layer by layer, inputs at the bottom, every module in boxes of its own colour.

    The units of one module in one layer stand together in a box labelled with the module; where the module goes on
    in the next layer, a band joins the boxes. Edges have the colour of the module they leave; where one skips a
    layer, it passes between the boxes. The title has the layer sizes after trimming, the density and the number of
    modules. Texts are left out where they do not fit.

    Parameters
    ----------
    found : ModuleHierarchy
    ax : matplotlib.axes.Axes, optional
        What to draw on, filled as large as it is; by default that of a new figure (``ax.figure``), as large as the
        network needs and unknown to pyplot.
    target : FunctionGraph, optional
        The function the network was trained on: inputs have its names, outputs those of the bits they show, and
        modules that of the sub-function `modgraph.score` matched them with, with ``?`` where they are not quite
        alike. Otherwise inputs are x0, x1, …, outputs y0, y1, …, and a module is ``#`` and its id.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If `target` has another number of inputs or outputs than the network.
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
    module_names = _module_names(found, target)  # the first to look at `target`
    unit_names = _unit_names(found.dag, target)
    kept, colours = found.labels >= 0, _colours(found.n_modules)
    dag, labels = found.dag.subgraph(kept), found.labels[kept]
    names = [unit_names.get(unit, "") for unit in np.flatnonzero(kept).tolist()]
    rows = _boxes(dag, labels, _order(dag, labels), module_names)
    width, height = _figure_width(rows), None
    if ax is not None:
        width, height = ax.bbox.width / ax.figure.dpi, ax.bbox.height / ax.figure.dpi
    height, angles = _arrange(dag, rows, names, width=width, height=height)
    facts = f"density {100 * dag.density:.3g} % · {found.n_modules} module{'s' * (found.n_modules != 1)}"
    title = f"{'–'.join(map(str, dag.layer_sizes))} · {facts}"
    if _text_width(title, _TITLE) > width - 0.2:
        title = title.replace(" · ", "\n", 1)
    if ax is None:
        total = height + 0.36 + 0.16 * title.count("\n")
        ax = Figure(figsize=(width, total)).add_axes((0, 0, 1, height / total))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    ax.set_title(title, fontsize=_TITLE)

    style: dict[str, Any] = {"zorder": 5, "color": "0.1", "parse_math": False}
    for box in itertools.chain(*rows):
        colour = colours[box.module]
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
            ax.text(box.left + _PAD * box.pitch + 0.02, box.y, box.text, **inside)
    for low, high in itertools.chain(*(itertools.product(*pair) for pair in itertools.pairwise(rows))):
        if low.module == high.module:
            mid, right, above = (low.y + high.y) / 2, low.left + low.width, high.left + high.width
            corners = [(low.left, low.y), (low.left, mid), (high.left, mid), (high.left, high.y)]
            corners += [(above, high.y), (above, mid), (right, mid), (right, low.y)]
            path = Path(corners, [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3])
            ax.add_patch(PathPatch(path, color=colours[low.module], alpha=0.14, linewidth=0, gid="band", zorder=1))
    xy, pitch = np.empty((dag.n_units, 2)), np.empty(dag.n_units)
    for box in itertools.chain(*rows):
        xy[box.units, 0], xy[box.units, 1], pitch[box.units] = box.xs, box.y, box.pitch
    thin = 1 / np.sqrt(max(dag.n_edges, 1))
    edges = LineCollection(
        _edge_lines(dag, rows, xy),
        colors=np.column_stack([colours[labels[dag.sources]], np.full(dag.n_edges, np.clip(11 * thin, 0.2, 0.8))]),
        linewidths=np.clip(16 * thin, 0.35, 1.3),
        gid="edges",
        zorder=3,
    )
    units = EllipseCollection(
        *(_DOT * pitch, _DOT * pitch, 0 * pitch),
        units="xy",
        offsets=xy,
        offset_transform=ax.transData,
        facecolors=colours[labels],
        edgecolors="white",
        linewidths=np.clip(2.5 * pitch, 0.2, 0.8),
        gid="units",
        zorder=4,
    )
    for collection in (edges, units):
        ax.add_collection(collection, autolim=False)
    for row, angle, up in ((rows[0], angles[0], -1), (rows[-1], angles[1], 1)):
        for box in row if angle is not None else ():
            side = style | {"fontsize": _NAME, "rotation": angle, "ha": "center", "va": "bottom" if up > 0 else "top"}
            for unit, x in zip(box.units, box.xs.tolist(), strict=True):
                ax.text(x, box.y + up * (box.height / 2 + _EDGE / 2), names[unit], **side)
    titles = ["inputs", *(f"layer {level}" for level in range(1, dag.n_layers - 1)), "outputs"]
    for row, text in zip(rows, titles, strict=True):
        if row and _left(width) == _LEFT and height > 0.15 * dag.n_layers:
            ax.text(_EDGE, row[0].y, text, fontsize=_ROW, va="center", zorder=5, color="0.45")
    return ax


def _colours(n: int) -> FloatArray:
    """Colours (sRGB, 0…1) of modules 0 … n − 1, shape (n, 3): those of Okabe and Ito, made for all kinds of eyes.

    More than eight are spread over hue, by the golden angle, and three lightnesses of the OKLCH space, so that modules
    with ids close to each other look different.
    """
    if n <= len(_OKABE_ITO):
        return np.array([list(bytes.fromhex(code)) for code in _OKABE_ITO[:n]]).reshape(n, 3) / 255
    number = np.arange(n)
    hue = number * np.pi * (3 - np.sqrt(5)) + 0.6
    lightness = np.array([0.6, 0.73, 0.46])[number % 3] + 0.06 * (number * np.sqrt(2) % 1)
    lab = np.column_stack([lightness, 0.13 * np.cos(hue), 0.13 * np.sin(hue)])
    cones = lab @ [[1, 1, 1], [0.396338, -0.105561, -0.0894842], [0.215804, -0.0638542, -1.29149]]
    rgb = cones**3 @ [[4.07674, -1.26844, -0.00419609], [-3.30771, 2.60976, -0.703419], [0.23097, -0.341319, 1.70761]]
    linear: FloatArray = np.clip(rgb, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _module_names(found: ModuleHierarchy, target: FunctionGraph | None) -> list[str]:
    names = [f"#{module}" for module in range(found.n_modules)]
    for match in score(found, target).matching if target is not None else ():
        if match.similarity > 0:
            names[match.module] = match.sub_function + "?" * (match.similarity < 1)
    return names


def _unit_names(dag: LayeredDAG, target: FunctionGraph | None) -> dict[int, str]:
    first = int(dag.layer_starts[-2])
    inputs = [f"x{at}" for at in range(dag.layer_sizes[0])] if target is None else target.inputs
    outputs = [f"y{at}" for at in range(dag.layer_sizes[-1])] if target is None else target.outputs
    return dict(enumerate(inputs)) | dict(enumerate(outputs, first))


# --- Order: the place of each unit in its layer -----------------------------------------------------------------------


def _order(dag: LayeredDAG, labels: IntArray) -> IntArray:
    """Place the units of each layer, from 0, so that those of a module stand together and few edges cross.

    Sweeps up and down sort the modules of a layer, and the units of each, by the mean place of their neighbours
    (barycentres: Sugiyama, Tagawa, Toda 1981). They start from the structure, so the order of hidden units in the
    network does not matter. The best order met is returned, never worse than the start.
    """
    group = np.unique(dag.layer * (labels.max() + 1) + labels, return_inverse=True)[1]
    still = np.zeros(dag.n_units)
    start = _placed(dag, group, _structure(dag), still, still)
    best, fewest = start, _crossings(dag, start)
    for upwards in (True, False):
        place = start
        for sweep in range(_SWEEPS):
            place = _sweep(dag, group, place, upwards=upwards == (sweep % 2 == 0))
            if (crossings := _crossings(dag, place)) < fewest:
                best, fewest = place, crossings
    for level in (0, dag.n_layers - 1):  # inputs and outputs in the order of their names, where that costs nothing
        named = _placed(dag, group, best, np.where(dag.layer == level, np.arange(dag.n_units), best), still)
        best = named if _crossings(dag, named) <= fewest else best
    return best


def _crossings(dag: LayeredDAG, place: IntArray) -> int:
    """Count the pairs of edges between the same two layers that cross: O(E log E)."""
    between = dag.layer[dag.sources] * dag.n_layers + dag.layer[dag.targets]
    order = np.lexsort((place[dag.targets], place[dag.sources], between))
    # Larger numbers for later pairs of layers, so that these add no inversions.
    return _inversions((between * (place.max() + 1) + place[dag.targets])[order])


def _inversions(values: IntArray) -> int:
    """Count the pairs of a value and a later, smaller one (all ≥ 0), by the highest bit in which they differ."""
    total = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        # Sorted by the higher bits so far, otherwise in the order given.
        higher, ones = values >> (bit + 1), (values >> bit) & 1
        before = np.concatenate([[0], np.cumsum(ones)])
        total += int((before[:-1] - before[np.searchsorted(higher, higher)])[ones == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total


def _placed(
    dag: LayeredDAG, group: IntArray, place: IntArray, unit_key: FloatArray | IntArray, group_key: FloatArray
) -> IntArray:
    """Sort the groups of each layer, and the units of each group, by their keys; on ties they stand as in `place`."""
    first = np.full(group.max() + 1, dag.n_units)
    np.minimum.at(first, group, place)
    result = np.empty(dag.n_units, dtype=np.int64)
    result[np.lexsort((place, unit_key, first[group], group_key, dag.layer))] = np.arange(dag.n_units)
    return result - dag.layer_starts[dag.layer]


def _sweep(dag: LayeredDAG, group: IntArray, place: IntArray, *, upwards: bool) -> IntArray:
    """Sort each layer, from one end to the other, by the mean place of the neighbours in the layers passed."""
    here, there = (dag.targets, dag.sources) if upwards else (dag.sources, dag.targets)
    size = np.array(dag.layer_sizes)[dag.layer]
    for level in range(1, dag.n_layers) if upwards else reversed(range(dag.n_layers - 1)):
        edges = dag.layer[here] == level
        across, means = ((place + 0.5) / size)[there[edges]], []
        for number in (np.arange(dag.n_units), group):
            count = np.bincount(number[here[edges]], minlength=dag.n_units)
            total = np.bincount(number[here[edges]], across, minlength=dag.n_units)
            # Rounded, so that equal means are equal whatever the order of the sum.
            means.append(np.round(total / np.maximum(count, 1), 9)[number])
        place = np.where(dag.layer == level, _placed(dag, group, place, means[0], means[1]), place)
    return place


def _structure(dag: LayeredDAG) -> IntArray:
    """Rank inputs and outputs as they come, hidden units by their neighbours (Weisfeiler–Lehman), layer by layer."""
    by_target = np.argsort(dag.targets, kind="stable")
    cuts = [np.searchsorted(ends, np.arange(1, dag.n_units)) for ends in (dag.sources, dag.targets[by_target])]
    near = [*zip(np.split(dag.targets, cuts[0]), np.split(dag.sources[by_target], cuts[1]), strict=True)]
    named = dag.layer % (dag.n_layers - 1) == 0
    keys: list[Any] = [*zip(dag.layer.tolist(), np.where(named, np.arange(dag.n_units), 0).tolist(), strict=True)]
    n_ranks = 0
    while True:
        rank_of = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        ranks = np.array([rank_of[key] for key in keys])
        if len(rank_of) == n_ranks:
            return np.argsort(np.argsort(ranks, kind="stable"))
        n_ranks = len(rank_of)
        keys = [
            (rank, *(tuple(sorted(ranks[units].tolist())) for units in both))
            for rank, both in zip(ranks.tolist(), near, strict=True)
        ]


# --- Layout: where that is, in inches ---------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True, eq=False)
class _Box:
    """The units of one module in one layer, from left to right; `_arrange` says where."""

    layer: int
    module: int
    units: list[int]
    text: str
    pitch: float = _PITCH
    gap: float = _GAP * _PITCH + _EDGE  # to the next box
    left: float = 0.0
    y: float = 0.0

    @property
    def text_width(self) -> float:
        return _text_width(self.text, _MODULE, bold=True) + 0.04 if self.text else 0.0

    @property
    def width(self) -> float:
        return self.text_width + (len(self.units) + 2 * _PAD) * self.pitch

    @property
    def height(self) -> float:
        return max(1.25 * self.pitch, 0.19 if self.text else 0)

    @property
    def xs(self) -> FloatArray:
        """Where its units stand."""
        steps: FloatArray = np.arange(len(self.units), dtype=np.float64) + 0.5 + _PAD
        return self.left + self.text_width + steps * self.pitch


def _boxes(dag: LayeredDAG, labels: IntArray, place: IntArray, texts: Sequence[str]) -> list[list[_Box]]:
    """Put the units of each layer in boxes, from left to right."""
    rows: list[list[_Box]] = [[] for _ in range(dag.n_layers)]
    for unit in np.lexsort((place, dag.layer)).tolist():
        layer, module = int(dag.layer[unit]), int(labels[unit])
        if not rows[layer] or rows[layer][-1].module != module:
            rows[layer].append(_Box(layer=layer, module=module, units=[], text=texts[module]))
        rows[layer][-1].units.append(unit)
    return rows


def _packed(row: Sequence[_Box]) -> list[float]:
    """How far the left sides of boxes are from that of the first, and at last the width of the row."""
    *ends, last = itertools.accumulate((box.width + box.gap for box in row), initial=0.0)
    return [*ends, last - (row[-1].gap if row else 0)]


def _left(width: float) -> float:
    """Leave room for the names of the layers, where there is some."""
    return _LEFT if width > 2.5 else _EDGE


def _figure_width(rows: Sequence[Sequence[_Box]]) -> float:
    return float(np.clip(_LEFT + max(_packed(row)[-1] for row in rows) + 2 * _EDGE, *_WIDTHS))


def _arrange(
    dag: LayeredDAG, rows: Sequence[Sequence[_Box]], names: Sequence[str], *, width: float, height: float | None
) -> tuple[float, list[int | None]]:
    """Place the boxes; returns the height (if None: what it takes) and how names at both ends turn (None: no room)."""
    left, right = _left(width), width - 2 * _EDGE
    step = max(0.75 * (height or _TALLEST) - 4 * _EDGE, 0.1) / dag.n_layers  # at least, beside names and margins
    for row in rows:
        slots = _GAP * (len(row) - 1) + sum(len(box.units) + 2 * _PAD for box in row)
        apart = min(_EDGE, 0.2 * (right - left) / max(len(row), 1))  # where a pitch is next to nothing
        for size in sorted({0, *(len(box.units) for box in row)}):
            for box in row:  # texts give way, those of the smallest boxes first
                box.text = box.text if len(box.units) > size and step > 0.21 else ""
            texts = sum(box.text_width for box in row)
            pitch = (right - left - texts - apart * (len(row) - 1)) / slots
            if pitch >= _TIGHT or texts < 0.15 * (right - left):
                break
        for box in row:
            box.pitch = min(_PITCH, pitch, 0.62 * step)
            box.gap = _GAP * box.pitch + apart
        *at, total = _packed(row)
        for box, x in zip(row, at, strict=True):
            box.left = (left + right - total) / 2 + x
    angles: list[int | None] = []
    margins = []
    for row in (rows[0], rows[-1]):
        wide = np.array([_text_width(names[unit], _NAME) for box in row for unit in box.units])
        gaps = np.diff([x for box in row for x in box.xs])  # boxes will only move apart
        flat = (gaps > (wide[1:] + wide[:-1]) / 2 + 0.05).all()
        reach = 0.13 if flat else float(wide.max())
        fits = (flat or gaps.min() > 0.12) and (height is None or reach < height / 8)
        angles.append((0 if flat else 90) if fits else None)
        margins.append(reach * fits + max((box.height / 2 for box in row), default=0) + 2 * _EDGE)
    if height is None:
        height = min(sum(margins) + float(np.clip(0.17 * width, *_STEPS)) * (dag.n_layers - 1), _TALLEST)
    for row, y in zip(rows, np.linspace(margins[0], height - margins[1], dag.n_layers).tolist(), strict=True):
        for box in row:
            box.y = y
    _align(dag, rows, span=(left, right))
    return height, angles


def _align(dag: LayeredDAG, rows: Sequence[Sequence[_Box]], *, span: tuple[float, float]) -> None:
    """Move boxes sideways, in their order, towards the units that theirs are joined with (least squares)."""
    from sklearn.isotonic import isotonic_regression

    one, two = np.concatenate([dag.edges, dag.edges[:, ::-1]]).T
    degree, x = np.bincount(one, minlength=dag.n_units), np.empty(dag.n_units)
    for box in itertools.chain(*rows):
        x[box.units] = box.xs
    for row in 3 * [row for row in [*rows, *rows[::-1]] if row]:
        pull = np.bincount(one, x[two] - x[one], minlength=dag.n_units)
        weight = np.array([degree[box.units].sum() + 0.01 for box in row])
        wanted = [box.left for box in row] + np.array([pull[box.units].sum() for box in row]) / weight
        *at, total = _packed(row)
        ends = {"y_min": span[0], "y_max": max(span[0], span[1] - total)}
        for box, left in zip(row, isotonic_regression(wanted - at, sample_weight=weight, **ends) + at, strict=True):
            box.left = float(left)
            x[box.units] = box.xs


def _edge_lines(dag: LayeredDAG, rows: Sequence[Sequence[_Box]], xy: FloatArray) -> list[FloatArray]:
    """Bend each edge so that it leaves and arrives upright; in layers it skips it passes the nearest free place."""
    t = np.linspace(0, 1, 15)[:, None]
    bend = np.hstack([t * t * (3 - 2 * t), t])
    lines = []
    for source, target in dag.edges.tolist():
        points = [xy[source]]
        for row in filter(None, rows[dag.layer[source] + 1 : dag.layer[target]]):
            x, y = xy[source] + (row[0].y - xy[source, 1]) / (xy[target, 1] - xy[source, 1]) * (xy[target] - xy[source])
            aside = row[0].gap / 3
            for low, high in ((box.left - aside, box.left + box.width + aside) for box in row):
                if low < x < high:
                    x = low if x - low < high - x else high
                    break
            points.append(np.array([x, y]))
        parts = [start + bend * (end - start) for start, end in itertools.pairwise([*points, xy[target]])]
        lines.append(np.concatenate(parts))
    return lines


@lru_cache(maxsize=4096)
def _text_width(text: str, size: int, *, bold: bool = False) -> float:
    """Width of one line of text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72
