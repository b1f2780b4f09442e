"""Pruning: criteria, percentile cuts, and the schedule that accepts, goes back and halves its step.

Everything works on a whole stack: row b of scores, cuts and schedules belongs to network b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modgraph.arrays import BoolArray, FloatArray
from modgraph.checks import check_choice
from modgraph.compiled import njit
from modgraph.sculpt.objective import BITS, Objective, name_of
from modgraph.sculpt.stack import StackedMLP, activations, between, edges_of, keyed_generator, split
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import gradient, mean_square_gradient, slopes

Criterion = Callable[[StackedMLP, Task], Tensor]
"""A score of one's own for units or edges: (B, hidden units) or (B, edges of all layers) finite numbers ≥ 0."""

CRITERIA = ("published", "taylor", "fisher", "surgeon", "random")
"""Names of scores. *published*: units by the mean of ``|activation × slope|``, edges by ``|weight|``; *taylor*: both by
how much the mean loss changes without them, to first order; *fisher*: the same to second order, with the diagonal of
the Fisher information (see `edge_change`); *surgeon*: edges alone, by the change that is left when the other edges of
the unit above make up for them (see `surgeon_score`; only its bias does if it has more than 256);
*random*: uniform random numbers."""

Criteria = Mapping[str, str | Criterion]
"""What is pruned first, by phase: "units" and "edges"."""

PUBLISHED: Criteria = MappingProxyType({"units": "published", "edges": "published"})

CHUNK = 4096
"""Samples evaluated at a time."""

SAMPLES = 8192
"""Samples, at most, from which *surgeon* estimates the Fisher information."""

LARGE = 256
"""Edges of a unit above which *surgeon* takes its Fisher information for diagonal."""

DAMPING = 0.01
"""What *surgeon* adds to that diagonal, as a share of its mean."""


def unit_score(stack: StackedMLP, task: Task, *, objective: Objective = BITS, criterion: str = "published") -> Tensor:
    """Score every hidden unit, (B, hidden units), by its terms activation × ∂loss/∂activation, one for each sample.

    The loss is that of one sample at a time (Patil et al. 2023, §3; clean inputs). An inactive unit has activation 0,
    so the derivative may be taken before or after its ReLU. *published* is the mean of the absolute terms, *taylor* the
    absolute value of their mean, *fisher* the root of their mean square.
    """
    total = torch.zeros(stack.n_networks, sum(stack.sizes[1:-1]), device=stack.kept.device)
    for inputs, targets in zip(task.inputs.split(CHUNK), task.targets.split(CHUNK), strict=True):
        values = activations(stack, inputs)  # [layer]: (B, n, units)
        hidden = zip(values[1:-1], slopes(stack, values, targets, objective), strict=False)
        terms = [value * slope for value, slope in hidden]
        if criterion != "taylor":
            terms = [term.square() if criterion == "fisher" else term.abs() for term in terms]
        total += torch.cat([term.mean(1) for term in terms], dim=1) * (len(inputs) / task.n_samples)
    return total.sqrt() if criterion == "fisher" else total.abs()


def edge_score(stack: StackedMLP) -> Tensor:
    """Score every edge by |weight|: (B, edges of all layers) float32 ≥ 0, pruned ones 0."""
    return edges_of(stack.parameters, stack.sizes).abs()


def edge_change(stack: StackedMLP, task: Task, *, objective: Objective = BITS, criterion: str = "taylor") -> Tensor:
    """Score every edge by its terms weight × ∂loss/∂weight, one for each sample: (B, edges of all layers).

    *taylor* is the absolute value of their mean: how much the mean loss changes without the edge, to first order.
    *fisher* is the root of their mean square. Its square is twice the change to second order, where the Hessian is
    approximated by the diagonal of the empirical Fisher information (LeCun et al. 1990, "Optimal brain damage"; Theis
    et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning").
    """
    total = torch.zeros_like(stack.parameters)
    for inputs, targets in zip(task.inputs.split(CHUNK), task.targets.split(CHUNK), strict=True):
        mean = mean_square_gradient if criterion == "fisher" else gradient
        total += mean(stack, inputs, targets, objective) * (len(inputs) / task.n_samples)
    return edges_of((total.sqrt() if criterion == "fisher" else total) * stack.parameters, stack.sizes).abs()


