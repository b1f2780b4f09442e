"""Shuffle the hidden units of every published network and compare what is found: nothing may change.

Usage: python scripts/permute_published.py [--shuffles 20] [--clustering linkage] [--all-units]
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from sklearn.metrics import adjusted_rand_score

from modgraph import detect_modules
from tests.networks import published_dag, published_index
from tests.strategies import permuted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--clustering", default="linkage")
    parser.add_argument("--all-units", action="store_true", help="shuffle inputs and outputs too")
    options = parser.parse_args()
    changed: dict[str, int] = {}
    index = published_index()
    for number, entry in enumerate(index):
        dag = published_dag(entry)
        before = detect_modules(dag, clustering=options.clustering, hops=entry["hops"]).labels
        for seed in range(options.shuffles):
            rng = np.random.default_rng([number, seed])
            other, place = permuted(dag, rng, hidden_only=not options.all_units)
            after = detect_modules(other, clustering=options.clustering, hops=entry["hops"]).labels[place]
            if adjusted_rand_score(before, after) < 1.0:
                changed[entry["file"]] = changed.get(entry["file"], 0) + 1
    print(f"{len(index)} networks, {options.shuffles} shuffles each: {len(changed)} networks change")
    for file, times in changed.items():
        print(f"  {file}: {times} of {options.shuffles}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
