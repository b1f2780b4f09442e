"""The moth controller: do its input modules agree at three sparsities, and what do they say?

Usage: python -m tests.long.moth [FOLDER]

FOLDER holds the pruned controllers (``pruned_0.85.h5``, …); by default ``../shared/moth``. The files name no units: the
names below are those of the publication (Zahn et al., PLoS Computational Biology 2022, 1010512).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_mutual_info_score

from modgraph import LayeredDAG, detect_modules, load_network
from modgraph.arrays import FloatArray, IntArray
from modgraph.influence import influence

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "moth"
INPUTS = ("ẋ₀", "ẏ₀", "φ₀", "θ₀", "φ̇₀", "θ̇₀", "x₁", "y₁", "φ₁", "θ₁")
OUTPUTS = ("Fx", "Fy", "τ", "ẋ₁", "ẏ₁", "φ̇₁", "θ̇₁")
SILENT = 0.1
"""Inputs whose influence is below this share of the strongest input's are not compared."""


def path_sums(dag: LayeredDAG) -> FloatArray:
    """Return |sums over all paths| from inputs to outputs, each output scaled to length 1; shape (inputs, outputs)."""
    sums = np.abs(influence(dag, 0).toarray()[:, dag.layer == dag.n_layers - 1])
    length = np.linalg.norm(sums, axis=0)
    scaled: FloatArray = sums / np.where(length > 0, length, 1)
    return scaled


def two_groups(sums: FloatArray) -> IntArray:
    """Cut the inputs in two by what they lead to: average linkage on cosine distance."""
    return np.asarray(fcluster(linkage(sums, "average", "cosine"), 2, "maxclust"), dtype=np.int64)


def spoken(labels: IntArray, names: tuple[str, ...]) -> str:
    """Write the groups by name; units without a module come last, in brackets."""
    groups = [" ".join(np.array(names)[labels == at]) for at in sorted(set(labels.tolist()) - {-1})]
    alone = " ".join(np.array(names)[labels == -1])
    return " | ".join(groups) + (f" ({alone})" if alone else "")


def main() -> int:
    """Print modules, influence and agreement; return 1 where two-group partitions of the same inputs differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    paths = sorted(parser.parse_args().folder.glob("*.h5"))
    found, halves, strength, shared = {}, {}, {}, {}
    for path in paths:
        dag = load_network(path)
        modules = detect_modules(dag)
        sums = path_sums(dag)
        labels = modules.labels
        found[path.stem] = labels[dag.layer == 0]
        shared[path.stem] = modules.shared[dag.layer == 0]
        strength[path.stem] = np.linalg.norm(sums, axis=1) / np.linalg.norm(sums, axis=1).max()
        loud = strength[path.stem] >= SILENT
        halves[path.stem] = np.full(len(loud), -1, dtype=np.int64)
        halves[path.stem][loud] = two_groups(sums[loud])
        print(f"{path.stem}: {dag!r}, trimmed {list(dag.trim().layer_sizes)}")
        print(f"  {modules.settings['features']}")
        print(f"  inputs  {spoken(found[path.stem], INPUTS)}")
        print(f"  shared inputs {' '.join(np.array(INPUTS)[shared[path.stem]]) or 'none'}")
        print(f"  outputs {spoken(labels[dag.layer == dag.n_layers - 1], OUTPUTS)}")
        print(f"  two groups of inputs {spoken(halves[path.stem], INPUTS)}")
        print(f"  strength {' '.join(f'{n} {s:.2f}' for n, s in zip(INPUTS, strength[path.stem], strict=True))}")
    agree = True
    print("agreement (AMI): all inputs in both | those that are not shared | those that carry influence | two groups")
    for one, two in itertools.combinations(found, 2):
        inside = (found[one] >= 0) & (found[two] >= 0)
        loud = inside & (halves[one] >= 0) & (halves[two] >= 0)
        alone = inside & ~shared[one] & ~shared[two]
        values = [
            adjusted_mutual_info_score(found[one][inside], found[two][inside]),
            adjusted_mutual_info_score(found[one][alone], found[two][alone]),
            adjusted_mutual_info_score(found[one][loud], found[two][loud]),
            adjusted_mutual_info_score(halves[one][loud], halves[two][loud]),
        ]
        agree = agree and values[3] >= 0.8
        print(f"  {one} and {two}: " + " | ".join(f"{value:.2f}" for value in values) + f" ({loud.sum()} inputs)")
    return int(not agree)


if __name__ == "__main__":
    sys.exit(main())
