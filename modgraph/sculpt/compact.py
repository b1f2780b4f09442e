"""A compact network: one wide multi-layer perceptron that stores only the units on a path from an input to an output.

A pruned network of a stack keeps the shape of the dense network; a compact one shrinks, and remembers which units of
the dense network are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.arrays import read_only
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CompactMLP:
    """One network: ReLU hidden layers, biases; without the units that pruning removed."""

    sizes: tuple[int, ...]  # units of every layer of the dense network, inputs first
    units: tuple[Tensor, ...]  # [l]: (n_l,) int64, the units of layer l that are left, increasing; all outputs are
    masks: tuple[Tensor, ...]  # [l]: (n_{l+1}, n_l) bool; True = kept
    weights: tuple[Tensor, ...]  # [l]: (n_{l+1}, n_l) float32; exactly 0 where pruned
    biases: tuple[Tensor, ...]  # [l]: (n_{l+1},) float32; exactly 0 where a unit has no incoming edge

    @classmethod
    def of(cls, stack: StackedMLP) -> CompactMLP:
        """Return the only network of a stack, without the units on no path."""
        layers = (stack.masks, stack.weights, stack.biases)
        masks, weights, biases = (tuple(layer[0] for layer in part) for part in layers)
        units = tuple(torch.arange(size, device=stack.kept.device) for size in stack.sizes)
        whole = cls(sizes=stack.sizes, units=units, masks=masks, weights=weights, biases=biases)
        return whole.prune(masks)

    @property
    def n_edges(self) -> int:
        """Number of edges kept."""
        return sum(int(mask.sum()) for mask in self.masks)

    @property
    def n_weights(self) -> int:
        """Number of edges that are possible between the units left."""
        return sum(mask.numel() for mask in self.masks)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs before their activation, (n, n_out), for values of the inputs that are left, (n, n_0)."""
        values = inputs
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values = F.relu(F.linear(values, weight, bias))
        return F.linear(values, self.weights[-1], self.biases[-1])

    def view(self, task: Task) -> Task:
        """Return a task with the inputs that are left."""
        return Task(inputs=task.inputs[:, self.units[0]], targets=task.targets)

    def prune(self, masks: Sequence[Tensor]) -> CompactMLP:
        """Return the network with the edges `masks`, [l]: (n_{l+1}, n_l) bool, and without the units on no path.

        A hidden unit that no input reaches is a constant. It is removed, and its constant with it, so that retraining
        starts from the network that the graph shows.
        """
        on_path = [mask.new_ones(mask.shape[1]) for mask in masks]
        on_path.append(masks[-1].new_ones(self.sizes[-1]))
        for layer, mask in enumerate(masks[:-1], start=1):  # reached from an input
            on_path[layer] = mask[:, on_path[layer - 1]].any(1)
        for layer in reversed(range(len(masks))):  # reaches an output
            on_path[layer] &= masks[layer][on_path[layer + 1]].any(0)
        kept = [mask[above][:, below] for mask, (below, above) in zip(masks, pairwise(on_path), strict=True)]
        weights = [w[above][:, below] for w, (below, above) in zip(self.weights, pairwise(on_path), strict=True)]
        return CompactMLP(
            sizes=self.sizes,
            units=tuple(units[left] for units, left in zip(self.units, on_path, strict=True)),
            masks=tuple(kept),
            weights=tuple(weight * mask for weight, mask in zip(weights, kept, strict=True)),
            biases=tuple(b[above] * m.any(1) for b, above, m in zip(self.biases, on_path[1:], kept, strict=True)),
        )

    def without_units(self, keep: Tensor) -> CompactMLP:
        """Return the network without the hidden units for which `keep` (hidden units left,) is False."""
        hidden = keep.split([len(units) for units in self.units[1:-1]])
        first, last = (keep.new_ones(len(units)) for units in (self.units[0], self.units[-1]))
        masks = zip(self.masks, pairwise([first, *hidden, last]), strict=True)
        return self.prune([mask & above[:, None] & below for mask, (below, above) in masks])

    def with_edges(self, keep: Tensor) -> CompactMLP:
        """Return the network without the edges for which `keep` (pairs of units left of all layers,) is False."""
        kept = keep.split([mask.numel() for mask in self.masks])
        return self.prune([mask & part.view_as(mask) for mask, part in zip(self.masks, kept, strict=True)])

    def with_parameters(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> CompactMLP:
        """Return the network with other weights and biases."""
        return replace(self, weights=tuple(weights), biases=tuple(biases))

    def stack(self) -> StackedMLP:
        """Return the units that are left as a stack of one network."""
        kept = [*self.masks, *(mask.any(1) for mask in self.masks)]
        return StackedMLP(
            sizes=tuple(len(units) for units in self.units),
            parameters=torch.cat([part.flatten() for part in (*self.weights, *self.biases)])[None],
            kept=torch.cat([part.flatten() for part in kept])[None],
        )

    def dense(self) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
        """Return masks, weights (out, in) and biases (out,) in the shape of the dense network."""
        masks, weights, biases = [], [], []
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            below, above = self.units[layer].cpu().numpy(), self.units[layer + 1].cpu().numpy()
            masks.append(_spread(self.masks[layer], (n_out, n_in), np.ix_(above, below)))
            weights.append(_spread(self.weights[layer], (n_out, n_in), np.ix_(above, below)))
            biases.append(_spread(self.biases[layer], (n_out,), above))
        return tuple(masks), tuple(weights), tuple(biases)

    def __repr__(self) -> str:
        left = ", ".join(str(len(units)) for units in self.units)
        return f"CompactMLP([{left}] of {list(self.sizes)}, {self.n_edges} edges)"


def _spread(values: Tensor, shape: tuple[int, ...], places: Any) -> NDArray[Any]:
    """Return a read-only array of 0 with `values` at `places`."""
    given = values.cpu().numpy()
    array = np.zeros(shape, dtype=given.dtype)
    array[places] = given
    return read_only(array)
