"""Every example of the gallery runs to the end, draws, and warns of nothing."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("plot_*.py"))
NEEDS = {
    "plot_four_clusterings": ["igraph", "leidenalg"],
    "plot_own_function": ["torch"],
    "plot_overlap_and_reuse": ["torch"],
    "plot_sklearn_mlp": ["pandas"],
    "plot_torch_pruned": ["torch"],
    "plot_two_digits": ["torch"],
}
# `make docs` runs these, too, and every warning there is an error.
SLOW = {
    "plot_connectome",
    "plot_four_clusterings",
    "plot_hundred_thousand_units",
    "plot_overlap_and_reuse",
    "plot_own_function",
    "plot_side_by_side",
    "plot_sklearn_mlp",
    "plot_torch_pruned",
    "plot_two_digits",
}
# A figure counts once it is shown, and every part of it must hold something.
RUN = """
import runpy, sys
import matplotlib.pyplot as plt
shown = []
plt.show = lambda: shown.extend(plt.get_fignums())
runpy.run_path(sys.argv[1], run_name="__main__")
assert shown, "no figure"
for number in shown:
    figure = plt.figure(number)
    figure.canvas.draw()
    assert figure.axes and all(ax.has_data() for ax in figure.axes), "empty axes"
"""


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in EXAMPLES]
)
def test_runs_and_draws(path: Path) -> None:
    pytest.importorskip("matplotlib")
    for module in NEEDS.get(path.stem, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_begins_as_a_page_of_the_gallery(path: Path) -> None:
    quote, title, line, blank, first = path.read_text(encoding="utf-8").splitlines()[:5]
    assert quote == '"""'
    assert len(line) == len(title)
    assert set(line) == {"="}
    assert not blank
    assert first
    assert "\n# %%\n" in path.read_text(encoding="utf-8")
