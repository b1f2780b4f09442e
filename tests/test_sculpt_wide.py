"""Wide networks: compact form, training runs, the schedule, checkpoints."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.prune import custom_from_mask

import modgraph as mg
from modgraph.arrays import FloatArray
from modgraph.sculpt import Round, SplitTask, Task, WideSettings, sculpt_wide, wide
from modgraph.sculpt import fit as fitting
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.engine import PHASES
from modgraph.sculpt.fit import evaluate, fit
from modgraph.sculpt.rounds import Fitted, Limits, State, run_rounds
from modgraph.sculpt.stack import initial_stack, keyed_generator

SIZES = (6, 9, 7, 3)


@st.composite
def compact_networks(draw: st.DrawFn) -> tuple[CompactMLP, list[torch.Tensor]]:
    """Draw a dense network with biases, and masks to prune it with."""
    seed = draw(st.integers(0, 2**20))
    generator = torch.Generator().manual_seed(seed)
    density = draw(st.floats(0, 1))
    stack = initial_stack(SIZES, seeds=[seed])
    parameters = stack.parameters + torch.randn(stack.parameters.shape, generator=generator) * 0.3
    network = CompactMLP.of(replace(stack, parameters=parameters))
    return network, [torch.rand(mask.shape, generator=generator) < density for mask in network.masks]


@given(compact_networks())
def test_a_compact_network_computes_what_the_pruned_one_does(drawn: tuple[CompactMLP, list[torch.Tensor]]) -> None:
    network, masks = drawn
    inputs = torch.randn(50, SIZES[0], generator=torch.Generator().manual_seed(0))
    values = inputs  # the dense network, its pruned edges 0, biases gone where no input reaches
    reached = torch.ones(SIZES[0], dtype=torch.bool)
    for at, (weight, mask, bias) in enumerate(zip(network.weights, masks, network.biases, strict=True)):
        reached = (mask & reached).any(1)
        values = values @ (weight * mask).T * reached + bias * reached
        values = values.relu() if at < len(masks) - 1 else values
    pruned = network.prune(masks)
    torch.testing.assert_close(pruned.forward(inputs[:, pruned.units[0]]), values)


@given(compact_networks())
def test_a_compact_network_holds_the_trimmed_graph(drawn: tuple[CompactMLP, list[torch.Tensor]]) -> None:
    network, masks = drawn
    pruned = network.prune(masks)
    trimmed = mg.LayeredDAG.from_masks([mask.numpy() for mask in masks]).trim()
    again = mg.LayeredDAG.from_masks([mask[0].numpy() for mask in pruned.dense().masks]).trim()
    np.testing.assert_array_equal(again.edges, trimmed.edges)
    np.testing.assert_array_equal(again.unit_index, trimmed.unit_index)
    assert pruned.n_edges == trimmed.n_edges
    assert tuple(len(units) for units in pruned.units) == trimmed.layer_sizes


def test_wide_pruning_keeps_only_scores_above_the_percentile() -> None:
    """The scores are 1 … 5 times a constant; their 25th percentile is exactly the second of them."""
    stack = initial_stack((1, 5, 1), seeds=[0])
    parameters = torch.tensor([[1.0, 2, 3, 4, 5, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]])
    network = CompactMLP.of(replace(stack, parameters=parameters))
    target = np.array([25.0])
    assert sculptor((1, 5, 1)).prune(network, phase="units", targets=target, run=0).units[1].tolist() == [2, 3, 4]
    row = replace(initial_stack((5, 1), seeds=[0]), parameters=torch.tensor([[1.0, -2, 3, -4, 5, 0]]))
    few = sculptor((5, 1)).prune(CompactMLP.of(row), phase="edges", targets=target, run=0)
    assert few.units[0].tolist() == [2, 3, 4]


def sculptor(sizes: tuple[int, ...]) -> wide.WideSculptor:
    """One for a task of a single sample."""
    one = Task(inputs=torch.ones(1, sizes[0]), targets=torch.zeros(1, sizes[-1]))
    task, settings = SplitTask(train=one, validation=one, test=one), WideSettings()
    return wide.WideSculptor(task=task, sizes=sizes, seed=0, settings=settings)


def parts(n: int = 70) -> SplitTask:
    """Two outputs of six inputs that a small network can learn, and three parts of them."""
    generator = torch.Generator().manual_seed(1)
    tasks = []
    for _ in range(3):
        inputs = torch.randn(n, 6, generator=generator)
        outputs = torch.stack([inputs[:, 0] > inputs[:, 1], inputs[:, 2] + inputs[:, 3] > 0], dim=1)
        tasks.append(Task(inputs=inputs, targets=outputs.float()))
    return SplitTask(train=tasks[0], validation=tasks[1], test=tasks[2])


@pytest.mark.parametrize("density", [0.0, 0.2, 0.6, 1.0])
def test_edges_alone_learn_what_dense_layers_do(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule: Literal["constant", "cosine"] = "cosine" if density == 0.2 else "constant"
    task, settings = parts(), WideSettings(epochs=3, batch_size=16, learning_rate=0.01, schedule=schedule)
    whole = CompactMLP.of(initial_stack((6, 9, 7, 2), seeds=[3]))
    generator = torch.Generator().manual_seed(2)
    network = whole.prune([torch.rand(mask.shape, generator=generator) < density for mask in whole.masks])
    results = []
    monkeypatch.setattr(fitting, "FEW", 0)
    for limit in (0.0, 2.0):  # never, and always
        monkeypatch.setattr(fitting, "SPARSE_BELOW", limit)
        results.append(fit(network, task, settings=settings, key=(0, 0)))
    dense, sparse = results
    assert (dense.epochs, dense.accuracy) == (sparse.epochs, sparse.accuracy)
    for layer, mask in enumerate(network.masks):
        torch.testing.assert_close(sparse.network.weights[layer], dense.network.weights[layer], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sparse.network.biases[layer], dense.network.biases[layer], rtol=1e-4, atol=1e-5)
        assert not dense.network.weights[layer][~mask].any()
        assert not sparse.network.weights[layer][~mask].any()


@pytest.mark.parametrize(("epochs", "schedule"), [(1, "constant"), (3, "cosine")])
def test_a_training_run_is_torch_adam_on_the_masked_network(
    epochs: int, schedule: Literal["constant", "cosine"], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = WideSettings(epochs=epochs, batch_size=16, learning_rate=0.01, schedule=schedule)
    task, measures = parts(), iter(range(epochs + 1))
    monkeypatch.setattr(fitting, "evaluate", lambda *_: (float(next(measures)), 0.0))  # the last epoch is the best
    network = CompactMLP.of(initial_stack((6, 9, 2), seeds=[3]))
    network = network.prune([torch.arange(54).view(9, 6) % 5 > 0, torch.ones(2, 9, dtype=torch.bool)])
    model = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2))
    with torch.no_grad():
        for linear, weight, bias in zip((model[0], model[2]), network.weights, network.biases, strict=True):
            linear.weight.copy_(weight)  # type: ignore[operator]
            linear.bias.copy_(bias)  # type: ignore[operator]
    custom_from_mask(model[0], "weight", network.masks[0])
    adam = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=epochs)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(70, generator=keyed_generator(5, 6, epoch)).split(16):
            adam.zero_grad()
            inputs, targets = task.train.inputs[rows], task.train.targets[rows]
            torch.nn.functional.binary_cross_entropy_with_logits(model(inputs), targets).backward()
            adam.step()
        cosine.step()
    fitted = fit(network, task, settings=settings, key=(5, 6))
    torch.testing.assert_close(fitted.network.forward(task.test.inputs), model(task.test.inputs))


def test_patience_and_giving_up_end_a_run() -> None:
    task = parts()
    network = CompactMLP.of(initial_stack((6, 9, 7, 2), seeds=[3]))
    many = WideSettings(epochs=30, batch_size=16, patience=None, give_up=None)
    assert fit(network, task, settings=many, key=(0,), enough=0.0).epochs == 30
    assert fit(network, task, settings=replace(many, patience=4), key=(0,), enough=0.0).epochs == 4
    stuck = replace(many, learning_rate=1e-12, give_up=5)
    assert fit(network, task, settings=stuck, key=(0,)).epochs <= 10  # nothing gets better but by rounding
    assert fit(network, task, settings=replace(many, patience=4), key=(0,), enough=2.0).epochs == 30


@pytest.mark.parametrize(
    ("accuracies", "epochs"),
    [
        ([0.0, 0.9, 0.9, 0.5], 2),
        ([0.0, 0.9, 0.5, 0.9, 0.5, 0.9, 0.9, 0.9], 6),  # an epoch below the limit starts the count again
        ([0.9, 0.9, 0.5, 0.9, 0.9], 4),  # the network before training doesn't count
        ([0.0, 0.8, 0.8, 0.8], 2),  # exactly at the limit is enough
    ],
)
def test_patience_counts_accurate_epochs_in_a_row(
    accuracies: list[float], epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = iter([*accuracies, *[0.0] * 20])
    monkeypatch.setattr(fitting, "evaluate", lambda *_: (next(following), 1.0))
    network = CompactMLP.of(initial_stack((6, 9, 2), seeds=[3]))
    settings = WideSettings(epochs=12, batch_size=64, patience=2, give_up=None)
    assert fit(network, parts(), settings=settings, key=(0,), enough=0.8).epochs == epochs


@pytest.mark.parametrize("unit_share", [0.0, 0.25, 1.0])
def test_pruning_units_may_use_a_share_of_the_tolerance(unit_share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, list[float]] = {}

    def fit_and_note(network: CompactMLP, _: SplitTask, **given: Any) -> Fitted[CompactMLP]:
        phase = next(name for name, number in PHASES.items() if number == given["key"][1])
        limits.setdefault(phase, []).append(given["enough"])
        # Dense: 0.9; then between the limits of units (unless unit_share is 1) and of edges.
        return Fitted(network=network, epochs=1, accuracy={"dense": 0.9}.get(phase, 0.8101))

    monkeypatch.setattr(wide, "fit", fit_and_note)
    settings = WideSettings(tolerance=0.1, unit_share=unit_share, unit_step=40, edge_step=40)
    out = sculpt_wide(parts(), hidden=(6,), settings=settings)
    assert out.threshold == pytest.approx(0.81)
    assert limits["dense"] == [np.inf]
    assert limits["units"] == pytest.approx([0.9 * (1 - 0.1 * unit_share)] * len(limits["units"]))
    assert limits["again"] == pytest.approx([0.81])
    assert limits["edges"] == pytest.approx([0.81] * len(limits["edges"]))
    accepted = {done.phase: done.accepted for done in out.rounds}
    assert accepted["units"] == (unit_share == 1.0)
    assert any(done.accepted for done in out.rounds if done.phase == "edges")


def test_a_network_exactly_at_the_threshold_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_at_the_limit(network: CompactMLP, _: SplitTask, **given: Any) -> Fitted[CompactMLP]:
        accuracy = 0.9 if given["enough"] == np.inf else given["enough"]
        return Fitted(network=network, epochs=1, accuracy=accuracy)

    monkeypatch.setattr(wide, "fit", fit_at_the_limit)
    out = sculpt_wide(parts(), hidden=(6,), settings=WideSettings(unit_step=40, edge_step=40))
    assert all(done.accepted for done in out.rounds)


@pytest.fixture(scope="module")
def settings() -> WideSettings:
    return WideSettings(epochs=12, batch_size=16, learning_rate=0.01, unit_step=25, edge_step=10, tolerance=0.02)


def test_rounds_follow_the_schedule(settings: WideSettings) -> None:
    task = parts()
    seen: list[Round] = []
    out = sculpt_wide(task, hidden=(12, 8), settings=settings, progress=seen.append)
    assert tuple(seen) == out.rounds
    phases = [done.phase for done in out.rounds]
    assert phases == sorted(phases, key=["dense", "units", "again", "edges"].index)
    assert phases.count("dense") == phases.count("again") == 1
    dense = out.rounds[0]
    assert out.threshold == pytest.approx(dense.validation * 0.98)
    assert out.threshold > out.baseline
    assert dense.edges == 6 * 12 + 12 * 8 + 8 * 2
    for done in out.rounds[1:]:
        limit = dense.validation * (0.99 if done.phase == "units" else 0.98)  # half of the tolerance is left for edges
        assert done.accepted == (done.validation >= limit)
    last = [done for done in out.rounds if done.accepted][-1]
    assert (out.network.edges, out.network.accuracy, out.test_accuracy) == (last.edges, last.validation, last.test)
    assert out.network.accepted
    # Each phase ends with a rejection at its smallest step.
    units = [done for done in out.rounds if done.phase == "units"]
    reached = max((done.target for done in units if done.accepted), default=0.0)
    assert any(not done.accepted and done.target - reached <= 100 / 20 + 1e-9 for done in units) or reached > 95


def test_steps_of_what_is_left_and_a_shorter_dense_run(settings: WideSettings) -> None:
    changed = replace(settings, edges_of="left", edge_step=40, dense_epochs=5, patience=None, give_up=None)
    out = sculpt_wide(parts(), hidden=(12, 8), settings=changed)
    assert [done.epochs for done in out.rounds] == [5] + [12] * (len(out.rounds) - 1)
    edges = [done for done in out.rounds if done.phase == "edges"]
    left, step = (100 - edges[0].target) / 0.6, 40.0  # rounds that would prune nothing are skipped
    for done in edges:
        while done.target > 100 - left * (1 - step / 100) + 1e-6:
            left *= 1 - step / 100
        assert done.target == pytest.approx(100 - left * (1 - step / 100))
        left, step = (100 - done.target, step) if done.accepted else (left, step / 2)
    assert not edges[-1].accepted
    assert step == 40 / 16  # a rejection at an eighth of the step was the last round
    reached, tried = 0.0, []
    for done in sculpt_wide(parts(), hidden=(12, 8), settings=replace(changed, unit_step=80)).rounds:
        if done.phase == "units":
            tried.append(done.target - reached)
            reached = done.target if done.accepted else reached
    assert min(tried) >= 80 / 8 > 100 / 20  # the published schedule goes on to a single unit of 20


class Shrinking:
    """A sculptor whose network is a number of edges; accuracy falls from 1 below 500 of them to 0.9 without any."""

    n_units, n_edges, metric, baseline = 0, 1000, "bit accuracy", 0.5
    limits = Limits(tolerance=0.05, unit_share=0.5, unit_step=50, edge_step=20, edges_of="left", slow_down=True)

    def __init__(self) -> None:
        self.easy: list[bool] = []

    def describe(self, network: int) -> tuple[tuple[int, ...], int]:
        return (network,), network

    def prune(self, network: int, *, phase: str, targets: FloatArray, run: int) -> int:  # noqa: ARG002
        return round(self.n_edges * (1 - float(targets[0]) / 100))

    def train(self, network: int, *, phase: str, run: int, enough: float, easy: bool) -> Fitted[int]:  # noqa: ARG002
        self.easy.append(easy)
        return Fitted(network=network, epochs=1, accuracy=0.9 + 0.1 * min(1.0, network / 500))

    def test(self, network: int) -> float:  # noqa: ARG002
        return math.nan


def test_steps_shrink_with_what_is_left_of_the_tolerance() -> None:
    sculptor = Shrinking()
    state = run_rounds(sculptor, State(network=1000))
    edges = [done for done in state.rounds if done.phase == "edges"]
    easy = dict(zip([done.edges for done in state.rounds], sculptor.easy, strict=True))
    left, slack, step = 1000, 1.0, 20.0
    for done in edges:
        assert done.edges == pytest.approx(left * (1 - step / 100 * max(slack, 1 / 2)), abs=1)
        assert easy[done.edges] == (slack == 1)
        if done.accepted:
            left, slack = done.edges, min(1.0, (done.validation - 0.95) / 0.05)
        else:
            step /= 2
    assert state.network == left
    assert 250 <= left < 250 * 1.02  # 0.95 of the accuracy
    assert step == 20 / 16
    assert not sculptor.easy[0]  # the dense network


@pytest.mark.parametrize("few", [0, 10_000])
def test_drawn_samples_are_trained_on(few: int, settings: WideSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples of the task say nothing; those that are drawn do. Without early ends the dense layers run, or not."""
    whole = parts(400)
    asked: list[torch.Tensor] = []

    def draw(rng: np.random.Generator, columns: torch.Tensor) -> Task:
        rows = torch.from_numpy(rng.integers(0, 400, 300))
        asked.append(rows)
        return Task(inputs=whole.train.inputs[rows][:, columns], targets=whole.train.targets[rows])

    monkeypatch.setattr(fitting, "FEW", few)
    silent = replace(whole.train, targets=torch.zeros_like(whole.train.targets))
    network = CompactMLP.of(initial_stack((6, 9, 7, 2), seeds=[3]))
    network = network.prune([torch.arange(54).view(9, 6) % 6 < 5, *network.masks[1:]])
    assert fit(network, replace(whole, train=silent), settings=settings, key=(0,)).accuracy < 0.7
    taught = replace(whole, train=silent, draw=draw)
    fitted = fit(network, taught, settings=replace(settings, give_up=None), key=(0,))
    assert fitted.accuracy > 0.9
    assert len(asked) == 12
    assert not torch.equal(asked[0], asked[1])
    assert fit(network, taught, settings=replace(settings, give_up=None), key=(0,)).accuracy == fitted.accuracy
    assert torch.equal(asked[0], asked[12])


