"""
A hierarchy drawn as in the paper
=================================

A network as pruning leaves it for the function `reused`: three products of the inputs (H) are computed once and used by
two sums, each shown by several outputs. The modules found in the graph are called by the sub-functions they match.
"""

import matplotlib.pyplot as plt
import numpy as np

import modgraph as mg
from modgraph.draw import draw
from modgraph.functions import published

masks = [
    np.ones((3, 4)),  # inputs → the three products
    np.array([[1, 1, 0], [0, 1, 1]]),  # products → the two sums
    np.tile(np.eye(2), (4, 1)),  # sums → outputs, in turn
]
found = mg.detect_modules(mg.LayeredDAG.from_masks(masks))
print(found)

# %%
# On axes of one's own (``draw(found)`` without them makes a figure of the right size).
figure, axes = plt.subplots(figsize=(6, 4.5), layout="tight")
draw(found, ax=axes, target=published("reuse_4"))
plt.show()
