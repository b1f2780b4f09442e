"""Where a layered drawing has its units: names, colours, order, places. `draw` and `report` put the ink.

Two steps: the order of the units in each layer (`order`), and where that is in inches (`arrange`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

import numpy as np

from modgraph.arrays import FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.functions import FunctionGraph
from modgraph.modules import ModuleHierarchy
from modgraph.score import score

_OKABE_ITO: Final = ("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "4D4D4D")
_SWEEPS: Final = 12  # over all layers, from each end
# Inches. From unit to unit: at most, and what the texts of a row give way to; a figure; row to row; margins.
_PITCH, _TIGHT, _NARROWEST, WIDEST, _TALLEST, _STEPS, _LEFT, EDGE = 0.34, 0.1, 3.2, 11.0, 12.0, (0.8, 1.5), 0.66, 0.08
_IMAGE: Final = 2.8  # that an image is high, at most; where the height is given, a share of it
_IMAGE_SHARE: Final = 0.4
_WITH_IMAGE: Final = 0.8  # height : width of a figure with an image, about
_GAP, PAD, DOT = 0.65, 0.25, 0.64  # pitches: between boxes (and an EDGE), within them, across a unit


def colours(n: int) -> FloatArray:
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


def module_names(found: ModuleHierarchy, target: FunctionGraph | None, given: Sequence[str] | None = None) -> list[str]:
    """Name modules after the sub-function they match, with ``?`` where they are not quite alike, else by their id.

    Names `given` as `names` replace all that.
    """
    if given is not None and len(given) != found.n_modules:
        raise ValueError(f"`names` must be {found.n_modules} texts, one a module (got {len(given)})")
    names = [f"#{module}" for module in range(found.n_modules)]
    for match in score(found, target).matching if target is not None else ():
        if match.similarity > 0:
            names[match.module] = match.sub_function + "?" * (match.similarity < 1)
    return names if given is None else list(given)


def unit_names(dag: LayeredDAG, target: FunctionGraph | None) -> dict[int, str]:
    """Names of inputs and outputs, by unit: those of the target, of the graph, or x0, x1, … and y0, y1, …."""
    names = {}
    for sign, level, told in (("x", 0, target and target.inputs), ("y", -1, target and target.outputs)):
        start = int(dag.layer_starts[:-1][level])
        for at in range(dag.layer_sizes[level]):
            name = "" if dag.unit_names is None else str(dag.unit_names[start + at])
            numbered = not name or name.endswith(f".{at}")  # as readers of files number units: "layers.0.3"
            names[start + at] = told[at] if told else f"{sign}{at}" if numbered else name
    return names


# --- Images: inputs that are pixels -----------------------------------------------------------------------------------


def check_image_shape(dag: LayeredDAG, image_shape: tuple[int, int]) -> None:
    """Refuse a shape of another number of pixels than the network has inputs."""
    n_inputs = dag.layer_sizes[0]
    if len(image_shape) != 2 or min(image_shape) < 1 or image_shape[0] * image_shape[1] != n_inputs:
        got = f"got {tuple(image_shape)} for {n_inputs}"
        raise ValueError(f"`image_shape` must have as many pixels as the network has inputs ({got})")


def gathered(dag: LayeredDAG, labels: IntArray, along: IntArray) -> tuple[LayeredDAG, IntArray, IntArray, IntArray]:
    """Make one unit of all inputs of a module, so that an image is not a thousand dots and ten thousand lines.

    Parameters
    ----------
    dag : LayeredDAG
    labels : ndarray of int, shape (n_units,)
    along : ndarray of int, shape (n_inputs,)
        The new units are sorted by the mean of this over their inputs.

    Returns
    -------
    dag : LayeredDAG
    labels : ndarray of int, shape (n_units,)
        Of this graph, as the others.
    n_inputs : ndarray of int, shape (n_inputs,)
        How many inputs each input stands for.
    n_edges : ndarray of int, shape (n_edges,)
        How many edges each edge stands for.
    """
    split = dag.layer_sizes[0]
    modules, member, n_inputs = np.unique(labels[:split], return_inverse=True, return_counts=True)
    by_place = np.argsort(np.bincount(member, along, minlength=len(modules)) / n_inputs, kind="stable")
    unit = np.concatenate([np.argsort(by_place)[member], len(modules) + np.arange(dag.n_units - split)])
    (sources, targets), n_edges = np.unique(unit[dag.edges.T], axis=1, return_counts=True)
    layer = np.concatenate([np.zeros(len(modules), dtype=np.int64), dag.layer[split:]])
    small = LayeredDAG(
        sources=sources,
        targets=targets,
        layer=layer,
        unit_index=np.arange(layer.size),
        n_layers=dag.n_layers,
        dense_edges=dag.dense_edges,
    )
    return small, np.concatenate([modules[by_place], labels[split:]]), n_inputs[by_place], n_edges


def image_size(
    image_shape: tuple[int, int] | None, *, width: float = WIDEST, height: float | None = None
) -> tuple[float, float]:
    """Width and height in inches of an image on a page of this size; 0 without one."""
    if image_shape is None:
        return 0.0, 0.0
    high = _IMAGE if height is None else _IMAGE_SHARE * height
    wide = width - 2 * (_LEFT if names_layers(width) else EDGE)
    pixel = min(_PITCH, high / image_shape[0], wide / image_shape[1])
    return pixel * image_shape[1], pixel * image_shape[0]


# --- Order: the place of each unit in its layer -----------------------------------------------------------------------


def order(dag: LayeredDAG, labels: IntArray) -> IntArray:
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
    by_source = np.lexsort((place[dag.targets], place[dag.sources], between))
    # Larger numbers for later pairs of layers, so that these add no inversions.
    return _inversions((between * (place.max() + 1) + place[dag.targets])[by_source])


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


@dataclass(slots=True, eq=False)
class Box:
    """The units of one module in one layer, from left to right; `arrange` says where."""

    layer: int
    module: int
    _: KW_ONLY
    text: str
    text_width: float  # 0 where there is none
    units: list[int] = field(default_factory=list)
    pitch: float = _PITCH
    gap: float = _GAP * _PITCH + EDGE  # to the next box
    left: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Text and units."""
        return self.text_width + (len(self.units) + 2 * PAD) * self.pitch

    @property
    def height(self) -> float:
        """Of its units and its text, whichever is larger."""
        return max(1.25 * self.pitch, 0.19 if self.text else 0)

    @property
    def xs(self) -> FloatArray:
        """Where its units stand."""
        steps: FloatArray = np.arange(len(self.units), dtype=np.float64) + 0.5 + PAD
        return self.left + self.text_width + steps * self.pitch


