"""``modgraph sculpt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modgraph.cli.options import Json, Target, parse_ints
from modgraph.cli.output import print_json, progress_bar
from modgraph.functions import published
from modgraph.io.npz_file import save_network


def sculpt(
    target: Target,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write to, one .npz a trial.")],
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers.")] = "24,24",
    seeds: Annotated[int, typer.Option(help="Number of trials, from seed 0.")] = 4,
    epochs: Annotated[int, typer.Option(help="Epochs of every training run.")] = 10,
    as_json: Json = False,
) -> None:
    """Train networks on a published function, prune them as far as they stay accurate, and save them.

    Example: modgraph sculpt separable networks --hidden 24,24 --seeds 4
    """
    from modgraph.sculpt import TrainSettings
    from modgraph.sculpt import sculpt as sculpt_networks

    graph = published(target)
    sizes = parse_ints(hidden, option="--hidden")
    settings = TrainSettings(learning_rate=0.05, batch_size=8, epochs=epochs)
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        result = sculpt_networks(graph, hidden=sizes, seeds=range(seeds), settings=settings, progress=progress)
    rows = []
    for network in result.networks:
        file = out / f"{target}-{network.seed}.npz"
        save_network(network.dag, file)
        rows.append({"file": str(file), "accepted": network.accepted, "edges": int(network.dag.n_edges)})
    if as_json:
        print_json({"networks": rows})
        return
    for row in rows:
        typer.echo(f"{row['file']}: {row['edges']} edges{'' if row['accepted'] else ', not accurate enough'}")
