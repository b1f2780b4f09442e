"""The criteria of success: a hierarchy that is exact, and one that is not."""

import numpy as np
from sketch import panels

import modgraph as mg

target = mg.functions.published("separable")
halves = np.kron(np.eye(2), np.ones((2, 2)))
crossed = halves.copy()
crossed[2, 1] = 1
figure, axes = panels(2, size=(8.5, 3.4))
for ax, middle in zip(axes, (halves, crossed), strict=True):
    found = mg.detect_modules(mg.LayeredDAG.from_masks([halves, middle, halves]))
    result = mg.score(found, target)
    mg.draw(found, ax=ax, target=target)
    met = {name: getattr(result, name) for name in ("inputs", "hidden", "outputs", "exact")}
    marks = ", ".join(f"{name} {'✓' if right else '✗'}" for name, right in met.items())
    ax.set_title(marks, fontsize=10)
