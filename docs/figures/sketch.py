"""Shared by the pictures: plain layered networks, and function graphs as boxes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from modgraph import LayeredDAG
from modgraph.functions import FunctionGraph

BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
GREY = "#B8B8B8"


def places(dag: LayeredDAG) -> np.ndarray:
    """Return x and y of every unit: layers from the bottom up, each centred."""
    xy = np.empty((dag.n_units, 2))
    for layer, size in enumerate(dag.layer_sizes):
        xy[dag.layer == layer] = np.column_stack([np.arange(size) - (size - 1) / 2, np.full(size, layer)])
    return xy


def network(
    ax: Axes,
    dag: LayeredDAG,
    *,
    colours: Sequence[str] | str = BLUE,
    edges: Sequence[str] | str = GREY,
    size: float = 90,
    width: float = 1.0,
    height: float = 1.0,
) -> np.ndarray:
    """Draw units and edges; returns where the units are."""
    xy = places(dag) * (width, height)
    ax.add_collection(LineCollection(xy[dag.edges], colors=edges, linewidths=1, zorder=1))
    ax.scatter(*xy.T, s=size, c=colours, edgecolors="white", linewidths=1, zorder=2)
    ax.set_axis_off()
    ax.margins(0.08)
    return xy


def function(ax: Axes, graph: FunctionGraph, *, spread: float = 1.0) -> None:
    """Draw a function graph: inputs at the bottom, sub-functions in boxes, outputs on top."""
    level = graph.levels()
    top = max(level.values()) + 1
    rows = [list(graph.inputs), *([n for n, at in level.items() if at == row] for row in range(1, top))]
    xy = {}
    for row, names in enumerate(rows):
        for column, name in enumerate(names):
            xy[name] = ((column - (len(names) - 1) / 2) * spread * len(rows[0]) / max(len(names), 2), row)
    colour = dict(zip(level, COLOURS, strict=False))
    for name in level:
        for source in [*graph.inputs, *level]:
            if name in graph.readers(source):
                line = {"color": colour.get(source, GREY), "linewidth": 1.4, "zorder": 1}
                ax.plot(*zip(xy[source], xy[name], strict=True), **line)
    for place, (reference, name) in enumerate(zip(graph.outputs, graph.shown, strict=True)):
        at = ((place - (len(graph.outputs) - 1) / 2) * spread * len(rows[0]) / max(len(graph.outputs), 2), top)
        ax.plot(*zip(xy[name], at, strict=True), color=colour[name], linewidth=1.4, zorder=1)
        label = reference.replace("~", "¬")
        ax.text(*at, label, ha="center", va="bottom", fontsize=9, zorder=3)
    for name, (x, y) in xy.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": colour.get(name, "white"), "edgecolor": "none"}
        style = {"color": "white", "fontweight": "bold"} if name in level else {"color": "0.15"}
        ax.text(x, y, name, ha="center", va="center", fontsize=10, bbox=box, zorder=3, **style)
    ax.set(ylim=(-0.35, top + 0.35))
    ax.margins(x=0.12)
    ax.set_axis_off()


def panels(n: int, *, size: tuple[float, float], **more: object) -> tuple[plt.Figure, list[Axes]]:
    """Make a row of axes."""
    figure, axes = plt.subplots(1, n, figsize=size, layout="constrained", squeeze=False, **more)
    return figure, list(axes[0])
