"""The ``modgraph`` command: files in, files or standard output out."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from modgraph import functions
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.io.export_files import save_graph
from modgraph.io.load import load_network, save_network
from modgraph.modules import FORMAT, ModuleHierarchy, counted, detect_modules

try:
    import typer
except ImportError as error:  # the command is there without its extra, too
    raise ImportError("the command needs typer: pip install 'modgraph-nn[cli]'") from error

if TYPE_CHECKING:
    from modgraph.functions import FunctionGraph

app = typer.Typer(
    name="modgraph",
    help="Uncover the hierarchical modules of pruned neural networks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[Path, typer.Argument(help="A network (.npz .pt .safetensors .onnx .keras .h5 .skops) or a hierarchy.")]
Threshold = Annotated[float, typer.Option(help="Weights of at most this magnitude count as pruned.")]
Masks = Annotated[Path | None, typer.Option(help="A file of masks for a file of weights; nonzero = kept.")]
Block = Annotated[str | None, typer.Option(help="The part to read, by name, or layers in order: a,b,c.")]
Trust = Annotated[bool, typer.Option("--trust-pickle", help="Run code that the file holds, as unpickling does.")]
Clustering = Annotated[str, typer.Option(help="How units are clustered; see modgraph.detect_modules.")]
Hops = Annotated[int | None, typer.Option(help="How far a unit's reach counts; by default to the outputs.")]
Merge = Annotated[float, typer.Option("--merge-threshold", help="The 0.9 rule: share of edges, in (0, 1].")]
Seed = Annotated[int, typer.Option(help="For clusterings that draw at random.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
Target = Annotated[str, typer.Argument(help="A published function, such as overlap_3_use_8.")]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from modgraph import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def detect(
    file: File,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the hierarchy as JSON.")] = None,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Find the modules of a pruned network.

    Example: modgraph detect pruned.onnx --out modules.json
    """
    dag = _network(file, threshold=threshold, masks=masks, block=block, trust_pickle=trust_pickle)
    found = _detected(dag, clustering, hops, merge_threshold, seed)
    if out is not None:
        found.save(out)
    if as_json:
        _print_json(_hierarchy(found))
        return
    typer.echo(f"{found.dag!r}, {counted(found.n_modules, 'module')}")
    for module in found.modules:
        typer.echo(f"  {module!r}")