def test_a_run_without_early_ends_goes_through_all_epochs(settings: WideSettings) -> None:
    fixed = replace(settings, patience=None, give_up=None, epochs=4)
    out = sculpt_wide(parts(), hidden=(6,), settings=fixed)
    assert {done.epochs for done in out.rounds} == {4}


def test_inputs_that_are_always_zero_are_gone_at_once(settings: WideSettings) -> None:
    task = parts()
    silent = task.train.inputs.clone()
    silent[:, 4] = 0
    out = sculpt_wide(replace(task, train=replace(task.train, inputs=silent)), hidden=(6,), settings=settings)
    assert out.rounds[0].sizes == (5, 6, 2)
    assert not out.network.masks[0][:, 4].any()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 3, 8])
def test_a_killed_run_goes_on_to_the_same_network(stop_after: int, settings: WideSettings, tmp_path: Path) -> None:
    task, file = parts(), tmp_path / "wide.npz"
    whole = sculpt_wide(task, hidden=(12, 8), settings=settings)
    rounds: list[Round] = []

    def stop(done: Round) -> None:
        rounds.append(done)
        if len(rounds) == stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        sculpt_wide(task, hidden=(12, 8), settings=settings, checkpoint=file, progress=stop)
    resumed = sculpt_wide(task, hidden=(12, 8), settings=settings, checkpoint=file, progress=rounds.append)
    assert len(rounds) == len(whole.rounds)
    for name in ("masks", "weights", "biases"):
        for mine, theirs in zip(getattr(resumed.network, name), getattr(whole.network, name), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    untimed = [replace(done, seconds=0.0) for done in whole.rounds]
    assert [replace(done, seconds=0.0) for done in resumed.rounds] == untimed
    again = sculpt_wide(task, hidden=(12, 8), settings=settings, checkpoint=file)
    assert again.rounds == resumed.rounds  # it was finished: nothing was done


def test_a_checkpoint_of_something_else_is_refused(settings: WideSettings, tmp_path: Path) -> None:
    file = tmp_path / "wide.npz"
    sculpt_wide(parts(), hidden=(4,), settings=settings, checkpoint=file)
    before = file.read_bytes()
    for other in ({"seed": 1}, {"hidden": (5,)}, {"settings": replace(settings, epochs=11)}):
        with pytest.raises(ValueError, match="`checkpoint`"):
            sculpt_wide(parts(), **{"hidden": (4,), "settings": settings, "checkpoint": file, **other})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`checkpoint`"):
        sculpt_wide(parts(71), hidden=(4,), settings=settings, checkpoint=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("form", ["empty", "truncated", "text", "array", "other archive", "without arrays"])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(form: str, settings: WideSettings, tmp_path: Path) -> None:
    file = tmp_path / "wide.npz"
    sculpt_wide(parts(), hidden=(4,), settings=settings, checkpoint=file)
    whole = file.read_bytes()
    with np.load(file) as archive:
        facts = archive["facts"]
    file.unlink()
    if form == "array":
        with file.open("wb") as opened:
            np.save(opened, np.zeros(3))
    elif form == "other archive":
        np.savez(file, x=np.zeros(3))
    elif form == "without arrays":
        np.savez(file, facts=facts)
    else:
        file.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"no checkpoint"}[form])
    before = file.read_bytes()
    with pytest.raises(ValueError, match="`checkpoint` must be a file that modgraph has written"):
        sculpt_wide(parts(), hidden=(4,), settings=settings, checkpoint=file)
    assert file.read_bytes() == before


