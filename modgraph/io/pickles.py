"""Files that hold pickles: torch's state dicts and checkpoints, of which tensors alone are read; others need trust."""

from __future__ import annotations

import contextlib
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io import chain
from modgraph.io.estimator import from_estimator
from modgraph.io.limits import checked_members
from modgraph.io.request import NEEDS_TRUST, Blocks, Reader, Request, readable
from modgraph.io.state import flattened
from modgraph.io.tensor import Tensor, from_torch
from modgraph.io.torch_graph import from_module

_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5))
_PICKLE_SUFFIXES = (".joblib", ".pkl", ".pickle")
_NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the state dict


def _read(content: Any, request: Request) -> LayeredDAG:
    """Build the graph of what a file held: tensors by name, or a model."""
    if isinstance(content, Mapping):
        return chain.from_tensors(content, request, ordered=True)
    if request.masks is not None:
        raise ValueError("`masks` are for files of weights, and this one holds a model")
    if type(content).__module__.startswith("sklearn."):
        return from_estimator(content, threshold=request.threshold)
    return from_module(content, block=request.block, threshold=request.threshold)


# --- Pickles, also those of joblib: reading one may run any code ------------------------------------------------------


def _unpickled(request: Request) -> LayeredDAG:
    """Build the graph of a scikit-learn or torch model, a mapping of arrays or a sequence of them."""
    if not request.trust_pickle:
        raise ValueError(f"it is a pickle, and {NEEDS_TRUST}")
    import joblib

    content = joblib.load(request.path)
    if isinstance(content, Sequence):
        content = {f"weight{at}": array for at, array in enumerate(content)}
    if isinstance(content, Mapping):
        content = flattened({str(name): array for name, array in content.items()})
    return _read(content, request)


# --- torch ------------------------------------------------------------------------------------------------------------


def _torch_blocks(request: Request) -> Blocks:
    content = _content(request.path, trust_pickle=request.trust_pickle)
    if isinstance(content, Mapping):
        return chain.blocks(content, ordered=True)
    names = [name for name, _ in content.named_modules() if name]
    return readable(names, lambda name: from_module(content, block=name))


def _content(path: Path, *, trust_pickle: bool = False) -> Any:
    """Unpickle tensors, by name; anything else needs trust."""
    torch = require("torch", purpose="reading torch files", extra="sculpt")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = checked_members(archive)
        if any("/code/" in member.filename or member.filename.endswith("/constants.pkl") for member in members):
            raise ValueError("TorchScript is not supported: save the state dict, or give the model to `from_module`")
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise ValueError(f"{packed[0]!r} must be stored as torch does, not compressed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the file holds: the errors below say it
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            content = torch.load(path, map_location="cpu", weights_only=False) if trust_pickle else _checkpoint(path)
            if content is None:
                if any(word in str(error) for word in ("Unsupported", "WeightsUnpickler", "weights_only")):
                    raise ValueError(f"it holds more than tensors, and {NEEDS_TRUST}") from error
                raise ValueError("it is broken") from error
    return content if isinstance(content, torch.nn.Module) else _tensors(content)


class _Nothing:
    """Stands for every class and function that a checkpoint names beside its tensors: calling it runs nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:  # torch's unpickler fills mappings of this type
        """Return an empty mapping."""
        return OrderedDict()


def _checkpoint(path: Path) -> Mapping[str, Any] | None:
    """Read the state dict of a training checkpoint, whatever else it holds; None if there is none."""
    import torch

    serialization: Any = torch.serialization
    with contextlib.suppress(Exception):  # whatever torch says of another file; the caller says what is wrong
        unknown = serialization.get_unsafe_globals_in_checkpoint(path)
        with serialization.safe_globals([(_Nothing, name) for name in unknown]):
            state = dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
        # A parameter of an unknown class would have been lost without a word.
        if all(isinstance(value, torch.Tensor) for value in state.values()):
            return {"state_dict": state}
    return None


def _tensors(content: Any) -> dict[str, Tensor]:
    """Find the tensors in a state dict or a checkpoint that holds one."""
    import torch

    if not isinstance(content, Mapping):
        raise ValueError(f"it must be a state dict (got {type(content).__name__})")
    for key in _NESTED:
        if isinstance(content.get(key), Mapping) and not any(isinstance(v, torch.Tensor) for v in content.values()):
            content = content[key]
            break
    odd = [key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, torch.Tensor)]
    if odd or not content:
        what = f"got {odd[0]!r}: {type(content[odd[0]]).__name__}" if odd else "it is empty"
        raise ValueError(f"it must be a state dict, names and tensors, by itself or as {_NESTED} ({what})")
    return {key: from_torch(key, value) for key, value in content.items()}


PICKLE = Reader(
    name="a pickle",
    # joblib may compress them.
    matches=lambda file: file.start.startswith(_PICKLES) or (file.start != b"" and file.suffix in _PICKLE_SUFFIXES),
    read=_unpickled,
    takes_masks=True,
    takes_block=True,
)
TORCH = Reader(
    name="a torch file",
    matches=lambda file: file.start.startswith(_OLD_FORMAT) or any(f"/{m}".endswith("/data.pkl") for m in file.members),
    read=lambda request: _read(_content(request.path, trust_pickle=request.trust_pickle), request),
    blocks=_torch_blocks,
    tensors=_content,
    takes_masks=True,
    takes_block=True,
)
