"""Random hierarchically modular functions, whose drawn graph is their real structure."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np

from modgraph.checks import check_int
from modgraph.functions.decompose import AND, PRIME, XOR, Node, with_least_depth
from modgraph.functions.graph import FunctionGraph
from modgraph.functions.subfunction import SubFunction

MAX_WIRINGS: Final = 20  # draws of who reads what
MAX_GATES: Final = 50  # draws of one gate
MIN_PRIME_BITS: Final = 3
MAX_PRIME_BITS: Final = 4


def random(
    n_inputs: int,
    *,
    levels: int = 2,
    reuse: int = 1,
    overlap: int | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> FunctionGraph:
    """Draw a random hierarchically modular function.

    Level 1 splits the inputs into sub-functions of 2 to 4 inputs. Each further level combines the sub-functions of
    the level below, two or three at a time, `reuse` times over. The top level is shown by the outputs, negated
    or not. A sub-function is an AND of literals, an OR, an XOR or a prime function, with equal chances where it has
    three or four parents.

    The drawn graph is the structure of the function: within an output no input is read along two paths; no operand
    of an AND, OR or XOR could be merged into it; no two of them share two operands; no sub-function is constant, or
    equal to another one up to a negation; every input matters. So each output has the drawn tree and no other
    (Ashenhurst, 1957), and `decompose` finds it from the table.

    Parameters
    ----------
    n_inputs : int
        At least ``2**levels``, for each part (see `overlap`).
    levels : int ≥ 1
        Levels of sub-functions.
    reuse : int ≥ 1
        How many sub-functions read each sub-function below the top level.
    overlap : int ≥ 0, optional
        Draw two parts with outputs of their own, each on (n_inputs + overlap) / 2 inputs, of which they share
        `overlap`; 0 = separable. By default one part.
    random_state : int, Generator or None

    Returns
    -------
    FunctionGraph

    Raises
    ------
    ValueError
        If an argument is out of its range, or no such function was found (`reuse` is too high for so few
        sub-functions).

    Examples
    --------
    >>> target = random(8, levels=2, reuse=2)
    >>> sorted(target.levels().values())
    [1, 1, 2, 2]
    """
    check_int("levels", levels, at_least=1)
    check_int("reuse", reuse, at_least=1)
    if overlap is not None:
        check_int("overlap", overlap, at_least=0)
    check_int("n_inputs", n_inputs, at_least=2**levels)
    rng = np.random.default_rng(random_state)
    order = [int(i) for i in rng.permutation(n_inputs)]
    if overlap is None:
        parts = [order]
    else:
        half, odd = divmod(n_inputs + overlap, 2)
        if odd or overlap >= half or half < 2**levels:
            raise ValueError(
                f"`overlap` must be below half of `n_inputs` + `overlap`, an even number with ≥ {2**levels} inputs "
                f"for each part (got {overlap} for {n_inputs} inputs)"
            )
        parts = [order[:half], order[-half:]]
    for _ in range(MAX_WIRINGS):
        wiring, tops = _draw_wiring(parts, n_inputs=n_inputs, levels=levels, reuse=reuse, rng=rng)
        drawn: list[Node] = []
        for parents in wiring:
            tries = (_draw_gate(parents, rng) for _ in range(MAX_GATES))
            gate = next((gate for gate in tries if _fits(gate, drawn, n_inputs)), None)
            if gate is None:
                break
            drawn.append(gate)
        else:
            return _graph(drawn, tops, n_inputs=n_inputs, rng=rng)
    raise ValueError(f"`reuse` must be low enough for {n_inputs} inputs and {levels} levels (got {reuse})")


def _draw_wiring(
    parts: list[list[int]], *, n_inputs: int, levels: int, reuse: int, rng: np.random.Generator
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Draw who reads what: the parents of each sub-function, numbered after the inputs, and those of the top level.

    A *round* is a list of sub-functions with disjoint inputs that have all inputs of a part between them. Each round of
    a level is grouped `reuse` times into a round of the next.
    """
    wiring: list[tuple[int, ...]] = []
    tops: list[int] = []
    for part in parts:
        rounds = [part]
        for level in range(levels):
            following = []
            for members in rounds:
                for _ in range(reuse if level else 1):
                    groups = _draw_groups(
                        members, least=2 ** (levels - 1 - level), largest=4 if level == 0 else 3, rng=rng
                    )
                    following.append([n_inputs + len(wiring) + i for i in range(len(groups))])
                    wiring += groups
            rounds = following
        tops += [number for members in rounds for number in members]
    return wiring, tops