def boxes(
    dag: LayeredDAG, labels: IntArray, place: IntArray, texts: Sequence[str], text_widths: Sequence[float]
) -> list[list[Box]]:
    """Put the units of each layer in boxes, from left to right, with the text of their module."""
    rows: list[list[Box]] = [[] for _ in range(dag.n_layers)]
    for unit in np.lexsort((place, dag.layer)).tolist():
        layer, module = int(dag.layer[unit]), int(labels[unit])
        if not rows[layer] or rows[layer][-1].module != module:
            rows[layer].append(Box(layer, module, text=texts[module], text_width=text_widths[module]))
        rows[layer][-1].units.append(unit)
    return rows


def _packed(row: Sequence[Box]) -> list[float]:
    """How far the left sides of boxes are from that of the first, and at last the width of the row."""
    *ends, last = itertools.accumulate((box.width + box.gap for box in row), initial=0.0)
    return [*ends, last - (row[-1].gap if row else 0)]


def names_layers(width: float) -> bool:
    """Whether there is room for the names of the layers."""
    return width > 2.5


def figure_width(rows: Sequence[Sequence[Box]], *, image: float = 0.0, widest: float = WIDEST) -> float:
    """Add up what the rows take, or an image of this width, within what a page can hold."""
    needed = max(_LEFT + max(_packed(row)[-1] for row in rows) + 2 * EDGE, image + 2 * _LEFT)
    return float(np.clip(needed, _NARROWEST, widest))


