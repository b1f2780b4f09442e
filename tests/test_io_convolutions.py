from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from modgraph.forward import forward
from modgraph.io import from_module
from tests.test_io_torch import masked


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = (nn.Conv2d(n, 4, 3, padding=1) for n in (3, 4, 4))
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(x))
        x = functional.relu(self.two(functional.relu(self.norm(self.one(x)))) + x)
        return self.last(functional.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def test_convolutions_have_an_edge_where_any_weight_of_the_kernel_is() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)),
    )
    first, _, last = (m for m in model if isinstance(m, nn.Conv2d | nn.Linear))
    first.weight.data[:] = 0
    first.weight.data[3, 1, 2, 0] = -2
    last.weight.data[:] = 0
    last.weight.data[1, 4 * 5 + 2] = 3  # the third of four positions of channel 5
    dag = from_module(model)
    assert dag.layer_sizes == (2, 4, 6, 3)
    assert dag.edges[0].tolist() == [1, 2 + 3]
    assert dag.edges[-1].tolist() == [6 + 5, 12 + 1]
    assert dag.weights is not None
    assert (dag.weights[-1], dag.n_edges) == (3, 1 + 6 * 2 + 1)
    # Groups: the first three channels read the first two.
    inside = {(a - 2, b - 6) for a, b in dag.edges[1:-1].tolist()}
    assert inside == {(a, b) for b in range(6) for a in range(4) if a // 2 == b // 3}
    assert dag.dense_edges == 8 + 6 * 2 + 18
    with pytest.raises(ValueError, match="can't be computed"):
        forward(dag, np.zeros((1, 2)))


def test_residual_convolutions_skip_layers() -> None:
    dag = from_module(ResNet())
    assert dag.layer_sizes == (3, 4, 4, 4, 2)
    skips = {(a, b) for a, b in dag.edges.tolist() if a in range(3, 7) and b >= 11}
    assert skips == {(3 + at, 11 + at) for at in range(4)}


def test_transposed_convolutions_may_be_functions() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 6, 2, groups=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.conv_transpose2d(self.a(x), self.b.weight, self.b.bias, groups=2)

    model = masked(Transposed())
    dag, live = from_module(model), from_module(nn.Sequential(model.a, model.b))
    assert (dag.edges == live.edges).all()
    assert dag.weights is not None
    assert live.weights is not None
    assert dag.weights.tolist() == live.weights.tolist()


def test_positions_of_feature_maps_are_not_taken_for_channels() -> None:
    class Cropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)[..., :2])  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match="it slices along axis -1, not along that of the units"):
        from_module(Cropped())
