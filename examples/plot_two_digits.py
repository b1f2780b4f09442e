"""
Two digits side by side
=======================

A network reads an image of two digits and answers with the bits of one XOR the other. It is told nothing of digits,
nor that there are two. Pruned as far as it stays accurate, does it come to read them apart?
"""

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed

import modgraph as mg
from modgraph.sculpt import WideSettings, digit_pairs, load_digits8, sculpt_wide

# %%
# The images are those that come with scikit-learn, 8 × 8 pixels a digit, so a network has 128 inputs. No image of the
# test samples, nor of the validation samples that judge the pruning, is one to learn from.
task = digit_pairs(load_digits8(), pairs=(50, 20, 20))
print(task)
figure, axes = plt.subplots(1, 5, figsize=(10, 1.6))
figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.82, wspace=0.06)
for ax, at in zip(axes, range(150, 1275, 225), strict=True):
    bits = task.test.targets[at].int().tolist()
    ax.imshow(task.test.inputs[at].reshape(task.image_shape).numpy(), cmap="gray_r")
    ax.set(xticks=[], yticks=[], title="".join(map(str, bits)))
plt.show()

# %%
# Train a network with four hidden layers, take the weakest units from it and then the weakest edges, and train it again
# each time. What stays has at most two percent of the bits more wrong, in the validation samples, than the dense
# network. Two networks, from different initial weights, on a processor core each.
settings = WideSettings(learning_rate=0.003, batch_size=128, epochs=60, give_up=20, tolerance=0.02)
results = Parallel(n_jobs=2)(
    delayed(sculpt_wide)(task, hidden=(64, 64, 64, 64), seed=seed, settings=settings) for seed in (0, 1)
)
for out in results:
    dense, left = out.rounds[0], out.network.edges
    print(f"{dense.edges} edges, {dense.test:.1%} right in the test → {left} edges, {out.test_accuracy:.1%}")

# %%
# Every training run: the density of the network, and how good it was after it. Networks that were not good enough
# (open) are dropped, and the next one loses less.
figure, axes = plt.subplots(2, 2, figsize=(10, 4.4), sharex="col", sharey="row", layout="constrained")
for seed, (out, (above, below)) in enumerate(zip(results, axes.T, strict=True)):
    density = [100 * done.edges / out.network.dag.dense_edges for done in out.rounds]
    fill = ["C0" if done.accepted else "white" for done in out.rounds]
    above.semilogy(density, color="0.8", zorder=1)
    above.scatter(range(len(density)), density, s=22, c=fill, edgecolors="C0", zorder=2)
    above.set_title(f"seed {seed}")
    for part, colour in (("validation", "C0"), ("test", "C1")):
        below.plot([100 * getattr(done, part) for done in out.rounds], color=colour, label=part)
    below.axhline(100 * out.threshold, color="0.5", linestyle=":", label="good enough")
    below.set_xlabel("round")
axes[0, 0].set_ylabel("density, %")
axes[1, 0].set_ylabel("bits right, %")
axes[1, 1].legend(loc="lower right", ncols=3)
plt.show()

# %%
# Is a digit read on its own? First without modules: how many units of the first hidden layer have edges from one digit
# only; then the modules that the pixels are put in. What pixel belongs to which digit is known to neither network nor
# method, only to this count.
hierarchies = [mg.detect_modules(out.network.dag) for out in results]
for seed, found in enumerate(hierarchies):
    dag = found.dag
    sides = [set(task.side[dag.sources[dag.targets == unit]]) for unit in np.flatnonzero(dag.layer == 1)]
    alone, both = ([len(side) for side in sides].count(n) for n in (1, 2))
    print(f"seed {seed}: {alone} first units read one digit, {both} read both")
    pixels = found.labels[:128]
    for module in np.unique(pixels[pixels >= 0]):
        left, right = np.bincount(task.side[pixels == module], minlength=2)
        print(f"  module {module}: {left} pixels of the left digit, {right} of the right")

# %%
# The first network has come apart: one module reads the left digit, one the right and hardly anything else. In the
# second most units still read both digits, and all pixels are one module. Neither is an exception: which of the two
# happens depends on the initial weights, and the second is the more frequent.
figure = plt.figure(figsize=(10, 5))
grid = figure.add_gridspec(2, 1)
for row, found in enumerate(hierarchies):
    mg.draw_pixels(found, task.image_shape, figure=figure.add_subfigure(grid[row]))
plt.show()

# %%
# The first network as a whole, above its image. Where the edges of both digits meet, a third module begins.
figure, ax = plt.subplots(figsize=(10, 8))
figure.subplots_adjust(left=0, right=1, bottom=0.01, top=0.95)
mg.draw(hierarchies[0], ax=ax, image_shape=task.image_shape)
plt.show()
