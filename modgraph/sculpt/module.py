"""`sculpt_module`: the schedule of `sculpt_wide` on a torch module and a training function of your own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from modgraph.arrays import FloatArray
from modgraph.checks import check_choice
from modgraph.dag import LayeredDAG
from modgraph.io import from_module
from modgraph.sculpt.engine import Phase
from modgraph.sculpt.objective import METRICS, LossFunction, MetricFunction, Objective
from modgraph.sculpt.prune import CHUNK, percentile_cut
from modgraph.sculpt.rounds import EdgesOf, Fitted, Limits, Round, State, run_rounds
from modgraph.sculpt.stack import on_paths

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ModuleResult:
    """What `sculpt_module` returns.

    Attributes
    ----------
    model : torch.nn.Module
        The pruned copy of the model, with masks of ``torch.nn.utils.prune``.
    network : LayeredDAG
        Its graph, as `from_module` reads it.
    accepted : bool
        Whether it is good enough; if not, it is the dense network.
    metric : str
        Name of the metric.
    value, dense, baseline : float
        The metric of the pruned network, of the dense network, and of a constant.
    rounds : tuple of Round
        Every training run.
    notes : tuple of str
        What could not be pruned, and why.
    """

    model: nn.Module
    network: LayeredDAG
    accepted: bool
    metric: str
    value: float
    dense: float
    baseline: float
    rounds: tuple[Round, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ModuleResult({self.network.n_edges} edges, {self.metric} {self.value:.4f}, {len(self.rounds)} rounds)"


def sculpt_module(
    model: nn.Module,
    data: Pair,
    *,
    train: Callable[[nn.Module, Tensor, Tensor], object],
    loss: LossFunction,
    metric: str | MetricFunction,
    validation: Pair | None = None,
    tolerance: float = 0.02,
    unit_share: float = 0.5,
    unit_step: float = 20.0,
    edge_step: float = 2.5,
    edges_of: EdgesOf = "dense",
    progress: Callable[[Round], object] | None = None,
) -> ModuleResult:
    """Train a torch module and prune its linear layers as far as it stays good.

    The schedule is that of `sculpt_wide`: train, prune units by the mean of ``|activation × gradient|``, train once
    more, prune edges by ``|weight|``; each round trains by `train`. Units are pruned where the linear layers follow
    each other in a chain, each the input of the next alone. Elsewhere only edges are.

    Parameters
    ----------
    model : torch.nn.Module
        One that `from_module` reads. It is copied, not changed.
    data : pair of torch.Tensor
        Inputs and targets to train on, as `train` and `loss` take them; samples come first.
    train : callable
        ``train(model, inputs, targets)`` trains the model, in place, for one round. Pruned weights stay 0 whatever it
        does: the model has masks of ``torch.nn.utils.prune``. It makes its optimiser anew.
    loss : callable
        Mean loss over samples, of the outputs of the model and the targets; it scores the units.
    metric : str or callable
        "bit accuracy", "all-bits accuracy", "class accuracy", "R²", or a function of outputs and targets that returns
        a float, higher is better.
    validation : pair of torch.Tensor, optional
        Samples that decide; by default those of `data`.
    tolerance, unit_share, unit_step, edge_step, edges_of
        As in `WideSettings`.
    progress : callable, optional
        Called with each `Round` when it ends.

    Returns
    -------
    ModuleResult

    Raises
    ------
    ValueError
        If the module can't be read, or an argument is out of range.

    Examples
    --------
    >>> from torch.nn import functional as F
    >>> def train(model, inputs, targets):
    ...     adam = torch.optim.Adam(model.parameters(), lr=0.05)
    ...     for _ in range(50):
    ...         adam.zero_grad()
    ...         F.mse_loss(model(inputs), targets).backward()
    ...         adam.step()
    >>> inputs = torch.linspace(-1, 1, 60).view(20, 3)
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> out = sculpt_module(net, (inputs, inputs[:, :1]), train=train, loss=F.mse_loss, metric="R²", edge_step=20)
    >>> out.accepted, out.network.n_edges < 32
    (True, True)
    """
    if not callable(metric):
        check_choice("metric", metric, [*METRICS])
    limits = Limits(
        tolerance=tolerance, unit_share=unit_share, unit_step=unit_step, edge_step=edge_step, edges_of=edges_of
    )
    objective = Objective(kind="numbers", loss=loss, metric=metric, activation="identity")
    sculptor = _ModuleSculptor(
        copy.deepcopy(model), data, validation or data, train=train, objective=objective, limits=limits
    )
    state = run_rounds(sculptor, State(network=sculptor.snapshot()), progress=progress)
    sculptor.restore(state.network)
    value = sculptor.measure()
    return ModuleResult(
        model=sculptor.model,
        network=from_module(sculptor.model),
        accepted=value >= state.threshold,
        metric=sculptor.metric,
        value=value,
        dense=state.dense,
        baseline=sculptor.baseline,
        rounds=state.rounds,
        notes=sculptor.notes,
    )


Snapshot = dict[str, Tensor]  # parameters, buffers and masks


class _ModuleSculptor:
    """Trains and prunes a module in place; see `Sculptor`. The network of a round is a snapshot of its state."""

    def __init__(
        self,
        model: nn.Module,
        data: Pair,
        validation: Pair,
        *,
        train: Callable[[nn.Module, Tensor, Tensor], object],
        objective: Objective,
        limits: Limits,
    ) -> None:
        dag = from_module(model)  # raises if the module can't be read
        self.model, self.data, self.validation, self.train_once = model, data, validation, train
        self.objective, self.limits, self.metric = objective, limits, objective.metric_name
        self.layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not self.layers:
            raise ValueError("`model` must have linear layers")
        for layer in self.layers:
            if not prune.is_pruned(layer):
                prune.custom_from_mask(layer, "weight", (layer.weight != 0).to(layer.weight.dtype))
        self.n_edges = sum(layer.weight.numel() for layer in self.layers)
        self.hidden = [layer.out_features for layer in self.layers[:-1]]
        sizes = (self.layers[0].in_features, *self.hidden, self.layers[-1].out_features)
        is_chain = all(below.out_features == above.in_features for below, above in pairwise(self.layers))
        is_chain = is_chain and dag.layer_sizes == sizes and not dag.skips_layers
        self.n_units = sum(self.hidden) if is_chain else 0
        self.notes = () if is_chain else ("only edges were pruned: the linear layers are no chain",)
        self.baseline = self._constant()

    def measure(self) -> float:
        """Return the metric on the samples that decide."""
        with self._evaluating(), torch.no_grad():
            outputs = self.model(self.validation[0])
        return self.objective.measure(outputs, self.validation[1])

    def _constant(self) -> float:
        """Return the metric of the best constant of three: the mean, most frequent and median row of the targets."""
        targets, wanted = self.data[1], self.validation[1]
        if not targets.is_floating_point():  # labels
            n_classes = int(max(targets.max(), wanted.max())) + 1
            row = nn.functional.one_hot(targets.mode(0).values, n_classes) - 0.5
            return self.objective.measure(row.expand(len(wanted), -1), wanted)
        if ((targets == 0) | (targets == 1)).all():
            return replace(self.objective, kind="bits").baseline(targets, wanted)
        guesses = [targets.mean(0), targets.median(0).values]
        return max(self.objective.measure(guess.expand_as(wanted), wanted) for guess in guesses)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Switch to evaluation, and back as it was."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    def snapshot(self) -> Snapshot:
        """Return a copy of everything that training and pruning change."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def restore(self, network: Snapshot) -> None:
        """Set the module to a snapshot."""
        self.model.load_state_dict(network)
        with torch.no_grad():  # the masked weight is computed before each forward pass; `from_module` may come first
            for layer in self.layers:
                layer.weight = layer.get_parameter("weight_orig") * layer.get_buffer("weight_mask")

    def _masks(self) -> list[Tensor]:
        """Return the masks, (out, in) bool."""
        return [layer.get_buffer("weight_mask") != 0 for layer in self.layers]

    def describe(self, network: Snapshot) -> tuple[tuple[int, ...], int]:
        """Return the units of every layer of the trimmed graph, and the number of edges."""
        self.restore(network)
        return from_module(self.model).trim().layer_sizes, sum(int(mask.sum()) for mask in self._masks())

    def prune(self, network: Snapshot, *, phase: Phase, targets: FloatArray, run: int) -> Snapshot:  # noqa: ARG002
        """Prune the units or edges up to percentile `targets` (1,), then all that is on no path."""
        self.restore(network)
        masks = self._masks()
        if phase == "units":
            scores = self._unit_scores()
            kept = (scores > percentile_cut(scores, targets))[0].split(self.hidden)
            ends = [kept[0].new_ones(size) for size in (masks[0].shape[1], masks[-1].shape[0])]
            masks = _joining(masks, [ends[0], *kept, ends[1]])
        else:
            scores = torch.cat([layer.weight.detach().abs().flatten() for layer in self.layers])[None]
            cut = percentile_cut(scores.float(), targets)[0].to(scores.device)
            masks = [mask & (layer.weight.detach().abs() > cut) for mask, layer in zip(masks, self.layers, strict=True)]
        if self.n_units:
            masks = _joining(masks, on_paths(masks))
        with torch.no_grad():
            for layer, mask in zip(self.layers, masks, strict=True):
                layer.get_buffer("weight_mask").copy_(mask)
                layer.get_parameter("weight_orig").mul_(mask)
                if layer.bias is not None:
                    layer.bias.mul_(mask.any(1))
        return self.snapshot()

    def train(
        self,
        network: Snapshot,
        *,
        phase: Phase,
        run: int,  # noqa: ARG002
        enough: float,  # noqa: ARG002
        easy: bool,  # noqa: ARG002
    ) -> Fitted[Snapshot]:
        """Train the module once; the result is the better one of before and after."""
        self.restore(network)
        before = self.measure()
        self.train_once(self.model, *self.data)
        after = self.measure()
        if after >= before or phase == "dense":
            return Fitted(network=self.snapshot(), epochs=0, accuracy=after)
        return Fitted(network=network, epochs=0, accuracy=before)

    def test(self, network: Snapshot) -> float:  # noqa: ARG002
        """There are no test samples."""
        return math.nan

    def _unit_scores(self) -> Tensor:
        """Score every hidden unit, (1, hidden units): the mean over samples of |activation × ∂loss/∂activation|.

        The activations of a hidden layer are the inputs of the next linear layer.
        """
        entered: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            entered.append(inputs[0].requires_grad_() if not inputs[0].requires_grad else inputs[0])
            return (entered[-1], *inputs[1:])

        hooks = [layer.register_forward_pre_hook(note) for layer in self.layers[1:]]
        total = torch.zeros(sum(self.hidden), device=self.data[0].device)
        try:
            with self._evaluating(), torch.enable_grad():
                for inputs, targets in zip(*(part.split(CHUNK) for part in self.data), strict=True):
                    entered.clear()
                    lost = self.objective.mean_loss(self.model(inputs), targets) * len(inputs)
                    slopes = torch.autograd.grad(lost, entered)
                    terms = [(a * g).detach().abs().flatten(0, -2).sum(0) for a, g in zip(entered, slopes, strict=True)]
                    total += torch.cat(terms)
        finally:
            for hook in hooks:
                hook.remove()
        return (total / len(self.data[0]))[None].float()


def _joining(masks: list[Tensor], units: list[Tensor]) -> list[Tensor]:
    """Return the edges of a chain that join two of the `units`, [layer]: (n,) bool."""
    return [mask & above[:, None] & below for mask, (below, above) in zip(masks, pairwise(units), strict=True)]
