"""Marks in pictures and pages: weak and certified modules, strong and negative edges, shared units."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import modgraph as mg
from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, draw
from modgraph.evidence import ModuleEvidence, Significance
from modgraph.functions import FunctionGraph, SubFunction
from modgraph.marks import colours, edge_strength, marks, second_modules
from tests.test_draw import HIERARCHIES, artists, check_drawing
from tests.test_report import written

HALVES = [[1, 1, 0, 0], [0, 0, 1, 1]]
GATES = LayeredDAG.from_masks(
    [HALVES, [[1, 0], [0, 1]]],
    weights=[HALVES, [[4, 0], [0, 4]]],
    biases=[[-1, 0], [-2, -2]],
    activations=["relu", "sigmoid"],
)
TARGET = FunctionGraph(
    name="two gates",
    inputs=["a", "b", "c", "d"],
    sub_functions=[SubFunction("P", ["a", "b"], function="and"), SubFunction("Q", ["c", "d"], function="or")],
    outputs=["P", "Q"],
)


def evidence(*modules: tuple[float, float]) -> Significance:
    """What `significance` would say with these p-values and confidences of the modules."""
    return Significance(
        p_value=0.004,
        effect_size=3.2,
        statistic=20.0,
        null=np.zeros(19),
        kind="swapped edges",
        modules=tuple(ModuleEvidence(id=at, p_value=p, confidence=sure) for at, (p, sure) in enumerate(modules)),
    )


def verified(found: ModuleHierarchy) -> mg.Verification:
    return mg.verify(found, target=TARGET)


def half_verified(found: ModuleHierarchy) -> mg.Verification:
    """What `verify` would say if the first module weren't certified."""
    checked = verified(found)
    return replace(checked, modules=(replace(checked.modules[0], certified=False), *checked.modules[1:]))


def weighted() -> ModuleHierarchy:
    """Two modules of four units; weights 1 to 4 in one layer and 10 to 40 in the other, some negative."""
    mask = np.kron(np.eye(2), np.ones((2, 2)))
    weights = mask.copy()
    weights[mask > 0] = [1, -2, 3, 4, 1, 2, -3, 4]
    dag = LayeredDAG.from_masks([mask, mask], weights=[weights, 10 * weights])
    return detect_modules(dag)


def shared(found: ModuleHierarchy, unit: int, module: int) -> ModuleHierarchy:
    shares = found.membership.copy()
    shares[unit] *= 0.6
    shares[unit, module] = 0.4
    return replace(found, shares=shares)


@pytest.mark.parametrize(
    ("p_value", "confidence", "weak"),
    [
        (0.05, 0.5, False),
        (0.051, 0.9, True),
        (0.001, 0.49, True),
        (np.nan, np.nan, False),
        (np.nan, 0.2, True),
        (0.9, np.nan, True),
        (np.nan, 1.0, False),
    ],
)
def test_weak_modules(p_value: float, confidence: float, weak: bool) -> None:
    found = HIERARCHIES["one unit a layer"]
    known = marks(found, evidence=evidence((p_value, confidence)), verification=None)
    assert known.weak == (weak,)
    assert known.notes[0].startswith("evidence: p = 0.004")
    assert ("1 weak module " in known.notes[0]) == weak


def test_weak_modules_have_dashed_pale_boxes() -> None:
    found = HIERARCHIES["separable"]
    ax = draw(found, evidence=evidence((0.2, 1.0), (0.01, 1.0)))
    check_drawing(found, ax)
    for (module, _), box in artists(ax)[2].items():
        assert (box.get_linestyle() not in ("solid", "-")) == (module == 0)
        assert (min(to_rgb(box.get_facecolor())) > 0.93) == (module == 0)
    assert "dashed outline: 1 weak module" in ax.get_title().replace("\n", " ")


def test_certified_modules_are_ticked() -> None:
    found = detect_modules(GATES)
    for checked, names in ((verified(found), {"P ✓", "Q ✓"}), (half_verified(found), {"P", "Q ✓"})):
        ax = draw(found, target=TARGET, verification=checked)
        assert names <= {text.get_text() for text in ax.texts}
        share = f"✓ certified by intervention: {len([n for n in names if '✓' in n])} of 2 modules"
        assert share in ax.get_title().replace("\n", " ")
    without = draw(found, verification=mg.verify(found, data=np.eye(4)))
    assert "✓" not in without.get_title()


@pytest.mark.parametrize("name", ["evidence", "verification"])
def test_results_of_another_hierarchy_are_refused(name: str, tmp_path: Path) -> None:
    result: Any = {"evidence": evidence((0.1, 0.1)), "verification": verified(detect_modules(GATES))}[name]
    found = HIERARCHIES["many modules"]
    message = rf"`{name}` must be of the same hierarchy, of 37 modules \(got {len(result.modules)}\)"
    with pytest.raises(ValueError, match=message):
        draw(found, **{name: result})
    with pytest.raises(ValueError, match=message):
        mg.report(found, tmp_path / "page.html", **{name: result})
    assert not list(tmp_path.iterdir())


