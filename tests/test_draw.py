from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules
from modgraph.arrays import FloatArray, IntArray
from modgraph.draw import draw
from modgraph.functions import published
from modgraph.layout import _crossings, _inversions, _sorted, _structural_rank, order
from modgraph.marks import colours
from tests.networks import needs_published, published_dag, published_index
from tests.strategies import dags, permuted


def labelled(dag: LayeredDAG, labels: Sequence[int] | IntArray) -> ModuleHierarchy:
    """The hierarchy with the given labels, renumbered without gaps, −1 where trimming removes the unit."""
    result = np.full(dag.n_units, -1)
    kept = dag.on_path()
    result[kept] = np.unique(np.asarray(labels)[kept], return_inverse=True)[1]
    return ModuleHierarchy(dag=dag, labels=result, cluster_labels=result)


def planted(sizes: Sequence[int], n_modules: int, *, degree: float, rewired: float = 0.1) -> ModuleHierarchy:
    """A network of separate modules, in shuffled layers, with a share of the edges led elsewhere."""
    rng = np.random.default_rng(0)
    module = np.concatenate([rng.permutation(np.arange(size) % n_modules) for size in sizes])
    layer = np.repeat(np.arange(len(sizes)), sizes)
    pairs = np.argwhere((layer[:, None] == layer - 1) & (module[:, None] == module))
    pairs = pairs[rng.random(len(pairs)) < degree * n_modules / max(sizes)]
    for edge in np.flatnonzero(rng.random(len(pairs)) < rewired):
        pairs[edge, 1] = rng.choice(np.flatnonzero(layer == layer[pairs[edge, 1]]))
    return labelled(LayeredDAG.from_edges(pairs, layer=layer), module)


BIG = planted([84] * 6, 4, degree=12)
SKIPPING = LayeredDAG.from_edges(
    [[0, 3], [1, 4], [2, 5], [3, 6], [4, 7], [5, 8], [6, 9], [7, 10], [8, 10], [0, 9], [2, 7], [1, 10]],
    layer=[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3],
)
HIERARCHIES = {
    "separable": detect_modules(LayeredDAG.from_masks(2 * [np.kron(np.eye(2), np.ones((2, 2)))])),
    "trimmed": detect_modules(LayeredDAG.from_masks([[[1, 1, 0], [0, 0, 1], [0, 0, 0]], [[1, 0, 1], [1, 0, 1]]])),
    "skipping": labelled(SKIPPING, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]),
    "skipping everything": detect_modules(LayeredDAG.from_edges([[0, 3], [1, 3]], layer=[0, 0, 1, 2])),
    "one unit a layer": detect_modules(LayeredDAG.from_masks(5 * [[[1]]])),
    "nothing left": detect_modules(LayeredDAG.from_masks([np.zeros((3, 2)), np.ones((4, 3))])),
    "many modules": labelled(BIG.dag, np.arange(BIG.dag.n_units) % 37),
    "big": BIG,
}


def artists(ax: Axes) -> tuple[FloatArray, list[FloatArray], dict[tuple[int, int], FancyBboxPatch]]:
    """Where the units are, the edges as lines, and the boxes by (module, layer)."""
    (units,) = [a for a in ax.collections if isinstance(a, EllipseCollection)]
    (edges,) = [a for a in ax.collections if isinstance(a, LineCollection)]
    boxes: dict[tuple[int, int], FancyBboxPatch] = {}
    for patch in ax.patches:
        if isinstance(patch, FancyBboxPatch):
            _, module, layer = str(patch.get_gid()).split("-")
            assert (int(module), int(layer)) not in boxes
            boxes[int(module), int(layer)] = patch
    return np.asarray(units.get_offsets()), [np.asarray(line) for line in edges.get_segments()], boxes


def sides(box: FancyBboxPatch) -> tuple[float, float, float, float]:
    return box.get_x(), box.get_y(), box.get_x() + box.get_width(), box.get_y() + box.get_height()


def grouped(dag: LayeredDAG, labels: IntArray) -> IntArray:
    return np.unique(dag.layer * (labels.max() + 1) + labels, return_inverse=True)[1]


