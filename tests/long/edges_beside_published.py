"""Compare our networks with the released ones, to explain why the published rates are higher under the same rule.

Usage: python -m tests.long.edges_beside_published results.sqlite

Reads the store that ``modgraph reproduce all --all-settings`` wrote (missing trials are left out) and the released
networks in ``../shared/published_networks``. Prints for every function and depth, and for each experiment, means over
the released networks and over ours with the fewest edges: edges after trimming, cones, share of trials in which one of
them is right. Then the same share for ours if only some of the 70 settings are tried, and how often each edge step gave
the chosen network.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

import modgraph as mg
from modgraph.experiments import Store, Trial, published_settings
from modgraph.experiments.judged import JudgedTrial, judge
from modgraph.score import criteria
from modgraph.sculpt.choose import n_cones
from tests.networks import FOLDER, published_index

Size = tuple[str, tuple[int, ...]]


def released() -> dict[Size, dict[int, list[tuple[int, int, bool]]]]:
    """Edges, cones and rightness of the released networks, by function and hidden layers, then seed."""
    found: dict[Size, dict[int, list[tuple[int, int, bool]]]] = defaultdict(lambda: defaultdict(list))
    for entry in published_index():
        dag = mg.load_network(FOLDER / entry["file"])
        with np.load(FOLDER / entry["file"]) as arrays:
            masks = [arrays[f"mask{i}"].astype(bool) for i in range(len(entry["layer_sizes"]) - 1)]
        right = criteria(mg.detect_modules(dag), mg.functions.published(entry["function"])).exact
        size = entry["function"], tuple(entry["layer_sizes"][1:-1])
        found[size][entry["seed"]].append((dag.trim().n_edges, n_cones(masks), right))
    return found


def fewest_of(trial: JudgedTrial, some: np.ndarray) -> float:
    """Share of right ones among the networks with the fewest edges of `some` of a trial's."""
    sparsest = some[trial.edges[some] == trial.edges[some].min()]
    return float(trial.right["exact"][sparsest].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    store = Store(parser.parse_args().results)
    stored, theirs = store.finished(), released()
    means: dict[str, list[list[float]]] = defaultdict(list)
    subsets: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    rng = np.random.default_rng(0)
    steps: Counter[float] = Counter()
    print("function, hidden layers: edges, cones, right | released, then ours")
    for row in published_settings():
        trials = [Trial(function=row.function, hidden=row.hidden, seed=s, settings=row.settings) for s in range(4)]
        judged = [judge(store, trial) for trial in trials if trial.key in stored]
        judged = [trial for trial in judged if trial.chosen >= 0]
        if row.experiment == "overlap" or not judged or (row.function, row.hidden) not in theirs:
            continue
        of_seeds = theirs[row.function, row.hidden].values()
        ours = [(trial, trial.edges == trial.edges.min()) for trial in judged]
        facts = [
            float(np.mean([np.mean([one[0] for one in some]) for some in of_seeds])),
            float(np.mean([np.mean([one[1] for one in some]) for some in of_seeds])),
            float(np.mean([any(one[2] for one in some) for some in of_seeds])),
            float(np.mean([trial.edges.min() for trial, _ in ours])),
            float(np.mean([trial.cones[fewest].mean() for trial, fewest in ours])),
            float(np.mean([trial.right["exact"][fewest].any() for trial, fewest in ours])),
        ]
        print(f"  {row.function}, {row.hidden}: {_line(facts)}")
        means[row.experiment].append(facts)
        for trial, _ in ours:
            steps[next(c.edge_step for c in store.candidates(trial.trial.key) if c.edges == trial.edges.min())] += 1
            for n in (1, 3, 10, 30, len(trial.edges)):
                if n <= len(trial.edges) and trial.right["exact"].any():
                    drawn = [rng.choice(len(trial.edges), n, replace=False) for _ in range(20)]
                    subsets[row.experiment][min(n, 70)] += [fewest_of(trial, some) for some in drawn]
    for experiment, rows in means.items():
        print(f"{experiment}, mean of {len(rows)}: {_line(np.mean(rows, axis=0).tolist())}")
        tried = ", ".join(f"{n}: {np.mean(values):.2f}" for n, values in sorted(subsets[experiment].items()))
        print(f"{experiment}, right by the fewest edges of some settings: {tried}")
    shares = ", ".join(f"{step:g} %: {count / steps.total():.2f}" for step, count in sorted(steps.items()))
    print(f"edge steps of our chosen networks: {shares}")
    chosen: Counter[float] = Counter()
    for entry in json.loads((FOLDER.parent / "published_settings.json").read_text()):
        if "mnist" not in entry["function"]:
            chosen.update(step for _, step in entry["chosen_steps_by_seed"].values())
    shares = ", ".join(f"{step:g} %: {count / chosen.total():.2f}" for step, count in sorted(chosen.items()))
    print(f"edge steps of the published networks: {shares}")


def _line(facts: list[float]) -> str:
    return "{:.1f} {:.1f} {:.2f} | {:.1f} {:.1f} {:.2f}".format(*facts)


if __name__ == "__main__":
    main()
