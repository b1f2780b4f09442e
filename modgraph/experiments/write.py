"""Tables, pages and figures of all experiments."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modgraph.arrays import FloatArray
from modgraph.files import replacing, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, left: Iterable[int] = (0,)) -> list[str]:
    """Write the lines of a Markdown table; columns other than `left` are aligned to the right.

    Examples
    --------
    >>> markdown_table(["cell", "trials"], [["separable", 36]])
    ['| cell | trials |', '|---|---:|', '| separable | 36 |']
    """
    rule = ["---" if column in set(left) else "---:" for column in range(len(head))]
    return [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def paragraph(text: str) -> list[str]:
    """Wrap a paragraph of a page into lines of at most 120 characters."""
    return textwrap.wrap(text, 120)


def rate_or_dash(rate: float | None) -> str:
    """Write a rate with two decimals, or a dash if there is none."""
    return "–" if rate is None else f"{rate:.2f}"


def bars(
    ax: Axes,
    names: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    *,
    colours: Sequence[str],
    intervals: FloatArray | None = None,
) -> None:
    """Draw groups of bars from 0 to 1: for each label of `shares` a height in each group, NaN for no bar.

    The rows of `intervals` (n_groups, 2) are the error bars of the first label.
    """
    place, width = np.arange(len(names)), 0.8 / len(shares)
    for number, ((label, heights), colour) in enumerate(zip(shares.items(), colours, strict=True)):
        x = place + (number - (len(shares) - 1) / 2) * width
        ax.bar(x, heights, width, color=colour, label=label)
        if number == 0 and intervals is not None:
            errors = np.clip([heights - intervals[:, 0], intervals[:, 1] - heights], 0, None)
            ax.errorbar(x, heights, errors, fmt="none", color="0.2", linewidth=1, capsize=2)
    ax.set(xticks=place, ylim=(0, 1.05))
    ax.set_xticklabels(names, fontsize=8)


def save_table_and_figure(folder: Path, name: str, *, table: str, figure: Figure) -> None:
    """Write ``name.csv``, ``name.png`` and ``name.svg`` (without a date: equal results give equal files)."""
    write_whole(folder / f"{name}.csv", table)
    for kind in ("png", "svg"):
        with replacing(folder / f"{name}.{kind}") as part:
            figure.savefig(part, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