def surgeon_score(stack: StackedMLP, task: Task, *, objective: Objective = BITS) -> Tensor:
    """Score every edge by how much the loss rises without it if its unit's other weights and bias are set anew.

    Edges of a unit are taken out one after the other, each time the one whose loss rises least to second order, where
    the Hessian is the empirical Fisher information of the weights of the unit ("optimal brain surgeon", Hassibi and
    Stork 1993, with the matrix of WoodFisher, Singh and Alistarh 2020). The score of an edge is the root of the highest
    rise until it was taken out. `compensated` gives the weights. In a unit of more than `LARGE` edges only the bias is
    set anew: then each edge is judged by itself.
    """
    scores = torch.zeros_like(edges_of(stack.parameters, stack.sizes))
    for unit in _information(stack, task, objective):
        rises = _taken_out(unit.matrix, unit.weights)
        layers = split(scores[unit.network : unit.network + 1], stack.sizes)[0]
        layers[unit.layer][0, unit.number, unit.sources] = torch.from_numpy(np.sqrt(rises)).to(scores)
    return scores


def compensated(stack: StackedMLP, keep: Tensor, task: Task, *, objective: Objective = BITS) -> StackedMLP:
    """Set the weights that are kept so that the loss rises least without the others; see `surgeon_score`.

    `keep` is (B, edges of all layers) bool; the result still has all edges.
    """
    changed = replace(stack, parameters=stack.parameters.clone())
    weights, biases, kept = changed.weights, changed.biases, split(keep, stack.sizes)[0]
    for unit in _information(stack, task, objective):
        at = unit.network, unit.number
        stays = kept[unit.layer][at][unit.sources].cpu().numpy()
        if stays.all() or not stays.any():
            continue
        change = np.where(stays, 0, -unit.weights)
        if unit.matrix.ndim == 2:
            within, across = unit.matrix[np.ix_(stays, stays)], unit.matrix[np.ix_(stays, ~stays)]
            change[stays] = np.linalg.solve(within, across @ unit.weights[~stays])
        weights[unit.layer][(*at, unit.sources)] += torch.from_numpy(np.where(stays, change, 0)).to(keep.device)
        biases[unit.layer][at] -= float(change @ unit.bias)
    return changed


class _Information(NamedTuple):
    """The Fisher information of the weights into one unit, its bias being set anew with them."""

    network: int
    layer: int
    number: int
    sources: Tensor  # (k,) int64: the units below
    weights: FloatArray  # (k,)
    matrix: FloatArray  # (k, k), or (k,) the diagonal for a unit with more than `LARGE` edges
    bias: FloatArray  # (k,): how much the bias falls when a weight rises by 1


