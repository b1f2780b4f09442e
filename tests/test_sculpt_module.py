"""`sculpt_module`: masks, scores and the schedule on torch modules with a training function of one's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

import modgraph as mg
from modgraph.sculpt import Round, Task, draw_history, sculpt_module
from modgraph.sculpt.module import _ModuleSculptor
from modgraph.sculpt.objective import Objective
from modgraph.sculpt.prune import unit_score
from modgraph.sculpt.rounds import Limits
from tests.test_sculpt_stack import SIZES, pruned_stack

INPUTS = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.stack([INPUTS[:, 0] + INPUTS[:, 1].abs(), INPUTS[:, 2]], dim=1)


def train(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    adam = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        adam.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        adam.step()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))


def test_a_module_is_pruned_and_the_given_one_is_not_changed() -> None:
    model, seen = network(), list[Round]()
    before = copy.deepcopy(model.state_dict())
    out = sculpt_module(
        model,
        (INPUTS[:200], TARGETS[:200]),
        train=train,
        loss=F.mse_loss,
        metric="R²",
        validation=(INPUTS[200:], TARGETS[200:]),
        tolerance=0.05,
        unit_step=30,
        edge_step=20,
        progress=seen.append,
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert out.accepted
    assert out.value >= out.dense * 0.95
    assert tuple(seen) == out.rounds
    assert {done.phase for done in seen} == {"dense", "units", "again", "edges"}
    assert out.network.n_edges < (4 * 12 + 12 * 8 + 8 * 2) / 3
    assert mg.detect_modules(out.network).labels[3] == -1  # the fourth input does nothing
    with torch.no_grad():
        wanted = out.model(INPUTS)
    values = mg.forward(out.network, INPUTS.numpy())[:, -2:]
    torch.testing.assert_close(torch.tensor(values), wanted.double(), rtol=1e-4, atol=1e-4)
    for layer in out.model.modules():
        if isinstance(layer, nn.Linear):
            prune.remove(layer, "weight")
    assert mg.from_module(out.model).n_edges == out.network.n_edges
    assert draw_history(out.rounds).get_ylabel() == "R²"


def test_unit_scores_are_those_of_the_stack() -> None:
    stack = pruned_stack(11)
    targets = torch.randint(2, (30, SIZES[-1])).float()
    task = Task(inputs=torch.randn(30, SIZES[0]), targets=targets)
    layers: list[nn.Module] = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(weight.shape[2], weight.shape[1])
        linear.load_state_dict({"weight": weight[0], "bias": bias[0]})
        layers += [linear, nn.ReLU()]
    loss = Objective.of("bits", n_outputs=SIZES[-1])
    sculptor = _ModuleSculptor(
        nn.Sequential(*layers[:-1]),
        (task.inputs, targets),
        (task.inputs, targets),
        train=train,
        objective=loss,
        limits=Limits(tolerance=0, unit_share=0, unit_step=50, edge_step=50),
    )
    torch.testing.assert_close(sculptor._unit_scores(), unit_score(stack, task)[:1])
    assert sculptor.baseline == loss.baseline(targets, targets)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.two(x + self.one(x).relu())
        return result


@pytest.mark.slow
def test_only_edges_are_pruned_where_layers_are_no_chain() -> None:
    torch.manual_seed(1)
    out = sculpt_module(
        Residual(), (INPUTS, TARGETS), train=train, loss=F.mse_loss, metric="R²", tolerance=0.1, edge_step=25
    )
    assert out.notes == ("only edges were pruned: the linear layers are no chain",)
    assert {done.phase for done in out.rounds} == {"dense", "edges"}
    assert out.rounds[-1].density < 1


def test_labels_may_be_integers() -> None:
    labels = (INPUTS[:, 0] > 0).long() + (INPUTS[:, 1] > 1).long()

    def learn(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        adam = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            adam.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            adam.step()

    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    out = sculpt_module(
        model, (INPUTS, labels), train=learn, loss=F.cross_entropy, metric="class accuracy", edge_step=25
    )
    assert out.value > out.baseline == pytest.approx(float((labels == labels.mode().values).double().mean()))
    assert out.network.n_edges < 84


def test_what_can_not_be_pruned_is_refused() -> None:
    options = {"train": train, "loss": F.mse_loss, "metric": "R²"}
    with pytest.raises(ValueError, match="`metric` must be"):
        sculpt_module(network(), (INPUTS, TARGETS), **options | {"metric": "F1"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`model` must be a torch\.nn\.Module"):
        sculpt_module(train, (INPUTS, TARGETS), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`rounds` must hold one round or more"):
        draw_history([])
