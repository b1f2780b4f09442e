"""
A torch model, dense and pruned
===============================

A torch model learns two products and their sum from four numbers, and is pruned with ``torch.nn.utils.prune`` while it
trains. Before pruning the network is one module. After pruning each product has a module of its own, and the sum reads
both.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.utils import prune

import modgraph as mg

# %%
# The task: x0 · x1, x2 · x3, and the sum of these two.
torch.manual_seed(0)
torch.set_num_threads(1)  # more threads are slower on a network of this size
inputs = 2 * torch.rand(512, 4) - 1
one, two = inputs[:, 0] * inputs[:, 1], inputs[:, 2] * inputs[:, 3]
targets = torch.stack([one, one, one + two, two, two], dim=1)
model = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 5))


def train(steps: int) -> float:
    """Train further; return the error as a share of the variance of the targets."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimiser.step()
    return loss.item() / targets.var().item()


# %%
# ``from_module`` reads the model as it is now; it neither runs nor changes it.
error = train(500)
dense = mg.from_module(model)
print(f"{dense}: error {error:.2%}")

# %%
# Prune the smallest fifth of the remaining weights and train further, as long as the error stays below one percent.
# modgraph reads torch's pruning masks as edges.
weights = [(layer, "weight") for layer in model if isinstance(layer, nn.Linear)]
while error < 0.01:
    pruned = mg.from_module(model)
    print(f"{pruned}: error {error:.2%}")
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=0.2)
    error = train(200)

# %%
# The dense network, and the last one with an error below one percent.
figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), width_ratios=[1.2, 1])
figure.subplots_adjust(left=0, right=1, bottom=0.01, top=0.9, wspace=0.02)
for ax, dag in zip(axes, (dense, pruned), strict=True):
    mg.draw(mg.detect_modules(dag), ax=ax)
plt.show()
