from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigvalsh

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, hourglass_significance, paths, significance, stability
from modgraph.arrays import BoolArray, IntArray
from modgraph.cluster import tied_linkage
from modgraph.cluster.description import cluster_bits
from modgraph.evidence import largest_eigenvalue
from modgraph.null import swap_edges
from modgraph.planted import planted_modules
from modgraph.sequential import CLEAR, ENOUGH_EXCEEDING, FIRST_LOOK, MOST_NULL, how_many
from modgraph.stability import _compared
from tests.long.evidence import is_significant
from tests.strategies import dags, permuted

MODULAR = planted_modules([24, 24], n_modules=2, fan_out=5, rewired=0.05, random_state=0)[0]
NOISE = planted_modules([12, 12, 12], n_modules=1, fan_out=3, random_state=1)[0]
SMALL = planted_modules([6, 6, 6], n_modules=2, fan_out=2, random_state=0)[0]


def test_planted_modules_are_significant_and_noise_is_not() -> None:
    modular, noise = (significance(dag, n_null=19, n_resamples=0) for dag in (MODULAR, NOISE))
    assert modular.p_value == 0.05
    assert modular.effect_size > 5
    assert modular.statistic > modular.null.max()
    assert noise.p_value > 0.05
    assert all(module.p_value > 0.05 for module in noise.modules)
    assert {module.p_value for module in modular.modules} == {0.05}


@pytest.mark.slow
def test_modules_of_which_half_the_edges_are_rewired_are_significant() -> None:
    dag = planted_modules([48, 48, 48], n_modules=3, fan_out=5, rewired=0.5, random_state=0)[0]
    found = significance(dag, n_null=19, n_resamples=0)
    assert found.p_value == 0.05
    assert found.statistic == pytest.approx(largest_eigenvalue(dag.trim()))
    assert found.effect_size > 2


@pytest.mark.parametrize("seed", range(8))
def test_the_measurement_that_ends_early_decides_as_significance_does(seed: int) -> None:
    dag = planted_modules([12, 12, 12], n_modules=2, fan_out=3, rewired=0.4, random_state=seed)[0]

    def undivided(network: LayeredDAG) -> ModuleHierarchy:
        return detect_modules(network, clustering=lambda rows: np.zeros(len(rows), dtype=np.int64))

    p_value = significance(dag, n_null=19, n_resamples=0, random_state=seed, detect=undivided).p_value
    assert is_significant(dag, 19, seed) == (p_value <= 0.05)


def by_definition(dag: LayeredDAG) -> float:
    """The largest eigenvalue, from loops and a dense matrix."""
    edges = np.zeros((dag.n_units, dag.n_units))
    edges[dag.sources, dag.targets] = 1
    degrees = edges.sum(axis=0) + edges.sum(axis=1)
    for one in range(dag.n_layers):
        for two in range(one + 1, dag.n_layers):
            place = np.ix_(dag.layer == one, dag.layer == two)
            block = edges[place]
            if block.any():
                edges[place] -= np.outer(block.sum(axis=1), block.sum(axis=0)) / block.sum()
    scale = np.sqrt(degrees + degrees.mean())
    return float(eigvalsh((edges + edges.T) / np.outer(scale, scale))[-1])


