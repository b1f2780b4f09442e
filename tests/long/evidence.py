"""Measure the evidence: how often noise is called structure, what is found in planted modules, what it costs.

    python -m tests.long.evidence noise --networks 200        # of each of five families; plain default and p-values
    python -m tests.long.evidence power --networks 10         # planted modules, a share of the edges rewired
    python -m tests.long.evidence small --networks 10         # small planted modules: AMI of what is found
    python -m tests.long.evidence published --every 16        # exemplars of the paper: share significant
    python -m tests.long.evidence confidence --networks 10    # modules with confidence ≥ 0.9 that are real
    python -m tests.long.evidence cost                        # detection with and without evidence, 500 units
    python -m tests.long.evidence paths                       # ten million edges, a planted waist

Results go to a file of JSON lines (`--out`), and what is there already isn't computed again. Networks are seeded from
`--first-seed` on: constants were chosen with seeds below 50,000.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, paths, significance
from modgraph.arrays import BoolArray, IntArray
from modgraph.cluster.description import SMALLEST_LAYER
from modgraph.evidence import largest_eigenvalue
from modgraph.null import swap_edges
from modgraph.planted import planted_modules
from modgraph.sequential import EQUAL
from tests.networks import published_dag, published_index

EXEMPLARS = ("separable", "reused", "separable_reused", "single")
LEVEL = 0.05


def random_network(sizes: tuple[int, ...], density: float, seed: int) -> LayeredDAG:
    """Every edge with the same probability."""
    rng = np.random.default_rng(seed)
    return LayeredDAG.from_masks([rng.random((after, size)) < density for size, after in itertools.pairwise(sizes)])


def heavy_tailed(sizes: tuple[int, ...], density: float, seed: int) -> LayeredDAG:
    """Degrees in proportion to Pareto-distributed numbers of exponent 1.5."""
    rng = np.random.default_rng(seed)
    masks: list[BoolArray] = []
    for size, after in itertools.pairwise(sizes):
        rates = np.outer(rng.pareto(1.5, after) + 1, rng.pareto(1.5, size) + 1)
        low, high = 0.0, 1e6
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if np.minimum(1, middle * rates).mean() < density else (low, middle)
        masks.append(rng.random((after, size)) < low * rates)
    return LayeredDAG.from_masks(masks)


FAMILIES: dict[str, Callable[[int], LayeredDAG]] = {
    "100-100-100-10 at 3 %": lambda seed: random_network((100, 100, 100, 10), 0.03, seed),
    "50-50-50-10 at 5 %": lambda seed: random_network((50, 50, 50, 10), 0.05, seed),
    "20-20-20-4 at 10 %": lambda seed: random_network((20, 20, 20, 4), 0.1, seed),
    "five layers of 60 at 5 %": lambda seed: random_network((60,) * 5, 0.05, seed),
    "five layers of 60, heavy-tailed": lambda seed: heavy_tailed((60,) * 5, 0.05, seed),
}


def one_cluster_a_layer(found: ModuleHierarchy) -> bool:
    """Whether every trimmed layer of ten units or more, before the outputs, is one cluster."""
    layers = [
        found.cluster_labels[(found.labels >= 0) & (found.dag.layer == at)] for at in range(found.dag.n_layers - 1)
    ]
    return all(len(np.unique(labels)) == 1 for labels in layers if len(labels) >= SMALLEST_LAYER)


def is_significant(dag: LayeredDAG, nulls: int, seed: int) -> bool:
    """Whether `significance` by wiring with so many null networks gives p ≤ `LEVEL`.

    Ends with the null network that decides it: of noise, most take a few. The null networks and their values are those
    of `significance`; no clustering changes them, so none is made (`tests.test_evidence` compares the two).
    """
    trimmed = dag.trim()
    observed = largest_eigenvalue(trimmed)
    null_seed = int(np.random.default_rng(seed).integers(1 << 63, size=3)[0])
    exceeding = 0
    for number in range(nulls):
        null = swap_edges(trimmed, random_state=np.random.default_rng([null_seed, number]))
        exceeding += largest_eigenvalue(null) >= observed - EQUAL
        if (1 + exceeding) / (1 + nulls) > LEVEL:
            return False
    return (1 + exceeding) / (1 + nulls) <= LEVEL


class Store:
    """Results by key, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.results: dict[str, Any] = dict(json.loads(line) for line in lines)

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self.results:
            self.results[key] = compute()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self.results[key]]) + "\n")
        return self.results[key]


