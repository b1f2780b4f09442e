import numpy as np
import pytest

from modgraph import LayeredDAG
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
    assert table.columns.tolist() == ["clusters", "n_modules", "bits", "ami_linkage", "ami_published", "seconds"]


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
