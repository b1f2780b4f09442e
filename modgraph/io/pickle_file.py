"""Pickles, also those of joblib, which only trusted ones are read: reading one may run any code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modgraph.dag import LayeredDAG
from modgraph.io.chain import from_tensors
from modgraph.io.estimator import from_estimator
from modgraph.io.request import NEEDS_TRUST, Request
from modgraph.io.state import flattened
from modgraph.io.torch_module import from_module

NAME = "a pickle"
_STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5))


def matches(start: bytes, path: Path) -> bool:
    """Whether a file starts as pickles do, or is called like one (joblib may compress them)."""
    return start.startswith(_STARTS) or (bool(start) and path.suffix.lower() in (".joblib", ".pkl", ".pickle"))


def read(request: Request) -> LayeredDAG:
    """Build the graph of a scikit-learn or torch model, a mapping of arrays or a sequence of them."""
    if not request.trust_pickle:
        raise ValueError(f"it is a pickle, and {NEEDS_TRUST}")
    import joblib

    content = joblib.load(request.path)
    if isinstance(content, Mapping):
        return from_tensors(flattened({str(name): array for name, array in content.items()}), request, ordered=True)
    if isinstance(content, Sequence):
        arrays = {f"weight{at}": array for at, array in enumerate(content)}
        return from_tensors(flattened(arrays), request, ordered=True)
    request.refuse_masks()
    if type(content).__module__.startswith("sklearn."):
        return from_estimator(content, threshold=request.threshold)
    return from_module(content, block=request.block, threshold=request.threshold)