def kept_graph(found: ModuleHierarchy) -> tuple[LayeredDAG, IntArray]:
    kept = found.labels >= 0
    return found.dag.subgraph(kept), found.labels[kept]


def check_drawing(found: ModuleHierarchy, ax: Axes) -> None:
    dag, labels = kept_graph(found)
    xy, lines, boxes = artists(ax)
    assert len(xy) == dag.n_units == len(np.unique(xy.round(6), axis=0))
    rows = [np.unique(xy[dag.layer == level, 1].round(6)) for level in range(dag.n_layers)]
    assert all(len(row) <= 1 for row in rows)
    assert (np.diff(np.concatenate(rows)) > 0).all()
    # every edge once
    ends = [(tuple(line[0].round(6)), tuple(line[-1].round(6))) for line in lines]
    assert sorted(ends) == sorted((tuple(xy[a].round(6)), tuple(xy[b].round(6))) for a, b in dag.edges.tolist())
    # boxes hold their units and no others, and lie inside the picture without overlap
    assert set(boxes) == set(zip(labels.tolist(), dag.layer.tolist(), strict=True))
    for (module, level), box in boxes.items():
        left, bottom, right, top = sides(box)
        inside = (xy > [left, bottom]).all(axis=1) & (xy < [right, top]).all(axis=1)
        assert np.array_equal(inside, (labels == module) & (dag.layer == level))
        assert ax.get_xlim()[0] <= left < right <= ax.get_xlim()[1]
        assert ax.get_ylim()[0] <= bottom < top <= ax.get_ylim()[1]
    for level in range(dag.n_layers):
        row = sorted(sides(box) for (_, at), box in boxes.items() if at == level)
        assert all(one[2] < two[0] for one, two in itertools.pairwise(row))
    spans = [[sides(box)[1::2] for (_, at), box in boxes.items() if at == level] for level in range(dag.n_layers)]
    for lower, upper in itertools.pairwise([span for span in spans if span]):
        assert max(top for _, top in lower) < min(bottom for bottom, _ in upper)


@pytest.mark.parametrize("name", HIERARCHIES)
def test_every_unit_edge_and_module_is_drawn_once(name: str) -> None:
    found = HIERARCHIES[name]
    before = [a.copy() for a in (found.labels, found.dag.sources, found.dag.targets, found.dag.layer)]
    parameters = dict(matplotlib.rcParams)
    ax = draw(found)
    check_drawing(found, ax)
    ax.figure.canvas.draw()
    assert parameters == dict(matplotlib.rcParams)
    after = (found.labels, found.dag.sources, found.dag.targets, found.dag.layer)
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


@settings(max_examples=40)
@given(dags(), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_any_labels_can_be_drawn(dag: LayeredDAG, seed: int, n_modules: int) -> None:
    found = labelled(dag, np.random.default_rng(seed).integers(n_modules, size=dag.n_units))
    check_drawing(found, draw(found))


@pytest.mark.parametrize("name", HIERARCHIES)
@pytest.mark.parametrize("size", [(1.6, 1.6), (4, 2), (12, 9)])
def test_given_axes_are_used(name: str, size: tuple[float, float]) -> None:
    figure = Figure(figsize=size)
    left, right = figure.subplots(1, 2)
    assert draw(HIERARCHIES[name], ax=right) is right
    assert not left.patches
    assert not left.collections
    check_drawing(HIERARCHIES[name], right)


@pytest.mark.parametrize("name", HIERARCHIES)
def test_texts_do_not_overlap_and_are_inside_the_figure(name: str) -> None:
    ax = draw(HIERARCHIES[name])
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in [*ax.texts, ax.title]]
    for one, two in itertools.combinations(extents, 2):
        assert one.x1 <= two.x0 or two.x1 <= one.x0 or one.y1 <= two.y0 or two.y1 <= one.y0
    for extent in extents:
        assert figure.bbox.x0 <= extent.x0 < extent.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= extent.y0 < extent.y1 <= figure.bbox.y1


