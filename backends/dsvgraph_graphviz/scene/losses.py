"""The losses of a model in its picture: a card for every term, on top of the column that it scores."""

from __future__ import annotations

from dsvgraph.graph import Loss, Ref
from dsvgraph_graphviz.scene.parts import Card, CardShape, Container, End, Plan
from dsvgraph_graphviz.style import cards
from dsvgraph_graphviz.style.theme import HUES, Role
from dsvgraph_graphviz.style.words import cut, number, spot, subscript
from dsvgraph_graphviz.text.losses import Term, aims, chain_weight, loss_name, over, term_card, weight


def score(made: Plan) -> list[Term]:
    """Add a card for every loss, and for every output that no loss reads, on top of its column; return the terms."""
    found = []
    for loss in made.model.losses:
        if loss.output:
            found += _cards(made, loss)
    _outputs(made)
    return found


def _cards(made: Plan, loss: Loss) -> list[Term]:
    """Add the cards of one loss, one for every column that it scores; return their terms."""
    found = []
    for end, depths in _ends(made, made.model.outputs[loss.output or ""]):
        if scored := [depth for depth in loss.depths if not depths or depth in depths]:
            found.append(_card(made, loss, scored, end))
    return found


def _ends(made: Plan, ref: Ref) -> list[tuple[End, tuple[int, ...]]]:
    """Return where a value ends, in each column that makes a part of it, with the depths of this part; none are all."""
    return made.stacked.get(ref) or ([(made.ends[ref], ())] if ref in made.ends else [])


def _card(made: Plan, loss: Loss, depths: list[int], end: End) -> Term:
    """Add the card of one loss at depths that are drawn together; return its term."""
    place, first, last = made.scene.cards[end.card], depths[0], depths[-1]
    names = list(dict.fromkeys(loss_name(made.model, loss, depth) for depth in (first, last)))
    times = f"× {number(len(depths))}" if len(depths) > 1 else ""
    label = cards.loss(" … ".join(names), aims(loss, depths), HUES[Role.LOSS], times)
    id_ = term_card(loss, first)
    tip = f"{loss.name}\n{spot(loss.span)}"
    made.scene.add(_top(made, place).card(id_, label, Role.LOSS, "loss", tip=tip))
    shape = made.shapes.of(made.model, made.model.outputs[loss.output or ""]) if not first else ""
    made.scene.wire(end, End(id_), shape)
    weights = list(dict.fromkeys(weight(loss.weight, depth) for depth in depths))
    own = weights[0] if len(weights) == 1 else f"{weights[0]} … {weights[-1]}"
    plain = own.split(" → ")[0] if len(weights) == 1 else f"( {own} )"
    name = " + … + ".join(names)
    return Term(id_, name, own, f"λ{over(loss)}" if chain_weight(made.model, loss) else plain)


def _top(made: Plan, card: Card) -> Container:
    """Return the column that a card stands in, as a place for others."""
    cluster = card.cluster
    while made.scene.clusters[cluster].parent:
        cluster = made.scene.clusters[cluster].parent
    return Container(column=card.column, cluster=cluster)


def _outputs(made: Plan) -> None:
    """Outputs that nothing scores end in their name, in each column that makes a part of them."""
    scored = {loss.output for loss in made.model.losses}
    for name, ref in made.model.outputs.items():
        for end, depths in _ends(made, ref) if name not in scored else ():
            place, part = made.scene.cards[end.card], "-".join(map(str, depths[:1]))
            id_ = f"out/{name}" + (f"-{part}" if part else "")
            label = cards.text(cut(name) + (subscript(depths[0]) if len(depths) == 1 else ""))
            made.scene.add(_top(made, place).card(id_, label, Role.PLAIN, "exit", shape=CardShape.TEXT))
            made.scene.wire(end, End(id_), made.shapes.of(made.model, ref))
