"""Losses, their slopes, metrics and baselines, against torch's autograd and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor
from torch.nn import functional as F

from modgraph.sculpt import Task
from modgraph.sculpt.objective import LOSSES, METRICS, Kind, Objective
from modgraph.sculpt.prune import DAMPING, check_criteria, compensated, edge_change, scored, unit_score
from modgraph.sculpt.stack import StackedMLP, activations, edges_of, split
from tests.test_sculpt_stack import SIZES, pruned_stack

N = 40


def kind_of(loss: str) -> Kind:
    return {"binary cross-entropy": "bits", "softmax cross-entropy": "classes"}.get(loss, "numbers")  # type: ignore[return-value]


def drawn(kind: Kind, n_outputs: int = 3) -> tuple[Tensor, Tensor]:
    """Outputs and targets of a kind."""
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(N, n_outputs, generator=generator)
    if kind == "numbers":
        return outputs, outputs + torch.randn(N, n_outputs, generator=generator)
    if kind == "classes":
        return outputs, F.one_hot(torch.randint(n_outputs, (N,), generator=generator)).float()
    return outputs, torch.randint(2, (N, n_outputs), generator=generator).float()


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.huber_loss(outputs, targets, delta=0.5)


@pytest.mark.parametrize("loss", [*LOSSES, huber])
def test_slopes_are_autograds_sample_by_sample(loss: object) -> None:
    kind = kind_of(loss) if isinstance(loss, str) else "numbers"
    objective = Objective.of(kind, n_outputs=3, loss=loss)  # type: ignore[arg-type]
    outputs, targets = drawn(kind)
    slopes = objective.slopes(outputs, targets)
    for row in range(N):
        one = outputs[row : row + 1].clone().requires_grad_()
        objective.mean_loss(one, targets[row : row + 1]).backward()
        assert one.grad is not None
        torch.testing.assert_close(slopes[row : row + 1], one.grad)


def test_metrics_are_those_of_scikit_learn() -> None:
    outputs, bits = drawn("bits")
    guess = (outputs > 0).numpy()
    assert METRICS["bit accuracy"](outputs, bits) == pytest.approx((guess == bits.numpy()).mean())
    assert METRICS["all-bits accuracy"](outputs, bits) == pytest.approx(metrics.accuracy_score(bits.numpy(), guess))
    outputs, classes = drawn("classes")
    labels = classes.argmax(1)
    right = metrics.accuracy_score(labels, outputs.argmax(1))
    assert METRICS["class accuracy"](outputs, classes) == METRICS["class accuracy"](outputs, labels)
    assert METRICS["class accuracy"](outputs, labels) == pytest.approx(right)
    assert METRICS["class accuracy"](outputs[:, :1], bits[:, :1]) == METRICS["bit accuracy"](
        outputs[:, :1], bits[:, :1]
    )
    outputs, numbers = drawn("numbers")
    assert METRICS["R²"](outputs, numbers) == pytest.approx(metrics.r2_score(numbers, outputs), abs=1e-6)
    assert METRICS["R²"](outputs * 0 + 1, numbers * 0 + 1) == 1
    assert METRICS["R²"](outputs, numbers * 0 + 1) == 0


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_constant_is_better_than_the_baseline(kind: Kind) -> None:
    """The mean row, the most frequent row, and every row of the targets as a constant guess."""
    _, targets = drawn(kind)
    for metric in {"bits": ["bit accuracy", "all-bits accuracy"], "classes": ["class accuracy"]}.get(kind, ["R²"]):
        objective = Objective.of(kind, n_outputs=3, metric=metric)
        baseline = objective.baseline(targets, targets)
        for row in targets:
            guess = row if kind == "numbers" else row - 0.5
            assert objective.measure(guess.expand_as(targets), targets) <= baseline
    assert baseline >= 0


def test_an_all_zero_network_is_no_better_than_the_baseline_on_digits() -> None:
    """Ten one-hot outputs: nothing at all has 90 % of the bits right, and a tenth of the classes."""
    targets = F.one_hot(torch.arange(10).repeat(5)).float()
    bits = Objective.of("bits", n_outputs=10)
    assert bits.baseline(targets, targets) == pytest.approx(0.9)
    assert Objective.of("classes", n_outputs=10).baseline(targets, targets) == pytest.approx(0.1)


def mean_loss(stack_row: int, parameters: Tensor, task: Task, objective: Objective) -> Tensor:
    stack = pruned_stack(11).select([stack_row])
    changed = type(stack)(sizes=stack.sizes, parameters=parameters, kept=stack.kept)
    return objective.mean_loss(activations(changed, task.inputs)[-1][0], task.targets)


@pytest.mark.parametrize("loss", [*LOSSES, huber])
def test_taylor_scores_are_first_order_changes_of_the_loss(loss: object) -> None:
    kind = kind_of(loss) if isinstance(loss, str) else "numbers"
    objective = Objective.of(kind, n_outputs=2, loss=loss)  # type: ignore[arg-type]
    stack = pruned_stack(11)
    task = Task(inputs=torch.randn(N, SIZES[0]), targets=drawn(kind, 2)[1])
    scores = edge_change(stack, task, objective=objective)
    for row in range(stack.n_networks):
        parameters = stack.parameters[row : row + 1].clone().requires_grad_()
        mean_loss(row, parameters, task, objective).backward()
        assert parameters.grad is not None
        wanted = edges_of((parameters.grad * parameters).abs(), SIZES).detach()
        torch.testing.assert_close(scores[row : row + 1], wanted, rtol=1e-4, atol=1e-6)
    signed, published = (
        unit_score(stack, task, objective=objective, criterion=criterion) for criterion in ("taylor", "published")
    )
    assert (signed <= published + 1e-6).all()
    assert (signed < published - 1e-4).any()


@pytest.mark.parametrize("loss", [*LOSSES, huber])
def test_fisher_scores_are_root_mean_squares_over_the_samples(loss: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample's derivatives by autograd, of all weights and of how much each unit is switched on."""
    monkeypatch.setattr("modgraph.sculpt.prune.CHUNK", 16)  # of 40 samples: two full chunks and a part of one
    kind = kind_of(loss) if isinstance(loss, str) else "numbers"
    objective = Objective.of(kind, n_outputs=2, loss=loss)  # type: ignore[arg-type]
    stack = pruned_stack(11)
    task = Task(inputs=torch.randn(N, SIZES[0]), targets=drawn(kind, 2)[1])
    found = [scored(p, "fisher", stack, task, keys=[], objective=objective) for p in ("edges", "units")]
    for row in range(stack.n_networks):
        squares = [torch.zeros(scores.shape[1]) for scores in found]
        for inputs, targets in zip(task.inputs.split(1), task.targets.split(1), strict=True):
            weights = [weight[row].clone().requires_grad_() for weight in stack.weights]
            switches = [torch.ones(size).requires_grad_() for size in SIZES[1:-1]]
            values = inputs
            for weight, bias, switch in zip(weights[:-1], stack.biases[:-1], switches, strict=True):
                values = torch.relu(values @ weight.T + bias[row]) * switch
            objective.mean_loss(values @ weights[-1].T + stack.biases[-1][row], targets).backward()
            terms = [torch.cat([(p.grad * p).detach().flatten() for p in part]) for part in (weights, switches)]  # type: ignore[operator]
            squares = [total + term.square() / N for total, term in zip(squares, terms, strict=True)]
        for scores, wanted in zip(found, squares, strict=True):
            torch.testing.assert_close(scores[row], wanted.sqrt(), rtol=1e-4, atol=1e-6)


