"""Layers that follow each other: arrays by number, tensors by name, each with masks and biases."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from modgraph.dag import LayeredDAG
from modgraph.io.build import Builder
from modgraph.io.matrix import check_threshold, pruned_rows, vector
from modgraph.io.tensor import Tensor, Tensors, from_array

Masks = str | os.PathLike[str] | Sequence[ArrayLike] | Mapping[str, ArrayLike]

_NUMBERED = re.compile(r"(weight|mask|bias)(0|[1-9]\d{0,3})")
_NOTES = ("activations", "layer_names", "unit_names")  # what `save_network` adds
# Parts of a module's name that say it is no link of a chain.
_NO_CHAIN = re.compile(r"attn|attention|embed|\b[qkv]_proj|\b(query|key|value|gate)|lstm|gru|rnn|expert", re.IGNORECASE)
# GPT-2's, (in, out) in some models and (out, in) in others.
_EITHER_WAY = {"c_fc", "c_proj"}
# What the two layers of a transformer's MLP are called, which have the same shapes the other way round.
_FIRST = {"up", "up_proj", "wi", "fc_in", "in", "intermediate", "dense_h_to_4h"}
_LAST = {"down", "down_proj", "wo", "fc_out", "out", "output", "dense_4h_to_h"}
_PARAMETRIZED = re.compile(r"(.*?)\.?\bparametrizations\.(weight|bias)\.(.+)")
_LEAVES = {
    "weight",
    "bias",
    "weight_orig",
    "weight_mask",
    "bias_orig",
    "bias_mask",
    "running_mean",
    "running_var",
    "num_batches_tracked",
}
_MOST_STEPS = 1_000_000  # in the search for an order


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """A weight layer, (out, in) or (out, in, positions of the kernel …)."""

    name: str
    weight: Tensor | None
    mask: Tensor | None = None
    bias: Tensor | None = None
    bias_mask: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its weights."""
        tensor = self.weight if self.weight is not None else self.mask
        return () if tensor is None else tensor.shape

    def reads(self, before: Link) -> bool:
        """Whether its inputs can be the outputs of `before`."""
        n_out, n_in = before.shape[0], self.shape[1]
        flattens = len(before.shape) > 2 and len(self.shape) == 2
        return n_in == n_out or (flattens and n_in % n_out == 0)


def from_arrays(
    weights: Sequence[ArrayLike],
    *,
    masks: Sequence[ArrayLike] | None = None,
    biases: Sequence[ArrayLike] | None = None,
    activations: Sequence[str] | None = None,
    threshold: float = 0.0,
) -> LayeredDAG:
    """Build the graph of a list of weight arrays.

    Parameters
    ----------
    weights : sequence of array_like, shapes (out, in)
        In the order of ``torch.nn.Linear.weight``; nonzero = edge, unless there are masks.
    masks : sequence of array_like, shapes (out, in), optional
        Nonzero = edge.
    biases : sequence of array_like, shapes (out,), optional
    activations : sequence of str, optional
        One a weight layer (see `modgraph.forward`).
    threshold : float ≥ 0
        Weights of at most this magnitude count as pruned.

    Returns
    -------
    LayeredDAG

    Raises
    ------
    ValueError
        If there is no array, shapes don't chain, or an entry that is kept is not finite.

    Examples
    --------
    >>> from_arrays([[[0.5, 0.01], [0.0, 2.0]], [[1.0, 1.0]]], threshold=0.1)
    LayeredDAG([2, 2, 1], 4 edges, density 0.667)
    """
    arrays = {f"weight{at}": np.asarray(array) for at, array in enumerate(weights)}
    for kind, more in (("mask", masks), ("bias", biases)):
        if more is not None and len(more) != len(weights):
            raise ValueError(f"there must be {len(weights)} {kind} arrays, one a weight layer (got {len(more)})")
        arrays |= {f"{kind}{at}": np.asarray(array) for at, array in enumerate(more or ())}
    dag = numbered({name: from_array(array) for name, array in arrays.items()}, threshold=threshold)
    if activations is None:
        return dag
    if isinstance(activations, str) or len(activations) != dag.n_layers - 1:
        raise ValueError(f"`activations` must be {dag.n_layers - 1} names, one a layer (got {activations!r})")
    return replace(dag, activations=np.array(["identity", *activations])[dag.layer])


