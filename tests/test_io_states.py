"""State dicts and safetensors: masks, blocks, and the order of layers, which is never guessed."""

from __future__ import annotations

import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrize

from modgraph.io import from_module, list_blocks, load_network
from tests import io_networks
from tests.io_networks import assert_same, network, state_dict
from tests.test_io_torch import Gated, masked


def saved(state: dict[str, Any], path: Path) -> Path:
    if path.suffix == ".pt":
        torch.save(state, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def chain(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"{name.replace('_dot_', '.')}.weight": torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("given", ["file", "mapping", "numbers", "short names"])
def test_masks_may_come_from_elsewhere(suffix: str, given: str, tmp_path: Path) -> None:
    net = network()
    state = state_dict(net)
    for at, mask in enumerate(net.masks):
        state[f"{2 * at}.weight"] = torch.where(torch.tensor(mask), state[f"{2 * at}.weight"], 7.0)
    file = saved(state, tmp_path / f"net{suffix}")
    assert load_network(file).n_edges == sum(mask.size for mask in net.masks)
    by_name = {f"{2 * at}.weight_mask": mask for at, mask in enumerate(net.masks)}
    masks: Any = by_name
    if given == "file":
        masks = saved({name: torch.tensor(mask) for name, mask in by_name.items()}, tmp_path / f"masks{suffix}")
    elif given == "numbers":
        masks = net.masks
    elif given == "short names":
        masks = {str(2 * at): mask for at, mask in enumerate(net.masks)}
    assert_same(load_network(file, masks=masks), net.dag)


def test_masks_that_fit_nothing_are_an_error(tmp_path: Path) -> None:
    net = network()
    file = saved(state_dict(net), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"`masks` must be masks of '0', '2', '4' \(got 'fc'\)"):
        load_network(file, masks={"fc": net.masks[0]})
    with pytest.raises(ValueError, match=r"mask of '0' must have its shape \(7, 5\) \(got \(5, 7\)\)"):
        load_network(file, masks={"0": net.masks[0].T})
    np.savez(tmp_path / "net.npz", weight0=net.weights[0])
    np.savez(tmp_path / "masks.npz", mask0=net.masks[0])
    assert load_network(tmp_path / "net.npz", masks=tmp_path / "masks.npz").n_edges == net.masks[0].sum()
    onnx = io_networks.write(net, "onnx Gemm", tmp_path)
    with pytest.raises(ValueError, match="`masks` are for files of weights"):
        load_network(onnx, masks=net.masks)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_one_mlp_of_a_larger_model_is_read_by_name(suffix: str, tmp_path: Path) -> None:
    state = {"tok_embed.weight": torch.randn(50, 8)}
    for layer in range(2):
        state |= {f"layers.{layer}.attn.in_proj_weight": torch.randn(24, 8)}
        shapes = {"up.weight": (16, 8), "up.bias": (16,), "down.weight": (8, 16)}
        state |= {f"layers.{layer}.mlp.{name}": torch.randn(shape) for name, shape in shapes.items()}
    file = saved(state, tmp_path / f"model{suffix}")
    dag = load_network(file, block="layers.1.mlp")
    assert dag.layer_sizes == (8, 16, 8)
    assert dag.layer_names == ("inputs", "layers.1.mlp.up", "layers.1.mlp.down")
    assert dag.biases is not None
    assert dag.biases[8:24].tolist() == state["layers.1.mlp.up.bias"].double().tolist()
    assert load_network(file, block=("layers.0.mlp.up", "layers.0.mlp.down")).layer_names is not None
    with pytest.raises(ValueError, match=r"'layers.0.attn.in_proj_weight' belongs to no supported layer"):
        load_network(file)
    with pytest.raises(ValueError, match=r"`block` must be the name of a part of the model \(got 'layers.2.mlp'"):
        load_network(file, block="layers.2.mlp")


def test_layers_of_attention_are_no_chain(tmp_path: Path) -> None:
    state = chain(**{f"layer_dot_{name}": (8, 8) for name in ("q_proj", "k_proj", "v_proj")})
    with pytest.raises(ValueError, match=r"'layer.q_proj' is not part of a chain .*name one MLP with `block`"):
        load_network(saved(state, tmp_path / "a.pt"))


def test_numbers_and_shapes_tell_the_order_of_safetensors(tmp_path: Path) -> None:
    # The file's own order is that of the alphabet: 10 comes before 2.
    numbered = chain(**{str(at): (6, 6) for at in range(12)})
    dag = load_network(saved(numbered, tmp_path / "a.safetensors"))
    assert dag.layer_names == ("inputs", *map(str, range(12)))
    # fc2 and fc3 could change places by shape alone, not by number.
    mixed = chain(out=(2, 5), fc1=(5, 4), fc3=(5, 5), fc2=(5, 5))
    dag = load_network(saved(mixed, tmp_path / "b.safetensors"))
    assert dag.layer_names == ("inputs", "fc1", "fc2", "fc3", "out")


def test_an_order_that_could_be_another_is_an_error(tmp_path: Path) -> None:
    file = saved(chain(first=(5, 5), second=(5, 5)), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="must chain in one order, and more than one order does: 'first'"):
        load_network(file)
    assert load_network(file, block=("second", "first")).layer_names == ("inputs", "second", "first")
    # State dicts come in the order of the model.
    assert load_network(saved(chain(b=(5, 5), a=(5, 5)), tmp_path / "a.pt")).layer_names == ("inputs", "b", "a")
    with pytest.raises(ValueError, match=r"'a\.c_fc' may be stored \(in, out\), as GPT-2 does"):
        load_network(saved(chain(a_dot_c_fc=(8, 4), a_dot_c_proj=(4, 8)), tmp_path / "c.pt"))
    with pytest.raises(ValueError, match="no order does"):
        load_network(saved(chain(a=(5, 4), b=(3, 2)), tmp_path / "b.pt"))
    many = chain(**{f"{chr(97 + at)}x": (5, 5) for at in range(26)})
    with pytest.raises(ValueError, match="must chain in one order"):
        load_network(saved(many, tmp_path / "c.safetensors"))


def test_parametrizations_with_one_mask_are_understood(tmp_path: Path) -> None:
    class Mask(nn.Module):
        def __init__(self, mask: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.mask  # type: ignore[operator]

    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    parametrize.register_parametrization(model[0], "weight", Mask((torch.rand(6, 4) < 0.5).float()))
    for suffix in (".pt", ".safetensors"):
        assert_same(load_network(saved(dict(model.state_dict()), tmp_path / f"a{suffix}")), from_module(model))
    nn.utils.parametrizations.weight_norm(model[2])
    with pytest.raises(ValueError, match=r"'2' has a parametrization that only its code can tell"):
        load_network(saved(dict(model.state_dict()), tmp_path / "b.pt"))


def test_norms_are_left_out_and_convolutions_chain(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    dag, live = load_network(saved(dict(model.state_dict()), tmp_path / "a.pt")), from_module(model)
    assert (dag.edges == live.edges).all()
    assert dag.layer_sizes == (1, 4, 5, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_types_of_numbers(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    weight = torch.tensor([[0.0, 1.5, -2.0]]).to(dtype)
    dag = load_network(saved({"fc.weight": weight}, tmp_path / f"a{suffix}"))
    assert dag.weights is not None
    assert dag.weights.tolist() == weight[0, 1:].double().tolist()
    assert dag.sources.tolist() == [1, 2]


def test_numbered_arrays_may_be_in_safetensors(tmp_path: Path) -> None:
    net = network()
    arrays: dict[str, Any] = {f"weight{at}": weight for at, weight in enumerate(net.weights)}
    arrays |= {f"bias{at}": bias for at, bias in enumerate(net.biases)}
    save_arrays(arrays, tmp_path / "a.safetensors")
    assert_same(load_network(tmp_path / "a.safetensors"), net.dag)


def test_wholly_pickled_models_need_trust(tmp_path: Path) -> None:
    net = network()
    model = io_networks.pruned_model(net)
    torch.save(model, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"more than tensors, and reading it would run code .* `trust_pickle=True`"):
        load_network(tmp_path / "a.pt")
    assert_same(load_network(tmp_path / "a.pt", trust_pickle=True), net.dag)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "b.pt")
    with pytest.raises(ValueError, match="TorchScript is not supported"):
        load_network(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "must be a state dict"),
        ({"a.weight": 3}, "must be a state dict, names and tensors"),
        ({"a.weight": torch.ones(2, 2), "b.table": torch.ones(2, 2)}, "'b.table' belongs to no supported layer"),
        ({"a.bias": torch.ones(2, 2)}, "layer 'a' must have a weight"),
        ({"a.weight": torch.ones(2, 2), "a.bias": torch.ones(3)}, "bias of 'a' must hold 2 real numbers"),
        ({"a.weight": torch.ones(2, 0)}, "must have non-empty .out, in. weights"),
        ({"a.weight": torch.full((2, 2), float("inf"))}, r"weights of 'a' must be finite \(got inf at \(0, 0\)\)"),
        ({"a.weight": torch.ones(2, 2, dtype=torch.complex64)}, "real tensor"),
        ({"a.weight": torch.ones(1, 1).expand(1000, 1000).clone()[:1, :1].expand(9999, 9999)}, "as many values"),
    ],
)
def test_bad_state_dicts_get_one_sentence(state: dict[str, Any], message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path / "a.pt")


def test_safetensors_are_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    # tests/long/read_large.py does it with 10⁸ weights.
    rng, width = np.random.default_rng(0), 3000
    arrays = {f"{at}.weight": np.zeros((width, width), dtype=np.float32) for at in range(3)}
    for array in arrays.values():
        array[rng.integers(width, size=90_000), rng.integers(width, size=90_000)] = 1.5
    n_edges = sum(int((array != 0).sum()) for array in arrays.values())
    save_arrays(arrays, tmp_path / "a.safetensors")
    arrays.clear()
    tracemalloc.start()
    dag = load_network(tmp_path / "a.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dag.n_edges == n_edges
    assert dag.weights is not None
    result = dag.sources.nbytes + dag.targets.nbytes + dag.weights.nbytes
    assert peak < 1.5 * 4 * width**2 + result


def test_the_smallest_int_is_a_large_weight(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight0=np.array([[-128, 1, 0]], dtype=np.int8))
    assert load_network(tmp_path / "a.npz", threshold=1.5).sources.tolist() == [0]


# --- Never a wrong graph without a word -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_missing_mask_is_an_error(suffix: str, tmp_path: Path) -> None:
    from torch.ao import pruning

    model: Any = nn.Sequential(nn.Linear(10, 15), nn.ReLU(), nn.Linear(15, 10))
    sparsifier = pruning.WeightNormSparsifier(  # type: ignore[attr-defined]  # not in its list of exports
        sparsity_level=0.9, sparse_block_shape=(1, 1)
    )
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}, {"tensor_fqn": "2.weight"}])
    sparsifier.step()
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("mask")}
    assert "0.parametrizations.weight.original" in state
    file = saved(state, tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=r"layer '0' was saved with a parametrization, such as a mask, that the file"):
        load_network(file)
    live = from_module(model)
    masks: Any = {name: (model[int(name)].weight.detach().numpy() != 0) for name in "02"}
    read = load_network(file, masks=masks)
    assert read == replace(live, activations=None, layer_names=read.layer_names, notes=read.notes)
    assert live.n_edges == 30


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second, self.last = (
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 6), nn.Linear(6, 2)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.second(torch.relu(self.norm(self.first(x)))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_a_state_dict_does_not_tell_is_noted(suffix: str, tmp_path: Path) -> None:
    model = Residual()
    file = saved(dict(model.state_dict()), tmp_path / f"a{suffix}")
    notes = load_network(file).notes
    assert any("'norm' (BatchNorm, LayerNorm or PReLU)" in note for note in notes)
    assert any("read as one chain, first → second → last" in note and "skip layers" in note for note in notes)
    assert from_module(model).notes == ()


@pytest.mark.parametrize(
    "names",
    [
        ("q", "k", "v", "o"),
        ("attn.wq", "attn.wk", "attn.wv"),
        ("layer.self_attn.q_proj", "layer.self_attn.o_proj"),
        ("q_lin", "k_lin", "v_lin", "out_lin"),
        ("trunk", "head1", "head2"),
        ("body", "heads.0", "heads.1"),
        ("body", "policy", "value"),
        ("body", "actor", "critic"),
        ("conv1", "downsample.0", "conv2"),
        ("fc1", "shortcut", "fc2"),
    ],
)
def test_layers_side_by_side_are_not_chained(names: tuple[str, ...], tmp_path: Path) -> None:
    state = {f"{name}.weight": torch.randn(8, 8) for name in names}
    with pytest.raises(ValueError, match=r"is not part of a chain of weight layers: name one MLP with `block`"):
        load_network(saved(state, tmp_path / "a.pt"))
    assert load_network(saved(state, tmp_path / "a.pt"), block=names).n_layers == len(names) + 1


def test_one_head_is_the_last_layer(tmp_path: Path) -> None:
    dag = load_network(saved({"body.weight": torch.randn(4, 3), "head.weight": torch.randn(2, 4)}, tmp_path / "a.pt"))
    assert dag.layer_sizes == (3, 4, 2)


def test_masked_linear_layers_of_ones_own(tmp_path: Path) -> None:
    net = network()
    state: dict[str, Any] = {}
    for at, (mask, bias) in enumerate(zip(net.masks, net.biases, strict=True)):
        weight = torch.where(torch.tensor(mask), torch.tensor(net.weights[at]), 7.0)
        state |= {f"fc{at}.weight": weight, f"fc{at}.mask": torch.tensor(mask), f"fc{at}.bias": torch.tensor(bias)}
    assert_same(load_network(saved(state, tmp_path / "a.pt")), net.dag)


# --- More that people hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "names",
    [
        ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),  # Llama
        ("feed_forward.w1", "feed_forward.w3", "feed_forward.w2"),  # its first release
        ("DenseReluDense.wi_0", "DenseReluDense.wi_1", "DenseReluDense.wo"),  # T5
    ],
)
def test_gated_mlps_have_the_edges_of_both(names: tuple[str, str, str], suffix: str, tmp_path: Path) -> None:
    model = masked(Gated())
    kept = {"gate": names[0], "up": names[1], "down": names[2]}
    state = {f"layers.3.{kept[name]}.weight": getattr(model, name).weight.detach() for name in kept}
    state |= {"layers.3.self_attn.q_proj.weight": torch.randn(4, 4), "embed_tokens.weight": torch.randn(9, 4)}
    file = saved(state, tmp_path / f"a{suffix}")
    dag, live = load_network(file, block=f"layers.3.{names[0].partition('.')[0]}"), from_module(model)
    assert dag.layer_sizes == live.layer_sizes == (4, 6, 4)
    assert (dag.edges == live.edges).all()
    assert "gated MLP" in dag.notes[0]
    assert list_blocks(file) == {f"layers.3.{names[0].partition('.')[0]}": (4, 6, 4)}


