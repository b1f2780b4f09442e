"""Files in: what a file is, is decided by what it holds; nothing in it is run without consent."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.io.attribution import is_attribution_graph, read_attribution
from modgraph.io.chain import Masks, is_numbered, named, numbered
from modgraph.io.matrix import check_threshold
from modgraph.io.tensor import Tensor, checked_members, from_array, from_torch, read_npz, read_safetensors

FORMATS = (
    ".npz, .safetensors, .pt and .pth (state dicts), .onnx, .keras and .h5, .skops, hierarchies and attribution graphs as .json, "
    "and with trust .pkl, .joblib and whole torch models"
)
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_NESTED = ("state_dict", "model_state_dict", "model")
_TRUST = "reading it would run code that it holds: only if you trust it, `trust_pickle=True` (`--trust-pickle`)"


def load_network(
    path: str | os.PathLike[str],
    *,
    threshold: float = 0.0,
    masks: Masks | None = None,
    trust_pickle: bool = False,
    block: str | Sequence[str] | None = None,
) -> LayeredDAG:
    """Read a network from a file.

    What a file is, is decided by its content; the suffix only where that doesn't tell. The formats, and what is kept of
    each, are listed in the documentation (File formats): ``.npz``, ``.safetensors``, ``.pt`` and ``.pth`` (state
    dicts), ``.onnx``, ``.keras`` and ``.h5``, ``.skops``, hierarchies and attribution graphs as ``.json``; ``.pkl``, ``.joblib`` and
    whole torch models only with `trust_pickle`.

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
        For state dicts, ``.safetensors`` and whole torch models: the part to read, by its name (``"layers.3.mlp"``),
        or its layers by name, in order.

    Returns
    -------
    LayeredDAG
        With weights, biases and activations where the file has them, and names.

    Raises
    ------
    ValueError
        If the file is none of these, is broken, or holds a layer that isn't supported; or an argument is wrong.
    OSError
        If the file can't be opened.
    ImportError
        If the library for its format is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/net.npz", weight0=[[1.0, 0.0], [0.5, 2.0]], weight1=[[1.0, 1.0]])
    ...     load_network(f"{folder}/net.npz")
    LayeredDAG([2, 2, 1], 5 edges, density 0.833)
    """
    limit = check_threshold(threshold)
    file = Path(path)
    ask = _Ask(path=file, threshold=limit, masks=masks, block=block, trust=bool(trust_pickle))
    kind = _kind(file)
    try:
        return _READERS[kind](ask)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise  # of `masks`
    except ImportError as error:
        if "pip install" in str(error):
            raise
        raise _broken(file, kind, error) from error
    except MemoryError as error:
        raise ValueError(f"`path` needs more memory than there is (got {os.fspath(path)!r}, {kind})") from error
    except Exception as error:  # whatever the libraries say about a broken file is one kind of error here
        raise _broken(file, kind, error) from error


def _broken(path: Path, kind: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:500] if isinstance(error, ValueError | OSError) else type(error).__name__
    return ValueError(f"`path` can't be read as {kind} (got {str(path)!r}): {reason or type(error).__name__}")


def _kind(path: Path) -> str:
    """Tell what a file is."""
    with path.open("rb") as file:
        head = file.read(64)
    suffix = path.suffix.lower()
    kind = ""
    if head.startswith(b"PK\x03\x04"):
        kind = _zip_kind(path)
    elif head.startswith(b"\x89HDF\r\n\x1a\n"):
        kind = "a Keras file"
    elif head.startswith(_TORCH_LEGACY):
        kind = "a torch file"
    elif head[:2] in _PICKLES or (head and suffix in (".joblib", ".pkl", ".pickle")):
        kind = "a pickle"
    elif len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        kind = "a safetensors file"
    elif head.lstrip()[:1] == b"{" and suffix in (".json", ""):
        kind = "an attribution graph" if is_attribution_graph(path) else "a hierarchy"
    elif suffix == ".onnx" and head:
        kind = "an ONNX file"
    if not kind:
        what = "is empty" if not head else "is of another kind"
        raise ValueError(f"`path` must be a network in one of the formats {FORMATS} ({str(path)!r} {what})")
    return kind


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:
        raise ValueError(f"`path` must be a whole zip archive (got {str(path)!r})") from error
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        script = any("/code/" in name or name.endswith("/constants.pkl") for name in names)
        return "TorchScript" if script else "a torch file"
    if "schema.json" in names:
        return "a skops file"
    if "config.json" in names or "model.weights.h5" in names:
        return "a Keras file"
    return "a .npz file" if names and all(name.endswith(".npy") for name in names) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What `load_network` was asked for."""

    path: Path
    threshold: float
    masks: Masks | None
    block: str | Sequence[str] | None
    trust: bool