def information(stack: StackedMLP, task: Task, objective: Objective, layer: int, unit: int) -> tuple[Tensor, Tensor]:
    """The weights of the edges into a unit of the only network, 0 for its bias; and their Fisher information."""
    gradients = []
    for inputs, targets in zip(task.inputs.split(1), task.targets.split(1), strict=True):
        parameters = stack.parameters.clone().requires_grad_()
        changed = replace(stack, parameters=parameters)
        objective.mean_loss(activations(changed, inputs)[-1][0], targets).backward()
        assert parameters.grad is not None
        weights, biases = split(parameters.grad, stack.sizes)
        of_weights, of_bias = weights[layer][0, unit, stack.masks[layer][0, unit]], biases[layer][0, unit]
        gradients.append(torch.cat([of_weights, of_bias[None]]))
    rows = torch.stack(gradients).double()
    matrix = rows.T @ rows / len(rows)
    k = len(matrix) - 1
    freed = matrix[:k, :k] - matrix[:k, k:] @ matrix[k:, :k] / (matrix[k, k] + 1e-30)
    matrix[range(k), range(k)] += DAMPING * freed.trace() / k + 1e-30
    old = torch.cat([stack.weights[layer][0, unit, stack.masks[layer][0, unit]], torch.zeros(1)]).double()
    return old, matrix


