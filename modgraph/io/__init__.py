"""Files and live models in, graphs out.

>>> from modgraph.io import from_arrays
>>> from_arrays([[[0.5, 0.0], [0.0, 2.0]], [[1.0, 1.0]]])
LayeredDAG([2, 2, 1], 4 edges, density 0.667)
"""

from modgraph.dag import READERS
from modgraph.io.attribution import save_supernodes
from modgraph.io.chain import from_arrays
from modgraph.io.estimator import from_estimator
from modgraph.io.export import (
    save_graph,
    save_network,
    to_igraph,
    to_networkx,
)
from modgraph.io.graphs import from_igraph, from_networkx
from modgraph.io.hierarchy import load_hierarchy, save_hierarchy
from modgraph.io.keras_file import from_keras
from modgraph.io.load import list_blocks, load_network, read_any
from modgraph.io.torch_graph import from_module

__all__ = [
    "from_arrays",
    "from_estimator",
    "from_igraph",
    "from_keras",
    "from_module",
    "from_networkx",
    "list_blocks",
    "load_hierarchy",
    "load_network",
    "save_graph",
    "save_hierarchy",
    "save_network",
    "save_supernodes",
    "to_igraph",
    "to_networkx",
]

READERS.append(read_any)
