"""The front page: a dense network, and its modules after sculpting, named after sub-functions."""

import numpy as np
from sketch import network, panels

import modgraph as mg
from modgraph.sculpt import TrainSettings, sculpt

target = mg.functions.published("separable_reused")
settings = TrainSettings(learning_rate=0.05, batch_size=8, epochs=20)
out = sculpt(target, hidden=(18, 18), seeds=[0], settings=settings, unit_steps=[60, 50, 40, 30], edge_steps=[2, 1])
right = [one for one in out.candidates if mg.score(mg.detect_modules(one.dag), target).exact]
chosen = min(right or out.candidates, key=lambda one: one.edges)
figure, axes = panels(2, size=(10, 4), width_ratios=(1.25, 1))
dense = mg.LayeredDAG.from_masks([np.ones_like(mask) for mask in chosen.masks])
network(axes[0], dense, colours="0.45", edges="#C8C8C8", size=40, height=6)
axes[0].set_title(f"trained: {dense.n_edges} edges", fontsize=11)
mg.draw(mg.detect_modules(chosen.dag), ax=axes[1], target=target)
