"""Names as every picture, page, table and file shows them."""

from __future__ import annotations

from collections.abc import Sequence

from modgraph.dag import LayeredDAG


def unit_names(dag: LayeredDAG, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> list[str]:
    """Name every unit: the graph's own names, else x0, … for inputs, y0, … for outputs, h1.0, … in layer 1, and so on.

    `inputs` and `outputs`, such as those of a target function, replace the names of these units.

    Examples
    --------
    >>> unit_names(LayeredDAG.from_masks([[[1, 1]], [[1]]]), outputs=["sum"])
    ['x0', 'x1', 'h1.0', 'sum']
    """
    sizes = dag.layer_sizes
    if dag.unit_names is not None:
        names = [clean(name) for name in dag.unit_names.tolist()]
    else:
        prefixes = ["x", *(f"h{level}." for level in range(1, dag.n_layers - 1)), "y"]
        names = [f"{prefix}{place}" for prefix, size in zip(prefixes, sizes, strict=True) for place in range(size)]
    for given, first in ((inputs, 0), (outputs, dag.n_units - sizes[-1])):
        names[first : first + len(given)] = [clean(name) for name in given]
    return names


def layer_names(dag: LayeredDAG) -> list[str]:
    """Name every layer: the graph's own names, else "inputs", "layer 1", …, "outputs"."""
    if dag.layer_names is not None:
        return [clean(name) for name in dag.layer_names]
    return ["inputs", *(f"layer {level}" for level in range(1, dag.n_layers - 1)), "outputs"]


def clean(text: str) -> str:
    """Replace characters that can't be printed, so that any text file can hold the name."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def short(text: str, *, longest: int) -> str:
    """Cut a text to at most `longest` characters, such as "hid…"."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def counted(number: int, thing: str) -> str:
    """Write a number and a noun that agrees with it: 1 module, 3 units."""
    return f"{number} {thing}{'s' * (number != 1)}"
