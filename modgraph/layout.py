"""Layered drawings: the order of the units in each layer (`order`) and their places in inches (`arrange`).

`draw`, `pixels` and `report` share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.labels import refined

LONGEST_LAYER: Final = 11  # characters of a layer's name that the margin has room for
_SWEEPS: Final = 12  # sweeps over all layers, starting from each end

# Lengths in inches.
MAX_WIDTH: Final = 11.0  # of a figure
_MIN_WIDTH: Final = 3.2  # of a figure
_MAX_HEIGHT: Final = 12.0  # of a figure
_MAX_PITCH: Final = 0.34  # distance between neighbouring units of a box
_MIN_PITCH: Final = 0.1  # the texts of a row are left out before its units come closer than this
_LAYER_STEP: Final = (0.8, 1.5)  # smallest and largest distance between layers
_LEFT: Final = 0.66  # margin for the names of the layers
EDGE: Final = 0.08  # other margins
_IMAGE_HEIGHT: Final = 2.8  # maximum height of an image
_IMAGE_SHARE: Final = 0.4  # maximum height of an image, as a share of a given figure height
_IMAGE_FIGURE: Final = 0.8  # height / width of a figure with an image, about

# Lengths in pitches.
_GAP: Final = 0.65  # distance between boxes (and EDGE)
PAD: Final = 0.25  # padding within a box
DOT: Final = 0.64  # diameter of a unit


# --- Images: networks whose inputs are pixels -------------------------------------------------------------------------


def check_image_shape(dag: LayeredDAG, image_shape: tuple[int, int]) -> None:
    """Raise an error unless `image_shape` has as many pixels as the network has inputs."""
    n_inputs = dag.layer_sizes[0]
    if len(image_shape) != 2 or min(image_shape) < 1 or image_shape[0] * image_shape[1] != n_inputs:
        got = f"got {tuple(image_shape)} for {n_inputs}"
        raise ValueError(f"`image_shape` must have as many pixels as the network has inputs ({got})")


def pixel_middles(numbers: IntArray, image_shape: tuple[int, int]) -> FloatArray:
    """Return the middles of pixels, numbered row by row from the top, in pixels from the lower left; (n, 2)."""
    down, along = np.divmod(numbers, image_shape[1])
    middles: FloatArray = np.column_stack([along, image_shape[0] - 1 - down]) + 0.5
    return middles


def opacity(n_edges: int) -> float:
    """Return the opacity of edges: many edges are paler."""
    return float(np.clip(11 / np.sqrt(max(n_edges, 1)), 0.2, 0.8))


def layered(ends: IntArray, layer: IntArray, *, n_layers: int) -> LayeredDAG:
    """Return the graph of sorted edges, `ends` (2, n_edges); layers may be empty."""
    return LayeredDAG(
        sources=ends[0],
        targets=ends[1],
        layer=layer,
        unit_index=np.arange(layer.size),
        n_layers=n_layers,
        dense_edges=max(ends.shape[1], 1),
    )


def merge_inputs(dag: LayeredDAG, labels: IntArray, along: IntArray) -> tuple[LayeredDAG, IntArray, IntArray, IntArray]:
    """Replace all inputs of a module by one unit, so that an image needs few dots and lines.

    The new inputs are sorted by the mean of `along` (n_inputs,) over those they replace. Returns the smaller graph, its
    labels, and how many inputs each of its inputs, and how many edges each of its edges replaces.
    """
    n_old = dag.layer_sizes[0]
    modules, member, n_inputs = np.unique(labels[:n_old], return_inverse=True, return_counts=True)
    by_place = np.argsort(np.bincount(member, along, minlength=len(modules)) / n_inputs, kind="stable")
    unit = np.concatenate([np.argsort(by_place)[member], len(modules) + np.arange(dag.n_units - n_old)])
    ends, n_edges = np.unique(unit[dag.edges.T], axis=1, return_counts=True)
    layer = np.concatenate([np.zeros(len(modules), dtype=np.int64), dag.layer[n_old:]])
    small = layered(ends, layer, n_layers=dag.n_layers)
    return small, np.concatenate([modules[by_place], labels[n_old:]]), n_inputs[by_place], n_edges


def image_size(
    image_shape: tuple[int, int] | None, *, width: float = MAX_WIDTH, height: float | None = None
) -> tuple[float, float]:
    """Return width and height in inches of an image in a figure of this size; 0 if there is no image."""
    if image_shape is None:
        return 0.0, 0.0
    most_high = _IMAGE_HEIGHT if height is None else _IMAGE_SHARE * height
    most_wide = width - 2 * (_LEFT if names_layers(width) else EDGE)
    pixel = min(_MAX_PITCH, most_high / image_shape[0], most_wide / image_shape[1])
    return pixel * image_shape[1], pixel * image_shape[0]


# --- Order: the place of each unit in its layer -----------------------------------------------------------------------


def order(dag: LayeredDAG, labels: IntArray) -> IntArray:
    """Return the place of each unit in its layer, from 0: the units of a module are neighbours, and few edges cross.

    Sweeps up and down sort the modules of a layer, and the units of each, by the mean place of their neighbours
    (barycentres: Sugiyama, Tagawa, Toda 1981). They start from an order by structure, so that the order of hidden units
    in the network doesn't matter. The order with the fewest crossings is returned.
    """
    box = np.unique(dag.layer * (labels.max() + 1) + labels, return_inverse=True)[1]
    equal = np.zeros(dag.n_units)
    start = _sorted(dag, box, _structural_rank(dag), equal, equal)
    best, fewest = start, _crossings(dag, start)
    for upwards in (True, False):
        place = start
        for sweep in range(_SWEEPS):
            place = _sweep(dag, box, place, upwards=upwards == (sweep % 2 == 0))
            if (crossings := _crossings(dag, place)) < fewest:
                best, fewest = place, crossings
    for level in (0, dag.n_layers - 1):  # keep inputs and outputs in their own order where that adds no crossing
        unsorted = _sorted(dag, box, best, np.where(dag.layer == level, np.arange(dag.n_units), best), equal)
        best = unsorted if _crossings(dag, unsorted) <= fewest else best
    return best


def _crossings(dag: LayeredDAG, place: IntArray) -> int:
    """Count the pairs of edges between the same two layers that cross: O(E log E)."""
    between = dag.layer_pair
    by_source = np.lexsort((place[dag.targets], place[dag.sources], between))
    # Numbers grow with the pair of layers, so that edges of different pairs count as no inversion.
    return _inversions((between * (place.max() + 1) + place[dag.targets])[by_source])


def _inversions(values: IntArray) -> int:
    """Count the pairs of a value and a smaller one after it (all ≥ 0), by the highest bit in which they differ."""
    total = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        # `values` are sorted by their higher bits, and otherwise in the original order.
        higher, ones = values >> (bit + 1), (values >> bit) & 1
        before = np.concatenate([[0], np.cumsum(ones)])
        total += int((before[:-1] - before[np.searchsorted(higher, higher)])[ones == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total


def _sorted(
    dag: LayeredDAG, box: IntArray, place: IntArray, unit_key: FloatArray | IntArray, box_key: FloatArray
) -> IntArray:
    """Sort the boxes of each layer, and the units of each box, by their keys; equal keys stay in the order of `place`.

    `box` numbers the pairs of a layer and a module, shape (n_units,).
    """
    first = np.full(box.max() + 1, dag.n_units)
    np.minimum.at(first, box, place)
    result = np.empty(dag.n_units, dtype=np.int64)
    result[np.lexsort((place, unit_key, first[box], box_key, dag.layer))] = np.arange(dag.n_units)
    return result - dag.layer_starts[dag.layer]


def _sweep(dag: LayeredDAG, box: IntArray, place: IntArray, *, upwards: bool) -> IntArray:
    """Sort each layer, from one end to the other, by the mean place of the neighbours in layers already sorted."""
    ends, neighbours = (dag.targets, dag.sources) if upwards else (dag.sources, dag.targets)
    size = np.array(dag.layer_sizes)[dag.layer]
    for level in range(1, dag.n_layers) if upwards else reversed(range(dag.n_layers - 1)):
        edges = dag.layer[ends] == level
        across, means = ((place + 0.5) / size)[neighbours[edges]], []
        for number in (np.arange(dag.n_units), box):
            count = np.bincount(number[ends[edges]], minlength=dag.n_units)
            total = np.bincount(number[ends[edges]], across, minlength=dag.n_units)
            # Rounded, so that the order of summation makes no difference.
            means.append(np.round(total / np.maximum(count, 1), 9)[number])
        place = np.where(dag.layer == level, _sorted(dag, box, place, means[0], means[1]), place)
    return place


def _structural_rank(dag: LayeredDAG) -> IntArray:
    """Rank inputs and outputs in their own order, hidden units by their neighbours."""
    at_end = dag.layer % (dag.n_layers - 1) == 0
    facts = [*zip(dag.layer.tolist(), np.where(at_end, np.arange(dag.n_units), 0).tolist(), strict=True)]
    ranks = refined(facts, (dag.sources, dag.targets), (dag.targets, dag.sources))
    return np.argsort(np.argsort(ranks, kind="stable"))


# --- Places, in inches ---------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Box:
    """The units of one module in one layer, from left to right; `arrange` places it."""

    layer: int
    module: int
    _: KW_ONLY
    text: str
    text_width: float  # 0 without text
    units: list[int] = field(default_factory=list)
    pitch: float = _MAX_PITCH
    gap: float = _GAP * _MAX_PITCH + EDGE  # distance to the next box
    left: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Width of the text and the units."""
        return self.text_width + (len(self.units) + 2 * PAD) * self.pitch

    @property
    def height(self) -> float:
        """Height of the units or the text, whichever is larger."""
        return max(1.25 * self.pitch, 0.19 if self.text else 0)

    @property
    def bottom(self) -> float:
        """Height of the lower side."""
        return self.y - self.height / 2

    @property
    def text_x(self) -> float:
        """Left end of the text."""
        return self.left + PAD * self.pitch + 0.02

    @property
    def xs(self) -> FloatArray:
        """Horizontal places of the units."""
        steps: FloatArray = np.arange(len(self.units), dtype=np.float64) + 0.5 + PAD
        return self.left + self.text_width + steps * self.pitch