def rise(old: Tensor, matrix: Tensor, out: list[int]) -> float:
    """The least rise without the weights in `out`, all others being free."""
    stays = [i for i in range(len(old)) if i not in out]
    solved = torch.linalg.solve(matrix[stays][:, stays], matrix[stays][:, out])
    return float(old[out] @ (matrix[out][:, out] - matrix[out][:, stays] @ solved) @ old[out])


@pytest.mark.parametrize("loss", [*LOSSES, huber])
def test_the_surgeon_takes_out_the_edge_that_the_others_replace_best(loss: object) -> None:
    """Scores against taking out every edge in turn, weights against the optimum of the same quadratic form."""
    kind = kind_of(loss) if isinstance(loss, str) else "numbers"
    objective = Objective.of(kind, n_outputs=2, loss=loss)  # type: ignore[arg-type]
    stack = pruned_stack(11).select([2])
    inputs = torch.randn(N, SIZES[0], generator=torch.Generator().manual_seed(3))
    task = Task(inputs=inputs, targets=drawn(kind, 2)[1])
    scores = scored("edges", "surgeon", stack, task, keys=[], objective=objective)
    keep = scores > scores[scores > 0].median()
    new = compensated(stack, keep, task, objective=objective)
    assert torch.equal(new.kept, stack.kept)
    n_compared = 0
    for layer, mask in enumerate(stack.masks):
        for unit in range(mask.shape[1]):
            present = mask[0, unit]
            old, matrix = information(stack, task, objective, layer, unit)
            if matrix[-1, -1] < 1e-6:  # no sample switches it on
                continue
            out: list[int] = []
            wanted, highest = torch.zeros(len(old) - 1), 0.0
            while len(out) < len(wanted):
                before = rise(old, matrix, out) if out else 0.0
                rises = {i: rise(old, matrix, [*out, i]) - before for i in range(len(wanted)) if i not in out}
                least = min(rises, key=lambda i: rises[i])
                out.append(least)
                highest = max(highest, rises[least])
                wanted[least] = highest**0.5
            torch.testing.assert_close(split(scores, SIZES)[0][layer][0, unit, present], wanted, rtol=1e-2, atol=1e-4)
            stays = split(keep, SIZES)[0][layer][0, unit, present]
            if not stays.all() and stays.any():
                after = torch.where(stays, new.weights[layer][0, unit, present], 0).double()
                of_bias = new.biases[layer][0, unit] - stack.biases[layer][0, unit]
                slope = matrix @ (torch.cat([after, of_bias[None]]) - old)
                free = torch.cat([stays, torch.ones(1, dtype=torch.bool)])
                assert float(slope[free].abs().max()) < 1e-4 * float(slope.abs().max())
                n_compared += 1
    assert n_compared >= 2


