"""How many clusters: the curve M(k) and the description length, on planted modules."""

import numpy as np
from matplotlib.ticker import MaxNLocator
from sketch import BLUE, ORANGE, RED, panels

from modgraph.cluster.by_description import shortest_description
from modgraph.cluster.description import description_length
from modgraph.cluster.tree import published_tree
from modgraph.planted import planted_modules
from modgraph.reach import reachability

MODULES = 24
dag, labels = planted_modules([144, 144, 144], n_modules=MODULES, fan_out=4, rewired=0.05, random_state=1)
dag = dag.trim()
rows = reachability(dag, 0, hops=2)[:, dag.layer > 0].toarray().astype(np.int64)
tree = published_tree(rows @ rows.T)
counts, curve = tree.modularity_curve()
counts, curve = np.array(counts), np.array(curve)
inner = (counts >= 2) & (counts < len(rows))
found = shortest_description(dag, hops=2)
bits = []
for k in range(2, 61):
    step = int(np.flatnonzero(counts == k)[0])
    cut = found.labels.copy()
    cut[dag.layer == 0] = tree.cut(step)
    bits.append(description_length(dag, cut))
figure, axes = panels(2, size=(9.5, 3.2))
shown = inner & (counts <= 60)
axes[0].plot(counts[shown], curve[shown], color=BLUE)
best = counts[inner][curve[inner].argmin()]
axes[0].plot(best, curve[inner].min(), "o", color=RED, label=f"smallest at k = {best}")
axes[0].set(xlabel="clusters k", ylabel="M(k)", title="published: the modularity curve")
axes[1].plot(range(2, 61), bits, color=ORANGE)
least = int(np.argmin(bits))
axes[1].plot(least + 2, bits[least], "o", color=RED, label=f"shortest at k = {least + 2}")
axes[1].set(xlabel="clusters k", ylabel="bits", title="description of the network")
for ax in axes:
    ax.axvline(MODULES, color="0.5", linestyle=":", label=f"planted: {MODULES}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.title.set_fontsize(11)
    ax.legend(frameon=False, fontsize=9)
