import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgraph.planted import planted_modules


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 99))
def test_every_unit_has_its_edges_and_they_keep_to_modules(
    n_modules: int, fan_out: int, rewired: float, seed: int
) -> None:
    dag, labels = planted_modules([9, 7, 12], n_modules=n_modules, fan_out=fan_out, rewired=rewired, random_state=seed)
    assert dag.layer_sizes == (9, 7, 12)
    degree = np.bincount(dag.sources, minlength=dag.n_units)
    for level in (0, 1):
        following = labels[dag.layer == level + 1]
        room = np.bincount(following)[labels[dag.layer == level]]
        wanted = np.minimum(fan_out, room)
        if rewired == 0:
            assert (degree[dag.layer == level] == wanted).all()
        else:
            assert (degree[dag.layer == level] <= wanted).all()
    if rewired == 0:
        assert (labels[dag.sources] == labels[dag.targets]).all()


def test_edges_keep_to_the_larger_modules_where_their_number_changes() -> None:
    dag, labels = planted_modules([64, 64, 64], n_modules=(8, 4, 8), random_state=0)
    middle = dag.layer[dag.targets] == 1
    assert (labels[dag.sources][middle] // 2 == labels[dag.targets][middle]).all()
    assert (labels[dag.sources][~middle] == labels[dag.targets][~middle] // 2).all()


def test_targets_are_drawn_uniformly() -> None:
    dag, _ = planted_modules([30_000, 6], n_modules=1, fan_out=3, random_state=1)
    share = np.bincount(dag.targets)[-6:] / dag.n_edges
    assert share == pytest.approx(1 / 6, abs=0.004)


def test_rewiring_moves_the_share_of_edges_that_was_asked_for() -> None:
    dag, labels = planted_modules([4000, 4000], n_modules=100, rewired=0.3, random_state=0)
    outside = (labels[dag.sources] != labels[dag.targets]).mean()
    assert outside == pytest.approx(0.3 * 0.99, abs=0.015)


def test_the_same_seed_draws_the_same_graph() -> None:
    one, two = (planted_modules([20, 20], n_modules=2, rewired=0.5, random_state=seed)[0].edges for seed in (3, 3))
    assert (one == two).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_sizes": [4], "n_modules": 2}, "`layer_sizes` must be two or more"),
        ({"layer_sizes": [4, 4], "n_modules": 5}, "`n_modules` must be from 1 to the size"),
        ({"layer_sizes": [6, 6], "n_modules": (2, 3)}, "`n_modules` of adjacent layers must divide"),
        ({"layer_sizes": [4, 4], "n_modules": 2, "fan_out": 0}, r"`fan_out` must be an int ≥ 1 \(got 0\)"),
        ({"layer_sizes": [4, 4], "n_modules": 2, "rewired": 2}, r"`rewired` must be a number in \[0, 1\] \(got 2\)"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planted_modules(**arguments)  # type: ignore[arg-type]
