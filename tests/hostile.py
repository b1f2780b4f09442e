"""Small files that ask for much memory or time, or have no end: each builder writes one and returns its path."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HUGE = 120_000  # a square matrix of floats that large takes a hundred gigabytes


def npy_header(shape: tuple[int, ...]) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def zipped(path: Path, members: dict[str, bytes], *, compressed: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def onnx_file(path: Path, nodes: list[Any], *, n_inputs: int = 2, output: str = "y", **arrays: NDArray[Any]) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n_inputs]) for name in ("x", output))
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    path.write_bytes(helper.make_model(helper.make_graph(nodes, "g", [x], [y], stored)).SerializeToString())
    return path


def safetensors_file(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def keras_file(
    path: Path, layers: list[Any], *, kind: str = "Sequential", weights: bytes = b"", last: str = ""
) -> Path:
    config = {"class_name": kind, "config": {"layers": layers, "output_layers": [[last, 0, 0]]}}
    if not weights:
        with h5py.File(path.with_suffix(".weights"), "w") as file:
            file.create_dataset("layers/dense/vars/0", data=np.ones((2, 2), dtype="f4"))
        weights = path.with_suffix(".weights").read_bytes()
    return zipped(path, {"config.json": json.dumps(config).encode(), "model.weights.h5": weights}, compressed=True)


def keras_input(size: int, name: str = "x") -> dict[str, Any]:
    return {"class_name": "InputLayer", "config": {"name": name, "batch_shape": [None, size]}, "inbound_nodes": []}


def h5_model(path: Path, *, n_inputs: int) -> h5py.File:
    dense = {"class_name": "Dense", "config": {"name": "d", "activation": "relu"}}
    config = {"class_name": "Sequential", "config": {"layers": [keras_input(n_inputs), dense]}}
    file = h5py.File(path, "w")
    file.attrs["model_config"] = json.dumps(config)
    file.create_group("model_weights/d").attrs["weight_names"] = ["kernel"]
    return file


# --- ONNX -------------------------------------------------------------------------------------------------------------


def onnx_constant_doubled(folder: Path) -> Path:
    nodes = [helper.make_node("Concat", [f"c{at}", f"c{at}"], [f"c{at + 1}"], axis=0) for at in range(33)]
    nodes.append(helper.make_node("MatMul", ["x", "c33"], ["y"]))
    return onnx_file(folder / "a.onnx", nodes, c0=np.ones((2, 2), dtype=np.float32))


def onnx_input_sliced(folder: Path) -> Path:
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    numbers: dict[str, Any] = {name: np.array([n]) for name, n in (("from", 0), ("to", 2), ("axis", 1))}
    weight = np.ones((2, 2), dtype=np.float32)
    return onnx_file(folder / "a.onnx", nodes, n_inputs=(1 << 26) - 8, w=weight, **numbers)


def onnx_value_doubled(folder: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["v0"])]
    nodes += [helper.make_node("Concat", [f"v{at}", f"v{at}"], [f"v{at + 1}"], axis=1) for at in range(12)]
    nodes += [helper.make_node("Add", [f"v{at}", f"v{at}"], [f"v{at + 1}"]) for at in range(12, 24)]
    weight = np.ones((2, 2000), dtype=np.float32)
    return onnx_file(folder / "a.onnx", nodes, output="v24", w=weight)


def onnx_weight_used_often(folder: Path) -> Path:
    nodes = [helper.make_node("MatMul", [f"v{at}" if at else "x", "w"], [f"v{at + 1}"]) for at in range(3000)]
    return onnx_file(folder / "a.onnx", nodes, n_inputs=300, output="v3000", w=np.ones((300, 300), dtype=np.float32))


def onnx_broadcast(folder: Path) -> Path:
    nodes = [helper.make_node("Mul", ["a", "b"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    arrays: dict[str, Any] = {"a": np.ones((HUGE, 1), dtype=np.float32), "b": np.ones((1, HUGE), dtype=np.float32)}
    return onnx_file(folder / "a.onnx", nodes, n_inputs=HUGE, **arrays)


def onnx_claim(folder: Path) -> Path:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1, 1], [1.0])
    tensor.dims[:] = [HUGE, HUGE]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    (folder / "a.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "a.onnx"


# --- Keras ------------------------------------------------------------------------------------------------------------


def keras_value_doubled(folder: Path) -> Path:
    layers: list[Any] = [keras_input(2, "v0")]
    for at in range(33):
        sources = [[[f"v{at}", 0, 0, {}], [f"v{at}", 0, 0, {}]]]
        layers.append({"class_name": "Concatenate", "config": {"name": f"v{at + 1}"}, "inbound_nodes": sources})
    return keras_file(folder / "a.keras", layers, kind="Functional", last="v33")


def keras_huge_input(folder: Path) -> Path:
    activation = {"class_name": "Activation", "config": {"name": "a", "activation": "relu"}}
    return keras_file(folder / "a.keras", [keras_input((1 << 26) - 8), activation])


def keras_deep_config(folder: Path) -> Path:
    members = {"config.json": b"[" * (1 << 26), "model.weights.h5": b"x"}
    return zipped(folder / "a.keras", members, compressed=True)


def keras_weights_unpacked(folder: Path) -> Path:
    return keras_file(folder / "a.keras", [keras_input(2)], weights=bytes(1 << 28))


def h5_claim(folder: Path) -> Path:
    with h5_model(folder / "a.h5", n_inputs=HUGE) as file:
        file["model_weights/d"].create_dataset("kernel", shape=(HUGE, HUGE), chunks=(1000, 1000), dtype="f4")
    return folder / "a.h5"


def h5_one_data_set_often(folder: Path) -> Path:
    with h5_model(folder / "a.h5", n_inputs=5000) as file:
        group = file["model_weights/d"]
        group.create_dataset("kernel", data=np.zeros((5000, 5000), dtype="f4"), compression="gzip", compression_opts=9)
        for at in range(30):
            group[f"again{at}"] = group["kernel"]
    return folder / "a.h5"


def h5_groups_in_a_circle(folder: Path) -> Path:
    with h5_model(folder / "a.h5", n_inputs=2) as file:
        for at in range(20):
            file[f"model_weights/d/again{at}"] = file["model_weights"]
    return folder / "a.h5"


# --- Tensors ----------------------------------------------------------------------------------------------------------


def safetensors_one_place_often(folder: Path) -> Path:
    entry = {"dtype": "I8", "shape": [1024, 1024], "data_offsets": [0, 1 << 20]}
    header = json.dumps({f"{at}.weight": entry for at in range(600)}).encode()
    return safetensors_file(folder / "a.safetensors", header, b"\1" * (1 << 20))


def safetensors_claim(folder: Path) -> Path:
    header = {"a.weight": {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, HUGE * HUGE * 4]}}
    return safetensors_file(folder / "a.safetensors", json.dumps(header).encode(), bytes(64))


def safetensors_header_claim(folder: Path) -> Path:
    (folder / "a.safetensors").write_bytes((1 << 31).to_bytes(8, "little") + b"{" + bytes(64))
    return folder / "a.safetensors"


def safetensors_deep_header(folder: Path) -> Path:
    return safetensors_file(folder / "a.safetensors", b'{"a":' + b"[" * 1_000_000)


def pt_one_storage_often(folder: Path) -> Path:
    tensor = torch.ones(1024, 1024, dtype=torch.int8)
    torch.save({f"{at}.weight": tensor for at in range(600)}, folder / "a.pt")
    return folder / "a.pt"


def pt_expanded(folder: Path) -> Path:
    torch.save({"a.weight": torch.zeros(1, 1).expand(HUGE, HUGE)}, folder / "a.pt")
    return folder / "a.pt"


def pt_sparse(folder: Path) -> Path:
    with torch.sparse.check_sparse_tensor_invariants(enable=True):
        tensor = torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (HUGE, HUGE))
        torch.save({"a.weight": tensor}, folder / "a.pt")
    return folder / "a.pt"


def npz_claim(folder: Path) -> Path:
    return zipped(folder / "a.npz", {"weight0.npy": npy_header((HUGE, HUGE)) + bytes(64)})


def npz_directory_claim(folder: Path) -> Path:
    data = bytearray(npz_claim(folder).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (HUGE * 8 * 4000).to_bytes(4, "little")
    (folder / "a.npz").write_bytes(data)
    return folder / "a.npz"


def npz_of_ones(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", mask0=np.ones((10_000, 10_000), dtype=np.bool_))
    return folder / "a.npz"


def skops_unpacked(folder: Path) -> Path:
    array = npy_header((1 << 13, 1 << 12)) + bytes(1 << 28)
    return zipped(folder / "a.skops", {"schema.json": b"{}", "0.npy": array}, compressed=True)


# --- JSON -------------------------------------------------------------------------------------------------------------

GRAPH = {"layer": [0, 1], "edges": [[0, 1]], "dense_edges": 1}
HIERARCHY = {"format": "modgraph hierarchy 1", "settings": {}, "dag": GRAPH, "labels": [0, 0], "cluster_labels": [0, 1]}


def hierarchy_with(**changes: Any) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        graph = {**GRAPH, **{key: value for key, value in changes.items() if key not in HIERARCHY}}
        document = {**HIERARCHY, "dag": graph} | {key: value for key, value in changes.items() if key in HIERARCHY}
        (folder / "a.json").write_text(json.dumps(document))
        return folder / "a.json"

    return build


def json_deep(folder: Path) -> Path:
    (folder / "a.json").write_text('{"format": "modgraph hierarchy 1", "settings": ' + "[" * 1_000_000)
    return folder / "a.json"


# --- Files without an end ---------------------------------------------------------------------------------------------


def onnx_filled(folder: Path) -> Path:
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    return onnx_file(folder / "a.onnx", nodes, size=np.array([HUGE, HUGE]))


def pt2_with(*, sizes: int = 2, blanks: int = 0) -> Callable[[Path], Path]:
    """Build a program of one layer whose weights claim a size, or whose JSON is padded."""

    def build(folder: Path) -> Path:
        model = torch.nn.Linear(2, 2)
        torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), folder / "b.pt2")
        with zipfile.ZipFile(folder / "b.pt2") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        for name in members:
            if name.endswith("model_weights_config.json"):
                about = json.loads(members[name])
                about["config"]["weight"]["tensor_meta"] |= {
                    "sizes": [{"as_int": sizes}] * 2,
                    "strides": [{"as_int": sizes}, {"as_int": 1}],
                }
                members[name] = json.dumps(about).encode() + b" " * blanks
        return zipped(folder / "a.pt2", members, compressed=blanks > 0)

    return build


def msgpack_of(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "a.msgpack").write_bytes(content)
        return folder / "a.msgpack"

    return build


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.onnx")
    return folder / "a.onnx"


def link_to_zeros(folder: Path) -> Path:
    (folder / "a.onnx").symlink_to("/dev/zero")
    return folder / "a.onnx"


FILES: dict[str, Callable[[Path], Path]] = {
    "ONNX: a constant doubled 33 times": onnx_constant_doubled,
    "ONNX: an input of 2^26 values, sliced": onnx_input_sliced,
    "ONNX: a value doubled 24 times": onnx_value_doubled,
    "ONNX: one weight in 3,000 layers": onnx_weight_used_often,
    "ONNX: a broadcast constant": onnx_broadcast,
    "ONNX: claims 100 GB": onnx_claim,
    "ONNX: a constant filled to 58 GB": onnx_filled,
    "pt2: claims 58 GB": pt2_with(sizes=HUGE),
    "pt2: JSON that unpacks to 64 MB": pt2_with(blanks=1 << 26),
    "msgpack: claims 2^32 entries": msgpack_of(b"\xdf\xff\xff\xff\xff"),
    "msgpack: 10^6 levels deep": msgpack_of(b"\x81\xa1a" * 1_000_000),
    "msgpack: an array that claims 58 GB": msgpack_of(
        b"\x81\xa1a\xc7\x11\x01\x93\x92" + 2 * (b"\xce" + HUGE.to_bytes(4, "big")) + b"\xa2f4\xc4\x00"
    ),
    "Keras: a value doubled 33 times": keras_value_doubled,
    "Keras: an input of 2^26 values": keras_huge_input,
    "Keras: a configuration of 2^26 brackets": keras_deep_config,
    "Keras: weights that unpack to 0.25 GB": keras_weights_unpacked,
    "HDF5: claims 58 GB": h5_claim,
    "HDF5: 31 names for one data set of 100 MB": h5_one_data_set_often,
    "HDF5: groups in a circle": h5_groups_in_a_circle,
    "safetensors: 600 names for the same bytes": safetensors_one_place_often,
    "safetensors: claims 58 GB": safetensors_claim,
    "safetensors: claims a header of 2 GB": safetensors_header_claim,
    "safetensors: a header 10^6 levels deep": safetensors_deep_header,
    "torch: 600 names for one storage": pt_one_storage_often,
    "torch: one number expanded to 58 GB": pt_expanded,
    "torch: a sparse tensor of 58 GB": pt_sparse,
    "npz: claims 115 GB": npz_claim,
    "npz: the directory claims 4 GB": npz_directory_claim,
    "npz: 10^8 ones, compressed": npz_of_ones,
    "skops: an array that unpacks to 0.25 GB": skops_unpacked,
    "hierarchy: settings are a list": hierarchy_with(settings=[]),
    "hierarchy: settings are null": hierarchy_with(settings=None),
    "hierarchy: 10^15 layers": hierarchy_with(n_layers=10**15),
    "hierarchy: layer 10^15": hierarchy_with(layer=[0, 10**15]),
    "hierarchy: a label of 10^30": hierarchy_with(labels=[0, 10**30]),
    "hierarchy: dense_edges not a number": hierarchy_with(dense_edges=float("nan")),
    "hierarchy: no edges but null": hierarchy_with(edges=None, labels=[0]),
    "hierarchy: 10^6 levels deep": json_deep,
    "a pipe": pipe,
    "a link to /dev/zero": link_to_zeros,
}
