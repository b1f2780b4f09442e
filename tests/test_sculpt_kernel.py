"""The kernel's own functions: vectors in compiled code, and what is computed with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from torch.nn import functional as F

from modgraph.sculpt import kernel
from modgraph.sculpt.vectors import LANES, ROWS, block, over_rows, row, store

N = 4096
X = np.concatenate([np.linspace(-100, 100, N - 8), [0, -0.0, 1e-30, -1e-30, 1e30, -1e30, np.inf, -np.inf]])


@njit
def each(function: Any, x: Any, y: Any) -> Any:
    out = np.empty_like(x)
    for i in range(len(x) // (LANES * ROWS)):
        store(out, i, function(block(x, i), block(y, i)))
    return out


@njit
def sigmoid(z: Any, _: Any) -> Any:
    return kernel._sigmoid(z)


@njit
def exponential(x: Any, _: Any) -> Any:
    return kernel._exp(x)


@njit
def loss(z: Any, y: Any) -> Any:
    return kernel._loss(z, y)


@njit
def mixture(x: Any, y: Any) -> Any:
    """Numbers fill a block, rows are repeated, and sums over rows mix no lanes."""
    return (2 - over_rows(x, y)) * x / 3 + y


def test_exponential_is_accurate_to_a_unit_in_the_last_place() -> None:
    x = np.linspace(-87, 0, N).astype(np.float32)
    np.testing.assert_allclose(each(exponential, x, x), np.exp(x.astype(np.float64)), rtol=1.5e-7)


def test_sigmoid_is_torchs() -> None:
    x = X.astype(np.float32)
    wanted = torch.from_numpy(x).to(torch.float64).sigmoid().numpy()
    np.testing.assert_allclose(each(sigmoid, x, x), wanted, rtol=3e-7, atol=2e-38)  # it ends at e⁻⁸⁷


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_loss_is_torchs(y: float) -> None:
    x = np.linspace(-80, 80, N).astype(np.float32)
    targets = np.full_like(x, y)
    z = torch.from_numpy(x).to(torch.float64)
    wanted = F.binary_cross_entropy_with_logits(z, torch.full_like(z, y), reduction="none").numpy()
    np.testing.assert_allclose(each(loss, x, targets), wanted, rtol=3e-7, atol=1e-7)


def test_numbers_rows_and_blocks_mix() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 3, ROWS, LANES)).astype(np.float32)
    sums = (x.astype(np.float64) * y).sum(1, keepdims=True)
    out = each(mixture, x.ravel(), y.ravel()).reshape(x.shape)
    np.testing.assert_allclose(out, (2 - sums) * x / 3 + y, rtol=1e-4, atol=1e-5)


def test_rows_and_blocks_lie_one_behind_the_other() -> None:
    @njit
    def swap(x: Any) -> Any:
        out = np.zeros_like(x)
        store(out, 0, block(x, 1))
        store(out, ROWS, row(x, 2))
        return out

    x = np.arange(2 * ROWS * LANES, dtype=np.float32)
    blocks, rows = x.reshape(2, -1), x.reshape(-1, LANES)
    out = swap(x)
    assert np.array_equal(out[: ROWS * LANES], blocks[1])
    assert np.array_equal(out.reshape(-1, LANES)[ROWS], rows[2])
    assert not out.reshape(-1, LANES)[ROWS + 1 :].any()