def test_edges_show_sign_and_strength() -> None:
    found = weighted()
    assert found.dag.weights is not None
    ax = draw(found)
    check_drawing(found, ax)
    (edges,) = [a for a in ax.collections if isinstance(a, LineCollection)]
    widths, size = np.asarray(edges.get_linewidth()), np.abs(found.dag.weights)
    for layer in (0, 1):
        between = found.dag.layer[found.dag.sources] == layer
        order = np.argsort(size[between], kind="stable")
        assert (np.diff(widths[between][order]) >= -1e-9).all()
        assert np.isclose(widths[between].max() / widths[between].min(), 4 * 1.6 / (4 * 0.4 + 1.2))
    styles: Any = edges.get_linestyle()
    dashed = [dashes is not None for _, dashes in styles]
    assert dashed == (found.dag.weights < 0).tolist()
    assert "dashed edges: negative weights" in ax.get_title().replace("\n", " ")
    plain = draw(HIERARCHIES["separable"])
    (edges,) = [a for a in plain.collections if isinstance(a, LineCollection)]
    assert len(np.unique(edges.get_linewidth())) == 1
    assert "\n" not in plain.get_title()


def test_strength_is_relative_to_the_largest_weight_between_the_same_layers() -> None:
    dag = LayeredDAG.from_masks([[[1, 1]], [[1]]], weights=[[[-2, 1]], [[100]]])
    np.testing.assert_allclose(edge_strength(dag), [1.6, 1.0, 1.6])
    zero = LayeredDAG.from_masks([[[1, 1]], [[1]]], weights=[[[0, 0]], [[0]]])
    np.testing.assert_allclose(edge_strength(zero), 0.4)


def test_shared_units_have_a_rim_of_the_second_module() -> None:
    found = shared(HIERARCHIES["separable"], unit=4, module=1 - HIERARCHIES["separable"].labels[4])
    second = 1 - found.labels[4]
    assert second_modules(found).tolist() == [second if unit == 4 else -1 for unit in range(12)]
    ax = draw(found)
    (units,) = [a for a in ax.collections if isinstance(a, EllipseCollection)]
    rims, widths = np.asarray(units.get_edgecolor())[:, :3], np.asarray(units.get_linewidth())
    np.testing.assert_allclose(rims[4], colours(2)[second])
    assert (np.delete(rims, 4, axis=0) == 1).all()
    assert widths[4] > 2 * np.delete(widths, 4).max()
    assert "rim of a unit: a second module that it serves" in ax.get_title().replace("\n", " ")


@pytest.mark.parametrize("size", [None, (2.5, 3)])
def test_notes_are_inside_the_figure(size: tuple[float, float] | None) -> None:
    found = weighted()
    given: Axes | None = None if size is None else Figure(figsize=size).add_axes((0, 0, 1, 0.4))
    ax = draw(found, ax=given, evidence=evidence((0.9, 0.1), (0.9, 0.1)))
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    extent = ax.title.get_window_extent()
    assert figure.bbox.x0 <= extent.x0 < extent.x1 <= figure.bbox.x1
    assert extent.y1 <= figure.bbox.y1


# The page


def test_the_page_shows_evidence_and_verification(tmp_path: Path) -> None:
    found = detect_modules(GATES)
    page = written(
        found,
        tmp_path,
        target=TARGET,
        evidence=evidence((0.012, 0.75), (np.nan, np.nan)),
        verification=half_verified(found),
    )
    head, *rows = page.tables["modules"]
    assert head[-3:] == ["p-value", "Confidence", "Certified"]
    assert [row[-3:] for row in rows] == [["0.012", "0.75", "no"], ["–", "–", "yes"]]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Evidence: p = 0.004, 3.2 standard deviations above 19 random networks" in text
    assert "✓ certified by intervention: 1 of 2 modules" in text
    assert len(re.findall(r"<text[^>]*>Q ✓", text)) == 4  # three layers, and the module hierarchy
    assert "weak" not in {rect.get("class") for rect in page.named("rect")}
    weak = written(found, tmp_path, evidence=evidence((0.2, 1.0), (0.01, 1.0)))
    marked = {rect["data-module"] for rect in weak.named("rect") if rect.get("class") == "weak"}
    assert marked == {"0"}


def test_the_page_without_results_has_no_such_columns(tmp_path: Path) -> None:
    page = written(HIERARCHIES["separable"], tmp_path)
    assert page.tables["modules"][0][-1] == "Read by"
    assert page.data["shares"] == {}


def test_every_edge_of_the_page_is_in_the_path_of_its_look(tmp_path: Path) -> None:
    found = weighted()
    page = written(found, tmp_path)
    dag, graph = found.dag, page.data["network"]
    assert dag.weights is not None
    paths = [path for path in page.named("path") if (path["d"] or "").count("c")]
    circles = {int(c["data-unit"] or ""): c for c in page.named("circle")[: dag.n_units] if "data-unit" in c}
    used = [0] * len(paths)
    for edge, number in enumerate(graph["pathOfEdge"]):
        path, source = paths[number], int(dag.sources[edge])
        used[number] += 1
        start = (path["d"] or "").split("M")[used[number]].split("c")[0].split()
        assert [float(x) / 10 for x in start] == pytest.approx(
            [float(circles[source][name] or "") for name in ("cx", "cy")], abs=0.11
        )
        assert path["data-module"] == str(found.labels[source])
        assert (path.get("class") == "negative") == (dag.weights[edge] < 0)
    assert sum(used) == dag.n_edges


def test_the_page_shows_the_shares_of_shared_units(tmp_path: Path) -> None:
    found = shared(HIERARCHIES["separable"], unit=4, module=1 - HIERARCHIES["separable"].labels[4])
    page = written(found, tmp_path)
    own = found.labels[4]
    assert page.data["shares"] == {"4": f"#{own} 60%, #{1 - own} 40%"}
    assert [c["data-unit"] for c in page.named("circle") if "--m2" in (c.get("style") or "")] == ["4"]
