from __future__ import annotations

import _thread
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modgraph.checks import missing
from modgraph.cli import main
from modgraph.io import load_network, save_network
from modgraph.planted import planted_modules
from tests import io_networks
from tests.io_networks import network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return io_networks.write(network((4, 6, 4)), "npz", tmp_path)


def start(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "modgraph", *arguments]
    return subprocess.run(command, **{"capture_output": True, "text": True, "check": False} | settings)


def test_a_killed_sculpt_ends_with_the_same_networks(tmp_path: Path) -> None:
    arguments = ["sculpt", "separable", "--hidden", "10", "--seeds", "1"]
    assert start(*arguments, str(tmp_path / "whole")).returncode == 0
    command = [sys.executable, "-m", "modgraph", *arguments, str(tmp_path / "killed")]
    checkpoint = tmp_path / "killed" / "separable.checkpoint.npz"
    with subprocess.Popen(command) as running:
        while not checkpoint.exists() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        running.kill()
    was_killed = checkpoint.exists()
    assert start(*arguments, str(tmp_path / "killed")).returncode == 0
    assert was_killed
    assert not checkpoint.exists()
    whole, resumed = (load_network(tmp_path / name / "separable-0.npz") for name in ("whole", "killed"))
    assert whole == resumed


def test_a_process_of_its_own(file: Path) -> None:
    done = start("detect", str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_modules"] > 0
    done = start("detect", "no.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "modgraph: No such file or directory: 'no.npz'\n"


@pytest.mark.parametrize("arguments", [["detect", "FILE", "--json"], ["--help"]])
def test_a_reader_that_stops_reading_is_no_error(arguments: list[str], file: Path) -> None:
    words = [str(file) if word == "FILE" else word for word in arguments]
    read, write = os.pipe()
    os.close(read)
    try:
        done = start(*words, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_cannot_encode_a_character_replaces_it(file: Path, tmp_path: Path) -> None:
    named = tmp_path / "→.npz"
    named.write_bytes(file.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = start("score", str(named), "separable", env=environment, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    picture = str(tmp_path / "→.svg")
    done = start("draw", str(named), picture, "--json", env=environment, encoding="latin-1")
    assert json.loads(done.stdout)["file"] == picture
    done = start("info", str(tmp_path / "→.missing"), env=environment, encoding="latin-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "?.missing" in done.stderr


def closed_stdout() -> None:
    os.close(1)


def test_a_closed_standard_output_gets_one_sentence(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.npz"
    sentence = "modgraph: standard output is closed\n"
    for arguments in (["info", str(file)], ["draw", str(file), "-"]):
        done = start(*arguments, preexec_fn=closed_stdout)
        assert (done.returncode, done.stderr) == (2, sentence), arguments
    done = start("convert", str(file), str(out), preexec_fn=closed_stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert load_network(out).layer_sizes == (4, 6, 4)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_said_plainly(file: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = start("info", str(file), capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "modgraph: No space left on device\n")


def test_without_typer_the_command_says_what_is_missing() -> None:
    code = "import sys; sys.modules['typer'] = None; import modgraph.__main__ as m; sys.exit(m.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"modgraph: {missing('typer', purpose='the command', extra='cli')}\n")


@pytest.fixture
def long_run(tmp_path: Path) -> list[str]:
    """A command that takes minutes."""
    network = tmp_path / "net.npz"
    dag = planted_modules([60, 60, 20], n_modules=4, fan_out=4, rewired=0.1, random_state=0)[0]
    save_network(dag, network)
    return ["evidence", str(network), "--nulls", "5000"]


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal")
def test_an_interruption_says_where_the_work_is_kept(long_run: list[str], tmp_path: Path) -> None:
    checkpoint = tmp_path / "evidence.json"
    command = [sys.executable, "-m", "modgraph", *long_run, "--checkpoint", str(checkpoint)]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # background processes ignore the signal
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as running:
        try:
            last = time.monotonic() + 120
            while time.monotonic() < last and not checkpoint.exists():
                time.sleep(0.1)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    kept = f"what was done is kept in {checkpoint}, and the same command goes on from there"
    assert f"modgraph: interrupted; {kept}" in said, (running.returncode, said)
    assert running.returncode == 130
    assert checkpoint.exists()


def test_an_interruption_says_that_nothing_was_written(long_run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*long_run[:-1], "2"]) == 0  # what is loaded or compiled at first use isn't interrupted
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1, _thread.interrupt_main)
    timer.start()
    try:
        assert main(long_run) == 130
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.splitlines()[-1].startswith("modgraph: interrupted; nothing was")
