"""Verification by intervention on the 832 published networks, and decomposition on random functions.

``python -m tests.long.verification [hierarchies|alternatives|planted|cost|decompose|digits] …`` prints the figures of
these parts, by default of all.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from modgraph.arrays import BoolArray, FloatArray, IntArray
from modgraph.dag import LayeredDAG
from modgraph.forward import Replay
from modgraph.functions import FunctionGraph, SubFunction, decompose, published, published_names, random
from modgraph.interventions import Bench, Claim, sample_inputs
from modgraph.io import from_module
from modgraph.labels import by_first_unit
from modgraph.modules import ModuleHierarchy, detect_modules
from modgraph.score import criteria
from modgraph.sculpt import WideSettings, digit_pairs, load_digits8, sculpt_wide
from modgraph.verify import CONTROL_SHARE, Verification, verify
from tests.networks import FOLDER, published_index
from tests.test_decompose import wiring

EXEMPLARS = ("separable", "reused", "separable_reused", "single")


def with_weights(entry: dict[str, Any]) -> LayeredDAG:
    """The network of an entry of the index, with its weights."""
    n = len(entry["layer_sizes"]) - 1
    with np.load(FOLDER / entry["file"]) as arrays:
        masks, weights, biases = ([arrays[f"{kind}{i}"] for i in range(n)] for kind in ("mask", "weight", "bias"))
    return LayeredDAG.from_masks(masks, weights=weights, biases=biases, activations=["relu"] * (n - 1) + ["sigmoid"])


def hierarchies() -> Iterator[tuple[dict[str, Any], ModuleHierarchy, FunctionGraph]]:
    """All published networks with their recorded labels."""
    for entry in published_index():
        dag = with_weights(entry)
        labels = np.full(dag.n_units, -1)
        kept = np.setdiff1d(np.arange(dag.n_units), entry["removed_units"])
        labels[kept] = by_first_unit(np.array(entry["reference_labels"]))
        yield entry, ModuleHierarchy(dag=dag, labels=labels, cluster_labels=labels), published(entry["function"])


def area_under_curve(right: np.ndarray[Any, Any], wrong: np.ndarray[Any, Any]) -> float:
    """Chance that a value of `right` is above one of `wrong`; equal ones count half."""
    difference = right[:, None] - wrong
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def judge() -> None:
    """Certified share of exact and other hierarchies; AUC with a bootstrap interval; random regroupings."""
    rows: dict[tuple[str, str, bool], list[Verification]] = defaultdict(list)
    scores: list[tuple[bool, float, bool]] = []
    n_controls, passing, failing_only_by_controls = 0, 0.0, 0
    for number, (entry, found, target) in enumerate(hierarchies()):
        # Random regroupings for every fifth network: they take most of the time.
        checked = verify(found, target=target, n_controls=20 if number % 5 == 0 else 0)
        exact = criteria(found, target).exact
        depth = "1 hidden" if len(entry["layer_sizes"]) == 3 else "more"
        rows[entry["function"].split("_use")[0].rstrip("_0123456789") or entry["function"], depth, exact].append(
            checked
        )
        share = checked.certified_share
        assert share is not None
        scores.append((exact, share, bool(checked.functional)))
        for module in checked.modules:
            if module.controls_certified is not None:
                n_controls, passing = n_controls + 1, passing + module.controls_certified
                failing_only_by_controls += module.controls_certified > CONTROL_SHARE
    print("function, depth, exact: networks, mean certified share, functional")
    for key in sorted(rows):
        shares = [v.certified_share or 0.0 for v in rows[key]]
        functional = sum(bool(v.functional) for v in rows[key])
        print(f"  {', '.join(map(str, key))}: {len(shares)}, {np.mean(shares):.3f}, {functional}")
    exact_, share_ = np.array([s[0] for s in scores]), np.array([s[1] for s in scores])
    functional_ = np.array([s[2] for s in scores])
    print(f"functional: {(functional_ & exact_).sum()} exact ones, {(functional_ & ~exact_).sum()} others")
    rng = np.random.default_rng(0)
    for name, values in (("certified share", share_), ("functional", functional_.astype(float))):
        drawn = []
        for _ in range(1000):
            sample = rng.integers(len(scores), size=len(scores))
            drawn.append(area_under_curve(values[sample][exact_[sample]], values[sample][~exact_[sample]]))
        low, high = np.quantile(drawn, [0.025, 0.975])
        auc = area_under_curve(values[exact_], values[~exact_])
        print(f"AUC of {name}, {exact_.sum()} exact of {len(scores)}: {auc:.3f} [{low:.3f}, {high:.3f}]")
    print(f"random regroupings of {n_controls} modules that pass: {passing / max(n_controls, 1):.4f}")
    print(f"modules of which more than {CONTROL_SHARE:.0%} of the regroupings pass: {failing_only_by_controls}")


def planted() -> None:
    """One unit of an exact hierarchy moved to another module: is the wrong hierarchy still a decomposition?"""
    rng = np.random.default_rng(1)
    counts: Counter[tuple[str, str]] = Counter()
    for entry, found, target in hierarchies():
        if entry["function"] not in EXEMPLARS or found.n_modules < 2 or not criteria(found, target).exact:
            continue
        if not verify(found, target=target, n_controls=0).functional:
            continue
        units = np.flatnonzero(found.labels >= 0)
        for unit in rng.choice(units, size=min(6, units.size), replace=False).tolist():
            others = [m for m in range(found.n_modules) if m != found.labels[unit]]
            labels = found.labels.copy()
            labels[unit] = goal = int(rng.choice(others))
            if len(np.unique(labels[labels >= 0])) < found.n_modules:
                continue
            wrong = ModuleHierarchy(dag=found.dag, labels=labels, cluster_labels=labels)
            checked = verify(wrong, target=target, n_controls=0)
            layer = found.dag.layer[unit]
            kind = "input" if layer == 0 else "output" if layer == found.dag.n_layers - 1 else "hidden"
            counts[kind, "moved"] += 1
            counts[kind, "receiving module certified"] += bool(checked.modules[goal].certified)
            counts[kind, "hierarchy functional"] += bool(checked.functional)
    for key, count in sorted(counts.items()):
        print(f"  {', '.join(key)}: {count}")


def joined(graph: FunctionGraph, *, identities: bool) -> FunctionGraph:
    """Make sub-functions that depend on the same inputs one sub-function of several bits.

    The outputs show its bits, or with `identities`, sub-functions of their own that pass on one bit each. This is how
    the published `levels` functions are drawn for few and for many hidden layers.
    """
    groups: dict[tuple[int, ...], list[SubFunction]] = defaultdict(list)
    for sub in graph.sub_functions:
        groups[graph.input_support(sub.name)].append(sub)
    if all(len(group) == 1 for group in groups.values()):
        return graph
    together = {sub.name for group in groups.values() if len(group) > 1 for sub in group}
    columns = {name: i for group in groups.values() for i, name in enumerate(sub.name for sub in group)}
    owner = {sub.name: f"J{i}" for i, group in enumerate(groups.values()) for sub in group if sub.name in together}
    rows, _ = graph.truth_table()
    values = graph.values(rows)
    subs = []
    for support, group in groups.items():
        if len(group) == 1:
            parents = [f"{owner[p]}.{columns[p]}" if p in owner else p for p in group[0].parents]
            subs.append(replace(group[0], parents=parents))
            continue
        # Reads the inputs directly: as a function of them it needs no order among the members.
        table = np.column_stack([values[sub.name][:, 0] for sub in group])
        strides = 2 ** (graph.n_inputs - 1 - np.array(support))
        subs.append(
            SubFunction(
                owner[group[0].name],
                [graph.inputs[i] for i in support],
                function=_lookup(table, strides.tolist()),
                n_outputs=len(group),
            )
        )
        subs += [
            SubFunction(sub.name, [f"{owner[sub.name]}.{columns[sub.name]}"], function="identity")
            for sub in group
            if identities and sub.name in graph.shown
        ]
    outputs = list(graph.outputs)
    if not identities:
        bare = [(text.startswith("~"), text.removeprefix("~")) for text in outputs]
        outputs = ["~" * sign + (f"{owner[n]}.{columns[n]}" if n in owner else n) for sign, n in bare]
    return FunctionGraph(
        name=f"{graph.name}, joined", inputs=graph.inputs, sub_functions=_used(subs, outputs), outputs=outputs
    )


def _lookup(table: np.ndarray[Any, Any], strides: list[int]) -> Callable[..., Any]:
    def looked_up(*bits: Any) -> Any:
        return table[sum(bit.astype(int) * stride for bit, stride in zip(bits, strides, strict=True))].T

    return looked_up


def _used(subs: list[SubFunction], outputs: list[str]) -> list[SubFunction]:
    """Leave out sub-functions that nothing reads or shows any more."""
    while True:
        read = {name.partition(".")[0] for sub in subs for name in sub.parents}
        read |= {name.removeprefix("~").partition(".")[0] for name in outputs}
        kept = [sub for sub in subs if sub.name in read]
        if len(kept) == len(subs):
            return kept
        subs = kept


def alternatives() -> None:
    """Networks that compute the function exactly but aren't exact: are they another decomposition?"""
    graphs: dict[str, list[FunctionGraph]] = {}
    for name in published_names():
        finest = decompose(published(name).truth_table()[1], name=f"{name}, decomposed")
        graphs[name] = [finest, joined(finest, identities=True), joined(finest, identities=False)]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entry, found, target in hierarchies():
        family = entry["function"].split("_use")[0]
        family = "reuse" if family.startswith("reuse_") else family
        column = counts[family]
        exact = criteria(found, target).exact
        drawn = verify(found, target=target, n_controls=0)
        if (drawn.accuracy or 0) < 1:
            column["not accurate"] += 1
            continue
        if exact:
            column["exact"] += 1
            column["exact, functional"] += bool(drawn.functional)
            continue
        column["not exact"] += 1
        checked = [verify(found, target=graph, n_controls=0) for graph in graphs[entry["function"]]]
        column["all modules certified, drawn graph"] += drawn.certified_share == 1
        for kind, one in zip(("finest", "joined", "joined, shown directly"), checked, strict=True):
            column[f"all modules certified, {kind}"] += one.certified_share == 1
            column[f"functional, {kind}"] += bool(one.functional)
        certified = [any(bool(v.modules[m].certified) for v in (drawn, *checked)) for m in range(found.n_modules)]
        column["all modules certified, any graph for each"] += all(certified)
        column["functional, any of these"] += any(bool(v.functional) for v in (drawn, *checked))
    total = sum(counts.values(), Counter[str]())
    print(f"not exact: {total['not exact']}, of them functional otherwise: {total['functional, any of these']}")
    print(f"all modules certified, each in some graph: {total['all modules certified, any graph for each']}")
    for family, column in sorted(counts.items()):
        print(f"  {family}: " + "; ".join(f"{name} {count}" for name, count in column.items()))