def test_the_network_is_what_was_evaluated(settings: WideSettings) -> None:
    task = parts()
    out = sculpt_wide(task, hidden=(12, 8), settings=settings)
    values = mg.forward(out.network.dag, task.test.inputs.numpy())
    right = ((values[:, -2:] > 0.5) == task.test.targets.numpy().astype(bool)).mean()
    assert right == pytest.approx(out.test_accuracy, abs=1e-12)


def test_evaluate_counts_bits() -> None:
    task = parts().test
    network = CompactMLP.of(initial_stack((6, 9, 2), seeds=[3]))
    outputs = network.forward(task.inputs).sigmoid()
    accuracy, loss = evaluate(network, task)
    assert accuracy == ((outputs > 0.5) == (task.targets > 0)).double().mean().item()
    assert loss == pytest.approx(torch.nn.functional.binary_cross_entropy(outputs, task.targets).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"learning_rate": 0.0}, r"`learning_rate` must be a finite number > 0 \(got 0.0\)"),
        ({"patience": 0}, r"`patience` must be an int ≥ 1 \(got 0\)"),
        ({"give_up": 2.5}, r"`give_up` must be an int ≥ 1 \(got 2.5\)"),
        ({"tolerance": 1}, r"`tolerance` must be a number in \[0, 1\) \(got 1\)"),
        ({"dense_epochs": 0}, r"`dense_epochs` must be an int ≥ 1 \(got 0\)"),
        ({"easy_epochs": 0}, r"`easy_epochs` must be an int ≥ 1 \(got 0\)"),
        ({"schedule": "linear"}, "`schedule` must be"),
        ({"edges_of": "half"}, "`edges_of` must be"),
        ({"edge_step": 101}, r"`edge_step` must be a percentage in \(0, 100\] \(got 101\)"),
    ],
)
def test_settings_out_of_range(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WideSettings(**bad)  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="`task` must be a SplitTask"):
        sculpt_wide(parts().train, hidden=(4,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`hidden` must be .* \(got \[0\]\)"):
        sculpt_wide(parts(), hidden=(0,))
    with pytest.raises(ValueError, match=r"`seed`"):
        sculpt_wide(parts(), hidden=(4,), seed=-1)
