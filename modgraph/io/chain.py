"""Weight layers that follow each other: arrays by number, and the tensors of files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgraph.dag import LayeredDAG
from modgraph.io.ops import Operations, finish
from modgraph.io.request import Blocks, File, Reader, Request
from modgraph.io.state import Link, arranged, flattened, links_of, part_named, with_masks
from modgraph.io.tensor import Tensors, check_threshold, from_array, vector
from modgraph.io.values import Value

_NUMBERED = re.compile(r"(weight|mask|bias)(0|[1-9]\d{0,3})")
_TEXTS = ("activations", "layer_names", "notes", "unit_names")  # what `save_network` adds to the arrays


def from_arrays(
    weights: Sequence[ArrayLike] | Mapping[str, Any] | Any,
    *,
    biases: Sequence[ArrayLike] | None = None,
    activations: Sequence[str] | None = None,
    threshold: float = 0.0,
) -> LayeredDAG:
    """Build the graph of a list of weight arrays, or of the parameters of a JAX model.

    Parameters
    ----------
    weights : sequence of array_like, shapes (out, in), nested mapping, or dataclass
        A sequence in the order of ``torch.nn.Linear.weight``; nonzero = edge (for masks, see
        `LayeredDAG.from_masks`). A nested mapping as in Flax and Haiku: ``{"Dense_0": {"kernel": …, "bias": …}}``,
        kernels (or ``w``) of shape (in, out). An Equinox module, whose layers have ``weight``, (out, in), and ``bias``.
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
    request = Request(path=Path(), threshold=check_threshold(threshold))
    if isinstance(weights, Mapping) or is_dataclass(weights):
        if biases is not None:
            raise ValueError("`biases` are for a sequence of arrays: a mapping holds its biases itself")
        dag = _named(flattened(weights), request, ordered=is_dataclass(weights))
    else:
        arrays = {f"weight{at}": array for at, array in enumerate(weights)}
        if biases is not None:
            if len(biases) != len(weights):
                raise ValueError(f"`biases` must be {len(weights)} arrays, one a weight layer (got {len(biases)})")
            arrays |= {f"bias{at}": array for at, array in enumerate(biases)}
        dag = _numbered({name: from_array(name, array) for name, array in arrays.items()}, request)
    if activations is None:
        return dag
    if isinstance(activations, str) or len(activations) != dag.n_layers - 1:
        raise ValueError(f"`activations` must be {dag.n_layers - 1} names, one a layer (got {activations!r})")
    return replace(dag, activations=np.array(["identity", *activations])[dag.layer])


def from_tensors(tensors: Tensors, request: Request, *, ordered: bool) -> LayeredDAG:
    """Build the graph of the tensors of a file; `ordered` says whether they come in the order of the model."""
    names = set(tensors) - set(_TEXTS)
    are_numbered = bool(names) and all(map(_NUMBERED.fullmatch, names))
    if request.block is None and (are_numbered or not any(re.search("[./]", name) for name in tensors)):
        return _numbered(tensors, request)
    return _named(tensors, request, ordered=ordered)


def _numbered(tensors: Tensors, request: Request) -> LayeredDAG:
    """Build the graph of arrays named ``weight0, …``, ``mask0, …`` and ``bias0, …``, each (out, in)."""
    unknown = [name for name in tensors if name not in _TEXTS and not _NUMBERED.fullmatch(name)]
    if unknown or not tensors:
        got = f"got {unknown[0]!r}" if unknown else "got none"
        raise ValueError(f"arrays must be named weight0, mask0, bias0, weight1, … ({got})")
    links = []
    numbers = [int(re.sub(r"\D", "", name)) for name in tensors if name not in _TEXTS]
    for at in range(max(numbers, default=-1) + 1):
        weight, mask, bias = (tensors.get(f"{kind}{at}") for kind in ("weight", "mask", "bias"))
        if weight is None and mask is None:
            raise ValueError(f"there must be an array 'weight{at}' or 'mask{at}'")
        links.append(Link(name=f"mask{at}" if weight is None else f"weight{at}", weight=weight, mask=mask, bias=bias))
    dag = _chained(with_masks(links, request.masks), threshold=request.threshold)
    # "weight0" is the name of an array, not of a layer: layers have names only if a text says so.
    texts: dict[str, Any] = {
        name: [str(text) for text in tensors[name].array().reshape(-1)] for name in _TEXTS if name in tensors
    }
    return LayeredDAG.from_sorted_edges(
        dag.sources,
        dag.targets,
        layer=dag.layer,
        n_layers=dag.n_layers,
        dense_edges=dag.dense_edges,
        weights=None if any(link.weight is None for link in links) else dag.weights,
        biases=None if all(link.bias is None for link in links) else dag.biases,
        **texts,
    )


