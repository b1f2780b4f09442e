"""Success on random functions, to which no rule was tuned: agreement beside fewest edges, and its confidence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modgraph.checks import check_int
from modgraph.experiments import write
from modgraph.experiments.judged import agreement, judge, n_certified
from modgraph.experiments.reproduce import settings_of
from modgraph.experiments.store import Store
from modgraph.experiments.sweep import RANDOM, Trial, sweep, target_of
from modgraph.files import write_whole
from modgraph.functions import FunctionGraph
from modgraph.modules import ModuleHierarchy
from modgraph.sculpt import TrainSettings, consensus, least_contradicting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CRITERIA: Final = ("inputs", "outputs", "exact")

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
    """The results for one random function and criterion.

    Attributes
    ----------
    function : str
    criterion : {"inputs", "outputs", "exact"}
    parts : {"one part", "separable", "overlapping"}
    levels, reuse : int
    trials : int
        Trials with an accepted network.
    fewest_edges : float
        Share of these whose network with the fewest edges is right; ties count in proportion.
    agreed : float
        Share of these that end right if they choose together.
    any : float
        Share of these in which any network is right.
    answer : bool
        Whether the hierarchy with most votes is right.
    certified : bool
        Whether that hierarchy has several modules and interventions certify all of them: it is a true decomposition
        (see `modgraph.experiments.judged.n_certified`).
    coarser : bool
        Whether it has several modules, and its groups of inputs and of outputs are unions of the drawn ones.
    votes : float
        Its share of the votes.
    """

    function: str
    criterion: str
    parts: str
    levels: int
    reuse: int
    trials: int
    fewest_edges: float
    agreed: float
    any: float
    answer: bool
    certified: bool
    coarser: bool
    votes: float


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
    """Sculpt networks of random functions and write a table, a figure and a page.

    Parameters
    ----------
    out : path-like
        Folder for ``results.sqlite`` (an interrupted run is continued), ``random.csv``, ``random.png``, ``random.svg``
        and ``random.md``.
    n_functions, seeds : int ≥ 1
        Functions, and trials of each.
    quick : bool
        2 settings instead of 28, to see that it works.
    n_jobs, device, progress
        As in `modgraph.experiments.sweep`.

    Returns
    -------
    list of FunctionResult
    """
    check_int("n_functions", n_functions, at_least=1)
    check_int("seeds", seeds, at_least=1)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    every = random_trials(n_functions, seeds=seeds, quick=quick)
    store = sweep(
        [trial for trials in every for trial in trials],
        folder / "results.sqlite",
        n_jobs=n_jobs,
        device=device,
        progress=progress,
    )
    results = [result for trials in every for result in results_of(store, trials)]
    table = write.csv_text({name: getattr(result, name) for name in result.__slots__} for result in results)
    write.save_table_and_figure(folder, "random", table=table, figure=figure(results))
    write_whole(folder / "random.md", page(results, command=f"modgraph reproduce random --functions {n_functions}"))
    return results


def results_of(store: Store, trials: Sequence[Trial]) -> list[FunctionResult]:
    """Judge the trials of one random function by each criterion; none if no network was accepted."""
    target = target_of(trials[0].function)
    accepted = [[one for one in store.candidates(trial.key) if one.accepted] for trial in trials]
    agreed = consensus(least_contradicting(accepted, function=target.truth_table()))
    if agreed is None:
        return []
    judged = [one for trial in trials if (one := judge(store, trial)).chosen >= 0]
    name, found = trials[0].function, agreed.hierarchy
    certified = found.n_modules > 1 and n_certified(found, target) == found.n_modules
    coarser = found.n_modules > 1 and _is_coarser(found, target)
    kind = json.loads(name.removeprefix(RANDOM))
    results = []
    for criterion in CRITERIA:
        together = agreement(judged, criterion)
        rights = [(trial.right[criterion], trial.edges == trial.edges.min()) for trial in judged]
        results.append(
            FunctionResult(
                function=name.removeprefix(RANDOM),
                criterion=criterion,
                parts=PARTS[kind["overlap"]],
                levels=kind["levels"],
                reuse=kind["reuse"],
                trials=len(judged),
                fewest_edges=float(np.mean([right[sparsest].mean() for right, sparsest in rights])),
                agreed=float(together.right.mean()),
                any=float(np.mean([right.any() for right, _ in rights])),
                answer=together.answer,
                certified=certified,
                coarser=coarser,
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
    """Write the page (Markdown): success by kind of function, and how far the share of the votes can be trusted."""
    n_functions = len({result.function for result in results})
    lines = [
        "# Random functions",
        "",
        *write.paragraph(
            f"Written by `{command}`: {n_functions} functions of `modgraph.functions.random` that a network "
            f"learnt, with {max(result.trials for result in results)} trials each. No constant was chosen on them. "
            "*fewest edges*: share of trials whose network with the fewest edges is right; *agreement*: share "
            "that ends right if the trials of a function choose together; *any*: share with a right network. In "
            "brackets 95 % intervals, by bootstrap over the functions."
        ),
        "",
        "![Success by kind of function](random.png)",
    ]
    for criterion in CRITERIA:
        some = [result for result in results if result.criterion == criterion]
        rows = [
            [name, len(part), *(_with_interval([getattr(one, rule) for one in part]) for rule in _RULES)]
            for name, part in _groups(some).items()
        ]
        lines += ["", f"## Right {criterion}" if criterion != "exact" else "## Exact", ""]
        lines += write.markdown_table(["functions", "number", "fewest edges", "agreement", "any"], rows)
    lines += ["", "## Confidence", ""]
    lines += write.paragraph(
        "Share of the functions whose hierarchy with most votes is right, by its share of the votes. *True*: it is "
        "exact, or it has several modules and interventions certify all of them. *Coarser*: it has several modules, "
        "and its groups of inputs and of outputs are unions of the drawn ones, as where a layer computes two levels "
        "at once."
    )
    lines += [
        "",
        *write.markdown_table(["votes", "functions", *CRITERIA, "true", "true or coarser"], _confidence(results)),
        "",
    ]
    exact = [one for one in results if one.criterion == "exact"]
    for wanted, wrong in (
        ("exact", [one for one in exact if not one.answer]),
        ("true", [one for one in exact if not (one.answer or one.certified)]),
        ("true or coarser", [one for one in exact if not (one.answer or one.certified or one.coarser)]),
    ):
        flagged = sum(one.votes < BINS[1] for one in wrong)
        lines.append(f"Of the {len(wrong)} answers that are not {wanted}, {flagged} have less than half of the votes.")
    return "\n".join(lines) + "\n"


_RULES: Final = ("fewest_edges", "agreed", "any")


def _groups(results: Sequence[FunctionResult]) -> dict[str, list[FunctionResult]]:
    """Split results by parts, levels and reuse, each by itself."""
    groups = {"all": list(results)}
    for name in ("parts", "levels", "reuse"):
        for value in sorted({getattr(result, name) for result in results}, key=str):
            title = value if name == "parts" else f"{name} {value}"
            groups[title] = [result for result in results if getattr(result, name) == value]
    return groups


def _with_interval(values: Sequence[float]) -> str:
    """Write a mean with its 95 % bootstrap interval."""
    low, high = mean_interval(values)
    return f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), size=(2000, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _confidence(results: Sequence[FunctionResult]) -> list[list[str]]:
    """Write the number of functions and the shares of right answers by share of the votes."""
    rows = []
    for low, high in pairwise(BINS):
        inside = [one for one in results if low <= one.votes < high or one.votes == high == 1]
        answers = [[one.answer for one in inside if one.criterion == criterion] for criterion in CRITERIA]
        answers.append([one.answer or one.certified for one in inside if one.criterion == "exact"])
        answers.append([one.answer or one.certified or one.coarser for one in inside if one.criterion == "exact"])
        shares = [f"{np.mean(some):.2f}" if some else "–" for some in answers]
        rows.append([f"{low:g}–{high:g}", str(len(answers[0])), *shares])
    return rows


def figure(results: Sequence[FunctionResult]) -> Figure:
    """Draw the shares of exact trials by kind of function."""
    from matplotlib.figure import Figure

    groups = _groups([result for result in results if result.criterion == "exact"])
    result = Figure(figsize=(8, 3.4), layout="constrained")
    ax = result.subplots()
    write.bars(
        ax,
        list(groups),
        {
            "agreement (95 %)": [float(np.mean([one.agreed for one in part])) for part in groups.values()],
            "fewest edges": [float(np.mean([one.fewest_edges for one in part])) for part in groups.values()],
            "any": [float(np.mean([one.any for one in part])) for part in groups.values()],
        },
        colours=(write.HERE, write.HERE_PAPERS_RULE, write.ANY),
        intervals=np.array([mean_interval([one.agreed for one in part]) for part in groups.values()]),
    )
    ax.tick_params(axis="x", rotation=20)
    ax.set_title("Share of trials with exactly the modules of the random function", fontsize=10)
    ax.legend(fontsize=8)
    return result
