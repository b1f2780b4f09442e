"""Networks trained on several digits side by side and pruned by weight magnitude; made once, then read from files."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.files import replacing

DENSITIES: Final = (1.0, 0.5, 0.3, 0.2, 0.1)
BATCH: Final = 128  # pairs of images in a step
DENSE_STEPS: Final = 2000
FINE_TUNING_STEPS: Final = 600  # after each pruning
LEARNING_RATE: Final = 2e-3
TEST_SHARE: Final = 0.2  # of the images


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One block of inputs or outputs of a task.

    Attributes
    ----------
    size : int
        Units.
    group : int
        The sub-function it belongs to.
    """

    size: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a network learns: images side by side → one-hot blocks of outputs, each with a softmax of its own.

    Attributes
    ----------
    pool : tuple of int
        One an image: how many pixels each way are averaged to one.
    targets : tuple of callables
        One a block of outputs: the digits of all images, shape (n_images, n_samples) → the class, from 0.
    classes : tuple of int
        Outputs of each block.
    reads : tuple of tuple of int
        The images that each block depends on.
    input_group : tuple of int
        One an image: the module it belongs to.
    output_group : tuple of int
        One a block of outputs.
    """

    pool: tuple[int, ...]
    targets: tuple[Callable[[IntArray], IntArray], ...]
    classes: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...]
    input_group: tuple[int, ...]
    output_group: tuple[int, ...]


def _digit(image: int) -> Callable[[IntArray], IntArray]:
    return lambda digits: digits[image]


def _separate(n: int) -> Task:
    return Task(
        pool=(1,) * n,
        targets=tuple(_digit(image) for image in range(n)),
        classes=(10,) * n,
        reads=tuple((image,) for image in range(n)),
        input_group=tuple(range(n)),
        output_group=tuple(range(n)),
    )


TASKS: Final[dict[str, Task]] = {
    "two": _separate(2),
    "three": _separate(3),
    "four": _separate(4),
    # A whole digit, and a coarse one of which only half as many classes are asked.
    "unequal": Task(
        pool=(1, 2),
        targets=(_digit(0), lambda digits: digits[1] // 2),
        classes=(10, 5),
        reads=((0,), (1,)),
        input_group=(0, 1),
        output_group=(0, 1),
    ),
    "unequal3": Task(
        pool=(1, 2, 2),
        targets=(_digit(0), lambda digits: digits[1] // 2, lambda digits: digits[2] % 4),
        classes=(10, 5, 4),
        reads=((0,), (1,), (2,)),
        input_group=(0, 1, 2),
        output_group=(0, 1, 2),
    ),
    # Each digit, and something that needs both.
    "levels": Task(
        pool=(1, 1),
        targets=(_digit(0), _digit(1), lambda digits: digits[0] % 3 + digits[1] % 3),
        classes=(10, 10, 5),
        reads=((0,), (1,), (0, 1)),
        input_group=(0, 1),
        output_group=(0, 1, 2),
    ),
    # Controls: every output needs both digits; there is one digit only.
    "sum": Task(
        pool=(1, 1),
        targets=(lambda digits: (digits[0] + digits[1]) % 10,),
        classes=(10,),
        reads=((0, 1),),
        input_group=(0, 0),
        output_group=(0,),
    ),
    "one": Task(pool=(1,), targets=(_digit(0),), classes=(10,), reads=((0,),), input_group=(0,), output_group=(0,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one chain of networks (one a density) is made."""

    data: str  # "digits8" or "mnist"
    task: str
    width: int
    depth: int
    seed: int
    loss: str = "ce"  # "ce": a softmax a block of outputs; "bce": a sigmoid an output
    prune: str = "global"  # "global": the smallest weights of the whole network; "layer": of each matrix

    @property
    def name(self) -> str:
        return f"{self.data}-{self.task}-{self.width}x{self.depth}-{self.loss}-{self.prune}-{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One network, its accuracy (mean over blocks of outputs) and the groups of its inputs and outputs."""

    recipe: Recipe
    density: float
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    accuracy: float
    input_group: IntArray
    output_group: IntArray

    def module(self) -> nn.Sequential:
        """Return it as a torch module; pruned weights are 0."""
        layers: list[nn.Module] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(weight))
                linear.bias.copy_(torch.tensor(bias))
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])


@cache
def _images(data: str) -> tuple[FloatArray, IntArray]:
    """Return images (n, height, width), 0…1, and their digits."""
    if data == "digits8":
        digits = load_digits()
        return digits.images.astype(np.float32) / 16, digits.target.astype(np.int64)
    folder = Path(os.environ.get("MODGRAPH_DATA", "../shared"))
    with np.load(folder / "mnist" / "mnist.npz") as arrays:
        return arrays["x_train"].astype(np.float32) / 255, arrays["y_train"].astype(np.int64)


