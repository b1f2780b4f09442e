"""What a reader of files is, and what it is asked for."""

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
Blocks = Iterator[tuple[str, tuple[int, ...]]]
"""Parts of a model by name, and the sizes of their layers."""

NEEDS_TRUST = "reading it would run code that it holds: only if you trust it, `trust_pickle=True` (`--trust-pickle`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What shows of which format a file is."""

    path: Path
    start: bytes
    members: list[str]  # what is in it, if it is a zip archive

    @property
    def suffix(self) -> str:
        """The end of its name, in small letters."""
        return self.path.suffix.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A format."""

    name: str  # with its article, as errors say it
    matches: Callable[[File], bool]
    read: Callable[[Request], LayeredDAG]
    blocks: Callable[[Request], Blocks] = lambda _: iter(())
    tensors: Callable[[Path], Tensors] | None = None  # for files that may hold masks
    takes_masks: bool = False
    takes_block: bool = False


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


def readable(names: Iterable[str], read: Callable[[str], LayeredDAG]) -> Blocks:
    """Yield the parts of a model that can be read and have a hidden layer, with the sizes of their layers."""
    for name in names:
        try:
            dag = read(name)
        except ValueError:
            continue
        if dag.n_layers > 2:
            yield name, dag.layer_sizes
