"""The stack: shapes, pruning, and the random numbers it starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modgraph.sculpt import StackedMLP
from modgraph.sculpt.stack import initial_stack, keyed_generator

SIZES = (3, 10, 7, 2)


def pruned_stack(n: int, seed: int = 0) -> StackedMLP:
    """Networks with some units and some edges missing, and biases that are not all 0."""
    generator = torch.Generator().manual_seed(seed)
    stack = initial_stack(SIZES, seeds=list(range(n)))
    for bias in stack.biases:
        bias.normal_(generator=generator)
    gone = [torch.rand(n, size, generator=generator) < 0.4 for size in SIZES[1:-1]]
    masks = [torch.rand(m.shape, generator=generator) < 0.7 for m in stack.masks]
    for layer, units in enumerate(gone):
        masks[layer] &= ~units[:, :, None]
        masks[layer + 1] &= ~units[:, None, :]
    return stack.prune(torch.cat([mask.flatten(1) for mask in masks], dim=1))


def equal(a: StackedMLP, b: StackedMLP) -> bool:
    return a.sizes == b.sizes and torch.equal(a.parameters, b.parameters) and torch.equal(a.kept, b.kept)


def test_initial_weights_are_kaiming_normal() -> None:
    stack = initial_stack((50, 400, 3), seeds=[0, 1])
    assert stack.weights[0].shape == (2, 400, 50)
    for weight, fan_in in zip(stack.weights, (50, 400), strict=True):
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert all((bias == 0).all() for bias in stack.biases)
    assert all(mask.all() for mask in stack.masks)


def test_initial_weights_are_torchs_own_for_the_same_stream() -> None:
    generator = keyed_generator(5, 0, 0)
    layer = torch.empty(4, 3)
    torch.nn.init.kaiming_normal_(layer, nonlinearity="relu", generator=generator)
    assert torch.equal(initial_stack((3, 4, 1), seeds=[2, 5]).weights[0][1], layer)


def test_forward_is_the_plain_network() -> None:
    stack = pruned_stack(3)
    inputs = torch.randn(5, 3)
    for b in range(3):
        x = inputs
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            x = torch.relu(x) if x is not inputs else x
            x = x @ weight[b].T + bias[b]
        torch.testing.assert_close(stack.forward(inputs)[b], torch.sigmoid(x))
    assert stack.forward(inputs).shape == (3, 5, 2)


def test_select_and_replace() -> None:
    stack = pruned_stack(5)
    assert equal(stack.select([3, 1]).select([1, 0]), stack.select([1, 3]))
    other = pruned_stack(2, seed=9)
    replaced = stack.replace([4, 0], other)
    assert equal(replaced.select([4, 0]), other)
    assert equal(replaced.select([1, 2, 3]), stack.select([1, 2, 3]))
    assert stack.n_edges.tolist() == [sum(int(m[b].sum()) for m in stack.masks) for b in range(5)]


def test_a_row_holds_the_weights_of_all_layers_and_then_the_biases() -> None:
    stack = pruned_stack(2)
    parts = [*(w[1].flatten() for w in stack.weights), *(b[1] for b in stack.biases)]
    assert torch.equal(stack.parameters[1], torch.cat(parts))
    assert [w.shape for w in stack.weights] == [(2, 10, 3), (2, 7, 10), (2, 2, 7)]
    assert [m.dtype for m in stack.masks] == [torch.bool] * 3


def test_prune_zeroes_weights_and_orphaned_biases() -> None:
    stack = pruned_stack(6)
    for weight, bias, mask in zip(stack.weights, stack.biases, stack.masks, strict=True):
        assert (weight[~mask] == 0).all()
        assert (bias[~mask.any(2)] == 0).all()
        assert (bias[mask.any(2)] != 0).all()


def test_keys_give_different_streams() -> None:
    keys = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (0, 1, 3)]
    draws = [torch.rand(3, generator=keyed_generator(*key)) for key in keys]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)
    assert np.array_equal(draws[0], torch.rand(3, generator=keyed_generator(*keys[0])))
