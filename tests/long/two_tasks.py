"""What plain `detect_modules` finds in ordinary pruned networks: digits side by side, and controls.

    python -m tests.long.two_tasks                          # 8 × 8 digits, the seeds that nothing was chosen on
    python -m tests.long.two_tasks --data mnist             # MODGRAPH_DATA says where MNIST is
    python -m tests.long.two_tasks --tasks three four unequal levels --widths 64 --depths 2
    python -m tests.long.two_tasks --baselines              # wiring, Louvain and spectral clustering beside it
    python -m tests.long.two_tasks --given-data             # and `data=`; inputs that are shared are left out, too

Networks are trained once (`tests.long.digit_networks`) and each is measured once: both are kept in `--folder`, so that
the command goes on where it was stopped. Then tables are printed: means over networks, with 95 % bootstrap intervals
over seeds where there are several.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_mutual_info_score

import modgraph as mg
from modgraph.arrays import IntArray
from modgraph.null import shuffle_weights
from tests.long.digit_networks import DENSITIES, TASKS, Recipe, Trained, held_out, networks, often_on

Row = dict[str, Any]
OFTEN = 0.01
"""Share of the images in which an input is nonzero, from which it counts as trained."""
N_IMAGES = 200
"""Images of each digit that no network was trained on, for `data=`."""
FRESH_SEEDS = (100, 101, 102, 103, 104)
CONTROLS = ("sum", "one")


def measure(network: Trained, *, baselines: bool) -> Row:
    """Detect modules in one network and compare them with its task."""
    dag = mg.from_module(network.module())
    began = time.perf_counter()
    found = mg.detect_modules(dag)
    row: Row = {"seconds": time.perf_counter() - began, "accuracy": network.accuracy, "modules": found.n_modules}
    row |= agreement(found.labels, network)
    row["features"] = found.settings["features"]
    row["order"] = order_is_right(found, network)
    row["shared"] = float(found.shared[(dag.layer > 0) & (dag.layer < dag.n_layers - 1)].mean())
    if TASKS[network.recipe.task].input_group[-1] > 0:
        spaces = mg.subspaces(found)
        last = spaces.layers[-1]
        row |= {"own": last.own, "other": last.other, "p": last.p_value, "dimensions": int(spaces.dimensions[-1].max())}
        row["random"] = float(last.random.mean())
    else:
        # The control has one module; halves drawn at random stand in for modules.
        last = mg.subspaces(arbitrary_halves(dag, network.recipe.seed)).layers[-1]
        row |= {"own": last.own, "other": last.other, "p": last.p_value}
    # Matrices with all entries in another order, zeros included, and those whose nonzero entries are.
    row["shuffled"] = mg.detect_modules(shuffle_weights(dag, zeros=True, random_state=network.recipe.seed)).n_modules
    row["shuffled_nonzero"] = mg.detect_modules(shuffle_weights(dag, random_state=network.recipe.seed)).n_modules
    if baselines:
        for name, method in BASELINES.items():
            labels = method(dag, network)
            row |= {f"{name}_{key}": value for key, value in agreement(labels, network).items()}
    return row


def given_data(network: Trained) -> Row:
    """Leave out inputs that are shared between modules, by path sums and by Jacobians over images (`data=`)."""
    dag, truth = mg.from_module(network.module()), network.input_group
    rng = np.random.default_rng(network.recipe.seed)
    images = held_out(network.recipe, n_samples=N_IMAGES, rng=rng)
    row: Row = {}
    for name, found in (("paths", mg.detect_modules(dag)), ("data", mg.detect_modules(dag, data=images))):
        labels = found.labels[: len(truth)]
        shared = found.shared[: len(truth)]
        for what, chosen in (("labelled", labels >= 0), ("unshared", (labels >= 0) & ~shared)):
            row[f"{name}_{what}"] = float(chosen.mean())
            row[f"{name}_{what}_ami"] = float(adjusted_mutual_info_score(truth[chosen], labels[chosen]))
        last = mg.subspaces(found, n_shuffled=0).layers[-1]
        row |= {f"{name}_own": last.own, f"{name}_other": last.other}
    return row


def agreement(labels: IntArray, network: Trained) -> Row:
    """Compare the labels of inputs and outputs with the groups of the task; units without label don't count."""
    result: Row = {}
    parts = {}
    for name, truth, given in (
        ("inputs", network.input_group, labels[: len(network.input_group)]),
        ("outputs", network.output_group, labels[-len(network.output_group) :]),
    ):
        kept = given >= 0
        parts[name] = [given[kept & (truth == group)] for group in range(int(truth.max()) + 1)]
        result[f"{name}_found"] = len(set(given[kept].tolist()))
        result[f"{name}_true"] = int(truth.max()) + 1
        result[f"{name}_ami"] = float(adjusted_mutual_info_score(truth[kept], given[kept]))
    truth, given = network.input_group, labels[: len(network.input_group)]
    trained = (given >= 0) & often_on(network.recipe, share=OFTEN)
    result["trained_ami"] = float(adjusted_mutual_info_score(truth[trained], given[trained]))
    pairs = zip(parts["inputs"], parts["outputs"], strict=False)
    result["matched"] = all(len(a) > 0 and len(b) > 0 and most_frequent(a) == most_frequent(b) for a, b in pairs)
    return result


