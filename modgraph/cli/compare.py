"""``modgraph compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from modgraph.cli.options import Hops, Json, MergeThreshold, NetworkOptions, Seed, check_clusterings
from modgraph.cli.output import print_json, working
from modgraph.compare import compare_clusterings


def compare(
    options: NetworkOptions,
    methods: Annotated[str, typer.Option(help="Clusterings, with commas between.")] = "linkage,published,leiden",
    hops: Hops = None,
    merge_threshold: MergeThreshold = 0.9,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare several clusterings of one network: clusters, modules, description length, agreement, time.

    Example: modgraph compare pruned.npz --methods linkage,leiden
    """
    names = methods.split(",")
    check_clusterings(names, option="--methods")
    dag = options.network()
    with working("finding modules"):
        table = compare_clusterings(dag, methods=names, hops=hops, merge_threshold=merge_threshold, random_state=seed)
    if not as_json:
        typer.echo(str(table))
        return
    rows = [
        {"method": name, "clusters": list(clusters), "modules": modules, "bits": bits, "seconds": seconds}
        for name, clusters, modules, bits, seconds in zip(
            table.methods, table.clusters, table.n_modules, table.bits, table.seconds, strict=True
        )
    ]
    print_json({"methods": rows, "ami": table.ami.tolist()})
