"""`report`: the page around the pictures."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np

from modgraph.arrays import IntArray
from modgraph.dag import LayeredDAG
from modgraph.files import replacing
from modgraph.functions import FunctionGraph
from modgraph.layout import check_image_shape, colours, module_names
from modgraph.modules import Module, ModuleHierarchy
from modgraph.names import clean, layer_names
from modgraph.report import facts
from modgraph.report.picture import Picture, picture
from modgraph.score import score

_EDGES: Final = 10  # times as many edges as units may be drawn


def report(
    found: ModuleHierarchy,
    path: str | os.PathLike[str],
    *,
    target: FunctionGraph | None = None,
    title: str | None = None,
    max_units: int = 5000,
    image_shape: tuple[int, int] | None = None,
) -> None:
    """Write a hierarchy as one HTML file: an interactive drawing, the graph of its modules, tables, settings.

    The file holds all it needs and asks no network for anything. Units and modules can be pointed at, searched for
    and followed up and down, by mouse and by keys; it has a dark side, and prints.

    Parameters
    ----------
    found : ModuleHierarchy
    path : path-like
        Replaced only once the new file is complete.
    target : FunctionGraph, optional
        The function the network was trained on: it names inputs, outputs and modules as in `modgraph.draw`, and the
        page has its `modgraph.score`.
    title : str, optional
    max_units : int ≥ 1
        Where the trimmed network has more units, or more than ten times as many edges, all units of a module in a
        layer are drawn as one dot. Of more dots or modules than this there is no drawing, and the tables have the
        largest modules only. The page says so.
    image_shape : (int, int), optional
        Rows and columns, where the inputs are the pixels of an image, row by row: they are drawn as one, unless dots
        are units no longer.

    Raises
    ------
    ValueError
        If `target` or `image_shape` has another number of inputs (or outputs) than the network, or `max_units` is
        below 1.
    ImportError
        If jinja2 is not installed.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> dag = LayeredDAG.from_masks([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    >>> report(detect_modules(dag), "report.html")  # doctest: +SKIP
    """
    try:
        import jinja2
        from jinja2.utils import htmlsafe_json_dumps
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError("`report` needs jinja2: pip install 'modgraph-nn[report]'") from error
    if max_units < 1:
        raise ValueError(f"`max_units` must be an int ≥ 1 (got {max_units})")
    if image_shape is not None:
        check_image_shape(found.dag, image_shape)
    texts = [clean(text) for text in module_names(found, target)]  # the first to look at `target`
    modules, names = found.modules, facts.names_of(found, target)
    rows = facts.module_rows(found, modules, names, texts)
    dag, layers = found.dag.subgraph(found.labels >= 0), layer_names(found.dag)
    whole = dag.n_units <= max_units and dag.n_edges <= _EDGES * max_units
    units = {"names": [*names.values()], "image_shape": image_shape} if whole else None
    drawn = _drawings(found, dag, modules, texts=texts, layers=layers, units=units, most=max_units)
    data = {kind: graph for kind, (_, graph) in drawn.items()} | {"layers": layers, "whole": whole}
    if title is None:
        title = "Modules of a pruned network" if target is None else f"Modules of a network trained on {target.name}"

    source = files("modgraph.report")
    script, style, template = (source.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("js", "css", "html"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(template).render(
        title=clean(title),
        style=Markup(style),
        script=Markup(script),
        # The browser runs this script and no other, whatever a name may hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=htmlsafe_json_dumps(data, separators=(",", ":")),
        pictures={kind: shown for kind, (shown, _) in drawn.items()},
        colours=[f"#{bytes(rgb).hex()}" for rgb in np.round(255 * colours(len(modules))).astype(np.uint8)],
        dag=dag,
        n_trimmed=found.dag.n_units - dag.n_units,
        whole=whole,
        modules=sorted(sorted(rows, key=lambda row: -row["n_units"])[:max_units], key=lambda row: row["id"]),
        n_modules=len(modules),
        n_levels=max(module.level for module in modules) + 1,
        n_level_links=facts.links_within_levels(modules, found.graph),
        separable=facts.few([row["text"] for row in rows if row["separable"]]),
        reused=facts.few([row["text"] for row in rows if row["reuse"] > 1]),
        target=target,
        score=None if target is None else score(found, target),
        settings=facts.settings(found),
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
) -> dict[str, tuple[Picture, dict[str, Any]]]:
    """Draw the network (as `units` says, else by module and layer) and the hierarchy, where they have few enough dots.

    Each comes with its graph for the script.
    """
    labels = found.labels[found.labels >= 0]
    drawn = {}
    if units is not None:
        shown = picture(dag, labels, modules=texts, layers=layers, **units)
        drawn["network"] = shown, _walkable(dag, labels, names=units["names"])
    else:
        clusters, of, count = facts.cluster_graph(dag, labels)
        if clusters.n_units <= most:
            said = [f"{n} unit{'s' * (n != 1)} of {texts[m]}" for n, m in zip(count.tolist(), of.tolist(), strict=True)]
            shown = _dotted(clusters, of, count, modules=texts, layers=layers, widest=8.5)
            drawn["network"] = shown, _walkable(clusters, of, names=said)
    if len(modules) <= most:
        by_level, of = facts.level_graph(modules, found.graph)
        count = np.array([modules[module].units.size for module in of.tolist()])
        levels = [f"level {level}" for level in range(by_level.n_layers)]
        shown = _dotted(by_level, of, count, modules=texts, layers=levels, widest=4.4)
        drawn["hierarchy"] = shown, _walkable(by_level, of, names=[texts[module] for module in of.tolist()])
    return drawn


def _dotted(dag: LayeredDAG, labels: IntArray, count: IntArray, **more: Any) -> Picture:
    """Draw dots that stand for `count` units each; no names, as their boxes have one."""
    return picture(dag, labels, names=[""] * dag.n_units, sizes=facts.dot_sizes(count), **more)


def _walkable(dag: LayeredDAG, labels: IntArray, *, names: Sequence[str]) -> dict[str, Any]:
    """Put a graph as briefly as the script can read it: edges by source."""
    return {
        "names": names,
        "layers": dag.layer.tolist(),
        "modules": labels.tolist(),
        "degrees": np.bincount(dag.sources, minlength=dag.n_units).tolist(),
        "targets": dag.targets.tolist(),
    }