@given(dag=dags(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_largest_eigenvalue_is_as_defined_and_free_of_the_order_of_units(dag: LayeredDAG, seed: int) -> None:
    value = largest_eigenvalue(dag)
    assert 0 <= value < 1
    if dag.n_edges:
        assert value == pytest.approx(max(0.0, by_definition(dag)), abs=1e-9)
    assert value == pytest.approx(largest_eigenvalue(permuted(dag, np.random.default_rng(seed))[0]), abs=1e-9)


def test_the_eigenvalue_of_many_units_is_that_of_the_dense_matrix() -> None:
    dag = planted_modules([150] * 3, n_modules=2, rewired=0.5, random_state=0)[0]
    other = permuted(dag, np.random.default_rng(1))[0]
    assert largest_eigenvalue(dag) == pytest.approx(by_definition(dag), abs=1e-9)
    assert largest_eigenvalue(other) == pytest.approx(by_definition(dag), abs=1e-9)


def test_the_eigenvalue_is_significant_in_noise_as_often_as_the_level_says() -> None:
    ranks = []
    for seed in range(200):
        dag = planted_modules([16, 16, 16], n_modules=1, fan_out=3, rewired=1, random_state=seed)[0].trim()
        null = [largest_eigenvalue(swap_edges(dag, random_state=20 * seed + number)) for number in range(4)]
        ranks.append(1 + sum(value >= largest_eigenvalue(dag) for value in null))
    # p = 1/5 in a fifth of them, within 3 standard errors.
    assert np.mean(np.array(ranks) == 1) == pytest.approx(0.2, abs=0.085)


def bow_tie(shift: int) -> LayeredDAG:
    """Four units that read half of the inputs, and four that half of the outputs read, are joined if `shift` is 0."""
    reads = np.zeros((20, 60), dtype=np.bool_)
    for unit in range(20):
        reads[unit, (7 * unit + np.arange(30 if unit < 4 else 2)) % 60] = True
    return LayeredDAG.from_masks([reads, np.roll(np.eye(20), shift, axis=0), reads.T])


def test_an_hourglass_counts_where_edges_make_it_and_not_where_degrees_do() -> None:
    joined, apart = (hourglass_significance(bow_tie(shift), n_null=99) for shift in (0, 10))
    assert joined.p_value <= 0.05 < apart.p_value
    assert joined.statistic == paths(bow_tie(0)).hourglass > np.median(joined.null)
    assert len(joined.null) == 99
    assert "modules" not in joined.summary()
    assert hourglass_significance(bow_tie(0), n_null=9).null.tolist() == joined.null[:9].tolist()
    waist = LayeredDAG.from_masks([np.ones((4, 20)), np.ones((20, 4))])
    assert hourglass_significance(waist).p_value == 1.0
    with pytest.raises(ValueError, match="`n_null` must be an int ≥ 1"):
        hourglass_significance(waist, n_null=0)


def test_the_hourglass_of_noise_is_significant_as_often_as_the_level_says() -> None:
    p_values = []
    for seed in range(200):
        dag = planted_modules([16, 16, 16], n_modules=1, fan_out=3, rewired=1, random_state=seed)[0]
        p_values.append(hourglass_significance(dag, n_null=4, random_state=seed).p_value)
    # At most a fifth, for ties count against it, plus 3 standard errors.
    assert np.mean(np.array(p_values) <= 0.2) < 0.2 + 0.085


def test_p_counts_the_network_itself_and_ties() -> None:
    single = LayeredDAG.from_masks([np.ones((4, 4)), np.ones((2, 4))])  # the only network with these degrees
    found = significance(single, n_null=7, n_resamples=0)
    assert found.p_value == 1.0
    assert found.effect_size == 0.0


def test_the_bound_without_null_networks() -> None:
    modular, noise = (significance(dag, n_null=0) for dag in (MODULAR, NOISE))
    assert modular.p_value == pytest.approx(2.0**-modular.statistic)
    assert modular.statistic > 5
    assert noise.p_value == 1.0
    assert np.isnan(modular.modules[0].confidence)
    assert "by chance with p ≤" in modular.summary()
    assert "none beyond what degrees explain" in noise.summary()
    assert modular.to_dict()["modules"][0] == {"id": 0, "p_value": None, "confidence": None}


def test_clear_cases_end_early() -> None:
    rng = np.random.default_rng(0)
    null = rng.normal(size=MOST_NULL)
    assert how_many(CLEAR + 3, null[: FIRST_LOOK - 1], None) is None
    assert how_many(CLEAR + 3, null[:FIRST_LOOK], None) == FIRST_LOOK
    assert how_many(0.0, null, None) == int(np.flatnonzero(null >= 0)[ENOUGH_EXCEEDING - 1]) + 1
    assert how_many(2.0, null[:100], None) is None
    assert how_many(2.5, null, None) == MOST_NULL
    assert how_many(0.0, null[:50], 50) == 50
    assert significance(MODULAR, n_resamples=0).n_null == FIRST_LOOK
    complete = LayeredDAG.from_masks([np.ones((4, 4)), np.ones((2, 4))])
    assert significance(complete, n_resamples=0).n_null == ENOUGH_EXCEEDING


def test_sequential_p_values_are_valid() -> None:
    rng = np.random.default_rng(1)
    small = 0
    for _ in range(400):
        observed, null = rng.normal(), rng.normal(size=MOST_NULL)
        n = how_many(observed, null, None)
        count = int((null[:n] >= observed).sum())
        p = count / n if count >= ENOUGH_EXCEEDING else (1 + count) / (1 + n)  # type: ignore[operator]
        small += p <= 0.05
    assert small / 400 == pytest.approx(0.05, abs=0.033)


def test_the_seed_decides_and_the_number_of_jobs_does_not() -> None:
    one, two, other = (
        significance(SMALL, n_null=6, n_resamples=3, random_state=seed, n_jobs=jobs)
        for seed, jobs in ((3, 1), (3, 2), (4, 1))
    )
    assert one.null.tolist() == two.null.tolist()
    assert [module.confidence for module in one.modules] == [module.confidence for module in two.modules]
    assert one.null.tolist() != other.null.tolist()


def test_work_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole = significance(SMALL, n_null=6, n_resamples=0)
    done: list[tuple[int, int]] = []

    def interrupt(count: int, most: int) -> None:
        done.append((count, most))
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        significance(SMALL, n_null=6, n_resamples=0, checkpoint=tmp_path / "evidence.json", progress=interrupt)
    assert done == [(1, 6), (2, 6), (3, 6)]
    done.clear()
    rest = significance(
        SMALL, n_null=6, n_resamples=0, checkpoint=tmp_path / "evidence.json", progress=lambda *step: done.append(step)
    )
    assert done == [(4, 6), (5, 6), (6, 6)]
    assert rest.null.tolist() == whole.null.tolist()
    with pytest.raises(ValueError, match="`checkpoint` must be evidence on the same network"):
        significance(SMALL, n_null=6, random_state=1, checkpoint=tmp_path / "evidence.json")


def test_every_null_network_goes_through_the_same_detection() -> None:
    seen = []

    def rule(rows: BoolArray) -> IntArray:
        seen.append(len(rows))
        return tied_linkage(rows)

    found = detect_modules(SMALL, clustering=rule)
    with pytest.raises(ValueError, match="`detect` must be given for a clustering of your own"):
        significance(found, n_null=2)
    seen.clear()
    significance(found, n_null=3, n_resamples=2, detect=lambda dag: detect_modules(dag, clustering=rule))
    assert len(seen) >= 5 * 2
    leiden = significance(detect_modules(SMALL, clustering="leiden"), n_null=3, n_resamples=2)
    assert leiden.n_null == 3


def test_influence_is_compared_with_shuffled_weights() -> None:
    rng = np.random.default_rng(0)
    halves = np.kron(np.eye(2), np.ones((8, 8)))
    weights = [rng.normal(size=(16, 16)) * (halves + 0.02) for _ in range(2)]
    dag = LayeredDAG.from_masks(weights, weights=weights)
    found = significance(detect_modules(dag, features="influence"), n_null=4, n_resamples=2)
    assert found.kind == "shuffled weights"
    assert found.statistic > found.null.max()
    assert len(found.modules) == 2


def test_perfect_modules_are_stable_and_those_of_noise_are_not() -> None:
    dag = planted_modules([24, 24, 24], n_modules=3, fan_out=6, random_state=0)[0]
    found = stability(dag, n_resamples=8)
    assert (found.module_confidence > 0.6).all()
    assert np.nanmin(found.unit_confidence) > 0.4
    hierarchy = detect_modules(dag)
    assert found.consensus[hierarchy.labels < 0].tolist() == [-1] * int((hierarchy.labels < 0).sum())
    assert (found.consensus == hierarchy.labels).mean() > 0.9
    noise = stability(SMALL, dropped=0.3, n_resamples=8)
    assert np.nanmean(noise.unit_confidence) < np.nanmean(found.unit_confidence)


def test_overlaps_are_those_of_a_hand_made_example() -> None:
    labels = np.array([0, 0, 0, 1, 1, -1])
    same, moved = labels.copy(), np.array([0, 0, 1, 1, 1, -1])
    found = _compared(labels, [same, moved])
    assert found.module_confidence.tolist() == pytest.approx([(1 + 2 / 3) / 2] * 2)
    assert found.unit_confidence[:5].tolist() == pytest.approx([5 / 6, 5 / 6, (1 + 1 / 5) / 2, 5 / 6, 5 / 6], abs=0.01)
    assert found.consensus.tolist() == labels.tolist()
    assert found.agreement.tolist() == [1.0, 0.8]
    assert _compared(labels, [moved, moved, moved]).consensus.tolist() == moved.tolist()


def test_cluster_bits_are_zero_where_degrees_explain_everything() -> None:
    dag, labels = planted_modules([24, 24], n_modules=2, fan_out=4, random_state=0)
    assert cluster_bits(dag, np.zeros(48, dtype=int)) == pytest.approx(0, abs=1e-3)
    assert cluster_bits(dag, labels).min() > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_null": -1}, "`n_null` must be an int ≥ 0"),
        ({"n_resamples": 1.5}, "`n_resamples` must be an int ≥ 0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        significance(SMALL, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`dropped` must be a number"):
        stability(SMALL, dropped=0)
    with pytest.raises(ValueError, match="`found_or_dag` must be a ModuleHierarchy or a LayeredDAG"):
        significance("pruned.npz", n_null=1)  # type: ignore[arg-type]