@app.command()
def score(
    file: File,
    target: Target,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Say how well the modules of a network, or a saved hierarchy, fit a function.

    Example: modgraph score pruned.pt overlap_3_use_8 --json
    """
    from modgraph.score import score as judge

    goal = _function(target)
    found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
    result = judge(found, goal)
    if not as_json:
        typer.echo(repr(result))
        for match in result.matching:
            typer.echo(f"  module {match.module}: {match.sub_function} ({match.similarity:.2f})")
        return
    names = ("inputs", "hidden", "outputs", "exact", "ari", "ami", "n_modules", "expected_modules")
    matching = [
        {"module": match.module, "sub_function": match.sub_function, "similarity": match.similarity}
        for match in result.matching
    ]
    _print_json({"target": target} | {name: getattr(result, name) for name in names} | {"matching": matching})


@app.command()
def draw(
    file: File,
    picture: Annotated[Path, typer.Argument(help="Where the picture goes: .svg, .png, .pdf; - prints SVG.")],
    target: Annotated[str | None, typer.Option(help="A published function, to name modules after.")] = None,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Draw the modules of a network or of a saved hierarchy.

    Example: modgraph draw pruned.safetensors modules.svg
    """
    from modgraph.draw import draw as drawn

    goal = None if target is None else _function(target)
    found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
    figure: Any = drawn(found, target=goal).figure
    if str(picture) == "-":
        figure.savefig(sys.stdout.buffer, format="svg")
        return
    with replacing(picture) as part:
        figure.savefig(part, dpi=200)


@app.command()
def report(
    file: File,
    page: Annotated[Path, typer.Argument(help="Where the page goes: .html.")],
    target: Annotated[str | None, typer.Option(help="A published function, to judge modules by.")] = None,
    title: Annotated[str | None, typer.Option(help="The heading of the page.")] = None,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write the modules of a network or of a saved hierarchy as one HTML file to look around in.

    Example: modgraph report pruned.safetensors report.html
    """
    from modgraph.report import report as write

    goal = None if target is None else _function(target)
    found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
    write(found, page, target=goal, title=title)


@app.command()
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help=".npz, .graphml, .gexf, .gml, .json, .dot, .csv or .parquet.")],
    modules: Annotated[bool, typer.Option(help="Detect modules and write them with the trimmed network.")] = False,
    clustering: Clustering = "linkage",
    hops: Hops = None,
    merge_threshold: Merge = 0.9,
    seed: Seed = 0,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write a network as a graph for other programs, or as .npz; a saved hierarchy keeps its modules.

    Example: modgraph convert pruned.onnx network.graphml --modules
    """
    reading: dict[str, Any] = {"threshold": threshold, "masks": masks, "block": block, "trust_pickle": trust_pickle}
    if out.suffix == ".npz":
        if modules:
            raise ValueError("`--modules` can't be kept in .npz: choose a graph format")
        save_network(_network(file, **reading), out)
    elif modules or _is_hierarchy(file):
        found = _found(file, clustering, hops, merge_threshold, seed, threshold, masks, block, trust_pickle)
        save_graph(found, out)
    else:
        save_graph(_network(file, **reading), out)


@app.command()
def info(
    file: File,
    threshold: Threshold = 0.0,
    masks: Masks = None,
    block: Block = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Say what a file holds: layers, edges, density, before and after trimming.

    Example: modgraph info pruned.npz
    """
    dag = _network(file, threshold=threshold, masks=masks, block=block, trust_pickle=trust_pickle)
    trimmed = dag.trim()
    activations = None
    if dag.activations is not None:
        activations = [sorted(set(dag.activations[dag.layer == at].tolist())) for at in range(dag.n_layers)]
    facts: dict[str, Any] = {
        "layers": list(dag.layer_names or (f"layer {at}" for at in range(dag.n_layers))),
        "layer_sizes": list(dag.layer_sizes),
        "trimmed_sizes": list(trimmed.layer_sizes),
        "edges": dag.n_edges,
        "trimmed_edges": trimmed.n_edges,
        "density": dag.density,
        "skips_layers": dag.skips_layers,
        "weights": dag.weights is not None,
        "biases": dag.biases is not None,
        "activations": activations,
    }
    if as_json:
        _print_json(facts)
        return
    typer.echo(f"{dag!r}; trimmed {trimmed!r}")
    for at, name in enumerate(facts["layers"]):
        sizes = f"{dag.layer_sizes[at]} units, {trimmed.layer_sizes[at]} after trimming"
        typer.echo(f"  {name}: {sizes}{'' if activations is None else f', {chr(32).join(activations[at])}'}")


@app.command()
def sculpt(
    target: Target,
    out: Annotated[Path, typer.Argument(help="A folder for one .npz a trial.")],
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers.")] = "24,24",
    seeds: Annotated[int, typer.Option(help="Number of trials, from seed 0.")] = 4,
    epochs: Annotated[int, typer.Option(help="Of every training run.")] = 10,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Train networks on a published function, prune them as far as they stay right, and save them.

    Example: modgraph sculpt separable networks --hidden 24,24 --seeds 4
    """
    from modgraph.sculpt import TrainSettings
    from modgraph.sculpt import sculpt as search

    goal = _function(target)
    sizes = _ints(hidden, "hidden")
    settings = TrainSettings(learning_rate=0.05, batch_size=8, epochs=epochs)
    out.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        result = search(goal, hidden=sizes, seeds=range(seeds), settings=settings, progress=progress)
    rows = []
    for network in result.networks:
        file = out / f"{target}-{network.seed}.npz"
        save_network(network.dag, file)
        rows.append({"file": str(file), "accepted": network.accepted, "edges": int(network.dag.n_edges)})
    if as_json:
        _print_json({"networks": rows})
        return
    for row in rows:
        typer.echo(f"{row['file']}: {row['edges']} edges{'' if row['accepted'] else ', not accurate enough'}")


@app.command()
def reproduce(
    experiment: Annotated[str, typer.Argument(help="exemplars, reuse, overlap, levels, all of these, or digits.")],
    out: Annotated[Path, typer.Option(help="The folder of results; a run that was interrupted goes on there.")] = Path(
        "out/reproduce"
    ),
    seeds: Annotated[int | None, typer.Option(help="Trials of each function and size; by default 4, digits 2.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1 = all cores.")] = -1,
    device: Annotated[str | None, typer.Option(help="Where torch computes: cpu, cuda, …; a GPU if any.")] = None,
    data: Annotated[str, typer.Option(help="digits: mnist (MODGRAPH_DATA says where) or digits8.")] = "digits8",
    task: Annotated[str, typer.Option(help="digits: hierarchical or classify.")] = "hierarchical",
    hidden_layers: Annotated[str, typer.Option(help="digits: numbers of hidden layers.")] = "2,3,4,5",
    width: Annotated[str | None, typer.Option(help="digits: units of a hidden layer, such as 392,784.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One small network a cell: to see that it works.")] = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `main`)
) -> None:
    """Run the paper's experiments, and write success rates beside the published ones.

    Example: modgraph reproduce exemplars --out results
    """
    if experiment == "digits":
        depths = _ints(hidden_layers, "hidden-layers")
        widths = [] if width is None else _ints(width, "width")
        _reproduce_digits(out, data, task, depths, widths, 2 if seeds is None else seeds, jobs, quick, as_json)
        return
    from modgraph.experiments import EXPERIMENTS
    from modgraph.experiments.reproduce import reproduce as run

    with _progress() as progress:
        rates = run(
            EXPERIMENTS if experiment == "all" else [experiment],
            out,
            seeds=4 if seeds is None else seeds,
            n_jobs=jobs,
            device=device,
            quick=quick,
            progress=progress,
        )
    rows = [
        {
            "experiment": name,
            "cell": " · ".join(filter(None, (rate.cell.panel, rate.cell.row, rate.cell.column))),
            "trials": rate.trials,
            "right": rate.equal,
            "published": rate.cell.rate,
        }
        for name, part in rates.items()
        for rate in part
    ]
    if as_json:
        _print_json({"rates": rows, "page": str(out / "reproduction.md")})
        return
    for row in rows:
        known = "" if row["published"] is None else f" (published {row['published']:.2f})"
        typer.echo(f"{row['cell']}: {row['right']} of {row['trials']}{known}")
    typer.echo(f"{out / 'reproduction.md'} has it all.")


def _reproduce_digits(
    out: Path,
    data: Any,
    task: Any,
    depths: list[int],
    widths: list[int],
    seeds: int,
    jobs: int,
    quick: bool,
    as_json: bool,
) -> None:
    from modgraph.experiments.reproduce_digits import reproduce_digits as run

    with _progress() as progress:
        results = run(
            out,
            data=data,
            task=task,
            hidden_layers=depths,
            widths=widths,
            seeds=seeds,
            n_jobs=jobs,
            quick=quick,
            progress=progress,
        )
    page = out / f"digits-{data}.md"
    if as_json:
        _print_json({"networks": [asdict(result) for result in results], "page": str(page)})
        return
    for result in results:
        sizes = "-".join(map(str, result.sizes))
        pixels = f"{result.default.input_modules} modules of pixels, {100 * result.default.purity:.1f} % pure"
        typer.echo(f"{result.trial.name}: {sizes}, {result.edges} edges, {100 * result.test:.2f} % right, {pixels}")
    typer.echo(f"{page} has it all.")


# --- Shared by the commands -------------------------------------------------------------------------------------------


def _network(file: Path, *, threshold: float, masks: Path | None, block: str | None, trust_pickle: bool) -> LayeredDAG:
    parts = None if block is None else block.split(",")
    chosen = parts[0] if parts is not None and len(parts) == 1 else parts
    return load_network(file, threshold=threshold, masks=masks, block=chosen, trust_pickle=trust_pickle)


def _detected(
    dag: LayeredDAG, clustering: str, hops: int | None, merge_threshold: float, seed: int | None
) -> ModuleHierarchy:
    return detect_modules(dag, clustering=clustering, hops=hops, merge_threshold=merge_threshold, random_state=seed)


def _is_hierarchy(file: Path) -> bool:
    """Whether a file begins as `ModuleHierarchy.save` does."""
    with file.open("rb") as opened:
        return FORMAT.encode() in opened.read(64)


def _found(
    file: Path,
    clustering: str,
    hops: int | None,
    merge_threshold: float,
    seed: int | None,
    threshold: float,
    masks: Path | None,
    block: str | None,
    trust_pickle: bool,
) -> ModuleHierarchy:
    """Load a hierarchy as it was saved, or detect that of a network."""
    if _is_hierarchy(file):
        return ModuleHierarchy.load(file)
    dag = _network(file, threshold=threshold, masks=masks, block=block, trust_pickle=trust_pickle)
    return _detected(dag, clustering, hops, merge_threshold, seed)


def _ints(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`--{option}` must be ints with commas between (got {text!r})") from None


def _function(name: str) -> FunctionGraph:
    return functions.published(name)


def _hierarchy(found: ModuleHierarchy) -> dict[str, Any]:
    graph = found.graph
    return {
        "layer_sizes": list(found.dag.layer_sizes),
        "edges": found.dag.n_edges,
        "density": found.dag.density,
        "n_modules": found.n_modules,
        "labels": found.labels.tolist(),
        "cluster_labels": found.cluster_labels.tolist(),
        "modules": [
            {
                "id": module.id,
                "level": module.level,
                "layers": list(module.layers),
                "units": module.units.tolist(),
                "inputs": module.inputs.tolist(),
                "outputs": module.outputs.tolist(),
            }
            for module in found.modules
        ],
        "links": np.column_stack([graph.source, graph.target, graph.n_edges]).tolist(),
    }


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Give a hook that moves a bar on standard error: networks done, networks a second, time left."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True), TimeRemainingColumn())
    with Progress("networks", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("networks", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        0; 2 for bad input, with one sentence on standard error; 130 when interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(given, prog_name="modgraph", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        # Whoever read has left; nothing may be written on the way out either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        typer.echo(f"modgraph: {_sentence(error)}", err=True)
        return 2


def _sentence(error: Exception) -> str:
    """Say what was wrong in one line."""
    message = str(error.format_message() if hasattr(error, "format_message") else error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {str(error.filename)!r}"
    elif not isinstance(error, ValueError | OSError | ImportError) and not hasattr(error, "format_message"):
        message = f"this should not have happened ({type(error).__name__}: {message}); --debug shows where"
    return " ".join(message.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
