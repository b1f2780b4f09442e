"""The tensors of a model by their names: which belong to one layer, and the only order in which layers chain."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from modgraph.io.tensor import Tensor, Tensors, from_array

_PARAMETRIZED = re.compile(r"(.*?)\.?\bparametrizations\.(weight|bias)\.(.+)")
_KERNELS = ("kernel", "w")  # what Flax and Haiku call weights, which they store (…, in, out)
# What a layer may hold, by the last part of the name, and what that is.
_LEAVES = {
    "weight": "weight",
    "weight_orig": "weight",
    "kernel": "weight",
    "w": "weight",
    "weight_mask": "mask",
    "mask": "mask",
    "bias": "bias",
    "bias_orig": "bias",
    "b": "bias",
    "bias_mask": "bias_mask",
    **dict.fromkeys(("running_mean", "running_var", "num_batches_tracked", "mean", "var", "scale"), "statistics"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """A weight layer, (out, in) or (out, in, positions of the kernel …)."""

    name: str
    weight: Tensor | None
    mask: Tensor | None = None
    bias: Tensor | None = None
    bias_mask: Tensor | None = None
    lacks_mask: bool = False  # the file says that there was one

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its weights."""
        tensor = self.weight if self.weight is not None else self.mask
        return () if tensor is None else tensor.shape

    def reads(self, before: Link) -> bool:
        """Whether its inputs can be the outputs of `before`."""
        n_out, n_in = before.shape[0], self.shape[1]
        flattens = len(before.shape) > 2 and len(self.shape) == 2
        return n_in == n_out or (flattens and n_out > 0 and n_in % n_out == 0)


def flattened(nested: Any, *, prefix: str = "") -> dict[str, Tensor]:
    """Give the arrays in nested mappings, sequences and dataclasses (as Equinox has) names that join keys with dots."""
    if is_dataclass(nested):
        nested = {field.name: getattr(nested, field.name, None) for field in fields(nested)}
        nested = {key: value for key, value in nested.items() if _holds_arrays(value)}
    elif isinstance(nested, list | tuple):
        nested = {str(at): value for at, value in enumerate(nested) if _holds_arrays(value)}
    if isinstance(nested, Mapping):
        parts = [flattened(value, prefix=f"{prefix}.{key}" if prefix else str(key)) for key, value in nested.items()]
        return {name: tensor for part in parts for name, tensor in part.items()}
    return {prefix: from_array(prefix, nested)}


def _holds_arrays(value: Any) -> bool:
    """Whether a part of a model is an array, or may hold some: not a size, a function or a flag."""
    return is_dataclass(value) or isinstance(value, Mapping | list | tuple) or bool(getattr(value, "shape", ()))


def part_named(tensors: Tensors, block: str | Sequence[str] | None) -> Tensors:
    """Choose the tensors whose names begin with `block`, or with one of several."""
    if block is None:
        return tensors
    starts = tuple(f"{name}{end}" for name in ([block] if isinstance(block, str) else block) for end in "./")
    chosen = {key: tensor for key, tensor in tensors.items() if key.startswith(starts)}
    if not chosen:
        some = ", ".join(repr(key) for key in list(tensors)[:4])
        raise ValueError(f"`block` must be the name of a part of the model (got {block!r}; there is {some}, …)")
    return chosen


