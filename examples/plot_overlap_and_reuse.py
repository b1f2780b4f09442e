"""
Overlap and reuse
=================

The paper varied two properties that make sub-functions hard to find: the number of inputs that two sub-functions share
(overlap), and how often a sub-function is used. This example sculpts six of its functions with a few settings. More
overlap makes the modules less distinct; more use makes them more distinct.
"""

import matplotlib.pyplot as plt

import modgraph as mg
from modgraph.sculpt import TrainSettings, sculpt

# %%
# ``overlap_v_use_u``: F reads four inputs, G reads four, v of them the same, and each is shown by u outputs.
# ``reuse_u``: three products of the inputs are computed once and used by two sums, each shown by u outputs.
OVERLAP = {f"overlap_{v}_use_4": f"{v} shared inputs" for v in (0, 2, 4)}
REUSE = {f"reuse_{u}": f"each sum used {u}×" for u in (1, 4, 8)}
TRAINING = {
    "overlap": TrainSettings(learning_rate=0.05, batch_size=32, epochs=30),
    "reuse": TrainSettings(learning_rate=0.1, batch_size=8, epochs=40),
}


def smallest(name: str) -> tuple[mg.ModuleHierarchy, mg.Score]:
    """Sculpt a published function in three trials of six settings; score the network with the fewest edges."""
    target, settings = mg.functions.published(name), TRAINING[name.split("_")[0]]
    out = sculpt(target, hidden=(24, 24), seeds=range(3), unit_steps=[60, 30, 10], edge_steps=[2, 1], settings=settings)
    found = mg.detect_modules(min(out.networks, key=lambda network: network.edges).dag)
    return found, mg.score(found, target)


# %%
# Every network drawn here computes its function without an error. A question mark means that the inputs or outputs of a
# module differ from those of the closest sub-function. If two sub-functions read the same inputs, or neither is used
# more than once, a few units can compute both, and pruning prefers fewer edges.
figure, axes = plt.subplots(2, 3, figsize=(12, 7.4))
figure.subplots_adjust(left=0, right=1, bottom=0.01, top=0.95, wspace=0.02, hspace=0.14)
for ax, (name, caption) in zip(axes.flat, (OVERLAP | REUSE).items(), strict=True):
    found, score = smallest(name)
    print(name, score)
    mg.draw(found, ax=ax, target=mg.functions.published(name))
    ax.set_title(f"{caption}: {'exact' if score.exact else 'not exact'}")
plt.show()
