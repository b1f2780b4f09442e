"""Sweeps: many trials, run by joblib in chunks; each finished chunk is stored at once."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import joblib

from modgraph.experiments.store import Store, StoredNetwork
from modgraph.functions import FunctionGraph, published, random
from modgraph.modules import detect_modules
from modgraph.sculpt import EDGE_STEPS, UNIT_STEPS, TrainSettings, sculpt
from modgraph.sculpt.stack import n_dense_edges

METHOD: Final = 1
"""Version of the method; raised when sculpting or detection may give other results for the same trial."""

_KEPT: Final = ("unit_step", "edge_step", "edges", "accuracy", "accepted", "masks", "weights", "biases")
"""What a store keeps of a sculpted network."""

RANDOM: Final = "random "
"""How the name of a random function starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial: a function, the hidden layers, a seed, and all settings.

    Attributes
    ----------
    function : str
        A name of the published catalogue, or of a random function; see `target_of`.
    hidden : tuple of int
        Units of the hidden layers.
    seed : int
    settings : TrainSettings
    unit_steps, edge_steps : tuple of float
        Percentages; every pair is one candidate.
    """

    function: str
    hidden: tuple[int, ...]
    seed: int
    settings: TrainSettings = field(default_factory=TrainSettings)
    unit_steps: tuple[float, ...] = UNIT_STEPS
    edge_steps: tuple[float, ...] = EDGE_STEPS

    @property
    def key(self) -> str:
        """All settings and the version of the method as JSON: the key of the stored results."""
        return json.dumps({"method": METHOD, **asdict(self)}, sort_keys=True)

    @property
    def n_candidates(self) -> int:
        """Number of networks that the trial sculpts."""
        return len(self.unit_steps) * len(self.edge_steps)


def target_of(function: str) -> FunctionGraph:
    """Return a published function, or that of "random " and the arguments of `modgraph.functions.random` as JSON.

    Examples
    --------
    >>> target_of('random {"n_inputs": 6, "levels": 1, "overlap": 0, "random_state": 3}').n_inputs
    6
    """
    if function.startswith(RANDOM):
        return random(**json.loads(function.removeprefix(RANDOM)))
    return published(function)


def sweep(
    trials: Iterable[Trial],
    path: str | os.PathLike[str],
    *,
    n_jobs: int = -1,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Store:
    """Run the trials that the store at `path` doesn't hold yet.

    Trials that differ only in the seed form a chunk and are trained in one stack. joblib runs the chunks in processes
    of this machine or, under ``joblib.parallel_config(backend="dask")``, on a Dask cluster. If the sweep is killed,
    only unfinished chunks are lost: call it again. The result depends neither on the chunks nor on `n_jobs`.

    Parameters
    ----------
    trials : iterable of Trial
    path : path-like
        The SQLite file of results; its folder is made if it doesn't exist.
    n_jobs : int
        Processes, as joblib counts them; −1 = all cores or workers.
    device : str, optional
        Where torch computes; see `modgraph.sculpt.sculpt`. It is not part of the key of a trial.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of networks, stored ones included.

    Returns
    -------
    Store
        With every trial.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    store = Store(path)
    wanted = {trial.key: trial for trial in trials}
    stored = store.finished()
    total = sum(trial.n_candidates for trial in wanted.values())
    done = sum(trial.n_candidates for key, trial in wanted.items() if key in stored)
    chunks = _chunks([trial for key, trial in wanted.items() if key not in stored])
    if progress is not None:
        progress(done, total)
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator_unordered")
    for chunk in parallel(joblib.delayed(run_chunk)(chunk, device=device) for chunk in chunks):
        store.add(chunk)
        done += sum(map(len, chunk.values()))
        if progress is not None:
            progress(done, total)
    return store


def run_chunk(trials: Sequence[Trial], *, device: str | None = None) -> dict[str, list[StoredNetwork]]:
    """Sculpt trials that differ only in their seeds; return the candidates of each, with their modules, by its key."""
    first = trials[0]
    target = target_of(first.function)
    sizes = (target.n_inputs, *first.hidden, target.n_outputs)
    out = sculpt(
        target,
        hidden=first.hidden,
        seeds=[trial.seed for trial in trials],
        settings=first.settings,
        unit_steps=first.unit_steps,
        edge_steps=first.edge_steps,
        choose="fewest_edges",  # all candidates are stored; this is the fastest rule
        device=device,
    )
    found = defaultdict(list)
    for network in out.candidates:
        facts = {name: getattr(network, name) for name in _KEPT}
        labels = detect_modules(network.dag).labels
        found[network.seed].append(StoredNetwork(**facts, sizes=sizes, labels=labels))
    return {trial.key: found[trial.seed] for trial in trials}


def _chunks(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Collect trials that differ only in the seed; chunks with the most work come first, so the last ones are short."""
    groups = defaultdict(list)
    for trial in trials:
        groups[trial.function, trial.hidden, trial.settings, trial.unit_steps, trial.edge_steps].append(trial)

    def work(chunk: list[Trial]) -> int:
        target, hidden = target_of(chunk[0].function), chunk[0].hidden
        sizes = (target.n_inputs, *hidden, target.n_outputs)
        candidates = sum(trial.n_candidates for trial in chunk)
        return int(n_dense_edges(sizes) * 2**target.n_inputs * chunk[0].settings.epochs * candidates)

    return sorted(groups.values(), key=work, reverse=True)
