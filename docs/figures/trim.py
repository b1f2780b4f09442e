"""Trimming: units on no path from an input to an output are dropped."""

import numpy as np
from sketch import BLUE, GREY, RED, network, panels

from modgraph import LayeredDAG

masks = [
    [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
    [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
    [[1, 1, 0, 0], [0, 1, 0, 1]],
]
dag = LayeredDAG.from_masks(masks)
kept = dag.on_path()
figure, axes = panels(2, size=(8, 3))
edges = [BLUE if kept[a] and kept[b] else RED for a, b in dag.edges.tolist()]
xy = network(axes[0], dag, colours=np.where(kept, BLUE, RED).tolist(), edges=edges)
axes[0].set_title(f"as pruned: {dag.n_edges} edges", fontsize=11)
trimmed = dag.trim()
axes[1].scatter(*xy[~kept].T, s=90, facecolors="none", edgecolors=GREY, linestyle=":")
xy = xy[kept]
for a, b in trimmed.edges.tolist():
    axes[1].plot(*xy[[a, b]].T, color=BLUE, linewidth=1, zorder=1)
axes[1].scatter(*xy.T, s=90, c=BLUE, edgecolors="white", zorder=2)
axes[1].set_axis_off()
axes[1].margins(0.08)
axes[1].set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim())
axes[1].set_title(f"trimmed: {trimmed.n_edges} edges", fontsize=11)
