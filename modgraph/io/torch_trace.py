"""Which part of a torch module to read, and its trace."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import fx


def part_of(model: torch.nn.Module, block: str | Sequence[str] | None) -> tuple[torch.nn.Module, str]:
    """Find the module that `block` names, and what comes before the names inside it."""
    import torch

    modules = dict(model.named_modules())
    names = [] if block is None else [block] if isinstance(block, str) else list(block)
    for name in names:
        if name not in modules:
            some = ", ".join(repr(known) for known in list(modules)[1:7])
            raise ValueError(f"`block` must be the name of a part of the model (got {name!r}; there is {some}, …)")
    part, prefix = model, ""
    if len(names) > 1 or (block is not None and not isinstance(block, str)):
        chain = torch.nn.Sequential()
        for at, name in enumerate(names):
            chain.add_module(f"{at}", modules[name])
        return chain, "block "
    if names:
        part, prefix = modules[names[0]], f"{names[0]}."
    if is_leaf(part):
        part, prefix = torch.nn.Sequential(part), f"{names[0]} " if names else ""
    return part, prefix


def is_leaf(module: torch.nn.Module) -> bool:
    """Whether a module computes what torch wrote, not a forward of its own."""
    import torch

    containers = torch.nn.Sequential | torch.nn.ModuleList | torch.nn.ModuleDict
    where = getattr(type(module).forward, "__module__", "")
    return where.startswith(("torch.nn.", "torch.ao.")) and not isinstance(module, containers)


@contextmanager
def unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Put back what tracing may set on the modules."""
    saved = []
    for module in model.modules():
        own = dict(vars(module))
        saved.append((module, own, [(held, dict(held)) for held in own.values() if isinstance(held, dict)]))
    try:
        yield
    finally:
        for module, own, dicts in saved:
            for held, before in dicts:
                if held.keys() != before.keys() or any(held[key] is not before[key] for key in before):
                    held.clear()
                    held.update(before)
            vars(module).clear()
            vars(module).update(own)


def trace(module: torch.nn.Module) -> fx.Graph:
    """Trace a module; arguments with defaults keep them."""
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 (fx's name)
            return is_leaf(m)

    fixed = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not parameter.empty
    }
    try:
        return Tracer().trace(module, concrete_args=fixed or None)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"`model` must be traceable with torch.fx: {reason[:200]} (name a part that is with `block`)"
        ) from error


def read_size(node: fx.Node, modules: dict[str, torch.nn.Module]) -> int | None:
    """Find the size of an input: what the weight layers that read it expect."""
    from torch import nn

    seen, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop(0).users:
            module = modules.get(str(user.target)) if user.op == "call_module" else None
            if isinstance(module, nn.Linear):
                return module.in_features or None  # 0: lazy, not initialised yet
            if isinstance(module, nn.modules.conv._ConvNd):
                return module.in_channels
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                return module.num_features
            if isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
                return int(module.normalized_shape[0])
            alone = len(user.all_input_nodes) == 1
            through = module is None or is_leaf(module)
            shape = user.op == "call_function" and getattr(user.target, "__name__", "") == "getattr"
            if alone and through and not shape and user.target not in ("size", "dim") and user not in seen:
                seen.add(user)
                waiting.append(user)
    return None
