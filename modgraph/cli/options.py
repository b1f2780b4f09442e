"""Options that several commands share, each declared once.

A command is a function whose parameters are annotated with the aliases below, or with a group of options (a dataclass
such as `HierarchyOptions`), which stands for all its fields.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import ArgumentInfo

from modgraph.cli.output import Answer, print_notes, working
from modgraph.cluster import METHODS
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.functions import published_names
from modgraph.io.hierarchy import HIERARCHY, load_hierarchy
from modgraph.io.load import load_network, reader_of
from modgraph.modules import FEATURES, ModuleHierarchy, detect_modules


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes a value in the shell, after commas too; where it finds none, the shell completes files."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A network (.npz .pt .safetensors .onnx .keras .h5 .skops) or a hierarchy."),
]
Threshold = Annotated[float, typer.Option(help="Weights of at most this magnitude count as pruned.")]
Masks = Annotated[Path | None, typer.Option(help="A file of masks for a file of weights; nonzero = kept.")]
Block = Annotated[str | None, typer.Option(help="The part to read, by name, or layers in order: a,b,c.")]
TrustPickle = Annotated[bool, typer.Option("--trust-pickle", help="Run code that the file holds, as unpickling does.")]
Features = Annotated[
    str, typer.Option(help=f"What modules are found by: {', '.join(FEATURES)}.", autocompletion=one_of(FEATURES))
]
Clustering = Annotated[
    str,
    typer.Option(help=f"How units are clustered: {', '.join(sorted(METHODS))}.", autocompletion=one_of(METHODS)),
]
Hops = Annotated[int | None, typer.Option(help="Layers ahead that reachability looks; by default up to the outputs.")]
MergeThreshold = Annotated[float, typer.Option(help="Share of edges that merges two clusters, in (0, 1].")]
Seed = Annotated[int, typer.Option(help="Seed of the clusterings that draw random numbers.")]
ImageShape = Annotated[str | None, typer.Option(help="Rows and columns, where inputs are pixels: 28x56.")]
FUNCTIONS = one_of(published_names())
Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="A published function, such as overlap_3_use_8.", autocompletion=FUNCTIONS),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", help="A published function, to name modules after.", autocompletion=FUNCTIONS),
]
OptionalTarget = Annotated[
    str | None,
    typer.Argument(metavar="TARGET", help="A published function, such as separable.", autocompletion=FUNCTIONS),
]
Nulls = Annotated[
    int | None, typer.Option("--nulls", help="Null networks; by default as many as it takes. 0: only a bound, at once.")
]
Changes = Annotated[int, typer.Option("--changes", help="Slightly changed networks, for the stability of modules.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]

ARGUMENT_NAMES = {
    "path": "FILE",
    "name": "TARGET",
    "random_state": "--seed",
    "n_jobs": "--jobs",
    "n_null": "--nulls",
    "n_resamples": "--changes",
    "widths": "--width",
}
"""Python arguments that error messages name, and the option or argument that each comes from."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The options that read a network."""

    file: File
    threshold: Threshold = 0.0
    masks: Masks = None
    block: Block = None
    trust_pickle: TrustPickle = False

    def network(self) -> LayeredDAG:
        """Read the network and print its notes."""
        given = {field.name: getattr(self, field.name) for field in fields(NetworkOptions)}
        if self.block is not None and "," in self.block:
            given["block"] = self.block.split(",")
        with working(f"reading {self.file}"):
            dag = load_network(given.pop("file"), **given)
        print_notes(dag)
        return dag


@dataclass(frozen=True, kw_only=True)
class HierarchyOptions(NetworkOptions):
    """The options that read a network and detect its modules, or read a saved hierarchy."""

    features: Features = "auto"
    clustering: Clustering = "linkage"
    hops: Hops = None
    merge_threshold: MergeThreshold = 0.9
    seed: Seed = 0

    def detected(self) -> ModuleHierarchy:
        """Read the network and detect its modules."""
        check_clusterings([self.clustering], option="--clustering")
        dag = self.network()
        with working("finding modules"):
            names = ("features", "clustering", "hops", "merge_threshold")
            return detect_modules(dag, random_state=self.seed, **{name: getattr(self, name) for name in names})

    def hierarchy(self) -> ModuleHierarchy:
        """Read a saved hierarchy as it is, or detect the modules of a network."""
        return load_hierarchy(self.file) if reader_of(self.file) is HIERARCHY else self.detected()


def parse_image_shape(text: str | None) -> tuple[int, int] | None:
    """Read rows and columns, such as 28x56."""
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise ValueError(f"`--image-shape` must be rows and columns, such as 28x56 (got {text!r})")
    return int(rows), int(columns)


def check_clusterings(names: Sequence[str], *, option: str) -> None:
    """Raise a ValueError if a clustering is unknown."""
    for name in names:
        if name not in METHODS:
            raise ValueError(f"`{option}` must be one of {', '.join(sorted(METHODS))} (got {name!r})")


def save_picture(ax: Any, path: Path, *, option: str) -> None:
    """Save the figure of axes; errors about the path name the option that gave it."""
    with speaking_of({"path": option}), replacing(path) as part:
        ax.figure.savefig(part, dpi=200)


def parse_ints(text: str, *, option: str) -> list[int]:
    """Read ints with commas between."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`{option}` must be ints with commas between (got {text!r})") from None


def command(function: Callable[..., Answer]) -> Callable[..., None]:
    """Prepare a function for typer: add --json and --debug, replace groups by their options, write what it returns.

    The parameters of `function` are annotated with aliases of this module, with groups, or with typer's annotations.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        # The parameters of a dataclass are its fields, as options are.
        whole, types = groups.get(name), hints
        if whole is not None:
            types = get_type_hints(whole, include_extras=True)
        parts = [parameter] if whole is None else inspect.signature(whole).parameters.values()
        options += [part.replace(annotation=types[part.name], kind=part.KEYWORD_ONLY) for part in parts]
    for name, annotation in (("as_json", Json), ("debug", Debug)):
        options.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=False))
    spoken = dict(ARGUMENT_NAMES)
    for option in options:  # as on the command line: --hops, or FILE for an argument
        (declared,) = option.annotation.__metadata__
        is_argument = isinstance(declared, ArgumentInfo)
        spoken[option.name] = str(declared.metavar) if is_argument else f"--{option.name.replace('_', '-')}"

    @functools.wraps(function)
    def run(*, as_json: bool, debug: bool, **values: Any) -> None:  # noqa: ARG001 (`main` looks at --debug)
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        try:
            with speaking_of(spoken):
                function(**values).write(as_json=as_json)
        except KeyboardInterrupt as stop:
            typer.echo(f"modgraph: interrupted; {str(stop) or 'nothing was written'}", err=True)
            raise

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


@contextmanager
def speaking_of(names: Mapping[str, str]) -> Iterator[None]:
    """Let a ValueError speak of options instead of Python arguments: "`hops` must …" becomes "`--hops` must …"."""
    try:
        yield
    except ValueError as error:
        message = re.sub(r"`(\w+)`", lambda found: f"`{names.get(found[1], found[1])}`", str(error))
        raise ValueError(message) from error