def links_of(tensors: Tensors) -> tuple[list[Link], list[str]]:
    """Sort tensors by layer; returns the layers, and notes about those that were left out."""
    modules: dict[str, dict[str, Tensor]] = {}
    parametrized: set[str] = set()
    for key, tensor in tensors.items():
        module, leaf = _split(key)
        found = _PARAMETRIZED.fullmatch(key)
        if found:  # "original" and, if it is saved, one mask
            module, leaf = found[1], f"{found[2]}_{'orig' if found[3] == 'original' else 'mask'}"
            parametrized.add(module)
            if leaf in modules.get(module, ()):
                raise _only_code(module)
        modules.setdefault(module, {})[leaf] = tensor
    links, left_out = [], []
    for module, leaves in modules.items():
        name, lacks_mask = module or "weight", False
        for kind in ("weight", "bias") if module in parametrized else ():
            original, mask = leaves.get(f"{kind}_orig"), leaves.get(f"{kind}_mask")
            lacks_mask |= original is not None and mask is None
            is_mask = original is not None and mask is not None and mask.shape == original.shape
            if mask is not None and not (is_mask and np.isin(mask.array(), (0, 1)).all()):
                raise _only_code(name)
        odd = sorted(leaf for leaf in leaves if leaf not in _LEAVES)
        if odd:
            where = f"{module}.{odd[0]}" if module else odd[0]
            raise ValueError(
                f"tensor {where!r} belongs to no supported layer: supported are weight (kernel, w), bias (b), "
                "weight_orig with weight_mask, mask, parametrizations with one mask, and BatchNorm"
            )
        found_parts = {_LEAVES[leaf]: tensor for leaf, tensor in leaves.items()}
        weight = found_parts.get("weight")
        if weight is None and any(len(tensor.shape) > 1 for tensor in leaves.values()):
            raise ValueError(f"layer {name!r} must have a weight")
        if weight is None or len(weight.shape) < 2:
            left_out.append(name)  # a normalisation, or PReLU
            continue
        if any(leaf in _KERNELS for leaf in leaves):  # (positions …, in, out)
            weight = from_array(weight.name, np.moveaxis(weight.array(), (-1, -2), (0, 1)))
        rest = {part: found_parts.get(part) for part in ("mask", "bias", "bias_mask")}
        links.append(Link(name=name, weight=weight, **rest, lacks_mask=lacks_mask))
    shown = ", ".join(map(repr, left_out[:6])) + (", …" if len(left_out) > 6 else "")
    note = f"Left out, because a file of weights doesn't say where they act: {shown} (BatchNorm, LayerNorm or PReLU)."
    return links, [note] if left_out else []


def _split(key: str) -> tuple[str, str]:
    """Split the name of a tensor into those of its layer and of what it is there."""
    module, _, leaf = key.replace("/", ".").rpartition(".")
    return module, leaf


def _only_code(name: str) -> ValueError:
    return ValueError(
        f"layer {name!r} has a parametrization that only its code can tell: give the live model to `from_module`"
    )


def with_masks(links: Sequence[Link], masks: Tensors | None) -> list[Link]:
    """Give links the masks of another file: by name, or by number."""
    if masks is None:
        return list(links)
    left = dict(masks)
    are_numbered = all(re.fullmatch(r"mask\d+", name) for name in masks)
    result = []
    for at, link in enumerate(links):
        number = re.fullmatch(r"(?:weight|mask)(\d+)", link.name)
        by_name = [link.name, *(f"{link.name}.{leaf}" for leaf in ("weight_mask", "mask", "weight"))]
        by_number = [f"mask{number[1]}"] if number else [f"mask{at}"] if are_numbered else []
        keys = [key for key in (*by_name, *by_number) if key in left]
        result.append(replace(link, mask=left.pop(keys[0])) if keys else link)
    if left:
        known = ", ".join(repr(link.name) for link in links[:6])
        raise ValueError(f"`masks` must be masks of {known} (got {next(iter(left))!r})")
    return result


# --- Their order ------------------------------------------------------------------------------------------------------