def test_the_surgeon_takes_the_edges_of_a_large_unit_for_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modgraph.sculpt.prune.LARGE", 0)
    stack = pruned_stack(11).select([2])
    inputs = torch.randn(N, SIZES[0], generator=torch.Generator().manual_seed(1))
    task = Task(inputs=inputs, targets=drawn("bits", 2)[1])
    scores = split(scored("edges", "surgeon", stack, task, keys=[]), SIZES)[0]
    keep = edges_of(stack.kept, SIZES).clone()
    keep[0, int(keep[0].nonzero()[0])] = False  # the first edge of the first unit that has one
    new = compensated(stack, keep, task)
    layer = next(layer for layer, mask in enumerate(stack.masks) if mask.any())
    unit = int(stack.masks[layer][0].any(1).nonzero()[0])
    old, matrix = information(stack, task, Objective.of("bits", n_outputs=2), layer, unit)
    k = len(old) - 1
    freed = matrix.diagonal()[:k] - matrix[:k, k].square() / matrix[k, k]
    present = stack.masks[layer][0, unit]
    wanted = (freed.sqrt() * old[:-1].abs()).float()
    torch.testing.assert_close(scores[layer][0, unit, present], wanted, rtol=1e-3, atol=1e-6)
    change = new.biases[layer][0, unit] - stack.biases[layer][0, unit]
    torch.testing.assert_close(change, (matrix[0, k] / matrix[k, k] * old[0]).float(), rtol=1e-3, atol=1e-6)
    assert torch.equal(new.weights[layer][0, unit, present], stack.weights[layer][0, unit, present])


def test_a_unit_that_nothing_changes_can_be_scored() -> None:
    stack = pruned_stack(11)
    task = Task(inputs=torch.ones(N, SIZES[0]), targets=torch.ones(N, SIZES[-1]))
    scores = scored("edges", "surgeon", stack, task, keys=[])
    assert scores.isfinite().all()
    assert compensated(stack, scores > scores.mean(), task).parameters.isfinite().all()


def test_the_surgeon_scores_no_units() -> None:
    with pytest.raises(ValueError, match="`unit_score` must be"):
        check_criteria("surgeon", "published")
    assert check_criteria("published", "surgeon")["edges"] == "surgeon"


def test_random_scores_depend_on_the_key_only_and_spare_what_is_pruned() -> None:
    stack = pruned_stack(11)
    task = Task(inputs=torch.ones(2, SIZES[0]), targets=torch.ones(2, SIZES[-1]))
    keys = [(row, 4, 0) for row in range(stack.n_networks)]
    for phase in ("units", "edges"):
        scores = scored(phase, "random", stack, task, keys=keys)
        alone = scored(phase, "random", stack.select([1]), task, keys=keys[1:2])
        assert torch.equal(scores[1:2], alone)
        assert not torch.equal(scores[0], scores[1])
        present = edges_of(stack.kept, SIZES) if phase == "edges" else scored(phase, lambda s, _: torch.ones(
            s.n_networks, sum(SIZES[1:-1])), stack, task, keys=keys) > 0  # fmt: skip
        assert ((scores > 0) == present).all()


def test_scores_of_a_wrong_shape_are_refused() -> None:
    stack = pruned_stack(11)
    task = Task(inputs=torch.ones(2, SIZES[0]), targets=torch.ones(2, SIZES[-1]))
    with pytest.raises(ValueError, match="the scores of edges must be finite numbers ≥ 0 of shape"):
        scored("edges", lambda s, _: torch.ones(s.n_networks, 3), stack, task, keys=[])
    with pytest.raises(ValueError, match="the scores of edges must be finite"):
        scored("edges", lambda s, _: edges_of(s.parameters, s.sizes) * np.nan, stack, task, keys=[])
