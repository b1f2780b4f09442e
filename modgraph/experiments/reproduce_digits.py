"""Reproduction of the paper's experiments on two digits: modules by depth, beside the published rates."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np

from modgraph.checks import check_choice
from modgraph.experiments import write
from modgraph.experiments.digits import Data, DigitsResult, DigitsTrial, TaskName, run_digits
from modgraph.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES: Final = {
    "inputs": {2: 0.0, 3: 0.0, 4: 1.0, 5: 1.0},
    "outputs": {2: 1.0, 3: 1.0, 4: 0.83, 5: 0.92},
    "middle": {2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0},
}
"""Published success rates by number of hidden layers (Patil et al. 2023, section 5; 12 networks each)."""

PANEL: Final = {"inputs": "input-separable modules", "outputs": "output modules", "middle": "separable middle layers"}

NETWORK_HEAD: Final = (
    "network",
    "units left",
    "edges",
    "density",
    "dense, validation",
    "dense, test",
    "validation",
    "test",
    "rounds",
    "minutes",
    "pixel modules, purity: default",
    "paper",
)

WIDTHS: Final[dict[Data, int]] = {"mnist": 784, "digits8": 64}


def reproduce_digits(
    out: str | os.PathLike[str] = "out/reproduce",
    *,
    data: Data = "digits8",
    task: TaskName = "hierarchical",
    hidden_layers: Sequence[int] = (2, 3, 4, 5),
    widths: Sequence[int] = (),
    seeds: int = 2,
    n_jobs: int = -1,
    quick: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> list[DigitsResult]:
    """Sculpt networks on two digits and write a table, a figure and a page about their modules.

    Parameters
    ----------
    out : path-like
        Folder for a table (CSV), a figure (PNG and SVG) and a page (Markdown), named ``digits-`` and the data, and for
        the networks, in ``digits/``. An interrupted run is continued from there.
    data, task : str
        See `DigitsTrial`; `modgraph.sculpt.load_mnist` says where MNIST is looked for.
    hidden_layers : sequence of int ≥ 1
        Numbers of hidden layers.
    widths : sequence of int ≥ 1
        Units of a hidden layer; by default 784 for MNIST, 64 for the small digits.
    seeds : int ≥ 1
        Networks of each size.
    quick : bool
        One small network, to see that it works.
    n_jobs, progress
        As in `modgraph.experiments.reproduce.reproduce`.

    Returns
    -------
    list of DigitsResult
        By depth, then width, then seed.

    Raises
    ------
    ValueError
        If an argument is out of range.
    FileNotFoundError
        If MNIST is not there.
    """
    check_choice("data", data, ("digits8", "mnist"))
    for name, numbers, least in (("hidden_layers", hidden_layers, 1), ("widths", widths, 0), ("seeds", [seeds], 1)):
        good = [isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in numbers]
        if not all(good) or len(good) < least:
            raise ValueError(f"`{name}` must be ints ≥ 1 (got {numbers!r})")
    trials = [
        DigitsTrial(data=data, task=task, width=width, depth=depth, seed=seed)
        for depth in hidden_layers
        for width in widths or (WIDTHS[data],)
        for seed in range(seeds)
    ]
    if quick:
        trials = [DigitsTrial(data=data, task=task, width=32, depth=2, seed=0, quick=True)]
    folder = Path(out)
    (folder / "digits").mkdir(parents=True, exist_ok=True)
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="n_jobs", return_as="generator")
    results = []
    if progress is not None:
        progress(0, len(trials))
    for result in parallel(joblib.delayed(run_digits)(trial, folder / "digits") for trial in trials):
        results.append(result)
        if progress is not None:
            progress(len(results), len(trials))
    name = page_name(results)
    write.save_table_and_figure(folder, name, table=table(results), figure=figure(results))
    write_whole(folder / f"{name}.md", page(results))
    return results


def table(results: Iterable[DigitsResult]) -> str:
    """Write networks as CSV, a line for each."""
    return write.csv_text(_row(result) for result in results)


def _row(result: DigitsResult) -> dict[str, object]:
    """List the fields of one network's line."""
    trial = result.trial
    row: dict[str, object] = {name: getattr(trial, name) for name in ("data", "task", "width", "depth", "seed")}
    row |= {"sizes": "-".join(map(str, result.sizes)), "edges": result.edges, "density": f"{result.density:.6f}"}
    row |= {name: f"{getattr(result, name):.4f}" for name in ("dense_validation", "dense_test", "validation", "test")}
    row |= {"rounds": result.rounds, "seconds": f"{result.seconds:.1f}"}
    for kind in ("published", "default"):
        row |= {f"{kind}_{name}": value for name, value in asdict(getattr(result, kind)).items()}
    return row