def test_a_module_has_one_colour_and_a_label_at_each_box() -> None:
    found = HIERARCHIES["separable"]
    ax = draw(found)
    _, labels = kept_graph(found)
    _, _, boxes = artists(ax)
    (units,) = [a for a in ax.collections if isinstance(a, EllipseCollection)]
    (edges,) = [a for a in ax.collections if isinstance(a, LineCollection)]
    face = np.asarray(units.get_facecolor())[:, :3]
    of_module = {module: {tuple(face[unit]) for unit in np.flatnonzero(labels == module)} for module in (0, 1)}
    assert [len(colours) for colours in of_module.values()] == [1, 1]
    assert of_module[0] != of_module[1]
    for (module, _), box in boxes.items():
        assert {to_rgb(box.get_edgecolor())} == of_module[module]
        left, bottom, right, top = sides(box)
        inside = [t for t in ax.texts if left < t.get_position()[0] < right and bottom < t.get_position()[1] < top]
        assert [t.get_text() for t in inside] == [f"#{module}"]
    assert np.array_equal(np.asarray(edges.get_edgecolor())[:, :3], face[found.dag.sources])
    assert len([patch for patch in ax.patches if patch.get_gid() == "band"]) == 4  # 2 modules over 3 layers


@pytest.mark.parametrize("n", [1, 8, 9, 40, 500])
def test_colours_differ(n: int) -> None:
    rgb = colours(n)
    assert rgb.shape == (n, 3)
    assert ((rgb >= 0) & (rgb <= 1)).all()
    assert len(np.unique((rgb * 255).round(), axis=0)) == n
    assert (np.abs(np.diff(rgb, axis=0)).max(axis=1, initial=0) > 0.2).all()


def test_title_has_sizes_density_and_modules() -> None:
    assert draw(HIERARCHIES["separable"]).get_title() == "4–4–4 · density 50 % · 2 modules"
    assert draw(HIERARCHIES["one unit a layer"]).get_title() == "1–1–1–1–1–1 · density 100 % · 1 module"
    assert draw(HIERARCHIES["skipping everything"]).get_title() == "2–0–1 · density 40 % · 1 module"
    narrow = Figure(figsize=(2, 2)).add_axes((0, 0, 1, 0.8))
    assert draw(HIERARCHIES["separable"], ax=narrow).get_title() == "4–4–4\ndensity 50 % · 2 modules"


def test_names_of_the_target_appear() -> None:
    ax = draw(HIERARCHIES["separable"], target=published("separable"))
    texts = sorted(text.get_text() for text in ax.texts)
    inputs, outputs = ["x0", "x1", "x2", "x3"], ["P", "~P", "Q", "~Q"]
    assert texts == sorted([*inputs, *outputs, *3 * ["P", "Q"], "inputs", "layer 1", "outputs"])
    # A name stands over its own unit.
    xy, _, _ = artists(ax)
    for number, name in enumerate(inputs):
        (text,) = [t for t in ax.texts if t.get_text() == name]
        assert text.get_position()[0] == pytest.approx(xy[number, 0])


def test_names_of_the_graph_and_of_the_modules_appear() -> None:
    names = ["left", "right", "hidden.0", "hidden.1", "out.0", "sum"]
    layers = ["in", "middle", "a layer with a long name"]
    halves = detect_modules(LayeredDAG.from_masks([np.eye(2), np.eye(2)], unit_names=names, layer_names=layers))
    shown = {text.get_text() for text in draw(halves, names=["one", "two"]).texts}
    assert shown == {"left", "right", "out.0", "sum", "one", "two", "in", "middle", "a layer wi…"}
    with pytest.raises(ValueError, match=r"`names` must be 2 texts, one for each module \(got 1\)"):
        draw(halves, names=["one"])


def test_a_doubtful_match_is_marked_and_modules_without_one_keep_their_id() -> None:
    dag = LayeredDAG.from_masks([np.ones((2, 4)), np.ones((4, 2))])
    found = labelled(dag, [0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    texts = {text.get_text() for text in draw(found, target=published("separable")).texts}
    assert any(text.endswith("?") for text in texts)
    assert any(text.startswith("#") for text in texts)


def test_a_target_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="`target` must have the 4 inputs of the network"):
        draw(HIERARCHIES["separable"], target=published("separable_reused"))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="`draw` needs matplotlib: pip install "):
        draw(HIERARCHIES["separable"])


