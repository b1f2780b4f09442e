"""The report's file: what it says, and that nothing in it can be more than text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, draw, report, score
from modgraph.cli import main
from modgraph.functions import published
from modgraph.report.facts import cluster_graph, input_separable, level_graph
from tests.io_networks import network, write
from tests.strategies import dags
from tests.test_draw import HIERARCHIES, artists, labelled

EVIL = "</script><img src=x onerror=alert(1)>\"'&<!--"


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of tables by id and row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables[dict(attrs)["id"] or ""] = []
        elif tag == "tr":
            [*self.tables.values()][-1].append([])
        elif tag in ("td", "th"):
            [*self.tables.values()][-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")
        if tag in ("td", "th", "script"):
            self._open = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open:
            [*self.tables.values()][-1][-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.scripts[0])
        return result


def written(found: ModuleHierarchy, path: Path, **options: Any) -> Page:
    report(found, path / "report.html", **options)
    return Page(path / "report.html")


@pytest.mark.parametrize("name", HIERARCHIES)
def test_the_drawing_has_the_order_and_the_edges_of_draw(name: str, tmp_path: Path) -> None:
    found = HIERARCHIES[name]
    page = written(found, tmp_path)
    dag = found.dag.subgraph(found.labels >= 0)
    circles = [c for c in page.named("circle") if "data-unit" in c][: dag.n_units]
    xy = np.empty((dag.n_units, 2))
    for circle in circles:
        xy[int(circle["data-unit"] or "")] = float(circle["cx"] or ""), float(circle["cy"] or "")
    drawn = artists(draw(found))[0]
    for layer in range(dag.n_layers):
        row = np.flatnonzero(dag.layer == layer)
        assert np.argsort(xy[row, 0]).tolist() == np.argsort(drawn[row, 0]).tolist()
    assert (np.argsort(np.unique(xy[:, 1])) == np.argsort(np.unique(-drawn[:, 1]))).all()
    # Each part of a path of edges leads from its source to its target.
    kinds = [(path["d"] or "").split("M")[1:] for path in page.named("path") if (path["d"] or "").count("c")]
    graph = page.data["network"]
    parts = [part for d in kinds for part in d][: dag.n_edges]
    ends = []
    for part in parts:
        numbers = [int(number) for number in re.findall(r"-?\d+", part)]
        start, steps = np.array(numbers[:2]), np.array(numbers[2:]).reshape(-1, 6)
        ends.append((tuple(start / 10), tuple((start + steps[:, 4:].sum(axis=0)) / 10)))
    wanted = [(tuple(xy[a]), tuple(xy[b])) for a, b in dag.edges.tolist()]
    assert np.allclose(sorted(ends), sorted(wanted), atol=0.11) if wanted else not ends
    assert np.repeat(np.arange(dag.n_units), graph["degrees"]).tolist() == dag.sources.tolist()
    assert graph["targets"] == dag.targets.tolist()


def test_tables_hold_modules_score_and_settings(tmp_path: Path) -> None:
    found, target = HIERARCHIES["separable"], published("separable")
    page = written(found, tmp_path, target=target)
    head, *rows = page.tables["modules"]
    assert [row[1:] for row in rows] == [
        ["6", "0, 1, 2", "0", "x0, x1", "P, ~P", "yes", "–", "0", "–"],
        ["6", "0, 1, 2", "0", "x2, x3", "Q, ~Q", "yes", "–", "0", "–"],
    ]
    assert [row[0] for row in rows] == ["P #0", "Q #1"]
    assert len(head) == len(rows[0])
    result = score(found, target)
    shown = {row[0]: row[1] for row in page.tables["score"]}
    assert shown == {
        "Inputs": "yes" if result.inputs else "no",
        "Hidden layers": "yes" if result.hidden else "no",
        "Outputs": "yes" if result.outputs else "no",
        "Exact": "yes" if result.exact else "no",
        "ARI": f"{result.ari:.3f}",
        "AMI": f"{result.ami:.3f}",
    }
    assert page.tables["matching"][1:] == [["P", "#0", "1.00"], ["Q", "#1", "1.00"]]
    settings_shown = dict(page.tables["settings"])
    assert settings_shown["Clustering"] == "linkage"
    assert settings_shown["Hops"] == "2"
    assert settings_shown["Merge threshold"] == "0.9"


def test_settings_that_are_not_known_are_said_to_be_so(tmp_path: Path) -> None:
    rows = dict(written(labelled(HIERARCHIES["separable"].dag, np.arange(12)), tmp_path).tables["settings"])
    assert [rows[name] for name in ("Clustering", "Hops", "Merge threshold")] == 3 * ["not recorded"]
    assert rows["numpy, writing this page"] == np.__version__


def test_the_same_hierarchy_gives_the_same_file(tmp_path: Path) -> None:
    texts = set()
    for number in range(2):
        report(HIERARCHIES["many modules"], tmp_path / f"{number}.html")
        text = (tmp_path / f"{number}.html").read_text(encoding="utf-8")
        texts.add(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", text))  # the minute may change in between
    assert len(texts) == 1


def test_names_are_never_markup(tmp_path: Path) -> None:
    dag = LayeredDAG.from_masks(
        [np.ones((2, 2)), np.ones((1, 2))],
        unit_names=[f"{EVIL}{unit}" for unit in range(5)],
        layer_names=[f"{EVIL}{layer}" for layer in range(3)],
    )
    labels = np.zeros(5, dtype=np.int64)
    found = ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels, settings={EVIL: EVIL})
    page = written(found, tmp_path, title=EVIL)
    assert not page.named("img")
    assert len(page.scripts) == 2
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.data["network"]["names"] == dag.unit_names.tolist() if dag.unit_names is not None else False
    assert page.tables["settings"][4] == [EVIL, EVIL]


def test_nothing_is_fetched(tmp_path: Path) -> None:
    page = written(HIERARCHIES["separable"], tmp_path)
    fetched = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert fetched == ["data:,"]  # an empty icon, so that the browser doesn't look for one
    (policy,) = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv")]
    assert (policy or "").startswith("default-src 'none'")
    text = (tmp_path / "report.html").read_text()
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


def test_large_networks_are_drawn_by_module(tmp_path: Path) -> None:
    found = HIERARCHIES["big"]
    kept = found.labels >= 0
    assert "too many to draw" not in (tmp_path / "report.html").read_text() if written(found, tmp_path) else False
    page = written(found, tmp_path, max_units=int(kept.sum()) - 1)
    assert "too many to draw one by one" in (tmp_path / "report.html").read_text()
    clusters = set(zip(found.dag.layer[kept].tolist(), found.labels[kept].tolist(), strict=True))
    assert len(page.data["network"]["names"]) == len(clusters)
    page = written(found, tmp_path, max_units=3)
    assert page.data.keys() == {"layers", "whole", "shares"}
    assert len(page.tables["modules"]) == 1 + 3


@settings(max_examples=50)
@given(dags(), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_clusters_are_joined_where_their_units_are(dag: LayeredDAG, seed: int, n_modules: int) -> None:
    labels = np.random.default_rng(seed).integers(n_modules, size=dag.n_units)
    graph, module, count = cluster_graph(dag, labels)
    name = [*zip(graph.layer.tolist(), module.tolist(), strict=True)]
    unit = [*zip(dag.layer.tolist(), labels.tolist(), strict=True)]
    assert dict(zip(name, count.tolist(), strict=True)) == {one: unit.count(one) for one in set(unit)}
    joined = [(name[a], name[b]) for a, b in graph.edges.tolist()]
    assert sorted(joined) == sorted({(unit[a], unit[b]) for a, b in dag.edges.tolist()})
    assert (np.diff(graph.sources) >= 0).all()


@settings(max_examples=50)
@given(dags(), st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_levels_and_separable_inputs(dag: LayeredDAG, seed: int, n_modules: int) -> None:
    found = labelled(dag, np.random.default_rng(seed).integers(n_modules, size=dag.n_units))
    modules, links = found.modules, found.graph
    graph, of = level_graph(modules, links)
    level = [module.level for module in modules]
    assert graph.layer.tolist() == [level[module] for module in of.tolist()]
    upwards = [(a, b) for a, b in zip(links.source.tolist(), links.target.tolist(), strict=True) if level[a] < level[b]]
    assert sorted((int(of[a]), int(of[b])) for a, b in graph.edges.tolist()) == upwards
    for module, separable in zip(modules, input_separable(modules, dag.n_units), strict=True):
        others = [other for other in modules if other.level == module.level and other.id != module.id]
        shared = any(set(module.inputs.tolist()) & set(other.inputs.tolist()) for other in others)
        assert separable == (None if not module.inputs.size else not shared)


def test_a_hierarchy_of_one_level_takes_no_space_for_another(tmp_path: Path) -> None:
    page = written(detect_modules(LayeredDAG.from_masks([[[1, 1]], [[1], [1]]])), tmp_path)
    (drawing,) = (svg for svg in page.named("svg") if svg.get("id") == "hierarchy")
    box = page.named("rect")[-1]
    assert float((drawing["viewbox"] or "").split()[3]) < 3 * float(box["height"] or "")


def test_an_image_is_drawn_as_one(tmp_path: Path) -> None:
    dag = LayeredDAG.from_masks([np.eye(2, 6, 1) + np.eye(2, 6, 4), np.ones((1, 2))])  # pixels 1, 2, 4 and 5 are read
    page = written(detect_modules(dag), tmp_path, image_shape=(2, 3))
    dots = [circle for circle in page.named("circle") if "data-unit" in circle][:7]  # those of the network come first
    at = {int(dot["data-unit"] or ""): dot for dot in dots}
    x, y = ([float(at[unit][axis] or "") for unit in range(4)] for axis in ("cx", "cy"))
    assert x[0] == x[2] < x[1] == x[3]  # columns 1 and 2
    assert y[0] == y[1] < y[2] == y[3]  # the first row on top
    with pytest.raises(ValueError, match=r"`image_shape` must have as many pixels .* \(got \(2, 4\) for 6\)"):
        report(detect_modules(dag), tmp_path / "report.html", image_shape=(2, 4))


def test_bad_arguments_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match=r"`max_units` must be an int ≥ 1 \(got 0\)"):
        report(HIERARCHIES["separable"], path, max_units=0)
    with pytest.raises(ValueError, match="`target` must have the 4 inputs of the network"):
        report(HIERARCHIES["separable"], path, target=published("separable_reused"))
    assert not [*tmp_path.iterdir()]


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="`report` needs jinja2: pip install "):
        report(HIERARCHIES["separable"], tmp_path / "report.html")


def test_importing_loads_no_jinja2_and_writing_no_matplotlib(tmp_path: Path) -> None:
    code = f"""
import sys, modgraph as mg
before = "jinja2" in sys.modules
mg.report(mg.detect_modules(mg.LayeredDAG.from_masks([[[1]]])), {str(tmp_path / "report.html")!r})
print(before, "matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_the_command_writes_it(tmp_path: Path) -> None:
    file = write(network((4, 6, 4)), "npz", tmp_path)
    report(detect_modules(network((4, 6, 4)).dag), tmp_path / "expected.html", target=published("separable"), title="T")
    assert main(["report", str(file), str(tmp_path / "page.html"), "--target", "separable", "--title", "T"]) == 0
    shown, expected = (Page(tmp_path / name).tables for name in ("page.html", "expected.html"))
    assert [row[3:] for row in shown["modules"]] == [row[3:] for row in expected["modules"]]
    assert "<title>T</title>" in (tmp_path / "page.html").read_text()
    assert main(["report", str(file), str(tmp_path / "other.html"), "--target", "reused_8"]) == 2