def _draw_groups(members: list[int], *, least: int, largest: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Split `members` at random into groups of 2 … `largest`, at least `least` of them."""
    n = len(members)
    fewest = max(least, -(-n // largest))
    n_groups = int(rng.integers(fewest, max(fewest, n // 2) + 1))
    sizes = np.full(n_groups, 2)
    for _ in range(n - 2 * n_groups):
        sizes[rng.choice(np.flatnonzero(sizes < largest))] += 1
    shuffled = [members[i] for i in rng.permutation(n)]
    ends = np.cumsum(sizes)
    return [tuple(shuffled[end - size : end]) for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]


def _draw_gate(parents: tuple[int, ...], rng: np.random.Generator) -> Node:
    n = len(parents)
    kinds = ["and", "or", "xor"] + (["prime"] if MIN_PRIME_BITS <= n <= MAX_PRIME_BITS else [])
    kind = kinds[rng.integers(len(kinds))]
    if kind == "xor":
        return Node(XOR, parents)
    if kind == "prime":
        while not _is_prime(table := rng.integers(2, size=2**n, dtype=np.uint8)):
            pass
        return Node(PRIME, parents, table=(table ^ table[0]).tobytes())
    negated = [True] * n
    if kind == "and":
        while all(negated):
            negated = [bool(bit) for bit in rng.integers(2, size=n)]
    return Node(AND, parents, negated=tuple(negated))


def _is_prime(table: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
    """Whether a table depends on all its bits and no two or more of them, short of all, feed it through one bit.

    By definition: a set of bits does if its patterns give at most two different columns.
    """
    n = len(table).bit_length() - 1
    cube = table.reshape((2,) * n)
    if any((np.take(cube, 0, axis=axis) == np.take(cube, 1, axis=axis)).all() for axis in range(n)):
        return False
    for size in range(2, n):
        for subset in combinations(range(n), size):
            rest = [axis for axis in range(n) if axis not in subset]
            rows = cube.transpose([*subset, *rest]).reshape(2**size, -1)
            if len(np.unique(rows, axis=0)) <= 2:
                return False
    return True


def _fits(gate: Node, drawn: list[Node], n_inputs: int) -> bool:
    """Whether `gate` could not be merged with its parents, and shares no two operands with an earlier gate."""
    for parent, negated in zip(gate.operands, gate.negated or (False,) * len(gate.operands), strict=True):
        if parent < n_inputs:
            continue
        below = drawn[parent - n_inputs]
        if below.kind == gate.kind == XOR or (below.kind == gate.kind == AND and negated == all(below.negated)):
            return False
    items = gate.items()
    for other in drawn:
        if other.kind == gate.kind == PRIME:
            if items == other.items() and _same_table(gate, other):
                return False
        elif other.kind == gate.kind and len(items & other.items()) > 1:
            return False
    return True


def _same_table(one: Node, two: Node) -> bool:
    """Whether two prime gates with the same parents, in any order, are the same function."""
    order = [two.operands.index(parent) for parent in one.operands]
    values = np.frombuffer(two.table, dtype=np.uint8).reshape((2,) * len(order)).transpose(order)
    return values.tobytes() == one.table


def _graph(drawn: list[Node], tops: list[int], *, n_inputs: int, rng: np.random.Generator) -> FunctionGraph:
    names = [f"x{i}" for i in range(n_inputs)] + [f"s{i}" for i in range(len(drawn))]
    subs = [
        SubFunction(names[n_inputs + i], [names[parent] for parent in gate.operands], function=gate.function())
        for i, gate in enumerate(drawn)
    ]
    signs = rng.integers(2, size=len(tops)).tolist()
    graph = FunctionGraph(
        name="random",
        inputs=names[:n_inputs],
        sub_functions=subs,
        outputs=["~" * sign + names[top] for sign, top in zip(signs, tops, strict=True)],
    )
    return with_least_depth(graph)
