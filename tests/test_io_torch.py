"""Live torch modules: chains, residual additions, concatenations, gates, convolutions, blocks by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune

from modgraph import LayeredDAG
from modgraph.forward import forward
from modgraph.io import from_module


def filled_norm(size: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(size)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    return norm


def masked(module: nn.Module, *, keep: float = 0.5) -> Any:
    """Set some weights to 0, for good."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.data *= torch.rand_like(parameter) < keep
    return module.eval()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def assert_computes(model: nn.Module, dag: LayeredDAG, *, n_inputs: int = 4) -> None:
    inputs = torch.randn(6, n_inputs)
    with torch.no_grad():
        expected = model(inputs)
    expected = expected if isinstance(expected, torch.Tensor) else torch.cat(list(expected), dim=1)
    np.testing.assert_allclose(forward(dag, inputs.numpy())[:, -dag.layer_sizes[-1] :], expected, atol=1e-5)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(functional.relu(self.a(x))) + x
        return self.c(torch.cat([functional.silu(y), x], dim=1))  # type: ignore[no-any-return]


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.relu(self.a(x))
        return h, self.c(self.b(h).tanh()) * 2 - 1


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transformer's layer, written by hand: attention, and an MLP with its own norm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.mlp = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x, x, x)[0]
        return x + self.mlp(x)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 6), filled_norm(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2), nn.Softmax(-1)),
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), filled_norm(6), nn.Linear(6, 3), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.Linear(4, 3, bias=False), nn.ELU(0.5), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.SiLU()), nn.Identity(), nn.Linear(3, 2)),
        nn.Linear(4, 3),
        Residual(),
        Heads(),
    ],
    ids=["norm before", "norm after", "no bias", "nested", "one layer", "residual", "heads"],
)
def test_the_graph_computes_what_the_model_does(model: nn.Module) -> None:
    assert_computes(masked(model), from_module(model))


def test_norms_dropout_and_activations_add_no_units() -> None:
    plain = masked(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)))
    norm = nn.BatchNorm1d(6).eval()
    dressed = nn.Sequential(plain[0], norm, nn.ReLU(), nn.Dropout(), plain[1], nn.Sigmoid())
    one, two = from_module(plain), from_module(dressed)
    assert (one.edges == two.edges).all()
    assert one.dense_edges == two.dense_edges
    # A channel that BatchNorm multiplies by 0 sends nothing.
    norm.weight.data[2] = 0
    assert not (from_module(dressed).targets == 4 + 2).any()


def test_a_residual_addition_is_one_unit_with_both_kinds_of_edges() -> None:
    model = Residual()
    model.b.weight.data[1] = 0
    dag = from_module(model)
    assert dag.layer_sizes == (4, 4, 4, 3)
    assert dag.layer_names == ("x", "a", "b", "c")
    into = {unit: sorted(dag.sources[dag.targets == unit].tolist()) for unit in range(8, 12)}
    assert into == {unit: ([unit - 8] if unit == 9 else [unit - 8, 4, 5, 6, 7]) for unit in range(8, 12)}
    weights = dag.weights
    assert weights is not None
    assert weights[(dag.sources < 4) & (dag.targets >= 8) & (dag.targets < 12)].tolist() == [1.0] * 4
    assert dag.dense_edges == 16 + 16 + 4 + 24
    # The concatenation: the outputs read the sums and the inputs.
    assert set(dag.sources[dag.targets == 12].tolist()) == {0, 1, 2, 3, 8, 9, 10, 11}


def test_outputs_are_the_last_layer_and_units_that_are_read_too_have_a_copy_there() -> None:
    dag = from_module(Heads())
    assert dag.layer_sizes == (4, 4, 5, 7)
    copies = [(a, b) for a, b in dag.edges.tolist() if b in range(13, 17)]
    assert copies == [(4, 13), (5, 14), (6, 15), (7, 16)]


