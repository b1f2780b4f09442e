"""Target functions: a function graph is a directed acyclic graph of Boolean sub-functions.

A *reference* names values: an input (``"x0"``), a sub-function (``"P"``; all its bits where it has several) or one
bit of a sub-function (``"H.1"``, counted from 0). An output unit shows one bit, negated with ``"~"`` in front.
"""

from modgraph.functions.catalogue import published, published_names
from modgraph.functions.decompose import decompose
from modgraph.functions.generate import random
from modgraph.functions.graph import ExpectedModule, FunctionGraph
from modgraph.functions.subfunction import SubFunction

__all__ = ["ExpectedModule", "FunctionGraph", "SubFunction", "decompose", "published", "published_names", "random"]