def cost() -> None:
    """Milliseconds of processor time a module, medians over the published networks with 8 inputs."""
    times: dict[str, list[float]] = defaultdict(list)
    for _, found, target in itertools.islice((h for h in hierarchies() if h[2].n_inputs == 8), 0, None, 5):
        graph = target.at_depth(found.dag.n_layers - 2) or target
        start = time.process_time()
        verify(found, target=target, n_controls=0)
        times["verify without controls"].append((time.process_time() - start) / found.n_modules)
        start = time.process_time()
        verify(found, target=target)
        times["verify with 20 controls"].append((time.process_time() - start) / found.n_modules)
        rng = np.random.default_rng(0)
        rows, exhaustive = sample_inputs(8, None, rng)
        bench = Bench(found, Replay(found.dag, rows), rows, exhaustive=exhaustive, has_target=True)
        claims = [Claim(graph, expected, rows) for expected in graph.expected_modules()]
        for claim in claims:
            claim.exchanged.sum()
        for module in found.modules:
            member = np.zeros(found.dag.n_units, dtype=np.bool_)
            member[module.units] = True
            start = time.process_time()
            units = bench.boundary(member)
            state = bench.states(units)
            bench.sufficiency(state, claims[0])
            bench.support(units, state, claims[0])
            middle = time.process_time()
            bench.interchange(units, state, claims[0], rng=rng)
            times["(i) and (ii)"].append(middle - start)
            times["(iii), all pairs"].append(time.process_time() - middle)
    for name, values in times.items():
        print(f"  {name}: median {1e3 * median(values):.2f} ms, 90 % {1e3 * np.quantile(values, 0.9):.2f} ms a module")


