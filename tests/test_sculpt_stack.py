"""The stack: shapes, packing, and the random numbers it starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modgraph.sculpt import StackedMLP
from modgraph.sculpt.stack import (
    ALIGN,
    activations,
    initial_stack,
    live_units,
    pack,
    packed_widths,
    places,
    unpack,
    unpack_units,
)

SIZES = (3, 10, 7, 2)


def pruned_stack(n: int, seed: int = 0) -> StackedMLP:
    """Networks with some units and some edges missing, and biases that are not all 0."""
    generator = torch.Generator().manual_seed(seed)
    stack = initial_stack(SIZES, seeds=list(range(n)))
    stack = StackedMLP(
        weights=stack.weights,
        biases=tuple(torch.randn(b.shape, generator=generator) for b in stack.biases),
        masks=stack.masks,
    )
    gone = [torch.rand(n, size, generator=generator) < 0.4 for size in SIZES[1:-1]]
    masks = [torch.rand(m.shape, generator=generator) < 0.7 for m in stack.masks]
    for layer, units in enumerate(gone):
        masks[layer] &= ~units[:, :, None]
        masks[layer + 1] &= ~units[:, None, :]
    return stack.prune(masks)


def equal(a: StackedMLP, b: StackedMLP) -> bool:
    mine, theirs = ((*s.weights, *s.biases, *s.masks) for s in (a, b))
    return all(torch.equal(x, y) for x, y in zip(mine, theirs, strict=True))


def test_initial_weights_are_kaiming_normal() -> None:
    stack = initial_stack((50, 400, 3), seeds=[0, 1])
    assert stack.weights[0].shape == (2, 400, 50)
    for weight, fan_in in zip(stack.weights, (50, 400), strict=True):
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert all((bias == 0).all() for bias in stack.biases)
    assert all(mask.all() for mask in stack.masks)


def test_initial_weights_are_torchs_own_for_the_same_stream() -> None:
    from modgraph.sculpt.stack import keyed_generator

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


def test_packing_loses_nothing() -> None:
    stack = pruned_stack(40)
    live, shapes = live_units(stack), packed_widths(live_units(stack))
    assert len(set(shapes)) > 1
    for shape in set(shapes):
        assert all(width % ALIGN == 0 for width in shape)
        rows = [b for b, other in enumerate(shapes) if other == shape]
        some = stack.select(rows)
        units = places([alive[rows] for alive in live], shape)
        packed = pack(some, units)
        assert packed.sizes == shape
        assert equal(unpack(packed, units, some), some)
        inputs = torch.randn(6, SIZES[0])
        padded = torch.nn.functional.pad(inputs, (0, shape[0] - SIZES[0]))
        torch.testing.assert_close(packed.forward(padded)[:, :, : SIZES[-1]], some.forward(inputs))
        hidden = activations(packed, padded)[1][:, 0]
        torch.testing.assert_close(
            unpack_units(hidden, units[1], SIZES[1]),
            activations(some, inputs)[1][:, 0] * live[1][rows],
        )


def test_packed_width_of_a_network_ignores_its_company() -> None:
    stack = pruned_stack(20)
    together = packed_widths(live_units(stack))
    alone = [packed_widths(live_units(stack.select([b])))[0] for b in range(20)]
    assert together == alone


def test_prune_zeroes_weights_and_orphaned_biases() -> None:
    stack = pruned_stack(6)
    for weight, bias, mask in zip(stack.weights, stack.biases, stack.masks, strict=True):
        assert (weight[~mask] == 0).all()
        assert (bias[~mask.any(2)] == 0).all()
        assert (bias[mask.any(2)] != 0).all()


def test_keys_give_different_streams() -> None:
    from modgraph.sculpt.stack import keyed_generator

    keys = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (0, 1, 3)]
    draws = [torch.rand(3, generator=keyed_generator(*key)) for key in keys]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)
    assert np.array_equal(draws[0], torch.rand(3, generator=keyed_generator(*keys[0])))
