"""Two digits: how modules are laid out, judged by hand-drawn networks, and a small reproduction end to end."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import modgraph as mg
from modgraph.cli import main
from modgraph.experiments.digits import DigitsResult, DigitsTrial, Separation, separation
from modgraph.experiments.reproduce_digits import page, reproduce_digits, table

SIDE = np.array([0, 0, 1, 1])  # two pixels of each digit


RESULTS = Path(__file__).parents[1] / "docs" / "about" / "reproduction"
METHODS = ("default", "published")


def rows(path: Path) -> list[dict[str, str]]:
    """Read a table; its lines must have as many cells as its head has different names."""
    head, *lines = csv.reader(path.read_text().splitlines())
    assert len(set(head)) == len(head)
    return [dict(zip(head, line, strict=True)) for line in lines]


def a_result() -> DigitsResult:
    seen = Separation(input_modules=2, purity=0.75, inputs=False, outputs=True, middle=False)
    return DigitsResult(
        trial=DigitsTrial(data="mnist", task="hierarchical", width=392, depth=2, seed=0),
        sizes=(930, 72, 37, 3),
        edges=5659,
        density=0.007,
        dense_validation=0.97,
        dense_test=0.96,
        validation=0.95,
        test=0.94,
        rounds=53,
        seconds=400.1,
        published=seen,
        default=seen,
    )


def laid_out(*masks: list[list[int]], labels: list[int] | None = None) -> Separation:
    dag = mg.LayeredDAG.from_masks([np.array(mask) for mask in masks])
    found = mg.detect_modules(dag)
    if labels is not None:
        found = mg.ModuleHierarchy(dag=dag, labels=np.array(labels), cluster_labels=np.array(labels))
    return separation(found, SIDE)


APART = [[1, 1, 0, 0], [0, 0, 1, 1]]  # one unit a digit
BOTH = [[1, 1], [1, 1]]


def test_digits_that_stay_apart() -> None:
    seen = laid_out(APART, [[1, 0], [0, 1]], [[1, 0], [0, 1]])
    assert (seen.input_modules, seen.purity, seen.inputs, seen.outputs, seen.middle) == (2, 1.0, True, True, True)


def test_digits_that_meet_behind_the_first_layer() -> None:
    seen = laid_out(APART, BOTH, BOTH, labels=[0, 0, 1, 1, 0, 1, 2, 2, 3, 3])
    assert (seen.inputs, seen.outputs, seen.middle) == (True, False, False)


def test_one_module_for_all_separates_nothing() -> None:
    seen = laid_out([[1, 1, 1, 1], [1, 1, 1, 1]], BOTH)
    assert (seen.input_modules, seen.purity, seen.inputs) == (1, 0.5, False)


def test_purity_counts_the_pixels_of_the_other_digit() -> None:
    seen = laid_out(APART, BOTH, labels=[0, 0, 0, 1, 2, 2, 3, 4])
    assert seen.purity == 0.75
    assert not seen.inputs


def test_trimmed_pixels_do_not_count() -> None:
    seen = laid_out([[1, 0, 0, 0], [0, 0, 1, 1]], [[1, 0], [0, 1]])
    assert seen.input_modules == 2
    assert seen.purity == 1.0


def test_a_quick_run_writes_everything_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    results = reproduce_digits(tmp_path, quick=True, n_jobs=1)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"digits-digits8.{k}" for k in ("csv", "md", "png", "svg")
    } | {"digits"}
    (line,) = rows(tmp_path / "digits-digits8.csv")
    (result,) = results
    assert int(line["edges"]) == result.edges
    assert float(line["seconds"]) == pytest.approx(result.seconds, abs=0.05)
    for kind in ("published", "default"):
        found = {name: line[f"{kind}_{name}"] for name in ("input_modules", "purity", "inputs", "outputs", "middle")}
        assert found == {name: str(value) for name, value in asdict(getattr(result, kind)).items()}
    assert result.density == result.edges / (128 * 32 + 32 * 32 + 32 * 3)
    assert result.validation >= result.dense_validation - 0.02
    network, file = sorted((tmp_path / "digits").iterdir(), key=lambda path: len(path.name))
    assert mg.load_network(network).trim().layer_sizes == result.sizes
    written = file.read_bytes()
    again = reproduce_digits(tmp_path, quick=True, n_jobs=1)
    assert again == results
    assert file.read_bytes() == written
    assert page(results) == (tmp_path / "digits-digits8.md").read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("digits-mnist*.md")))
def test_the_published_table_and_page_agree(name: str) -> None:
    text = (RESULTS / f"{name}.md").read_text()
    lines = rows(RESULTS / f"{name}.csv")
    networks = [line.strip("| ").split(" | ") for line in text.splitlines() if " seed " in line]
    assert len(networks) == len(lines) > 0
    for cells, line in zip(networks, lines, strict=True):
        assert cells[0] == f"{line['width']} × {line['depth']}, seed {line['seed']}"
        assert cells[1] == line["sizes"].replace("-", "–")
        assert cells[2] == line["edges"]
        assert cells[4:8] == [line[name] for name in ("dense_validation", "dense_test", "validation", "test")]
        assert cells[8:10] == [line["rounds"], f"{float(line['seconds']) / 60:.1f}"]
        modules = (f"{line[f'{kind}_input_modules']}, {float(line[f'{kind}_purity']):.3f}" for kind in METHODS)
        assert cells[10:] == list(modules)
    assert table([a_result()]).splitlines()[0].split(",") == list(lines[0])


def test_classify_is_written_beside_hierarchical(tmp_path: Path) -> None:
    reproduce_digits(tmp_path, task="classify", quick=True, n_jobs=1)
    text = (tmp_path / "digits-digits8-classify.md").read_text()
    assert "`modgraph reproduce digits --data digits8 --quick --task classify`" in text
    assert "| 2 | 1 | " in text
    assert " | – | " in text  # nothing was published of it


def test_the_cosine_schedule_has_files_and_pairs_of_its_own(tmp_path: Path) -> None:
    trial = DigitsTrial(data="digits8", task="hierarchical", width=32, depth=2, seed=0, quick=True)
    other = replace(trial, schedule="cosine")
    assert other.name == "digits8-hierarchical-32x2-0-cosine-quick"
    assert (trial.settings.schedule, other.settings.schedule) == ("constant", "cosine")
    assert (trial.settings.tolerance, trial.settings.edges_of) == (other.settings.tolerance, "dense")
    assert replace(other, data="mnist", quick=False).settings.edges_of == "left"
    assert replace(other, depth=4).settings.learning_rate == 2 * replace(other, depth=5).settings.learning_rate
    (result,) = reproduce_digits(tmp_path, quick=True, n_jobs=1, schedule="cosine")
    assert result.trial == other
    assert "`modgraph reproduce digits --data digits8 --quick --schedule cosine`" in page([result])
    assert (tmp_path / "digits-digits8-cosine.csv").exists()
    assert result.validation >= result.dense_validation - 0.02
    assert {path.name for path in (tmp_path / "digits").iterdir()} == {
        f"{other.name}.npz",
        f"{other.name}.checkpoint.npz",
    }


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "digits", "--quick", "--jobs", "1", "--out", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert network["trial"]["depth"] == len(network["sizes"]) - 2 == 2
    assert main([*command, "--hidden-layers", "2,x"]) == 2
    assert "`--hidden-layers` must be ints with commas between (got '2,x')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mnits"}, "`data` must be"),
        ({"hidden_layers": ()}, r"`hidden_layers` must be ints ≥ 1 \(got \(\)\)"),
        ({"widths": (0,)}, r"`widths` must be ints ≥ 1 \(got \(0,\)\)"),
        ({"seeds": 0}, r"`seeds` must be ints ≥ 1"),
        ({"schedule": "slow"}, "`schedule` must be"),
    ],
)
def test_bad_arguments(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        reproduce_digits(tmp_path, **options)  # type: ignore[arg-type]
