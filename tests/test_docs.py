"""What can be checked of the pages without building them (`make docs` builds them and runs their code)."""

import re
import shlex
from pathlib import Path

import pytest

from tests import check_docs
from tests.io_networks import estimator, network, pruned_model, write

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    assert list(check_docs.broken_links()) == []


def test_the_reference_is_complete() -> None:
    assert list(check_docs.undocumented()) == []


def test_figures_are_those_of_the_table() -> None:
    assert list(check_docs.wrong_figures()) == []


def test_lines_are_no_longer_than_in_code() -> None:
    # Rows of tables and pages written by programs can't be wrapped; comments that mark figures are not shown.
    written = ROOT / "docs" / "about" / "reproduction"
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in check_docs.pages()
        if written not in page.parents
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if len(re.sub("<!-- figure: .*? -->", "", line)) > 120 and not line.startswith("|")
    ]
    assert long == []


def page(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make a documentation that is one page."""
    monkeypatch.setattr(check_docs, "ROOT", folder)
    monkeypatch.setattr(check_docs, "DOCS", folder / "docs")
    (folder / "docs").mkdir()
    (folder / "docs" / "figures.toml").write_text('[rate]\nvalue = "573"\ncommand = "python -m x"\n')
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        (folder / name).write_text("# Title\n\n## Part one\n")
    (folder / "README.md").write_text(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](CHANGELOG.md) [b](CHANGELOG.md#part-one) [c](https://example.org/x) `[d](nowhere)`", []),
        ("```\n[a](nowhere)\n```\n", []),
        ("[a](nowhere.md)", ["README.md: nowhere.md is not there"]),
        ("[a](CHANGELOG.md#part-two)", ["README.md: CHANGELOG.md#part-two: no such heading"]),
        ("[a](https:///x)", ["README.md: https:///x is no address"]),
        ("[a](gopher://x)", ["README.md: gopher://x has an unknown scheme"]),
    ],
)
def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, wrong: list[str]) -> None:
    page(tmp_path, monkeypatch, text)
    assert list(check_docs.broken_links()) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("exact: 573<!-- figure: rate -->", []),
        ("| a | **573**<!-- figure: rate --> |", []),
        ("exact: 572<!-- figure: rate -->", ["README.md: rate must be '573' (got 'exact: 572')"]),
        ("1,573<!-- figure: rate -->", ["README.md: rate must be '573' (got '1,573')"]),
        ("573", ["docs/figures.toml: rate is used nowhere"]),
        ("573<!-- figure: rate --> 1<!-- figure: new -->", ["README.md: new is not in docs/figures.toml"]),
    ],
)
def test_wrong_figures_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, wrong: list[str]) -> None:
    page(tmp_path, monkeypatch, text)
    assert list(check_docs.wrong_figures()) == wrong


@pytest.mark.parametrize("value", ["573", "400"])
def test_changed_figures_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    page(tmp_path, monkeypatch, "")
    command = f"python -c 'print(\"all: {value} right\")'"
    text = f"[rate]\nvalue = \"573\"\ncommand = '''{command}'''\npattern = 'all: (\\d+)'\ntolerance = 0.1\n"
    (tmp_path / "docs" / "figures.toml").write_text(text)
    changed = [f"docs/figures.toml: rate is '573', `{command}` prints '400'"]
    assert list(check_docs.changed_figures()) == ([] if value == "573" else changed)


def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modgraph.cli import main

    net = network()
    write(net, "onnx Gemm", tmp_path).rename(tmp_path / "pruned.onnx")
    monkeypatch.chdir(tmp_path)
    names = {"model": pruned_model(net), "mlp": estimator(net)}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for kind, code in blocks:
        if kind == "python":
            exec(code, names)
    lines = [shlex.split(line, comments=True) for kind, code in blocks if kind == "sh" for line in code.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["modgraph"]]
    assert commands
    for arguments in commands:
        assert main(arguments) == 0, arguments
