"""`.pt2` files of torch.export: the same graph as the live model, without running anything in the file."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from modgraph.io import from_module, load_network
from tests.io_networks import assert_same, network, pruned_model, write
from tests.test_io_convolutions import ResNet
from tests.test_io_torch import WRITTEN, Gated, Heads, Residual, Written, filled_norm, masked


def saved(model: nn.Module, shape: tuple[int, ...], folder: Path, *, free: bool = False) -> Path:
    sizes: Any = ({0: torch.export.Dim("n")},) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prune sets attributes while the model runs
        program = torch.export.export(model.eval(), (torch.randn(shape),), dynamic_shapes=sizes)
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Residual(), (3, 4)),
        (Heads(), (3, 4)),
        (Gated(), (3, 4)),
        (ResNet(), (1, 3, 6, 6)),
        (Written(WRITTEN["gelu_tanh"]), (2, 4)),
        (nn.Sequential(nn.Linear(4, 6), filled_norm(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2)), (3, 4)),
        (nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.LeakyReLU(0.2), nn.Linear(3, 2)), (3, 4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ELU(), nn.LayerNorm(4), nn.Linear(4, 2)), (2, 1, 6, 6)),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_programs_are_the_graph_of_the_live_model(
    model: nn.Module, shape: tuple[int, ...], free: bool, tmp_path: Path
) -> None:
    masked(model)
    dag, live = load_network(saved(model, shape, tmp_path, free=free and shape[0] > 1)), from_module(model)
    assert dag.layer_names == live.layer_names
    assert (dag.edges == live.edges).all()
    assert dag.activations is not None
    assert live.activations is not None
    assert dag.activations.tolist() == live.activations.tolist()
    assert dag.weights is not None
    assert live.weights is not None
    np.testing.assert_allclose(dag.weights, live.weights, rtol=1e-5)


def test_masks_of_prune_and_parametrizations_decide(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.eye(3))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.mask  # type: ignore[operator]

    net = network()
    pruned = pruned_model(net)
    dag = load_network(saved(pruned, (2, 5), tmp_path))
    assert_same(dag, net.dag)
    assert dag.layer_names == from_module(pruned).layer_names
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    parametrize.register_parametrization(model[0], "weight", Masked())
    assert load_network(saved(model, (2, 3), tmp_path)).edges.tolist() == from_module(model).edges.tolist()


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.T

    with pytest.raises(ValueError, match="it multiplies two computed values, as attention does"):
        load_network(saved(Attention(), (3, 4), tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [{"as_int": 1 << 20}, {"as_int": 1 << 20}]}, "must be"),
        ({"storage_offset": {"as_int": 1 << 40}}, "must be as large as its shape"),
        ({"storage_offset": {"as_int": -8}}, "must be as large as its shape"),
        ({"dtype": 99}, "must be stored as plain numbers"),
        ({"strides": [{"as_int": 0}, {"as_int": 1}]}, "must be stored as plain numbers in rows"),
    ],
)
def test_claims_of_a_program_are_checked(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write(network(), "pt2", tmp_path)
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    (name,) = (name for name in members if name.endswith("model_weights_config.json"))
    config = json.loads(members[name])
    config["config"]["0.weight"]["tensor_meta"] |= change
    members[name] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "bad.pt2", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path / "bad.pt2")
