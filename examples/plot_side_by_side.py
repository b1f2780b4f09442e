"""
Clusterings side by side, and edges by module
=============================================

Do the modules depend on how they are found, or on how far the network was pruned? `modgraph.draw_flows` draws several
clusterings of the same units beside each other. `modgraph.draw_matrix` shows the edges or the influence of one.
"""

import matplotlib.pyplot as plt
import numpy as np

import modgraph as mg
from modgraph.planted import planted_modules

# %%
# A network with five planted modules in each of three layers, and weights. The smaller a weight, the earlier pruning
# drops it: here a third and then half of the edges.
dag, planted = planted_modules([50, 50, 50, 5], n_modules=5, fan_out=6, rewired=0.04, random_state=1)
size = np.random.default_rng(0).random(dag.n_edges)
pruned = {f"{share:.0%} pruned": dag.keep_edges(size >= share) for share in (0, 1 / 3, 1 / 2)}
found = {name: mg.detect_modules(graph) for name, graph in pruned.items()}

# %%
# A column is a clustering, a box a module, and a band the units that two modules share. Modules have the colour of the
# module before that they share most units with. Grey are the units that trimming removed.
figure, ax = plt.subplots(figsize=(9, 5))
mg.draw_flows(found, ax=ax)
plt.show()

# %%
# The same picture compares methods, or the clusters of a hierarchy with the modules that they merge to.
compared = mg.compare_clusterings(pruned["33% pruned"])
first = compared.found[0]
figure, axes = plt.subplots(ncols=2, figsize=(12, 5), width_ratios=[3, 2])
mg.draw_flows(dict(zip(compared.methods, compared.found, strict=True)), ax=axes[0])
mg.draw_flows({"clusters": first.cluster_labels, "modules": first}, ax=axes[1])
plt.show()

# %%
# Sorted by module, edges within modules are blocks on the diagonal; what modules pass on to others lies beside it.
# With weights, influence sums over all paths.
weighted = mg.LayeredDAG.from_edges(
    dag.edges, layer=dag.layer, weights=np.random.default_rng(1).normal(size=dag.n_edges)
)
by_wiring = mg.detect_modules(weighted, features="wiring")
figure, axes = plt.subplots(ncols=2, figsize=(11, 5.4))
mg.draw_matrix(by_wiring, ax=axes[0])
mg.draw_matrix(by_wiring, values="influence", ax=axes[1])
plt.show()
