"""A plain oracle of the description length: the formula of `modgraph.cluster.description`, by loops over clusters."""

import itertools
import math

import numpy as np

from modgraph import LayeredDAG
from modgraph.arrays import FloatArray, IntArray
from modgraph.cluster.degrees import degree_model


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def expected_edges(edges: IntArray) -> FloatArray:
    model = degree_model(edges.sum(axis=1), edges.sum(axis=0))
    by_unit: FloatArray = model.rate[model.class_one][:, model.class_two] * np.outer(model.one, model.two)
    return by_unit


def surprise(places: int, edges: int, mean: float, density: float) -> float:
    chance = min(max(mean / places, 1e-12), 1 - 1e-6)
    density = min(density, 1 - 1e-6)
    by_degree = -edges * math.log(chance) - (places - edges) * math.log(1 - chance)
    return by_degree + mean / density * math.log(1 - density) + edges * math.log(density / (1 - density))


def plain_length(dag: LayeredDAG, labels: IntArray) -> float:
    """The module's formula, written down plainly, with every set of linked pairs tried; in bits."""
    total = 0.0
    for level in range(dag.n_layers):
        sizes = np.unique(labels[dag.layer == level], return_counts=True)[1].tolist()
        n = sum(sizes)
        total += math.log(n) + log_choose(n - 1, len(sizes) - 1) + math.lgamma(n + 1)
        total -= sum(math.lgamma(size + 1) for size in sizes)
    for a, b in itertools.combinations(range(dag.n_layers), 2):
        between = (dag.layer[dag.sources] == a) & (dag.layer[dag.targets] == b)
        n_edges = int(between.sum())
        if n_edges == 0:
            continue
        one, two = (dag.layer == level for level in (a, b))
        edges = np.zeros((one.sum(), two.sum()), dtype=int)
        edges[dag.sources[between] - one.argmax(), dag.targets[between] - two.argmax()] = 1
        by_degree = expected_edges(edges)
        density = edges.mean()
        cells = []
        for r, s in itertools.product(np.unique(labels[one]), np.unique(labels[two])):
            cell = np.ix_(labels[one] == r, labels[two] == s)
            cells.append((edges[cell].size, int(edges[cell].sum()), float(by_degree[cell].sum())))
        filled = [cell for cell in cells if cell[1]]
        lengths = []
        for count in range(len(filled) + 1):
            for linked in itertools.combinations(filled, count):
                length = log_choose(len(cells), count)
                for size, e, mean in linked:
                    length += math.log(min(size, n_edges)) + log_choose(size, e) - surprise(size, e, mean, density)
                rest_edges = n_edges - sum(e for _, e, _ in linked)
                rest_places = max(edges.size - sum(mean / density for _, _, mean in linked), rest_edges)
                lengths.append(length + log_choose(math.floor(rest_places + 1e-6), rest_edges))
        total += math.log(1 + min(len(cells), n_edges)) + min(lengths)
    return total / math.log(2)
