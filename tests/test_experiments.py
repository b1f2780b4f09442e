import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modgraph import detect_modules, functions, score
from modgraph.cli import main
from modgraph.experiments import EXPERIMENTS, Store, StoredNetwork, Trial, published_cells, published_settings, sweep
from modgraph.experiments.judged import JudgedTrial, agreement, judge, shown_by
from modgraph.experiments.random_functions import drawn_network, random_trials
from modgraph.experiments.reproduce import Rate, page, reproduce, table, trials_of
from modgraph.experiments.selection import RULES
from modgraph.experiments.store import pack_masks, unpack_masks
from modgraph.experiments.sweep import target_of
from modgraph.score import criteria
from modgraph.sculpt import TrainSettings, by_consensus, consensus, fewest_edges, sculpt

RESULTS = Path(__file__).parents[1] / "docs" / "about" / "reproduction"
QUICK = TrainSettings(learning_rate=0.05, batch_size=8, epochs=4)


def small_trials(seeds: int = 2) -> list[Trial]:
    return [
        Trial(function=name, hidden=(8,), seed=seed, settings=QUICK, unit_steps=(40.0,), edge_steps=(20.0, 10.0))
        for name in ("separable", "reuse_1", "single")
        for seed in range(seeds)
    ]


def contents(store: Store, trials: list[Trial]) -> str:
    """All that a sweep found, as text."""
    lines = []
    for trial in trials:
        for network in store.candidates(trial.key):
            numbers = [network.unit_step, network.edge_step, network.edges, network.accuracy, network.accepted]
            lines.append(f"{trial.key} {numbers} {pack_masks(network.masks).hex()} {network.labels.tolist()}")
    return "\n".join(lines)


# What the paper did


def test_every_cell_has_its_trials() -> None:
    assert len(published_settings()) == 361
    sizes = {name: [len(cell.networks) * 4 for cell in published_cells(name)] for name in EXPERIMENTS}
    assert sizes["exemplars"] == [36, 40, 36, 36]
    assert set(sizes["reuse"]) == {12}
    assert set(sizes["overlap"]) == {36}
    assert set(sizes["levels"]) == {12}
    assert [len(sizes[name]) for name in EXPERIMENTS] == [4, 15, 75, 20]
    every = {
        trial.key for name in EXPERIMENTS for cell in published_cells(name) for trial in trials_of(cell, seeds=range(4))
    }
    assert len(every) == 361 * 4


def test_settings_are_those_of_the_paper() -> None:
    found = [row for row in published_settings() if (row.function, row.hidden) == ("overlap_4_use_8", (24, 24))]
    assert len(found) == 1
    assert found[0].settings == TrainSettings(learning_rate=0.1, batch_size=8, epochs=15)


