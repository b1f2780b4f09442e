"""The public surface: what an import loads, and how every public function is written."""

import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modgraph
from modgraph.checks import missing
from tests import map as map_of_rooms

HEAVY = {"torch", "igraph", "leidenalg", "matplotlib", "networkx", "numba", "pandas", "sklearn", "rich", "typer"}
HEAVY |= {"onnx", "h5py", "skops", "joblib"}


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, modgraph; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_loads_no_library_and_one_room() -> None:
    loaded = "name for name in sys.modules if name.startswith(('modgraph.', 'numpy'))"
    code = f"import sys, modgraph; print(sorted({loaded}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['modgraph.shown']"  # it imports nothing


def test_functions_named_after_their_rooms_stay_functions() -> None:
    # `modgraph.marks` imports the room `score` before anybody asks for the function.
    code = "import modgraph, modgraph.marks, modgraph.report; print(*map(callable, (modgraph.score, modgraph.report)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True"


def test_the_graph_layer_works_without_torch_and_matplotlib() -> None:
    code = """
import sys
for name in ("torch", "igraph", "leidenalg", "matplotlib", "networkx"):
    sys.modules[name] = None
import modgraph as mg
dag = mg.LayeredDAG.from_masks([[[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 0], [0, 1]]])
found = mg.detect_modules(dag)
print(found.n_modules, len(found.modules), mg.functions.published("separable").n_inputs)
try:
    mg.draw(found)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.strip().splitlines()
    assert first == "2 2 4"
    assert second == missing("matplotlib", purpose="`draw`", extra="draw")


def test_imports_point_to_the_core_and_form_no_ring() -> None:
    assert map_of_rooms.rings() == []
    assert map_of_rooms.wrong_arrows() == []


@pytest.mark.parametrize(
    ("core", "outer", "wrong"),
    [
        ("", "from modgraph.core import a", []),
        ("def f():\n    from modgraph import outer", "import modgraph.core", ["core must not import outer"]),
        ("if TYPE_CHECKING:\n    import modgraph.outer", "", ["core must not import outer"]),
        ("from modgraph import detect_modules", "", ["core must not import modgraph"]),
    ],
)
def test_the_map_finds_imports_that_point_outwards(
    core: str, outer: str, wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_of_rooms, "PACKAGE", tmp_path)
    monkeypatch.setattr(map_of_rooms, "ORDER", (("core",), ("outer",)))
    (tmp_path / "core.py").write_text(core)
    (tmp_path / "outer.py").write_text(outer)
    assert [text.partition(": ")[2] for text in map_of_rooms.wrong_arrows()] == wrong
    assert map_of_rooms.rings() == ([["core", "outer"]] if core and outer else [])


def test_sculpt_is_there_when_asked_for() -> None:
    assert modgraph.sculpt.__name__ == "modgraph.sculpt"
    with pytest.raises(AttributeError, match="no attribute 'sculpture'"):
        modgraph.sculpture  # noqa: B018 (the access is the test)


def public_objects() -> Iterator[tuple[str, object]]:
    """What the package and its sub-packages name in `__all__`."""
    seen = set()
    packages = [info.name for info in pkgutil.walk_packages(modgraph.__path__, "modgraph.") if info.ispkg]
    for name in ("modgraph", *packages):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            thing = getattr(module, public)
            if id(thing) not in seen and getattr(thing, "__module__", "").startswith("modgraph"):
                seen.add(id(thing))
                yield f"{thing.__module__}.{public}", thing


def callables() -> Iterator[tuple[str, object]]:
    for name, thing in public_objects():
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing):
            for method, member in vars(thing).items():
                function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{method}", function


@pytest.mark.parametrize(("name", "function"), [pytest.param(*pair, id=pair[0]) for pair in callables()])
def test_public_functions_follow_the_house_style(name: str, function: object) -> None:
    assert callable(function)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    assert len(positional) <= 2, name
    assert not any(p.annotation in (bool, "bool") for p in positional), name
    doc = inspect.getdoc(function)
    assert doc, f"{name} has no docstring"
    for parameter in parameters:
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            assert parameter.name in doc, f"{name} doesn't document {parameter.name}"


@pytest.mark.parametrize(
    ("name", "record"),
    [
        pytest.param(*pair, id=pair[0])
        for pair in public_objects()
        if dataclasses.is_dataclass(pair[1]) and inspect.isclass(pair[1])
    ],
)
def test_records_are_frozen_and_slotted_with_few_positional_fields(name: str, record: type) -> None:
    assert record.__dataclass_params__.frozen, name  # type: ignore[attr-defined]
    assert "__slots__" in vars(record), name
    assert sum(field.init and not field.kw_only for field in dataclasses.fields(record)) <= 2, name


@pytest.mark.parametrize("name", modgraph.__all__)
def test_names_in_all_exist(name: str) -> None:
    assert getattr(modgraph, name) is not None


class Installed:
    """Stands for an installed distribution that pip recorded the origin of."""

    def __init__(self, origin: dict[str, Any] | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install h5py"),
        ({"url": "file:///a/house", "dir_info": {"editable": True}}, "pip install -e '/a/house[keras]'"),
        ({"url": "file:///a/my%20house", "dir_info": {}}, "pip install '/a/my house[keras]'"),
        ({"url": "file:///a/b.whl", "archive_info": {}}, "pip install '/a/b.whl[keras]'"),
        ({"url": "https://x.org/b.whl", "archive_info": {}}, "pip install 'modgraph-nn[keras] @ https://x.org/b.whl'"),
        (
            {"url": "https://x.org/r", "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "abc"}},
            "pip install 'modgraph-nn[keras] @ git+https://x.org/r@v1'",
        ),
    ],
)
def test_a_missing_library_is_installed_from_where_the_package_comes_from(
    origin: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Installed(origin))
    assert missing("h5py", purpose="this", extra="keras") == f"this needs h5py: {command}"


def test_extras_that_messages_name_exist() -> None:
    root = Path(modgraph.__file__).parent
    extras = tomllib.loads((root.parent / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {name for file in root.rglob("*.py") for name in re.findall(r'extra="(\w+)"', file.read_text("utf-8"))}
    assert named <= set(extras)
    assert {"draw", "jax"} <= named
