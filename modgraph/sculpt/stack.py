"""A stack of networks: B multi-layer perceptrons in one set of tensors.

Every network has its own weights, biases and masks; all of one stack have the same layer sizes.
A stack is never changed in place: pruning and training make a new one.

Bits and company
----------------
A network's arithmetic must not depend on who shares its stack. On a CPU that takes care: vector
loops treat the last few elements of a tensor with scalar code that rounds differently, and matrix
kernels choose their path by the alignment of their operands. So everything that computes works on
*packed* stacks (`pack`): each layer's width is a multiple of `ALIGN`, which puts every network's
matrix on a 64-byte boundary, and the caller pads the number of networks to a multiple of
`STACK_GRAIN`, which leaves no element for the scalar code. Packing also leaves out pruned units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

__all__ = ["ALIGN", "STACK_GRAIN", "StackedMLP", "initial_stack", "keyed_generator"]

ALIGN = 4
"""Packed layers, and batches, are multiples of this: 4 × 4 floats are 64 bytes, a cache line."""

STACK_GRAIN = 32
"""Packed stacks are multiples of this: two of the widest vectors (16 floats), one loop body."""

WIDTH_GRAIN = 8
"""Hidden layers are packed to multiples of this, so that few shapes arise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StackedMLP:
    """B networks of the same layer sizes: ReLU hidden layers, sigmoid outputs, biases.

    Attributes
    ----------
    weights : tuple of torch.Tensor
        One a weight layer, (B, out, in) float32; exactly 0 where pruned.
    biases : tuple of torch.Tensor
        (B, out) float32; exactly 0 where no incoming edge is left.
    masks : tuple of torch.Tensor
        (B, out, in) bool; True = kept.

    Examples
    --------
    >>> stack = initial_stack((2, 8, 1), seeds=(0, 1, 2))
    >>> stack
    StackedMLP(3 networks, sizes=(2, 8, 1))
    >>> stack.select([2]).forward(torch.zeros(4, 2)).shape
    torch.Size([1, 4, 1])
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    @property
    def n_networks(self) -> int:
        """Number of networks, B."""
        return self.biases[0].shape[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of every layer, inputs first."""
        return (self.weights[0].shape[2], *(bias.shape[1] for bias in self.biases))

    @property
    def n_edges(self) -> Tensor:
        """Edges kept by each network, (B,) int64."""
        return sum((mask.sum((1, 2)) for mask in self.masks), start=torch.tensor(0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (B, n, n_out) in [0, 1] for inputs (n, n_in) or (B, n, n_in)."""
        return activations(self, inputs)[-1].sigmoid()

    def select(self, index: Tensor | Sequence[int]) -> StackedMLP:
        """Return the stack of the networks at `index`, in that order; repeats are allowed."""
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.biases[0].device)
        return StackedMLP(
            weights=tuple(weight[rows] for weight in self.weights),
            biases=tuple(bias[rows] for bias in self.biases),
            masks=tuple(mask[rows] for mask in self.masks),
        )

    def replace(self, index: Tensor | Sequence[int], other: StackedMLP) -> StackedMLP:
        """Return this stack with the networks at `index` replaced by those of `other`."""
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.biases[0].device)

        def replaced(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(a.index_copy(0, rows, b) for a, b in zip(mine, theirs, strict=True))

        return StackedMLP(
            weights=replaced(self.weights, other.weights),
            biases=replaced(self.biases, other.biases),
            masks=replaced(self.masks, other.masks),
        )

    def prune(self, masks: Sequence[Tensor]) -> StackedMLP:
        """Return the stack without the edges that `masks` ((B, out, in) bool) drop.

        A unit whose incoming edges are all gone loses its bias.
        """
        pairs = zip(self.weights, self.biases, masks, strict=True)
        kept = [(w.where(mask, 0), b.where(mask.any(2), 0)) for w, b, mask in pairs]
        return StackedMLP(
            weights=tuple(weight for weight, _ in kept),  # (B, out, in)
            biases=tuple(bias for _, bias in kept),  # (B, out)
            masks=tuple(masks),
        )

    def __repr__(self) -> str:
        return f"StackedMLP({self.n_networks} networks, sizes={self.sizes})"


def keyed_generator(*key: int) -> torch.Generator:
    """Return a CPU generator whose stream depends on the whole `key` (integers ≥ 0)."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))


def initial_stack(sizes: Sequence[int], *, seeds: Sequence[int], device: torch.device | None = None) -> StackedMLP:
    """Return fresh dense networks: Kaiming-normal weights (fan in, gain √2), zero biases.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer, inputs first.
    seeds : sequence of int
        One a network (≥ 0); network b depends on ``seeds[b]`` and `sizes` only.
    device : torch.device, optional
        Where the stack shall live. The numbers are always drawn on the CPU.

    Returns
    -------
    StackedMLP
    """
    drawn: dict[int, list[Tensor]] = {}
    for seed in seeds:
        if seed not in drawn:
            generator = keyed_generator(seed, 0, 0)
            drawn[seed] = [
                torch.empty(n_out, n_in, dtype=torch.float32).normal_(
                    0.0, (2.0 / n_in) ** 0.5, generator=generator
                )  # (out, in)
                for n_in, n_out in pairwise(sizes)
            ]
    weights = tuple(
        torch.stack(layers).to(device)  # (B, out, in)
        for layers in zip(*(drawn[seed] for seed in seeds), strict=True)
    )
    return StackedMLP(
        weights=weights,
        biases=tuple(torch.zeros_like(weight[:, :, 0]) for weight in weights),  # (B, out)
        masks=tuple(torch.ones_like(weight, dtype=torch.bool) for weight in weights),
    )


def activations(stack: StackedMLP, inputs: Tensor) -> list[Tensor]:
    """Return the inputs, every hidden layer after its ReLU, and the outputs before the sigmoid.

    `inputs` is (n, n_in) or (B, n, n_in); the results are (B, n, units of the layer).
    """
    layers = [inputs.expand(stack.n_networks, -1, -1)]  # (B, n, n_in)
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        if len(layers) > 1:
            layers[-1].relu_()
        z = torch.baddbmm(bias[:, None, :], layers[-1], weight.transpose(1, 2))  # (B, n, out)
        layers.append(z)
    return layers


def round_up(number: int, grain: int) -> int:
    """Return the smallest multiple of `grain` that is at least `number`."""
    return -(-number // grain) * grain


def live_units(stack: StackedMLP) -> list[Tensor]:
    """Return for every layer which units still have an edge, (B, units) bool.

    Inputs and outputs count as live always: the table has a column for each.
    """
    ends = [torch.ones(1, dtype=torch.bool, device=stack.biases[0].device)]
    first = ends[0].expand(stack.n_networks, stack.sizes[0])
    last = ends[0].expand(stack.n_networks, stack.sizes[-1])
    hidden = [
        below.any(2) | above.any(1)  # a unit without inputs still decays: it stays until isolated
        for below, above in pairwise(stack.masks)
    ]
    return [first, *hidden, last]


def packed_widths(live: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Return the packed width of every layer, one tuple a network.

    All hidden layers get the width of the fullest one, so that few shapes arise. The widths depend
    on the network only, not on its company, so that its arithmetic does too.
    """
    sizes = [round_up(units.shape[1], ALIGN) for units in live]
    fullest = torch.stack([units.sum(1) for units in live[1:-1]]).amax(0)  # (B,)
    hidden = [round_up(max(count, 1), WIDTH_GRAIN) for count in fullest.tolist()]
    return [(sizes[0], *(min(width, size) for size in sizes[1:-1]), sizes[-1]) for width in hidden]


def places(live: Sequence[Tensor], widths: Sequence[int]) -> list[Tensor]:
    """Return which dense unit sits at each place of the packed layers, (B, width) int64.

    Live units keep their order; a place without a unit holds the number of dense units, which is
    one past the last.
    """
    units = []
    for alive, width in zip(live, widths, strict=True):
        n = alive.shape[1]
        order = (~alive).to(torch.int8).argsort(dim=1, stable=True)  # (B, n), the live ones first
        order = F.pad(order, (0, max(0, width - n)), value=n)[:, :width]  # (B, width)
        taken = torch.arange(width, device=alive.device) < alive.sum(1, keepdim=True)
        units.append(torch.where(taken, order, n))
    return units


def pack(stack: StackedMLP, units: Sequence[Tensor]) -> StackedMLP:
    """Return the networks with only the given `places`, padded with zeros."""

    def gather(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        batch = torch.arange(len(matrix), device=matrix.device)[:, None, None]
        padded = F.pad(matrix, (0, 1, 0, 1))  # (B, out + 1, in + 1): the places without a unit
        return padded[batch, rows[:, :, None], columns[:, None, :]]  # (B, width out, width in)

    pairs = list(pairwise(units))
    return StackedMLP(
        weights=tuple(gather(w, above, below) for w, (below, above) in zip(stack.weights, pairs, strict=True)),
        biases=tuple(
            F.pad(b, (0, 1)).gather(1, above)  # (B, width)
            for b, above in zip(stack.biases, units[1:], strict=True)
        ),
        masks=tuple(gather(m, above, below) for m, (below, above) in zip(stack.masks, pairs, strict=True)),
    )


def unpack(packed: StackedMLP, units: Sequence[Tensor], stack: StackedMLP) -> StackedMLP:
    """Return `stack` with the weights and biases of `packed`; the inverse of `pack`."""
    weights, biases = [], []
    for layer, (weight, bias) in enumerate(zip(packed.weights, packed.biases, strict=True)):
        rows, columns = units[layer + 1], units[layer]
        _, n_out, n_in = stack.weights[layer].shape
        batch = torch.arange(len(weight), device=weight.device)[:, None, None]
        dense = weight.new_zeros(len(weight), n_out + 1, n_in + 1)  # (B, out + 1, in + 1)
        dense[batch, rows[:, :, None], columns[:, None, :]] = weight
        weights.append(dense[:, :-1, :-1].contiguous())  # (B, out, in)
        biases.append(unpack_units(bias, rows, n_out))  # (B, out)
    return StackedMLP(weights=tuple(weights), biases=tuple(biases), masks=stack.masks)


def unpack_units(values: Tensor, units: Tensor, n_units: int) -> Tensor:
    """Return values of packed units (B, width) at their dense places, (B, n_units); else 0."""
    dense = values.new_zeros(len(values), n_units + 1)  # (B, n_units + 1)
    return dense.scatter_(1, units, values)[:, :-1].contiguous()
