"""Compare the edges of our networks with those of the released ones, to explain success rates below the published.

Usage: python -m tests.long.edges_beside_published results.sqlite

Reads the store that ``modgraph reproduce all --all-settings`` wrote, and the released networks in
``../shared/published_networks``. Prints for every function: the number of trials (function, hidden layers) with
released networks; the mean number of edges after trimming of the released networks, of our chosen ones, and of our
sparsest right candidates; and the number of trials in which ours is sparser.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

import modgraph as mg
from modgraph.experiments import Store
from modgraph.experiments.published import EXPERIMENTS, published_cells
from modgraph.experiments.reproduce import trials_of
from modgraph.score import criteria
from modgraph.sculpt import fewest_edges
from tests.networks import FOLDER


def released_edges() -> dict[tuple[str, tuple[int, ...]], list[int]]:
    """Edges of every released network after trimming, by function and hidden layers."""
    found = defaultdict(list)
    for entry in json.loads((FOLDER / "index.json").read_text()):
        dag = mg.load_network(FOLDER / entry["file"]).trim()
        found[entry["function"], tuple(entry["layer_sizes"][1:-1])].append(dag.n_edges)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    store = Store(parser.parse_args().results)
    released = released_edges()
    print(f"{'function':>18} {'criterion':>9} trials  released  chosen  right | sparser  equal  denser than released")
    for cell in (cell for experiment in EXPERIMENTS for cell in published_cells(experiment)):
        rows = []
        for trial in trials_of(cell, seeds=range(4)):
            theirs = released.get((trial.function, trial.hidden))
            accepted = [network for network in store.candidates(trial.key) if network.accepted]
            if not theirs or not accepted:
                continue
            target = mg.functions.published(trial.function)
            right = [
                network.dag.trim().n_edges
                for network in sorted(accepted, key=lambda network: network.edges)
                if getattr(criteria(network.hierarchy, target), cell.criterion)
            ]
            rows.append((np.mean(theirs), fewest_edges(accepted).dag.trim().n_edges, min(right, default=np.nan)))
        if not rows:
            continue
        theirs, ours, right = np.array(rows, dtype=float).T
        where = f"{cell.networks[0].function:>18} {cell.criterion:>9} {len(rows):6d}"
        means = f"{theirs.mean():9.1f} {ours.mean():7.1f} {np.nanmean(right):6.1f}"
        print(f"{where} {means} | {(ours < theirs).sum():7d} {(ours == theirs).sum():6d} {(ours > theirs).sum():7d}")


if __name__ == "__main__":
    main()
