"""Detection against a plain implementation that refits for every number of clusters (`tests/refit.py`).

Run with `make bench`; each test prints its ratio, measured within the one run.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.cluster import AgglomerativeClustering

from modgraph import detect_many, detect_modules
from modgraph.arrays import BoolArray
from modgraph.cluster import published_linkage, tied_linkage
from modgraph.compiled import PLAIN_UNITS, plain
from tests.networks import needs_published, published_dag, published_index
from tests.refit import modularity, refit_modules


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


@needs_published
@pytest.mark.parametrize("clustering", ["linkage", "published"])
def test_all_published_networks(benchmark: BenchmarkFixture, clustering: str) -> None:
    networks = [(published_dag(entry), entry["hops"]) for entry in published_index()]

    def detect() -> None:
        with plain(largest=PLAIN_UNITS):  # compiled, as after some seconds in any process
            for dag, hops in networks:
                detect_modules(dag, hops=hops, clustering=clustering)

    detect()  # load what is loaded on first use
    refit = seconds(lambda: [refit_modules(dag, hops=hops) for dag, hops in networks])
    benchmark.pedantic(detect, rounds=5)
    ours = min(seconds(detect) for _ in range(3))
    benchmark.extra_info["ratio"] = refit / ours
    print(
        f"\n832 networks, {clustering}: {ours:.2f} s, refit for every k {refit:.2f} s: {refit / ours:.1f} times faster"
    )


@needs_published
def test_all_published_networks_at_once(benchmark: BenchmarkFixture) -> None:
    networks = [published_dag(entry) for entry in published_index()]
    detect_many(networks)  # load what is loaded on first use
    refit = seconds(lambda: [refit_modules(dag, hops=dag.n_layers - 1) for dag in networks])
    benchmark.pedantic(detect_many, args=(networks,), rounds=5)
    ours = min(seconds(lambda: detect_many(networks)) for _ in range(3))
    benchmark.extra_info["ratio"] = refit / ours
    print(f"\n832 networks at once: {ours:.2f} s, refit for every k {refit:.2f} s: {refit / ours:.1f} times faster")


def planted_rows(n: int, size: int = 32) -> BoolArray:
    """Rows of n units in modules of 32, with a little reach beyond them."""
    rng = np.random.default_rng(0)
    module = np.arange(n) // size
    rows: BoolArray = (module[:, None] == module) & (rng.random((n, n)) < 0.3) | (rng.random((n, n)) < 0.002)
    rows[np.arange(n), np.arange(n)] = True
    return rows


@pytest.mark.parametrize("method", [tied_linkage, published_linkage])
def test_two_thousand_units(benchmark: BenchmarkFixture, method: Callable[[BoolArray], object]) -> None:
    rows = planted_rows(2000)
    method(planted_rows(64))  # load what is loaded on first use
    tried = (50, 1000)

    def refit(k: int) -> float:
        model = AgglomerativeClustering(n_clusters=k, metric="cosine", linkage="average")
        return modularity(rows, model.fit_predict(rows.astype(np.float64)))

    some = seconds(lambda: [refit(k) for k in tried])
    whole = some / len(tried) * (len(rows) - 2)
    benchmark.pedantic(method, args=(rows,), rounds=3)
    ours = min(seconds(lambda: method(rows)) for _ in range(3))
    benchmark.extra_info["ratio"] = whole / ours
    print(
        f"\n2,000 units, {method.__name__}: {ours:.2f} s, refit {whole:.0f} s (k = {tried}): {whole / ours:,.0f} times"
    )