# --- One reader a kind ------------------------------------------------------------------------------------------------


def _npz(ask: _Ask) -> LayeredDAG:
    return _tensors(read_npz(ask.path), ask, ordered=True)


def _safetensors(ask: _Ask) -> LayeredDAG:
    return _tensors(read_safetensors(ask.path), ask, ordered=False)


def _tensors(tensors: dict[str, Tensor], ask: _Ask, *, ordered: bool) -> LayeredDAG:
    if ask.block is None and (is_numbered(list(tensors)) or not any("." in name for name in tensors)):
        return numbered(tensors, masks=_masks(ask.masks), threshold=ask.threshold)
    return named(tensors, block=ask.block, masks=_masks(ask.masks), threshold=ask.threshold, ordered=ordered)


def _torch(ask: _Ask) -> LayeredDAG:
    state = _torch_content(ask.path, trust=ask.trust)
    if not isinstance(state, Mapping):
        from modgraph.io.torch_module import from_module

        _no_masks(ask.masks)
        return from_module(state, block=ask.block, threshold=ask.threshold)
    return _tensors(_state(state), ask, ordered=True)


def _torch_content(path: Path, *, trust: bool) -> Any:
    """Unpickle tensors only; anything else needs trust."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("reading torch files needs torch: pip install 'modgraph-nn[sculpt]'") from error
    import pickle
    import warnings

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in checked_members(archive):
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{member.filename!r} must be stored as torch does, not compressed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the file holds: this function's errors say it
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            if not trust:
                if "Unsupported" in str(error) or "WeightsUnpickler" in str(error) or "weights_only" in str(error):
                    raise ValueError(f"it holds more than tensors, and {_TRUST}") from error
                raise ValueError("it is broken") from error
        return torch.load(path, map_location="cpu", weights_only=False)


def _state(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Find the tensors in a state dict or a checkpoint that holds one."""
    import torch

    for key in _NESTED:
        if isinstance(content.get(key), Mapping) and not any(isinstance(v, torch.Tensor) for v in content.values()):
            content = content[key]
            break
    odd = [key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, torch.Tensor)]
    if odd or not content:
        what = f"got {odd[0]!r}: {type(content[odd[0]]).__name__}" if odd else "it is empty"
        raise ValueError(f"it must be a state dict, names and tensors, by itself or as {_NESTED} ({what})")
    return {key: from_torch(key, value) for key, value in content.items()}


def _script(*_: Any) -> LayeredDAG:
    raise ValueError("TorchScript is not supported: save the state dict, or give the live model to `from_module`")


def _pickle(ask: _Ask) -> LayeredDAG:
    if not ask.trust:
        raise ValueError(f"it is a pickle, and {_TRUST}")
    import joblib

    content = joblib.load(ask.path)
    if type(content).__module__.startswith("sklearn."):
        from modgraph.io.estimator import from_estimator

        _no_masks(ask.masks)
        return from_estimator(content, threshold=ask.threshold)
    if isinstance(content, Mapping):
        arrays = {str(name): from_array(np.asarray(array)) for name, array in content.items()}
        return _tensors(arrays, ask, ordered=True)
    if isinstance(content, Sequence):
        arrays = {f"weight{at}": from_array(np.asarray(array)) for at, array in enumerate(content)}
        return _tensors(arrays, ask, ordered=True)
    from modgraph.io.torch_module import from_module

    _no_masks(ask.masks)
    return from_module(content, block=ask.block, threshold=ask.threshold)


def _skops(ask: _Ask) -> LayeredDAG:
    from modgraph.io.estimator import read_skops

    _no_masks(ask.masks, ask.block)
    return read_skops(ask.path, threshold=ask.threshold, trust=ask.trust)


def _onnx(ask: _Ask) -> LayeredDAG:
    from modgraph.io.onnx_graph import read_onnx

    _no_masks(ask.masks, ask.block)
    return read_onnx(ask.path, threshold=ask.threshold)


