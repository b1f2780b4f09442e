"""Tasks: the samples that a network is trained on, as two tensors.

The task of a Boolean function is its whole truth table; any other task is split into parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modgraph.sculpt.objective import Kind


@runtime_checkable
class HasTruthTable(Protocol):
    """An object with a truth table, such as a ``FunctionGraph``."""

    def truth_table(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the inputs (n, n_in) and the outputs (n, n_out)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """A table of samples; build one with `as_task`.

    Attributes
    ----------
    inputs : torch.Tensor
        (n, n_in) float32, finite.
    targets : torch.Tensor
        (n, n_out) float32: bits; 0 and 1 for two classes, one-hot for more; or numbers.
    """

    inputs: Tensor
    targets: Tensor

    @property
    def n_samples(self) -> int:
        """Number of rows of the table."""
        return self.inputs.shape[0]

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.targets.shape[1]

    def __repr__(self) -> str:
        return f"Task({self.n_samples} samples, {self.inputs.shape[1]} → {self.n_outputs})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitTask:
    """Samples in three parts that share none.

    Attributes
    ----------
    train : Task
        Samples to train on.
    validation : Task
        Samples that decide whether a network is accepted.
    test : Task
        Samples for the reported metric, possibly none; they decide nothing.
    outputs : {"bits", "classes", "numbers"}
        What the targets are; this decides the loss and the metric unless the settings do.
    draw : callable, optional
        ``draw(rng, columns)`` returns other samples to train on, with these columns of the inputs only, in their order.
        `sculpt_wide` draws some for every epoch, so that training sees more than `train` holds. `train` still decides
        which units are pruned first. `rng` is a ``numpy.random.Generator``, `columns` a tensor of indices.
    """

    train: Task
    validation: Task
    test: Task
    outputs: Kind = "bits"
    draw: Callable[[np.random.Generator, Tensor], Task] | None = None

    def __repr__(self) -> str:
        shape = f"{self.train.inputs.shape[1]} → {self.train.n_outputs}"
        parts = f"{self.train.n_samples} samples to train on, {self.validation.n_samples} to validate"
        return f"{type(self).__name__}({shape}: {parts}, {self.test.n_samples} to test)"


def as_task(target: HasTruthTable | tuple[ArrayLike, ArrayLike], *, device: torch.device | None = None) -> Task:
    """Turn a function graph, or a pair of arrays, into a task.

    Parameters
    ----------
    target : object with ``truth_table()``, or pair of array-like
        Inputs (n, n_in), any finite numbers, and outputs (n, n_out), each 0 or 1; n, n_in and n_out ≥ 1. The arrays
        are copied.
    device : torch.device, optional
        Device of the tensors; the CPU by default.

    Returns
    -------
    Task

    Raises
    ------
    TypeError
        If `target` is neither a function nor a pair.
    ValueError
        If a shape is wrong, an input is not finite, or an output is neither 0 nor 1.

    Examples
    --------
    >>> as_task(([[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]]))
    Task(4 samples, 2 → 1)
    """
    pair: Any = target.truth_table() if isinstance(target, HasTruthTable) else target
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        kind = type(target).__name__
        raise TypeError(f"`target` must be a FunctionGraph or a pair of arrays (inputs, outputs) (got {kind})")
    inputs, outputs = _table(pair[0], "inputs"), _table(pair[1], "outputs")
    if len(inputs) != len(outputs):
        raise ValueError(
            f"`target` must have as many rows of inputs as of outputs (got {len(inputs)} and {len(outputs)})"
        )
    wrong = outputs[(outputs != 0) & (outputs != 1)]
    if wrong.size:
        raise ValueError(
            f"`target` must have outputs of 0 and 1 only (got {wrong[0]}); SculptedMLP learns classes and numbers"
        )
    return Task(
        inputs=torch.tensor(inputs, dtype=torch.float32, device=device),  # (n, n_in)
        targets=torch.tensor(outputs, dtype=torch.float32, device=device),  # (n, n_out)
    )


def _table(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return `values` as a finite array (rows, columns), or raise one sentence."""
    try:
        table = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`target` must have numbers as {name} (got {values!r})") from None
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(
            f"`target` must have {name} of shape (rows, columns), at least one of each (got shape {table.shape})"
        )
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"`target` must have finite {name} (got {table[row, column]} at row {row}, column {column})")
    return table
