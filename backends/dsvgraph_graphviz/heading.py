"""The title of the picture: the name, the totals, and what the chain of depths adds."""

from __future__ import annotations

from dsvgraph.dims import Size
from dsvgraph.graph import Graph
from dsvgraph.passes.cost import Cost
from dsvgraph_graphviz import theme
from dsvgraph_graphviz.facts import LENGTH
from dsvgraph_graphviz.markup import cell, label, table, words
from dsvgraph_graphviz.plan import Plan, chains
from dsvgraph_graphviz.words import cut, number, readable, short

NAME = 60  # characters


def heading(made: Plan) -> str:
    """The title as a label."""
    totals, added = lines(made)
    rows = [_row(made.model.name, theme.INK, theme.HEADING, bold=True, longest=NAME)]
    rows += [_row(totals, theme.MUTED, theme.SUBHEADING)] if totals else []
    rows += [_row(added, theme.PINK.text, theme.SUBHEADING)] if added else []
    return label(table([*rows, cell("", height=8)], border=0, cellspacing=0, cellpadding=2))


def _row(text: str, color: str, size: float, bold: bool = False, longest: int = 160) -> str:
    return cell(words(cut(text, longest), color, size, bold), align="left")


def lines(made: Plan) -> tuple[str, str]:
    """The totals in words, and what the columns add to them."""
    cost = made.facts.cost()
    totals = [*(_totals(cost) if cost else []), *_sizes(made), *(_work(cost) if cost else [])]
    return " · ".join(totals), " · ".join(_added(made, cost)) if cost else ""


def _totals(cost: Cost) -> list[str]:
    found = [f"{short(cost.parameters.inference)} parameters"]
    if cost.parameters.active != cost.parameters.inference:
        found.append(f"{short(cost.parameters.active)} active per token")
    return found


def _sizes(made: Plan) -> list[str]:
    """Layers, width and vocabulary, as far as the model has them."""
    found = []
    if layers := _layers(made):
        found.append(f"{number(layers)} layers")
    for node in made.model.nodes.values():
        if node.callee == "embedding" and "weight" in node.weights:
            num, dim = node.weights["weight"].shape
            return [*found, f"d {number(dim)}", f"vocab {number(num)}"]
    return found


def _layers(made: Plan) -> Size:
    """Copies of layers in the main column."""
    outside = chains(made.model)
    total: Size = 0
    for node in made.model.nodes.values():
        if node not in outside:
            total = (
                total + _layers_in(node.runs[0].graph, made) * node.count
                if node.runs and not made.facts.roles.is_layer(node)
                else total
            )
            total = total + (node.count if made.facts.roles.is_layer(node) else 0)
    return total


def _layers_in(graph: Graph, made: Plan) -> Size:
    return sum((n.count for n in graph.nodes.values() if made.facts.roles.is_layer(n)), start=0)


def _work(cost: Cost) -> list[str]:
    return [f"{flops(cost.flops.inference_forward_per_token)} / token at T {number(LENGTH)}"]


def _added(made: Plan, cost: Cost) -> list[str]:
    more = cost.parameters.total - cost.parameters.inference
    names = [f"{readable(n.name)} depth {number(n.count)}" for n in chains(made.model)]
    if not names or not more:
        return []
    base = cost.flops.inference_forward_per_token
    work = cost.flops.forward_per_token - base
    share = f" (+ {work / base:.1%})".replace("%", " %") if base else ""
    return [f"{', '.join(names)}:  + {short(more)} parameters", f"+ {flops(work)} / token{share}"]


def flops(value: float) -> str:
    """Floating-point operations in four digits: 83.49 GFLOP."""
    text = short(value)
    amount, _, unit = text.partition(" ")
    return f"{amount} {unit.replace('B', 'G')}FLOP"