def _pooled(images: FloatArray, by: int) -> FloatArray:
    n, height, width = images.shape
    blocks: FloatArray = images.reshape(n, height // by, by, width // by, by).mean(axis=(2, 4))
    return blocks.reshape(n, -1)


def _split(n_images: int) -> tuple[IntArray, IntArray]:
    """Return the images that are held out, and those to train on."""
    order = np.random.default_rng(0).permutation(n_images)
    n_test = int(TEST_SHARE * n_images)
    return order[:n_test], order[n_test:]


def held_out(recipe: Recipe, *, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Draw inputs of images that no network was trained on, shape (n_samples, n_inputs)."""
    images, _ = _images(recipe.data)
    test, _ = _split(len(images))
    chosen = [_pooled(images[rng.choice(test, size=n_samples)], by) for by in TASKS[recipe.task].pool]
    return np.concatenate(chosen, axis=1).astype(np.float64)


def often_on(recipe: Recipe, *, share: float) -> BoolArray:
    """Say which inputs are nonzero in at least this share of the images; training hardly changes other weights."""
    images, _ = _images(recipe.data)
    return np.concatenate([(_pooled(images, by) > 0).mean(axis=0) >= share for by in TASKS[recipe.task].pool])


def networks(recipe: Recipe, folder: Path, *, densities: Sequence[float] = DENSITIES) -> list[Trained]:
    """Read the networks of a recipe, one a density; make them first where the folder lacks them."""
    path = folder / f"{recipe.name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = _train(recipe)
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    task = TASKS[recipe.task]
    images, _ = _images(recipe.data)
    side = images.shape[1]
    input_group = np.repeat(task.input_group, [(side // by) ** 2 for by in task.pool])
    output_group = np.repeat(task.output_group, task.classes)
    try:
        with np.load(path) as arrays:
            return [
                Trained(
                    recipe=recipe,
                    density=density,
                    weights=tuple(
                        arrays[f"{density}-w{level}"].astype(np.float64) for level in range(recipe.depth + 1)
                    ),
                    biases=tuple(arrays[f"{density}-b{level}"].astype(np.float64) for level in range(recipe.depth + 1)),
                    accuracy=float(arrays[f"{density}-accuracy"]),
                    input_group=input_group,
                    output_group=output_group,
                )
                for density in densities
            ]
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not a file of networks that this version made") from error


def _train(recipe: Recipe) -> dict[str, FloatArray]:
    """Train a dense network, then prune it step by step to each density, with fine-tuning after each step."""
    task = TASKS[recipe.task]
    images, digits = _images(recipe.data)
    rng = np.random.default_rng(recipe.seed)
    test, train = _split(len(images))
    pictures = [torch.tensor(_pooled(images, by)) for by in task.pool]

    def batch(among: IntArray, size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        chosen = rng.choice(among, size=(len(task.pool), size))
        inputs = torch.cat([picture[row] for picture, row in zip(pictures, chosen, strict=True)], dim=1)
        return inputs, [torch.tensor(target(digits[chosen])) for target in task.targets]

    def loss_of(outputs: torch.Tensor, targets: list[torch.Tensor]) -> torch.Tensor:
        blocks = outputs.split(list(task.classes), dim=1)
        total = torch.zeros(())
        for block, target, n_classes in zip(blocks, targets, task.classes, strict=True):
            if recipe.loss == "ce":
                total = total + nn.functional.cross_entropy(block, target)
            else:
                wanted = nn.functional.one_hot(target, n_classes).to(block.dtype)
                total = total + nn.functional.binary_cross_entropy_with_logits(block, wanted) * n_classes
        return total

    torch.manual_seed(recipe.seed)
    sizes = [sum(p.shape[1] for p in pictures), *[recipe.width] * recipe.depth, sum(task.classes)]
    linears = [nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)]
    layers = [part for linear in linears for part in (linear, nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    masks = [torch.ones_like(linear.weight) for linear in linears]
    n_weights = sum(mask.numel() for mask in masks)
    result: dict[str, FloatArray] = {}
    for density in DENSITIES:
        if density < 1:
            magnitudes = [(linear.weight.detach() * mask).abs() for linear, mask in zip(linears, masks, strict=True)]
            if recipe.prune == "global":
                smallest = torch.cat([m.flatten() for m in magnitudes]).topk(round(density * n_weights)).values[-1]
                masks = [(m >= smallest).to(m.dtype) for m in magnitudes]
            else:
                masks = [(m >= m.flatten().topk(round(density * m.numel())).values[-1]).to(m.dtype) for m in magnitudes]
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE if density == 1 else LEARNING_RATE / 2)
        for _ in range(DENSE_STEPS if density == 1 else FINE_TUNING_STEPS):
            with torch.no_grad():
                for linear, mask in zip(linears, masks, strict=True):
                    linear.weight *= mask
            inputs, targets = batch(train, BATCH)
            optimizer.zero_grad()
            loss_of(model(inputs), targets).backward()
            optimizer.step()
        with torch.no_grad():
            for linear, mask in zip(linears, masks, strict=True):
                linear.weight *= mask
            inputs, targets = batch(test, 4000)
            blocks = model(inputs).split(list(task.classes), dim=1)
            right = [float((b.argmax(1) == t).double().mean()) for b, t in zip(blocks, targets, strict=True)]
        for level, linear in enumerate(linears):
            result[f"{density}-w{level}"] = linear.weight.detach().numpy().copy()
            result[f"{density}-b{level}"] = linear.bias.detach().numpy().copy()
        result[f"{density}-accuracy"] = np.array(np.mean(right))
    return result


def main() -> None:
    """Make the networks that are asked for, one line each (`python -m tests.long.digit_networks`)."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", nargs="+", default=["digits8"])
    parser.add_argument("--tasks", nargs="+", default=["two", "sum"], choices=list(TASKS))
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--depths", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--losses", nargs="+", default=["ce"])
    parser.add_argument("--prune", nargs="+", default=["global"])
    parser.add_argument("--folder", type=Path, default=Path("out/two_tasks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed, data, task, width, depth, loss, prune in itertools.product(
        options.seeds, options.data, options.tasks, options.widths, options.depths, options.losses, options.prune
    ):
        recipe = Recipe(data=data, task=task, width=width, depth=depth, seed=seed, loss=loss, prune=prune)
        made = networks(recipe, options.folder)
        print(recipe.name, *(f"{100 * one.density:.0f} %: {one.accuracy:.3f}" for one in made), flush=True)


if __name__ == "__main__":
    main()
