"""What `SculptedMLP` leaves of networks on ten data sets, and whether it finds the groups of friedman1.

    python -m tests.long.datasets                    # the table of ten data sets
    python -m tests.long.datasets --only iris wine   # some of them
    python -m tests.long.datasets --friedman 10      # friedman1 with ten seeds

A quarter of the samples is kept for testing and decides nothing; of the rest, a fifth decides how far a network is
pruned. All data sets get the same settings: two hidden layers of 64 units, and the defaults of `SculptedMLP`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

import modgraph as mg
from modgraph.arrays import FloatArray
from modgraph.sculpt import SculptedMLP, digit_pairs, load_digits8

HIDDEN = (64, 64)
FRIEDMAN_SAMPLES = 2000
FRIEDMAN_DECAY = 0.01  # chosen, like one hidden layer of 24 units and 6 trials, on the seeds 100 … 103


class Data(NamedTuple):
    task: str
    inputs: FloatArray
    targets: Any


def houses() -> Data:
    """Prices of houses made like California's: income, age, rooms, crowding, and distance to two cities."""
    rng = np.random.default_rng(0)
    n = 5000
    income = rng.gamma(4, 1, n)
    age, rooms, people = rng.uniform(1, 52, n), rng.normal(5.4, 1, n), rng.gamma(6, 0.5, n)
    bedrooms, population = rooms / 5 + rng.normal(0, 0.1, n), rng.gamma(2, 700, n)
    latitude, longitude = rng.uniform(32, 42, n), rng.uniform(-124, -114, n)
    near = sum(np.exp(-((latitude - a) ** 2 + (longitude - b) ** 2)) for a, b in ((34, -118), (37.8, -122.4)))
    price = 0.4 * income + 1.5 * near + 0.1 * np.maximum(age - 30, 0) / 10 - 0.2 * people + rng.normal(0, 0.2, n)
    inputs = np.column_stack([income, age, rooms, bedrooms, population, people, latitude, longitude])
    return Data("regression", inputs, price)


def planted() -> Data:
    """Three numbers, each a function of four of twelve inputs that have nothing to do with the others."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 12))
    parts = x.reshape(-1, 3, 4)
    y = np.abs(parts[:, :, 0] + parts[:, :, 1]) + np.maximum(parts[:, :, 2] - parts[:, :, 3], 0)
    return Data("regression", x, y + rng.normal(0, 0.1, y.shape))


def pairs(task: str, pairs: int) -> Data:
    """Two digits side by side: the parts of `digit_pairs` together, samples to train on only."""
    found = digit_pairs(load_digits8(), task=task, pairs=(pairs, 1, 1))  # type: ignore[arg-type]
    return Data("multilabel", found.train.inputs.numpy().astype(np.float64), found.train.targets.numpy().astype(int))


SETS: dict[str, Callable[[], Data]] = {
    "digits": lambda: Data("classification", *datasets.load_digits(return_X_y=True)),
    "breast cancer": lambda: Data("classification", *datasets.load_breast_cancer(return_X_y=True)),
    "wine": lambda: Data("classification", *datasets.load_wine(return_X_y=True)),
    "iris": lambda: Data("classification", *datasets.load_iris(return_X_y=True)),
    "diabetes": lambda: Data("regression", *datasets.load_diabetes(return_X_y=True)),
    "houses": houses,
    "two digits": lambda: pairs("classify", 40),
    "XOR of digits": lambda: pairs("hierarchical", 60),
    "friedman1": lambda: Data("regression", *datasets.make_friedman1(FRIEDMAN_SAMPLES, noise=1.0, random_state=0)),
    "planted": planted,
}

HEAD = "set            metric             dense  sculpted  kept    edges  density  modules  p      minutes"


def row(name: str, hidden: tuple[int, ...] = HIDDEN) -> str:
    """Sculpt a network on a data set and write a line about it."""
    task, inputs, targets = SETS[name]()
    strata = targets if task == "classification" else None
    X, other_X, y, other_y = train_test_split(inputs, targets, test_size=0.25, stratify=strata, random_state=0)
    start = time.perf_counter()
    model = SculptedMLP(hidden=hidden, task=task)  # type: ignore[arg-type]
    model.fit(X, y, test=(other_X, other_y))
    minutes = (time.perf_counter() - start) / 60
    dense, sculpted = model.history_[0].test, model.score(other_X, other_y)
    dag = model.network_
    p_value = mg.significance(model.hierarchy_, n_resamples=0).p_value
    return (
        f"{name:14} {model.metric_:18} {dense:.4f}  {sculpted:.4f}    {sculpted / dense:6.1%}  {dag.n_edges:5d}  "
        f"{dag.density:6.2%}  {model.hierarchy_.n_modules:7d}  {p_value:.3f}  {minutes:.1f}"
    )


def friedman(seed: int, *, hidden: tuple[int, ...], trials: int) -> tuple[bool, bool, str]:
    """Return whether the input modules are the known groups, strictly and with the linear terms joined; and a line.

    y = 10 sin(π x0 x1) + 20 (x2 − ½)² + 10 x3 + 5 x4, and x5 … x9 do nothing. The linear terms are one weighted sum,
    which one unit computes, so they may be one module or two.
    """
    inputs, targets = datasets.make_friedman1(FRIEDMAN_SAMPLES, noise=1.0, random_state=seed)
    X, other_X, y, other_y = train_test_split(inputs, targets, test_size=0.25, random_state=seed)
    model = SculptedMLP(
        hidden=hidden,
        task="regression",
        weight_decay=FRIEDMAN_DECAY,
        trials=trials,
        choose="fewest_joined_inputs",
        random_state=seed,
    )
    model.fit(X, y, test=(other_X, other_y))
    labels = model.hierarchy_.labels[:10].tolist()
    dropped = labels[5:] == [-1] * 5 and -1 not in labels[:5]
    joined = dropped and labels[0] == labels[1] and labels[2] not in (*labels[:2], *labels[3:5])
    joined = joined and labels[0] not in labels[3:5]
    scores = f"R² {model.history_[0].test:.3f} dense, {model.score(other_X, other_y):.3f} sculpted"
    line = f"friedman1, seed {seed}: inputs {labels}, {model.network_.n_edges} edges, {scores}"
    return joined and labels[3] != labels[4], joined, line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--friedman", type=int, default=0, help="number of seeds of friedman1, instead of the table")
    parser.add_argument("--first", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--hidden", nargs="*", type=int, default=[24])
    parser.add_argument("--trials", type=int, default=6)
    options = parser.parse_args()
    if not options.friedman:
        print(HEAD)
        for name in options.only:
            print(row(name), flush=True)
        return
    counts = np.zeros(2, dtype=int)
    for seed in range(options.first, options.first + options.friedman):
        strict, joined, line = friedman(seed, hidden=tuple(options.hidden), trials=options.trials)
        counts += (strict, joined)
        print(line, flush=True)
    print(f"the known groups: {counts[0]} of {options.friedman}; with the linear terms as one: {counts[1]}")


if __name__ == "__main__":
    main()