def noise(store: Store, *, networks: int, first_seed: int, nulls: int) -> None:
    every: list[tuple[bool, bool | None]] = []
    for family, draw in FAMILIES.items():
        results = []
        for seed in range(first_seed, first_seed + networks):

            def measure(seed: int = seed, draw: Callable[[int], LayeredDAG] = draw) -> tuple[bool, bool | None]:
                dag = draw(seed)
                return one_cluster_a_layer(detect_modules(dag)), is_significant(dag, nulls, seed) if nulls else None

            results.append(store.get(f"noise {family} {seed} {nulls} decided", measure))
        every += results
        print(f"{family}: {summary(results)}", flush=True)
    print(f"all: {summary(every)}")


def summary(results: list[tuple[bool, bool | None]]) -> str:
    line = f"one cluster in every layer of ten or more in {np.mean([one for one, _ in results]):.1%} of {len(results)}"
    decided = [significant for _, significant in results if significant is not None]
    if decided:
        share = float(np.mean(decided))
        error = np.sqrt(share * (1 - share) / len(decided))
        line += f"; significant at {LEVEL}: {share:.1%} ± {error:.1%}"
    return line


PLANTED: dict[str, tuple[list[int], int, int]] = {
    "4 modules, 4 layers of 80": ([80] * 4, 4, 4),
    "3 modules, 4 layers of 48": ([48] * 4, 3, 4),
    "2 modules, 4 layers of 24": ([24] * 4, 2, 4),
}


def power(store: Store, *, networks: int, first_seed: int, nulls: int) -> None:
    for family, (sizes, n_modules, fan_out) in PLANTED.items():
        for rewired in (0.25, 0.5):
            found = []
            for seed in range(first_seed, first_seed + networks):

                def measure(seed: int = seed, rewired: float = rewired, of: Any = (sizes, n_modules, fan_out)) -> bool:
                    dag, _ = planted_modules(of[0], n_modules=of[1], fan_out=of[2], rewired=rewired, random_state=seed)
                    return is_significant(dag, nulls, seed)

                found.append(store.get(f"power {family} {rewired} {seed} {nulls} decided", measure))
            print(f"{family}, {rewired:.0%} rewired: significant {np.mean(found):.0%} of {len(found)}", flush=True)


def small(store: Store, *, networks: int, first_seed: int) -> None:
    for n_layers, fan_out in itertools.product((3, 4), (3, 4)):
        found = []
        for seed in range(first_seed, first_seed + networks):

            def measure(seed: int = seed, n_layers: int = n_layers, fan_out: int = fan_out) -> float:
                dag, truth = planted_modules(
                    [48] * n_layers, n_modules=4, fan_out=fan_out, rewired=0.2, random_state=seed
                )
                labels = detect_modules(dag).cluster_labels
                inner = [(dag.layer == at) & (labels >= 0) for at in range(n_layers - 1)]
                return float(np.mean([adjusted_mutual_info_score(truth[units], labels[units]) for units in inner]))

            found.append(store.get(f"small {n_layers} {fan_out} {seed}", measure))
        error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
        print(
            f"4 modules of 12 in {n_layers} layers, fan-out {fan_out}, a fifth rewired: AMI of the clusters before the "
            f"outputs {np.mean(found):.2f} ± {error:.2f}, {len(found)} networks",
            flush=True,
        )


def published(store: Store, *, every: int, nulls: int) -> None:
    smallest: dict[str, int] = {}
    for function in EXEMPLARS:
        entries = [entry for entry in published_index() if entry["function"] == function][::every]
        results = []
        for entry in entries:

            def measure(entry: dict[str, Any] = entry) -> tuple[float, float, int]:
                found = detect_modules(published_dag(entry), hops=entry["hops"])
                result = significance(found, n_null=nulls, n_resamples=0)
                trimmed = found.dag.trim()
                different = {swap_edges(trimmed, random_state=seed).targets.tobytes() for seed in range(50)}
                return result.p_value, result.effect_size, len(different)

            results.append((*store.get(f"published {entry['file']} {nulls}", measure), entry))
        if not results:
            continue
        p_values = np.array([p for p, *_ in results])
        for p, _, _, entry in results:
            if p <= LEVEL:
                smallest[function] = min(smallest.get(function, 1 << 30), sum(entry["condensed_sizes"]))
        few = np.mean([different < 20 for _, _, different, _ in results])
        print(
            f"{function}: significant at {LEVEL} {np.mean(p_values <= LEVEL):.0%} of {len(results)}, median p "
            f"{np.median(p_values):.2f}; fewer than 20 different null networks of 50: {few:.0%}; smallest significant: "
            f"{smallest.get(function, 'none')} units",
            flush=True,
        )


