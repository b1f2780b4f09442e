"""torch files: state dicts, checkpoints that hold one, and with trust whole models."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modgraph.checks import require
from modgraph.dag import LayeredDAG
from modgraph.io import chain
from modgraph.io.npz_file import checked_members, member_names
from modgraph.io.request import NEEDS_TRUST, Request
from modgraph.io.tensor import Tensor, from_torch
from modgraph.io.torch_module import from_module

NAME = "a torch file"
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the state dict


def matches(start: bytes, path: Path) -> bool:
    """Whether a zip archive holds a pickle as torch names it, or the file is of torch's older format."""
    names = member_names(path) if start.startswith(b"PK\x03\x04") else []
    return start.startswith(_OLD_FORMAT) or any(name == "data.pkl" or name.endswith("/data.pkl") for name in names)


def read(request: Request) -> LayeredDAG:
    """Build the graph of a state dict, or of a whole model if it is trusted."""
    state = _content(request.path, trust_pickle=request.trust_pickle)
    if isinstance(state, Mapping):
        return chain.from_tensors(_tensors(state), request, ordered=True)
    request.refuse_masks()
    return from_module(state, block=request.block, threshold=request.threshold)


def blocks(request: Request) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the parts that can be read by themselves."""
    content = _content(request.path, trust_pickle=request.trust_pickle)
    if isinstance(content, Mapping):
        yield from chain.blocks(_tensors(content), ordered=True)
        return
    names = [name for name, _ in content.named_modules() if name]
    yield from request.readable(names, lambda name: from_module(content, block=name))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict."""
    return _tensors(_content(path, trust_pickle=False))


def _content(path: Path, *, trust_pickle: bool) -> Any:
    """Unpickle tensors only; anything else needs trust."""
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
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            content = None if trust_pickle else _checkpoint(path)
            if content is not None:
                return content
            if not trust_pickle:
                if "Unsupported" in str(error) or "WeightsUnpickler" in str(error) or "weights_only" in str(error):
                    raise ValueError(f"it holds more than tensors, and {NEEDS_TRUST}") from error
                raise ValueError("it is broken") from error
        return torch.load(path, map_location="cpu", weights_only=False)


class _Nothing:
    """Stands for every class and function that a checkpoint names beside its tensors: calling it runs nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:  # torch's unpickler fills mappings of this type
        """Return an empty mapping."""
        return OrderedDict()


def _checkpoint(path: Path) -> Mapping[str, Any] | None:
    """Read the state dict of a training checkpoint, whatever else it holds; None if there is none."""
    import torch

    serialization: Any = torch.serialization
    try:
        unknown = serialization.get_unsafe_globals_in_checkpoint(path)
        with serialization.safe_globals([(_Nothing, name) for name in unknown]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        state = dict(content["state_dict"])
    except Exception:  # whatever torch says of a file that is no such checkpoint; the caller says what is wrong
        return None
    # A parameter of an unknown class would have been lost without a word.
    return {"state_dict": state} if all(isinstance(value, torch.Tensor) for value in state.values()) else None


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
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
