"""Do the modules compute the sub-functions? Tests by intervention on the network itself.

The *boundary* of a set of units: those with edges that leave it, and the outputs in it. The rest of the network sees
only their values, the *state*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from modgraph.arrays import BoolArray, FloatArray, IntArray, read_only
from modgraph.checks import check_int
from modgraph.forward import Replay
from modgraph.functions import FunctionGraph
from modgraph.interventions import Bench, Claim, check_sizes, entropy, sample_inputs
from modgraph.modules import Module, ModuleHierarchy, check_found

N_CONTROL_PAIRS: Final = 256  # interchanges drawn for one random regrouping
SAMPLED_SHARE: Final = 0.99  # on samples, a share holds if its 95 % Wilson bound reaches this
SAMPLED_BITS: Final = 0.01  # on samples, a conditional entropy of at most this many bits counts as 0
CONTROL_SHARE: Final = 0.05  # a module isn't certified if a larger share of its random regroupings passes too
_Z: Final = 1.959964  # 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """The result of one test.

    Attributes
    ----------
    value : float
        What was measured.
    low : float
        Where `value` is a share found by sampling: its lower Wilson bound, 95 %; else `value`.
    holds : bool
        Whether the test is passed.
    control : float or None
        The mean of `value` over random regroupings of units; None if there is no other grouping.
    """

    value: float
    low: float
    holds: bool
    control: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What changes when the boundary of a module is set to its mean over the samples.

    Each figure is a mean over outputs. With a target: the share of samples whose output bit changes. Without: the mean
    absolute change, in standard deviations of the output.

    Attributes
    ----------
    reached, unreached : float or None
        For the outputs that the hierarchy says the module reaches, and for all others; None where there is no such
        output.
    control_reached, control_unreached : float or None
        The same, on the same outputs, for random units of the same layers; None if there is no other choice.
    """

    reached: float | None
    unreached: float | None
    control_reached: float | None
    control_unreached: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ModuleCheck:
    """One module, tested.

    Attributes
    ----------
    module : int
        The module's id.
    boundary : ndarray of int
        Units with edges that leave the module, and its outputs.
    inputs : ndarray of int
        The inputs that its state depends on: found by flipping each where all input patterns were tried, else by
        the wiring.
    outputs : ndarray of int
        Positions of the outputs that ablation changes.
    n_states : int
        Number of different states on the samples. An output unit's value counts as a bit if there is a target.
    bits : float
        Entropy of the state on the samples: how many bits the module effectively passes on.
    explained : float
        Share of the variance of the outputs it reaches that a linear function of its boundary explains, 0…1.
    ablation : Ablation
    sub_functions : tuple of str
        What it was tested against: the sub-functions (or inputs, if it is a group of inputs) of the expected module
        that it was certified for; if none, the most similar one. Empty without a target.
    sufficiency : Measure or None
        Bits that the state leaves unknown about the sub-function's value (conditional entropy); 0 holds.
    support : Measure or None
        Of the inputs that the sub-function doesn't depend on, the one that matters most: share of samples in which
        flipping it leaves the state as it is; 1 holds.
    interchange : Measure or None
        Share of pairs of inputs such that, with the module's state taken from one input and all else from the other,
        all outputs are those of the target with the sub-function's value exchanged in the same way; 1 holds.
        (Interchange interventions: Geiger, Lu, Icard, Potts, 2021.)
    self_contained : bool
        For a group of inputs: it has no other units. For a sub-function: no input unit is in the boundary, all outputs
        in the module show the sub-function, and no path leaves the module and comes back.
    controls_certified : float or None
        Share of the random regroupings that pass the same tests.
    certified : bool or None
        Sufficiency, support and interchange hold, the module is self-contained, and at most 5 % of the random
        regroupings pass. None without a target.
    """

    module: int
    boundary: IntArray
    inputs: IntArray
    outputs: IntArray
    n_states: int
    bits: float
    explained: float
    ablation: Ablation
    sub_functions: tuple[str, ...] = ()
    sufficiency: Measure | None = None
    support: Measure | None = None
    interchange: Measure | None = None
    self_contained: bool | None = None
    controls_certified: float | None = None
    certified: bool | None = None

    def __repr__(self) -> str:
        states = f"{self.n_states} states, {self.bits:.2f} bits"
        if self.certified is None:
            return f"ModuleCheck({self.module}: {states}, explains {self.explained:.2f})"
        verdict = "certified" if self.certified else "not certified"
        return f"ModuleCheck({self.module}: {verdict} as {', '.join(self.sub_functions)}; {states})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Verification:
    """All modules of a hierarchy, tested; what `verify` returns.

    Attributes
    ----------
    modules : tuple of ModuleCheck
        In the order of the modules.
    target : str or None
        Name of the target.
    n_samples : int
    exhaustive : bool
        Whether the samples are all patterns of the inputs.
    accuracy : float or None
        Share of output bits in which the network and the target agree.
    functional : bool or None
        Whether the hierarchy is a true decomposition of the target: all modules are certified, and among them
        they have all sub-functions of the target. None without a target.
    """

    modules: tuple[ModuleCheck, ...]
    target: str | None
    n_samples: int
    exhaustive: bool
    accuracy: float | None
    functional: bool | None

    @property
    def certified_share(self) -> float | None:
        """Share of the modules that are certified; None without a target."""
        if self.target is None:
            return None
        return sum(bool(module.certified) for module in self.modules) / len(self.modules)

    def __repr__(self) -> str:
        how = "exhaustive" if self.exhaustive else f"{self.n_samples} samples"
        if self.target is None:
            return f"Verification({len(self.modules)} modules, {how})"
        certified = sum(bool(module.certified) for module in self.modules)
        return f"Verification({certified} of {len(self.modules)} modules certified for {self.target!r}, {how})"


