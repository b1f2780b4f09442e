"""Measure how much faster a wide network is sculpted than with dense masked layers and fixed epochs.

Usage: python -m tests.long.wide_against_dense out/reproduce/digits/mnist-hierarchical-784x2-0.checkpoint.npz

Reads the rounds and their times from a checkpoint; times some steps of a plain implementation on the same layers
(linear layers times masks, torch's Adam, all epochs of the publication); and extrapolates these to the same rounds.
Rounds that prune nothing, which the plain implementation would train too, are not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn import functional as F

from modgraph.sculpt.state import Checkpoint

N_SAMPLES = 51_200


def steps(sizes: tuple[int, ...], batch_size: int) -> Iterator[None]:
    """Take steps of the plain way, one for each request."""
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    masks = [torch.ones_like(layer.weight) for layer in layers]
    adam = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=1e-3, weight_decay=1e-4)
    inputs, targets = torch.rand(8 * batch_size, sizes[0]), torch.randint(2, (8 * batch_size, sizes[-1])).float()
    while True:
        rows = torch.randint(len(inputs), (batch_size,))
        values = inputs[rows]
        for layer, mask in zip(layers, masks, strict=True):
            values = F.linear(values, layer.weight * mask, layer.bias)
            values = F.relu(values) if layer is not layers[-1] else values
        adam.zero_grad()
        F.binary_cross_entropy_with_logits(values, targets[rows]).backward()
        adam.step()
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="+")
    parser.add_argument("--epochs", type=int, default=80, help="of every training run (published: 40 to 120)")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1, help="as many as the run had")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for path in options.checkpoint:
        state = Checkpoint(path=path).load()
        if state is None:
            parser.error(f"there is no {path}")
        plain = steps(state.network.sizes, options.batch_size)
        best = float("inf")
        for _ in range(30):
            start = time.perf_counter()
            next(plain)
            best = min(best, time.perf_counter() - start)
        epoch = best * N_SAMPLES / options.batch_size
        ours, rounds = sum(done.seconds for done in state.rounds), len(state.rounds)
        theirs = epoch * options.epochs * rounds
        print(f"{path.name}: {rounds} rounds, {sum(done.epochs for done in state.rounds)} epochs in {ours:.0f} s")
        ratio = f"{theirs / 3600:.1f} h for the same rounds, {theirs / ours:.0f} ×"
        print(f"  the plain way: {epoch:.1f} s an epoch at best, {ratio}")


if __name__ == "__main__":
    main()