def most_frequent(labels: IntArray) -> int:
    return int(np.bincount(labels).argmax())


def order_is_right(found: mg.ModuleHierarchy, network: Trained) -> bool | None:
    """Whether what needs both digits is one module of outputs above two that have the inputs; None for other tasks."""
    if network.recipe.task != "levels":
        return None
    inputs, outputs = found.labels[: len(network.input_group)], found.labels[-len(network.output_group) :]
    below = [most_frequent(inputs[(network.input_group == group) & (inputs >= 0)]) for group in (0, 1)]
    above = most_frequent(outputs[(network.output_group == 2) & (outputs >= 0)])
    links = set(zip(found.graph.source.tolist(), found.graph.target.tolist(), strict=True))
    levels = [module.level for module in found.modules]
    return (
        len({*below, above}) == 3
        and links == {(below[0], above), (below[1], above)}
        and levels[above] == 1
        and len(set(inputs[inputs >= 0].tolist())) == 2
        and len(set(outputs[outputs >= 0].tolist())) == 3
    )


def arbitrary_halves(dag: mg.LayeredDAG, seed: int) -> mg.ModuleHierarchy:
    """Draw two modules of inputs and outputs that mean nothing."""
    labels = np.random.default_rng(seed).permutation(dag.n_units) % 2
    labels[~dag.on_path()] = -1
    return mg.ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels)


def wiring(dag: mg.LayeredDAG, network: Trained) -> IntArray:  # noqa: ARG001 (all have the same arguments)
    return mg.detect_modules(dag, features="wiring").labels


def louvain(dag: mg.LayeredDAG, network: Trained) -> IntArray:  # noqa: ARG001
    """Louvain on |w|, all units at once (igraph); it chooses the number itself."""
    import igraph

    assert dag.weights is not None
    graph = igraph.Graph(n=dag.n_units, edges=dag.edges)
    return np.array(graph.community_multilevel(weights=np.abs(dag.weights)).membership)


def spectral(dag: mg.LayeredDAG, network: Trained) -> IntArray:
    """Normalised spectral clustering of |w| (Filan et al., 2021), told the true number of groups."""
    assert dag.weights is not None
    kept = dag.on_path()
    weights = np.zeros((dag.n_units, dag.n_units))
    weights[dag.sources, dag.targets] = np.abs(dag.weights)
    weights = (weights + weights.T)[np.ix_(kept, kept)]
    n_groups = max(2, int(network.input_group.max()) + 1)
    joined = weights.sum(axis=1) > 0
    labels = np.full(int(kept.sum()), -1)
    model = SpectralClustering(n_groups, affinity="precomputed", random_state=0)
    labels[joined] = model.fit_predict(weights[np.ix_(joined, joined)])
    found = np.full(dag.n_units, -1)
    found[kept] = labels
    return found


BASELINES: dict[str, Callable[[mg.LayeredDAG, Trained], IntArray]] = {
    "wiring": wiring,
    "louvain": louvain,
    "spectral": spectral,
}


def all_rows(
    recipes: Iterable[Recipe], folder: Path, densities: Sequence[float], *, baselines: bool, with_data: bool
) -> list[Row]:
    """Measure every network that was not measured yet; return all rows asked for."""
    store = folder / "results.jsonl"
    known: dict[str, Row] = {}
    if store.exists():
        for line in store.read_text().splitlines():
            row = json.loads(line)
            known[row["key"]] = row
    rows = []
    for recipe in recipes:
        trained: list[Trained] | None = None
        for density in densities:
            key = f"{recipe.name}-{density}{'-baselines' * baselines}"
            parts: dict[str, Callable[[Trained], Row]] = {key: functools.partial(measure, baselines=baselines)}
            if with_data:
                parts[f"{recipe.name}-{density}-data"] = given_data
            for part, method in parts.items():
                if part not in known:
                    trained = trained or networks(recipe, folder)
                    network = next(one for one in trained if one.density == density)
                    with np.errstate(all="ignore"):
                        row = {"key": part, **dataclasses.asdict(recipe), "density": density} | method(network)
                    with store.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    known[part] = row
                    print(part, flush=True)
            rows.append({name: value for part in parts for name, value in known[part].items()})
    return rows


