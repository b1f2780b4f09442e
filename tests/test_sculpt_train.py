"""The training loop, plain and compiled, its settings and its data."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from modgraph.sculpt import StackedMLP, Task, TrainSettings, as_task, kernel, train
from modgraph.sculpt.stack import initial_stack
from modgraph.sculpt.train import Draws, draw, draw_epochs
from tests.test_sculpt_stack import equal, pruned_stack

XOR = ([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 1], [1, 0], [1, 0], [0, 1]])
SETTINGS = TrainSettings(learning_rate=0.05, batch_size=3, epochs=4)
Train = Callable[..., tuple[StackedMLP, torch.Tensor]]
both = pytest.mark.parametrize("train", [train.train, kernel.train], ids=["torch", "compiled"])


def random_task(n: int, n_in: int = 3, n_out: int = 2) -> Task:
    random = np.random.default_rng(n)
    return as_task((random.normal(size=(n, n_in)), random.integers(0, 2, (n, n_out))))


def trained(
    train: Train, stack: StackedMLP, task: Task, settings: TrainSettings = SETTINGS
) -> tuple[StackedMLP, torch.Tensor]:
    return train(
        stack,
        draws=draw(task, settings=settings, keys=[(0, 1, 0), (1, 1, 0)]),
        stream=torch.arange(stack.n_networks) % 2,
        task=task,
        settings=settings,
    )


@both
def test_training_changes_no_argument_and_keeps_pruned_at_zero(train: Train) -> None:
    stack, untouched = pruned_stack(13), pruned_stack(13)
    best, correct = trained(train, stack, random_task(5))
    assert equal(stack, untouched)
    assert torch.equal(best.kept, stack.kept)
    assert (best.parameters[~stack.kept] == 0).all()
    assert (best.parameters[stack.kept] != 0).all()
    assert correct.dtype == torch.int64
    assert correct.min() >= 0
    assert correct.max() <= 10


@both
def test_the_best_epoch_is_kept(train: Train) -> None:
    task = as_task(XOR)
    stack = initial_stack((2, 8, 2), seeds=range(20))
    runs = []
    for epochs in range(1, 9):  # the draws of the first epochs must not depend on how many there are
        settings = TrainSettings(learning_rate=0.5, batch_size=3, epochs=8)
        draws = draw(task, settings=settings, keys=[(0, 1, 0)])
        first = Draws(inputs=draws.inputs[:, :epochs], targets=draws.targets[:, :epochs])
        settings = TrainSettings(learning_rate=0.5, batch_size=3, epochs=epochs)
        runs.append(train(stack, draws=first, stream=torch.zeros(20, dtype=torch.int64), task=task, settings=settings))
    losses = []
    for best, correct in runs:
        out = best.forward(task.inputs)
        assert torch.equal(((out > 0.5) == (task.targets > 0.5)).sum((1, 2)), correct)
        losses.append(
            torch.nn.functional.binary_cross_entropy(out, task.targets.expand_as(out), reduction="none").sum((1, 2))
        )
    for (_, before), (_, after), high, low in zip(runs, runs[1:], losses, losses[1:], strict=False):
        assert (after >= before).all()
        assert (low <= high + 1e-6)[after == before].all()
    assert any(equal(a[0].select([k]), b[0].select([k])) for a, b in pairwise(runs) for k in range(20))


@pytest.mark.parametrize(("n", "batch_size"), [(1, 8), (5, 3), (16, 8), (21, 12), (40, 40)])
def test_compiled_training_is_the_plain_loop(n: int, batch_size: int) -> None:
    task = random_task(n)
    settings = TrainSettings(learning_rate=0.02, batch_size=batch_size, epochs=6)
    stack = pruned_stack(19)
    (plain, right), (compiled, as_right) = (trained(t, stack, task, settings) for t in (train.train, kernel.train))
    torch.testing.assert_close(compiled.parameters, plain.parameters, atol=1e-5, rtol=0)
    assert torch.equal(right, as_right)


def test_draws_hold_every_sample_once() -> None:
    task = as_task((np.arange(35).reshape(7, 5), np.eye(7, 3)))
    settings = TrainSettings(batch_size=3, epochs=2, noise=0.0)
    draws = draw(task, settings=settings, keys=[(0, 1, 0), (7, 1, 0)])
    order, _ = draw_epochs((7, 5), settings=settings, key=(7, 1, 0))
    assert torch.equal(draws.inputs[1], task.inputs[order])
    assert torch.equal(draws.targets[1], task.targets[order])


def test_steps_of_a_run() -> None:
    assert [TrainSettings(batch_size=b, epochs=3).steps(7) for b in (1, 3, 7, 8)] == [21, 9, 3, 3]


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

    assert torch.equal(as_task(Function()).targets, as_task(XOR).targets)