# Parts of names of layers that don't follow each other: attention, embeddings, recurrence, gates and shortcuts.
_NOT_IN_A_CHAIN = re.compile(
    r"attn|attention|embed|(?<![a-z])(w?[qkv]|qkv)(_proj|_lin|$|(?=\.))|\b(query|key|value|gate)"
    r"|lstm|gru|rnn|expert|shortcut|downsample|skip|resid",
    re.IGNORECASE,
)
# Names of layers that read the same values, where there are several of them.
_PARALLEL = re.compile(
    r"(?<![a-z])(heads?|branch(es)?|towers?|policy|critic|actor|mu|logvar)\d*(?![a-z])", re.IGNORECASE
)
# GPT-2's, (in, out) in some models and (out, in) in others.
_EITHER_WAY = {"c_fc", "c_proj"}
# What the two layers of a transformer's MLP are called, which have the same shapes the other way round.
_FIRST = {"up", "up_proj", "wi", "fc_in", "in", "intermediate", "dense_h_to_4h"}
_LAST = {"down", "down_proj", "w2", "wo", "fc_out", "out", "output", "dense_4h_to_h"}
# The three layers of a gated MLP, down(act(gate(x)) · up(x)), in Llama, its first release, and T5.
_GATED = ({"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}, {"wi_0", "wi_1", "wo"}, {"gate", "up", "down"})
_MOST_STEPS = 1_000_000  # in the search for an order


def arranged(links: Sequence[Link], *, ordered: bool) -> tuple[list[Link], bool]:
    """Put layers in the order in which they chain; returns whether they are gate, up and down of a gated MLP instead.

    The order is the one in which they come, if `ordered`; or the only one, with numbers going up. It is an error if
    names say that layers are no chain, or if none or several orders fit.
    """
    leaves = {_split(link.name)[1]: link for link in links}
    first, last = (next((leaves[leaf] for leaf in leaves if leaf in names), None) for names in (_FIRST, _LAST))
    if len(links) == 3 and set(leaves) in _GATED and last is not None:
        gate, up = (leaves[leaf] for leaf in sorted(leaves) if leaves[leaf] is not last)
        # w1, w2, w3 may be a chain elsewhere.
        is_one = "w1" not in leaves or re.search("feed_?forward|expert|mlp", links[0].name)
        if is_one and len(last.shape) == len(gate.shape) == 2 and gate.shape == up.shape and last.reads(gate):
            return [gate, up, last], True
    parallel = [link for link in links if _PARALLEL.search(link.name)]
    for link in links:
        if _NOT_IN_A_CHAIN.search(link.name) or (len(parallel) > 1 and link in parallel):
            raise ValueError(
                f"layer {link.name!r} is not part of a chain of weight layers: name one MLP with `block`, "
                "by its prefix or by the names of its layers in order"
            )
        if _split(link.name)[1] in _EITHER_WAY:
            raise ValueError(
                f"layer {link.name!r} may be stored (in, out), as GPT-2 does, or (out, in): give the live model to "
                "`from_module`"
            )
    # Where a layer has no matrix of weights, the caller says what is wrong with it.
    if any(len(link.shape) < 2 for link in links):
        return list(links), False
    if ordered and all(link.reads(before) for before, link in itertools.pairwise(links)):
        return list(links), False
    if len(links) == 2 and first is not None and last is not None and last.reads(first):
        return [first, last], False
    return _only_order(links), False


def _only_order(links: Sequence[Link]) -> list[Link]:
    """Search all orders in which layers chain and the numbers of each family of names go up."""
    families: dict[str, list[Link]] = {}
    for link in sorted(links, key=lambda link: _by_number(link.name)):
        families.setdefault(re.sub(r"_?\d+", "#", link.name).removesuffix("#"), []).append(link)
    rows = list(families.values())
    found: list[list[Link]] = []
    steps = 0
    stack: list[tuple[tuple[int, ...], list[Link]]] = [((0,) * len(rows), [])]
    while stack and len(found) < 2 and steps <= _MOST_STEPS:
        taken, path = stack.pop()
        steps += len(rows) + len(path) + 1
        if len(path) == len(links):
            found.append(path)
            continue
        for number, row in enumerate(rows):
            if taken[number] < len(row):
                link = row[taken[number]]
                if not path or link.reads(path[-1]):
                    stack.append(((*taken[:number], taken[number] + 1, *taken[number + 1 :]), [*path, link]))
    if len(found) != 1 or steps > _MOST_STEPS:
        listed = ", ".join(f"{link.name!r} {link.shape}" for link in links[:6])
        how = "no order" if not found and steps <= _MOST_STEPS else "more than one order"
        raise ValueError(
            f"layers must chain in one order, and {how} does: {listed}{', …' if len(links) > 6 else ''}; "
            "give the names of the layers in order as `block`, or the live model to `from_module`"
        )
    return found[0]


def _by_number(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d{1,9}|\D+", name))
