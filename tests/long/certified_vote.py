"""Does a functional test choose better? The vote, the vote of certified networks alone, and the finest certified ones.

A network is certified if interventions confirm each of its modules as a sub-function of the finest decomposition of the
truth table, or of that decomposition with the sub-functions of equal inputs joined. Judged on `reuse_*`, `reused` and
`levels_*` at the smallest width with seeds 0–3, as far as the store has them; no rule sees the published structure.

Usage: python -m tests.long.certified_vote results.sqlite   (the store of ``modgraph reproduce selection``)
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from modgraph.experiments import Store, StoredNetwork
from modgraph.experiments.selection import selection_trials
from modgraph.functions import FunctionGraph, decompose, published
from modgraph.score import criteria
from modgraph.sculpt.choose import CLOSE, cost, hierarchy_key
from modgraph.verify import verify
from tests.long.verification import joined


def is_certified(network: StoredNetwork, graphs: Sequence[FunctionGraph]) -> bool:
    """Whether interventions confirm every module; one module is the function itself."""
    found = network.hierarchy
    checks = [verify(found, target=graph, n_controls=0) for graph in graphs]
    modules = range(found.n_modules)
    return found.n_modules == 1 or all(any(bool(check.modules[m].certified) for check in checks) for m in modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    store = Store(parser.parse_args().results)
    stored = store.finished()
    answers: dict[str, list[list[bool]]] = defaultdict(list)
    print("function, hidden layers: right by the vote, of certified networks, of the finest certified networks")
    for key, trials in selection_trials().items():
        hopeless = key.experiment == "exemplars" and (key.function != "reused" or key.depth == 1)
        if key.experiment == "overlap" or hopeless or not key.group.startswith("fixed on"):
            continue
        finest = decompose(published(key.function).truth_table()[1], name="finest")
        graphs = [finest, joined(finest, identities=True), joined(finest, identities=False)]
        votes: list[Counter[Hashable]] = [Counter(), Counter(), Counter()]
        right: dict[Hashable, bool] = {}
        any_right = False
        for trial in (trial for trial in trials if trial.key in stored):
            networks = [network for network in store.candidates(trial.key) if network.accepted]
            shown = [hierarchy_key(network.hierarchy) for network in networks]
            for one, network in zip(shown, networks, strict=True):
                if one not in right:
                    right[one] = criteria(network.hierarchy, published(key.function)).exact
            any_right |= any(right[one] for one in shown)
            limit = (1 + CLOSE) * min(map(cost, networks))
            near = [place for place, network in enumerate(networks) if cost(network) <= limit]
            certified = [place for place in near if is_certified(networks[place], graphs)]
            most = max((networks[place].hierarchy.n_modules for place in certified), default=0)
            finest_ones = [place for place in certified if networks[place].hierarchy.n_modules == most]
            for counter, voters in zip(votes, (near, certified, finest_ones), strict=True):
                for place in voters:
                    counter[shown[place]] += 1 / len(voters)  # type: ignore[assignment]
        if any_right:
            verdicts = [bool(counter) and right[counter.most_common(1)[0][0]] for counter in votes]
            answers["levels" if key.experiment == "levels" else "reuse"].append(verdicts)
            print(f"  {key.function}, {key.depth}: {verdicts}", flush=True)
    for family, rows in answers.items():
        print(f"{family}, {len(rows)} cells: {np.mean(rows, axis=0).round(2).tolist()}")


if __name__ == "__main__":
    main()
