"""Count how often the published networks meet the paper's criteria, for each clustering.

A trial is a function, layer sizes and a seed. If several networks with equally few edges were released for a trial, it
is a success if one of them is. For most functions only a sample was released (6 of 12 trials a depth), so rates are
shown as successes/trials.

Usage: python -m tests.long.success_rates
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from modgraph import detect_modules, score
from modgraph.functions import published
from tests.networks import published_dag, published_index

METHODS = ("published", "linkage")


def criterion(function: str) -> tuple[str, ...]:
    """Which parts of the score the paper reports for a function."""
    return ("inputs", "outputs", "hidden") if function.startswith("overlap") else ("exact",)


def main() -> None:
    won: dict[tuple[str, int, str, str], dict[Any, bool]] = defaultdict(dict)
    differ = []
    for entry in published_index():
        target, dag = published(entry["function"]), published_dag(entry)
        trial = (tuple(entry["layer_sizes"]), entry["seed"])
        scores = {
            method: score(detect_modules(dag, clustering=method, hops=entry["hops"]), target) for method in METHODS
        }
        for part in criterion(entry["function"]):
            for method, result in scores.items():
                cell = won[entry["function"], len(entry["layer_sizes"]) - 2, part, method]
                cell[trial] = cell.get(trial, False) or getattr(result, part)
            if getattr(scores["published"], part) != getattr(scores["linkage"], part):
                differ.append((entry["file"], entry["function"], part, getattr(scores["linkage"], part)))
    print(f"{'function':18} {'hidden layers':>13} {'criterion':9}" + "".join(f"{method:>11}" for method in METHODS))
    worse = 0
    for function, depth, part in sorted({key[:3] for key in won}):
        cells = [won[function, depth, part, method] for method in METHODS]
        counts = [sum(cell.values()) for cell in cells]
        worse += counts[1] < counts[0]
        print(f"{function:18} {depth:13} {part:9}" + "".join(f"{n:>8}/{len(cells[0])}" for n in counts))
    print(f"cells in which linkage is below published: {worse}")
    for file, function, part, better in differ:
        print(f"  {file} {function} {part}: right with {'linkage' if better else 'published'} only")


if __name__ == "__main__":
    main()