def test_drawing_needs_no_pyplot_and_importing_no_matplotlib() -> None:
    code = """
import json, sys
from modgraph import LayeredDAG, detect_modules
from modgraph.draw import draw
before = "matplotlib" in sys.modules
draw(detect_modules(LayeredDAG.from_masks([[[1]]]))).figure.savefig("/dev/null", format="png")
print(json.dumps([before, "matplotlib.pyplot" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, False]


# --- order ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), max_size=30))
def test_inversions_equal_those_counted_pair_by_pair(values: list[int]) -> None:
    expected = sum(one > two for one, two in itertools.combinations(values, 2))
    assert _inversions(np.array(values, dtype=np.int64)) == expected


@given(dags(), st.integers(0, 2**32 - 1))
def test_crossings_equal_those_counted_pair_by_pair(dag: LayeredDAG, seed: int) -> None:
    place = permuted(dag, np.random.default_rng(seed))[1] - dag.layer_starts[dag.layer]
    expected = 0
    for (a, b), (c, d) in itertools.combinations(dag.edges.tolist(), 2):
        same = dag.layer[a] == dag.layer[c] and dag.layer[b] == dag.layer[d]
        expected += bool(same and (place[a] - place[c]) * (place[b] - place[d]) < 0)
    assert _crossings(dag, place) == expected


@given(dags(), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_order_keeps_groups_together_and_is_never_worse_than_its_start(
    dag: LayeredDAG, seed: int, n_modules: int
) -> None:
    dag, labels = kept_graph(labelled(dag, np.random.default_rng(seed).integers(n_modules, size=dag.n_units)))
    place = order(dag, labels)
    for level in range(dag.n_layers):
        row = np.flatnonzero(dag.layer == level)
        assert sorted(place[row]) == list(range(len(row)))
        in_order = labels[row[np.argsort(place[row])]]
        assert len(list(itertools.groupby(in_order))) == len(set(in_order.tolist()))
    equal = np.zeros(dag.n_units)
    start = _sorted(dag, grouped(dag, labels), _structural_rank(dag), equal, equal)
    assert _crossings(dag, place) <= _crossings(dag, start)


@settings(max_examples=30)
@given(dags(), st.integers(0, 2**32 - 1))
def test_the_picture_does_not_depend_on_the_order_of_hidden_units(dag: LayeredDAG, seed: int) -> None:
    other, place = permuted(dag, np.random.default_rng(seed), hidden_only=True)
    one, two = detect_modules(dag), detect_modules(other)
    ends = []
    for found in (one, two):
        _, lines, _ = artists(draw(found))
        ends.append(sorted(tuple(np.concatenate([line[0], line[-1]]).round(6).tolist()) for line in lines))
    assert ends[0] == ends[1]
    assert np.array_equal(np.sort(place), np.arange(dag.n_units))


def test_a_planar_network_is_drawn_without_crossings() -> None:
    rng = np.random.default_rng(0)
    tree = LayeredDAG.from_edges(
        [*((leaf, 27 + leaf // 3) for leaf in range(27)), *((27 + node, 36 + node // 3) for node in range(9)),
         *((36 + node, 39) for node in range(3))],
        layer=np.repeat([0, 1, 2, 3], [27, 9, 3, 1]),
    )  # fmt: skip
    shuffled, _ = permuted(tree, rng)
    assert _crossings(shuffled, order(shuffled, np.zeros(40, dtype=np.int64))) == 0
    assert _crossings(shuffled, np.arange(40) - shuffled.layer_starts[shuffled.layer]) > 0


@needs_published
def test_published_networks_have_fewer_crossings_than_in_the_order_given() -> None:
    before = after = 0
    for entry in published_index()[::60]:
        found = detect_modules(published_dag(entry), hops=entry["hops"])
        dag, labels = kept_graph(found)
        equal = np.zeros(dag.n_units)
        given_order = _sorted(dag, grouped(dag, labels), np.arange(dag.n_units), equal, equal)
        crossings = _crossings(dag, given_order), _crossings(dag, order(dag, labels))
        assert crossings[1] <= crossings[0]
        before, after = before + crossings[0], after + crossings[1]
        check_drawing(found, draw(found, target=published(entry["function"])))
    assert after < 0.8 * before