def arrange(
    dag: LayeredDAG,
    rows: Sequence[Sequence[Box]],
    name_widths: FloatArray,
    *,
    width: float,
    height: float | None,
    below: float = 0.0,
) -> tuple[float, list[int | None]]:
    """Place the boxes, with so much room `below` them.

    Returns the height of it all (if None: what it takes) and how names at both ends turn (None: no room).
    """
    height = None if height is None else height - below
    left, right = _LEFT if names_layers(width) else EDGE, width - 2 * EDGE
    step = max(0.75 * (height or _TALLEST) - 4 * EDGE, 0.1) / dag.n_layers  # at least, beside names and margins
    for row in rows:
        slots = _GAP * (len(row) - 1) + sum(len(box.units) + 2 * PAD for box in row)
        apart = min(EDGE, 0.2 * (right - left) / max(len(row), 1))  # where a pitch is next to nothing
        for size in sorted({0, *(len(box.units) for box in row)}):
            for box in row:  # texts give way, those of the smallest boxes first
                if len(box.units) <= size or step <= 0.21:
                    box.text, box.text_width = "", 0.0
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
        wide = name_widths[[unit for box in row for unit in box.units]]
        gaps = np.diff([x for box in row for x in box.xs])  # boxes will only move apart
        flat = (gaps > (wide[1:] + wide[:-1]) / 2 + 0.05).all()
        reach = 0.13 if flat else float(wide.max())
        fits = (flat or gaps.min() > 0.12) and (height is None or reach < height / 5)
        angles.append((0 if flat else 90) if fits else None)
        margins.append(reach * fits + max((box.height / 2 for box in row), default=0) + 2 * EDGE)
    if height is None:
        step = (_WITH_IMAGE * width - below) / dag.n_layers if below else 0.17 * width
        height = min(sum(margins) + float(np.clip(step, *_STEPS)) * (dag.n_layers - 1), _TALLEST)
    for row, y in zip(rows, np.linspace(margins[0], height - margins[1], dag.n_layers).tolist(), strict=True):
        for box in row:
            box.y = below + y
    _align(dag, rows, span=(left, right))
    return below + height, angles


def _align(dag: LayeredDAG, rows: Sequence[Sequence[Box]], *, span: tuple[float, float]) -> None:
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


def places(dag: LayeredDAG, rows: Sequence[Sequence[Box]]) -> tuple[FloatArray, FloatArray]:
    """Where each unit is, shape (n_units, 2), and the pitch of its box."""
    xy, pitch = np.empty((dag.n_units, 2)), np.empty(dag.n_units)
    for box in itertools.chain(*rows):
        xy[box.units, 0], xy[box.units, 1], pitch[box.units] = box.xs, box.y, box.pitch
    return xy, pitch


def bands(rows: Sequence[Sequence[Box]]) -> Iterator[tuple[int, list[tuple[float, float]]]]:
    """Join the boxes of a module in layers next to each other.

    Gives the module and eight points: a start, a cubic curve (three points), a line, and a cubic curve.
    """
    for low, high in itertools.chain(*(itertools.product(*pair) for pair in itertools.pairwise(rows))):
        if low.module == high.module:
            mid, right, above = (low.y + high.y) / 2, low.left + low.width, high.left + high.width
            corners = [(low.left, low.y), (low.left, mid), (high.left, mid), (high.left, high.y)]
            yield low.module, [*corners, (above, high.y), (above, mid), (right, mid), (right, low.y)]


def waypoints(dag: LayeredDAG, rows: Sequence[Sequence[Box]], xy: FloatArray) -> list[FloatArray]:
    """Both ends of each edge, and between them the nearest free place in every layer that it skips."""
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
    """Let the lines that leave a box of one unit begin all along its upper side, in the order of where they lead."""
    for box in row:
        leaving = sorted(np.flatnonzero(dag.sources == box.units[0]).tolist(), key=lambda edge: lines[edge][1][0])
        for edge, share in zip(leaving, (np.arange(len(leaving)) + 0.5) / max(len(leaving), 1), strict=True):
            lines[edge][0] = box.left + share * box.width, box.y + box.height / 2
