"""``modgraph score``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from modgraph.cli.options import HierarchyOptions, Json, Target
from modgraph.cli.output import print_json
from modgraph.functions import published
from modgraph.score import score as score_modules

FIELDS = ("inputs", "hidden", "outputs", "exact", "functional", "ari", "ami", "n_modules", "expected_modules")


def score(options: HierarchyOptions, target: Target, as_json: Json = False) -> None:
    """Compare the modules of a network, or a saved hierarchy, with a function.

    Example: modgraph score pruned.pt overlap_3_use_8 --json
    """
    graph = published(target)
    result = score_modules(options.hierarchy(), graph)
    if not as_json:
        typer.echo(repr(result))
        for match in result.matching:
            typer.echo(f"  module {match.module}: {match.sub_function} ({match.similarity:.2f})")
        return
    matching = [asdict(match) for match in result.matching]
    print_json({"target": target} | {name: getattr(result, name) for name in FIELDS} | {"matching": matching})
