"""Accuracy of a sculpted wide network that is pruned further, by number of edges.

Usage: python -m tests.long.accuracy_by_edges out/reproduce/digits/mnist-hierarchical-784x2-0.checkpoint.npz

Starts from a checkpoint of `modgraph reproduce digits --data mnist` and prunes ten percent of the edges a round
(`--keep` says how much is left), whatever the accuracy, until `--edges` are left. Prints a line for each round. With
`--cosine` it trains as `--schedule cosine` does. `--first` edges are left before the first round. With `--last`, the
last run has exactly `--edges` edges and so many epochs. MODGRAPH_DATA is the folder of MNIST.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from modgraph.experiments.digits import COSINE
from modgraph.sculpt import WideSettings, digit_pairs, load_mnist
from modgraph.sculpt.compact import CompactMLP
from modgraph.sculpt.fit import evaluate, fit
from modgraph.sculpt.state import Checkpoint
from modgraph.sculpt.wide import WideSculptor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--edges", type=int, default=2800)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--keep", type=float, default=0.9)
    parser.add_argument("--first", type=int)
    parser.add_argument("--cosine", action="store_true")
    parser.add_argument("--last", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = Checkpoint(path=options.checkpoint).load()
    if state is None:
        parser.error(f"there is no {options.checkpoint}")
    task, network = digit_pairs(load_mnist(), fresh=options.cosine), state.network
    dense_edges = sum(a * b for a, b in pairwise(network.sizes))
    settings = WideSettings(**COSINE if options.cosine else {})
    settings = replace(settings, epochs=options.epochs, patience=None, give_up=None)
    print(f"dense: {dense_edges} edges, validation {state.rounds[0].validation:.4f}, test {state.rounds[0].test:.4f}")
    sculptor = WideSculptor(task=task, sizes=network.sizes, seed=0, settings=settings)

    def left(network: CompactMLP, edges: float, run: int) -> CompactMLP:
        target = np.array([100 * (1 - edges / dense_edges)])
        return sculptor.prune(network, phase="edges", targets=target, run=run)

    if options.first:
        network = left(network, options.first, 100)
    for run in range(100):
        if options.last and network.n_edges <= options.edges:
            settings = replace(settings, epochs=options.last)
        fitted = fit(network, task, settings=settings, key=(0, 9, run))
        test, _ = evaluate(fitted.network, fitted.network.view(task.test))
        share = network.n_edges / dense_edges
        print(f"{fitted.network}, {100 * share:.3f} %: validation {fitted.accuracy:.4f}, test {test:.4f}", flush=True)
        if network.n_edges <= options.edges:
            break
        fewer = options.keep * network.n_edges
        network = left(fitted.network, max(fewer, options.edges) if options.last else fewer, run)


if __name__ == "__main__":
    main()
