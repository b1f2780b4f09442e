"""The search: what it returns, and that nobody's company changes anybody's bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from modgraph.sculpt import (
    EDGE_STEPS,
    UNIT_STEPS,
    SculptedNetwork,
    SculptResult,
    Task,
    TrainSettings,
    as_task,
    fewest_edges,
    sculpt,
)
from modgraph.sculpt.engine import Engine, Population
from modgraph.sculpt.stack import initial_stack
from tests.test_sculpt_stack import equal

Table = tuple[np.ndarray, np.ndarray]

# Odd sizes everywhere (3 inputs, 5 outputs, batches of 3, hidden 10 and 7): padding must not show.
INPUTS = np.array(list(product((0, 1), repeat=3)))
A, B, C = INPUTS.T
ODD: Table = (INPUTS, np.stack([A ^ B, A & C, B | C, 1 - A, A ^ C], axis=1))
SETTINGS = TrainSettings(learning_rate=0.05, batch_size=3, epochs=6)


def search(
    seeds: Sequence[int] = (0, 1),
    unit_steps: Sequence[float] = (50, 20),
    edge_steps: Sequence[float] = (20, 8),
    settings: TrainSettings = SETTINGS,
) -> SculptResult:
    return sculpt(
        ODD,
        hidden=(10, 7),
        seeds=seeds,
        unit_steps=unit_steps,
        edge_steps=edge_steps,
        settings=settings,
        choose="fewest_edges",
        device="cpu",
    )


def bits(network: SculptedNetwork) -> bytes:
    arrays = (*network.masks, *network.weights, *network.biases)
    return b"".join(array.tobytes() for array in arrays)


@pytest.fixture(scope="module")
def found() -> SculptResult:
    return search()


def test_a_result_is_complete(found: SculptResult) -> None:
    settings = [(c.seed, c.unit_step, c.edge_step) for c in found.candidates]
    assert settings == list(product((0, 1), (50, 20), (20, 8)))
    assert [network.seed for network in found.networks] == [0, 1]
    for network in found.candidates:
        assert network.accepted
        assert network.accuracy == 1
        assert [mask.shape for mask in network.masks] == [(10, 3), (7, 10), (5, 7)]
        assert network.edges == sum(mask.sum() for mask in network.masks)
        for mask, weight, bias in zip(network.masks, network.weights, network.biases, strict=True):
            assert mask.dtype == np.bool_
            assert weight.dtype == bias.dtype == np.float32
            assert (weight[~mask] == 0).all()
            assert (bias[~mask.any(1)] == 0).all()
            assert not any(array.flags.writeable for array in (mask, weight, bias))
        x = INPUTS.astype(np.float32)
        for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            x = (np.maximum(x, 0) if layer else x) @ weight.T + bias
        assert ((x > 0) == ODD[1]).all()
    for trial in (0, 1):
        mine = [c for c in found.candidates if c.seed == trial]
        assert found.networks[trial].edges == min(c.edges for c in mine)
        assert found.networks[trial].edges < 30 + 70 + 35
    assert "2 trials, 2 accepted, 8 candidates" in repr(found)
    assert "accepted=True" in repr(found.networks[0])


def test_the_same_call_gives_the_same_bits(found: SculptResult) -> None:
    again = search()
    assert [bits(c) for c in again.candidates] == [bits(c) for c in found.candidates]
    assert again.network_steps == found.network_steps


def test_company_changes_no_bit_of_a_whole_search(found: SculptResult) -> None:
    wanted = {(c.seed, c.unit_step, c.edge_step): bits(c) for c in found.candidates}
    alone = search(seeds=[1], unit_steps=[20], edge_steps=[8])
    crowd = search(seeds=[7, 3, 1, 4], unit_steps=[30, 20], edge_steps=[8, 15])
    for result in (alone, crowd):
        same = [c for c in result.candidates if (c.seed, c.unit_step, c.edge_step) in wanted]
        assert same
        for c in same:
            assert bits(c) == wanted[c.seed, c.unit_step, c.edge_step]


def fresh(task: Task, hidden: Sequence[int], seeds: Sequence[int]) -> Population:
    sizes = (task.inputs.shape[1], *hidden, task.n_outputs)
    return Population(
        stack=initial_stack(sizes, seeds=seeds),
        seeds=np.array(seeds),
        correct=np.full(len(seeds), -1),
    )


def one_of_each_phase(engine: Engine, state: Population) -> Population:
    """Dense training, then one round of pruning units and one of pruning edges."""
    n = len(state.seeds)
    state = engine.train(state, phase="dense", run=0)
    pruned = engine.pruned(state.stack, phase="units", targets=np.full(n, 40.0))
    state = engine.train(replace(state, stack=pruned), phase="units", run=0)
    pruned = engine.pruned(state.stack, phase="edges", targets=np.full(n, 60.0))
    return engine.train(replace(state, stack=pruned), phase="edges", run=0)


@pytest.mark.parametrize(
    ("outputs", "hidden", "batch_size"),
    [(5, (10, 7), 3), (5, (24, 24), 8), (4, (5,), 4), (5, (6, 24), 7), (3, (6, 24, 6), 20)],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_position_in_the_stack_changes_no_bit(
    outputs: int, hidden: tuple[int, ...], batch_size: int, threads: int
) -> None:
    """Alone, last of three, and somewhere among 37."""
    task = as_task((ODD[0], ODD[1][:, :outputs]))
    settings = replace(SETTINGS, batch_size=batch_size)
    results = []
    for seeds in ([5], [9, 2, 5], [*range(100, 120), 5, *range(200, 216)]):
        state = one_of_each_phase(Engine(task=task, settings=settings, threads=threads), fresh(task, hidden, seeds))
        results.append(state.stack.select([seeds.index(5)]))
    assert equal(results[0], results[1])
    assert equal(results[0], results[2])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(found: SculptResult, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = search()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert [bits(c) for c in result.candidates] == [bits(c) for c in found.candidates]


def test_a_trial_that_never_learns_is_reported() -> None:
    settings = TrainSettings(learning_rate=1e-6, batch_size=8, epochs=1, dense_runs=2)
    result = search(settings=settings)
    assert not any(c.accepted for c in result.candidates)
    assert not any(n.accepted for n in result.networks)
    assert all(n.accuracy < 1 and n.edges == 135 for n in result.networks)
    assert result.network_steps == 2 * 2  # two networks, two runs of one step


def test_a_lower_threshold_accepts_more() -> None:
    settings = replace(SETTINGS, accuracy_threshold=0.8)
    result = search(settings=settings)
    assert all(0.8 <= c.accuracy <= 1 for c in result.candidates)
    assert all(c.accepted for c in result.candidates)


def test_network_steps_count_the_tree_once() -> None:
    """Two edge steps cost less than two searches: what they share is walked once."""
    one = search(seeds=[0], unit_steps=[50], edge_steps=[20])
    two = search(seeds=[0], unit_steps=[50], edge_steps=[20, 8])
    other = search(seeds=[0], unit_steps=[50], edge_steps=[8])
    per_run = 6 * 3  # epochs × steps
    assert one.network_steps % per_run == 0
    shared = one.network_steps + other.network_steps - two.network_steps
    assert shared >= 3 * per_run  # the dense network, at least one round of units, and once more


def test_rounds_of_every_candidate_end_at_it(found: SculptResult) -> None:
    for network in found.candidates:
        rounds = found.rounds(network)
        last = [done for done in rounds if done.accepted][-1]
        assert (last.edges, last.validation) == (network.edges, network.accuracy)
        assert rounds[0].phase == "dense"
        assert [done.phase for done in rounds].count("again") == 1
        units = [done for done in rounds if done.phase == "units"]
        assert units[0].target == network.unit_step
        assert next(done for done in rounds if done.phase == "edges").target == network.edge_step
        alone = search(seeds=[network.seed], unit_steps=[network.unit_step], edge_steps=[network.edge_step])
        same = [[replace(done, seconds=0) for done in some] for some in (rounds, alone.rounds(alone.candidates[0]))]
        assert same[0] == same[1]


def test_choose_is_asked_once_a_trial() -> None:
    asked: list[int] = []

    def most_edges(candidates: Sequence[SculptedNetwork]) -> SculptedNetwork:
        asked.append(len(candidates))
        return max(candidates, key=lambda c: c.edges)

    result = sculpt(
        ODD,
        hidden=(10,),
        seeds=[3],
        unit_steps=[50],
        edge_steps=[20, 8],
        settings=SETTINGS,
        choose=most_edges,
        device="cpu",
    )
    assert asked == [2]
    assert result.networks[0].edges == max(c.edges for c in result.candidates)


def test_ties_of_fewest_edges_are_broken_by_the_setting(found: SculptResult) -> None:
    network = found.candidates[0]
    settings = [(40.0, 1.0), (60.0, 1.0), (60.0, 2.0), (50.0, 2.5)]
    tied = [replace(network, unit_step=u, edge_step=e) for u, e in settings]
    assert fewest_edges(tied) is tied[2]
    assert fewest_edges(tied[::-1]) is tied[2]
    better = replace(tied[0], accuracy=2.0)
    assert fewest_edges([*tied, better]) is better


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 2, 5, 9])
def test_a_killed_search_goes_on_to_the_same_networks(stop_after: int, found: SculptResult, tmp_path: Path) -> None:
    calls = 0

    def stop(_: int, __: int) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_after:
            raise Stopped

    options = {"unit_steps": (50, 20), "edge_steps": (20, 8), "settings": SETTINGS, "device": "cpu"}
    file = tmp_path / "search.npz"
    with pytest.raises(Stopped):
        sculpt(ODD, hidden=(10, 7), seeds=(0, 1), checkpoint=file, progress=stop, **options)  # type: ignore[arg-type]
    resumed = sculpt(ODD, hidden=(10, 7), seeds=(0, 1), checkpoint=file, **options)  # type: ignore[arg-type]
    assert [bits(c) for c in resumed.candidates] == [bits(c) for c in found.candidates]
    assert resumed.network_steps == found.network_steps
    assert len(resumed.rounds(resumed.candidates[-1])) == len(found.rounds(found.candidates[-1]))
    with pytest.raises(ValueError, match="`checkpoint` must belong to the same task"):
        sculpt(ODD, hidden=(10, 7), seeds=(0, 2), checkpoint=file, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "surgeon", "random"])
def test_other_criteria_prune_other_edges_and_stay_accurate(criterion: str, found: SculptResult) -> None:
    other = sculpt(
        ODD,
        hidden=(10, 7),
        seeds=[0, 1],
        unit_steps=[50],
        edge_steps=[20],
        settings=SETTINGS,
        unit_score="fisher" if criterion == "surgeon" else criterion,
        edge_score=criterion,
        device="cpu",
    )
    assert all(c.accepted and c.edges < 135 for c in other.candidates)
    assert bits(other.candidates[0]) != bits(found.candidates[0])
    with pytest.raises(ValueError, match='`edge_score` must be "published"'):
        sculpt(ODD, hidden=(10, 7), edge_score="largest")


def test_a_network_as_good_as_a_constant_is_not_accepted() -> None:
    """Nine of ten bits are 0: the threshold of 0.85 is what a constant reaches."""
    table = (INPUTS, (np.arange(8) == 5)[:, None] & (np.arange(5) < 4))
    settings = TrainSettings(learning_rate=1e-6, batch_size=8, epochs=1, dense_runs=1, accuracy_threshold=0.85)
    out = sculpt(table, hidden=(6,), seeds=range(8), unit_steps=[50], edge_steps=[20], settings=settings, device="cpu")
    assert all(c.accepted == (c.accuracy > 0.9) for c in out.candidates)


def test_progress_grows_to_its_total() -> None:
    calls: list[tuple[int, int]] = []
    sculpt(
        ODD,
        hidden=(10,),
        seeds=[3, 4],
        unit_steps=[50, 25],
        edge_steps=[20, 8],
        settings=SETTINGS,
        progress=lambda done, total: calls.append((done, total)),
        device="cpu",
    )
    done = [d for d, _ in calls]
    assert done == sorted(done)
    assert {total for _, total in calls} == {2 + 4 + 8}
    assert done[-1] == 14


def test_arrays_passed_in_are_not_changed() -> None:
    inputs, outputs = (array.copy() for array in ODD)
    sculpt((inputs, outputs), hidden=(10,), seeds=[0], unit_steps=[50], edge_steps=[20])
    assert np.array_equal(inputs, ODD[0])
    assert np.array_equal(outputs, ODD[1])


def test_published_steps() -> None:
    assert list(UNIT_STEPS) == [70, 65, 60, 55, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5]
    assert list(EDGE_STEPS) == [2.5, 2, 1.5, 1, 0.5]


@pytest.mark.parametrize(
    ("argument", "value", "kind", "sentence"),
    [
        ("hidden", (), ValueError, "a sequence of ints ≥ 1, at least one of them (got [])"),
        ("hidden", (8, 0), ValueError, "ints ≥ 1, at least one of them (got [8, 0])"),
        ("hidden", (8.5,), ValueError, "(got [8.5])"),
        ("hidden", 8, TypeError, "(got 8)"),
        ("seeds", [], ValueError, "a sequence of ints ≥ 0, at least one of them (got [])"),
        ("seeds", [-1], ValueError, "(got [-1])"),
        ("seeds", [1, 1], ValueError, "be distinct (got [1, 1])"),
        ("seeds", 4, TypeError, "(got 4)"),
        ("unit_steps", [], ValueError, "distinct percentages in (0, 100], at least one of them"),
        ("unit_steps", [0], ValueError, "(got [0])"),
        ("unit_steps", ["x"], TypeError, "(got ['x'])"),
        ("edge_steps", [5, 101], ValueError, "(got [5, 101])"),
        ("edge_steps", [float("nan")], ValueError, "(got [nan])"),
        ("edge_steps", [2, 2], ValueError, "(got [2, 2])"),
        ("device", "abacus", ValueError, "a torch device (got 'abacus')"),
    ],
)
def test_bad_arguments_get_one_sentence(argument: str, value: object, kind: type[Exception], sentence: str) -> None:
    arguments = {"hidden": (4,), "seeds": [0], argument: value}
    with pytest.raises(kind) as error:
        sculpt(ODD, **arguments)  # type: ignore[arg-type]
    assert str(error.value).startswith(f"`{argument}` must be ")
    assert sentence in str(error.value)


def test_the_graph_of_a_network(found: SculptResult) -> None:
    network = found.networks[0]
    dag = network.dag
    assert dag.n_edges == network.edges
