"""
A hundred thousand units
========================

Modules of 32 units are planted in four layers of 25,000 units each, and the units are shuffled. ``detect_modules``
finds the modules by the length of the network's description, which balances the number of clusters and the edges that
they explain.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import coo_array
from sklearn.metrics import adjusted_rand_score

import modgraph as mg
from modgraph.planted import planted_modules

UNITS = 25_000  # a layer; four layers
REWIRED = 0.005  # share of the edges moved at random; more takes longer

# %%
# Three edges leave each unit. The units of each layer are shuffled, so that only the edges show the modules.
rng = np.random.default_rng(0)
ordered, labels = planted_modules([UNITS] * 4, n_modules=UNITS // 32, fan_out=3, rewired=REWIRED, random_state=rng)
shuffle = np.concatenate([layer * UNITS + rng.permutation(UNITS) for layer in range(4)])
planted = np.empty_like(labels)
planted[shuffle] = labels
dag = mg.LayeredDAG.from_edges(shuffle[ordered.edges], layer=ordered.layer)
print(dag)

# %%
start = time.perf_counter()
found = mg.detect_modules(dag)
print(f"{found} after {time.perf_counter() - start:.0f} s")
for layer in range(3):  # the outputs are clusters of one
    units = np.flatnonzero((dag.layer == layer) & (found.labels >= 0))
    truth, clusters = planted[units], found.cluster_labels[units]
    ari = adjusted_rand_score(truth, clusters)
    print(f"layer {layer}: {len(set(clusters))} clusters for {len(set(truth))} modules, adjusted Rand index {ari:.3f}")

# %%
# The edges between the inputs and layer 1: in the given order, ordered by clusters, and the upper left corner of that.
edges = dag.edges[dag.layer[dag.edges[:, 0]] == 0]
edges = edges[(found.labels[edges] >= 0).all(axis=1)]
clusters = found.cluster_labels[edges]
# Input clusters are in the order of their labels; clusters of layer 1 in the order of the input cluster that feeds
# them most.
feeder = coo_array((np.ones(len(clusters)), (clusters[:, 1], clusters[:, 0]))).tocsr().argmax(axis=1).ravel()
column = np.unique(np.column_stack([clusters[:, 0], edges[:, 0]]), axis=0, return_inverse=True)[1]
row = np.unique(np.column_stack([feeder[clusters[:, 1]], edges[:, 1]]), axis=0, return_inverse=True)[1]

figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
corner = 32 * 16
for ax, x, y, size, title in (
    (axes[0], edges[:, 0], edges[:, 1] - UNITS, UNITS, "as given"),
    (axes[1], column, row, UNITS, "ordered by clusters"),
    (axes[2], column, row, corner, "its upper left corner"),
):
    ax.plot(x, y, "," if size > corner else ".", markersize=3, color="C0", alpha=0.25 if size > corner else 1)
    ax.set(xlim=(0, size), ylim=(size, 0), aspect="equal", title=title, xlabel="inputs", xticks=[0, size])
    ax.set(yticks=[0, size])
axes[0].set_ylabel("layer 1")
plt.show()