def test_three_layers_by_number_are_a_chain(tmp_path: Path) -> None:
    dag = load_network(saved(chain(w1=(8, 4), w2=(4, 8), w3=(8, 4)), tmp_path / "a.pt"))
    assert dag.layer_sizes == (4, 8, 4, 8)


def test_blocks_of_a_large_model_are_listed(tmp_path: Path) -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)
    state = {name.replace("linear", "mlp.linear"): tensor for name, tensor in encoder.state_dict().items()}
    for suffix in (".pt", ".safetensors"):
        blocks = list_blocks(saved(state, tmp_path / f"a{suffix}"))
        assert blocks == {f"layers.{at}.mlp": (8, 16, 8) for at in range(2)}
        for name, sizes in blocks.items():
            assert load_network(tmp_path / f"a{suffix}", block=name).layer_sizes == sizes


class Settings(dict[str, Any]):
    """A class that a checkpoint names, as Lightning's AttributeDict."""


def touch(path: str) -> None:
    Path(path).touch()


class Touching:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return touch, (str(self.path),)


def test_checkpoints_of_lightning_are_read_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    net = network()
    content = {
        "epoch": 3,
        "state_dict": {f"model.{name}": tensor for name, tensor in state_dict(net).items()},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": Settings(width=8, activation=nn.ReLU),
        "callbacks": {"one": Touching(tmp_path / "ran")},
    }
    torch.save(content, tmp_path / "last.ckpt")
    assert_same(load_network(tmp_path / "last.ckpt"), net.dag)
    assert not (tmp_path / "ran").exists()
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="more than tensors, and reading it would run code"):
        load_network(tmp_path / "whole.pt")
