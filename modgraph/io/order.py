"""The order of weight layers that a file holds by name: it must be the only one that fits, or it is an error."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from modgraph.io.state import Link

# Parts of names of layers that don't follow each other: attention, embeddings, recurrence, gates and shortcuts.
_NOT_IN_A_CHAIN = re.compile(
    r"attn|attention|embed|(?<![a-z])(w?[qkv]|qkv)(_proj|_lin|$|(?=\.))|\b(query|key|value|gate)"
    r"|lstm|gru|rnn|expert|shortcut|downsample|skip|resid",
    re.IGNORECASE,
)
# Names of layers that read the same values, where there are several of them.
_PARALLEL = re.compile(
    r"(?<![a-z])(heads?|branch(es)?|towers?|policy|critic|actor|mu|logvar)\d*(?![a-z])", re.IGNORECASE
)
# GPT-2's, (in, out) in some models and (out, in) in others.
_EITHER_WAY = {"c_fc", "c_proj"}
# What the two layers of a transformer's MLP are called, which have the same shapes the other way round.
_FIRST = {"up", "up_proj", "wi", "fc_in", "in", "intermediate", "dense_h_to_4h"}
_LAST = {"down", "down_proj", "wo", "fc_out", "out", "output", "dense_4h_to_h"}
# The three layers of a gated MLP, down(act(gate(x)) · up(x)), in Llama, its first release, and T5.
_GATED = ({"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}, {"wi_0", "wi_1", "wo"}, {"gate", "up", "down"})
_MOST_STEPS = 1_000_000  # in the search for an order


def order_of(links: Sequence[Link], *, ordered: bool) -> list[int]:
    """Find the order in which layers chain: as they come, if `ordered`; or the only one, with numbers going up.

    It is an error if names say that layers are no chain, or if none or several orders fit.
    """
    parallel = [link for link in links if _PARALLEL.search(link.name)]
    for link in links:
        if _NOT_IN_A_CHAIN.search(link.name) or (len(parallel) > 1 and link in parallel):
            raise ValueError(
                f"layer {link.name!r} is not part of a chain of weight layers: name one MLP with `block`, "
                "by its prefix or by the names of its layers in order"
            )
        if link.name.rpartition(".")[2] in _EITHER_WAY:
            raise ValueError(
                f"layer {link.name!r} may be stored (in, out), as GPT-2 does, or (out, in): give the live model to "
                "`from_module`"
            )
    if not links or any(len(link.shape) < 2 for link in links):
        return list(range(len(links)))
    if ordered and all(link.reads(before) for before, link in itertools.pairwise(links)):
        return list(range(len(links)))
    if len(links) == 2:
        leaves = [link.name.rpartition(".")[2] for link in links]
        for one, two in ((0, 1), (1, 0)):
            if leaves[one] in _FIRST and leaves[two] in _LAST and links[two].reads(links[one]):
                return [one, two]
    return _only_order(links)


def gated_mlp(links: Sequence[Link]) -> list[Link] | None:
    """Return the layers of a gated MLP as gate, up and down, if this is one by names and shapes."""
    by_leaf = {link.name.rpartition(".")[2]: link for link in links}
    if len(links) != 3 or set(by_leaf) not in _GATED or any(len(link.shape) != 2 for link in links):
        return None
    if "w1" in by_leaf and not re.search("feed_?forward|expert|mlp", links[0].name):
        return None  # w1, w2, w3 may be a chain elsewhere
    down = next(by_leaf[leaf] for leaf in ("down_proj", "w2", "wo", "down") if leaf in by_leaf)
    one, two = (by_leaf[leaf] for leaf in sorted(by_leaf) if by_leaf[leaf] is not down)
    fits = one.shape == two.shape and down.reads(one)
    return [one, two, down] if fits else None


def _only_order(links: Sequence[Link]) -> list[int]:
    """Search all orders in which layers chain and the numbers of each family of names go up."""
    families: dict[str, list[int]] = {}
    for at in sorted(range(len(links)), key=lambda at: _by_number(links[at].name)):
        families.setdefault(re.sub(r"_?\d+", "#", links[at].name).removesuffix("#"), []).append(at)
    rows = list(families.values())
    found: list[list[int]] = []
    steps = 0
    stack: list[tuple[tuple[int, ...], list[int]]] = [((0,) * len(rows), [])]
    while stack and len(found) < 2:
        taken, path = stack.pop()
        steps += len(rows) + len(path) + 1
        if steps > _MOST_STEPS:
            break
        if len(path) == len(links):
            found.append(path)
            continue
        for number, row in enumerate(rows):
            if taken[number] < len(row):
                at = row[taken[number]]
                if not path or links[at].reads(links[path[-1]]):
                    stack.append(((*taken[:number], taken[number] + 1, *taken[number + 1 :]), [*path, at]))
    if len(found) != 1 or steps > _MOST_STEPS:
        listed = ", ".join(f"{link.name!r} {link.shape}" for link in links[:6])
        how = "no order" if not found and steps <= _MOST_STEPS else "more than one order"
        raise ValueError(
            f"layers must chain in one order, and {how} does: {listed}{', …' if len(links) > 6 else ''}; "
            "give the names of the layers in order as `block`, or the live model to `from_module`"
        )
    return found[0]


def _by_number(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d{1,9}|\D+", name))
