"""Files in: a registry of readers. What a file is, its content decides; nothing in it is run without consent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from modgraph.dag import LayeredDAG
from modgraph.files import check_regular_file
from modgraph.io.array_files import MSGPACK, NNET, NPZ, SAFETENSORS
from modgraph.io.attribution import ATTRIBUTION
from modgraph.io.chain import from_arrays
from modgraph.io.estimator import SKOPS, from_estimator
from modgraph.io.graphs import GRAPH, from_igraph, from_networkx
from modgraph.io.hierarchy import HIERARCHY
from modgraph.io.keras_file import KERAS, from_keras
from modgraph.io.limits import budget, member_names
from modgraph.io.onnx_graph import ONNX
from modgraph.io.pickles import PICKLE, TORCH
from modgraph.io.request import File, Masks, Reader, Request
from modgraph.io.tensor import Tensors, check_threshold, from_array
from modgraph.io.torch_graph import PROGRAM, from_module

# In the order in which they are asked whether they know a file.
READERS = (NPZ, PROGRAM, TORCH, SKOPS, KERAS, PICKLE, SAFETENSORS, MSGPACK, HIERARCHY, ATTRIBUTION, ONNX, GRAPH, NNET)
_LIVE: dict[str, Callable[[Any], LayeredDAG]] = {
    "torch": from_module,
    "sklearn": from_estimator,
    "keras": from_keras,
    "networkx": from_networkx,
    "igraph": from_igraph,
}
_FORMATS = (
    ".npz, .safetensors, .pt and .pth (state dicts), .pt2, .onnx, .keras and .h5, .skops, .msgpack, .nnet, hierarchies "
    "and attribution graphs as .json, .graphml, .gexf, .gml, node-link .json and .csv (edges), and with trust .pkl, "
    ".joblib and whole torch models"
)
_TOO_MUCH = {RecursionError: "it is nested too deeply", MemoryError: "it needs more memory than there is"}
_START_BYTES = 4096  # of a file, which readers may look at to know it


def load_network(
    path: str | os.PathLike[str],
    *,
    threshold: float = 0.0,
    masks: Masks | None = None,
    trust_pickle: bool = False,
    block: str | Sequence[str] | None = None,
) -> LayeredDAG:
    """Read a network from a file.

    What a file is, its content decides, and the suffix only where that doesn't tell. The documentation (File formats)
    lists the formats and what is kept of each.

    Parameters
    ----------
    path : path-like
    threshold : float ≥ 0
        Weights of at most this magnitude count as pruned.
    masks : path-like, sequence of array_like or mapping of str to array_like, optional
        For files of weights without masks (``.npz``, ``.safetensors``, state dicts): nonzero = edge, (out, in). Files
        and mappings go by name (``fc1``, ``fc1.weight``, ``fc1.weight_mask``, ``mask0``), sequences by position.
    trust_pickle : bool
        Whether code in the file may run, as in unpickling. Without it, no file runs any.
    block : str or sequence of str, optional
        The part to read, by its name (``"layers.3.mlp"``), or its layers by name, in order; of ONNX, its first and last
        node or value. For state dicts, ``.safetensors``, ONNX and whole torch models; `list_blocks` lists parts.

    Returns
    -------
    LayeredDAG
        With weights, biases and activations where the file has them, and names. Its notes say what the file doesn't
        tell.

    Raises
    ------
    ValueError
        If the file is of no known format, is broken, would take more memory than a file of its size may, or holds a
        layer that isn't supported; or an argument is wrong.
    OSError
        If the file can't be opened.
    ImportError
        If the library for its format is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/net.npz", weight0=[[1.0, 0.0], [0.5, 2.0]], weight1=[[1.0, 1.0]])
    ...     load_network(f"{folder}/net.npz")
    LayeredDAG([2, 2, 1], 5 edges, density 0.833)
    """
    limit, file = check_threshold(threshold), Path(path)
    reader = reader_of(file)
    with reading(file, reader):
        request = Request(path=file, threshold=limit, masks=_masks(masks), block=block, trust_pickle=bool(trust_pickle))
        if request.masks is not None and not reader.takes_masks:
            raise ValueError("`masks` are for files of weights: .npz, .safetensors and state dicts")
        if block is not None and not reader.takes_block:
            raise ValueError("`block` is for state dicts, .safetensors, ONNX and torch models")
        return reader.read(request)


def read_any(thing: Any) -> LayeredDAG:
    """Build the graph of a file, a live model or arrays, by its type."""
    if isinstance(thing, str | os.PathLike):
        return load_network(thing)
    libraries = {kind.__module__.partition(".")[0] for kind in type(thing).__mro__}
    if isinstance(thing, Mapping | list | tuple) or (is_dataclass(thing) and "torch" not in libraries):
        return from_arrays(thing)
    for library, read in _LIVE.items():
        if library in libraries:
            return read(thing)
    raise ValueError(
        f"`dag` must be a LayeredDAG, a file, a live model or weight arrays (got {type(thing).__name__}): "
        "modgraph.io has readers for other things"
    )


def list_blocks(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> dict[str, tuple[int, ...]]:
    """List the parts of a large model that can be read by themselves.

    Parameters
    ----------
    path : path-like
        An ONNX file, a state dict, ``.safetensors``, or with trust a whole torch model; other files have no blocks.
    trust_pickle : bool
        As in `load_network`.

    Returns
    -------
    dict of str to tuple of int
        What `load_network` takes as `block` (a name, or names with commas between), and the sizes of its layers. A
        part of a part that is listed isn't listed again.

    Raises
    ------
    ValueError, OSError, ImportError
        As in `load_network`.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> model = torch.nn.ModuleDict({"mlp": torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(model.state_dict(), f"{folder}/net.pt")
    ...     list_blocks(f"{folder}/net.pt")
    {'mlp': (4, 8, 4)}
    """
    file = Path(path)
    reader = reader_of(file)
    found: dict[str, tuple[int, ...]] = {}
    with reading(file, reader):
        for name, sizes in reader.blocks(Request(path=file, trust_pickle=trust_pickle)):
            if not any(name.startswith(f"{outer}.") for outer in found):
                found[name] = sizes
    return found


@contextmanager
def reading(file: Path, reader: Reader) -> Iterator[None]:
    """Limit the memory that a file takes, and turn whatever libraries say about a broken one into a ValueError."""
    with budget(file.stat().st_size):
        try:
            yield
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise  # of `masks`
        except Exception as error:  # whatever the libraries say about a broken file is one kind of error here
            if isinstance(error, ImportError) and "pip install" in str(error):
                raise
            kinds = [said for kind, said in _TOO_MUCH.items() if isinstance(error, kind)]
            known = isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError)
            reason = kinds[0] if kinds else " ".join(str(error).split())[:500] if known else ""
            raise ValueError(
                f"`path` can't be read as {reader.name} (got {str(file)!r}): {reason or type(error).__name__}"
            ) from error


def reader_of(path: Path) -> Reader:
    """Find the reader that knows a file."""
    check_regular_file(path)
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    members = member_names(path) if start.startswith(b"PK\x03\x04") else []
    for reader in READERS:
        if reader.matches(File(path=path, start=start, members=members)):
            return reader
    what = "is of another kind" if start else "is empty"
    raise ValueError(f"`path` must be a network in one of the formats {_FORMATS} ({str(path)!r} {what})")


def _masks(masks: Masks | None) -> Tensors | None:
    """Turn masks, however given, into tensors by name."""
    if masks is None:
        return None
    if isinstance(masks, Mapping):
        return {name: from_array(name, mask) for name, mask in masks.items()}
    if not isinstance(masks, str | os.PathLike):
        return {f"mask{at}": from_array(f"mask{at}", mask) for at, mask in enumerate(masks)}
    path = Path(masks)
    reader = reader_of(path)
    if reader.tensors is None:
        raise ValueError(f"`masks` must be a .npz, .safetensors or .pt file (got {os.fspath(masks)!r}, {reader.name})")
    return reader.tensors(path)
