"""Pictures of clusterings side by side and of edges sorted by module."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from modgraph import LayeredDAG, detect_modules, draw_flows, draw_matrix, forward
from modgraph.planted import planted_modules

HALVES = np.kron(np.eye(2), np.ones((2, 2)))
DAG = LayeredDAG.from_masks([HALVES, HALVES])


def collection(ax: Any, gid: str) -> Any:
    (found,) = [artist for artist in ax.get_children() if artist.get_gid() == gid]
    return found


def boxes(ax: Any) -> dict[float, list[tuple[float, float, tuple[float, ...]]]]:
    """Return top, height and colour of the boxes of each column, from the top."""
    found: dict[float, list[tuple[float, float, tuple[float, ...]]]] = {}
    for patch in ax.patches:
        x = round(patch.get_x() + patch.get_width() / 2, 6)
        found.setdefault(x, []).append((patch.get_y(), patch.get_height(), patch.get_facecolor()))
    return {x: sorted(column) for x, column in found.items()}


@given(st.lists(st.lists(st.integers(-1, 4), min_size=12, max_size=12), min_size=2, max_size=4))
def test_boxes_and_bands_are_as_high_as_the_units_they_stand_for(rows: list[list[int]]) -> None:
    rows = [[label if label < 0 else sorted(set(row) - {-1}).index(label) for label in row] for row in rows]
    if all(max(labels) < 0 for labels in zip(*rows, strict=True)):
        with pytest.raises(ValueError, match="`clusterings` must not trim all units away"):
            draw_flows({str(number): row for number, row in enumerate(rows)})
        return
    ax = draw_flows({str(number): row for number, row in enumerate(rows)})
    kept = [labels for labels in zip(*rows, strict=True) if max(labels) >= 0]
    columns = boxes(ax)
    unit = []
    for x, column in sorted(columns.items()):
        counts = Counter(labels[int(x)] for labels in kept)
        unit.append(sum(height for _, height, _ in column) / len(kept))
        assert sorted(round(height / unit[-1]) for _, height, _ in column if height) == sorted(counts.values())
        assert column[-1][0] + column[-1][1] == pytest.approx(1)
        ends = [top + height for top, height, _ in column]
        assert all(top >= end - 1e-9 for (top, _, _), end in zip(column[1:], ends, strict=False))
    bands: Counter[tuple[int, int]] = Counter()
    for path in collection(ax, "bands").get_paths():
        corners = path.vertices
        left = int(corners[0, 0])
        sizes = ((corners[7, 1] - corners[0, 1]) / unit[left], (corners[4, 1] - corners[3, 1]) / unit[left + 1])
        assert sizes[0] == pytest.approx(sizes[1])
        assert sizes[0] == pytest.approx(round(sizes[0]))
        bands[left, round(sizes[0])] += 1
    shared = Counter((left, *labels[left : left + 2]) for labels in kept for left in range(len(rows) - 1))
    assert bands == Counter((left, count) for (left, _, _), count in shared.items())


def test_modules_keep_the_colour_of_those_they_share_units_with() -> None:
    ax = draw_flows({"a": [0, 0, 0, 1, 1, 2], "b": [1, 1, 1, 2, 0, 0]})
    first, second = boxes(ax).values()
    assert [colour for _, _, colour in first] == [colour for _, _, colour in second]
    assert [round(height / first[0][1] * 3) for _, height, _ in second] == [3, 1, 2]


def test_bands_cross_as_little_as_they_can() -> None:
    labels = np.repeat(np.arange(6), 3)
    ax = draw_flows({"a": labels, "b": np.array([3, 1, 5, 0, 2, 4])[labels]})
    for path in collection(ax, "bands").get_paths():
        assert path.vertices[0, 1] == pytest.approx(path.vertices[3, 1])


def test_hierarchies_and_labels_stand_side_by_side_on_given_axes() -> None:
    found = detect_modules(DAG)
    ax = Figure().add_subplot()
    assert draw_flows({"clusters": found.cluster_labels, "$modules": found}, ax=ax) is ax
    assert [text.get_text() for text in ax.get_xticklabels()] == ["clusters (8)", "$modules (2)"]
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("clusterings", "message"),
    [
        ({}, "`clusterings` must be a mapping from names to clusterings"),
        ([[0, 1]], "`clusterings` must be a mapping from names to clusterings"),
        ({"a": [0, 1], "b": [0, 1, 1]}, r"`clusterings` must be 2 ints \(got shape \(3,\)"),
        ({"a": [0.5, 1]}, "`clusterings` must be 2 ints"),
        ({"a": [-1, -1]}, "`clusterings` must not trim all units away"),
    ],
)
def test_clusterings_that_cannot_be_compared_are_refused(clusterings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_flows(clusterings)


def test_a_matrix_has_a_block_for_each_module() -> None:
    ax = draw_matrix(detect_modules(DAG))
    shown = ax.images[0].get_array()
    order = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]
    assert shown is not None
    np.testing.assert_array_equal(shown, DAG.adjacency.toarray()[np.ix_(order, order)])
    assert ax.get_title() == "100 % of edges within modules"


def test_a_matrix_shows_influence_with_its_sign() -> None:
    rng = np.random.default_rng(0)
    linear = replace(DAG, weights=rng.normal(size=DAG.n_edges))
    ax = draw_matrix(detect_modules(linear, features="wiring"), values="influence")
    shown = np.asarray(ax.images[0].get_array())
    outputs = forward(linear, np.eye(4), activations=["identity", "identity"])  # a row for each input
    place = np.argsort([0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11])
    np.testing.assert_allclose(shown[np.ix_(place, place)][:4, 8:], np.asarray(outputs)[:, -4:])
    with pytest.raises(ValueError, match='`values` must be "edges" for a network without weights'):
        draw_matrix(detect_modules(DAG), values="influence")
    with pytest.raises(ValueError, match='`values` must be "edges" or "influence"'):
        draw_matrix(detect_modules(DAG), values="paths")


def test_a_large_matrix_keeps_its_largest_values() -> None:
    dag = planted_modules([700, 700], n_modules=[7, 7], fan_out=2, random_state=0)[0]
    weights = np.where(np.arange(dag.n_edges) == 5, -9.0, 0.1)
    ax = draw_matrix(detect_modules(replace(dag, weights=weights), features="wiring"))
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (800, 800)
    assert (shown == -9).sum() == 1
    assert set(np.unique(shown)) == {-9.0, 0.0, 0.1}


def test_pictures_without_matplotlib_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="`draw_flows` needs matplotlib"):
        draw_flows({"a": [0, 1]})
    with pytest.raises(ImportError, match="`draw_matrix` needs matplotlib"):
        draw_matrix(detect_modules(DAG))