def interval(values: Sequence[float], seeds: Sequence[int]) -> str:
    """Say the mean and its 95 % bootstrap interval over seeds."""
    array, groups = np.array(values, dtype=float), np.array(seeds)
    names = np.unique(groups)
    means = np.array([np.nanmean(array[groups == name]) for name in names])
    if len(names) < 3:
        return f"{np.nanmean(array):.2f}"
    drawn = np.random.default_rng(0).choice(means, size=(2000, len(means)))
    low, high = np.nanquantile(np.nanmean(drawn, axis=1), [0.025, 0.975])
    return f"{np.nanmean(array):.2f} ({low:.2f}–{high:.2f})"


def number_is_right(row: Row) -> bool:
    return all(row[f"{part}_found"] == row[f"{part}_true"] for part in ("inputs", "outputs"))


def table(rows: list[Row], *, baselines: bool) -> None:
    """Print one line a task and density."""
    columns: list[tuple[str, Callable[[Row], float]]] = [
        ("accuracy", lambda row: row["accuracy"]),
        ("number right", number_is_right),
        ("AMI inputs", lambda row: row["inputs_ami"]),
        ("of trained inputs", lambda row: row.get("trained_ami", float("nan"))),
        ("AMI outputs", lambda row: row["outputs_ami"]),
        ("matched", lambda row: row["matched"]),
        ("own", lambda row: row["own"]),
        ("other", lambda row: row["other"]),
        ("p ≤ .05", lambda row: row["p"] <= 0.05),
        ("shuffled: none", lambda row: row["shuffled"] == 1),
        ("nonzero shuffled: none", lambda row: row["shuffled_nonzero"] == 1),
        ("shared units", lambda row: row["shared"]),
    ]
    if any(row["task"] == "levels" for row in rows):
        columns.append(("levels right", lambda row: float("nan") if row["order"] is None else row["order"]))
    if any("data_labelled" in row for row in rows):
        for name, what in itertools.product(("paths", "data"), ("labelled", "unshared")):
            columns.append((f"{name}: {what} inputs", operator.itemgetter(f"{name}_{what}")))
            columns.append((f"{name}: AMI of {what} inputs", operator.itemgetter(f"{name}_{what}_ami")))
        columns += [(f"data: {what}", operator.itemgetter(f"data_{what}")) for what in ("own", "other")]
    if baselines:
        for name, part in itertools.product(BASELINES, ("inputs", "outputs")):
            columns.append((f"{name}: AMI {part}", operator.itemgetter(f"{name}_{part}_ami")))
    print("\t".join(["data", "task", "density", "networks", *(name for name, _ in columns)]))
    for data, task in sorted({(row["data"], row["task"]) for row in rows}):
        ours = [row for row in rows if (row["data"], row["task"]) == (data, task)]
        groups = [(f"{100 * one:.0f} %", [row for row in ours if row["density"] == one]) for one in DENSITIES]
        groups.append(("50–20 %", [row for row in ours if 0.2 <= row["density"] <= 0.5]))
        groups.append(("all", ours))
        for name, some in groups:
            if some:
                seeds = [row["seed"] for row in some]
                cells = [interval([float(value(row)) for row in some], seeds) for _, value in columns]
                print("\t".join([data, task, name, str(len(some)), *cells]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits8"], choices=["digits8", "mnist"])
    parser.add_argument("--tasks", nargs="+", default=["two", "sum"], choices=list(TASKS))
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--depths", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--densities", nargs="+", type=float, default=list(DENSITIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(FRESH_SEEDS))
    parser.add_argument("--losses", nargs="+", default=["ce"], choices=["ce", "bce"])
    parser.add_argument("--prune", nargs="+", default=["global"], choices=["global", "layer"])
    parser.add_argument("--baselines", action="store_true", help="other methods beside it")
    parser.add_argument("--given-data", action="store_true", help="`data=` beside it, and shared inputs left out")
    parser.add_argument("--folder", type=Path, default=Path("out/two_tasks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipes = [
        Recipe(data=data, task=task, width=width, depth=depth, seed=seed, loss=loss, prune=prune)
        for data, task, seed, width, depth, loss, prune in itertools.product(
            options.data, options.tasks, options.seeds, options.widths, options.depths, options.losses, options.prune
        )
    ]
    rows = all_rows(
        recipes, options.folder, options.densities, baselines=options.baselines, with_data=options.given_data
    )
    table(rows, baselines=options.baselines)


if __name__ == "__main__":
    main()