def is_numbered(names: Sequence[str]) -> bool:
    """Whether arrays are named weight0, mask0, bias0 and so on."""
    return any(map(_NUMBERED.fullmatch, names)) and all(name in _NOTES or _NUMBERED.fullmatch(name) for name in names)


def numbered(tensors: Tensors, *, masks: Tensors | None = None, threshold: float = 0.0) -> LayeredDAG:
    """Build the graph of arrays named ``weight0, …``, ``mask0, …`` and ``bias0, …``, each (out, in)."""
    unknown = [name for name in tensors if name not in _NOTES and not _NUMBERED.fullmatch(name)]
    if unknown or not tensors:
        got = f"got {unknown[0]!r}" if unknown else "got none"
        raise ValueError(f"arrays must be named weight0, mask0, bias0, weight1, … ({got})")
    numbers = [int(found[2]) for found in map(_NUMBERED.fullmatch, tensors) if found]
    links = []
    for at in range(max(numbers, default=-1) + 1):
        weight, mask, bias = (tensors.get(f"{kind}{at}") for kind in ("weight", "mask", "bias"))
        if weight is None and mask is None:
            raise ValueError(f"there must be an array 'weight{at}' or 'mask{at}'")
        links.append(
            Link(name=f"weight{at}" if weight is not None else f"mask{at}", weight=weight, mask=mask, bias=bias)
        )
    dag = chained(with_masks(links, masks), threshold=threshold)
    if any(link.weight is None for link in links):
        dag = replace(dag, weights=None)
    if all(link.bias is None for link in links):
        dag = replace(dag, biases=None)
    notes = {name: [str(text) for text in tensors[name].array().reshape(-1)] for name in _NOTES if name in tensors}
    for name, wanted in (("activations", dag.n_units), ("unit_names", dag.n_units), ("layer_names", dag.n_layers)):
        if name in notes and len(notes[name]) != wanted:
            raise ValueError(f"{name!r} must be {wanted} texts (got {len(notes[name])})")
    return LayeredDAG.from_sorted_edges(
        dag.sources,
        dag.targets,
        layer=dag.layer,
        n_layers=dag.n_layers,
        dense_edges=dag.dense_edges,
        weights=dag.weights,
        biases=dag.biases,
        activations=notes.get("activations"),
        unit_names=notes.get("unit_names", dag.unit_names),
        layer_names=notes.get("layer_names", dag.layer_names),
    )


def named(
    tensors: Tensors,
    *,
    block: str | Sequence[str] | None = None,
    masks: Tensors | None = None,
    threshold: float = 0.0,
    ordered: bool,
) -> LayeredDAG:
    """Build the graph of the tensors of a torch model, by their names.

    Parameters
    ----------
    tensors : mapping of str to Tensor
    block : str or sequence of str, optional
        What the names of the tensors that count begin with; or the names of the layers, in their order.
    masks : mapping of str to Tensor, optional
    threshold : float ≥ 0
    ordered : bool
        Whether the tensors come in the order of the model; otherwise there must be only one that chains.

    Returns
    -------
    LayeredDAG
    """
    links = with_masks(_links(_inside(tensors, block)), masks)
    if isinstance(block, Sequence) and not isinstance(block, str):
        by_name = {link.name: link for link in links}
        missing = [name for name in block if name not in by_name]
        if missing:
            raise ValueError(f"`block` must name layers of the file (got {missing[0]!r})")
        return chained([by_name[name] for name in block], threshold=threshold)
    for link in links:
        odd = _NO_CHAIN.search(link.name)
        if odd:
            raise ValueError(
                f"layer {link.name!r} is not part of a chain of weight layers: name one MLP with `block`, "
                "by its prefix or by the names of its layers in order"
            )
        if link.name.rpartition(".")[2] in _EITHER_WAY:
            raise ValueError(
                f"layer {link.name!r} may be stored (in, out), as GPT-2 does, or (out, in): give the live model to "
                "`from_module`"
            )
    order = _order(links, ordered=ordered)
    return chained([links[at] for at in order], threshold=threshold)


