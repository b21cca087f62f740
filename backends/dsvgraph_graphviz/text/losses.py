"""The losses of a model in the picture: what each predicts, its weight, and the formula of the sum."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from dsvgraph.build.losses.schedules import TIMES
from dsvgraph.dims import Poly, Size, symbol
from dsvgraph.expr import Expr, evaluate
from dsvgraph.graph import Loss, LossKind, Model, walk
from dsvgraph.patterns import matches
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.markup import cell, label, table, words
from dsvgraph_graphviz.style.words import cut, decimal, number, subscript, tokens

LATER = 1e18  # tokens: past the end of any schedule
NUMBERS = re.compile(r"[\d.e+-]+( → [\d.e+-]+)?")
AUXILIARY = {
    LossKind.SEQUENCE_BALANCE: "+  {weight} · balance loss of {routers}",
    LossKind.BIAS_UPDATE: "selection bias of {routers} moves by {weight} a step",
}


@dataclass(frozen=True)
class Term:
    """One term of the sum: its card, its name, its weight at the first and at the last token, and in the formula."""

    card: str
    name: str
    weight: str
    factor: str


VERBS = {
    LossKind.CROSS_ENTROPY: "predicts {}",
    LossKind.BINARY_CROSS_ENTROPY: "tokens in {}",
    LossKind.LISTNET: "order of {}",
    LossKind.KL: "KL to {}",
    LossKind.SOFT_CROSS_ENTROPY: "soft targets {}",
    LossKind.TOTAL_VARIATION: "total variation to {}",
    LossKind.SMOOTH_L1: "smooth L1 to {}",
    LossKind.CONFIDENCE: "accepted by {}",
    LossKind.Z_LOSS: "log² of the denominator",
}


def aims(loss: Loss, depths: list[int]) -> str:
    """Return what a loss scores in the picture at depths that are drawn together: predicts t₂ … t₅."""
    joint = ", end to end" if loss.end_to_end else ""
    if loss.against:
        return VERBS[loss.kind].format(_other(loss, depths)) + joint
    places = [_place(loss, depth) for depth in dict.fromkeys((depths[0], depths[-1]))]
    return VERBS[loss.kind].format(" to ".join(places))


def _other(loss: Loss, depths: list[int]) -> str:
    """Return the output that a loss compares with, and where: logits at i + 1 … i + 3."""
    aheads = [value(loss.shift, depth, 0) if loss.shift else 0 for depth in dict.fromkeys((depths[0], depths[-1]))]
    places = " … ".join(f"i + {ahead}" if ahead else "i" for ahead in aheads)
    return cut(str(loss.against)) + (f" at {places}" if any(aheads) else "")


def _place(loss: Loss, depth: int) -> str:
    """Return the first and the last token of those that a loss predicts."""
    ahead = value(loss.shift, depth, 0) if loss.shift else 1
    names = tokens(int(ahead)) if isinstance(ahead, int) else ["?"]
    more = f", {loss.window} each" if loss.window > 1 else ""
    return f"{names[0]} … {names[-1]}{more}"


def term_card(loss: Loss, depth: int) -> str:
    """Return the card of one loss at one depth."""
    return f"loss/{loss.name}" + (f"-{depth}" if depth else "")


def over(loss: Loss) -> str:
    return f"/{len(loss.depths)}" if len(loss.depths) > 1 else ""


def chain_weight(model: Model, loss: Loss | None = None) -> list[str]:
    """Return what the depths of a chain (that ``loss`` scores) count together, where they count alike: λ = 0.3 → 0.1.

    Nothing where they count as much as the model's own loss, or where two losses score chains.
    """
    deep = [one for one in model.losses if one.depths and one.depths != (0,)]
    if len(deep) != 1 or deep[0].end_to_end or (loss and loss is not deep[0]):
        return []
    weights = {weight(deep[0].weight, depth) for depth in deep[0].depths}
    if len(weights) != 1 or not NUMBERS.fullmatch(text := weights.pop()) or text == "1.00":
        return []
    ends = [value(deep[0].weight, deep[0].depths[0], t) * len(deep[0].depths) for t in (0, LATER)]
    return ["λ = " + " → ".join(dict.fromkeys(f"{end:.3g}" for end in ends))]


def loss_name(model: Model, loss: Loss, depth: int) -> str:
    """L₀, L₁, ... by depth if no other loss has one of these depths, else the line's name with the depth."""
    others = (one for one in model.losses if one is not loss and one.output)
    if loss.end_to_end:
        return cut(loss.name)
    if not any(set(one.depths) & set(loss.depths) for one in others):
        return f"L{subscript(depth)}"
    return cut(loss.name) + (subscript(depth) if depth else "")


# -- weights and the sum ------------------------------------------------------------------------


def value(tree: Expr, depth: int, tokens_seen: float) -> Any:
    """Return a loss expression at one depth, after so many tokens or steps; what has no number stays a symbol."""
    known = {"depth": depth, **dict.fromkeys(TIMES, tokens_seen)}
    return evaluate(tree, lambda name: known[name] if name in known else symbol(name))


def weight(tree: Expr, depth: int) -> str:
    """Return the weight as text: 0.15, or 0.15 → 0.05 where it changes while training."""
    try:
        first, last = (value(tree, depth, t) for t in (0, LATER))
    except ValueError:
        return "w"
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in (first, last)):
        return number(first) if isinstance(first, Poly) else "w"
    return decimal(first) if first == last else f"{decimal(first)} → {decimal(last)}"


def formula(terms: list[Term]) -> str:
    """Return the sum of the losses: L = L₀ + λ/2 · (L₁ + L₂). A loss over all depths has several cards, one term."""
    groups: dict[str, list[str]] = {}
    for term in terms:
        groups.setdefault(term.factor, []).append(term.name)
    return "L  =  " + "  +  ".join(_product(w, list(dict.fromkeys(names))) for w, names in groups.items())


def _product(factor: str, names: list[str]) -> str:
    """Return one factor times the losses that have it."""
    inner = " + ".join(names)
    if factor == "1.00":
        return inner
    return f"{factor} · ( {inner} )" if " + " in inner else f"{factor} · {inner}"


def auxiliary(model: Model) -> list[str]:
    """Return what is added or done beside the scores: balance of routers, updates of their bias."""
    return [
        AUXILIARY[loss.kind].format(weight=weight(loss.weight, 0), routers=_routers(model, loss))
        for loss in model.losses
        if loss.kind in AUXILIARY
    ]


def _routers(model: Model, loss: Loss) -> str:
    count: Size = 0
    for visit in walk(model):
        if visit.node.callee == "router" and matches(loss.routers or "", visit.path):
            count = count + visit.copies
    return f"{number(count)} router{'' if count == 1 else 's'}"


def sum_label(model: Model, terms: list[Term]) -> str:
    """Return what stands in the bar over the losses: their sum, and what is done beside it."""
    hue = theme.ROSE
    rows = [cell(words(formula(terms), hue.title, 15, bold=True))] if terms else []
    rows += [cell(words(" · ".join(more), hue.text, theme.CAPTION))] if (more := auxiliary(model)) else []
    rows = [cell("", height=6), *rows]  # as much room above the words as graphviz leaves below
    return label(table(rows, border=0, cellspacing=0, cellpadding=2))
