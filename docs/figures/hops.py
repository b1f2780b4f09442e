"""Reachability: what a unit reaches within one, two and three hops, and the rows of reachability."""

import numpy as np
from sketch import BLUE, GREY, ORANGE, network, panels

from modgraph import LayeredDAG
from modgraph.reach import reachability

halves = [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
dag = LayeredDAG.from_masks([halves, halves, [[1, 1, 0, 0], [0, 0, 1, 1]]])
figure, axes = panels(4, size=(10, 2.9), width_ratios=(1, 1, 1, 1.5))
for ax, hops in zip(axes[:3], (1, 2, 3), strict=True):
    reached = reachability(dag, 0, hops=hops).toarray()[0]
    near = reached | (np.arange(dag.n_units) == 0)
    colours = np.where(reached, ORANGE, GREY).tolist()
    colours[0] = BLUE
    used = [ORANGE if near[a] and near[b] else "#DDDDDD" for a, b in dag.edges.tolist()]
    network(ax, dag, colours=colours, edges=used)
    ax.set_title(f"within {hops} hop{'s' * (hops > 1)}", fontsize=11)
rows = reachability(dag, 0).toarray()[:, 4:]
axes[3].imshow(rows, cmap="Blues", vmin=0, vmax=1.4, aspect="equal")
for edge in (3.5, 7.5):
    axes[3].axvline(edge, color="0.3", linewidth=1)
axes[3].set_xticks([1.5, 5.5, 8.5], ["layer 1", "layer 2", "outputs"], fontsize=8)
axes[3].set_yticks(range(4), ["x0", "x1", "x2", "x3"], fontsize=9)
axes[3].tick_params(length=0)
axes[3].set_title("the rows that are clustered", fontsize=11)