def chained(links: Sequence[Link], *, threshold: float = 0.0) -> LayeredDAG:
    """Build the graph of links that follow each other; what is between them is not known."""
    limit = check_threshold(threshold)
    if not links:
        raise ValueError("there must be at least one weight layer")
    for link in links:
        if len(link.shape) < 2 or 0 in link.shape:
            raise ValueError(f"layer {link.name!r} must have non-empty (out, in) weights (got shape {link.shape})")
    for before, link in itertools.pairwise(links):
        if not link.reads(before):
            raise ValueError(
                f"layers must chain: {link.name!r} must read {before.shape[0]} values, what {before.name!r} gives "
                f"(got shape {link.shape}, (out, in))"
            )
    builder = Builder()
    value = builder.input("inputs")
    for link in links:
        maps = len(link.shape) > 2
        value.flat = value.maps and not maps
        bias = None
        if link.bias is not None:
            mask = None if link.bias_mask is None else link.bias_mask.array()
            bias = vector(f"the bias of {link.name!r}", link.bias.array(), length=link.shape[0], mask=mask)
        kind = "convolution" if math.prod(link.shape[2:]) > 1 else None
        value = builder.linear(value, _matrix(link, threshold=limit), bias=bias, name=link.name, kind=kind)
        value.maps = maps
    return replace(builder.finish([value]), activations=None)


def _matrix(link: Link, *, threshold: float) -> csr_array:
    """Read the edges of a layer; of a kernel, its Euclidean norm."""
    rows = link.shape[0]
    kernel = math.prod(link.shape[2:])
    wide = (rows, link.shape[1] * kernel)
    for tensor in (link.weight, link.mask):
        if tensor is not None:
            if tensor.shape != link.shape:
                raise ValueError(f"the mask of {link.name!r} must have its shape {link.shape} (got {tensor.shape})")
            if tensor.rows(0, 1).dtype.kind not in "biuf":
                raise ValueError(f"layer {link.name!r} must hold real numbers (got {tensor.rows(0, 1).dtype})")
    tensor = link.weight if link.weight is not None else link.mask
    assert tensor is not None
    matrix = pruned_rows(
        f"the weights of {link.name!r}",
        _flat_rows(tensor),
        shape=wide,
        itemsize=tensor.itemsize,
        mask=None if link.mask is None else _flat_rows(link.mask),
        threshold=threshold if link.weight is not None else 0.0,
    )
    return matrix if kernel == 1 else kernels(matrix, size=kernel)


