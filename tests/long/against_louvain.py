"""Compare the modules of the published networks with their functions, beside those of general graph clustering.

General graph clustering is applied to the trimmed network as a directed graph: Louvain from networkx (directed
modularity), and Leiden on the multiplex of its layers of edges (`modgraph.cluster.leiden.leiden_partition`). Prints how
many networks meet each of the paper's criteria.

Usage: python -m tests.long.against_louvain [--smallest 10]
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from typing import Any

import networkx as nx
import numpy as np

from modgraph import LayeredDAG, ModuleHierarchy, criteria, detect_modules
from modgraph.arrays import IntArray, read_only
from modgraph.cluster import description, methods
from modgraph.cluster.leiden import leiden_partition
from modgraph.functions import published
from modgraph.io import to_networkx
from tests.networks import published_dag, published_index

CRITERIA = ("inputs", "hidden", "outputs", "exact")
METHODS = ("linkage", "published", "Louvain", "Leiden, multiplex")


def louvain(dag: LayeredDAG) -> IntArray:
    """Label the units of a network by networkx's Louvain; −1 where trimming removes the unit."""
    trimmed = dag.trim()
    labels: IntArray = np.full(dag.n_units, -1, dtype=np.int64)
    parts = nx.community.louvain_communities(to_networkx(trimmed), seed=0)
    for label, part in enumerate(sorted(parts, key=min)):
        labels[trimmed.unit_index[sorted(part)]] = label
    return read_only(labels)


def hierarchies(entry: dict[str, Any]) -> list[ModuleHierarchy]:
    """Find the modules of one network by every method, in the order of `METHODS`."""
    dag = published_dag(entry)
    ours = [detect_modules(dag, clustering=name, hops=entry["hops"]) for name in METHODS[:2]]
    others = [louvain(dag), leiden_partition(dag, random_state=0)]
    return [*ours, *(ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels) for labels in others)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smallest", type=int, default=description.SMALLEST_LAYER, help="see modgraph.cluster.description"
    )
    for room in (description, methods):
        vars(room)["SMALLEST_LAYER"] = parser.parse_args().smallest
    met: Counter[tuple[str, str, str]] = Counter()
    networks: Counter[str] = Counter()
    for entry in published_index():
        target = published(entry["function"])
        family = re.sub(r"_.*\d", "", entry["function"])
        for kind in (family, "all"):
            networks[kind] += 1
        for method, found in zip(METHODS, hierarchies(entry), strict=True):
            judged = criteria(found, target)
            for criterion in CRITERIA:
                for kind in (family, "all"):
                    met[kind, method, criterion] += getattr(judged, criterion)
    for kind, count in networks.items():
        if kind != "all":
            show(kind, count, met)
    show("all", networks["all"], met)


def show(kind: str, count: int, met: Counter[tuple[str, str, str]]) -> None:
    print(f"{kind}: {count} networks")
    for method in METHODS:
        print(f"  {method:18}", *(f"{name} {met[kind, method, name]:3}" for name in CRITERIA))


if __name__ == "__main__":
    main()
