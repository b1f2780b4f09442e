"""Accuracy of a sculpted wide network that is pruned further, by number of edges.

Usage: python -m tests.long.accuracy_by_edges out/reproduce/digits/mnist-hierarchical-784x2-0.checkpoint.npz

Starts from a checkpoint of `modgraph reproduce digits --data mnist` and prunes ten percent of the edges a round,
whatever the accuracy, until `--edges` are left. Prints a line for each round. MODGRAPH_DATA is the folder of MNIST.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from modgraph.sculpt import WideSettings, digit_pairs, load_mnist
from modgraph.sculpt.fit import evaluate, fit
from modgraph.sculpt.state import Checkpoint
from modgraph.sculpt.wide import WideSculptor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--edges", type=int, default=2800)
    parser.add_argument("--epochs", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = Checkpoint(path=options.checkpoint).load()
    if state is None:
        parser.error(f"there is no {options.checkpoint}")
    task, network = digit_pairs(load_mnist()), state.network
    dense_edges = sum(a * b for a, b in pairwise(network.sizes))
    settings = WideSettings(epochs=options.epochs, patience=None, give_up=None)
    print(f"dense: {dense_edges} edges, validation {state.rounds[0].validation:.4f}, test {state.rounds[0].test:.4f}")
    sculptor = WideSculptor(task=task, sizes=network.sizes, seed=0, settings=settings)
    for run in range(100):
        fitted = fit(network, task, settings=settings, key=(0, 9, run))
        test, _ = evaluate(fitted.network, fitted.network.view(task.test))
        share = network.n_edges / dense_edges
        print(f"{fitted.network}, {100 * share:.3f} %: validation {fitted.accuracy:.4f}, test {test:.4f}", flush=True)
        if network.n_edges <= options.edges:
            break
        target = np.array([100 * (1 - 0.9 * share)])
        network = sculptor.prune(fitted.network, phase="edges", targets=target, run=run)


if __name__ == "__main__":
    main()