def decomposition() -> None:
    """Round trip of 1,000 random functions; milliseconds of processor time by number of inputs."""
    rng = np.random.default_rng(2026)
    right, tried = 0, Counter[str]()
    while sum(tried.values()) < 1000:
        levels, reuse = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        overlap = [None, 0, 2][rng.integers(3)]
        least = 2**levels if overlap is None else 2 ** (levels + 1)
        if least > 12:
            continue  # a table of 16 inputs takes long to check
        n_inputs = 2 * int(rng.integers(least // 2, 7))
        try:
            target = random(n_inputs, levels=levels, reuse=reuse, overlap=overlap, random_state=rng)
        except ValueError:
            continue  # too few inputs for so much reuse
        tried[f"{levels} levels"] += 1
        right += wiring(decompose(target.truth_table()[1])) == wiring(target)
    print(f"  round trip: {right} of {sum(tried.values())} ({dict(tried)})")
    for n_inputs, n_outputs in ((8, 1), (12, 1), (12, 4), (16, 1), (16, 4)):
        seconds: dict[str, list[float]] = defaultdict(list)
        for seed in range(5):
            tables: dict[str, Any] = {"random table (prime)": rng.integers(2, size=(2**n_inputs, n_outputs))}
            if n_outputs > 1:
                tables["random function"] = random(n_inputs, levels=2, reuse=2, random_state=seed).truth_table()[1]
            for kind, table in tables.items():
                start = time.process_time()
                decompose(table)
                seconds[kind].append(time.process_time() - start)
        for kind, values in seconds.items():
            print(f"  {n_inputs} inputs, {n_outputs} outputs, {kind}: median {1e3 * median(values):.1f} ms")


DIGIT_SEEDS = (0, 1, 2, 3)
"""Networks a row of the table of digits; nothing was chosen on them."""


def digits() -> None:
    """Two digits side by side: how far does the state of a module with pixels depend on the other digit?

    Its dependence: by how much the state changes if the other digit is that of another validation sample, as a share of
    the change if both are. A change is the sum over units of the squared change, each in standard deviations.
    Controls: random units, as many from each layer. Intervals: 95 %, bootstrap over networks.
    """
    from tests.long.digit_networks import Recipe, held_out, networks

    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    task = digit_pairs(load_digits8(), task="classify", pairs=(50, 20, 20))
    for seed, tolerance in itertools.product(DIGIT_SEEDS, (0.03, 0.01)):
        settings = WideSettings(learning_rate=0.003, batch_size=128, tolerance=tolerance)
        out = sculpt_wide(task, hidden=(64, 64), seed=seed, settings=settings)
        inputs = task.validation.inputs.numpy().astype(np.float64)
        rows[f"sculpted, tolerance {tolerance:.0%}"].append(
            separation(detect_modules(out.network.dag), inputs, task.side) | {"bits right": out.test_accuracy}
        )
    for seed in DIGIT_SEEDS:
        recipe = Recipe(data="digits8", task="two", width=64, depth=2, seed=seed)
        inputs = held_out(recipe, n_samples=2000, rng=np.random.default_rng(seed))
        for network in networks(recipe, Path("out/two_tasks"), densities=(0.3, 0.1)):
            found = detect_modules(from_module(network.module()))
            rows[f"by magnitude, density {network.density:.0%}"].append(
                separation(found, inputs, network.input_group) | {"digits right": network.accuracy}
            )
    rng = np.random.default_rng(0)
    for kind, networks_ in rows.items():
        print(f"  {kind}:")
        for name in max(networks_, key=len):
            values = np.array([network[name] for network in networks_ if name in network])
            low, high = np.quantile(rng.choice(values, size=(2000, values.size)).mean(axis=1), [0.025, 0.975])
            print(f"    {name}: {values.mean():.3f} [{low:.3f}, {high:.3f}]")


def separation(found: ModuleHierarchy, inputs: FloatArray, side: IntArray) -> dict[str, float]:
    """Means over the modules with pixels: dependence on the other digit, of random regroupings too, and ablation.

    Few entries if one module has all units: there is no other grouping. `side`, shape (n_inputs,), is the digit of
    each input, 0 or 1.
    """
    dag, rng = found.dag, np.random.default_rng(0)
    replay = Replay(dag, inputs)
    bench = Bench(found, replay, inputs, exhaustive=False, has_target=False)
    other = inputs[rng.permutation(len(inputs))]
    spread = replay.values.std(axis=0)
    changes = [  # squared, for each sample and unit, where the left, the right, or both digits are others
        ((replay.for_inputs(np.where(part, other, inputs)) - replay.values) / np.where(spread > 0, spread, 1)) ** 2
        for part in (side == 0, side == 1, side >= 0)
    ]
    checked = verify(found, data=inputs)
    means: dict[str, list[float]] = defaultdict(list)
    for module in found.modules:
        pixels = module.units[dag.layer[module.units] == 0]
        if not pixels.size or pixels.size == module.units.size:
            continue
        foreign = int(side[pixels].mean() < 0.5)

        def dependence(member: BoolArray, foreign: int = foreign) -> tuple[float, float]:
            units = bench.boundary(member)
            of_boundary, of_outputs = (
                float(changes[foreign][:, part].sum() / max(changes[2][:, part].sum(), 1e-12))
                for part in (units, units[units >= bench.first_output])
            )
            return of_boundary, of_outputs

        state, outputs = dependence(found.labels == module.id)
        controls = np.array([dependence(member) for member in bench.regroupings(module, 100, rng)])
        if not controls.size:
            continue  # all units are in it
        means["pixels of the module's digit"].append(float((side[pixels] != foreign).mean()))
        means["state depends on the other digit"].append(state)
        means["state of random regroupings"].append(controls[:, 0].mean())
        means["regroupings that depend as little"].append(float((controls[:, 0] <= state).mean()))
        means["outputs depend on the other digit"].append(outputs)
        means["outputs of random regroupings"].append(controls[:, 1].mean())
        ablation = checked.modules[module.id].ablation
        means["ablation, outputs reached"].append(ablation.reached or 0.0)
        means["ablation, other outputs"].append(ablation.unreached or 0.0)
        means["ablation of random units, outputs reached"].append(ablation.control_reached or 0.0)
        means["ablation of random units, other outputs"].append(ablation.control_unreached or 0.0)
    named = {name: float(np.mean(values)) for name, values in means.items()}
    return {"edges": dag.n_edges, "modules": found.n_modules, "separate": float(bool(named))} | named


PARTS = {
    "hierarchies": judge,
    "alternatives": alternatives,
    "planted": planted,
    "cost": cost,
    "decompose": decomposition,
    "digits": digits,
}


def main() -> None:
    """Run the parts that the command line names, by default all."""
    for part in sys.argv[1:] or PARTS:
        print(f"{part}:", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    main()
