"""
Two digits side by side
=======================

A network reads an image of two digits and computes the bits of one XOR the other. It is trained on these bits only.
Does it process the two digits separately after pruning?
"""

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed

import modgraph as mg
from modgraph.sculpt import WideSettings, digit_pairs, load_digits8, sculpt_wide

# %%
# The images come with scikit-learn: 8 × 8 pixels a digit, so the network has 128 inputs. Training, validation and test
# samples have no image in common; the validation samples decide about pruning.
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
# Train a network with four hidden layers; prune the weakest units, then the weakest edges, and train it again each
# time. The share of right bits in the validation samples may fall by at most two percentage points below that of the
# dense network. Two networks with different initial weights run on one processor core each.
settings = WideSettings(learning_rate=0.003, batch_size=128, epochs=60, give_up=20, tolerance=0.02)
results = Parallel(n_jobs=2)(
    delayed(sculpt_wide)(task, hidden=(64, 64, 64, 64), seed=seed, settings=settings) for seed in (0, 1)
)
for out in results:
    dense, left = out.rounds[0], out.network.edges
    print(f"{dense.edges} edges, {dense.test:.1%} right in the test → {left} edges, {out.test_accuracy:.1%}")

# %%
# Every training run: the density of the network, and its accuracy after training. Networks below the threshold (open
# circles) are dropped, and the next round prunes less.
figure, axes = plt.subplots(2, 2, figsize=(10, 4.4), sharex="col", sharey="row", layout="constrained")
for seed, (out, (above, below)) in enumerate(zip(results, axes.T, strict=True)):
    density = [100 * done.edges / out.network.dag.dense_edges for done in out.rounds]
    fill = ["C0" if done.accepted else "white" for done in out.rounds]
    above.semilogy(density, color="0.8", zorder=1)
    above.scatter(range(len(density)), density, s=22, c=fill, edgecolors="C0", zorder=2)
    above.set_title(f"seed {seed}")
    for part, colour in (("validation", "C0"), ("test", "C1")):
        below.plot([100 * getattr(done, part) for done in out.rounds], color=colour, label=part)
    below.axhline(100 * out.threshold, color="0.5", linestyle=":", label="threshold")
    below.set_xlabel("round")
axes[0, 0].set_ylabel("density, %")
axes[1, 0].set_ylabel("bits right, %")
axes[1, 1].legend(loc="lower right", ncols=3)
plt.show()

# %%
# Are the digits processed separately? First count without modules: how many units of the first hidden layer have edges
# from only one digit? Then count with modules: how many pixels of each digit does each module have? Neither the network
# nor the method knows which pixel belongs to which digit.
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
# In the first network, one module reads the left digit, and another reads the right digit and hardly anything else. In
# the second network, most units read both digits, and all pixels are in one module. Both outcomes occur, depending on
# the initial weights; the second is more frequent.
figure = plt.figure(figsize=(10, 5))
grid = figure.add_gridspec(2, 1)
for row, found in enumerate(hierarchies):
    mg.draw_pixels(found, task.image_shape, figure=figure.add_subfigure(grid[row]))
plt.show()

# %%
# The first network above its image. A third module begins where the edges of both digits meet.
figure, ax = plt.subplots(figsize=(10, 8))
figure.subplots_adjust(left=0, right=1, bottom=0.01, top=0.95)
mg.draw(hierarchies[0], ax=ax, image_shape=task.image_shape)
plt.show()