def _keras(ask: _Ask) -> LayeredDAG:
    from modgraph.io.keras_file import read_keras

    _no_masks(ask.masks, ask.block)
    return read_keras(ask.path, threshold=ask.threshold)


def _hierarchy(ask: _Ask) -> LayeredDAG:
    from modgraph.io.hierarchy import load_hierarchy

    _no_masks(ask.masks, ask.block)
    dag = load_hierarchy(ask.path).dag
    if ask.threshold == 0:
        return dag
    if dag.weights is None:
        raise ValueError("`threshold` needs weights, and the file has none")
    return dag.keep_edges(np.abs(dag.weights) > ask.threshold)


def _attribution(ask: _Ask) -> LayeredDAG:
    _no_masks(ask.masks, ask.block)
    return read_attribution(ask.path, threshold=ask.threshold)


def _no_masks(masks: Masks | None, block: Any = None) -> None:
    if masks is not None:
        raise ValueError("`masks` are for files of weights: .npz, .safetensors and state dicts")
    if block is not None:
        raise ValueError("`block` is for state dicts, .safetensors and torch models")


_READERS: dict[str, Callable[[_Ask], LayeredDAG]] = {
    "a .npz file": _npz,
    "a safetensors file": _safetensors,
    "a torch file": _torch,
    "TorchScript": _script,
    "a pickle": _pickle,
    "a skops file": _skops,
    "an ONNX file": _onnx,
    "a Keras file": _keras,
    "a hierarchy": _hierarchy,
    "an attribution graph": _attribution,
}


def _masks(masks: Masks | None) -> dict[str, Tensor] | None:
    """Turn masks, however given, into tensors by name."""
    if masks is None:
        return None
    if isinstance(masks, Mapping):
        return {name: from_array(np.asarray(mask)) for name, mask in masks.items()}
    if not isinstance(masks, str | os.PathLike):
        arrays: Sequence[ArrayLike] = masks
        return {f"mask{at}": from_array(np.asarray(mask)) for at, mask in enumerate(arrays)}
    path = Path(masks)
    kind = _kind(path)
    if kind == "a .npz file":
        return read_npz(path)
    if kind == "a safetensors file":
        return read_safetensors(path)
    if kind == "a torch file":
        return _state(_torch_content(path, trust=False))
    raise ValueError(f"`masks` must be a .npz, .safetensors or .pt file (got {os.fspath(masks)!r}, {kind})")


def save_network(dag: LayeredDAG, path: str | os.PathLike[str]) -> None:
    """Write a network as ``.npz``: ``mask0``, ``weight0``, ``bias0``, … in (out, in) order, and what has names.

    Parameters
    ----------
    dag : LayeredDAG
        No edge may skip a layer, and no layer be empty.
    path : path-like
        Ends in ``.npz``.

    Raises
    ------
    ValueError
        If it can't be written so.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz (got {os.fspath(path)!r})")
    if dag.skips_layers or 0 in dag.layer_sizes:
        raise ValueError("`dag` must have units in every layer and no edge that skips one, to be saved as .npz")
    sizes, starts = dag.layer_sizes, dag.layer_starts
    if max(a * b for a, b in itertools.pairwise(sizes)) > 1 << 30:
        raise ValueError(f"`dag` must have smaller layers, to be saved dense (got {sizes})")
    arrays: dict[str, Any] = {}
    for at in range(dag.n_layers - 1):
        edges = np.flatnonzero(dag.layer[dag.sources] == at)
        places = dag.targets[edges] - starts[at + 1], dag.sources[edges] - starts[at]
        arrays[f"mask{at}"] = np.zeros((sizes[at + 1], sizes[at]), dtype=np.bool_)
        arrays[f"mask{at}"][places] = True
        if dag.weights is not None:
            arrays[f"weight{at}"] = np.zeros((sizes[at + 1], sizes[at]))
            arrays[f"weight{at}"][places] = dag.weights[edges]
        if dag.biases is not None:
            arrays[f"bias{at}"] = dag.biases[starts[at + 1] : starts[at + 2]]
    for name in ("activations", "unit_names", "layer_names"):
        if getattr(dag, name) is not None:
            arrays[name] = np.asarray(getattr(dag, name))
    with replacing(target) as part:
        np.savez_compressed(part, **arrays)
