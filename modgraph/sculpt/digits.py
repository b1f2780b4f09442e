"""Pairs of digit images side by side: the paper's image tasks, from MNIST or any other array of images.

*Classify*: 20 outputs, both digits one-hot. *Hierarchical*: digits 0 to 7, three outputs, the bits of
(left XOR right), most significant first (Patil et al. 2023, section 5).
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modgraph.arrays import IntArray, read_only
from modgraph.checks import check_choice, check_int
from modgraph.compiled import njit
from modgraph.sculpt.tasks import SplitTask, Task

Name = Literal["hierarchical", "classify"]
CLASSES: Final[dict[str, int]] = {"hierarchical": 8, "classify": 10}
"""Number of different digits in each task."""

MNIST_DIGEST: Final = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
"""SHA-256 of the arrays of MNIST joined as bytes: training images, training labels, test images, test labels."""

IDX_FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
NPZ_NAMES: Final = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Digits:
    """Images of single digits.

    Attributes
    ----------
    images : numpy.ndarray
        (n, height, width) float32 in [0, 1], read-only.
    labels : numpy.ndarray
        (n,) int64 in 0 … 9, read-only.
    n_train : int
        This many images, the first ones, are for training and validation, the rest for testing. If there is no rest,
        a part of the images is drawn for testing.
    """

    images: NDArray[np.float32]
    labels: IntArray
    n_train: int

    def __post_init__(self) -> None:
        read_only(self.images)
        read_only(self.labels)

    def __repr__(self) -> str:
        height, width = self.images.shape[1:]
        return f"Digits({len(self.images)} images of {height} × {width}, {self.n_train} to train on)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ImageTask(SplitTask):
    """A task on pairs of images whose parts share no image; build one with `digit_pairs`.

    Attributes
    ----------
    train, validation, test : Task
        See `SplitTask`; pairs side by side, row by row.
    sources : tuple of numpy.ndarray
        For each part (n, 2) int64: index of the left and of the right image.
    image_shape : (int, int)
        Height and width of a pair.
    """

    sources: tuple[IntArray, ...]
    image_shape: tuple[int, int]

    @property
    def side(self) -> IntArray:
        """The digit that each input belongs to, 0 = left, 1 = right; (height × width,) int64."""
        height, width = self.image_shape
        return np.tile(np.repeat([0, 1], width // 2), height)


def digit_pairs(
    digits: Digits | tuple[ArrayLike, ArrayLike],
    *,
    task: Name = "hierarchical",
    pairs: tuple[int, int, int] = (800, 200, 200),
    fresh: bool = False,
    random_state: int = 0,
) -> ImageTask:
    """Make a task of pairs of digits side by side.

    Parameters
    ----------
    digits : Digits, or pair of array-like
        Images (n, height, width), in [0, 1] or whole numbers up to 255, and labels (n,). Unless `Digits` says which
        images are for testing, a fifth of each digit is. A fifth of the rest is for validation.
    task : {"hierarchical", "classify"}
        The outputs: the bits of (left XOR right) of digits 0 to 7, most significant first, or both digits one-hot,
        left first.
    pairs : (int, int, int), each ≥ 1
        Number of image pairs for each pair of digits, for training, validation and testing (paper: 800 for training
        and 200 for testing).
    fresh : bool
        Whether `sculpt_wide` pairs the training images anew for every epoch, as many pairs as `train` has. A network of
        few edges generalises better then.
    random_state : int ≥ 0
        Determines the parts and the pairs.

    Returns
    -------
    ImageTask

    Raises
    ------
    ValueError
        If an argument has another form, or a digit has fewer than three images.

    Notes
    -----
    The released code accepts networks by their accuracy on the test images. Here validation images decide, so the
    accuracy on the test images is unbiased.

    Examples
    --------
    >>> digit_pairs(load_digits8(), pairs=(20, 10, 10))
    ImageTask(128 → 3: 1280 samples to train on, 640 to validate, 640 to test)
    """
    check_choice("task", task, [*CLASSES])
    if len(pairs) != 3 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in pairs):
        raise ValueError(f"`pairs` must be three ints ≥ 1 (got {pairs!r})")
    check_int("random_state", random_state, at_least=0)
    source = digits if isinstance(digits, Digits) else _digits(*digits)
    rng = np.random.default_rng([random_state, CLASSES[task]])
    parts: tuple[list[IntArray], ...] = ([], [], [])  # [part][digit]: indices of images
    for digit in range(CLASSES[task]):
        images = rng.permutation(np.flatnonzero(source.labels == digit))
        test, rest = images[images >= source.n_train], images[images < source.n_train]
        if source.n_train == len(source.images):
            test, rest = np.split(images, [len(images) // 5 or 1])
        n_validation = len(rest) // 5 or 1
        for part, chosen in zip(parts, (rest[n_validation:], rest[:n_validation], test), strict=True):
            if not len(chosen):
                raise ValueError(
                    f"`digits` must have three images or more of each digit (got {len(images)} of {digit})"
                )
            part.append(chosen)
    sources = tuple(_pairs(part, count, rng) for part, count in zip(parts, pairs, strict=True))
    tables = [_table(source, pair, task) for pair in sources]
    height, width = source.images.shape[1:]
    return ImageTask(
        train=tables[0],
        validation=tables[1],
        test=tables[2],
        draw=partial(_drawn, source=source, images=parts[0], count=pairs[0], task=task) if fresh else None,
        sources=sources,
        image_shape=(height, 2 * width),
    )


def load_digits8() -> Digits:
    """Return the 1,797 digits of 8 × 8 pixels that scikit-learn contains.

    Returns
    -------
    Digits

    Examples
    --------
    >>> load_digits8()
    Digits(1797 images of 8 × 8, 1797 to train on)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _digits(bunch.images / 16, bunch.target)