def boxes(
    dag: LayeredDAG, labels: IntArray, place: IntArray, texts: Sequence[str], text_widths: Sequence[float]
) -> list[list[Box]]:
    """Put the units of each layer in boxes, from left to right, labelled with the text of their module."""
    rows: list[list[Box]] = [[] for _ in range(dag.n_layers)]
    for unit in np.lexsort((place, dag.layer)).tolist():
        layer, module = int(dag.layer[unit]), int(labels[unit])
        if not rows[layer] or rows[layer][-1].module != module:
            rows[layer].append(Box(layer, module, text=texts[module], text_width=text_widths[module]))
        rows[layer][-1].units.append(unit)
    return rows


def _packed(row: Sequence[Box]) -> list[float]:
    """Return the distances of the boxes of a row from its left end, and the width of the row."""
    *ends, last = itertools.accumulate((box.width + box.gap for box in row), initial=0.0)
    return [*ends, last - (row[-1].gap if row else 0)]


def names_layers(width: float) -> bool:
    """Return whether a figure has room for the names of the layers."""
    return width > 2.5


def figure_width(rows: Sequence[Sequence[Box]], *, image: float = 0.0, widest: float = MAX_WIDTH) -> float:
    """Return the width that the rows, and an image of width `image`, need, within the bounds of a figure."""
    needed = max(_LEFT + max(_packed(row)[-1] for row in rows) + 2 * EDGE, image + 2 * _LEFT)
    return float(np.clip(needed, _MIN_WIDTH, widest))