def test_unknown_experiments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`experiment` must be one of .* \(got 'mnist'\)"):
        reproduce(["mnist"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"`seeds` must be an int ≥ 1 \(got 0\)"):
        reproduce(["levels"], tmp_path / "out", seeds=0)
    assert not (tmp_path / "out").exists()


# Sweeps


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_packed_masks_come_back(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < 0.4 for shape in zip(sizes[1:], sizes[:-1], strict=True)]
    again = unpack_masks(pack_masks(masks), tuple(sizes))
    assert all((one == two).all() for one, two in zip(masks, again, strict=True))


def test_a_sweep_keeps_what_sculpt_finds(tmp_path: Path) -> None:
    trials = small_trials()
    seen = []
    store = sweep(trials, tmp_path / "s.sqlite", n_jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    for trial in trials:
        target = functions.published(trial.function)
        out = sculpt(
            target,
            hidden=trial.hidden,
            seeds=[trial.seed],
            settings=trial.settings,
            unit_steps=trial.unit_steps,
            edge_steps=trial.edge_steps,
        )
        networks = store.candidates(trial.key)
        assert len(networks) == len(out.candidates) == 2
        for network, candidate in zip(networks, out.candidates, strict=True):
            assert (network.unit_step, network.edge_step) == (candidate.unit_step, candidate.edge_step)
            assert (network.edges, network.accuracy) == (candidate.edges, candidate.accuracy)
            assert all((one == two).all() for one, two in zip(network.masks, candidate.masks, strict=True))
            for one, two in zip(
                (*network.weights, *network.biases), (*candidate.weights, *candidate.biases), strict=True
            ):
                assert one.dtype == np.float32
                assert (one == two.astype(np.float16)).all()
            found = detect_modules(candidate.dag)
            assert network.labels.tolist() == found.labels.tolist()
            assert score(network.hierarchy, target) == score(found, target)
        assert networks.index(fewest_edges(networks)) == out.candidates.index(
            min(out.candidates, key=lambda c: (c.edges, -c.accuracy, -c.unit_step, -c.edge_step))
        )


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    sweep(small_trials(1), path, n_jobs=1)
    seen = []
    sweep(small_trials(1), path, n_jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 6)]
    more = small_trials(2)
    sweep(more, path, n_jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[1] == (6, 12)


def test_settings_are_part_of_the_key() -> None:
    one = small_trials(1)[0]
    keys = {one.key}
    for change in ({"seed": 5}, {"hidden": (8, 8)}, {"edge_steps": (20.0,)}, {"settings": TrainSettings(epochs=5)}):
        keys.add(Trial(**{**{name: getattr(one, name) for name in one.__slots__}, **change}).key)
    assert len(keys) == 5


def test_processes_change_nothing(tmp_path: Path) -> None:
    trials = small_trials()
    one = sweep(trials, tmp_path / "one.sqlite", n_jobs=1)
    two = sweep(reversed(trials), tmp_path / "two.sqlite", n_jobs=2)
    assert contents(one, trials) == contents(two, trials)


@pytest.mark.slow
def test_a_dask_cluster_runs_the_same_call(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    trials = small_trials()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        there = sweep(trials, tmp_path / "dask.sqlite")
    here = sweep(trials, tmp_path / "here.sqlite", n_jobs=1)
    assert contents(there, trials) == contents(here, trials)


RUN = """
import sys
from tests.test_experiments import small_trials
from modgraph.experiments import sweep
sweep(small_trials(4), sys.argv[1], n_jobs=1, progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_results(tmp_path: Path) -> None:
    path = tmp_path / "killed.sqlite"
    chance = random.Random(1)
    root = Path(__file__).parents[1]
    for kill in range(3):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(path)], cwd=root, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(min(kill + 1, 2)):  # let it get somewhere, but not to the end
            process.stdout.readline()
        time.sleep(chance.random() * 0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    trials = small_trials(4)
    resumed = sweep(trials, path, n_jobs=1)
    whole = sweep(trials, tmp_path / "whole.sqlite", n_jobs=1)
    assert contents(resumed, trials) == contents(whole, trials)


def old_store(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE trials (trial TEXT PRIMARY KEY)")


def truncated_store(path: Path) -> None:
    Store(path)
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(b"no store" * 1000), id="garbage"),
        pytest.param(truncated_store, id="truncated"),
        pytest.param(old_store, id="old"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_kept(
    spoil: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.sqlite"
    spoil(path)
    before = path.read_bytes()
    assert main(["reproduce", "exemplars", "--quick", "--jobs", "1", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is no store of results that this version of modgraph wrote" in error
    assert error.count("\n") == 1
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.sqlite"]


# Reproduction


def test_a_quick_reproduction_writes_tables_figures_and_a_page(tmp_path: Path) -> None:
    rates = reproduce(["exemplars", "reuse"], tmp_path, quick=True, n_jobs=1)
    names = {f"{name}.{kind}" for name in rates for kind in ("csv", "png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == names | {"results.sqlite", "reproduction.md"}
    text = (tmp_path / "reproduction.md").read_text()
    for name, part in rates.items():
        lines = list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
        assert [int(line["equal"]) for line in lines] == [rate.equal for rate in part]
        with (RESULTS / f"{name}.csv").open() as published_table:
            assert set(next(csv.reader(published_table))) <= set(lines[0])
    below = [rate.cell for part in rates.values() for rate in part if rate.below]
    tables = len(rates) + len({cell.experiment for cell in below})
    assert text.count("\n| ") == sum(map(len, rates.values())) + len(below) + tables
    store = Store(tmp_path / "results.sqlite")
    instead = {cell: [shown_by(store, trials_of(cell, seeds=(0,), quick=True))] for cell in below}
    assert page(rates, instead=instead, quick=True) == text
    again = reproduce(["exemplars", "reuse"], tmp_path, quick=True, n_jobs=1)
    assert [table(part) for part in again.values()] == [table(part) for part in rates.values()]


def test_counts_are_nested_and_intervals_hold_the_rate(tmp_path: Path) -> None:
    for rate in reproduce(["exemplars"], tmp_path, quick=True, n_jobs=1)["exemplars"]:
        assert 0 <= rate.chosen <= rate.equal <= rate.any <= rate.trials
        assert 0 <= rate.agreed <= rate.any
        assert 0 < rate.votes <= 1
        for share, (low, high) in ((rate.share, rate.interval), (rate.paper_share, rate.paper_interval)):
            assert 0 <= low <= share <= high <= 1


def test_another_choice_needs_no_training(tmp_path: Path) -> None:
    def most_edges(networks: Sequence[StoredNetwork]) -> StoredNetwork:
        return max(networks, key=lambda network: network.edges)

    few = reproduce(["exemplars"], tmp_path, quick=True, n_jobs=1)["exemplars"]
    size = (tmp_path / "results.sqlite").stat().st_mtime_ns
    many = reproduce(["exemplars"], tmp_path, quick=True, n_jobs=1, choose=most_edges)["exemplars"]
    assert (tmp_path / "results.sqlite").stat().st_mtime_ns == size
    assert all(one.edges <= two.edges for one, two in zip(few, many, strict=True))
    assert any(one.edges < two.edges for one, two in zip(few, many, strict=True))
    assert [(rate.any, rate.right_edges) for rate in few] == [(rate.any, rate.right_edges) for rate in many]


def test_the_device_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`device` must be a torch device"):
        reproduce(["exemplars"], tmp_path, quick=True, n_jobs=1, device="abacus")


def test_wilson_interval() -> None:
    # 35 of 36, by Wilson's formula worked out by hand.
    cell = published_cells("exemplars")[1]
    counts = {"trials": 36, "agreed": 36, "interval": (0.9, 1.0), "votes": 0.9, "chosen": 0, "any": 36}
    rate = Rate(cell=cell, equal=35, edges=9.5, right_edges=9.5, **counts)  # type: ignore[arg-type]
    z, n, p = 1.959963985, 36, 35 / 36
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    assert rate.paper_interval == pytest.approx((middle - half, middle + half))
    assert not rate.paper_below
    assert replace(rate, equal=20).paper_below
    assert not rate.below
    assert replace(rate, agreed=20, interval=(0.4, 0.7)).below


def test_trials_that_choose_together_end_at_what_they_agree_on(tmp_path: Path) -> None:
    trials = [replace(trial, unit_steps=(50.0, 30.0, 15.0), edge_steps=(10.0, 5.0)) for trial in small_trials(4)[:4]]
    store = sweep(trials, tmp_path / "s.sqlite", n_jobs=1)
    accepted = [[one for one in store.candidates(trial.key) if one.accepted] for trial in trials]
    some = [(trial, networks) for trial, networks in zip(trials, accepted, strict=True) if networks]
    target, voters = functions.published("separable"), [networks for _, networks in some]
    wanted = [criteria(one.hierarchy, target).exact for one in by_consensus(voters)]
    found = agreement([judge(store, trial) for trial, _ in some], "exact")
    assert found.right.tolist() == wanted
    agreed = consensus(voters)
    assert agreed is not None
    assert found.share == pytest.approx(agreed.share)
    assert found.resampled.mean() == pytest.approx(np.mean(wanted), abs=0.3)


# The study of rules of choice, and random functions


def test_a_quick_study_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "selection", "--quick", "--jobs", "1", "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert Path(document["page"]).read_text().startswith("# Which network is right?")
    cells = document["selection"]
    assert {cell["group"] for cell in cells} == {"fixed on, seeds 0–3", "looked at, seeds 4–7"}
    for cell in cells:
        assert set(cell["shares"]) == set(RULES)
        assert all(0 <= share <= cell["shares"]["any"] <= 1 for share in cell["shares"].values())
    assert {path.name for path in tmp_path.iterdir()} >= {"selection.csv", "selection.png", "selection.svg"}


def test_quick_random_functions_write_their_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--functions", "2", "--seeds", "1", "--quick", "--jobs", "1", "--out", str(tmp_path)]
    assert main(["reproduce", "random", *arguments]) == 0
    assert "answers are right" in capsys.readouterr().out
    page = (tmp_path / "random.md").read_text()
    assert "2 functions of `modgraph.functions.random`" in page
    assert page.count("| separable |") == 4  # once for each criterion
    assert page.count("| seen:") == 1
    assert "| fresh" not in page


def test_the_network_of_a_drawn_graph() -> None:
    """Two functions of the same bits share their units; values pass on; every unit reads what its sub-function does."""
    target = functions.FunctionGraph(
        name="t",
        inputs=["a", "b", "c", "d"],
        sub_functions=[
            functions.SubFunction("P", ["a", "b"], function="or"),
            functions.SubFunction("Q", ["c", "d"], function="xor"),
            functions.SubFunction("R", ["P", "Q"], function="and"),
            functions.SubFunction("S", ["Q", "P"], function="xor"),
        ],
        outputs=["R", "~S", "P"],
    )
    dag = drawn_network(target, hidden_layers=2)
    dag = dag.subgraph(dag.on_path())
    assert dag.layer_sizes == (4, 3, 3, 3)  # P, Q, Q; then P passed on, and two units of R and S
    edges = set(zip(dag.sources.tolist(), dag.targets.tolist(), strict=True))
    below = {(0, 4), (1, 4), (2, 5), (3, 5), (2, 6), (3, 6)}
    above = {(4, 7), *((unit, other) for unit in (4, 5, 6) for other in (8, 9))}
    assert edges == below | above | {(8, 10), (9, 10), (8, 11), (9, 11), (7, 12)}


@pytest.mark.parametrize(("number", "as_expected"), [(0, True), (2, True), (49, True), (3, False), (9, False)])
def test_a_drawn_graph_does_not_always_show_what_the_paper_expects(number: int, as_expected: bool) -> None:
    trial = random_trials(number + 1, seeds=1)[number][0]
    target = target_of(trial.function)
    found = detect_modules(drawn_network(target, hidden_layers=len(trial.hidden)))
    assert criteria(found, target).exact == as_expected


def test_names_of_random_functions() -> None:
    ((trial, other), _) = random_trials(2, seeds=2)
    target = functions.random(6, levels=1, reuse=1, overlap=None, random_state=0)
    assert (target_of(trial.function).truth_table()[1] == target.truth_table()[1]).all()
    assert trial.function == other.function
    assert random_trials(30, seeds=2)[0] == [trial, other]
    assert target_of("single").name == "single"


def judged_by_hand(costs: list[int], shown: list[str], right: list[bool]) -> JudgedTrial:
    numbers = np.array(costs, dtype=np.int64)
    verdicts = np.array(right, dtype=np.bool_)
    return JudgedTrial(
        trial=small_trials(1)[0],
        chosen=0 if costs else -1,
        edges=numbers,
        cones=np.ones_like(numbers),
        passing=np.ones_like(numbers),
        contradictions=np.zeros_like(numbers),
        shown=tuple(shown),
        right=dict.fromkeys(("inputs", "outputs", "hidden", "exact"), verdicts),
    )


def test_an_agreement_worked_out_by_hand() -> None:
    trials = [
        judged_by_hand([100, 110, 111], ["a", "b", "b"], [True, False, False]),  # votes a 1/2, b 1/2
        judged_by_hand([50, 90], ["a", "b"], [True, False]),  # votes a 1
        judged_by_hand([70], ["b"], [False]),  # votes b 1
        judged_by_hand([], [], []),  # accepted nothing, doesn't vote
    ]
    found = agreement(trials, "exact")
    # a and b have 3/2 votes each; a was shown at the lowest cost.
    assert found.answer
    assert found.share == 0.5
    assert found.right.tolist() == [True, True, False, False]
    assert 0.3 < found.resampled.mean() < 0.6
    assert not agreement(trials[3:], "exact").right.any()
    assert not agreement(trials, "exact", close=1.0, costs=[10 * trial.edges for trial in trials]).answer