def test_inputs_that_are_shown_have_an_output_of_their_own() -> None:
    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.a(x), x], dim=-1)

    dag = from_module(Shown())
    assert dag.layer_sizes == (2, 5)
    assert dag.edges[-1].tolist() == [1, 6]


def test_a_gate_is_one_unit_with_the_edges_of_both_sums() -> None:
    model = Gated()
    model.gate.weight.data[:] = 0
    model.up.weight.data[:] = 0
    model.gate.weight.data[2, 1] = 1
    model.up.weight.data[2, 3] = 1
    dag = from_module(model)
    assert dag.layer_sizes == (4, 6, 4)
    assert dag.sources[dag.targets == 4 + 2].tolist() == [1, 3]
    assert dag.n_edges == 2 + 24
    with pytest.raises(ValueError, match=r"`activations` of layer 1 .* can't be computed \(got '\(product\)'"):
        forward(dag, np.zeros((1, 4)))
    assert from_module(nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.Linear(3, 2))).layer_sizes == (4, 3, 2)


class Written(nn.Module):
    """Two layers with an activation that is written out."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(4, 6), nn.Linear(6, 2), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.function(self.a(x)))  # type: ignore[no-any-return]


WRITTEN = {
    "gelu": lambda z: z * 0.5 * (1 + torch.erf(z / 1.41421)),
    "gelu, halved last": lambda z: 0.5 * (z * (1 + torch.erf(z / 2**0.5))),
    "gelu_tanh": lambda z: 0.5 * z * (1 + torch.tanh(0.7978845608 * (z + 0.044715 * torch.pow(z, 3)))),
    "gelu_tanh, cubed by products": lambda z: 0.5 * z * (1 + torch.tanh(0.79788456 * (z + 0.044715 * z * z * z))),
    "silu": lambda z: z * torch.sigmoid(z),
    "square": lambda z: z * z,
    "softsign": lambda z: z / (1 + torch.abs(z)),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_activations_written_out_add_no_units_and_are_known(name: str) -> None:
    model = Written(WRITTEN[name])
    dag = from_module(model)
    assert dag.layer_sizes == (4, 6, 2)
    assert dag.n_edges == 36
    assert dag.activations is not None
    assert dag.activations[4] == name.partition(",")[0]
    assert_computes(model, dag)


def test_other_functions_of_one_value_are_one_activation_without_a_name() -> None:
    dag = from_module(Written(lambda z: z + torch.sin(z) * torch.tanh(z)))
    assert dag.layer_sizes == (4, 6, 2)
    with pytest.raises(ValueError, match=r"can't be computed \(got 'expression'\)"):
        forward(dag, np.zeros((1, 4)))


def test_compiled_and_parallel_models_are_read() -> None:
    model = masked(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    compiled: Any = torch.compile(model, backend="eager")
    assert from_module(compiled) == from_module(model)
    assert from_module(nn.DataParallel(model)) == from_module(model)


def test_flattened_images_are_inputs_one_by_one() -> None:
    assert from_module(nn.Sequential(nn.Flatten(), nn.Linear(784, 5))).layer_sizes == (784, 5)


def test_blocks_are_read_by_name() -> None:
    model = Transformer()
    dag = from_module(model, block="layers.1.mlp")
    assert dag.layer_sizes == (4, 8, 4)
    assert dag.layer_names == ("input", "layers.1.mlp.1", "layers.1.mlp.3")
    assert from_module(model, block="layers.0.mlp.1").layer_sizes == (4, 8)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)
    chain = from_module(encoder, block=("layers.1.linear1", "layers.1.linear2"))
    assert chain.layer_sizes == (8, 16, 8)
    with pytest.raises(ValueError, match=r"`block` must be the name of a part .* \(got 'layers.7'; there is 'layers'"):
        from_module(model, block="layers.7")
    with pytest.raises(ValueError, match=r"'layers.0.attention' .MultiheadAttention. is not .* with `block`"):
        from_module(model)


def test_masks_of_prune_decide_and_the_model_is_not_changed() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    for layer in (model[0], model[2]):
        prune.random_unstructured(layer, "weight", 0.5)
        prune.random_unstructured(layer, "bias", 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keys = [sorted(vars(module)) for module in model.modules()]
    dag = from_module(model)
    assert dag.n_edges == int(sum(module.weight_mask.sum() for module in (model[0], model[2])))
    assert_computes(model, dag)
    assert [sorted(vars(module)) for module in model.modules()] == keys
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_parametrizations_and_masked_layers_of_ones_own_are_understood() -> None:
    class Mask(nn.Module):
        def __init__(self, mask: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.mask  # type: ignore[operator]

    class Masked(nn.Linear):
        def __init__(self, n_in: int, n_out: int) -> None:
            super().__init__(n_in, n_out)
            self.register_buffer("mask", (torch.rand(n_out, n_in) < 0.5).float())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x, self.weight * self.mask, self.bias)  # type: ignore[operator]

    layer = nn.Linear(4, 6)
    parametrize.register_parametrization(layer, "weight", Mask((torch.rand(6, 4) < 0.5).float()))
    model: Any = nn.Sequential(layer, nn.ReLU(), Masked(6, 2)).eval()
    dag = from_module(model)
    assert dag.n_edges == int((layer.weight != 0).sum() + model[2].mask.sum())
    assert_computes(model, dag)


def test_weights_in_products_and_views_are_read() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(8))
            self.v = nn.Parameter(torch.randn(3, 8))

        def forward(self, x: torch.Tensor, shift: float | None = None) -> torch.Tensor:
            assert shift is None
            y = torch.addmm(self.b, x.view(-1, x.size(-1)), self.w).view(x.size(0), 8)
            return (self.v @ functional.relu(y).T).T + 1.0

    model = Turned()
    assert_computes(model, from_module(model))


def test_factors_of_a_product_are_multiplied_in() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.addmm(self.b, x.permute(0, 1), self.w, beta=2, alpha=0.5)

    model = Product()
    assert_computes(model, from_module(model))


def test_layers_do_not_read_transposed_values() -> None:
    class Mixing(nn.Module):
        """Its second layer mixes the samples, as in an MLP-mixer."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x).T).T  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match=r"'b' \(Linear\) is not supported in this place: the samples must be rows"):
        from_module(Mixing())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 2)), r"layer '1' \(Bilinear\) is not supported: supported"),
        (nn.Sequential(nn.LSTM(4, 4)), r"layer '0' \(LSTM\) is not supported"),
        (nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 2)), r"layer '0' \(Embedding\) is not supported"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)), "layer '1' must read 3 values.*got 4"),
        (nn.Sequential(nn.ReLU()), "size of input 'input' must be known"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(5, 2)),
            r"'1' \(Linear\) is not supported in this place: it reads the positions of",
        ),
        (nn.Linear(4, 3, device="meta"), "must have values"),
        (nn.Sequential(nn.LazyLinear(4)), "must have values"),
    ],
)
def test_what_is_not_supported_is_named(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_module(model)


def test_inputs_take_their_size_from_the_layer_that_reads_them() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(2 * x * torch.sigmoid(x) - 1) + self.norm(x)  # type: ignore[no-any-return]

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one, two = x.chunk(2, 1)
            return self.a(one) + self.b(two)  # type: ignore[no-any-return]

    assert from_module(Late()).layer_sizes == (4, 4)
    # The layers that read the halves don't tell the size of the whole.
    with pytest.raises(ValueError, match="the size of input 'x' must be known where it is first used"):
        from_module(Halves())


def test_what_cannot_be_traced_is_said() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"must be traceable with torch.fx: .*control flow"):
        from_module(Branching())
    with pytest.raises(ValueError, match=r"`model` must be a torch\.nn\.Module \(got int"):
        from_module(3)  # type: ignore[arg-type]


def test_not_a_number_is_found() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data[1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"weights of '0' must be finite \(got nan at \(1, 0\)\)"):
        from_module(layer)
