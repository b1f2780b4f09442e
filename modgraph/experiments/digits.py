"""One network on two digits: sculpting it, and measuring how its modules separate the digits."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from modgraph.arrays import BoolArray
from modgraph.cluster import published_linkage
from modgraph.dag import LayeredDAG
from modgraph.io import save_network
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.sculpt import ImageTask, WideResult, WideSettings, digit_pairs, load_digits8, load_mnist, sculpt_wide

Data = Literal["mnist", "digits8"]
TaskName = Literal["hierarchical", "classify"]
Schedule = Literal["constant", "cosine"]

PURE: Final = 0.95
"""Smallest share of pixels of one digit in a module that counts as reading that digit only (0 … 1)."""

SETTINGS: Final[dict[Data, WideSettings]] = {
    "mnist": WideSettings(mixed_precision=True),
    "digits8": WideSettings(learning_rate=0.003, batch_size=128, tolerance=0.01),
}

QUICK: Final = WideSettings(learning_rate=0.01, batch_size=64, epochs=6, tolerance=0.02, unit_step=40, edge_step=20)
"""To try everything out."""

COSINE: Final[dict[str, Any]] = {
    "learning_rate": 2e-3,
    "batch_size": 128,
    "epochs": 30,
    "dense_epochs": 12,
    "easy_epochs": 8,
    "schedule": "cosine",
    "weight_decay": 4e-4,
    "patience": None,
    "give_up": None,
    "unit_step": 80.0,
    "edge_step": 20.0,
    "edges_of": "left",
    "slow_down": True,
    "mixed_precision": False,
}
"""What `DigitsTrial.schedule` "cosine" changes; edges are also scored by *surgeon*, and pairs drawn for every epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsTrial:
    """One network to sculpt (see `modgraph.sculpt.digit_pairs`); `quick`: few images and epochs, to try it out."""

    data: Data
    task: TaskName
    width: int  # units of each hidden layer
    depth: int  # hidden layers
    seed: int
    schedule: Schedule = "constant"  # "cosine": with `COSINE` and fresh pairs
    quick: bool = False

    @property
    def name(self) -> str:
        """The name of its file, without suffix."""
        way = "-cosine" * (self.schedule == "cosine") + "-quick" * self.quick
        return f"{self.data}-{self.task}-{self.width}x{self.depth}-{self.seed}{way}"

    @property
    def settings(self) -> WideSettings:
        """How it is trained and pruned."""
        settings = QUICK if self.quick else SETTINGS[self.data]
        if self.schedule == "constant":
            return settings
        slower = {"learning_rate": 1e-3} if self.depth > 4 else {}  # else some bits are never learnt
        return replace(settings, **COSINE | slower)


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How the modules of a network separate the two digits."""

    input_modules: int  # modules that contain pixels
    purity: float  # share of the pixels that belong to the majority digit of their module, 0.5 … 1
    inputs: bool  # whether at least two modules contain pixels and `purity` is at least `PURE`
    outputs: bool  # whether all outputs are in different modules
    middle: bool  # whether a layer after the first hidden one has units of both digits, each of one alone (up to 5 %)


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsResult:
    """One network and its modules."""

    trial: DigitsTrial
    sizes: tuple[int, ...]  # units of every layer after trimming
    edges: int
    density: float
    dense_validation: float  # share of right output bits before pruning
    dense_test: float
    validation: float  # after pruning
    test: float
    rounds: int  # training runs
    seconds: float  # of all training runs
    published: Separation  # with the paper's clustering and its thresholds for images, 0.6 and 0.3
    default: Separation  # with `detect_modules` as it is


def run_digits(trial: DigitsTrial, folder: str | os.PathLike[str]) -> DigitsResult:
    """Sculpt one network, from its checkpoint in `folder` if there is one; save it there and find its modules."""
    task = _task(trial.data, trial.task, quick=trial.quick, fresh=trial.schedule == "cosine")
    checkpoint = Path(folder) / f"{trial.name}.checkpoint.npz"
    out = sculpt_wide(
        task,
        hidden=[trial.width] * trial.depth,
        seed=trial.seed,
        settings=trial.settings,
        edge_score="surgeon" if trial.schedule == "cosine" else "published",
        checkpoint=checkpoint,
    )
    save_network(out.network.dag, Path(folder) / f"{trial.name}.npz")
    return judged(trial, out, task)


def judged(trial: DigitsTrial, out: WideResult, task: ImageTask) -> DigitsResult:
    """Find the modules of a sculpted network and measure how they separate the digits."""
    dag, dense = out.network.dag, out.rounds[0]
    trimmed = dag.trim()
    for_images = partial(published_linkage, modularity_threshold=0.3)
    return DigitsResult(
        trial=trial,
        sizes=trimmed.layer_sizes,
        edges=trimmed.n_edges,
        density=trimmed.n_edges / dag.dense_edges,
        dense_validation=dense.validation,
        dense_test=dense.test,
        validation=out.network.accuracy,
        test=out.test_accuracy,
        rounds=len(out.rounds),
        seconds=out.seconds,
        published=separation(detect_modules(dag, clustering=for_images, merge_threshold=0.6), task.side),
        default=separation(detect_modules(dag), task.side),
    )


def separation(found: ModuleHierarchy, side: NDArray[np.int64]) -> Separation:
    """Measure how the modules of a network separate the two digits; `side` (inputs,) has the digit of each, 0 or 1."""
    dag, labels = found.dag, found.labels
    pixels = np.flatnonzero((dag.layer == 0) & (labels >= 0))
    counts = np.array([np.bincount(side[pixels[labels[pixels] == m]], minlength=2) for m in np.unique(labels[pixels])])
    purity = float(counts.max(axis=1).sum() / counts.sum()) if counts.size else 0.5
    outputs = labels[dag.layer == dag.n_layers - 1]
    return Separation(
        input_modules=len(counts),
        purity=purity,
        inputs=len(counts) > 1 and purity >= PURE,
        outputs=len(np.unique(outputs)) == len(outputs),
        middle=_middle_separable(dag.trim(), side),
    )


def _middle_separable(dag: LayeredDAG, side: NDArray[np.int64]) -> bool:
    """Whether some layer between the first hidden one and the outputs has units of each digit, and none of both."""
    inputs = np.flatnonzero(dag.layer == 0)
    reached: BoolArray = np.zeros((dag.n_units, len(inputs)), dtype=np.bool_)  # the pixels each unit depends on
    reached[inputs, np.arange(len(inputs))] = True
    for source, target in dag.edges[np.argsort(dag.layer[dag.targets], kind="stable")].tolist():
        reached[target] |= reached[source]
    share = reached[:, side[dag.unit_index[inputs]] == 0].sum(axis=1) / np.maximum(reached.sum(axis=1), 1)
    for layer in range(2, dag.n_layers - 1):
        here = share[dag.layer == layer]
        left, right = here >= PURE, here <= 1 - PURE
        if left.any() and right.any() and (left | right).all():
            return True
    return False


@cache
def _task(data: Data, task: TaskName, *, quick: bool, fresh: bool) -> ImageTask:
    """Make a task, once in every process."""
    if data == "mnist":
        n_classes = 8 if task == "hierarchical" else 10
        train = 51_200 // n_classes**2  # as many in all, whatever the number of pairs of digits
        return digit_pairs(load_mnist(), task=task, pairs=(train, train // 4, train // 4), fresh=fresh)
    return digit_pairs(load_digits8(), task=task, pairs=(20, 10, 10) if quick else (100, 40, 40), fresh=fresh)
