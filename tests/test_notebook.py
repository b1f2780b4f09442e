"""What notebooks show: in a real one, and as HTML."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgraph import LayeredDAG, compare_clusterings, detect_modules
from modgraph.planted import planted_modules
from modgraph.report.notebook import as_html

HALVES = np.kron(np.eye(2), np.ones((2, 2)))
DAG = LayeredDAG.from_masks([HALVES, HALVES], unit_names=["<b>&", *"bcdefghijkl"])
FOUND = detect_modules(DAG)


def parsed(text: str | None) -> ET.Element:
    assert text is not None
    return ET.fromstring(text)


def cells(text: str | None) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in parsed(text).iter("tr")]


def dots(text: str | None) -> list[str]:
    svg = parsed(text).find("svg")
    assert svg is not None
    return ["".join(dot.itertext()) for dot in svg.iter("circle") if "data-unit" in dot.attrib]


def test_a_graph_shows_its_units_and_layers() -> None:
    text = DAG._repr_html_()
    assert sorted(dots(text)) == sorted(["<b>&", *"bcdefghijkl"])
    assert cells(text)[1:] == [["inputs", "4", "4"], ["layer 1", "4", "4"], ["outputs", "4", "4"]]


def test_a_hierarchy_shows_its_modules() -> None:
    text = FOUND._repr_html_()
    assert len(dots(text)) == 12
    assert [row[:2] for row in cells(text)[1:]] == [["#0", "6"], ["#1", "6"]]
    colours = set(re.findall(r"--m:(#\w+)", text or ""))
    assert len(colours) == 2


def test_a_module_shows_what_it_is_of() -> None:
    facts = dict(cells(FOUND.modules[1]._repr_html_()))
    assert facts == {
        "units": "2, 3, 6, 7, 10, 11",
        "layers": "0, 1, 2",
        "inputs": "2, 3",
        "outputs": "10, 11",
        "level": "0",
    }


def test_a_comparison_shows_the_table_that_it_prints() -> None:
    table = compare_clusterings(DAG, methods=["linkage", "published"])
    shown = cells(table._repr_html_())
    assert [" ".join(row) for row in shown] == [" ".join(line.split()) for line in str(table).splitlines()]


@pytest.mark.parametrize(("units", "n_dots"), [(200, 200), (4000, None)])
def test_large_hierarchies_are_summarized(units: int, n_dots: int | None) -> None:
    dag = planted_modules([units // 2, units // 2], n_modules=[4, 4], fan_out=2, random_state=0)[0]
    text = detect_modules(dag)._repr_html_()
    shown = dots(text)
    assert len(shown) == n_dots if n_dots else 0 < len(shown) < units / 10
    assert len(text or "") < 200_000
    grey = dag._repr_html_()
    assert (parsed(grey).find("svg") is None) == (n_dots is None)


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(TypeError, match="got int"):
        as_html(3)


def test_without_jinja2_notebooks_show_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert DAG._repr_html_() is None


def test_showing_loads_no_matplotlib() -> None:
    code = """
import sys
from modgraph.dag import LayeredDAG
assert "modgraph.report" not in sys.modules
print(len(LayeredDAG.from_masks([[[1, 1]]])._repr_html_()), "matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


def test_a_real_notebook_shows_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    lines = [
        "import modgraph as mg\n"
        "dag = mg.LayeredDAG.from_masks([[[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 0], [0, 1]]])\n"
        "found = mg.detect_modules(dag)\ndag",
        "found",
        "found.modules[0]",
        "mg.compare_clusterings(dag, methods=['linkage', 'published'])",
    ]
    book: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(line) for line in lines])
    specs = tmp_path / "kernels" / "this"
    specs.mkdir(parents=True)
    (specs / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"],'
        ' "display_name": "this", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    nbclient.NotebookClient(book, timeout=300, kernel_name="this", resources={"metadata": {"path": "."}}).execute()
    shown = [cell.outputs[-1].data for cell in book.cells]
    assert all(parsed(data["text/html"]).get("class") == "modgraph" for data in shown)
    assert ["<svg" in data["text/html"] for data in shown] == [True, True, False, False]
    assert all(html.escape(data["text/plain"], quote=False) in data["text/html"] for data in shown)
