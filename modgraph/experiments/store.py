"""A store of sweep results: one SQLite file, one transaction for each finished chunk."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import BoolArray, IntArray, read_only
from modgraph.dag import LayeredDAG
from modgraph.modules import ModuleHierarchy

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    trial TEXT PRIMARY KEY,         -- all settings of the trial, see Trial.key
    sizes TEXT NOT NULL             -- units of every layer, inputs and outputs included
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS candidates (
    trial TEXT NOT NULL REFERENCES trials,
    unit_step REAL NOT NULL,
    edge_step REAL NOT NULL,
    edges INTEGER NOT NULL,
    accuracy REAL NOT NULL,
    accepted INTEGER NOT NULL,
    masks BLOB NOT NULL,            -- packed bits, layer by layer, (out, in) order
    labels BLOB NOT NULL,           -- int16, the module of every unit
    weights BLOB NOT NULL,          -- float16, of the kept edges in the order of the masks
    biases BLOB NOT NULL,           -- float16, of the units with an edge from below, layer by layer
    PRIMARY KEY (trial, unit_step, edge_step)
) WITHOUT ROWID;
"""
_FACTS: Final = ("unit_step", "edge_step", "edges", "accuracy", "accepted")
_COLUMNS: Final = {
    "trials": ["trial", "sizes"],
    "candidates": ["trial", *_FACTS, "masks", "labels", "weights", "biases"],
}
"""The columns of each table of `_SCHEMA`."""

_LARGEST: Final = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredNetwork:
    """One candidate of a trial, as kept in the store.

    Attributes
    ----------
    unit_step, edge_step : float
        Its pruning setting, percent.
    edges : int
        Edges kept.
    accuracy : float
        Share of right output bits, 0…1.
    accepted : bool
        Whether that reaches the threshold.
    sizes : tuple of int
        Units of every layer before pruning.
    masks : tuple of ndarray of bool
        (out, in), read-only.
    labels : ndarray of int
        The module of each unit with the default clustering; −1 where trimming removed it.
    weights, biases : tuple of ndarray of float32
        (out, in) and (out,), rounded to float16 in the store, read-only; exactly 0 where pruned.
    """

    unit_step: float
    edge_step: float
    edges: int
    accuracy: float
    accepted: bool
    sizes: tuple[int, ...]
    masks: tuple[NDArray[np.bool_], ...]
    labels: IntArray
    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    @property
    def dag(self) -> LayeredDAG:
        """The network as a layered graph."""
        activations = ["relu"] * (len(self.masks) - 1) + ["sigmoid"]
        return LayeredDAG.from_masks(self.masks, weights=self.weights, biases=self.biases, activations=activations)

    @property
    def hierarchy(self) -> ModuleHierarchy:
        """The modules found in it (its clusters before merging are not stored)."""
        return ModuleHierarchy(dag=self.dag, labels=self.labels, cluster_labels=self.labels)