def page(results: Sequence[DigitsResult]) -> str:
    """Write the page (Markdown): the panel by depth beside the published rates, and every network."""
    first = results[0].trial
    name = page_name(results)
    widths, depths, seeds = (sorted({getattr(r.trial, name) for r in results}) for name in ("width", "depth", "seed"))
    command = f"modgraph reproduce digits --data {first.data}" + " --quick" * first.quick
    command += " --task classify" * (first.task == "classify")
    if not first.quick:
        command += (
            f" --width {','.join(map(str, widths))} --hidden-layers {','.join(map(str, depths))} --seeds {len(seeds)}"
        )
    source = "MNIST" if first.data == "mnist" else "the small digits of scikit-learn"
    panel = []
    for depth in depths:
        mine = [result for result in results if result.trial.depth == depth]
        panel.append([depth, len(mine)])
        for part in PANEL:
            counts = [sum(getattr(getattr(r, kind), part) for r in mine) for kind in ("default", "published")]
            panel[-1] += [*counts, write.rate_or_dash(_published_rates(part, results).get(depth))]
    networks = [
        [
            f"{r.trial.width} × {r.trial.depth}, seed {r.trial.seed}",
            "–".join(map(str, r.sizes)),
            r.edges,
            f"{100 * r.density:.3f} %",
            *(f"{accuracy:.4f}" for accuracy in (r.dense_validation, r.dense_test, r.validation, r.test)),
            r.rounds,
            f"{r.seconds / 60:.1f}",
            *(f"{found.input_modules}, {found.purity:.3f}" for found in (r.default, r.published)),
        ]
        for r in results
    ]
    panel_head = [title for what in PANEL.values() for title in (f"{what}: default", "paper", "published")]
    lines = [
        f"# Two digits ({source}, {first.task})",
        "",
        f"Written by `{command}`, from networks accepted on validation images.",
        "*default*: `detect_modules` as it is; *paper*: the paper's rule with its thresholds for images (0.6 and 0.3).",
        "A module of pixels counts as one digit's if 95 % of its pixels are.",
        "",
        f"![Modules by depth]({name}.png)",
        "",
        *write.markdown_table(["hidden layers", "networks", *panel_head], panel),
        "",
        *write.markdown_table(NETWORK_HEAD, networks, left=(0, 1)),
    ]
    return "\n".join(lines) + "\n"


def figure(results: Sequence[DigitsResult]) -> Figure:
    """Draw the paper's panel: for each number of hidden layers the share of networks with each kind of module."""
    from matplotlib.figure import Figure

    depths = sorted({result.trial.depth for result in results})

    def share(kind: str, part: str, depth: int) -> float:
        mine = [result for result in results if result.trial.depth == depth]
        return float(np.mean([getattr(getattr(result, kind), part) for result in mine]))

    picture = Figure(figsize=(9, 3.2), layout="constrained")
    for ax, part in zip(picture.subplots(1, len(PANEL), sharey=True), PANEL, strict=True):
        shares = {
            "here, default": [share("default", part, depth) for depth in depths],
            "here, paper’s rule": [share("published", part, depth) for depth in depths],
            "published": [_published_rates(part, results).get(depth, np.nan) for depth in depths],
        }
        write.bars(
            ax, [str(depth) for depth in depths], shares, colours=(write.HERE, write.HERE_PAPERS_RULE, write.PUBLISHED)
        )
        ax.set(title=PANEL[part], xlabel="hidden layers")
    picture.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return picture


def page_name(results: Sequence[DigitsResult]) -> str:
    """Return the name, without suffix, of the files about these networks."""
    first = results[0].trial
    return f"digits-{first.data}{'-classify' * (first.task == 'classify')}"


def _published_rates(part: str, results: Sequence[DigitsResult]) -> dict[int, float]:
    """Return the published rates by depth; none were published for *classify*."""
    return RATES[part] if results[0].trial.task == "hierarchical" else {}
