"""``.nnet`` files, the text format of the ACAS Xu networks: ReLU between layers, inputs and outputs normalised."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modgraph.dag import LayeredDAG
from modgraph.io.build import finish
from modgraph.io.ops import Operations
from modgraph.io.request import Request

NAME = "a .nnet file"


def matches(start: bytes, path: Path) -> bool:
    """Whether the file is called like one, and begins with a comment or a number."""
    return path.suffix.lower() == ".nnet" and start.lstrip()[:1] in b"/0123456789" and bool(start.strip())


def read(request: Request) -> LayeredDAG:
    """Build the graph; what inputs are divided by becomes part of the weights."""
    request.refuse_masks_and_block()
    text = request.path.read_text(encoding="utf-8")
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    rows = [line.split(",") for line in lines if line and not line.startswith("//")]
    (n_layers, n_inputs, *_), sizes = [int(n) for n in rows[0]], [int(n) for n in rows[1]]
    # Then a line that nobody uses, the least and most inputs, means and ranges of the inputs and of the outputs.
    means, ranges = (np.array(rows[at], dtype=np.float64) for at in (5, 6))
    numbers = [np.array(row, dtype=np.float64) for row in rows[7:]]
    n_lines = 2 * sum(sizes[1:])
    if len(sizes) != n_layers + 1 or sizes[0] != n_inputs or len(numbers) != n_lines:
        raise ValueError(f"it must hold {n_lines} lines of weights and biases for layers of {sizes[:20]} units")
    ops = Operations(threshold=request.threshold)
    value = ops.input("inputs", size=n_inputs)
    value = ops.scaled("the means and ranges", value, 1 / ranges[:-1], -means[:-1] / ranges[:-1])
    first = 0
    for at, size in enumerate(sizes[1:]):
        weight, bias = np.stack(numbers[first : first + size]), np.concatenate(numbers[first + size : first + 2 * size])
        first += 2 * size
        value = ops.linear(f"layer {at + 1}", value, weight, bias)
        value = ops.apply(value, "relu") if at < n_layers - 1 else value
    return finish(ops, [ops.scaled("the output's mean and range", value, ranges[-1], means[-1])])