class Store:
    """A SQLite file of finished trials; it stays valid if the process is killed at any moment.

    Parameters
    ----------
    path : path-like
        Created if it doesn't exist.

    Raises
    ------
    ValueError
        If the file exists and is not such a store; the file is left as it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self._connection() as connection:
            if connection.execute("SELECT name FROM sqlite_master").fetchone() is None:
                connection.executescript(_SCHEMA)
            for table, names in _COLUMNS.items():
                if [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] != names:
                    raise sqlite3.DatabaseError(table)

    def finished(self) -> set[str]:
        """Return the keys of all stored trials."""
        with self._connection() as connection:
            return {key for (key,) in connection.execute("SELECT trial FROM trials")}

    def add(self, chunk: dict[str, list[StoredNetwork]]) -> None:
        """Add the trials of one finished `chunk`, the candidates of each by its key: all or none."""
        with self._connection() as connection:
            for key, networks in chunk.items():
                sizes = " ".join(map(str, networks[0].sizes))
                connection.execute("INSERT OR REPLACE INTO trials VALUES (?, ?)", (key, sizes))
                rows = [(key, *_row(network)) for network in networks]
                connection.executemany("INSERT OR REPLACE INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def candidates(self, key: str) -> list[StoredNetwork]:
        """Return every network of the trial with this `key` (see `Trial.key`), larger steps first.

        Raises
        ------
        KeyError
            If the trial isn't stored.
        """
        with self._connection() as connection:
            found = connection.execute("SELECT sizes FROM trials WHERE trial = ?", (key,)).fetchone()
            if found is None:
                raise KeyError(key)
            sizes = tuple(map(int, found[0].split()))
            query = "SELECT * FROM candidates WHERE trial = ? ORDER BY unit_step DESC, edge_step DESC"
            return [_network(sizes, *row) for _, *row in connection.execute(query, (key,))]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that is committed as a whole, or not at all."""
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                yield connection
        except sqlite3.OperationalError as error:  # locked, full disk, a folder instead of a file
            raise OSError(f"the store {str(self.path)!r} can't be used: {error}") from None
        except sqlite3.DatabaseError:
            raise ValueError(f"{str(self.path)!r} is no store of results that this version of modgraph wrote") from None


def pack_masks(masks: Sequence[NDArray[np.bool_]]) -> bytes:
    """Pack masks into bits, layer by layer."""
    return np.packbits(_flat(masks)).tobytes()


def unpack_masks(packed: bytes, sizes: tuple[int, ...]) -> tuple[NDArray[np.bool_], ...]:
    """Undo `pack_masks` for a network with the given layer sizes."""
    shapes = list(itertools.pairwise(sizes))
    count = sum(n_in * n_out for n_in, n_out in shapes)
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count).astype(np.bool_)
    return _layers(bits, [(n_out, n_in) for n_in, n_out in shapes])


def _row(network: StoredNetwork) -> tuple[object, ...]:
    """Return the columns of a candidate after its trial."""
    facts = [getattr(network, name) for name in _FACTS]
    labels = network.labels.astype(np.int16).tobytes()
    weights, biases = _pack_kept(network.weights, network.masks), _pack_kept(network.biases, _fed(network.masks))
    return (*facts, pack_masks(network.masks), labels, weights, biases)


def _network(sizes: tuple[int, ...], *row: Any) -> StoredNetwork:
    """Undo `_row` for a network with the given layer sizes."""
    *facts, packed, labels, weights, biases = row
    known = dict(zip(_FACTS, facts, strict=True))
    masks = unpack_masks(packed, sizes)
    return StoredNetwork(
        **known | {"accepted": bool(known["accepted"])},
        sizes=sizes,
        masks=masks,
        labels=read_only(np.frombuffer(labels, dtype=np.int16).astype(np.int64)),
        weights=_unpack_kept(weights, masks),
        biases=_unpack_kept(biases, _fed(masks)),
    )


def _fed(masks: Iterable[NDArray[np.bool_]]) -> list[BoolArray]:
    """Return which units of each layer have an edge from below."""
    return [np.asarray(mask.any(axis=1)) for mask in masks]


def _pack_kept(values: Sequence[NDArray[np.float32]], kept: Sequence[NDArray[np.bool_]]) -> bytes:
    """Pack the values where `kept` is True as float16, layer by layer."""
    packed: bytes = _flat(values)[_flat(kept)].clip(-_LARGEST, _LARGEST).astype(np.float16).tobytes()
    return packed


def _unpack_kept(packed: bytes, kept: Sequence[NDArray[np.bool_]]) -> tuple[NDArray[np.float32], ...]:
    """Undo `_pack_kept`."""
    where = _flat(kept)
    values = np.zeros(where.size, dtype=np.float32)
    values[where] = np.frombuffer(packed, dtype=np.float16)
    return _layers(values, [layer.shape for layer in kept])


def _flat(layers: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([layer.ravel() for layer in layers])


def _layers(flat: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[NDArray[Any], ...]:
    """Undo `_flat`."""
    parts = np.split(flat, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
    return tuple(read_only(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True))
