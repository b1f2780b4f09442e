import numpy as np
import pytest

from modgraph import LayeredDAG, significance
from modgraph.arrays import BoolArray, IntArray
from modgraph.cluster.description import description_length
from modgraph.compare import compare_clusterings
from modgraph.planted import planted_modules


def test_one_entry_for_each_method() -> None:
    dag, _ = planted_modules([40, 40, 40, 6], n_modules=(4, 4, 4, 2), rewired=0.1, random_state=0)
    found = compare_clusterings(dag, methods=["linkage", "published"], hops=2)
    assert found.methods == ("linkage", "published")
    assert len(found.clusters) == len(found.n_modules) == len(found.bits) == len(found.seconds) == 2
    assert all(len(counts) == 3 for counts in found.clusters)
    assert found.n_modules == tuple(one.n_modules for one in found.found)
    assert (found.ami == found.ami.T).all()
    assert (np.diag(found.ami) == 1).all()
    trimmed = dag.trim()
    for bits, hierarchy in zip(found.bits, found.found, strict=True):
        assert bits <= description_length(trimmed, hierarchy.cluster_labels[trimmed.unit_index])
    assert str(found).startswith("method")
    assert len(str(found).splitlines()) == 3


def test_table_for_pandas() -> None:
    pytest.importorskip("pandas")
    dag, _ = planted_modules([12, 12, 4], n_modules=2, random_state=0)
    table = compare_clusterings(dag, methods=["linkage", "published"]).to_pandas()
    assert table.index.tolist() == ["linkage", "published"]
    evidence = ["p_value", "effect_size", "sure"]
    assert table.columns.tolist() == [
        "clusters", "n_modules", "bits", *evidence, "ami_linkage", "ami_published", "seconds"
    ]  # fmt: skip


def test_unknown_methods_get_one_sentence() -> None:
    with pytest.raises(ValueError, match="`clustering` must be one of"):
        compare_clusterings(LayeredDAG.from_masks([[[1, 1]]]), methods=["magic"])


def test_a_callable_goes_by_its_name() -> None:
    def all_together(rows: BoolArray) -> IntArray:
        return np.zeros(len(rows), dtype=np.int64)

    dag, _ = planted_modules([12, 12, 4], n_modules=2, random_state=0)
    found = compare_clusterings(dag, methods=["linkage", all_together])
    assert found.methods[0] == "linkage"
    assert found.methods[1].endswith("all_together")
    assert found.clusters[1] == (1, 1)


def test_evidence_is_a_bound_at_first_and_full_on_request() -> None:
    def halves(rows: BoolArray) -> IntArray:
        return (np.arange(len(rows)) >= len(rows) // 2).astype(np.int64)

    dag, _ = planted_modules([24, 24], n_modules=2, fan_out=5, rewired=0.05, random_state=0)
    bound = compare_clusterings(dag, methods=["linkage"])
    assert bound.evidence[0].p_value == significance(bound.found[0], n_null=0).p_value < 0.01
    assert np.isnan(bound.sure[0])
    assert "p ≤ " in str(bound)
    assert "sure" not in str(bound)
    full = compare_clusterings(dag, methods=["linkage", halves], n_null=19, n_resamples=4)
    one = significance(full.found[0], n_null=19, n_resamples=4)
    assert full.evidence[0].to_dict() == one.to_dict()
    confident = [module.id for module in one.modules if module.confidence >= 0.9]
    assert full.sure[0] == np.isin(full.found[0].labels, confident).sum() / (full.found[0].labels >= 0).sum()
    assert [one.p_value for one in full.evidence] == [0.05, 0.05]
    assert "p = 0.05" in str(full)
    assert str(full).splitlines()[0].split()[4:7] == ["evidence", "effect", "sure"]