def load_mnist(path: str | os.PathLike[str] | None = None) -> Digits:
    """Read MNIST from files, and check that it is MNIST.

    Parameters
    ----------
    path : path-like, optional
        ``mnist.npz`` (x_train, y_train, x_test, y_test), or a folder with that file or with the four IDX files
        (``.gz`` or not). By default the value of the environment variable MODGRAPH_DATA; without it, scikit-learn
        downloads MNIST from OpenML and keeps it.

    Returns
    -------
    Digits
        60,000 images of 28 × 28 for training, 10,000 for testing.

    Raises
    ------
    FileNotFoundError
        If there are no such files.
    ValueError
        If the arrays are not those of MNIST. (For other images give `digit_pairs` the arrays.)
    """
    where = path if path is not None else os.environ.get("MODGRAPH_DATA")
    arrays = _fetched() if where is None else _read(Path(where))
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype=np.uint8).tobytes())
    if digest.hexdigest() != MNIST_DIGEST:
        raise ValueError(f"`path` must hold MNIST (got other arrays in {str(where)!r})")
    train_images, train_labels, test_images, test_labels = arrays
    return Digits(
        images=np.concatenate([train_images, test_images]).astype(np.float32) / np.float32(255),
        labels=np.concatenate([train_labels, test_labels]).astype(np.int64),
        n_train=len(train_images),
    )


# --- Files ------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[NDArray[np.uint8], ...]:
    """Read the four arrays of MNIST from a file or a folder."""
    if path.is_dir():
        found = [next((p for p in (path / name, path / f"{name}.gz") if p.is_file()), None) for name in IDX_FILES]
        files = [file for file in found if file is not None]
        if len(files) == len(IDX_FILES):
            return tuple(_read_idx(file) for file in files)
        path = path / "mnist.npz"
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be mnist.npz or a folder that has it or the four IDX files (got {path})")
    with np.load(path, allow_pickle=False) as archive:
        missing = [name for name in NPZ_NAMES if name not in archive]
        if missing:
            raise ValueError(f"`path` must hold the arrays {', '.join(NPZ_NAMES)} ({path} lacks {missing[0]})")
        return tuple(archive[name] for name in NPZ_NAMES)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file: bytes 0, 0, 8, the number of axes, their lengths as big-endian uint32, the data."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    n_axes = raw[3] if raw[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * n_axes
    shape = struct.unpack(f">{n_axes}I", raw[4:start]) if n_axes and len(raw) >= start else ()
    if not shape or len(raw) - start != int(np.prod(shape)):
        raise ValueError(f"`path` must hold whole IDX files of bytes (got {path})")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _fetched() -> tuple[NDArray[np.uint8], ...]:
    """Get MNIST from OpenML, or the copy that scikit-learn kept."""
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except OSError as error:
        raise FileNotFoundError(
            f"MNIST can't be fetched ({error}); give `path`, or set MODGRAPH_DATA to where its files are"
        ) from error
    images = bunch.data.astype(np.uint8).reshape(-1, 28, 28)
    labels = bunch.target.astype(np.uint8)
    return images[:60000], labels[:60000], images[60000:], labels[60000:]


