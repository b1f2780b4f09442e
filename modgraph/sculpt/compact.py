"""A compact network: one wide multi-layer perceptron that stores only the units on a path from an input to an output.

A pruned network of a stack keeps the shape of the dense network; a compact one shrinks, and remembers which units of
the dense network are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from modgraph.sculpt.prune import prune_units
from modgraph.sculpt.stack import StackedMLP, between, edges_of, n_dense_edges, on_paths
from modgraph.sculpt.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CompactMLP:
    """One network: ReLU hidden layers, biases; without the units that pruning removed."""

    sizes: tuple[int, ...]  # units of every layer of the dense network, inputs first
    units: tuple[Tensor, ...]  # [l]: (n_l,) int64, the units of layer l that are left, increasing; all outputs are
    stack: StackedMLP  # these units, as a stack of one network

    @classmethod
    def of(cls, stack: StackedMLP) -> CompactMLP:
        """Return the only network of a stack, without the units on no path."""
        units = tuple(torch.arange(size, device=stack.kept.device) for size in stack.sizes)
        return cls(sizes=stack.sizes, units=units, stack=stack)._trimmed(stack)

    @property
    def masks(self) -> list[Tensor]:
        """The edges between the units that are left, [l]: (n_{l+1}, n_l) bool."""
        return [mask[0] for mask in self.stack.masks]

    @property
    def weights(self) -> list[Tensor]:
        """Their weights, (n_{l+1}, n_l) float32."""
        return [weight[0] for weight in self.stack.weights]

    @property
    def biases(self) -> list[Tensor]:
        """The biases, (n_{l+1},) float32; exactly 0 where a unit has no incoming edge."""
        return [bias[0] for bias in self.stack.biases]

    @property
    def n_edges(self) -> int:
        """Number of edges kept."""
        return int(self.stack.n_edges[0])

    @property
    def n_weights(self) -> int:
        """Number of edges that are possible between the units left."""
        return n_dense_edges(self.stack.sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs before their activation, (n, n_out), for values of the inputs that are left, (n, n_0)."""
        return outputs_of(inputs, self.weights, self.biases)

    def view(self, task: Task) -> Task:
        """Return a task with the inputs that are left."""
        return Task(inputs=task.inputs[:, self.units[0]], targets=task.targets)

    def prune(self, masks: Sequence[Tensor]) -> CompactMLP:
        """Return the network without the edges that are False in `masks`, and without the units on no path.

        A hidden unit that no input reaches is a constant. It is removed, and its constant with it, so that retraining
        starts from the network that the graph shows.
        """
        return self.with_edges(torch.cat([mask.flatten() for mask in masks]))

    def without_units(self, keep: Tensor) -> CompactMLP:
        """Return the network without the hidden units for which `keep` (hidden units left,) is False."""
        return self._trimmed(prune_units(self.stack, keep[None]))

    def with_edges(self, keep: Tensor) -> CompactMLP:
        """Return the network without the edges for which `keep` (pairs of units left of all layers,) is False."""
        return self._trimmed(self.stack.prune(keep[None]))

    def with_parameters(self, parameters: Tensor) -> CompactMLP:
        """Return the network with other weights and biases, all in one (P,) tensor."""
        return replace(self, stack=replace(self.stack, parameters=parameters[None]))

    def dense(self) -> StackedMLP:
        """Return the network in the shape of the dense network, as a stack of one."""
        present = [torch.zeros(size, dtype=torch.bool) for size in self.sizes]
        for layer, units in zip(present, self.units, strict=True):
            layer[units.cpu()] = True
        columns = torch.cat([between(present), *present[1:]])  # of the parameters that are left
        parameters, kept = (torch.zeros(1, len(columns), dtype=kind) for kind in (torch.float32, torch.bool))
        parameters[:, columns], kept[:, columns] = self.stack.parameters.cpu(), self.stack.kept.cpu()
        return StackedMLP(sizes=self.sizes, parameters=parameters, kept=kept)

    def _trimmed(self, stack: StackedMLP) -> CompactMLP:
        """Return the network `stack`, whose units are those of this one, without the units on no path."""
        present = on_paths([mask[0] for mask in stack.masks])
        columns = torch.cat([between(present), *present[1:]])
        sizes = tuple(int(layer.sum()) for layer in present)
        left = StackedMLP(sizes=sizes, parameters=stack.parameters[:, columns], kept=stack.kept[:, columns])
        units = tuple(units[layer] for units, layer in zip(self.units, present, strict=True))
        return CompactMLP(sizes=self.sizes, units=units, stack=left.prune(edges_of(left.kept, sizes)))

    def __repr__(self) -> str:
        left = ", ".join(str(size) for size in self.stack.sizes)
        return f"CompactMLP([{left}] of {list(self.sizes)}, {self.n_edges} edges)"


def outputs_of(values: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Return the outputs (n, n_out), before their activation, of a network for inputs (n, n_in)."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values = F.relu(F.linear(values, weight, bias))
    return F.linear(values, weights[-1], biases[-1])
