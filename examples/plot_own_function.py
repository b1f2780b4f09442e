"""
A function of your own
======================

This example describes a house alarm as a graph of sub-functions. It trains networks on the truth table of the alarm,
and prunes them as long as every row stays right. Then it compares their modules with the sub-functions, which the
networks did not see.
"""

import matplotlib.pyplot as plt

import modgraph as mg
from modgraph.functions import FunctionGraph, SubFunction
from modgraph.sculpt import TrainSettings, sculpt

# %%
# A sub-function reads inputs or other sub-functions. It is a named gate or a function of bits.
target = FunctionGraph(
    name="house alarm",
    inputs=["door", "window", "away", "smoke", "heat", "water", "no pump"],
    sub_functions=[
        SubFunction("burglar", ["door", "window", "away"], function=lambda door, window, away: (door | window) & away),
        SubFunction("fire", ["smoke", "heat"], function="and"),
        SubFunction("flood", ["water", "no pump"], function="and"),
        SubFunction("siren", ["burglar", "fire"], function="or"),
        SubFunction("brigade", ["fire", "flood"], function="or"),
        SubFunction("owner", ["burglar", "flood"], function="or"),
    ],
    outputs=["siren", "brigade", "owner"],
)
inputs, outputs = target.truth_table()
print(target, outputs.mean(axis=0))

# %%
# Four trials, each with six pruning settings; of each trial the network with the fewest edges is kept.
settings = TrainSettings(learning_rate=0.05, batch_size=32, epochs=20)
out = sculpt(target, hidden=(24, 24), seeds=range(4), unit_steps=[60, 40, 20], edge_steps=[2, 1], settings=settings)
hierarchies = [mg.detect_modules(network.dag) for network in out.networks]

# %%
# ``exact`` means that the inputs and outputs are grouped as in the function and that the number of modules is right.
scores = [mg.score(found, target) for found in hierarchies]
for network, score in zip(out.networks, scores, strict=True):
    print(network.edges, "edges:", score)

# %%
# The sub-function that each module of the first trial was matched with. The similarity is 1 if both depend on the same
# inputs and lead to the same outputs.
for match in scores[0].matching:
    print(f"module {match.module}: {match.sub_function}, similarity {match.similarity:.2f}")

# %%
# Modules are named after the matched sub-functions, with a question mark if inputs or outputs differ. Both networks
# compute the alarm without an error. If modules and sub-functions differ, the network computes it in another way.
figure, axes = plt.subplots(1, 2, figsize=(11, 5))
figure.subplots_adjust(left=0, right=1, bottom=0.01, top=0.9, wspace=0.02)
for ax, trial in zip(axes, (0, 1), strict=True):
    mg.draw(hierarchies[trial], ax=ax, target=target)
    ax.set_title(f"trial {trial}: {'exact' if scores[trial].exact else 'not exact'}, {out.networks[trial].edges} edges")
plt.show()
