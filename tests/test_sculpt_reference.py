"""The engine against a plain, obvious, one-network implementation of the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modgraph.sculpt import Schedule, TrainSettings, as_task, sculpt
from modgraph.sculpt.engine import PHASES, Engine, Phase, Population, Search
from modgraph.sculpt.stack import initial_stack
from modgraph.sculpt.train import draw_epochs

Table = tuple[np.ndarray, np.ndarray]


def table(n: int, function: Callable[..., Sequence[object]]) -> Table:
    inputs = np.array(list(product((0, 1), repeat=n)))
    return inputs, np.array([[int(bool(bit)) for bit in function(*row)] for row in inputs])


XOR = table(2, lambda a, b: [a ^ b])
TWO_XORS = table(4, lambda a, b, c, d: [a ^ b, c ^ d, not a ^ b])
GATES = table(3, lambda a, b, c: [a & b, b | c])


class OneNetwork:
    """One multi-layer perceptron, pruned and trained by the book, with autograd and torch's Adam."""

    def __init__(self, target: Table, hidden: Sequence[int], seed: int, settings: TrainSettings) -> None:
        self.x = torch.tensor(target[0], dtype=torch.float32)
        self.y = torch.tensor(target[1], dtype=torch.float32)
        self.seed, self.settings = seed, settings
        first = initial_stack((self.x.shape[1], *hidden, self.y.shape[1]), seeds=[seed])
        self.weights = [w[0] for w in first.weights]
        self.biases = [b[0] for b in first.biases]
        self.masks = [m[0] for m in first.masks]
        self.accuracy = 0.0

    def forward(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
        layers = []
        for weight, bias in zip(weights, biases, strict=True):
            x = F.linear(x, weight, bias)
            x = torch.sigmoid(x) if weight is weights[-1] else torch.relu(x)
            layers.append(x)
        return layers

    def train(self, phase: Phase, run: int) -> None:
        weights = [nn.Parameter(w.clone()) for w in self.weights]
        biases = [nn.Parameter(b.clone()) for b in self.biases]
        optimizer = torch.optim.Adam(
            weights + biases,
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        orders, noises = draw_epochs(
            (len(self.x), self.x.shape[1]),
            settings=self.settings,
            key=(self.seed, PHASES[phase], run),
        )
        best = (-1.0, 0.0)
        for order, noise in zip(orders, noises, strict=True):
            x, y = self.x[order] + noise, self.y[order]
            for k in range(0, len(x), self.settings.batch_size):
                batch = slice(k, k + self.settings.batch_size)
                optimizer.zero_grad()
                out = self.forward(x[batch], weights, biases)[-1]
                F.binary_cross_entropy(out, y[batch]).backward()
                for weight, bias, mask in zip(weights, biases, self.masks, strict=True):
                    assert weight.grad is not None
                    assert bias.grad is not None
                    weight.grad *= mask
                    bias.grad *= mask.any(1)
                optimizer.step()
            with torch.no_grad():
                out = self.forward(self.x, weights, biases)[-1]
                accuracy = ((out > 0.5) == (self.y > 0.5)).to(torch.float64).mean().item()
                loss = F.binary_cross_entropy(out, self.y).item()
            if (accuracy, -loss) > best:
                best = (accuracy, -loss)
                self.weights = [w.detach().clone() for w in weights]
                self.biases = [b.detach().clone() for b in biases]
        self.accuracy = best[0]

    def unit_scores(self) -> Tensor:
        total: list[Tensor] = []
        for x, y in zip(self.x, self.y, strict=True):
            biases = [b.clone().requires_grad_() for b in self.biases]
            layers = self.forward(x, self.weights, biases)
            loss = F.binary_cross_entropy(layers[-1], y)
            slopes = torch.autograd.grad(loss, layers[:-1])
            total.append(torch.cat([(a * s).abs().detach() for a, s in zip(layers, slopes, strict=False)]))
        return torch.stack(total).mean(0)

    def prune(self, phase: Phase, target: float) -> None:
        if phase == "units":
            scores = self.unit_scores().numpy().astype(np.float64)
        else:
            scores = torch.cat([w.abs().flatten() for w in self.weights]).numpy()
            scores = scores.astype(np.float64)
        keep = torch.from_numpy(scores > np.percentile(scores, target))
        self.masks = [mask.clone() for mask in self.masks]
        start = 0
        for layer, mask in enumerate(self.masks):
            if phase == "edges":
                mask &= keep[start : start + mask.numel()].view_as(mask)
                start += mask.numel()
            elif layer + 1 < len(self.masks):
                units = keep[start : start + len(mask)]
                mask &= units[:, None]
                self.masks[layer + 1] &= units
                start += len(mask)
        self.weights = [w * m for w, m in zip(self.weights, self.masks, strict=True)]
        self.biases = [b * m.any(1) for b, m in zip(self.biases, self.masks, strict=True)]

    def phase(self, phase: Phase, step: float) -> None:
        count = sum(len(b) for b in self.biases[:-1]) if phase == "units" else sum(m.numel() for m in self.masks)
        smallest, reached, run = 100 / count, 0.0, 0
        kept = (self.weights, self.biases, self.masks, self.accuracy)
        while True:
            if reached + step < 100:
                self.prune(phase, reached + step)
                self.train(phase, run)
                run += 1
                if self.accuracy >= self.settings.accuracy_threshold:
                    kept = (self.weights, self.biases, self.masks, self.accuracy)
                    reached += step
                    continue
                self.weights, self.biases, self.masks, self.accuracy = kept
            if step <= smallest:
                return
            step = max(step / 2, smallest)


def one_network(
    target: Table,
    hidden: Sequence[int],
    seed: int,
    settings: TrainSettings,
    unit_step: float,
    edge_step: float,
) -> OneNetwork:
    """A whole trial with one setting."""
    network = OneNetwork(target, hidden, seed, settings)
    for run in range(settings.dense_runs):
        if network.accuracy < settings.accuracy_threshold:
            network.train("dense", run)
    assert network.accuracy >= settings.accuracy_threshold
    network.phase("units", unit_step)
    before = (network.weights, network.biases, network.accuracy)
    network.train("again", 0)
    if network.accuracy < settings.accuracy_threshold:
        network.weights, network.biases, network.accuracy = before
    network.phase("edges", edge_step)
    return network


@pytest.mark.parametrize(
    ("target", "hidden", "settings"),
    [
        (XOR, (8,), TrainSettings(learning_rate=0.1, batch_size=4, epochs=12)),
        (GATES, (6, 5), TrainSettings(learning_rate=0.05, batch_size=3, epochs=8)),
        (GATES, (9,), TrainSettings(learning_rate=0.05, batch_size=8, epochs=20, noise=0.0)),
    ],
)
@pytest.mark.parametrize("steps", [(50, 10), (25, 20)])
def test_short_searches_are_the_reference(
    target: Table, hidden: Sequence[int], settings: TrainSettings, steps: tuple[float, float]
) -> None:
    found = sculpt(
        target,
        hidden=hidden,
        seeds=[0, 1],
        unit_steps=steps[:1],
        edge_steps=steps[1:],
        settings=settings,
        device="cpu",
    )
    for network in found.networks:
        reference = one_network(target, hidden, network.seed, settings, *steps)
        for mine, theirs in zip(network.masks, reference.masks, strict=True):
            assert np.array_equal(mine, theirs.numpy())
        for a, b in zip(network.weights, reference.weights, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-3)  # rounding, grown over ~40 rounds
        for a, b in zip(network.biases, reference.biases, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-3)
        assert network.accuracy == reference.accuracy


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "step"), [("units", 15.0), ("edges", 8.0)])
def test_every_round_from_the_engines_own_state(phase: Phase, step: float) -> None:
    """Rounding grows over a long search; so each round starts where the engine is, compiled and with torch."""
    settings = TrainSettings(learning_rate=0.03, batch_size=8, epochs=20)
    hidden, seeds = (12, 12), [0, 1, 2]
    engines = [Engine(task=as_task(TWO_XORS), settings=settings, compiled=compiled) for compiled in (True, False)]
    engine, sizes = engines[0], (4, *hidden, 3)
    search = Search(
        networks=Population(
            stack=initial_stack(sizes, seeds=seeds),
            seeds=np.array(seeds),
            correct=np.full(3, -1),
        )
    )
    while not engine.is_over(search):
        search = engine.advance(search)
    state = search.networks
    assert engine.accepted(state).all()
    references = [OneNetwork(TWO_XORS, hidden, seed, settings) for seed in seeds]
    schedule = Schedule.start([step] * 3, smallest=100 / (24 if phase == "units" else 228))
    rounds = 0
    while schedule.running.any() and rounds < 12:
        pruned = [e.pruned(state.stack, phase=phase, targets=schedule.targets) for e in engines]
        trained = [
            e.train(Population(stack=stack, seeds=state.seeds, correct=state.correct), phase=phase, run=rounds)
            for e, stack in zip(engines, pruned, strict=True)
        ]
        for b in np.flatnonzero(schedule.running):
            reference = references[b]
            reference.weights = [w[b] for w in state.stack.weights]
            reference.biases = [x[b] for x in state.stack.biases]
            reference.masks = [m[b] for m in state.stack.masks]
            reference.prune(phase, float(schedule.targets[b]))
            reference.train(phase, rounds)
            for stack, after in zip(pruned, trained, strict=True):
                for mask, wanted in zip(stack.masks, reference.masks, strict=True):
                    assert torch.equal(mask[b], wanted)
                for weight, wanted in zip(after.stack.weights, reference.weights, strict=True):
                    torch.testing.assert_close(weight[b], wanted, atol=1e-5, rtol=0)
                for bias, wanted in zip(after.stack.biases, reference.biases, strict=True):
                    torch.testing.assert_close(bias[b], wanted, atol=1e-5, rtol=0)
                assert engine.accuracy(after)[b] == reference.accuracy
        passed = engine.accepted(trained[0]) & schedule.running
        rows = np.flatnonzero(passed)
        state.write(rows, trained[0].select(rows))
        schedule = schedule.after(passed)
        rounds += 1
    assert rounds > 3
