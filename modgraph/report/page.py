"""`report`: write the page."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import numpy as np

from modgraph.checks import check_int
from modgraph.evidence import Significance
from modgraph.files import replacing
from modgraph.functions import FunctionGraph
from modgraph.layout import check_image_shape
from modgraph.marks import explain, marks, module_names, names_of, negative_edges, trimmed
from modgraph.modules import ModuleHierarchy, check_found
from modgraph.names import clean, layer_names
from modgraph.report import facts
from modgraph.report.picture import dotted, hex_colours, overview, template
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
    page = template("page.html", purpose="`report`", filters={"few": facts.few, "known": facts.known})
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    check_int("max_units", max_units, at_least=1)
    if image_shape is not None:
        check_image_shape(found.dag, image_shape)
    texts = [clean(text) for text in module_names(found, target)]
    known = marks(found, evidence=evidence, verification=verification)
    modules, layers = found.modules, layer_names(found.dag)
    rows = facts.module_rows(found, modules, names_of(found, target), texts)
    dag, labels, second, names = trimmed(found, target)
    looks: dict[str, Any] = {"modules": known.named(texts), "marks": known}
    network = overview(
        dag,
        labels,
        names=names,
        layers=layers,
        most_units=max_units,
        most_edges=_MAX_EDGES * max_units,
        second=second,
        image_shape=image_shape,
        **looks,
    )
    whole = network is not None and network[1] is dag
    drawn = {} if network is None else {"network": network}
    if len(modules) <= max_units:
        by_level, of = facts.level_graph(modules, found.graph)
        count = np.array([modules[module].units.size for module in of.tolist()])
        levels = [f"level {level}" for level in range(by_level.n_layers)]
        shown = dotted(by_level, of, count, layers=levels, widest=4.4, **looks)
        drawn["hierarchy"] = shown, by_level, of, [texts[module] for module in of.tolist()]
    level = np.array([module.level for module in modules])
    data: dict[str, Any] = {}
    for kind, (shown, graph, of, labelled) in drawn.items():  # edges are sorted by source
        data[kind] = {
            "names": labelled,
            "layers": graph.layer.tolist(),
            "modules": of.tolist(),
            "degrees": np.bincount(graph.sources, minlength=graph.n_units).tolist(),
            "targets": graph.targets.tolist(),
            "pathOfEdge": shown.path_of_edge,
        }
    data |= {"layers": layers, "whole": whole, "shares": facts.shares(found, texts) if whole else {}}
    if title is None:
        title = "Modules of a pruned network" if target is None else f"Modules of a network trained on {target.name}"

    script = files("modgraph.report").joinpath("page.js").read_text("utf-8")
    text = page.render(
        title=clean(title),
        script=Markup(script),
        # The content security policy of the page allows this script alone, whatever text a name contains.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=htmlsafe_json_dumps(data, separators=(",", ":")),
        pictures={kind: one[0] for kind, one in drawn.items()},
        colours=hex_colours(len(modules)),
        dag=dag,
        n_trimmed=found.dag.n_units - dag.n_units,
        whole=whole,
        rows=rows,
        levels=facts.by_level(sorted(rows, key=lambda row: -row["n_units"])[:max_units]),
        n_listed=min(len(rows), max_units),
        n_level_links=int((level[found.graph.source] == level[found.graph.target]).sum()),
        target=target,
        score=None if target is None else score(found, target),
        settings=facts.origin(origin) + facts.settings(found),
        notes=known.notes,
        lines=explain(negative=whole and bool(negative_edges(dag).any()), shared=bool(data["shares"])),
        evidence=evidence,
        certified=None if verification is None or verification.target is None else known.certified,
        versions=facts.versions(),
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
