"""Inputs that are pixels: as one image below a drawing, and an image for each module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, draw, draw_pixels, save_network
from modgraph.arrays import FloatArray, IntArray
from modgraph.cli import main
from modgraph.layout import merge_inputs
from modgraph.marks import colours

SHAPE = (4, 6)


def halves(*, seed: int = 0, hidden: int = 8) -> ModuleHierarchy:
    """Pixels of the left half lead to the first hidden units, those of the right half to the others; some to none."""
    rng = np.random.default_rng(seed)
    right = np.tile(np.repeat([False, True], 3), 4)
    second = np.arange(hidden) >= hidden // 2
    first = (second[:, None] == right) & (rng.random((hidden, 24)) < 0.6)
    first[:, [0, 11]] = False
    return detect_modules(LayeredDAG.from_masks([first, second == np.array([[False], [True]])]))


def labelled(n_modules: int, *, seed: int = 0) -> ModuleHierarchy:
    """Pixels of random modules, of any size; random edges."""
    rng = np.random.default_rng(seed)
    dag = LayeredDAG.from_masks([rng.random((5, 24)) < 0.4, rng.random((2, 5)) < 0.7])
    labels = np.full(dag.n_units, -1)
    kept = dag.on_path()
    labels[kept] = np.unique(rng.integers(n_modules, size=kept.sum()), return_inverse=True)[1]
    return ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels)


def image(ax: Axes) -> FloatArray:
    """The colour of each pixel by where it is seen, (rows, columns, 3)."""
    (squares,) = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    middle = np.array([np.asarray(path.vertices)[:4].mean(0) for path in squares.get_paths()])
    seen = np.lexsort((middle[:, 0].round(6), -middle[:, 1].round(6)))
    return np.asarray(squares.get_facecolor())[seen, :3].reshape(*SHAPE, 3)


def lines(ax: Axes) -> LineCollection:
    (edges,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    return edges


def out_degrees(found: ModuleHierarchy) -> IntArray:
    """Edges that leave each pixel for units that trimming kept."""
    degrees = np.zeros(found.dag.layer_sizes[0], dtype=np.int64)
    for source, target in found.dag.edges.tolist():
        if source < len(degrees) and found.labels[source] >= 0 and found.labels[target] >= 0:
            degrees[source] += 1
    return degrees


# --- Below a drawing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [halves(), labelled(9), labelled(30)], ids=["halves", "nine", "crowd"])
def test_every_pixel_has_the_colour_of_its_module(found: ModuleHierarchy) -> None:
    seen = image(draw(found, image_shape=SHAPE)).reshape(24, 3)
    labels = found.labels[:24]
    assert np.allclose(seen[labels >= 0], colours(found.n_modules)[labels[labels >= 0]])
    assert (labels < 0).any()
    assert (seen[labels < 0] > 0.9).all()


def test_the_image_lies_below_all_boxes_and_inside_the_axes() -> None:
    for ax in (draw(halves(), image_shape=SHAPE), draw(halves(), image_shape=SHAPE, ax=Figure((4, 3)).add_subplot())):
        (squares,) = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
        corners = np.concatenate([np.asarray(path.vertices) for path in squares.get_paths()])
        lowest = min(patch.get_y() for patch in ax.patches if isinstance(patch, FancyBboxPatch))
        assert corners[:, 1].max() < lowest
        assert (corners.min(0) > [ax.get_xlim()[0], ax.get_ylim()[0]]).all()
        assert corners[:, 0].max() < ax.get_xlim()[1]
        height, width = np.ptp(corners[:, 1]), np.ptp(corners[:, 0])
        assert width / height == pytest.approx(6 / 4, rel=0.05)  # square pixels


def test_a_line_stands_for_all_edges_from_a_module_to_a_unit() -> None:
    found = halves()
    drawn = lines(draw(found, image_shape=SHAPE))
    kept = [(s, t) for s, t in found.dag.edges.tolist() if found.labels[s] >= 0 and found.labels[t] >= 0]
    pairs = {(found.labels[s], t) for s, t in kept if s < 24}
    assert len(drawn.get_segments()) == len(pairs) + sum(s >= 24 for s, _ in kept)
    assert len(pairs) < sum(s < 24 for s, _ in kept)


def test_pixels_have_no_dots_and_their_boxes_say_how_many_they_are() -> None:
    found = halves()
    ax = draw(found, image_shape=SHAPE, names=["one", "two"])
    (dots,) = [artist for artist in ax.collections if isinstance(artist, EllipseCollection)]
    assert len(np.asarray(dots.get_offsets())) == (found.labels[24:] >= 0).sum()
    count = np.bincount(found.labels[:24][found.labels[:24] >= 0])
    assert {f"one · {count[0]} pixels", f"two · {count[1]} pixels", "y0", "y1"} <= {t.get_text() for t in ax.texts}
    assert not any(text.get_text().startswith("x") for text in ax.texts)


def test_more_edges_make_a_thicker_line() -> None:
    first = np.array([[1, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 1]])
    dag = LayeredDAG.from_masks([first, np.ones((2, 2))])
    one = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    found = ModuleHierarchy(dag=dag, labels=one, cluster_labels=one)
    widths = np.asarray(lines(draw(found, image_shape=(2, 3))).get_linewidth())
    assert widths[0] > widths[1] > widths[2] == widths[-1]  # for 5 edges, 2, 1, 1


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_merge_inputs_counts_what_it_puts_together(seed: int, n_modules: int) -> None:
    found = labelled(n_modules, seed=seed)
    kept = found.labels >= 0
    dag, labels = found.dag.subgraph(kept), found.labels[kept]
    n_inputs = dag.layer_sizes[0]
    along = np.random.default_rng(seed).permutation(n_inputs)
    small, of, pixels, n_edges = merge_inputs(dag, labels, along)
    first = small.layer_sizes[0]
    assert {(m, n) for m, n in zip(of[:first].tolist(), pixels.tolist(), strict=True)} == {
        (m, int((labels[:n_inputs] == m).sum())) for m in set(labels[:n_inputs].tolist())
    }
    means = [along[labels[:n_inputs] == module].mean() for module in of[:first]]
    assert means == sorted(means)
    assert n_edges.sum() == dag.n_edges
    assert small.layer_sizes[1:] == dag.layer_sizes[1:]
    assert of[first:].tolist() == labels[n_inputs:].tolist()
    for (source, target), n in zip(small.edges.tolist(), n_edges.tolist(), strict=True):
        unit = target - first + n_inputs
        reading = dag.sources[dag.targets == unit]
        expected = (
            (labels[reading] == of[source]) & (reading < n_inputs)
            if source < first
            else (reading == source - first + n_inputs)
        )
        assert n == expected.sum()


# --- An image for each module -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [halves(), labelled(6), labelled(30)], ids=["halves", "six", "crowd"])
def test_each_pixel_stands_out_in_the_image_of_its_module_only(found: ModuleHierarchy) -> None:
    figure = draw_pixels(found, SHAPE)
    labels = found.labels[:24]
    seen = np.array([np.ptp(image(ax).reshape(24, 3), axis=1) > 1e-9 for ax in figure.axes])  # not grey
    assert np.array_equal(seen.sum(0), labels >= 0)
    for ax, coloured in zip(figure.axes, seen, strict=True):
        shown = np.unique(labels[coloured])
        if "of one pixel" in ax.get_title():
            assert ax is figure.axes[-1]
            assert len(shown) == coloured.sum()
            assert ax.get_title() == f"{len(shown)} module{'s' * (len(shown) > 1)} of one pixel"
        else:
            (module,) = shown
            assert ax.get_title() == f"#{module} · {(labels == module).sum()} pixels"
            assert coloured.tolist() == (labels == module).tolist()
    sizes = [int(coloured.sum()) for ax, coloured in zip(figure.axes, seen, strict=True) if "#" in ax.get_title()]
    assert sizes == sorted(sizes, reverse=True)


def test_more_edges_make_a_darker_pixel() -> None:
    found = labelled(1)
    (ax,) = draw_pixels(found, SHAPE).axes
    degrees, light = out_degrees(found), image(ax).sum(2).reshape(24)
    kept = found.labels[:24] >= 0
    assert len(set(degrees[kept].tolist())) > 2
    by_degree = [set(light[kept & (degrees == degree)].round(9).tolist()) for degree in np.unique(degrees[kept])]
    assert all(len(shades) == 1 for shades in by_degree)
    ordered = [shades.pop() for shades in by_degree]
    assert ordered == sorted(ordered, reverse=True)


def test_a_given_figure_is_used_and_nothing_else_changes() -> None:
    parameters = dict(matplotlib.rcParams)
    whole = Figure((8, 5), layout="constrained")
    grid = whole.add_gridspec(2, 1)
    upper, lower = whole.add_subfigure(grid[0]), whole.add_subfigure(grid[1])
    assert draw_pixels(halves(), SHAPE, figure=lower, names=["left", "right"]) is lower
    assert not upper.axes
    assert len(lower.axes) == 2
    assert {ax.get_title().split(" · ")[0] for ax in lower.axes} == {"left", "right"}
    whole.canvas.draw()
    assert parameters == dict(matplotlib.rcParams)


@pytest.mark.parametrize("n_modules", [1, 5, 30])
def test_texts_do_not_overlap_and_are_inside_the_figure(n_modules: int) -> None:
    figure = draw_pixels(labelled(n_modules), SHAPE)
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in [*(ax.title for ax in figure.axes), *figure.texts]]
    for at, one in enumerate(extents):
        assert figure.bbox.x0 <= one.x0 < one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 < one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(two) for two in extents[at + 1 :])


def test_nothing_left_can_be_shown() -> None:
    found = detect_modules(LayeredDAG.from_masks([np.zeros((3, 24)), np.ones((2, 3))]))
    (ax,) = draw_pixels(found, SHAPE).axes
    assert ax.get_title() == "0 modules of one pixel"
    assert (image(draw(found, image_shape=SHAPE)) > 0.9).all()


# --- Bad input, and the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5), (-4, -6), (24,), (2, 3, 4), (0, 24)])
def test_another_number_of_pixels_is_refused(shape: Any) -> None:
    message = r"`image_shape` must have as many pixels as the network has inputs \(got \(.*\) for 24\)"
    for show in (lambda: draw(halves(), image_shape=shape), lambda: draw_pixels(halves(), shape)):
        with pytest.raises(ValueError, match=message):
            show()


def test_another_number_of_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`names` must be 2 texts, one for each module \(got 1\)"):
        draw_pixels(halves(), SHAPE, names=["one"])


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="`draw_pixels` needs matplotlib: pip install "):
        draw_pixels(halves(), SHAPE)


def test_the_command_draws_and_reports_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "network.npz"
    save_network(halves().dag, file)
    assert main(["draw", str(file), str(tmp_path / "with.svg"), "--image-shape", "4x6"]) == 0
    assert 'id="pixels"' in (tmp_path / "with.svg").read_text(encoding="utf-8")
    assert main(["report", str(file), str(tmp_path / "page.html"), "--image-shape", "4x6"]) == 0
    assert "<rect" in (tmp_path / "page.html").read_text(encoding="utf-8")
    for shape, message in (
        ("4,6", "`--image-shape` must be rows and columns"),
        ("4x7", "`--image-shape` must have as"),
    ):
        assert main(["draw", str(file), str(tmp_path / "bad.svg"), "--image-shape", shape]) == 2
        assert message in capsys.readouterr().err
