"""
First modules
=============

A pruned network is a list of masks, which say which edges are left. The three masks of this example are written by
hand. They compute two sub-functions of three inputs each, side by side, and use them more than once. The edges alone
are enough to find the sub-functions.
"""

import matplotlib.pyplot as plt
import numpy as np

import modgraph as mg

# %%
# A mask has a row for each unit and a column for each unit of the layer before, like ``torch.nn.Linear.weight``.
masks = [
    np.array([[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]),
    np.array([[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]]),
    np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0]]),
]
dag = mg.LayeredDAG.from_masks(masks)
print(dag)

# %%
# Units that feed the same later units are clustered, layer by layer. Clusters that feed almost only each other are
# merged across layers. ``labels`` holds the module of each unit, inputs first.
found = mg.detect_modules(dag)
print(found)
print(found.labels)

# %%
# Each module has its units, its layers, the inputs it depends on and the outputs that depend on it.
for module in found.modules:
    print(module)

# %%
# Left: the masks, outputs at the top. Right: the modules.
room = {"left": 0.04, "right": 0.99, "bottom": 0.07, "top": 0.92, "hspace": 0.45, "wspace": 0.08}
figure, axes = plt.subplot_mosaic("2n;1n;0n", figsize=(8, 4.6), width_ratios=[1, 2.6], gridspec_kw=room)
for at, mask in enumerate(masks):
    ax, layers = axes[str(at)], ["inputs", "layer 1", "layer 2", "outputs"]
    ax.pcolormesh(np.where(mask, 0.3, 0.94)[::-1], cmap="gray", vmin=0, vmax=1, edgecolors="white", linewidth=2)
    ax.set(aspect="equal", xticks=[], yticks=[], frame_on=False, xlabel=layers[at], ylabel=layers[at + 1])
mg.draw(found, ax=axes["n"])
plt.show()
