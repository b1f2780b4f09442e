"""The paper's four exemplar functions, from training to pictures (`make demo`).

Sculpts four networks of each function with the published training settings and all 70 pruning settings, finds their
modules, and compares them with the function. Writes a picture, the hierarchy and the graph of each trial.

Usage: python examples/exemplars.py [--out out] [--seeds 4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import networkx as nx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

import modgraph as mg
from modgraph.sculpt import SculptedNetwork, SculptResult, TrainSettings, sculpt

HIDDEN = (24, 24)

# The published training settings for two hidden layers of 24, and the share of the published networks (of all sizes)
# whose modules are exactly those of the function.
EXEMPLARS = {
    "separable": (TrainSettings(learning_rate=0.05, batch_size=8, epochs=10), "36/36"),
    "reused": (TrainSettings(learning_rate=0.1, batch_size=8, epochs=40), "35/36"),
    "separable_reused": (TrainSettings(learning_rate=0.05, batch_size=32, epochs=10), "36/36"),
    "single": (TrainSettings(learning_rate=0.05, batch_size=8, epochs=30), "36/36"),
}


def write_trial(network: SculptedNetwork, target: mg.functions.FunctionGraph, folder: Path) -> mg.Score:
    """Find the modules of one network, write picture and files to `folder`, and return the score."""
    found = mg.detect_modules(network.dag)
    stem = folder / f"{target.name}-seed{network.seed}"
    figure = mg.draw(found, target=target).get_figure(root=True)
    if figure is not None:
        figure.savefig(stem.with_suffix(".png"), dpi=150)
    mg.save_hierarchy(found, stem.with_suffix(".json"))
    nx.write_graphml(mg.io.to_networkx(found), stem.with_suffix(".graphml"))
    return mg.score(found, target)


def any_exact(out: SculptResult, network: SculptedNetwork, target: mg.functions.FunctionGraph) -> bool:
    """Whether any of the trial's networks with the fewest edges is exact, as the paper counts its trials."""
    equal = [c for c in out.candidates if c.seed == network.seed and c.accepted and c.edges == network.edges]
    return any(mg.score(mg.detect_modules(candidate.dag), target).exact for candidate in equal)


def agreement(out: SculptResult, target: mg.functions.FunctionGraph) -> str:
    """Say whether the hierarchy that the networks agree on is exact, and in how many trials it was found."""
    agreed = out.consensus
    if agreed is None:
        return "–"
    right = "exact" if mg.score(agreed.hierarchy, target).exact else "not exact"
    return f"{right}, in {agreed.n_found} of {agreed.n_trials} ({agreed.share:.0%})"


def spread(numbers: Iterable[int]) -> str:
    """Write the smallest and the largest number, or one number if all are equal."""
    low, *_, high = sorted([*numbers] * 2)
    return str(low) if low == high else f"{low}–{high}"


def show(progress: Progress, bar: TaskID, done: int, total: int) -> None:
    """Move one progress bar."""
    progress.update(bar, completed=done, total=total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seeds", type=int, default=4, help="trials of each function")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    console = Console()
    table = Table(title=f"Hidden layers {HIDDEN}, 70 settings a trial", box=None, pad_edge=False)
    for heading in (
        "function",
        "trials",
        *["acc.", "edges", "dens.", "mods", "chosen", "exact", "paper", "consensus", "sec"],
    ):
        table.add_column(heading, justify="left" if heading == "function" else "right", no_wrap=True)
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name, (settings, published) in EXEMPLARS.items():
            target = mg.functions.published(name)
            start = time.perf_counter()
            out = sculpt(
                target,
                hidden=HIDDEN,
                seeds=range(options.seeds),
                settings=settings,
                choose="fewest_edges",  # as published; the column "consensus" shows what the trials agree on
                progress=partial(show, progress, progress.add_task(name, total=None)),
            )
            networks = out.networks
            scores = [write_trial(network, target, options.out) for network in networks]
            table.add_row(
                name,
                str(len(networks)),
                f"{min(network.accuracy for network in networks):.3f}",
                spread(network.edges for network in networks),
                f"{sum(network.dag.density for network in networks) / len(networks):.1%}",
                spread(score.n_modules for score in scores),
                f"{sum(score.exact for score in scores)}/{len(scores)}",
                f"{sum(any_exact(out, network, target) for network in networks)}/{len(scores)}",
                published,
                agreement(out, target),
                f"{time.perf_counter() - start:.1f}",
            )
    console.print(table)
    console.print(
        "chosen: the modules of the chosen network are exactly those of the function.\n"
        "exact: so are those of some network with equally few edges; published trials are counted in this way.\n"
        "consensus: the hierarchy that the networks of all trials agree on, the trials it was found in, its votes."
    )
    console.print(f"Pictures, hierarchies (JSON) and graphs (GraphML) are in {options.out}/")


if __name__ == "__main__":
    main()
