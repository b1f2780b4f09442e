"""Success on random functions, to which no rule was tuned: agreement beside fewest edges, and its confidence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modgraph.arrays import BoolArray
from modgraph.checks import check_int
from modgraph.dag import LayeredDAG
from modgraph.experiments import write
from modgraph.experiments.judged import agreed_on, agreement, judge, n_certified, right_share
from modgraph.experiments.reproduce import RESULTS, settings_of
from modgraph.experiments.store import Store
from modgraph.experiments.sweep import RANDOM, Trial, sweep
from modgraph.functions import FunctionGraph
from modgraph.functions.decompose import PRIME, XOR
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.score import criteria
from modgraph.sculpt import TrainSettings
from modgraph.sculpt.choose import hierarchy_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CRITERIA: Final = ("inputs", "outputs", "exact", "wired")
"""By the first three, as in the paper, the modules are compared with the function; by the last with those that
`detect_modules` finds in `drawn_network`."""

N_SEEN: Final = 200
"""The criterion *wired* and the confidence were found by looking at some of the first functions, at the others once."""

BINS: Final = (0.0, 0.5, 0.7, 0.9, 1.0)
"""Bounds of the share of the votes in the table of confidence."""

KINDS: Final = (
    # inputs, levels, reuse, overlap (None = one part, 0 = two separable parts, else the inputs they share)
    *((6, 1, 1, None), (6, 1, 1, 0), (6, 2, 1, None), (6, 2, 2, None), (6, 1, 1, 2)),
    *((8, 1, 1, 0), (8, 1, 1, 2), (8, 2, 1, None), (8, 2, 2, None), (8, 2, 1, 0), (8, 2, 2, 0), (8, 2, 1, 2)),
    *((8, 3, 1, None), (8, 3, 2, None)),
)
"""The kinds of functions that are drawn in turn."""

PARTS: Final = {None: "one part", 0: "separable", 2: "overlapping"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """The results for one random function and criterion."""

    function: str
    criterion: str
    parts: str  # one of `PARTS`
    levels: int
    reuse: int
    trials: int  # with an accepted network; the shares are of these
    fewest_edges: float  # share whose network with the fewest edges is right; ties count in proportion
    agreed: float  # share that ends right if they choose together
    any: float  # share in which any network is right
    answer: bool  # whether the hierarchy with most votes is right
    certified: bool  # whether it has several modules, all certified by intervention: a true decomposition
    coarser: bool  # whether it has several modules, and its groups of inputs and outputs are unions of the drawn ones
    votes: float  # its share of the votes
    confidence: float  # see `modgraph.sculpt.with_confidence`
    drawn_exact: bool  # whether `drawn_network` itself is exact

    @property
    def number(self) -> int:
        """The number of the function, from 0."""
        return int(json.loads(self.function)["random_state"])


def drawn_network(target: FunctionGraph, *, hidden_layers: int) -> LayeredDAG:
    """Return a network whose wiring is the graph of a random function.

    A sub-function is in the hidden layer of its level; single units pass values on. An AND of literals or an OR is one
    unit. Any other sub-function of n bits takes n units, as many as a parity needs: one for each value that the sum of
    its bits can exceed. Sub-functions of the same bits share their units.
    """
    units = {name: [number] for number, name in enumerate(target.inputs)}  # of a value, in the layer below
    levels, masks = target.levels(), list[BoolArray]()

    def add_layer(read: Sequence[Sequence[int]]) -> None:
        mask = np.zeros((len(read), masks[-1].shape[0] if masks else target.n_inputs), dtype=np.bool_)
        for row, sources in zip(mask, read, strict=True):
            row[list(sources)] = True
        masks.append(mask)

    for level in range(1, hidden_layers + 1):
        read = list(units.values())  # the units that each unit of this layer reads
        following = {name: [number] for number, name in enumerate(units)}
        units_of_bits: dict[frozenset[str], list[int]] = {}
        for sub in target.sub_functions:
            if levels[sub.name] != level:
                continue
            gate = sub.function if isinstance(sub.function, str) else getattr(sub.function, "__name__", "")
            following[sub.name] = shared = units_of_bits.setdefault(frozenset(sub.parents), [])
            for _ in range(len(shared), len(sub.parents) if gate in (XOR, PRIME) else 1):
                shared.append(len(read))
                read.append([unit for parent in sub.parents for unit in units[parent]])
        add_layer(read)
        units = following
    add_layer([units[output.removeprefix("~")] for output in target.outputs])
    return LayeredDAG.from_masks(masks)


def random_trials(n_functions: int, *, seeds: int, quick: bool = False) -> list[list[Trial]]:
    """List the trials of each random function; the functions are the same whatever their number."""
    steps = settings_of(quick=quick)
    every = []
    for number in range(n_functions):
        n_inputs, levels, reuse, overlap = KINDS[number % len(KINDS)]
        kind = {"n_inputs": n_inputs, "levels": levels, "reuse": reuse, "overlap": overlap, "random_state": number}
        settings = TrainSettings(learning_rate=0.05, batch_size=16 if n_inputs == 6 else 32, epochs=40)
        hidden = (24,) * max(2, levels)
        name = RANDOM + json.dumps(kind)
        every.append(
            [Trial(function=name, hidden=hidden, seed=seed, settings=settings, **steps) for seed in range(seeds)]
        )
    return every


def reproduce_random(
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    n_functions: int = 200,
    seeds: int = 4,
    n_jobs: int = -1,
    quick: bool = False,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[FunctionResult]:
    """Sculpt networks of random functions and write ``random.csv``, a figure and a page to `out`.

    `quick`: 2 settings instead of 28. Further arguments are as in `modgraph.experiments.reproduce.reproduce`.
    """
    check_int("n_functions", n_functions, at_least=1)
    check_int("seeds", seeds, at_least=1)
    every = random_trials(n_functions, seeds=seeds, quick=quick)
    wanted = [trial for trials in every for trial in trials]
    store = sweep(wanted, Path(out) / RESULTS, n_jobs=n_jobs, device=device, progress=progress)
    results = [result for trials in every for result in results_of(store, trials)]
    table = write.csv_text({name: getattr(result, name) for name in result.__slots__} for result in results)
    text = page(results, command=f"modgraph reproduce random --functions {n_functions}")
    write.save(Path(out), "random", table=table, figure=figure(results), page=text)
    return results


def results_of(store: Store, trials: Sequence[Trial]) -> list[FunctionResult]:
    """Judge the trials of one random function by each criterion; none if no network was accepted."""
    agreed, target = agreed_on(store, trials)
    if agreed is None:
        return []
    drawn = detect_modules(drawn_network(target, hidden_layers=len(trials[0].hidden)))
    wired = hierarchy_key(drawn)
    judged = [
        replace(one, right=one.right | {"wired": np.array([shown == wired for shown in one.shown])})
        for trial in trials
        if (one := judge(store, trial)).chosen >= 0
    ]
    name, found = trials[0].function.removeprefix(RANDOM), agreed.hierarchy
    kind = json.loads(name)
    known = {
        "parts": PARTS[kind["overlap"]],
        "levels": kind["levels"],
        "reuse": kind["reuse"],
        "trials": len(judged),
        "certified": found.n_modules > 1 and n_certified(found, target) == found.n_modules,
        "confidence": agreed.confidence,
        "drawn_exact": criteria(drawn, target).exact,
        "coarser": found.n_modules > 1 and _is_coarser(found, target),
    }
    results = []
    for criterion in CRITERIA:
        together = agreement(judged, criterion)
        results.append(
            FunctionResult(
                **known,
                function=name,
                criterion=criterion,
                fewest_edges=right_share(judged, criterion, lambda trial: trial.edges),
                agreed=float(together.right.mean()),
                any=float(np.mean([trial.right[criterion].any() for trial in judged])),
                answer=together.answer,
                votes=together.share,
            )
        )
    return results


def _is_coarser(found: ModuleHierarchy, target: FunctionGraph) -> bool:
    """Whether inputs, and outputs, that belong together in the target have the same label."""
    first, last = (found.labels[found.dag.layer == layer] for layer in (0, found.dag.n_layers - 1))
    ends = ((first, target.input_partition()), (last, target.output_partition()))
    return all(len(np.unique(labels[list(group)])) == 1 for labels, partition in ends for group in partition)


def page(results: Sequence[FunctionResult], *, command: str) -> str:
    """Write the page (Markdown): success by kind of function, and how far the confidence can be trusted."""
    by_criterion = {name: _groups([one for one in results if one.criterion == name]) for name in CRITERIA}
    parts = {"seen": (0, N_SEEN), "fresh": (N_SEEN, None)}
    tables = []
    for title, (start, stop) in parts.items():
        part = {
            name: [one for one in groups["all"] if start <= one.number and (stop is None or one.number < stop)]
            for name, groups in by_criterion.items()
        }
        if part["exact"]:
            tables.append((title, *_confidence(part)))
    exact = by_criterion["exact"]["all"]
    drawn = [(shows, [one.answer for one in exact if one.drawn_exact == shows]) for shows in (True, False)]
    return write.page(
        "random",
        command=command,
        drawn=[(shows, len(answers), sum(answers)) for shows, answers in drawn],
        results=results,
        by_criterion=by_criterion,
        n_seen=N_SEEN,
        tables=tables,
        interval=lambda part, rule: _mean([getattr(one, rule) for one in part]),
    )


def _confidence(by_criterion: dict[str, list[FunctionResult]]) -> tuple[list[object], list[object]]:
    """Return how many answers are right by their votes and confidence, and how many wrong ones have little of it."""
    exact = by_criterion["exact"]
    right = {name: np.array([one.answer for one in part]) for name, part in by_criterion.items()}
    right["true"] = right["exact"] | [one.certified for one in exact]
    right["coarser"] = right["true"] | [one.coarser for one in exact]
    rows, wrong = list[object](), list[object]()
    for measure in ("votes", "confidence"):
        # Rounded: the sum of equal votes may be a little below 1.
        values = np.array([getattr(one, measure) for one in exact]).round(9)
        for low, high in pairwise(BINS):
            inside = (low <= values) & (values <= high if high == BINS[-1] else values < high)
            shares = {name: some[inside].mean() if inside.any() else None for name, some in right.items()}
            rows.append((measure, low, high, inside.sum(), shares))
        wrong += [
            (measure, name, (~right[name]).sum(), (values[~right[name]] < BINS[1]).sum())
            for name in ("exact", "wired", "true", "coarser")
        ]
    return rows, wrong


def _groups(results: Sequence[FunctionResult]) -> dict[str, list[FunctionResult]]:
    """Split results by parts, levels and reuse, each by itself."""
    groups = {"all": list(results)}
    for name in ("parts", "levels", "reuse"):
        for value in sorted({getattr(result, name) for result in results}, key=str):
            title = value if name == "parts" else f"{name} {value}"
            groups[title] = [result for result in results if getattr(result, name) == value]
    return groups


def _mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Return a mean and its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), size=(2000, len(values)))
    return float(np.mean(values)), *write.interval(drawn.mean(axis=1))


def figure(results: Sequence[FunctionResult]) -> Figure:
    """Draw the shares of exact trials by kind of function."""
    groups = _groups([result for result in results if result.criterion == "exact"])
    shown = {"agreement (95 %)": "agreed", "fewest edges": "fewest_edges", "any": "any"}
    panel = write.Panel(
        "Share of trials with exactly the modules of the random function",
        list(groups),
        {
            name: [_mean([getattr(one, rule) for one in part])[0] for part in groups.values()]
            for name, rule in shown.items()
        },
        np.array([_mean([one.agreed for one in part])[1:] for part in groups.values()]),
    )
    return write.bar_figure([panel], size=(8, 3.4), colours=(write.HERE, write.HERE_PAPERS_RULE, write.ANY))
