"""What a reader of files is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from modgraph.dag import LayeredDAG
from modgraph.io.tensor import Tensors

Masks = str | os.PathLike[str] | Sequence[ArrayLike] | Mapping[str, ArrayLike]

NEEDS_TRUST = "reading it would run code that it holds: only if you trust it, `trust_pickle=True` (`--trust-pickle`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The arguments of `load_network`, checked; masks are tensors by name."""

    path: Path
    threshold: float = 0.0
    masks: Tensors | None = None
    block: str | Sequence[str] | None = None
    trust_pickle: bool = False

    def without_small(self, dag: LayeredDAG) -> LayeredDAG:
        """Drop the edges of a graph whose weights count as pruned."""
        if self.threshold == 0:
            return dag
        if dag.weights is None:
            raise ValueError("`threshold` needs weights, and the file has none")
        return dag.keep_edges(np.abs(dag.weights) > self.threshold)

    def readable(
        self, names: Iterable[str], read: Callable[[str], LayeredDAG]
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the parts of a model that can be read and have a hidden layer, with the sizes of their layers."""
        for name in names:
            try:
                dag = read(name)
            except ValueError:
                continue
            if dag.n_layers > 2:
                yield name, dag.layer_sizes

    def refuse_masks(self) -> None:
        """Say that this kind of file needs no masks."""
        if self.masks is not None:
            raise ValueError("`masks` are for files of weights: .npz, .safetensors and state dicts")

    def refuse_masks_and_block(self) -> None:
        """Say that this kind of file needs no masks and has no blocks."""
        self.refuse_masks()
        if self.block is not None:
            raise ValueError("`block` is for state dicts, .safetensors, ONNX and torch models")
