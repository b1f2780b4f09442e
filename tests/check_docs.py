"""Check links, the completeness of the reference, and quoted figures.

- Relative links in README.md, CONTRIBUTING.md, CHANGELOG.md and docs/ lead to existing files; other links are
  well-formed (--online also fetches them).
- Every public name is in the reference.
- Marked figures, as in `573<!-- figure: linkage-exact -->`, are equal to those in docs/figures.toml, and every figure
  there is used. --rerun also runs the commands whose output can be compared, which takes minutes.

Prints one line for each error.

Usage: python -m tests.check_docs [--online] [--rerun]
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("", ".cluster", ".experiments", ".functions", ".io", ".sculpt")
BUILT = ("_build", "auto_examples", "generated")

LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?\)")
FENCE = re.compile(r"^(```+|:::+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"(\S[^|\n<]*?)<!-- figure: ([\w-]+) -->")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def pages() -> list[Path]:
    """List the Markdown that people read."""
    own = [path for path in DOCS.rglob("*.md") if not set(BUILT) & set(path.relative_to(DOCS).parts)]
    return sorted([*own, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])


# --- Links ------------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Name the headings of a page as links do."""
    titles = HEADING.findall(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links() -> Iterator[tuple[Path, str]]:
    """Find all links, except in code."""
    for page in pages():
        text = re.sub(r"`[^`\n]+`", "`", FENCE.sub(_without_code, page.read_text(encoding="utf-8")))
        for target in LINK.findall(text):
            yield page, target


def _without_code(block: re.Match[str]) -> str:
    """Keep the blocks that hold Markdown."""
    return block[0] if block[1].startswith(":") else ""


def broken_links(*, online: bool = False) -> Iterator[str]:
    """Say which links lead nowhere."""
    for page, target in links():
        where = f"{page.relative_to(ROOT)}: {target}"
        parts = urlsplit(target)
        if parts.scheme in ("http", "https"):
            if not parts.netloc or " " in target:
                yield f"{where} is no address"
            elif online:
                yield from (f"{where}: {error}" for error in fetched(target))
        elif parts.scheme:
            yield f"{where} has an unknown scheme"
        else:
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            generated = DOCS in file.parents and file.relative_to(DOCS).parts[0] in BUILT
            if not (file.exists() or generated):
                yield f"{where} is not there"
            elif parts.fragment and file.suffix == ".md" and parts.fragment not in anchors(file):
                yield f"{where}: no such heading"


def fetched(address: str) -> Iterator[str]:
    """Fetch an address; say what went wrong."""
    request = urllib.request.Request(address, headers={"User-Agent": "modgraph check_docs"})
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except OSError as error:
        yield str(error)


# --- The reference ----------------------------------------------------------------------------------------------------


def documented() -> set[str]:
    """List the names in the reference, from its autosummary tables."""
    names = set()
    for page in (DOCS / "api").glob("*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = found[1]
            elif found := re.match(r" {3}(\w+)$", line):
                names.add(f"{module}.{found[1]}")
    return names


def undocumented() -> Iterator[str]:
    """Say which public names the reference lacks."""
    names = documented()
    for package in (f"modgraph{part}" for part in PACKAGES):
        for name in importlib.import_module(package).__all__:
            thing = getattr(importlib.import_module(package), name)
            is_package = f"{package}.{name}" in sys.modules and not callable(thing)
            places = {package, "modgraph", getattr(thing, "__module__", "")}
            if not is_package and not {f"{place}.{name}" for place in places} & names:
                yield f"docs/api: {package}.{name} is not in the reference"


# --- Figures ----------------------------------------------------------------------------------------------------------


def figures() -> dict[str, dict[str, Any]]:
    """Read the table of figures."""
    return tomllib.loads((DOCS / "figures.toml").read_text(encoding="utf-8"))


def wrong_figures() -> Iterator[str]:
    """Say which marked figures are not those of the table."""
    known, used = figures(), set()
    for page in pages():
        for text, name in FIGURE.findall(page.read_text(encoding="utf-8")):
            used.add(name)
            where = f"{page.relative_to(ROOT)}: {name}"
            if name not in known:
                yield f"{where} is not in docs/figures.toml"
            elif not re.search(rf"(?<![\w.,]){re.escape(known[name]['value'])}\**$", text):
                yield f"{where} must be {known[name]['value']!r} (got {text[-40:]!r})"
    yield from (f"docs/figures.toml: {name} is used nowhere" for name in known if name not in used)


def changed_figures() -> Iterator[str]:
    """Run the commands whose output can be compared; say which figures have changed."""
    outputs: dict[str, str] = {}
    for name, figure in figures().items():
        if "pattern" not in figure:
            continue
        command = figure["command"]
        if command not in outputs:
            words = [sys.executable if word == "python" else word for word in shlex.split(command)]
            outputs[command] = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = re.search(figure["pattern"], outputs[command])
        if found is None:
            yield f"docs/figures.toml: `{command}` doesn't print {name}"
            continue
        now, then = number(found[1]), number(figure["value"])
        if abs(now - then) > figure.get("tolerance", 0) * abs(then):
            yield f"docs/figures.toml: {name} is {figure['value']!r}, `{command}` prints {found[1]!r}"


def number(text: str) -> float:
    """Read the number that a text begins with."""
    return float(re.match(r"[\d.,]+", text)[0].replace(",", ""))  # type: ignore[index]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--online", action="store_true", help="fetch the links that lead elsewhere")
    parser.add_argument("--rerun", action="store_true", help="run the commands behind figures again")
    options = parser.parse_args()
    wrong = [*broken_links(online=options.online), *undocumented(), *wrong_figures()]
    if options.rerun:
        wrong += changed_figures()
    for line in wrong:
        print(line)
    print(f"{len(pages())} pages, {len(list(links()))} links, {len(figures())} figures: {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
