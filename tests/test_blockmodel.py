import importlib.util

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from modgraph import LayeredDAG
from modgraph.cluster.blockmodel import blockmodel, nested_blocks
from modgraph.planted import planted_modules

HAS_GRAPH_TOOL = importlib.util.find_spec("graph_tool") is not None
# In CI these run in a second environment, made from Debian's Python and its python3-graph-tool (see .ci/run).
needs_graph_tool = [
    pytest.mark.graph_tool,
    pytest.mark.skipif(not HAS_GRAPH_TOOL, reason="graph-tool is not installed"),
    pytest.mark.filterwarnings("default"),  # graph-tool's own
]


class TestWithGraphTool:
    pytestmark = needs_graph_tool

    def test_planted_modules_are_found(self) -> None:
        dag, labels = planted_modules([80] * 4, n_modules=4, rewired=0.1, random_state=0)
        trimmed = dag.trim()
        truth = labels[trimmed.unit_index]
        found = nested_blocks(trimmed, random_state=0)
        assert found.bits_per_edge > 0.5
        assert found.bits < found.trivial_bits
        for level in range(4):
            part = trimmed.layer == level
            assert adjusted_mutual_info_score(truth[part], found.labels[part]) > 0.8
        for blocks in found.levels[:1]:
            assert len(np.unique(blocks)) == len({*zip(blocks.tolist(), trimmed.layer.tolist(), strict=True)})
        clusters = blockmodel(trimmed, hops=2, rng=np.random.default_rng(0))
        assert len(np.unique(clusters[trimmed.layer == 3])) == trimmed.layer_sizes[3]

    def test_rewired_networks_are_not_modular(self) -> None:
        dag = planted_modules([80] * 4, n_modules=4, rewired=1, random_state=0)[0].trim()
        found = nested_blocks(dag, random_state=0)
        assert len(np.unique(found.labels)) == 4
        assert abs(found.bits_per_edge) < 0.05

    def test_the_same_seed_finds_the_same(self) -> None:
        dag = planted_modules([40] * 3, n_modules=2, rewired=0.2, random_state=0)[0].trim()
        one, two = (nested_blocks(dag, random_state=3).labels for _ in range(2))
        assert (one == two).all()


@pytest.mark.skipif(HAS_GRAPH_TOOL, reason="graph-tool is installed")
def test_a_missing_graph_tool_gets_one_sentence() -> None:
    dag = LayeredDAG.from_masks([[[1, 1]]])
    with pytest.raises(ImportError, match="apt install python3-graph-tool"):
        nested_blocks(dag)
