"""Does a rule of choice get better with better training? Published, default, and twice the default epochs.

Two hidden layers, fresh seeds, 28 of the 70 settings. Prints for each function and training: the mean number of edges
of the networks with the fewest, the share of trials that end right by the fewest edges (ties in proportion) and by
agreement, whether the agreement is right, its share of the votes, and the published rate of the function.

Usage: python -m tests.long.better_training [store.sqlite [function …]]   (continued from the store if interrupted)
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from modgraph.experiments import Trial, published_settings, sweep
from modgraph.experiments.judged import agreement, judge
from modgraph.experiments.reproduce import EDGE_STEPS
from modgraph.sculpt import TrainSettings

FUNCTIONS = {
    "separable": ("exact", "36/36"),
    "reused": ("exact", "35/36"),
    "separable_reused": ("exact", "36/36"),
    "single": ("exact", "36/36"),
    "overlap_2_use_2": ("inputs", "36/36"),
    "levels_use_2": ("exact", "12/12"),
}
SEEDS = range(100, 108)


def main() -> None:
    path = sys.argv[1] if sys.argv[1:] else str(Path(tempfile.mkdtemp()) / "results.sqlite")
    default = TrainSettings()
    print("function, training: edges, right by fewest edges, by agreement, its answer, votes | published")
    for function in sys.argv[2:] or FUNCTIONS:
        criterion, rate = FUNCTIONS[function]
        rows = [row for row in published_settings() if row.function == function and len(row.hidden) == 2]
        row = min((row for row in rows if min(row.hidden) >= 24), key=lambda row: row.hidden)
        trainings = {
            "published": row.settings,
            "default": default,
            "twice the epochs": replace(default, epochs=2 * default.epochs),
        }
        for name, settings in trainings.items():
            trials = [
                Trial(function=function, hidden=row.hidden, seed=seed, settings=settings, edge_steps=EDGE_STEPS)
                for seed in SEEDS
            ]
            store = sweep(trials, path, n_jobs=1)
            judged = [one for trial in trials if (one := judge(store, trial)).chosen >= 0]
            found = agreement(judged, criterion)
            sparsest = [one.right[criterion][one.edges == one.edges.min()].mean() for one in judged]
            print(
                f"  {function}, {name} ({len(judged)} trials): {np.mean([one.edges.min() for one in judged]):.1f}, "
                f"{np.mean(sparsest):.2f}, {found.right.mean():.2f}, {'right' if found.answer else 'wrong'}, "
                f"{found.share:.2f} | {rate}",
                flush=True,
            )


if __name__ == "__main__":
    main()
