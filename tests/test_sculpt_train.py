"""The training loop, its settings and its data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modgraph.sculpt import StackedMLP, Task, TrainSettings, as_task
from modgraph.sculpt.stack import initial_stack
from modgraph.sculpt.train import draw_batches, draw_epochs, padded_table, train

XOR = ([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 1], [1, 0], [1, 0], [0, 1]])
SETTINGS = TrainSettings(learning_rate=0.05, batch_size=3, epochs=4)


def xor() -> Task:
    return as_task(XOR)


def packed_stack(n: int) -> StackedMLP:
    """Networks of packed sizes whose padding inputs and outputs carry nothing."""
    stack = initial_stack((4, 8, 4), seeds=list(range(n)))
    masks = [mask.clone() for mask in stack.masks]
    masks[0][:, :, 2:] = False
    masks[1][:, 2:] = False
    masks[0][0, 3] = False  # a unit that lost its incoming edges
    masks[1][1, 0, 5] = False
    return stack.prune(masks)


def trained(stack: StackedMLP, settings: TrainSettings = SETTINGS) -> tuple[StackedMLP, torch.Tensor]:
    task = xor()
    return train(
        stack,
        batches=draw_batches(task, settings=settings, keys=[(0, 1, 0), (1, 1, 0)]),
        stream=torch.arange(stack.n_networks) % 2,
        table=padded_table(task),
        settings=settings,
    )


def test_training_changes_no_argument_and_keeps_pruned_at_zero() -> None:
    stack = packed_stack(32)
    before = [t.clone() for t in (*stack.weights, *stack.biases, *stack.masks)]
    best, correct = trained(stack)
    after = (*stack.weights, *stack.biases, *stack.masks)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for weight, bias, mask in zip(best.weights, best.biases, best.masks, strict=True):
        assert (weight[~mask] == 0).all()
        assert (bias[~mask.any(2)] == 0).all()
        assert (weight[mask] != 0).all()
    assert correct.min() >= 0
    assert correct.max() <= 8


def test_the_best_epoch_is_kept() -> None:
    """Fewer epochs are a prefix of more only where nothing later is better."""
    stack = packed_stack(32)
    best, correct = trained(stack, TrainSettings(learning_rate=0.5, batch_size=3, epochs=12))
    inputs = F.pad(xor().inputs, (0, 2))
    right = (best.forward(inputs)[:, :, :2] > 0.5) == (xor().targets > 0.5)
    assert torch.equal(right.sum((1, 2)), correct)


def test_batches_hold_every_sample_once_and_scale_to_the_mean() -> None:
    task = as_task((np.arange(35).reshape(7, 5), np.eye(7, 3)))
    settings = TrainSettings(batch_size=3, epochs=2, noise=0.0)
    batches = draw_batches(task, settings=settings, keys=[(0, 1, 0), (7, 1, 0)])
    assert batches.inputs.shape == (2, 2, 3, 4, 8)
    assert batches.targets.shape == (2, 2, 3, 4, 4)
    order, _ = draw_epochs((7, 5), settings=settings, key=(7, 1, 0))
    for step, members in enumerate((order[1][:3], order[1][3:6], order[1][6:])):
        rows = batches.inputs[1, 1, step]
        assert torch.equal(rows[: len(members), :5], task.inputs[members])
        assert not rows[len(members) :].any()
        scale = batches.scale[step]
        assert (scale[: len(members), :3] == 1 / (len(members) * 3)).all()
        assert scale.sum().item() == pytest.approx(1)


def test_noise_has_the_wanted_spread() -> None:
    order, noise = draw_epochs((50, 40), settings=TrainSettings(noise=0.3), key=(0, 1, 0))
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert torch.equal(order.sort(dim=1).values, torch.arange(50).expand(30, 50))


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("learning_rate", 0.0, "a finite number > 0 (got 0.0)"),
        ("learning_rate", math.nan, "a finite number > 0 (got nan)"),
        ("learning_rate", "fast", "a finite number > 0 (got 'fast')"),
        ("batch_size", 0, "an int ≥ 1 (got 0)"),
        ("batch_size", 8.0, "an int ≥ 1 (got 8.0)"),
        ("epochs", -3, "an int ≥ 1 (got -3)"),
        ("epochs", True, "an int ≥ 1 (got True)"),
        ("weight_decay", -1e-4, "a finite number ≥ 0 (got -0.0001)"),
        ("noise", math.inf, "a finite number ≥ 0 (got inf)"),
        ("accuracy_threshold", 0, "a number in (0, 1] (got 0)"),
        ("accuracy_threshold", 1.5, "a number in (0, 1] (got 1.5)"),
        ("dense_runs", 0, "an int ≥ 1 (got 0)"),
    ],
)
def test_settings_say_what_is_wrong(field: str, value: object, wanted: str) -> None:
    with pytest.raises(ValueError, match=r"must be") as error:
        TrainSettings(**{field: value})  # type: ignore[arg-type]
    assert str(error.value) == f"`{field}` must be {wanted}"


@pytest.mark.parametrize(
    ("target", "kind", "sentence"),
    [
        (3, TypeError, "a FunctionGraph or a pair of arrays (inputs, outputs) (got int)"),
        (([[0]], [[1]], [[1]]), TypeError, "a pair of arrays (inputs, outputs) (got tuple)"),
        (([0, 1], [[0], [1]]), ValueError, "inputs of shape (rows, columns)"),
        ((np.zeros((0, 2)), np.zeros((0, 1))), ValueError, "(got shape (0, 2))"),
        ((np.zeros((4, 2)), np.zeros((4, 0))), ValueError, "(got shape (4, 0))"),
        ((np.zeros((4, 2)), np.zeros((3, 1))), ValueError, "(got 4 and 3)"),
        (([[0], [np.nan]], [[0], [1]]), ValueError, "finite inputs (got nan at row 1, column 0)"),
        (([[0], [1]], [[0], [np.inf]]), ValueError, "finite outputs (got inf at row 1, column 0)"),
        (([[0], [1]], [[0], [2]]), ValueError, "outputs of 0 and 1 only (got 2.0)"),
        (([["a"], [1]], [[0], [1]]), ValueError, "numbers as inputs"),
    ],
)
def test_tasks_say_what_is_wrong(target: object, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as error:
        as_task(target)  # type: ignore[arg-type]
    assert str(error.value).startswith("`target` must ")
    assert sentence in str(error.value)


def test_a_task_is_a_copy() -> None:
    inputs = np.zeros((2, 2), dtype=np.float32)
    task = as_task((inputs, np.array([[True], [False]])))
    inputs += 1
    assert not task.inputs.any()
    assert task.targets.tolist() == [[1.0], [0.0]]


def test_a_function_gives_its_truth_table() -> None:
    class Function:
        def truth_table(self) -> tuple[np.ndarray, np.ndarray]:
            return np.array(XOR[0]), np.array(XOR[1])

    assert torch.equal(as_task(Function()).targets, xor().targets)