# --- Pairs ------------------------------------------------------------------------------------------------------------


def _digits(images: ArrayLike, labels: ArrayLike) -> Digits:
    """Check images and labels, and scale the images to [0, 1]."""
    pixels, digits = np.asarray(images, dtype=np.float32), np.asarray(labels)
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"`digits` must have images of shape (n, height, width) (got shape {pixels.shape})")
    if digits.shape != pixels.shape[:1]:
        raise ValueError(f"`digits` must have a label for each image (got {digits.shape} for {len(pixels)} images)")
    if not np.isfinite(pixels).all() or pixels.min() < 0:
        raise ValueError("`digits` must have images of finite numbers ≥ 0")
    if pixels.max() > 1:
        pixels = pixels / np.float32(255)
    return Digits(images=pixels, labels=digits.astype(np.int64), n_train=len(pixels))


def _pairs(images: list[IntArray], count: int, rng: np.random.Generator) -> IntArray:
    """Draw `count` pairs of images for each pair of digits, (count × digits², 2), digit by digit."""
    drawn = [
        np.column_stack([rng.choice(images[left], count), rng.choice(images[right], count)])
        for left, right in itertools.product(range(len(images)), repeat=2)
    ]
    return np.concatenate(drawn)


def _table(source: Digits, pairs: IntArray, task: Name) -> Task:
    """Lay out pairs as inputs (n, height × 2 width) and targets (n, n_out)."""
    inputs = np.concatenate([source.images[pairs[:, 0]], source.images[pairs[:, 1]]], axis=2).reshape(len(pairs), -1)
    return Task(inputs=torch.from_numpy(inputs), targets=_targets(source, pairs, task))


def _drawn(
    rng: np.random.Generator, columns: Tensor, *, source: Digits, images: list[IntArray], count: int, task: Name
) -> Task:
    """Draw pairs, and lay out some columns of their inputs."""
    pairs = _pairs(images, count, rng)
    width = source.images.shape[2]
    row, column = np.divmod(columns.cpu().numpy(), 2 * width)
    inputs = np.empty((len(pairs), len(column)), dtype=np.float32)
    _lay_out(
        source.images.reshape(len(source.images), -1), pairs, column // width, row * width + column % width, inputs
    )
    return Task(inputs=torch.from_numpy(inputs), targets=_targets(source, pairs, task))


@njit(cache=True, nogil=True)
def _lay_out(  # pragma: no cover (compiled)
    images: NDArray[np.float32], pairs: IntArray, side: IntArray, pixel: IntArray, inputs: NDArray[np.float32]
) -> None:
    """Write column c of `inputs` (n, columns): pixel ``pixel[c]`` of the image ``pairs[:, side[c]]``."""
    for at in range(len(pairs)):
        for c in range(len(pixel)):
            inputs[at, c] = images[pairs[at, side[c]], pixel[c]]


def _targets(source: Digits, pairs: IntArray, task: Name) -> Tensor:
    """Return the targets of pairs, (n, n_out)."""
    left, right = source.labels[pairs].T
    if task == "hierarchical":
        targets = (left ^ right)[:, None] >> np.array([2, 1, 0]) & 1
    else:
        targets = np.hstack([np.eye(10)[left], np.eye(10)[right]])
    return torch.from_numpy(targets.astype(np.float32))
