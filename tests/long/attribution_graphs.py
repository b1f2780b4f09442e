"""Attribution graphs: agreement with the groups that people drew, settings fixed on the other graphs.

Usage: python -m tests.long.attribution_graphs [FOLDER]

FOLDER holds attribution graphs with groups (``qParams.supernodes``); by default ``../shared/attribution_graphs``.
Scored are the nodes that people put in a group (a node in several counts in the first), by the adjusted Rand index;
graphs with fewer than 8 such nodes, or with one group, don't count. Node texts are not read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from modgraph import LayeredDAG, detect_modules, load_network
from modgraph.arrays import FloatArray, IntArray
from modgraph.cluster import attributed

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "attribution_graphs"

GRID = list(
    itertools.product(((0.25, 0.5, 1.0), (0.5,)), ((0.25, 0.5),), ((1.6, 2.0, 2.4), (1.2, 2.0, 3.0)), (1.7, 2.0, 2.3))
)
"""Position bonuses, layer bonuses, cuts, resolution."""

CHOSEN = (attributed.POSITION_BONUSES, attributed.LAYER_BONUSES, attributed.CUTS, attributed.RESOLUTION)


def drawn_groups(path: Path, dag: LayeredDAG) -> tuple[IntArray, IntArray]:
    """Return the units that people put in a group, and the first group of each."""
    document = json.loads(path.read_text("utf-8"))
    nodes = document["nodes"]
    groups = [group[1:] for group in document["qParams"].get("supernodes", [])]
    named = {name for group in groups for name in group}
    key = max(("node_id", "jsNodeId"), key=lambda key: len(named & {node[key] for node in nodes}))
    node_id = {node[key]: node["node_id"] for node in nodes}
    assert dag.unit_names is not None
    unit = {name: at for at, name in enumerate(dag.unit_names.tolist())}
    first: dict[int, int] = {}
    for number, group in enumerate(groups):
        for name in group:
            if name in node_id:
                first.setdefault(unit[node_id[name]], number)
    return np.array(list(first), dtype=np.int64), np.array(list(first.values()), dtype=np.int64)


def agreement(labels: IntArray, units: IntArray, groups: IntArray) -> float:
    """Adjusted Rand index; a unit without a label is alone."""
    found = np.where(labels < 0, -1 - np.arange(len(labels)), labels)
    return float(adjusted_rand_score(groups, found[units]))


def edge_profiles(dag: LayeredDAG, threshold: float) -> IntArray:
    """Complete linkage of cosines of weights to and from every unit, the simplest clustering of edges."""
    weights = np.zeros((dag.n_units, dag.n_units))
    weights[dag.sources, dag.targets] = dag.weights
    both = np.hstack([weights, weights.T])
    length = np.linalg.norm(both, axis=1, keepdims=True)
    both = both / np.where(length > 0, length, 1)
    distance = np.clip(1 - both @ both.T, 0, None)
    tree = linkage(distance[np.triu_indices(dag.n_units, 1)], "complete")
    labels: IntArray = fcluster(tree, threshold, "distance").astype(np.int64)
    return labels


def leave_one_out(scores: FloatArray) -> FloatArray:
    """Score each graph (column) with the setting (row) that is best on the others."""
    others = scores.sum(axis=1, keepdims=True) - scores
    left_out: FloatArray = scores[others.argmax(axis=0), np.arange(scores.shape[1])]
    return left_out


def main() -> int:
    """Print the table; return 1 where the mean falls below what is promised."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    names, rows, seconds = [], [], []
    grid: list[list[float]] = []
    edges: list[list[float]] = []
    thresholds = np.arange(0.4, 1.3, 0.1).tolist()
    for path in sorted(folder.glob("*.json")):
        dag = load_network(path)
        units, groups = drawn_groups(path, dag)
        if len(units) < 8 or len(set(groups.tolist())) < 2:
            continue
        start = time.perf_counter()
        found = detect_modules(dag)
        seconds.append(time.perf_counter() - start)
        names.append(path.stem)
        assert dag.positions is not None
        rows.append([agreement(found.labels, units, groups), agreement(dag.positions, units, groups)])
        edges.append([agreement(edge_profiles(dag, limit), units, groups) for limit in thresholds])
        grid.append([])
        for position, layer, cuts, resolution in GRID:
            labels = attributed.attributed_modules(
                dag, position_bonuses=position, layer_bonuses=layer, cuts=cuts, resolution=resolution
            )
            grid[-1].append(agreement(labels, units, groups))
        print(f"{path.stem}: {rows[-1][0]:.3f}", file=sys.stderr, flush=True)
    if not names:
        print(f"no graph with groups in {folder}")
        return 1
    tried = np.array(grid).T
    left_out = leave_one_out(tried)
    profiles = leave_one_out(np.array(edges).T)
    print(f"{'graph':44s} {'modgraph':>8s} {'left out':>8s} {'position':>8s} {'edges':>8s} {'seconds':>8s}")
    table = np.column_stack([np.array(rows)[:, 0], left_out, np.array(rows)[:, 1], profiles, seconds])
    for name, values in [*zip(names, table, strict=True), ("mean", table.mean(axis=0))]:
        print(f"{name:44s} " + " ".join(f"{value:8.3f}" for value in values))
    means = tried.mean(axis=1)
    print(
        f"modgraph: the default settings. left out: those of {len(GRID)} that are best on the other graphs.\n"
        "position: one group a token position.\n"
        "edges: cosine of weights, complete linkage, cut fixed on the other graphs.\n"
        f"all {len(GRID)} settings: mean {means.mean():.3f}, from {means.min():.3f} to {means.max():.3f}; "
        f"the default is {means[GRID.index(CHOSEN)]:.3f}"
    )
    return int(table[:, 0].mean() < 0.45)


if __name__ == "__main__":
    sys.exit(main())
