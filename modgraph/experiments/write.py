"""Tables, pages and figures of all experiments."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.files import replacing, write_whole
from modgraph.report.picture import template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE: Final = "#0072B2"
"""Colour of our results."""
HERE_PAPERS_RULE: Final = "#56B4E9"
"""Colour of our networks judged by the paper's rule."""
ANY: Final = "#BBBBBB"
"""Colour of what the best choice could reach."""
PUBLISHED: Final = "#E69F00"
"""Colour of published results."""
DPI: Final = 150


def interval(values: FloatArray) -> tuple[float, float]:
    """Return the 95 % interval of resampled values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def csv_text(rows: Iterable[Mapping[str, object]]) -> str:
    """Write rows as CSV, headed by the names of the first row's fields; all rows must have the same names.

    Examples
    --------
    >>> print(csv_text([{"seed": 0, "edges": 12}, {"seed": 1, "edges": 9}]), end="")
    seed,edges
    0,12
    1,9
    """
    rows = list(rows)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()


def page(name: str, /, **values: object) -> str:
    """Fill the template ``pages/NAME.md``; ``{% filter wrap %}`` wraps a paragraph at 120 characters."""
    filled = template(f"pages/{name}.md", room="experiments", purpose="`reproduce`", escape=False, filters=_FILTERS)
    text: str = filled.render(values)
    return text


def _number(value: float | None, decimals: int = 2) -> str:
    """Write a rate or a mean, or a dash if there is none (None or NaN)."""
    return "–" if value is None or np.isnan(value) else f"{value:.{decimals}f}"


_FILTERS: Final = {"wrap": lambda text: textwrap.fill(text.replace("\n", " "), 120), "number": _number}


class Panel(NamedTuple):
    """Groups of bars from 0 to 1: for each label of `shares` a height in each group, NaN for no bar."""

    title: str
    groups: Sequence[str]
    shares: Mapping[str, Sequence[float]]
    intervals: FloatArray | None = None  # (n_groups, 2), the error bars of the first label


def bar_figure(
    panels: Sequence[Panel],
    *,
    size: tuple[float, float],
    colours: Sequence[str],
    title: str = "",
    rows: int = 1,
    **axes: Any,
) -> Figure:
    """Draw panels in `rows` of equally many; `axes` are further settings of each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(rows, len(panels) // rows, squeeze=False, sharey=True)
    for ax, panel in zip(places.flat, panels, strict=True):
        place, width = np.arange(len(panel.groups)), 0.8 / len(panel.shares)
        for number, ((label, heights), colour) in enumerate(zip(panel.shares.items(), colours, strict=True)):
            x = place + (number - (len(panel.shares) - 1) / 2) * width
            ax.bar(x, heights, width, color=colour, label=label)
            if number == 0 and panel.intervals is not None:
                low, high = panel.intervals.T
                errors = np.clip([heights - low, high - heights], 0, None)
                ax.errorbar(x, heights, errors, fmt="none", color="0.2", linewidth=1, capsize=2)
        ax.set(xticks=place, ylim=(0, 1.05), **axes)
        is_long = any(len(group) > 3 and "\n" not in group for group in panel.groups)
        ax.set_xticklabels(panel.groups, fontsize=8, rotation=20 * is_long)
        ax.set_title(panel.title, fontsize=10)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def save(folder: Path, name: str, *, table: str, figure: Figure, page: str | None = None) -> None:
    """Write a table, a figure as PNG and SVG (without a date: equal results give equal files), and a page."""
    write_whole(folder / f"{name}.csv", table)
    for kind in ("png", "svg"):
        with replacing(folder / f"{name}.{kind}") as part:
            figure.savefig(part, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    if page is not None:
        write_whole(folder / f"{name}.md", page)