def _named(tensors: Tensors, request: Request, *, ordered: bool) -> LayeredDAG:
    """Build the graph of the tensors of a model, by their names: in their order, or in the only one that chains."""
    block = request.block
    links, notes = links_of(part_named(tensors, block))
    links, is_gated = with_masks(links, request.masks), False
    if block is not None and not isinstance(block, str):
        by_name = {link.name: link for link in links}
        missing = [name for name in block if name not in by_name]
        if missing:
            raise ValueError(f"`block` must name layers of the file (got {missing[0]!r})")
        links = [by_name[name] for name in block]
    else:
        links, is_gated = arranged(links, ordered=ordered)
        shown = " → ".join(link.name for link in links[:6]) + (" → …" if len(links) > 6 else "")
        if is_gated:
            notes.append(
                "Read as a gated MLP, down(act(gate(x)) · up(x)): the file doesn't say what is between its layers."
            )
        elif len(links) > 1:
            notes.append(
                f"The file holds weights only, so they were read as one chain, {shown}: "
                "connections that skip layers are missing if the model has any."
            )
    return replace(_chained(links, is_gated=is_gated, threshold=request.threshold), notes=tuple(notes))


def tensor_reader(
    name: str,
    *,
    matches: Callable[[File], bool],
    tensors: Callable[[Path], Tensors],
    ordered: bool,
) -> Reader:
    """Return the reader of a format that holds tensors by name, in the order of the model or not."""
    return Reader(
        name=name,
        matches=matches,
        read=lambda request: from_tensors(tensors(request.path), request, ordered=ordered),
        blocks=lambda request: blocks(tensors(request.path), ordered=ordered),
        tensors=tensors,
        takes_masks=True,
        takes_block=True,
    )


def blocks(tensors: Tensors, *, ordered: bool) -> Blocks:
    """Yield the innermost parts, by name, whose layers chain, and the sizes of their layers."""
    steps = [re.split("[./]", name)[:-1] for name in tensors]
    names = dict.fromkeys(".".join(step[:depth]) for step in steps for depth in range(1, len(step)))
    found: dict[str, tuple[int, ...]] = {}
    for name in sorted(names, key=lambda name: -name.count(".")):
        try:
            links, is_gated = arranged(links_of(part_named(tensors, name))[0], ordered=ordered)
        except ValueError:
            continue
        if len(links) > 1 and not any(inner.startswith(f"{name}.") for inner in found):
            found[name] = (links[0].shape[1], *(link.shape[0] for link in links[is_gated:]))
    yield from ((name, found[name]) for name in names if name in found)


def _chained(links: Sequence[Link], *, is_gated: bool = False, threshold: float) -> LayeredDAG:
    """Build the graph of links that follow each other, or of gate, up and down; what is between them is not known."""
    if not links:
        raise ValueError("there must be at least one weight layer")
    for link in links:
        if len(link.shape) < 2 or 0 in link.shape:
            raise ValueError(f"layer {link.name!r} must have non-empty (out, in) weights (got shape {link.shape})")
        if link.lacks_mask and link.mask is None:
            raise ValueError(
                f"layer {link.name!r} was saved with a parametrization, such as a mask, that the file doesn't hold: "
                "give the masks as `masks`, or the live model to `from_module`"
            )
    for before, link in itertools.pairwise(links[is_gated:]):
        if not link.reads(before):
            raise ValueError(
                f"layers must chain: {link.name!r} must read {before.shape[0]} values, what {before.name!r} gives "
                f"(got shape {link.shape}, (out, in))"
            )
    ops = Operations(threshold=threshold)
    value = ops.input("inputs")
    if is_gated:
        gate, up, *links = links
        both = [_weigh(ops, value, link) for link in (gate, up)]
        value = ops.join(f"{gate.name} · {up.name}", both, multiply=True)
    for link in links:
        value = _weigh(ops, value, link)
    return replace(finish(ops, [value]), activations=None)


def _weigh(ops: Operations, value: Value, link: Link) -> Value:
    """Apply a link; its weights and biases are read here."""
    maps = len(link.shape) > 2
    bias = None
    if link.bias is not None:
        mask = None if link.bias_mask is None else link.bias_mask.array()
        bias = vector(f"the bias of {link.name!r}", link.bias.array(), length=link.shape[0], mask=mask)
    value = replace(value, maps=value.maps or maps, flat=value.maps and not maps)
    return ops.weigh(link.name, value, link.weight, bias, mask=link.mask, groups=1 if maps else None)