def is_real(units: IntArray, found: ModuleHierarchy, truth: IntArray) -> bool:
    """Whether a module and a planted one, within the module's layers, share more than half of the units of either."""
    inside = np.zeros(found.dag.n_units, dtype=np.bool_)
    inside[units] = True
    layers = np.isin(found.dag.layer, np.unique(found.dag.layer[units])) & (found.labels >= 0)
    overlaps = [
        (inside & layers & (truth == name)).sum() / (layers & (inside | (truth == name))).sum()
        for name in np.unique(truth)
    ]
    return bool(max(overlaps) > 0.5)


def confidence(store: Store, *, networks: int, first_seed: int, nulls: int) -> None:
    real: list[tuple[float, bool]] = []
    for family, (sizes, n_modules, fan_out) in PLANTED.items():
        for rewired in (0.1, 0.2, 0.3, 0.4, 1.0):
            for seed in range(first_seed, first_seed + networks):

                def measure(
                    seed: int = seed, rewired: float = rewired, of: Any = (sizes, n_modules, fan_out)
                ) -> list[tuple[float, bool]]:
                    dag, truth = planted_modules(
                        of[0], n_modules=of[1], fan_out=of[2], rewired=rewired, random_state=seed
                    )
                    if rewired == 1:
                        truth = np.full_like(truth, -2)
                    found = detect_modules(dag)
                    result = significance(found, n_null=nulls, n_resamples=10, random_state=seed)
                    return [
                        (module.confidence, rewired < 1 and is_real(found.modules[module.id].units, found, truth))
                        for module in result.modules
                        if len(found.modules[module.id].units) > 1
                    ]

                real += store.get(f"confidence {family} {rewired} {seed} {nulls}", measure)
    for least, most in ((0.9, 1.01), (0.7, 0.9), (0.5, 0.7), (0.0, 0.5)):
        chosen = [is_one for value, is_one in real if least <= value < most]
        share = f"{np.mean(chosen):.0%}" if chosen else "none"
        print(f"confidence {least} to {min(most, 1.0)}: {share} real of {len(chosen)} modules")


def cost() -> None:
    networks = {
        "planted": planted_modules([100] * 5, n_modules=5, rewired=0.1, random_state=0)[0],
        "noise": planted_modules([100] * 5, n_modules=1, rewired=1, random_state=0)[0],
    }
    for name, dag in networks.items():
        significance(dag, n_null=0)
        times = []
        for _ in range(3):
            start = time.process_time()
            found = detect_modules(dag)
            middle = time.process_time()
            significance(found, n_null=0)
            times.append((middle - start, time.process_time() - middle))
        alone, more = np.median(times, axis=0)
        print(
            f"{name}, 500 units: detection {alone:.2f} s, default evidence {more:.3f} s: {1 + more / alone:.3f} times"
        )


def count_paths() -> None:
    rng = np.random.default_rng(0)
    dag = LayeredDAG.from_masks([rng.random((5000, 5000)) < 0.1 for _ in range(4)])
    paths(dag)
    start = time.process_time()
    counts = paths(dag)
    print(f"{dag.n_edges} edges: {counts!r} in {time.process_time() - start:.2f} s")
    sizes = (60, 40, 8, 40, 60)
    masks = [rng.random((b, a)) < (1 if 8 in (a, b) else 0.2) for a, b in itertools.pairwise(sizes)]
    waist = LayeredDAG.from_masks(masks).trim()
    core = paths(waist).core(0.9)
    print(f"a waist of 8: core in layers {waist.layer[core.units].tolist()}, hourglass {paths(waist).hourglass:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["noise", "power", "small", "published", "confidence", "cost", "paths"])
    parser.add_argument("--networks", type=int, default=200, help="of each kind")
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--nulls", type=int, default=19, help="null networks for each; 0: the plain default alone")
    parser.add_argument("--every", type=int, default=1, help="of the published networks")
    parser.add_argument("--out", type=Path, default=Path("evidence.jsonl"))
    chosen = parser.parse_args()
    store = Store(chosen.out)
    seeds = {"networks": chosen.networks, "first_seed": chosen.first_seed, "nulls": chosen.nulls}
    if chosen.what == "noise":
        noise(store, **seeds)
    elif chosen.what == "power":
        power(store, **seeds)
    elif chosen.what == "small":
        small(store, networks=chosen.networks, first_seed=chosen.first_seed)
    elif chosen.what == "confidence":
        confidence(store, **seeds)
    elif chosen.what == "published":
        published(store, every=chosen.every, nulls=chosen.nulls)
    elif chosen.what == "cost":
        cost()
    else:
        count_paths()


if __name__ == "__main__":
    main()
