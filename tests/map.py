"""Print the map of the package: its rooms from the core outwards, their sizes, and what each imports.

Usage: python -m tests.map

A room is a module or package directly below `modgraph`, with its compiled partner (`paths_kernels` for `paths`). The
map shows all imports in the code, lazy ones and those for type checkers included. It ends with every ring and every
import that points outwards; the exit status is 1 if there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "modgraph"

ORDER = (
    ("arrays", "shown"),
    ("checks", "compiled", "digraph", "files", "labels"),
    ("edges",),
    ("dag", "functions"),
    ("names",),
    ("forward", "merge", "null", "paths", "planted", "reach"),
    ("influence",),
    ("cluster",),
    ("modules",),
    ("many",),
    ("interventions",),
    ("stability", "subspace", "verify"),
    ("sequential",),
    ("evidence",),
    ("compare", "score"),
    ("io",),
    ("sculpt",),
    ("layout", "marks"),
    ("pixels", "views"),
    ("draw",),
    ("report",),
    ("experiments",),
    ("cli",),
)
"""The rooms from the core outwards: a room imports rooms of the lines above its own only."""


def rooms() -> dict[str, list[Path]]:
    """Return the source files of each room."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_name(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
        if not room.startswith("__"):
            found.setdefault(room, []).append(path)
    return found


def room_name(module: str) -> str:
    """Return the room of a module below `modgraph`."""
    return module.removesuffix("_kernels")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the rooms that a file imports, each with the line; "modgraph" for a name that the package re-exports."""
    known = rooms()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "modgraph":
            names = [f"modgraph.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            package, *inner = name.split(".")
            if package == "modgraph" and inner != ["__version__"]:
                room = room_name(inner[0]) if inner else "modgraph"
                yield (room if room in known else "modgraph"), node.lineno


def arrows() -> dict[str, dict[str, list[str]]]:
    """Return room → imported room → the places that import it, as "file:line"."""
    result: dict[str, dict[str, list[str]]] = {}
    for room, paths in rooms().items():
        result[room] = {}
        for path in paths:
            for other, line in imported(path):
                if other != room:
                    place = f"{path.relative_to(PACKAGE.parent)}:{line}"
                    result[room].setdefault(other, []).append(place)
    return result


def wrong_arrows() -> list[str]:
    """List the imports that don't point to the core, and the rooms that `ORDER` lacks."""
    rank = {room: number for number, line in enumerate(ORDER) for room in line}
    result = [f"{room} has no place in the order of rooms (tests/map.py)" for room in rooms() if room not in rank]
    for room, others in arrows().items():
        for other, places in others.items():
            if rank.get(other, len(ORDER)) >= rank.get(room, len(ORDER)):
                result += [f"{place}: {room} must not import {other}" for place in places]
    return result


def rings() -> list[list[str]]:
    """List the groups of rooms that reach each other by imports."""
    graph = {room: set(others) for room, others in arrows().items()}
    reached = {room: set(others) for room, others in graph.items()}
    for between in graph:  # Warshall's closure
        for room in graph:
            if between in reached[room]:
                reached[room] |= reached[between]
    groups = {
        frozenset({room, *(o for o in reached[room] if room in reached.get(o, ()))})
        for room in graph
        if room in reached[room]
    }
    return sorted(sorted(group) for group in groups)


def main() -> int:
    found, graph = rooms(), arrows()
    lines = {room: sum(len(path.read_text("utf-8").splitlines()) for path in paths) for room, paths in found.items()}
    print(f"{'room':12} {'files':>5} {'lines':>6}  imports")
    for line in (*ORDER, tuple(room for room in found if not any(room in line for line in ORDER))):
        for room in line:
            if room in found:
                print(f"{room:12} {len(found[room]):5} {lines[room]:6}  {', '.join(sorted(graph[room])) or '–'}")
    print(f"{'all':12} {sum(map(len, found.values())):5} {sum(lines.values()):6}")
    wrong = [f"ring: {' → '.join(ring)}" for ring in rings()] + wrong_arrows()
    for text in wrong:
        print(text)
    print(f"{len(wrong)} rings and imports that point outwards")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