def arrange(
    dag: LayeredDAG,
    rows: Sequence[Sequence[Box]],
    name_widths: FloatArray,
    *,
    width: float,
    height: float | None,
    below: float = 0.0,
) -> tuple[float, list[int | None]]:
    """Place the boxes in a figure of this `width` and `height` (None = the height they need), above a margin `below`.

    Returns the height, and the angles of the names of inputs and outputs: 0, 90, or None where they have no room.
    """
    height = None if height is None else height - below
    left, right = _LEFT if names_layers(width) else EDGE, width - 2 * EDGE
    step = max(0.75 * (height or _MAX_HEIGHT) - 4 * EDGE, 0.1) / dag.n_layers  # of a layer, at least, without names
    if step <= 0.21:
        _unname(itertools.chain(*rows))
    _leave_out_texts(rows, room=right - left)
    for row in rows:
        pitch, apart = _pitch(row, room=right - left)
        for box in row:
            box.pitch = min(_MAX_PITCH, pitch, 0.62 * step)
            box.gap = _GAP * box.pitch + apart
        *at, total = _packed(row)
        for box, x in zip(row, at, strict=True):
            box.left = (left + right - total) / 2 + x
    angles: list[int | None] = []
    margins = []
    for row in (rows[0], rows[-1]):
        wide = name_widths[[unit for box in row for unit in box.units]]
        gaps = np.diff([x for box in row for x in box.xs])  # boxes only move apart later
        flat = (gaps > (wide[1:] + wide[:-1]) / 2 + 0.05).all()
        reach = 0.13 if flat else float(wide.max())
        fits = (flat or gaps.min() > 0.12) and (height is None or reach < height / 5)
        angles.append((0 if flat else 90) if fits else None)
        margins.append(reach * fits + max((box.height / 2 for box in row), default=0) + 2 * EDGE)
    if height is None:
        step = (_IMAGE_FIGURE * width - below) / dag.n_layers if below else 0.17 * width
        height = min(sum(margins) + float(np.clip(step, *_LAYER_STEP)) * (dag.n_layers - 1), _MAX_HEIGHT)
    for row, y in zip(rows, np.linspace(margins[0], height - margins[1], dag.n_layers).tolist(), strict=True):
        for box in row:
            box.y = below + y
    _align(dag, rows, span=(left, right))
    return below + height, angles


