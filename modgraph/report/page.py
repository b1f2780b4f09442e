"""`report`: write the page."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np

from modgraph.arrays import IntArray
from modgraph.checks import check_int
from modgraph.dag import LayeredDAG
from modgraph.evidence import Significance
from modgraph.files import replacing
from modgraph.functions import FunctionGraph
from modgraph.layout import check_image_shape
from modgraph.marks import Marks, explain, marks, module_names, negative_edges, second_modules
from modgraph.modules import Module, ModuleHierarchy, check_found
from modgraph.names import clean, counted, layer_names
from modgraph.report import facts
from modgraph.report.picture import Picture, dotted, hex_colours, picture, template
from modgraph.score import score
from modgraph.verify import Verification

_MAX_EDGES: Final = 10  # most edges that are drawn one by one, in units of `max_units`


def report(
    found: ModuleHierarchy,
    path: str | os.PathLike[str],
    *,
    target: FunctionGraph | None = None,
    title: str | None = None,
    max_units: int = 5000,
    image_shape: tuple[int, int] | None = None,
    evidence: Significance | None = None,
    verification: Verification | None = None,
    origin: Mapping[str, str] | None = None,
) -> None:
    """Write a hierarchy as one HTML file: an interactive drawing, the graph of its modules, tables, settings.

    The file loads nothing from elsewhere. The mouse and the keyboard can point at units and modules, search for them,
    and show the paths that lead to and from them; ``report.html#module-3`` opens with a module highlighted. The table
    of modules can be sorted and filtered; buttons save the drawing as SVG or PNG and the table as CSV. The page
    supports dark mode and printing.

    Parameters
    ----------
    found : ModuleHierarchy
    path : path-like
        Written atomically: on error an existing file is unchanged.
    target : FunctionGraph, optional
        The function that the network was trained on. It names inputs, outputs and modules as in `modgraph.draw`, and
        the page shows the `modgraph.score`.
    title : str, optional
        By default a general one, with the name of the target.
    max_units : int ≥ 1
        If the trimmed network has more units, or more than ten times as many edges, one dot is drawn for all units of
        a module in a layer. If there are more such dots, or more modules, than this, they are not drawn, and the tables
        list the largest modules only. The page says so.
    image_shape : (int, int), optional
        As in `modgraph.draw`; the inputs are drawn as an image if every unit is a dot.
    evidence, verification : Significance, Verification, optional
        Results that mark modules as in `modgraph.draw`; the page shows the p-values and confidences too.

    origin : mapping of str to str, optional
        Where the network came from, such as ``{"File": "net.npz"}``: rows of the table "How this was made", after the
        date.

    Raises
    ------
    ValueError
        As in `modgraph.draw`, or if `max_units` is below 1.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> report(detect_modules(dag), "report.html")  # doctest: +SKIP
    """
    check_found(found)
    page = template("page.html", purpose="`report`")
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    check_int("max_units", max_units, at_least=1)
    if image_shape is not None:
        check_image_shape(found.dag, image_shape)
    texts = [clean(text) for text in module_names(found, target)]
    known = marks(found, evidence=evidence, verification=verification)
    modules, names = found.modules, facts.names_of(found, target)
    rows = facts.module_rows(found, modules, names, texts)
    dag, layers = found.dag.subgraph(found.labels >= 0), layer_names(found.dag)
    whole = dag.n_units <= max_units and dag.n_edges <= _MAX_EDGES * max_units
    second = second_modules(found)[found.labels >= 0]
    units = {"names": [*names.values()], "image_shape": image_shape, "second": second} if whole else None
    drawn = _drawings(found, dag, modules, texts=texts, layers=layers, units=units, most=max_units, known=known)
    data = {kind: graph for kind, (_, graph) in drawn.items()} | {"layers": layers, "whole": whole}
    data["shares"] = facts.shares(found, texts) if whole else {}
    if title is None:
        title = "Modules of a pruned network" if target is None else f"Modules of a network trained on {target.name}"

    script = files("modgraph.report").joinpath("page.js").read_text("utf-8")
    text = page.render(
        title=clean(title),
        script=Markup(script),
        # The content security policy of the page allows this script alone, whatever text a name contains.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=htmlsafe_json_dumps(data, separators=(",", ":")),
        pictures={kind: shown for kind, (shown, _) in drawn.items()},
        colours=hex_colours(len(modules)),
        dag=dag,
        n_trimmed=found.dag.n_units - dag.n_units,
        whole=whole,
        levels=facts.by_level(sorted(rows, key=lambda row: -row["n_units"])[:max_units]),
        n_listed=min(len(rows), max_units),
        n_modules=len(modules),
        n_levels=max(module.level for module in modules) + 1,
        n_level_links=facts.links_within_levels(modules, found.graph),
        separable=facts.few([row["text"] for row in rows if row["separable"]]),
        reused=facts.few([row["text"] for row in rows if row["reuse"] > 1]),
        target=target,
        score=None if target is None else score(found, target),
        settings=facts.origin(origin) + facts.settings(found),
        notes=known.notes,
        lines=explain(negative=whole and bool(negative_edges(dag).any()), shared=bool(data["shares"])),
        evidence=None if evidence is None else [facts.evidence_cells(module) for module in evidence.modules],
        certified=None if verification is None or verification.target is None else known.certified,
        versions=facts.versions(),
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _drawings(
    found: ModuleHierarchy,
    dag: LayeredDAG,
    modules: Sequence[Module],
    *,
    texts: Sequence[str],
    layers: Sequence[str],
    units: dict[str, Any] | None,
    most: int,
    known: Marks,
) -> dict[str, tuple[Picture, dict[str, Any]]]:
    """Draw the network and the hierarchy, those that have at most `most` dots, each with its graph for the script.

    `units` are further arguments of `picture` for a drawing of all units; if None, a dot stands for the units of a
    module in a layer.
    """
    labels = found.labels[found.labels >= 0]
    boxes = known.named(texts)
    drawn = {}
    if units is not None:
        shown = picture(dag, labels, modules=boxes, layers=layers, marks=known, **units)
        drawn["network"] = shown, _script_graph(dag, labels, shown, names=units["names"])
    else:
        clusters, of, count = facts.cluster_graph(dag, labels)
        if clusters.n_units <= most:
            dots = [f"{counted(n, 'unit')} of {texts[m]}" for n, m in zip(count.tolist(), of.tolist(), strict=True)]
            shown = dotted(clusters, of, count, modules=boxes, layers=layers, marks=known, widest=8.5)
            drawn["network"] = shown, _script_graph(clusters, of, shown, names=dots)
    if len(modules) <= most:
        by_level, of = facts.level_graph(modules, found.graph)
        count = np.array([modules[module].units.size for module in of.tolist()])
        levels = [f"level {level}" for level in range(by_level.n_layers)]
        shown = dotted(by_level, of, count, modules=boxes, layers=levels, marks=known, widest=4.4)
        drawn["hierarchy"] = shown, _script_graph(by_level, of, shown, names=[texts[module] for module in of.tolist()])
    return drawn


def _script_graph(dag: LayeredDAG, labels: IntArray, shown: Picture, *, names: Sequence[str]) -> dict[str, Any]:
    """Return a graph in the form that the script reads; edges are sorted by source."""
    return {
        "names": names,
        "layers": dag.layer.tolist(),
        "modules": labels.tolist(),
        "degrees": np.bincount(dag.sources, minlength=dag.n_units).tolist(),
        "targets": dag.targets.tolist(),
        "pathOfEdge": shown.path_of_edge,
    }
