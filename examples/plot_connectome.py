"""
The nervous system of a worm
============================

All connections between the nerve cells of *Caenorhabditis elegans* are known from electron micrographs (Cook et al.,
Nature 571, 2019), and the cells have been sorted into layers from sensory to motor cells. This example finds modules in
these connections and compares them with what biologists know about the cells.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import modgraph as mg

# %%
# ``worm/`` holds the chemical connections of the hermaphrodite between cells of five layers: sensory cells, three
# layers of interneurons, and motor cells. The pharynx and the few cells outside these layers are left out. ``sections``
# is the number of micrographs that show a connection. The files are extracts of ``herm_full_edgelist.csv`` and
# ``all_cell_info.csv`` in the package ``cect`` 0.3.5 of OpenWorm, whose licence is in ``worm/LICENSE``.
folder = Path(sys.argv[0]).parent / "worm"  # beside this script
cells, levels = np.loadtxt(folder / "cells.csv", dtype=np.str_, delimiter=",", skiprows=1, unpack=True)
level = levels.astype(int)
number = {cell: at for at, cell in enumerate(cells)}
rows = np.loadtxt(folder / "connections.csv", dtype=np.str_, delimiter=",", skiprows=1)
ends = np.array([[number[source], number[target]] for source, target, _ in rows])
strong = rows[:, 2].astype(int) >= 5

# %%
# A layered graph has no connections within a layer or back to earlier layers, so this example leaves them out. It also
# leaves out weak connections, and cells that have only weak ones.
forward = level[ends[:, 0]] < level[ends[:, 1]]
edges = ends[strong & forward]
used = np.unique(edges)
cells, level = cells[used], level[used]
dag = mg.LayeredDAG.from_edges(np.searchsorted(used, edges), layer=level, unit_names=cells)
print(f"{strong.mean():.0%} of the connections are strong, {forward[strong].mean():.0%} of these lead on")
found = mg.detect_modules(dag)
print(dag, found, sep="\n")

# %%
# Most cells have a twin on the other side of the body with the same function. The method doesn't know names or
# positions, but twins are in the same cluster far more often than two random cells of the same layer.
clusters, kept = found.cluster_labels, found.labels >= 0
number = {cell: at for at, cell in enumerate(cells) if kept[at] and level[at] < 4}
twins = [(at, number[cell[:-1] + "R"]) for cell, at in number.items() if cell[-1] == "L" and cell[:-1] + "R" in number]
together = np.mean([clusters[one] == clusters[two] for one, two in twins])
mates = [kept & (level == level[one]) & (np.arange(dag.n_units) != one) for one, _ in twins]
chance = np.mean([(clusters[mate] == clusters[one]).mean() for mate, (one, _) in zip(mates, twins, strict=True)])
print(f"{together:.0%} of {len(twins)} pairs of twins are in one cluster; by chance {chance:.0%} would be")


# %%
# Modules are named after the most frequent kind of cell in their first layer. Several match known circuits: AVA with
# the motor cells DA and VA moves the worm backwards, and PVC with DB moves it forwards. ASH, ADL and FLP sense harmful
# stimuli. AFD, ASE and AWA, AWB, AWC sense warmth, taste and smell. ALM, AVM and PVD sense touch. These functions are
# known from the work of others. The modules only say that these cells reach the same later cells. Motor cells that
# several modules drive are modules of their own.
def kind(module: mg.Module) -> str:
    """Return the most frequent kind of cell in the module's first layer: a cell's name without its side."""
    first = module.units[level[module.units] == module.layers[0]]
    return Counter(re.sub(r"(?<=\w\w\w)[DV]?[LR]$|\d+$", "", cell) for cell in cells[first]).most_common(1)[0][0]


for module in found.modules:
    if len(module.units) > 2:
        print(f"{kind(module)}: {' '.join(cells[module.units])}")

# %%
# The picture leaves out names that don't fit, and the names of single motor cells.
names = [kind(module) if module.layers != (4,) else "" for module in found.modules]
figure, ax = plt.subplots(figsize=(13, 7))
figure.subplots_adjust(left=0, right=1, bottom=0.01, top=0.94)
mg.draw(found, ax=ax, names=names)
layers = {"inputs": "sensory", "layer 1": "between, 3", "layer 2": "between, 2", "layer 3": "between, 1"}
for text in ax.texts:
    text.set_text((layers | {"outputs": "motor"}).get(text.get_text(), text.get_text()))
plt.show()