def _pitch(row: Sequence[Box], *, room: float) -> tuple[float, float]:
    """Return the distance between units, and the one between boxes besides `_GAP`, that fill the `room`."""
    slots = _GAP * (len(row) - 1) + sum(len(box.units) + 2 * PAD for box in row)
    apart = min(EDGE, 0.2 * room / max(len(row), 1))  # smaller than EDGE in a row of many boxes
    return (room - sum(box.text_width for box in row) - apart * (len(row) - 1)) / slots, apart


def _fits(row: Sequence[Box], *, room: float) -> bool:
    """Return whether the texts of a row leave enough room for its units, or take little of it."""
    return _pitch(row, room=room)[0] >= _MIN_PITCH or sum(box.text_width for box in row) < 0.15 * room


def _unname(boxes: Iterable[Box]) -> None:
    for box in boxes:
        box.text, box.text_width = "", 0.0


def _leave_out_texts(rows: Sequence[Sequence[Box]], *, room: float) -> None:
    """Leave out the texts that have no room, those of small boxes first; each module keeps one, or none does."""
    texts = {box.module: (box.text, box.text_width) for box in itertools.chain(*rows) if box.text}
    for row in rows:
        for size in sorted({len(box.units) for box in row}):
            if _fits(row, room=room):
                break
            _unname(box for box in row if len(box.units) <= size)
    named = {box.module for box in itertools.chain(*rows) if box.text}
    for module in sorted(texts.keys() - named):
        places = [(row, box) for row in rows for box in row if box.module == module]
        for row, box in sorted(places, key=lambda place: -_pitch(place[0], room=room)[0]):
            box.text, box.text_width = texts[module]
            if _fits(row, room=room):
                break
            _unname([box])
        else:
            _unname(itertools.chain(*rows))
            return


def _align(dag: LayeredDAG, rows: Sequence[Sequence[Box]], *, span: tuple[float, float]) -> None:
    """Move boxes sideways, without changing their order, towards the units theirs are joined with (least squares)."""
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


def places(dag: LayeredDAG, rows: Sequence[Sequence[Box]]) -> tuple[FloatArray, FloatArray]:
    """Return the place of each unit, shape (n_units, 2), and the pitch of its box, shape (n_units,)."""
    xy, pitch = np.empty((dag.n_units, 2)), np.empty(dag.n_units)
    for box in itertools.chain(*rows):
        xy[box.units, 0], xy[box.units, 1], pitch[box.units] = box.xs, box.y, box.pitch
    return xy, pitch


def end_names(rows: Sequence[Sequence[Box]], angles: Sequence[int | None]) -> Iterator[tuple[int, float, float, int]]:
    """Yield unit, x and y of the names that `arrange` has given room, and their side: 1 = above, −1 = below."""
    for row, angle, side in ((rows[0], angles[0], -1), (rows[-1], angles[1], 1)):
        for box in row if angle is not None else ():
            for unit, x in zip(box.units, box.xs.tolist(), strict=True):
                yield unit, x, box.y + side * (box.height / 2 + EDGE / 2), side


def bands(rows: Sequence[Sequence[Box]]) -> Iterator[tuple[int, list[tuple[float, float]]]]:
    """Yield a band between every two boxes of a module in adjacent layers: the module and eight points.

    The points are a start, a cubic curve (three points), the end of a line, and a cubic curve.
    """
    for low, high in itertools.chain(*(itertools.product(*pair) for pair in itertools.pairwise(rows))):
        if low.module == high.module:
            mid, right, above = (low.y + high.y) / 2, low.left + low.width, high.left + high.width
            corners = [(low.left, low.y), (low.left, mid), (high.left, mid), (high.left, high.y)]
            yield low.module, [*corners, (above, high.y), (above, mid), (right, mid), (right, low.y)]


def waypoints(dag: LayeredDAG, rows: Sequence[Sequence[Box]], xy: FloatArray) -> list[FloatArray]:
    """Return the points of each edge: both ends, and the nearest gap between boxes in every layer that it skips."""
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
        lines.append(np.array([*points, xy[target]]))
    return lines


def fan_out(dag: LayeredDAG, row: Sequence[Box], lines: Sequence[FloatArray]) -> None:
    """Spread the starts of the lines that leave a box of one unit along its upper side, in the order of their ends."""
    for box in row:
        leaving = sorted(np.flatnonzero(dag.sources == box.units[0]).tolist(), key=lambda edge: lines[edge][1][0])
        for edge, share in zip(leaving, (np.arange(len(leaving)) + 0.5) / max(len(leaving), 1), strict=True):
            lines[edge][0] = box.left + share * box.width, box.y + box.height / 2
