"""Scores, cuts and the schedule, each against a plain definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modgraph.sculpt import Task, TrainSettings, kernel
from modgraph.sculpt.engine import Engine
from modgraph.sculpt.prune import (
    Schedule,
    edge_score,
    percentile_cut,
    prune_units,
    scored,
    unit_score,
)
from modgraph.sculpt.stack import initial_stack
from tests.test_sculpt_stack import SIZES, pruned_stack

floats = st.floats(0, 10, width=32)


@given(
    rows=st.integers(1, 30).flatmap(
        lambda n: st.lists(st.lists(floats, min_size=n, max_size=n), min_size=1, max_size=4)
    ),
    data=st.data(),
)
def test_percentile_is_numpys(rows: list[list[float]], data: st.DataObject) -> None:
    scores = np.array(rows, dtype=np.float32)
    target = np.array([data.draw(st.floats(0, 100)) for _ in rows])
    cut = percentile_cut(torch.from_numpy(scores), target).numpy()[:, 0]
    wanted = [np.percentile(row.astype(np.float64), q) for row, q in zip(scores, target, strict=True)]
    np.testing.assert_allclose(cut, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("target", [0.0, 30.0, 62.5, 99.0])
def test_absent_scores_are_zeros(target: float) -> None:
    scores = torch.rand(2, 5)
    cut = percentile_cut(scores, np.full(2, target), absent=3).numpy()[:, 0]
    padded = np.concatenate([scores.numpy().astype(np.float64), np.zeros((2, 3))], axis=1)
    np.testing.assert_allclose(cut, np.percentile(padded, target, axis=1), rtol=1e-12)


def test_percentile_of_equal_scores_is_that_score() -> None:
    scores = torch.full((1, 48), 0.1)
    for target in np.linspace(0, 100, 33):
        assert not (scores > percentile_cut(scores, np.array([target]))).any()


@pytest.mark.parametrize("score", [unit_score, kernel.unit_score])
def test_unit_scores_are_autograds_sample_by_sample(score: Callable[..., torch.Tensor]) -> None:
    stack = pruned_stack(11)
    inputs = torch.randn(21, 3)
    targets = torch.randint(0, 2, (21, 2)).to(torch.float32)
    scores = score(stack, Task(inputs=inputs, targets=targets))
    for b in range(stack.n_networks):
        totals = [torch.zeros(size) for size in SIZES[1:-1]]
        for x, y in zip(inputs, targets, strict=True):
            hidden = []
            h = x
            for weight, bias in zip(stack.weights[:-1], stack.biases[:-1], strict=True):
                h = torch.relu(weight[b] @ h + bias[b]).requires_grad_()
                hidden.append(h)
            out = torch.sigmoid(stack.weights[-1][b] @ h + stack.biases[-1][b])
            loss = torch.nn.functional.binary_cross_entropy(out, y)
            for total, a, slope in zip(totals, hidden, torch.autograd.grad(loss, hidden), strict=True):
                total += (a * slope).abs().detach()
        torch.testing.assert_close(scores[b], torch.cat(totals) / 21)


def test_edge_scores_cover_the_dense_network() -> None:
    stack = pruned_stack(3)
    scores = edge_score(stack)
    assert scores.shape == (3, 3 * 10 + 10 * 7 + 7 * 2)
    assert torch.equal((scores > 0).sum(1), stack.n_edges)


def test_a_pruned_unit_loses_row_column_and_bias() -> None:
    stack = pruned_stack(2)
    keep = torch.ones(2, 17, dtype=torch.bool)
    keep[1, 10 + 3] = False  # unit 3 of the second hidden layer of network 1
    pruned = prune_units(stack, keep)
    assert not pruned.masks[1][1, 3].any()
    assert not pruned.masks[2][1, :, 3].any()
    assert pruned.biases[1][1, 3] == 0
    assert (pruned.weights[1][1, 3] == 0).all()
    assert all(torch.equal(a[0], b[0]) for a, b in zip(pruned.masks, stack.masks, strict=True))


def test_a_unit_without_incoming_edges_loses_its_bias_and_keeps_its_column() -> None:
    stack = pruned_stack(1)
    keep = torch.ones(1, 30 + 70 + 14, dtype=torch.bool)
    unit = int(torch.nonzero(stack.masks[0][0].any(1) & stack.masks[1][0].any(0))[0])
    keep[0, unit * 3 : unit * 3 + 3] = False
    pruned = stack.prune(keep)
    assert pruned.biases[0][0, unit] == 0
    assert torch.equal(pruned.masks[1], stack.masks[1])


@pytest.mark.parametrize("compiled", [True, False])
def test_only_scores_above_the_percentile_are_kept(compiled: bool) -> None:
    """The scores are 1 … 5 times a constant, so the 25th percentile is exactly the second of them."""
    task = Task(inputs=torch.ones(1, 1), targets=torch.zeros(1, 1))
    engine = Engine(task=task, settings=TrainSettings(), compiled=compiled)
    units = replace(
        initial_stack((1, 5, 1), seeds=[0]),
        parameters=torch.tensor([[1.0, 2, 3, 4, 5, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]),
    )
    kept = engine.pruned(units, phase="units", targets=np.array([25.0])).masks[0][0, :, 0]
    assert kept.tolist() == [False, False, True, True, True]
    edges = replace(initial_stack((5, 1), seeds=[0]), parameters=torch.tensor([[1.0, -2, 3, -4, 5, 0]]))
    kept = engine.pruned(edges, phase="edges", targets=np.array([25.0])).masks[0][0, 0]
    assert kept.tolist() == [False, False, True, True, True]


def by_hand(step: float, smallest: float, verdict: list[bool]) -> list[float]:
    """The schedule of method §1 for one network: the targets it trains at."""
    reached, trained = 0.0, []
    verdicts = iter(verdict)
    while True:
        target = reached + step
        if target < 100:
            trained.append(target)
            if next(verdicts):
                reached = target
                continue
        if step <= smallest:
            return trained
        step = max(step / 2, smallest)


@given(
    steps=st.lists(st.floats(0.5, 100), min_size=1, max_size=5),
    n=st.integers(1, 60),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0]),
)
def test_schedule_is_the_scalar_loop(steps: list[float], n: int, seed: int, share: float) -> None:
    verdicts = np.random.default_rng(seed).random((2000, len(steps))) < share
    schedule = Schedule.start(steps, smallest=100 / n)
    trained: list[list[float]] = [[] for _ in steps]
    turn = [0] * len(steps)
    while schedule.running.any():
        accepted = np.zeros(len(steps), dtype=np.bool_)
        for b in np.flatnonzero(schedule.running):
            trained[b].append(float(schedule.targets[b]))
            accepted[b] = verdicts[turn[b], b]
            turn[b] += 1
        schedule = schedule.after(accepted)
    for network, step in enumerate(steps):
        assert trained[network] == by_hand(step, 100 / n, verdicts[:, network].tolist())


def test_a_step_of_one_unit_ends_at_its_first_rejection() -> None:
    schedule = Schedule.start([10.0, 10.0], smallest=10.0, running=np.array([True, False]))
    assert schedule.running.tolist() == [True, False]
    assert not schedule.after(np.array([False, False])).running.any()


def test_a_target_of_a_hundred_is_rejected_untrained() -> None:
    schedule = Schedule.start([100.0], smallest=30.0)
    assert schedule.targets.tolist() == [50.0]
    schedule = schedule.after(np.array([True]))  # 100 again: 25 → clamped to 30 → target 80
    assert schedule.targets.tolist() == [80.0]
    assert not schedule.after(np.array([True])).running.any()


def test_taylor_scores_are_first_order_changes_of_the_mean_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modgraph.sculpt.prune.CHUNK", 8)  # of 21 samples: two full chunks and a part of one
    stack = pruned_stack(5)
    inputs = torch.randn(21, 3)
    targets = torch.randint(0, 2, (21, 2)).to(torch.float32)
    task, keys = Task(inputs=inputs, targets=targets), [(0,)] * stack.n_networks
    units, edges = (scored(phase, "taylor", stack, task, keys=keys) for phase in ("units", "edges"))
    for b in range(stack.n_networks):
        weights = [weight[b].detach().clone().requires_grad_() for weight in stack.weights]
        hidden, h = [], inputs
        for weight, bias in zip(weights[:-1], stack.biases[:-1], strict=True):
            h = torch.relu(h @ weight.T + bias[b])
            hidden.append(h)
        out = torch.sigmoid(h @ weights[-1].T + stack.biases[-1][b])
        loss = torch.nn.functional.binary_cross_entropy(out, targets)
        slopes = torch.autograd.grad(loss, [*weights, *hidden])
        expected = [(weight * slope).abs().detach().flatten() for weight, slope in zip(weights, slopes, strict=False)]
        torch.testing.assert_close(edges[b].sort().values, torch.cat(expected).sort().values)
        changes = [(a * slope).sum(0).abs() for a, slope in zip(hidden, slopes[len(weights) :], strict=True)]
        torch.testing.assert_close(units[b], torch.cat(changes).detach())


def test_published_scores_and_those_of_a_callable_are_taken_as_they_are() -> None:
    stack = pruned_stack(5)
    task = Task(inputs=torch.randn(9, 3), targets=torch.randint(0, 2, (9, 2)).to(torch.float32))
    keys = [(0,)] * stack.n_networks
    assert torch.equal(scored("units", "published", stack, task, keys=keys), unit_score(stack, task))
    assert torch.equal(scored("edges", "published", stack, task, keys=keys), edge_score(stack))
    edges = edge_score(stack)
    found = scored("edges", lambda *_: torch.ones_like(edges), stack, task, keys=keys)
    assert torch.equal(found, (edges > 0).to(found.dtype))  # pruned ones get 0
    for bad in (torch.full_like(edges, float("nan")), -torch.ones_like(edges), edges[:, 1:], edges + float("inf")):
        with pytest.raises(ValueError, match="the scores of edges must be finite numbers ≥ 0 of shape"):
            scored("edges", lambda *_, bad=bad: bad, stack, task, keys=keys)
