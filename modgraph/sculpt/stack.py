"""A stack of networks: B multi-layer perceptrons in one set of tensors.

Every network has its own weights, biases and masks; all networks of a stack have the same layer sizes. A stack is
never changed in place: pruning and training return a new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgraph.arrays import read_only

ARRAYS = ("masks", "weights", "biases")
"""What a network consists of, by layer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StackedMLP:
    """B networks of the same layer sizes: ReLU hidden layers, sigmoid outputs, biases.

    The parameters of a network fill one row: the weights of all layers, each (out, in), then the biases of all layers.

    Attributes
    ----------
    sizes : tuple of int
        Units of every layer, inputs first.
    parameters : torch.Tensor
        (B, P) float32; exactly 0 where not kept.
    kept : torch.Tensor
        (B, P) bool; a bias is kept as long as its unit has an incoming edge.

    Examples
    --------
    >>> stack = initial_stack((2, 8, 1), seeds=(0, 1, 2))
    >>> stack
    StackedMLP(3 networks, sizes=(2, 8, 1))
    >>> stack.weights[0].shape, stack.biases[0].shape
    (torch.Size([3, 8, 2]), torch.Size([3, 8]))
    >>> stack.select([2]).forward(torch.zeros(4, 2)).shape
    torch.Size([1, 4, 1])
    """

    sizes: tuple[int, ...]
    parameters: Tensor
    kept: Tensor

    @property
    def n_networks(self) -> int:
        """Number of networks, B."""
        return self.parameters.shape[0]

    @property
    def weights(self) -> list[Tensor]:
        """The weights of every layer, (B, out, in) views."""
        return split(self.parameters, self.sizes)[0]

    @property
    def biases(self) -> list[Tensor]:
        """The biases of every layer, (B, out) views."""
        return split(self.parameters, self.sizes)[1]

    @property
    def masks(self) -> list[Tensor]:
        """The edges of every layer, (B, out, in) bool views; True = kept."""
        return split(self.kept, self.sizes)[0]

    @property
    def n_edges(self) -> Tensor:
        """Number of edges that each network keeps, (B,) int64."""
        return edges_of(self.kept, self.sizes).sum(1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (B, n, n_out) in [0, 1] for inputs (n, n_in) or (B, n, n_in)."""
        return activations(self, inputs)[-1].sigmoid()

    def select(self, index: Tensor | Sequence[int]) -> StackedMLP:
        """Return the stack of the networks at `index`, in that order; repeats are allowed."""
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.kept.device)
        return dataclasses.replace(self, parameters=self.parameters[rows], kept=self.kept[rows])

    def replace(self, index: Tensor | Sequence[int], other: StackedMLP) -> StackedMLP:
        """Return this stack with the networks at `index` replaced by those of `other`."""
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.kept.device)
        return dataclasses.replace(
            self,
            parameters=self.parameters.index_copy(0, rows, other.parameters),
            kept=self.kept.index_copy(0, rows, other.kept),
        )

    def prune(self, keep: Tensor) -> StackedMLP:
        """Return the stack without the edges for which `keep` (B, edges of all layers) is False.

        A unit that has no incoming edge left loses its bias.
        """
        edges = edges_of(self.kept, self.sizes) & keep  # (B, edges)
        units = [mask.any(2) for mask in split(edges, self.sizes)[0]]  # [layer]: (B, out)
        kept = torch.cat([edges, *units], dim=1)
        return dataclasses.replace(self, parameters=self.parameters.where(kept, 0), kept=kept)

    def __repr__(self) -> str:
        return f"StackedMLP({self.n_networks} networks, sizes={self.sizes})"


def n_dense_edges(sizes: Sequence[int]) -> int:
    """Return the number of edges of a dense network."""
    return sum(n_in * n_out for n_in, n_out in pairwise(sizes))


def edges_of(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the columns of (B, P) rows that belong to weights, (B, edges of all layers)."""
    return rows[:, : n_dense_edges(sizes)]


def split(rows: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Return views of (B, P) rows: weights (B, out, in) and, if the rows have them, biases (B, out)."""
    weights, biases, start = [], [], 0
    for n_in, n_out in pairwise(sizes):
        weights.append(rows[:, start : start + n_out * n_in].unflatten(1, (n_out, n_in)))
        start += n_out * n_in
    for n_out in sizes[1:]:
        biases.append(rows[:, start : start + n_out])
        start += n_out
    return weights, biases


def between(units: Sequence[Tensor]) -> Tensor:
    """Return which edges join two of the `units`, [layer]: (…, n) bool; the result is (…, edges of all layers)."""
    pairs = [above[..., :, None] & below[..., None, :] for below, above in pairwise(units)]
    return torch.cat([pair.flatten(-2) for pair in pairs], dim=-1)


def on_paths(masks: Sequence[Tensor]) -> list[Tensor]:
    """Return the units of every layer that lie on a path from an input to an output, (…, n) bool; all outputs count.

    `masks` are the edges of every layer, (…, out, in) bool.
    """
    units = [masks[0].new_ones(masks[0].shape[:-2] + masks[0].shape[-1:])]
    units += [masks[0].new_ones(mask.shape[:-1]) for mask in masks]
    for layer, mask in enumerate(masks[:-1], start=1):  # reached from an input
        units[layer] = (mask & units[layer - 1][..., None, :]).any(-1)
    for layer in reversed(range(len(masks))):  # reaches an output
        units[layer] &= (masks[layer] & units[layer + 1][..., :, None]).any(-2)
    return units


def arrays_of(stack: StackedMLP) -> list[dict[str, Any]]:
    """Return the read-only `masks`, `weights` and `biases` of each network; they share the memory of the stack."""
    layers = {name: [read_only(layer.cpu().numpy()) for layer in getattr(stack, name)] for name in ARRAYS}
    return [{name: tuple(layer[row] for layer in layers[name]) for name in ARRAYS} for row in range(stack.n_networks)]


def keyed_generator(*key: int) -> torch.Generator:
    """Return a CPU generator whose stream depends on every number of `key` (ints ≥ 0)."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))


def initial_stack(sizes: Sequence[int], *, seeds: Sequence[int], device: torch.device | None = None) -> StackedMLP:
    """Return new dense networks: Kaiming-normal weights (fan in, gain √2), zero biases.

    Network b depends on ``seeds[b]`` and `sizes` only; the numbers are drawn on the CPU, whatever the device.
    """
    drawn: dict[int, Tensor] = {}
    for seed in set(seeds):
        generator = keyed_generator(seed, 0, 0)
        weights = [
            torch.empty(n_out * n_in, dtype=torch.float32).normal_(0.0, (2.0 / n_in) ** 0.5, generator=generator)
            for n_in, n_out in pairwise(sizes)
        ]
        drawn[seed] = torch.cat([*weights, torch.zeros(sum(sizes[1:]))])  # (P,)
    parameters = torch.stack([drawn[seed] for seed in seeds]).to(device)  # (B, P)
    kept = torch.ones_like(parameters, dtype=torch.bool)
    return StackedMLP(sizes=tuple(sizes), parameters=parameters, kept=kept)


def activations(stack: StackedMLP, inputs: Tensor) -> list[Tensor]:
    """Return the inputs, every hidden layer after its ReLU, and the outputs before the sigmoid.

    `inputs` is (n, n_in) or (B, n, n_in); the results are (B, n, units of the layer).
    """
    layers = [inputs.expand(stack.n_networks, -1, -1)]  # (B, n, n_in)
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        below = layers[-1].relu_() if len(layers) > 1 else layers[-1]
        layers.append(torch.baddbmm(bias[:, None, :], below, weight.transpose(1, 2)))  # (B, n, out)
    return layers