def verify(
    found: ModuleHierarchy,
    *,
    target: FunctionGraph | None = None,
    data: ArrayLike | None = None,
    n_controls: int = 20,
    activations: Sequence[str] | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> Verification:
    """Test by intervention whether the modules of a network compute the sub-functions of a target.

    Every module is tested against the expected modules of the target (``target.expected_modules`` at the depth of
    the network), the most similar first, until it is certified for one: see `ModuleCheck` for the tests. Each figure
    has a control: the same for random units, as many from each layer. Without a target, the modules are described
    only: what they read, how many states they have, how much of the outputs they explain, what their ablation changes.

    Without `data`, all patterns of up to 12 inputs are tried; of more inputs, 2,048 random ones. Shares that are found
    by sampling have Wilson bounds.

    Parameters
    ----------
    found : ModuleHierarchy
        Of a network with weights.
    target : FunctionGraph, optional
        With as many inputs and outputs as the network, in the same order.
    data : array_like, shape (n_samples, n_inputs), optional
        Inputs to test on; with a target, 0 and 1. Needed if there is no target.
    n_controls : int ≥ 0
        Random regroupings for each module.
    activations : sequence of str, optional
        As in `modgraph.forward`. An output is 1 above 0.5 where it is a sigmoid, above 0 otherwise.
    random_state : int, Generator or None
        Draws the samples and the random regroupings.

    Raises
    ------
    ValueError
        If the network has no weights or unknown activations, or an argument is wrong.

    Examples
    --------
    >>> from modgraph import LayeredDAG, detect_modules
    >>> from modgraph.functions import FunctionGraph, SubFunction
    >>> halves = [[1, 1, 0, 0], [0, 0, 1, 1]]
    >>> dag = LayeredDAG.from_masks(
    ...     [halves, [[1, 0], [0, 1]]],
    ...     weights=[halves, [[4, 0], [0, 4]]],
    ...     biases=[[-1, 0], [-2, -2]],
    ...     activations=["relu", "sigmoid"],
    ... )
    >>> subs = [SubFunction("P", ["a", "b"], function="and"), SubFunction("Q", ["c", "d"], function="or")]
    >>> target = FunctionGraph(name="two gates", inputs=["a", "b", "c", "d"], sub_functions=subs, outputs=["P", "Q"])
    >>> checked = verify(detect_modules(dag), target=target)
    >>> checked
    Verification(2 of 2 modules certified for 'two gates', exhaustive)
    >>> checked.modules[0]
    ModuleCheck(0: certified as P; 2 states, 0.81 bits)
    """
    check_found(found)
    check_int("n_controls", n_controls, at_least=0)
    rng = np.random.default_rng(random_state)
    dag = found.dag
    if target is None and data is None:
        raise ValueError("`target` or `data` must be given (got neither)")
    if target is not None:
        check_sizes(dag, target)
    rows, exhaustive = sample_inputs(dag.layer_sizes[0], data, rng)
    if target is not None and not (binary := np.isin(rows, (0, 1))).all():
        raise ValueError(f"`data` must be 0 or 1 where there is a target (got {rows[~binary][0]})")
    replay = Replay(dag, rows, activations=activations)
    bench = Bench(found, replay, rows, exhaustive=exhaustive, has_target=target is not None)
    claims = []
    if target is not None:
        graph = target.at_depth(dag.n_layers - 2) or target
        claims = [Claim(graph, expected, rows) for expected in graph.expected_modules()]
    checked = [_check(bench, module, claims=claims, n_controls=n_controls, rng=rng) for module in found.modules]
    checks = tuple(check for check, _ in checked)
    covered = {id(claim) for check, claim in checked if check.certified}
    return Verification(
        modules=checks,
        target=None if target is None else target.name,
        n_samples=len(rows),
        exhaustive=exhaustive,
        accuracy=None if target is None else float((bench.bits == target.evaluate(rows)).mean()),
        functional=None if target is None else all(c.certified for c in checks) and len(covered) == len(claims),
    )


def _check(
    bench: Bench, module: Module, *, claims: list[Claim], n_controls: int, rng: np.random.Generator
) -> tuple[ModuleCheck, Claim | None]:
    """Test one module; returns also what it was tested against."""
    member = np.zeros(bench.dag.n_units, dtype=np.bool_)
    member[module.units] = True
    units = bench.boundary(member)
    state = bench.states(units)
    claim, tests = _best_claim(bench, module, units, state, claims, rng, member)
    effects, controls = [], []
    for regrouped in bench.regroupings(module, n_controls, rng):
        others = bench.boundary(regrouped)
        effects.append(bench.ablated(others))
        if claim is not None:
            states = bench.states(others)
            controls.append(_test(bench, others, states, claim, rng, regrouped, n_pairs=N_CONTROL_PAIRS))
    outputs = module.outputs - bench.first_output
    reached = np.isin(np.arange(bench.outputs.shape[1]), outputs)
    effect = bench.ablated(units)
    control_effect = np.mean(effects, axis=0) if effects else None
    if bench.exhaustive:
        inputs = np.array([i for i in range(bench.n_inputs) if bench.unchanged(units, state, i) < 1], dtype=np.int64)
    else:
        inputs = module.inputs
    tested: dict[str, Any] = {}
    if claim is not None and tests is not None:
        share = sum(control.certifies for control in controls) / len(controls) if controls else None
        tested = {
            name: replace(measure, control=_rounded_mean([control.measures[name].value for control in controls]))
            for name, measure in tests.measures.items()
        } | {
            "sub_functions": claim.names,
            "self_contained": tests.self_contained,
            "controls_certified": share,
            "certified": tests.certifies and (share is None or share <= CONTROL_SHARE),
        }
    check = ModuleCheck(
        module=module.id,
        boundary=read_only(units),
        inputs=read_only(inputs),
        outputs=read_only(np.flatnonzero(effect > 0)),
        n_states=int(state.max()) + 1,
        bits=entropy(np.bincount(state)),
        explained=bench.explained(units, outputs),
        ablation=Ablation(
            reached=_mean(effect, reached),
            unreached=_mean(effect, ~reached),
            control_reached=_mean(control_effect, reached),
            control_unreached=_mean(control_effect, ~reached),
        ),
        **tested,
    )
    return check, claim


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tests:
    """The tests of a set of units for a claim; `certifies`: all are passed, and the set is self-contained."""

    measures: dict[str, Measure]  # sufficiency, support, interchange
    self_contained: bool
    certifies: bool


def _test(
    bench: Bench,
    units: IntArray,
    state: IntArray,
    claim: Claim,
    rng: np.random.Generator,
    member: BoolArray,
    *,
    n_pairs: int | None = None,
) -> _Tests:
    """Run the tests on a set of units, given as `member`, with the boundary `units`."""
    bits = bench.sufficiency(state, claim)
    limit = 1e-9 if bench.exhaustive else SAMPLED_BITS
    sufficiency = Measure(value=bits, low=bits, holds=bits <= limit, control=None)
    support = _share_measure(bench.support(units, state, claim), len(bench.rows), exact=bench.exhaustive)
    right, total, all_pairs = bench.interchange(units, state, claim, rng=rng, n_pairs=n_pairs)
    interchange = _share_measure(right / total, total, exact=all_pairs and bench.exhaustive)
    # A control has few pairs: it passes if all of them come out right.
    estimated = n_pairs is None and not all_pairs
    all_right = right == total or (estimated and interchange.low >= SAMPLED_SHARE)
    self_contained = _is_self_contained(bench, units, member, claim)
    return _Tests(
        measures={"sufficiency": sufficiency, "support": support, "interchange": interchange},
        self_contained=self_contained,
        certifies=sufficiency.holds and support.holds and all_right and self_contained,
    )


def _best_claim(
    bench: Bench,
    module: Module,
    units: IntArray,
    state: IntArray,
    claims: list[Claim],
    rng: np.random.Generator,
    member: BoolArray,
) -> tuple[Claim | None, _Tests | None]:
    """Return the first claim, by similarity to the module, that passes the tests; else the most similar one."""
    outputs = set((module.outputs - bench.first_output).tolist())
    inputs = set(module.inputs.tolist())
    only_inputs = bool((module.units < bench.n_inputs).all())

    def distance(claim: Claim) -> tuple[bool, float]:
        similarity = _jaccard(inputs, set(claim.support)) + _jaccard(outputs, set(claim.reach))
        return claim.is_inputs != only_inputs, -similarity

    best: tuple[Claim | None, _Tests | None] = (None, None)
    for claim in sorted(claims, key=distance):
        # The cheap tests first: without them the interchange can't save the claim.
        if best[0] is not None and bench.sufficiency(state, claim) > SAMPLED_BITS:
            continue
        tests = _test(bench, units, state, claim, rng, member)
        if tests.certifies:
            return claim, tests
        if best[0] is None:
            best = claim, tests
    return best


def _is_self_contained(bench: Bench, units: IntArray, member: BoolArray, claim: Claim) -> bool:
    """See `ModuleCheck`."""
    if claim.is_inputs:
        return not member[bench.n_inputs :].any()
    shown = set((units[units >= bench.first_output] - bench.first_output).tolist())
    return bool((units >= bench.n_inputs).all()) and shown.issubset(claim.outputs) and bench.is_closed(member)


def _share_measure(share: float, n: int, *, exact: bool) -> Measure:
    low = share if exact else _wilson_low(share, n)
    return Measure(value=share, low=low, holds=share == 1 if exact else low >= SAMPLED_SHARE, control=None)


def _wilson_low(share: float, n: int) -> float:
    """Lower end of the 95 % Wilson interval of a share of n."""
    centre = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, (centre - half) / (1 + _Z**2 / n))


def _rounded_mean(values: Sequence[float]) -> float | None:
    """Mean, the same for any order of the values; None without values."""
    return round(math.fsum(values) / len(values), 12) if values else None


def _jaccard(one: set[int], two: set[int]) -> float:
    return len(one & two) / len(one | two) if one | two else 1.0


def _mean(values: FloatArray | None, where: BoolArray) -> float | None:
    return None if values is None or not where.any() else float(values[where].mean())
