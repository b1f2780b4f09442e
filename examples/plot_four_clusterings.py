"""
Four clusterings of one network
===============================

This example compares four clusterings on a network with planted, therefore known, modules: the default, the paper's
rule, Leiden, and a function of your own (or, where graph-tool is installed, its block model).
"""

from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_mutual_info_score

import modgraph as mg
from modgraph.planted import planted_modules

# %%
# Six modules in each of three layers, four outputs; a tenth of the edges are moved at random.
dag, planted = planted_modules([60, 60, 60, 12], n_modules=6, fan_out=3, rewired=0.1, random_state=0)


# %%
# A clustering of your own is a function from the reachability rows of a layer to a label for each row.
def cosine_cut(rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Join rows by average linkage up to a cosine distance."""
    tree = AgglomerativeClustering(n_clusters=None, distance_threshold=0.6, metric="cosine", linkage="average")
    labels: NDArray[np.int64] = tree.fit_predict(rows)
    return labels


fourth = "blockmodel" if find_spec("graph_tool") else cosine_cut
compared = mg.compare_clusterings(dag, methods=["linkage", "published", "leiden", fourth], random_state=0)
print(compared)


# %%
# ``ami`` is the adjusted mutual information of the clusters of two methods, layer by layer: 1 = equal, 0 = as expected
# by chance. ``agreement`` computes the same for a method and the planted modules.
def agreement(found: mg.ModuleHierarchy) -> float:
    """Return the mean over the layers before the outputs."""
    layers = [(dag.layer == level) & (found.labels >= 0) for level in range(dag.n_layers - 1)]
    return float(np.mean([adjusted_mutual_info_score(planted[at], found.cluster_labels[at]) for at in layers]))


# %%
# Boxes are modules; colours of different methods are not related.
figure, axes = plt.subplot_mosaic("hab;hcd", figsize=(12, 5.6), width_ratios=[0.9, 1, 1])
figure.subplots_adjust(left=0.09, right=0.995, bottom=0.01, top=0.93, wspace=0.06, hspace=0.16)
picture = axes["h"].imshow(compared.ami, cmap="Blues", vmin=0.7, vmax=1.1)
axes["h"].set_title("agreement of their clusters (AMI)", fontsize=11)
places = range(len(compared.methods))
axes["h"].set_xticks(places, compared.methods, rotation=30, ha="right")
axes["h"].set_yticks(places, compared.methods)
for (row, column), value in np.ndenumerate(compared.ami):
    axes["h"].text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.95 else "black")
for panel, name, found in zip("abcd", compared.methods, compared.found, strict=True):
    mg.draw(found, ax=axes[panel], names=[""] * found.n_modules)
    title = f"{name}: {found.n_modules} modules, AMI {agreement(found):.2f} with the planted"
    axes[panel].set_title(title, fontsize=10)
plt.show()
