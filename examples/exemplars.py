"""The paper's four exemplar functions, from training to pictures (`make demo`).

Sculpts four networks of each function with the published training settings and all 70 pruning settings, finds their
modules, compares them with the function, and writes for each trial a picture, the hierarchy and the graph.

Usage: python examples/exemplars.py [--out out] [--seeds 4]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import networkx as nx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import modgraph as mg
from modgraph.sculpt import SculptedNetwork, TrainSettings, sculpt

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
    """Find the modules of one network, write what is found to `folder`, and return its score."""
    found = mg.detect_modules(network.dag)
    stem = folder / f"{target.name}-seed{network.seed}"
    figure = mg.draw(found, target=target).figure
    figure.savefig(stem.with_suffix(".png"), dpi=150)
    found.save(stem.with_suffix(".json"))
    nx.write_graphml(found.to_networkx(), stem.with_suffix(".graphml"))
    return mg.score(found, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seeds", type=int, default=4, help="trials of each function")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    console = Console()
    table = Table(title=f"Sculpted with hidden layers {HIDDEN}, 70 settings a trial")
    for heading in ("function", "trials", "accuracy", "edges", "density", "modules", "exact", "published", "seconds"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name, (settings, published) in EXEMPLARS.items():
            target = mg.functions.published(name)
            bar = progress.add_task(name, total=None)
            start = time.perf_counter()
            out = sculpt(
                target,
                hidden=HIDDEN,
                seeds=range(options.seeds),
                settings=settings,
                progress=lambda done, total, bar=bar: progress.update(bar, completed=done, total=total),
            )
            scores = [write_trial(network, target, options.out) for network in out.networks]
            table.add_row(
                name,
                str(len(scores)),
                f"{min(network.accuracy for network in out.networks):.3f}",
                " ".join(str(network.edges) for network in out.networks),
                f"{sum(network.dag.density for network in out.networks) / len(scores):.1%}",
                " ".join(str(score.n_modules) for score in scores),
                f"{sum(score.exact for score in scores)}/{len(scores)}",
                published,
                f"{time.perf_counter() - start:.1f}",
            )
    console.print(table)
    console.print(f"Pictures, hierarchies (JSON) and graphs (GraphML) are in {options.out}/")


if __name__ == "__main__":
    main()
