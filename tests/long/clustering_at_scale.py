"""Measure the clusterings on planted modules: agreement, time and memory by size.

    python -m tests.long.clustering_at_scale families            # small families, every method that is installed
    python -m tests.long.clustering_at_scale large --sizes 3000 30000 100000
    python -m tests.long.clustering_at_scale million             # the linkage of one layer of a million units
    python -m tests.long.clustering_at_scale growth --sizes 100000 1000000   # all layers together; --igraph: and Leiden
    python -m tests.long.clustering_at_scale identity            # a million units, each joined to one other
    python -m tests.long.clustering_at_scale rooms               # what else is computed on a million weights

The block model needs graph-tool; Leiden needs igraph. Times are processor times of one process, compiled code warm.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import math
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from modgraph import LayeredDAG, detect_modules, influence, load_network, paths, save_network, significance
from modgraph.arrays import IntArray, read_only
from modgraph.cluster.blockmodel import blockmodel
from modgraph.cluster.by_description import shortest_description
from modgraph.cluster.leiden import leiden
from modgraph.cluster.sparse import layer_tree
from modgraph.planted import planted_modules

FAMILIES: dict[str, tuple[list[int], int | tuple[int, ...]]] = {
    "4 modules, 6 layers of 80": ([80] * 6, 4),
    "12 modules, 6 layers of 240": ([240] * 6, 12),
    "6 modules, layers 300/60": ([300, 60] * 3, 6),
    "8 then 4 modules, 6 layers of 160": ([160] * 6, (8, 8, 8, 4, 4, 4)),
}
Method = Callable[[LayeredDAG, int], IntArray]


def by_description(dag: LayeredDAG, seed: int) -> IntArray:  # noqa: ARG001 (one signature)
    return shortest_description(dag, hops=2).labels


def by_curve(dag: LayeredDAG, seed: int) -> IntArray:  # noqa: ARG001 (one signature)
    """Cut the same tree as the published method at the minimum of M(k), in every layer before the outputs."""
    labels = np.arange(dag.n_units)
    for level in range(dag.n_layers - 1):
        start, stop = dag.layer_starts[level : level + 2].tolist()
        grown = layer_tree(dag, level, hops=2, direction="outwards")
        assert grown.tree is not None
        counts, curve = grown.tree.modularity_curve()
        inner = [step for step, count in enumerate(counts) if 2 <= count < stop - start]
        best = min(inner, key=lambda step: (curve[step], step))
        labels[start:stop] = start + grown.tree.cut(best)[grown.row_of]
    return labels


def methods() -> dict[str, Method]:
    found: dict[str, Method] = {"description": by_description, "M(k)": by_curve}
    if importlib.util.find_spec("igraph"):
        found["leiden"] = lambda dag, seed: leiden(dag, hops=2, rng=np.random.default_rng(seed))
    if importlib.util.find_spec("graph_tool"):
        found["graph-tool"] = lambda dag, seed: blockmodel(dag, hops=2, rng=np.random.default_rng(seed))
    return found


def planted(
    sizes: list[int], n_modules: int | tuple[int, ...], *, fan_out: int, rewired: float, seed: int
) -> tuple[LayeredDAG, IntArray]:
    """Return a trimmed network and its modules."""
    dag, labels = planted_modules(sizes, n_modules=n_modules, fan_out=fan_out, rewired=rewired, random_state=seed)
    trimmed = dag.trim()
    return trimmed, labels[trimmed.unit_index]


def per_layer(dag: LayeredDAG, truth: IntArray, found: IntArray, measure: Callable[..., float]) -> list[float]:
    """Score the layers before the outputs."""
    inner = [dag.layer == level for level in range(dag.n_layers - 1)]
    return [float(measure(truth[units], found[units])) for units in inner]


def families() -> None:
    """Mean AMI over the layers before the outputs, for each family, rewired share and two seeds."""
    scores: dict[str, list[float]] = {name: [] for name in methods()}
    for family, (sizes, n_modules) in FAMILIES.items():
        for rewired in (0.1, 0.3):
            line = []
            for name, method in methods().items():
                values: list[float] = []
                start = time.process_time()
                for seed in (0, 1):
                    dag, truth = planted(sizes, n_modules, fan_out=4, rewired=rewired, seed=seed)
                    values += per_layer(dag, truth, method(dag, seed), adjusted_mutual_info_score)
                scores[name].append(float(np.mean(values)))
                line.append(f"{name} {scores[name][-1]:.3f} ({(time.process_time() - start) / 2:.1f} s)")
            print(f"{family}, {rewired:.0%} rewired: {', '.join(line)}", flush=True)
    print("mean:", ", ".join(f"{name} {np.mean(values):.3f}" for name, values in scores.items()))
    for family, (sizes, n_modules) in FAMILIES.items():
        line = []
        for name, method in methods().items():
            counts = []
            for seed in (0, 1):
                dag, _ = planted(sizes, n_modules, fan_out=4, rewired=1, seed=seed)
                found = method(dag, seed)
                counts.append([len(np.unique(found[dag.layer == level])) for level in range(dag.n_layers - 1)])
            line.append(f"{name} {counts}")
        print(f"{family}, all rewired, clusters a layer: {'; '.join(line)}", flush=True)


def large(sizes: list[int], shares: list[float], *, curve: bool) -> None:
    """32-unit modules, fan-out 3, four layers: ARI, time and memory; then the exponent of time in n."""
    shortest_description(planted([500] * 4, 15, fan_out=3, rewired=0.1, seed=0)[0], hops=2)
    seconds: dict[float, list[float]] = {}
    for size in sizes:
        for rewired in shares:
            dag, truth = planted([size] * 4, size // 32, fan_out=3, rewired=rewired, seed=0)
            start = time.process_time()
            found = shortest_description(dag, hops=2)
            seconds.setdefault(rewired, []).append(time.process_time() - start)
            line = f"n = {size}, {rewired:.0%} rewired: "
            if rewired < 1:
                values = per_layer(dag, truth, found.labels, adjusted_rand_score)
                line += f"ARI {np.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"
                if curve:
                    values = per_layer(dag, truth, by_curve(dag, 0), adjusted_rand_score)
                    line += f", M(k) {np.mean(values):.3f}"
            else:
                line += f"{int(found.labels.max()) + 1} clusters in {dag.n_layers} layers"
            print(f"{line}; {seconds[rewired][-1]:.1f} s, {memory():.2f} GB, capped: {found.capped}", flush=True)
    for rewired, times in seconds.items():
        if len(times) > 1:
            slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
            print(f"{rewired:.0%} rewired: time grows as n^{slope:.2f}")


def million() -> None:
    """Linkage of a layer of a million units."""
    layer_tree(planted([4000] * 3, 125, fan_out=3, rewired=0.02, seed=0)[0], 0, hops=2)
    times, sizes = [], (3_000, 10_000, 100_000, 1_000_000)
    for size in sizes:
        dag, _ = planted([size] * 3, size // 32, fan_out=3, rewired=0.02, seed=0)
        start = time.process_time()
        grown = layer_tree(dag, 0, hops=2, direction="outwards")
        times.append(time.process_time() - start)
        print(f"n = {size}: {times[-1]:.2f} s, {memory():.2f} GB, capped: {grown.capped}", flush=True)
    slope = math.log(times[-1] / times[1]) / math.log(sizes[-1] / sizes[1])
    print(f"time grows as n^{slope:.2f} from {sizes[1]} to {sizes[-1]}")


def growth(sizes: list[int], *, with_igraph: bool) -> None:
    """Ten layers, 64-unit modules, fan-out 10, 2 % rewired; then the exponent of time in the edges."""
    detect_modules(planted([500] * 3, 8, fan_out=10, rewired=0.02, seed=0)[0], hops=2)
    times, edges = [], []
    for size in sizes:
        dag, truth = planted([size // 10] * 10, size // 640, fan_out=10, rewired=0.02, seed=0)
        start, alone, clock = time.process_time(), time.thread_time(), time.perf_counter()
        found = detect_modules(dag, hops=2)
        times.append(time.process_time() - start)
        alone, clock = time.thread_time() - alone, time.perf_counter() - clock
        edges.append(dag.n_edges)
        values = per_layer(dag, truth, found.cluster_labels, adjusted_rand_score)
        print(
            f"{dag.n_units} units, {dag.n_edges} edges: ARI {np.mean(values):.3f}, {times[-1]:.1f} s of processor "
            f"({alone:.1f} s outside of threads), {clock:.1f} s in all, {memory():.2f} GB",
            flush=True,
        )
        if with_igraph:
            igraph = importlib.import_module("igraph")
            start = time.process_time()
            graph = igraph.Graph(n=dag.n_units, edges=dag.edges)
            built = time.process_time() - start
            graph.community_leiden(objective_function="modularity", n_iterations=1)
            print(f"igraph: built in {built:.1f} s, one pass {time.process_time() - start - built:.1f} s", flush=True)
    if len(times) > 1:
        print(f"time grows as edges^{np.polyfit(np.log(edges), np.log(times), 1)[0]:.2f}")


def identity(size: int = 1_000_000) -> None:
    """Two layers, each unit joined to one of the other."""
    units = np.arange(size // 2)
    dag = LayeredDAG.from_edges(np.column_stack([units, units + size // 2]), layer=np.repeat([0, 1], size // 2))
    start = time.process_time()
    found = detect_modules(dag)
    print(f"{dag.n_units} units: {found.n_modules} modules, {time.process_time() - start:.1f} s, {memory():.2f} GB")


def rooms(size: int = 500) -> None:
    """Read, count paths, measure influence and judge a network of a million weights, 5 % of them kept."""
    plain, _ = planted([size] * 5, 10, fan_out=25, rewired=0.02, seed=0)
    weights = np.random.default_rng(0).normal(size=plain.n_edges)
    dag = dataclasses.replace(plain, weights=read_only(weights))

    def measure(what: str, function: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = function()
        print(f"{what}: {time.process_time() - start:.1f} s, {memory():.2f} GB", flush=True)
        return result

    print(dag)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        measure("writing", lambda: save_network(dag, path))
        measure("reading", lambda: load_network(path))
    measure("path counts", lambda: paths(dag))
    measure("influence of the inputs", lambda: influence(dag, 0))
    found = measure("modules", lambda: detect_modules(plain))
    measure("significance", lambda: significance(found))


def memory() -> float:
    """Return the largest resident size so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=["families", "large", "million", "growth", "identity", "rooms"], nargs="?", default="families"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[3_000, 30_000, 100_000])
    parser.add_argument("--rewired", type=float, nargs="+", default=[0.02, 0.1, 0.2, 1.0])
    parser.add_argument("--igraph", action="store_true", help="measure one pass of igraph's Leiden as well")
    parser.add_argument("--curve", action="store_true", help="measure M(k) as well")
    arguments = parser.parse_args()
    if arguments.what == "families":
        families()
    elif arguments.what == "large":
        large(arguments.sizes, arguments.rewired, curve=arguments.curve)
    elif arguments.what == "growth":
        growth(arguments.sizes, with_igraph=arguments.igraph)
    else:
        {"million": million, "identity": identity, "rooms": rooms}[arguments.what]()


if __name__ == "__main__":
    main()
