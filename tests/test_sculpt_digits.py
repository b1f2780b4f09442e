"""Pairs of digit images: what is asked, which images are where, and the files they come from."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from modgraph.sculpt import ImageTask, digit_pairs, load_digits8, load_mnist

MNIST = Path(__file__).resolve().parents[2] / "shared" / "mnist" / "mnist.npz"
needs_mnist = pytest.mark.skipif(not MNIST.exists(), reason="../shared/mnist is not there")

NAMES = ("x_train", "y_train", "x_test", "y_test")
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.mark.parametrize("name", ["hierarchical", "classify"])
def test_targets_say_what_the_pictures_show(name: Any) -> None:
    bunch = load_digits()
    task = digit_pairs(load_digits8(), task=name, pairs=(6, 3, 2))
    for part, sources, count in zip((task.train, task.validation, task.test), task.sources, (6, 3, 2), strict=True):
        left, right = bunch.target[sources].T
        pictures = part.inputs.numpy().reshape(-1, 8, 16)
        np.testing.assert_array_equal(pictures[:, :, :8], bunch.images[sources[:, 0]].astype(np.float32) / 16)
        np.testing.assert_array_equal(pictures[:, :, 8:], bunch.images[sources[:, 1]].astype(np.float32) / 16)
        targets = part.targets.numpy().astype(int)
        if name == "hierarchical":
            np.testing.assert_array_equal(targets @ [4, 2, 1], left ^ right)
            classes = 8
        else:
            assert (targets.sum(1) == 2).all()
            np.testing.assert_array_equal(targets[:, :10].argmax(1), left)
            np.testing.assert_array_equal(targets[:, 10:].argmax(1), right)
            classes = 10
        pairs, counts = np.unique(np.column_stack([left, right]), axis=0, return_counts=True)
        assert len(pairs) == classes**2
        assert set(counts) == {count}


@given(st.integers(0, 1000), st.sampled_from(["hierarchical", "classify"]))
def test_parts_share_no_image(seed: int, name: Any) -> None:
    task = digit_pairs(load_digits8(), task=name, pairs=(9, 4, 4), random_state=seed)
    train, validation, test = (set(sources.ravel().tolist()) for sources in task.sources)
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize("name", ["hierarchical", "classify"])
def test_fresh_pairs_are_of_training_images_and_say_what_they_show(name: Any) -> None:
    source = load_digits8()
    task = digit_pairs(source, task=name, pairs=(400, 3, 2), fresh=True)  # many: nearly every image is in some pair
    assert task.draw is not None
    assert digit_pairs(source, task=name, pairs=(400, 3, 2)).draw is None
    whole = torch.arange(128)
    drawn = task.draw(np.random.default_rng(1), whole)
    of_image = {image.tobytes(): int(label) for image, label in zip(source.images, source.labels, strict=True)}
    training = {image.tobytes() for image in source.images[np.unique(task.sources[0])]}
    pictures = drawn.inputs.numpy().reshape(-1, 8, 16)
    halves = [[np.ascontiguousarray(half).tobytes() for half in pictures[:, :, at : at + 8]] for at in (0, 8)]
    assert set(halves[0]) | set(halves[1]) <= training
    left, right = (np.array([of_image[half] for half in side]) for side in halves)
    targets = drawn.targets.numpy().astype(int)
    if name == "hierarchical":
        np.testing.assert_array_equal(targets @ [4, 2, 1], left ^ right)
    else:
        np.testing.assert_array_equal(targets, np.hstack([np.eye(10)[left], np.eye(10)[right]]))
    assert drawn.n_samples == task.train.n_samples
    columns = torch.tensor([3, 12, 13, 77, 126])
    for seed, same in ((1, True), (2, False)):
        some = task.draw(np.random.default_rng(seed), columns)
        assert torch.equal(some.inputs, drawn.inputs[:, columns]) == same


def test_the_same_number_gives_the_same_task() -> None:
    one, two, other = (digit_pairs(load_digits8(), pairs=(5, 2, 2), random_state=seed) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(one.sources, two.sources, strict=True))
    assert any((a != b).any() for a, b in zip(one.sources, other.sources, strict=True))


def test_sides_are_left_and_right() -> None:
    task = digit_pairs(load_digits8(), pairs=(2, 1, 1))
    assert task.image_shape == (8, 16)
    np.testing.assert_array_equal(task.side.reshape(8, 16), np.hstack([np.zeros((8, 8)), np.ones((8, 8))]))


def test_any_arrays_will_do() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (80, 5, 4)), np.arange(80) % 10
    task = digit_pairs((images, labels), pairs=(3, 2, 2))
    assert isinstance(task, ImageTask)
    assert task.train.inputs.shape == (64 * 3, 40)
    assert float(task.train.inputs.min()) >= 0
    assert float(task.train.inputs.max()) <= 1
    left = task.sources[0][0, 0]
    np.testing.assert_allclose(task.train.inputs[0].numpy().reshape(5, 8)[:, :4], images[left] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("digits", "options", "message"),
    [
        ((np.zeros((4, 3)), np.zeros(4)), {}, r"images of shape \(n, height, width\) \(got shape \(4, 3\)\)"),
        ((np.zeros((4, 3, 3)), np.zeros(5)), {}, r"a label for each image \(got \(5,\) for 4 images\)"),
        ((np.full((4, 3, 3), -1.0), np.zeros(4)), {}, "finite numbers ≥ 0"),
        ((np.zeros((20, 3, 3)), np.arange(20) % 10), {}, r"three images or more of each digit \(got 2 of 0\)"),
        ((np.zeros((4, 3, 3)), np.zeros(4)), {"task": "sum"}, r"`task` must be .* \(got 'sum'\)"),
        (
            (np.zeros((4, 3, 3)), np.zeros(4)),
            {"pairs": (1, 0, 1)},
            r"`pairs` must be three ints ≥ 1 \(got \(1, 0, 1\)\)",
        ),
        ((np.zeros((4, 3, 3)), np.zeros(4)), {"random_state": -1}, r"`random_state` must be an int ≥ 0 \(got -1\)"),
    ],
)
def test_bad_arguments(digits: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        digit_pairs(digits, **options)


# Files


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray[np.uint8]]:
    with np.load(MNIST) as archive:
        return {name: archive[name] for name in NAMES}


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)


@needs_mnist
@pytest.mark.parametrize("form", ["npz", "folder", "idx", "idx.gz", "environment"])
def test_mnist_is_read_from_every_form(
    form: str, arrays: dict[str, NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path | None = MNIST if form == "npz" else MNIST.parent
    if form.startswith("idx"):
        path = tmp_path
        for idx, name in zip(IDX, NAMES, strict=True):
            write_idx(tmp_path / f"{idx}{'.gz' if form.endswith('gz') else ''}", arrays[name])
    if form == "environment":
        monkeypatch.setenv("MODGRAPH_DATA", str(MNIST.parent))
        path = None
    digits = load_mnist(path)
    assert digits.n_train == 60_000
    np.testing.assert_array_equal(digits.labels[60_000:], arrays["y_test"])
    np.testing.assert_array_equal(digits.images[123], arrays["x_train"][123] / np.float32(255))
    assert not digits.images.flags.writeable


@needs_mnist
def test_test_images_of_mnist_are_its_own() -> None:
    task = digit_pairs(load_mnist(MNIST), pairs=(20, 10, 10))
    train, validation, test = task.sources
    assert max(train.max(), validation.max()) < 60_000 <= test.min()


@needs_mnist
def test_what_is_not_mnist_is_refused(arrays: dict[str, NDArray[np.uint8]], tmp_path: Path) -> None:
    other: dict[str, Any] = {**arrays, "y_test": arrays["y_test"][::-1]}
    np.savez(tmp_path / "mnist.npz", **other)
    with pytest.raises(ValueError, match="`path` must hold MNIST"):
        load_mnist(tmp_path)


def test_files_that_are_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`path` must be mnist\.npz or a folder"):
        load_mnist(tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3))
    with pytest.raises(ValueError, match="lacks y_train"):
        load_mnist(tmp_path)
    for idx in IDX:
        (tmp_path / idx).write_bytes(b"\0\0\x08\x01\0\0\0\x05abc")
    with pytest.raises(ValueError, match="whole IDX files"):
        load_mnist(tmp_path)
