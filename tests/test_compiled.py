"""Compiled functions run whatever folders can be written, and whatever happened to their cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import modgraph

PACKAGE = Path(modgraph.__file__).parent
SOURCE = """
from modgraph.compiled import njit


@njit(nogil=True)
def double(number):
    return 2 * number
"""


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder with a module that has one compiled function."""
    (tmp_path / "doubling.py").write_text(SOURCE)
    return tmp_path


def run(room: Path, **environment: str) -> str:
    """Call the function in a new process; return where its code was cached, and how often it came from there."""
    code = (
        "from doubling import double; assert double(21) == 42; s = double.stats; "
        "print(s.cache_path, len(s.cache_hits), len(s.cache_misses))"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=inherited | {"PYTHONPATH": f"{room}{os.pathsep}{PACKAGE.parent}"} | environment,
        cwd=room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def block_cache_folders(room: Path) -> dict[str, str]:
    """Put a file where the cache folder beside the source would be, and take the user's away: not even root can write.

    Returns the environment for `run`, with a temporary folder.
    """
    (room / "__pycache__").touch()
    (room / "tmp").mkdir()
    return {"HOME": "/proc/none", "TMPDIR": str(room / "tmp")}


def test_the_cache_is_beside_the_source_where_that_can_be_written(room: Path) -> None:
    assert run(room) == f"{room / '__pycache__'} 0 1"
    assert run(room) == f"{room / '__pycache__'} 1 0"


def test_the_cache_falls_back_to_a_private_temporary_folder(room: Path) -> None:
    environment = block_cache_folders(room)
    assert run(room, **environment).endswith("0 1")
    [folder] = (room / "tmp").glob("modgraph-compiled-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run(room, **environment).endswith("1 0")


def test_a_temporary_folder_that_others_can_write_is_not_used(room: Path) -> None:
    environment = block_cache_folders(room)
    folder = room / "tmp" / f"modgraph-compiled-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    run(room, **environment)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("suffix", "length"), [("nbi", 20), ("nbc", 0)])
def test_damaged_cache_files_are_replaced(room: Path, suffix: str, length: int) -> None:
    run(room)
    [file] = (room / "__pycache__").glob(f"*.{suffix}")
    file.write_bytes(file.read_bytes()[:length])
    assert run(room).endswith("0 1")
    assert run(room).endswith("1 0")


def test_everything_is_compiled_through_the_one_wrapper() -> None:
    others = [path.name for path in PACKAGE.rglob("*.py") if "numba import njit" in path.read_text()]
    assert others == []


def test_small_networks_are_clustered_without_numba() -> None:
    code = """
import sys
from modgraph.planted import planted_modules
from modgraph import detect_modules
found = [detect_modules(planted_modules([n] * 3, n_modules=2, random_state=0)[0]) for n in (6, 16)]
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("n_units", [9, 16, pytest.param(30, marks=pytest.mark.slow)])
def test_plain_python_gives_what_compiled_code_gives(n_units: int) -> None:
    code = """
import sys
from modgraph import compiled, detect_modules
from modgraph.evidence import significance
from modgraph.planted import planted_modules
compiled.PLAIN_SECONDS = float(sys.argv[1])
for seed in range(2):
    dag, _ = planted_modules([int(sys.argv[2])] * 3, n_modules=2, fan_out=3, rewired=0.2, random_state=seed)
    found = detect_modules(dag)
    print(found.labels.tolist(), found.cluster_labels.tolist(), significance(found, n_null=0).statistic)
print("numba" in sys.modules, file=sys.stderr)
"""
    plain, fast = (
        subprocess.run(
            [sys.executable, "-c", code, seconds, str(n_units)], check=True, capture_output=True, text=True, timeout=300
        )
        for seconds in ("1e9", "-1")
    )
    assert (plain.stderr.strip(), fast.stderr.strip()) == ("False", "True")
    assert plain.stdout == fast.stdout


def test_what_is_compiled_says_so_once(room: Path) -> None:
    code = """
import modgraph.compiled
modgraph.compiled.announce = print
from doubling import double
double(21); double(2.5)
"""
    for expected in ("compiling, once", ""):
        done = subprocess.run(
            [sys.executable, "-B", "-c", code],
            env=os.environ | {"PYTHONPATH": f"{room}{os.pathsep}{PACKAGE.parent}"},
            cwd=room,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
