"""A compact network: one wide multi-layer perceptron of which only the units that matter are there.

Where a pruned network of a stack keeps its dense shape, this one leaves out the units on no path from an input to an
output, and remembers who is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import Task

__all__ = ["CompactMLP"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CompactMLP:
    """One network: ReLU hidden layers, sigmoid outputs, biases; pruned units are not there.

    Attributes
    ----------
    sizes : tuple of int
        Units of every layer of the dense network, inputs first.
    units : tuple of torch.Tensor
        [l]: (n_l,) int64, which units of layer l are left, increasing. Outputs always are.
    masks : tuple of torch.Tensor
        [l]: (n_{l+1}, n_l) bool; True = kept.
    weights : tuple of torch.Tensor
        [l]: (n_{l+1}, n_l) float32; exactly 0 where pruned.
    biases : tuple of torch.Tensor
        [l]: (n_{l+1},) float32; exactly 0 where a unit has no incoming edge.
    """

    sizes: tuple[int, ...]
    units: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @classmethod
    def of(cls, stack: StackedMLP) -> CompactMLP:
        """Return the one network of a stack, without the units on no path."""
        layers = (stack.masks, stack.weights, stack.biases)
        masks, weights, biases = (tuple(layer[0] for layer in part) for part in layers)
        units = tuple(torch.arange(size) for size in stack.sizes)
        whole = cls(sizes=stack.sizes, units=units, masks=masks, weights=weights, biases=biases)
        return whole.prune(masks)

    @property
    def n_edges(self) -> int:
        """Edges kept."""
        return sum(int(mask.sum()) for mask in self.masks)

    @property
    def n_weights(self) -> int:
        """Edges that the units left could have."""
        return sum(mask.numel() for mask in self.masks)

    @property
    def n_hidden(self) -> int:
        """Hidden units left."""
        return sum(len(units) for units in self.units[1:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs before the sigmoid, (n, n_out), for inputs of the units that are left, (n, n_0)."""
        values = inputs
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values = F.relu(F.linear(values, weight, bias))
        return F.linear(values, self.weights[-1], self.biases[-1])

    def view(self, task: Task) -> Task:
        """Return a task with the inputs that are left."""
        return Task(inputs=task.inputs[:, self.units[0]], targets=task.targets)

    def prune(self, masks: Sequence[Tensor]) -> CompactMLP:
        """Return the network with no edges but `masks`, [l]: (n_{l+1}, n_l) bool, and without the units on no path.

        A unit that no input reaches is a constant; it goes, and so does its constant. Retraining sees the network that
        the graph shows.
        """
        alive = [torch.ones(mask.shape[1], dtype=torch.bool) for mask in masks]
        alive.append(torch.ones(self.sizes[-1], dtype=torch.bool))
        for layer, mask in enumerate(masks[:-1], start=1):  # reached from an input
            alive[layer] = mask[:, alive[layer - 1]].any(1)
        for layer in reversed(range(len(masks))):  # reaches an output
            alive[layer] &= masks[layer][alive[layer + 1]].any(0)
        left = [mask[above][:, below] for mask, (below, above) in zip(masks, pairwise(alive), strict=True)]
        weights = [
            weight[above][:, below] for weight, (below, above) in zip(self.weights, pairwise(alive), strict=True)
        ]
        return CompactMLP(
            sizes=self.sizes,
            units=tuple(units[who] for units, who in zip(self.units, alive, strict=True)),
            masks=tuple(left),
            weights=tuple(weight * mask for weight, mask in zip(weights, left, strict=True)),
            biases=tuple(b[above] * m.any(1) for b, above, m in zip(self.biases, alive[1:], left, strict=True)),
        )

    def without_units(self, keep: Tensor) -> CompactMLP:
        """Return the network without the hidden units that `keep` (hidden units left,) drops."""
        inner = keep.split([len(units) for units in self.units[1:-1]])
        ends = [torch.ones(len(self.units[at]), dtype=torch.bool) for at in (0, -1)]
        layers = [ends[0], *inner, ends[1]]
        masks = zip(self.masks, pairwise(layers), strict=True)
        return self.prune([mask & above[:, None] & below for mask, (below, above) in masks])

    def with_parameters(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> CompactMLP:
        """Return the network with other numbers."""
        return CompactMLP(
            sizes=self.sizes, units=self.units, masks=self.masks, weights=tuple(weights), biases=tuple(biases)
        )

    def stack(self) -> StackedMLP:
        """Return it as a stack of one network with the units that are left."""
        parts = [*self.weights, *self.biases]
        kept = [*self.masks, *(mask.any(1) for mask in self.masks)]
        return StackedMLP(
            sizes=tuple(len(units) for units in self.units),
            parameters=torch.cat([part.flatten() for part in parts])[None],
            kept=torch.cat([part.flatten() for part in kept])[None],
        )

    def dense(self) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
        """Return masks, weights (out, in) and biases (out,) in the shape of the dense network."""
        masks, weights, biases = [], [], []
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            below, above = self.units[layer].numpy(), self.units[layer + 1].numpy()
            mask, weight = np.zeros((n_out, n_in), dtype=np.bool_), np.zeros((n_out, n_in), dtype=np.float32)
            bias = np.zeros(n_out, dtype=np.float32)
            mask[np.ix_(above, below)] = self.masks[layer].numpy()
            weight[np.ix_(above, below)] = self.weights[layer].numpy()
            bias[above] = self.biases[layer].numpy()
            for array in (mask, weight, bias):
                array.setflags(write=False)
            masks.append(mask)
            weights.append(weight)
            biases.append(bias)
        return tuple(masks), tuple(weights), tuple(biases)

    def __repr__(self) -> str:
        left = ", ".join(str(len(units)) for units in self.units)
        return f"CompactMLP([{left}] of {list(self.sizes)}, {self.n_edges} edges)"