def kernels(matrix: csr_array, *, size: int) -> csr_array:
    """Join every `size` columns: an edge where one of them has one, with their Euclidean norm."""
    n_out, n_in = matrix.shape[0], matrix.shape[1] // size
    rows = np.repeat(np.arange(n_out), np.diff(matrix.indptr))
    pairs, which = np.unique(rows * n_in + matrix.indices // size, return_inverse=True)
    norms = np.sqrt(np.bincount(which, matrix.data**2, minlength=pairs.size))
    return csr_array((norms, (pairs // n_in, pairs % n_in)), shape=(n_out, n_in))


def _flat_rows(tensor: Tensor) -> Callable[[int, int], Any]:
    return lambda first, end: tensor.rows(first, end).reshape(end - first, -1)


# --- Masks from elsewhere ---------------------------------------------------------------------------------------------


def with_masks(links: Sequence[Link], masks: Tensors | None) -> list[Link]:
    """Give links the masks of another file: by name, or by number."""
    if masks is None:
        return list(links)
    left = dict(masks)
    result = []
    for at, link in enumerate(links):
        number = _NUMBERED.fullmatch(link.name)
        by_name = [link.name, *(f"{link.name}.{leaf}" for leaf in ("weight_mask", "mask", "weight"))]
        by_number = [f"mask{number[2]}"] if number else [f"mask{at}"] if is_numbered(list(masks)) else []
        keys = [key for key in (*by_name, *by_number) if key in left]
        result.append(replace(link, mask=left.pop(keys[0])) if keys else link)
    if left:
        known = ", ".join(repr(link.name) for link in links[:6])
        raise ValueError(f"`masks` must be masks of {known} (got {next(iter(left))!r})")
    return result


# --- Names of torch's tensors -----------------------------------------------------------------------------------------


def _inside(tensors: Tensors, block: str | Sequence[str] | None) -> Tensors:
    if block is None:
        return tensors
    names = [block] if isinstance(block, str) else list(block)
    chosen = {key: tensor for key, tensor in tensors.items() if any(key.startswith(f"{name}.") for name in names)}
    if not chosen:
        some = ", ".join(repr(key) for key in list(tensors)[:4])
        raise ValueError(f"`block` must be the name of a part of the model (got {block!r}; there is {some}, …)")
    return chosen


def _links(tensors: Tensors) -> list[Link]:
    """Sort tensors by module; those of normalisations are left out."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found = _PARAMETRIZED.fullmatch(key)
        if found:
            module, leaf = found[1], f"{found[2]} {found[3]}"
        else:
            module, _, leaf = key.rpartition(".")
        modules.setdefault(module, {})[leaf] = tensor
    links = []
    for module, leaves in modules.items():
        name = module or "weight"
        for kind in ("weight", "bias"):
            _unparametrized(name, leaves, kind=kind)
        odd = sorted(leaf for leaf in leaves if leaf not in _LEAVES)
        if odd:
            where = f"{module}.{odd[0]}" if module else odd[0]
            raise ValueError(
                f"tensor {where!r} belongs to no supported layer: supported are weight, bias, "
                "weight_orig with weight_mask, parametrizations with one mask, and BatchNorm"
            )
        weight = leaves.get("weight", leaves.get("weight_orig"))
        if weight is None:
            if any(len(tensor.shape) > 1 for tensor in leaves.values()):
                raise ValueError(f"layer {name!r} must have a weight")
            continue
        if len(weight.shape) < 2:
            continue  # a normalisation, or PReLU
        links.append(
            Link(
                name=name,
                weight=weight,
                mask=leaves.get("weight_mask"),
                bias=leaves.get("bias", leaves.get("bias_orig")),
                bias_mask=leaves.get("bias_mask"),
            )
        )
    return links


def _unparametrized(name: str, leaves: dict[str, Tensor], *, kind: str) -> None:
    """Replace a parametrization, as saved, by weight_orig and weight_mask."""
    saved = {leaf: tensor for leaf, tensor in leaves.items() if leaf.startswith(f"{kind} ")}
    if not saved:
        return
    for leaf in saved:
        del leaves[leaf]
    original = saved.pop(f"{kind} original", None)
    is_mask = [
        original is not None and mask.shape == original.shape and np.isin(mask.array(), (0, 1)).all()
        for mask in saved.values()
    ]
    if original is None or len(saved) > 1 or not all(is_mask):
        raise ValueError(
            f"layer {name!r} has a parametrization that only its code can tell: give the live model to `from_module`"
        )
    for mask in saved.values():
        leaves[f"{kind}_mask"] = mask
    leaves[f"{kind}_orig"] = original


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d{1,9}|\D+", name))


def _order(links: Sequence[Link], *, ordered: bool) -> list[int]:
    """Find the order in which layers chain: as they come, or the only one, with numbers going up."""
    if not links or any(len(link.shape) < 2 for link in links):
        return list(range(len(links)))
    if ordered and all(link.reads(before) for before, link in itertools.pairwise(links)):
        return list(range(len(links)))
    if len(links) == 2:
        leaves = [link.name.rpartition(".")[2] for link in links]
        for one, two in ((0, 1), (1, 0)):
            if leaves[one] in _FIRST and leaves[two] in _LAST and links[two].reads(links[one]):
                return [one, two]
    families: dict[str, list[int]] = {}
    for at in sorted(range(len(links)), key=lambda at: _natural(links[at].name)):
        families.setdefault(re.sub(r"\d+", "#", links[at].name), []).append(at)
    rows = list(families.values())
    ways: list[list[int]] = []
    steps = 0
    stack: list[tuple[tuple[int, ...], list[int]]] = [((0,) * len(rows), [])]
    while stack and len(ways) < 2:
        taken, path = stack.pop()
        steps += len(rows) + len(path) + 1
        if steps > _MOST_STEPS:
            break
        if len(path) == len(links):
            ways.append(path)
            continue
        for number, row in enumerate(rows):
            if taken[number] < len(row):
                at = row[taken[number]]
                if not path or links[at].reads(links[path[-1]]):
                    stack.append(((*taken[:number], taken[number] + 1, *taken[number + 1 :]), [*path, at]))
    if len(ways) != 1 or steps > _MOST_STEPS:
        listed = ", ".join(f"{link.name!r} {link.shape}" for link in links[:6])
        how = "no order" if not ways and steps <= _MOST_STEPS else "more than one order"
        raise ValueError(
            f"layers must chain in one order, and {how} does: {listed}{', …' if len(links) > 6 else ''}; "
            "give the names of the layers in order as `block`, or the live model to `from_module`"
        )
    return ways[0]


__all__ = ["Link", "Masks", "chained", "from_arrays", "is_numbered", "kernels", "named", "numbered", "with_masks"]
