"""Check that shuffling the hidden units of networks changes no result.

Usage: python -m tests.long.permute_units [FILES] [--shuffles 20] [--clustering linkage] [--all-units]

Without files: every published network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from modgraph import detect_modules, load_network
from tests.networks import published_dag, published_index
from tests.strategies import permuted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--clustering", default="linkage")
    parser.add_argument("--all-units", action="store_true", help="shuffle inputs and outputs too")
    options = parser.parse_args()
    changed: dict[str, int] = {}
    networks = [(str(file), load_network(file), None) for file in options.files]
    if not networks:
        networks = [(entry["file"], published_dag(entry), entry["hops"]) for entry in published_index()]
    for number, (name, dag, hops) in enumerate(networks):
        before = detect_modules(dag, clustering=options.clustering, hops=hops).labels
        for seed in range(options.shuffles):
            rng = np.random.default_rng([number, seed])
            other, place = permuted(dag, rng, hidden_only=not options.all_units)
            after = detect_modules(other, clustering=options.clustering, hops=hops).labels[place]
            if adjusted_rand_score(before, after) < 1.0:
                changed[name] = changed.get(name, 0) + 1
    print(f"{len(networks)} networks, {options.shuffles} shuffles each: {len(changed)} networks change")
    for name, times in changed.items():
        print(f"  {name}: {times} of {options.shuffles}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