def _information(stack: StackedMLP, task: Task, objective: Objective) -> Iterator[_Information]:
    """Compute the information for every unit with an edge, from up to `SAMPLES` samples."""
    part = slice(None, None, -(-task.n_samples // SAMPLES))
    values = activations(stack, task.inputs[part])
    steep = slopes(stack, values, task.targets[part], objective)
    for layer, (below, slope, mask, weight) in enumerate(zip(values, steep, stack.masks, stack.weights, strict=False)):
        n, squares = slope.shape[1], slope.square()
        of_biases = squares.mean(1).cpu().numpy()  # (B, out)
        crossed = (torch.bmm(squares.transpose(1, 2), below) / n).cpu().numpy()  # (B, out, in)
        diagonals = (torch.bmm(squares.transpose(1, 2), below.square()) / n).cpu().numpy()
        for network, number in mask.any(2).nonzero().tolist():
            sources = mask[network, number].nonzero()[:, 0]
            at = (network, number, sources.cpu().numpy())
            scale = float(of_biases[network, number]) + 1e-30
            bias = crossed[at].astype(np.float64) / scale
            if len(sources) > LARGE:
                matrix = np.maximum(diagonals[at] - bias**2 * scale, 0)
                matrix += DAMPING * matrix.sum() / len(sources) + 1e-30
            else:
                of_weights = below[network][:, sources] * slope[network, :, number, None]
                matrix = (of_weights.T @ of_weights / n).double().cpu().numpy()
                least = 1e-6 * np.trace(matrix)  # for units whose inputs are nearly constant
                matrix -= np.outer(bias, bias) * scale
                matrix[np.diag_indices(len(sources))] += max(DAMPING * np.trace(matrix), least) / len(sources) + 1e-30
            weights = weight[network, number, sources].double().cpu().numpy()
            yield _Information(network, layer, number, sources, weights, matrix, bias)


def _taken_out(matrix: FloatArray, weights: FloatArray) -> FloatArray:
    """Return for each weight (k,) the highest rise of the loss (times 2) until it is taken out."""
    if matrix.ndim == 1:
        return matrix * weights**2
    rises: FloatArray = _eliminate(np.linalg.inv(matrix), weights.copy())
    return rises


@njit(cache=True, nogil=True)
def _eliminate(inverse: FloatArray, weights: FloatArray) -> FloatArray:  # pragma: no cover (compiled)
    """Take out weights one by one, as `surgeon_score` says; both arguments are overwritten."""
    k = len(weights)
    rises, left, highest = np.zeros(k), np.ones(k, dtype=np.bool_), 0.0
    for _ in range(k):
        least, out = np.inf, -1
        for i in range(k):
            if left[i]:
                rise = weights[i] ** 2 / inverse[i, i]
                if out < 0 or rise < least:
                    least, out = rise, i
        highest = max(highest, least)
        rises[out], left[out] = highest, False
        column, pivot, weight = inverse[:, out].copy(), inverse[out, out], weights[out]
        for i in range(k):
            if left[i]:
                factor = column[i] / pivot
                weights[i] -= factor * weight
                for j in range(k):
                    inverse[i, j] -= factor * column[j]
    return rises


def random_score(present: Tensor, keys: Sequence[tuple[int, ...]]) -> Tensor:
    """Draw a number in (0, 1) for everything `present` (B, n) bool; row b depends on ``keys[b]``."""
    drawn = {key: torch.rand(present.shape[1], generator=keyed_generator(*key)) for key in set(keys)}
    return (torch.stack([drawn[key] for key in keys]).to(present.device) + 1e-9) * present


def scored(
    phase: str,
    criterion: str | Criterion,
    stack: StackedMLP,
    task: Task,
    *,
    keys: Sequence[tuple[int, ...]],
    objective: Objective = BITS,
) -> Tensor:
    """Score the hidden units or the edges, whichever `phase` prunes, by a criterion; the one place for all engines.

    Row b of what *random* draws depends on ``keys[b]`` only.
    """
    if phase == "units":
        present = torch.cat([mask.any(2) for mask in stack.masks[:-1]], dim=1)  # (B, hidden units)
    else:
        present = edges_of(stack.kept, stack.sizes)
    if criterion == "random":
        return random_score(present, keys)
    if callable(criterion):
        scores = torch.as_tensor(criterion(stack, task), dtype=torch.float32, device=present.device)
        if scores.shape != present.shape or not (scores.isfinite() & (scores >= 0)).all():
            raise ValueError(
                f"the scores of {phase} must be finite numbers ≥ 0 of shape {tuple(present.shape)} "
                f"(got shape {tuple(scores.shape)} from {name_of(criterion)})"
            )
        return scores * present
    if phase == "units":
        return unit_score(stack, task, objective=objective, criterion=criterion)
    if criterion == "published":
        return edge_score(stack)
    if criterion == "surgeon":
        return surgeon_score(stack, task, objective=objective)
    return edge_change(stack, task, objective=objective, criterion=criterion)


def check_criteria(unit_score: str | Criterion, edge_score: str | Criterion) -> Criteria:
    """Return both by phase; each must be a callable or one of `CRITERIA`."""
    for name, criterion in (("unit_score", unit_score), ("edge_score", edge_score)):
        if not callable(criterion):
            check_choice(name, criterion, [c for c in CRITERIA if (name, c) != ("unit_score", "surgeon")])
    return {"units": unit_score, "edges": edge_score}


def percentile_cut(scores: Tensor, targets: FloatArray, *, absent: int = 0) -> Tensor:
    """Return a percentile of each row, linearly interpolated as `numpy.percentile` does; scores above it are kept.

    `scores` are (B, n) float32 ≥ 0, `targets` (B,) percentages; each row has `absent` further scores of 0. The result
    is (B, 1) float64.
    """
    # On a CPU NumPy sorts rows four times as fast as torch.
    ordered = scores.sort(dim=1).values if scores.is_cuda else torch.from_numpy(np.sort(scores.numpy(), axis=1))
    ordered = torch.nn.functional.pad(ordered, (1, 0))  # (B, 1 + n): column 0 is the 0 of all absent scores
    place = torch.from_numpy(targets / 100 * (scores.shape[1] + absent - 1))[:, None]  # (B, 1) float64
    place = place.to(scores.device)
    below = place.floor().to(torch.int64)
    above = (below + 1).clamp_(max=scores.shape[1] + absent - 1)
    low, high = (ordered.gather(1, (at + 1 - absent).clamp_(min=0)).to(torch.float64) for at in (below, above))
    return low + (high - low) * (place - below)


def prune_units(stack: StackedMLP, keep: Tensor) -> StackedMLP:
    """Return `stack` without the hidden units for which `keep` (B, hidden units) is False.

    A pruned unit loses its row, its column and its bias.
    """
    first, last = keep.new_ones(len(keep), stack.sizes[0]), keep.new_ones(len(keep), stack.sizes[-1])
    return stack.prune(between([first, *keep.split_with_sizes(stack.sizes[1:-1], dim=1), last]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """How far each of B networks is pruned, and by how much it is to be pruned next.

    Attributes
    ----------
    reached : numpy.ndarray
        (B,) float64: the percentage at which the network was last accepted.
    step : numpy.ndarray
        (B,) float64: the difference of the next target from `reached`, percent.
    running : numpy.ndarray
        (B,) bool: whether the network is still being pruned.
    smallest : float
        The smallest step, such as 100 / number of units or edges of the dense network.
    of_left : bool
        Whether steps are percentages of what is left, not of the dense network.
    share : float
        Share of `step` that is taken, in (0, 1].

    Examples
    --------
    >>> schedule = Schedule.start(np.array([30.0, 70.0]), smallest=25.0)
    >>> schedule.targets
    array([30., 70.])
    >>> schedule.after(np.array([True, False])).targets
    array([60., 35.])
    >>> Schedule.start([30.0], smallest=5.0, of_left=True).after(np.array([True])).targets
    array([51.])
    """

    reached: FloatArray
    step: FloatArray
    running: BoolArray
    smallest: float
    of_left: bool = False
    share: float = 1.0

    @classmethod
    def start(
        cls,
        steps: Sequence[float] | FloatArray,
        *,
        smallest: float,
        running: BoolArray | None = None,
        of_left: bool = False,
    ) -> Schedule:
        """Return the schedule of networks before their first round, with these first `steps` (B,), in percent.

        A rejection at the step `smallest` ends the pruning of a network; the networks in `running` (B,) take part, by
        default all. With `of_left` steps are percentages of what is left.
        """
        step = np.array(steps, dtype=np.float64)
        running = np.ones(len(step), dtype=np.bool_) if running is None else running.copy()
        new = cls(reached=np.zeros_like(step), step=step, running=running, smallest=smallest, of_left=of_left)
        return new._without_impossible_targets()

    @property
    def targets(self) -> FloatArray:
        """The next percentages to prune to, (B,); below 100 where the network is running."""
        return self.reached + self.share * self.step * ((100 - self.reached) / 100 if self.of_left else 1)

    def after(self, accepted: BoolArray) -> Schedule:
        """Return the schedule after a round that accepted the networks in `accepted` (B,)."""
        passed = self.running & accepted
        moved = replace(self, reached=np.where(passed, self.targets, self.reached))
        return moved._rejected(self.running & ~accepted)._without_impossible_targets()

    def _rejected(self, rejected: BoolArray) -> Schedule:
        """Halve the step of `rejected` networks; those already at the smallest step stop."""
        return replace(
            self,
            step=np.where(rejected, np.maximum(self.step / 2, self.smallest), self.step),
            running=self.running & ~(rejected & (self.step <= self.smallest)),
        )

    def _without_impossible_targets(self) -> Schedule:
        """Reject targets of 100 % and more without training, until none is left."""
        schedule = self
        while (impossible := schedule.running & (schedule.targets >= 100)).any():
            schedule = schedule._rejected(impossible)
        return schedule


UNUSED = Schedule.start([100.0], smallest=100.0)
"""Stands for a schedule in phases that prune nothing."""
