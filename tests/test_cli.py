"""The command: files in, files or standard output out; bad input gets one sentence and exit status 2."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from modgraph import detect_modules, significance
from modgraph.cli import COMMANDS, main
from modgraph.functions import published, published_names
from modgraph.io import load_hierarchy, load_network, save_hierarchy
from tests import io_networks
from tests.io_networks import network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return io_networks.write(network((4, 6, 4)), "npz", tmp_path)


def test_detect_prints_and_saves(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(file), "--out", str(tmp_path / "modules.json")]) == 0
    found = detect_modules(load_network(file))
    printed = capsys.readouterr().out
    assert f"{found.n_modules} modules" in printed
    assert printed.splitlines()[1] == f"by {found.settings['features']}"
    assert printed.splitlines()[2] == significance(found, n_null=0).summary()
    assert len(printed.splitlines()) == 3 + found.n_modules
    assert load_hierarchy(tmp_path / "modules.json").labels.tolist() == found.labels.tolist()


def test_detect_speaks_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(file), "--json", "--clustering", "published", "--hops", "1", "--threshold", "0.2"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = detect_modules(load_network(file, threshold=0.2), clustering="published", hops=1)
    assert document["labels"] == found.labels.tolist()
    assert document["settings"] == found.settings
    assert [module["units"] for module in document["modules"]] == [m.units.tolist() for m in found.modules]


def test_detect_compares_with_null_networks(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(file), "--json", "--features", "wiring", "--nulls", "3"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = significance(detect_modules(load_network(file), features="wiring"), n_null=3)
    assert document["evidence"] == json.loads(json.dumps(found.to_dict()))
    assert len(document["evidence"]["null"]) == 3


def test_evidence_judges_every_module(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", str(file), "--json", "--features", "wiring", "--nulls", "3", "--changes", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = detect_modules(load_network(file), features="wiring")
    assert document["p_value"] == significance(found, n_null=3, n_resamples=0).p_value
    assert len(document["stability"]) == len(document["modules"]) == found.n_modules
    assert main(["evidence", str(file), "--nulls", "-1"]) == 2
    assert "`--nulls` must be an int ≥ 0 (got -1)" in capsys.readouterr().err


def test_compare_shows_methods_side_by_side(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(file), "--methods", "linkage,published", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in document["methods"]] == ["linkage", "published"]
    assert document["methods"][1]["modules"] == detect_modules(load_network(file), clustering="published").n_modules
    assert document["methods"][0]["evidence"]["n_null"] == 0
    arguments = ["--methods", "published", "--nulls", "3", "--changes", "2"]
    assert main(["compare", str(file), *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"][0]["evidence"]["n_null"] == 3
    assert main(["compare", str(file), "--methods", "linkage", "--nulls", "-1"]) == 2
    assert "`--nulls` must be an int ≥ 0 (got -1)" in capsys.readouterr().err
    assert main(["compare", str(file), "--methods", "linkage"]) == 0
    assert capsys.readouterr().out.startswith("method ")


def test_score_takes_networks_and_hierarchies(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_hierarchy(detect_modules(load_network(file)), tmp_path / "modules.json")
    printed = []
    for given in (file, tmp_path / "modules.json"):
        assert main(["score", str(given), "separable", "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert printed[0]["target"] == "separable"
    assert isinstance(printed[0]["exact"], bool)
    assert main(["score", str(file), "separable"]) == 0
    assert capsys.readouterr().out.startswith("Score(")


def test_verify_speaks_json_with_and_without_a_target(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_target = ["verify", str(file), "separable", "--activations", "relu,sigmoid", "--n-controls", "2"]
    assert main([*with_target, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["functional"] is False
    assert len(document["modules"]) == detect_modules(load_network(file)).n_modules
    assert 0 <= document["modules"][0]["interchange"]["value"] <= 1
    assert main(with_target) == 0
    assert capsys.readouterr().out.startswith("Verification(")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((20, 4)))
    without = ["verify", str(file), "--data", str(tmp_path / "data.npy"), "--activations", "relu,sigmoid", "--json"]
    assert main(without) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["modules"][0]["certified"] is None
    assert document["modules"][0]["bits"] > 0


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_draw_makes_a_picture(suffix: str, file: Path, tmp_path: Path) -> None:
    picture = tmp_path / f"modules.{suffix}"
    assert main(["draw", str(file), str(picture), "--target", "separable"]) == 0
    assert picture.read_bytes()[:4] in (b"<?xm", b"\x89PNG")


def test_commands_that_write_files_speak_json(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n_modules = detect_modules(load_network(file)).n_modules
    for command, suffix, facts in (
        ("draw", "svg", {"n_modules": n_modules}),
        ("report", "html", {"n_modules": n_modules}),
        ("convert", "npz", {"modules": False}),
        ("convert", "csv", {"modules": False}),
    ):
        out = str(tmp_path / f"out.{suffix}")
        assert main([command, str(file), out, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"file": out, **facts}
    assert main(["draw", str(file), "-", "--json"]) == 2


@pytest.mark.parametrize("modules", [True, False])
def test_convert_writes_graphs(modules: bool, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.graphml"
    assert main(["convert", str(file), str(out), *(["--modules"] if modules else [])]) == 0
    graph = nx.read_graphml(out)
    assert all(("module" in values) == modules for values in graph.nodes.values())
    dag = load_network(file)
    assert graph.number_of_nodes() == (dag.trim().n_units if modules else dag.n_units)


def test_convert_writes_networks(file: Path, tmp_path: Path) -> None:
    onnx = io_networks.write(network(), "onnx Gemm", tmp_path)
    assert main(["convert", str(onnx), str(tmp_path / "new.npz")]) == 0
    io_networks.assert_same(load_network(tmp_path / "new.npz"), network().dag)
    assert main(["convert", str(file), str(tmp_path / "new.npz"), "--modules"]) == 2


def test_info_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = io_networks.write(network(), "onnx Gemm", tmp_path)
    assert main(["info", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["layer_sizes"] == [5, 7, 6, 3]
    assert facts["edges"] == network().dag.n_edges
    assert facts["activations"] == [["identity"], ["relu"], ["relu"], ["sigmoid"]]
    assert main(["info", str(file)]) == 0
    assert "layer0: 7 units" in capsys.readouterr().out


def test_info_lists_the_parts_of_a_large_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    state = {f"layers.{at}.mlp.{name}": torch.ones(shape) for at in range(2) for name, shape in PARTS.items()}
    torch.save(state | {"attn.q_proj.weight": torch.ones(4, 4)}, tmp_path / "net.pt")
    assert main(["info", str(tmp_path / "net.pt")]) == 0
    assert "2 parts can be read, each with --block NAME:\n  layers.0.mlp: 4 → 8 → 4\n" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "net.pt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blocks"] == {f"layers.{at}.mlp": [4, 8, 4] for at in range(2)}
    assert main(["info", str(tmp_path / "net.pt"), "--block", "layers.1.mlp"]) == 0


PARTS = {"up.weight": (8, 4), "down.weight": (4, 8)}


def test_blocks_and_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    file = io_networks.write(net, "pt", tmp_path)
    assert main(["info", str(file), "--block", "0,2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layer_sizes"] == [5, 7, 6]
    masks = io_networks.write(net, "npz with masks", tmp_path)
    assert main(["info", str(file), "--masks", str(masks)]) == 2  # it has weights and biases, too


def test_sculpt_reads_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    kind = np.where(x[:, 0] > 0, "right", "left")
    lines = ["a,b,c,side", *(f"{a},{b},{c},{side}" for (a, b, c), side in zip(x, kind, strict=True))]
    table = tmp_path / "sides.csv"
    table.write_text("\n".join(lines))
    assert main(["sculpt", str(table), str(tmp_path), "--target", "side", "--hidden", "8", "--json"]) == 0
    printed = capsys.readouterr()
    assert "--task classification is assumed" in printed.err
    (row,) = json.loads(printed.out)["networks"]
    assert row["metric"] == "class accuracy"
    assert row["value"] > 0.9 > row["constant"]
    names = load_network(row["file"]).unit_names
    assert names is not None
    assert (names[:3].tolist(), names[-1]) == (["a", "b", "c"], "right")
    assert [path.name for path in tmp_path.glob("*.npz")] == ["sides.npz"]
    for wrong, message in (
        (["--target", "d"], "`--target` must name columns of the table: a, b, c, side"),
        (["--target", "a"], "columns must hold numbers, apart from the target (got text in side)"),
        ([], "`--target` must name the column to predict"),
    ):
        assert main(["sculpt", str(table), str(tmp_path), *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["sculpt", "--list"]) == 0
    assert capsys.readouterr().out.split() == list(published_names())


def test_sculpt_saves_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["separable", str(tmp_path), "--hidden", "8", "--seeds", "1", "--epochs", "10", "--json"]
    assert main(["sculpt", *arguments]) == 0
    written = json.loads(capsys.readouterr().out)
    (row,) = written["networks"]
    agreed = written["consensus"]
    assert (agreed["n_found"], agreed["n_trials"]) == (1, 1)
    assert 0 < agreed["share"] <= 1
    page = tmp_path / "page.html"
    assert main(["report", agreed["file"], str(page)]) == 0
    assert "found in 1 of 1 trial, with" in page.read_text()
    assert load_network(row["file"]).layer_sizes == (4, 8, published("separable").n_outputs)
    assert main(["sculpt", "separable", str(tmp_path), "--hidden", "8,x"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "no.npz"], "modgraph: No such file or directory: 'no.npz'"),
        (["detect"], "modgraph: Missing argument"),
        (["detect", "FILE", "--hops", "0"], "modgraph: `--hops` must be an int ≥ 1"),
        (["detect", "FILE", "--hops", "x"], "modgraph: Invalid value for '--hops'"),
        (["detect", "FILE", "--clustering", "odd"], "modgraph: `--clustering` must be one of"),
        (["detect", "FILE", "--features", "odd"], "modgraph: `--features` must be one of"),
        (["detect", "FILE", "--wrong"], "modgraph: No such option: --wrong"),
        (["odd"], "modgraph: No such command 'odd'"),
        (["score", "FILE", "separate"], "modgraph: `TARGET` must be a published function (got 'separate'; nearest"),
        (["score", "FILE", "levels_use_2"], "modgraph: `TARGET` must have the 4 inputs of the network"),
        (["draw", "FILE", "a.xyz"], "modgraph: Format 'xyz' is not supported"),
        (["draw", "FILE", "a.svg", "--target", "levels_use_2"], "modgraph: `--target` must have the 4 inputs"),
        (["compare", "FILE", "--methods", "linkage,odd"], "modgraph: `--methods` must be one of"),
        (["reproduce", "digits", "--width", "0"], "modgraph: `--width` must be ints ≥ 1"),
        (["convert", "FILE", "a.xyz"], "modgraph: `OUT` must end in one of .graphml"),
        (["info", "TRAP"], "modgraph: `FILE` can't be read as a pickle"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(
    arguments: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps([1]))
    names = {"FILE": str(file), "TRAP": str(tmp_path / "trap.pkl"), "a.xyz": str(tmp_path / "a.xyz")}
    assert main([names.get(one, one) for one in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert main([*(names.get(one, one) for one in arguments), "--debug"]) == 2


def test_reproduce_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "exemplars", "--quick", "--jobs", "1", "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["cell"].split(" · ")[0] for row in document["rates"]] == [
        "separable",
        "reused",
        "separable_reused",
        "single",
    ]
    assert {row["trials"] for row in document["rates"]} == {1}
    assert (tmp_path / "reproduction.md").is_file()
    assert main(["reproduce", "nothing", "--out", str(tmp_path)]) == 2


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "no.npz", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    (example,) = (line.strip() for line in text.splitlines() if line.strip().startswith("Example: "))
    assert example.startswith(f"Example: modgraph {command} ")


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert all(f"\n  {command} " in captured.out for command in COMMANDS)


def test_version_and_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.count(".") >= 1
    code = "import sys; from modgraph.cli import COMMANDS, main; sys.exit(main(['--show-completion', 'bash']))"
    # typer's own switch: take the shell that is named, whatever shell runs the tests.
    named = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=named)
    assert "_MODGRAPH_COMPLETE" in done.stdout


def test_compare_draws_the_clusterings_side_by_side(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "flows.svg"
    assert main(["compare", str(file), "--methods", "linkage,published", "--out", str(out)]) == 0
    assert "<!-- linkage (" in out.read_text("utf-8")
    assert main(["compare", str(file), "--methods", "linkage", "--out", str(tmp_path / "flows.txt")]) == 2
    assert not (tmp_path / "flows.txt").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["modgraph", "detect", "x.npz", "--clustering", "l"], ["linkage", "leiden"]),
        (["modgraph", "detect", "x.npz", "--features", "a"], ["auto", "attributes"]),
        (["modgraph", "compare", "x.npz", "--methods", "linkage,p"], ["linkage,published"]),
        (["modgraph", "score", "x.npz", "overlap_3_use_1"], ["overlap_3_use_1"]),
        (["modgraph", "de"], ["detect"]),
        (["modgraph", "info", "ne"], []),  # the shell completes file names then
    ],
)
def test_the_shell_completes_values(words: list[str], expected: list[str]) -> None:
    asked = {"_MODGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; from modgraph.cli import main; sys.exit(main(['--help']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | asked)
    assert sorted(done.stdout.split()) == sorted(expected)
