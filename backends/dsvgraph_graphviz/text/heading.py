"""The heading of a picture: the name, the totals, and what the chain of depths adds."""

from __future__ import annotations

from math import prod

from dsvgraph.dims import Size
from dsvgraph.graph import Mode, join, span_text
from dsvgraph.ops.base import Kind
from dsvgraph.passes.compare.diff import diff
from dsvgraph.passes.count.cost import Cost
from dsvgraph_graphviz.model.analysis import BATCH, LENGTH, Analysis, Subject
from dsvgraph_graphviz.model.copies import chains, has_body
from dsvgraph_graphviz.model.find import Found
from dsvgraph_graphviz.model.shares import Shares
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.markup import cell, label, table, words
from dsvgraph_graphviz.style.words import cut, features, flops, number, op_title, readable, short
from dsvgraph_graphviz.text.differences import compared_totals
from dsvgraph_graphviz.text.labels import Labels
from dsvgraph_graphviz.text.losses import chain_weight
from dsvgraph_graphviz.text.titles import block_title

NAME = 60  # characters


def heading(made: Subject) -> str:
    """Return the title as a label."""
    totals, added = lines(made)
    more = theme.TEAL.text if made.focus else theme.PINK.text
    rows = [_row(title(made), theme.INK, theme.HEADING, bold=True, longest=NAME)]
    rows += [_row(place(made.focus, names(made)), theme.MUTED, theme.CAPTION)] if made.focus else []
    rows += [_row(totals, theme.MUTED, theme.SUBHEADING)] if totals else []
    rows += [_row(added, more, theme.SUBHEADING)] if added else []
    if made.view.heat:
        rows.append(cell(Shares(made.analysis, made.view.heat).legend(), align="left"))
    return label(table([*rows, cell("", height=8)], border=0, cellspacing=0, cellpadding=2))


def _row(text: str, color: str, size: float, bold: bool = False, longest: int = 200) -> str:
    return cell(words(cut(text, longest), color, size, bold), align="left")


def lines(made: Subject) -> tuple[str, str]:
    """Return the totals in words, and what the columns add to them; for one block its own, and what decoding keeps."""
    if made.comparison and made.view.diff:
        both, kinds = compared_totals(diff(made.first, made.view.diff, BATCH, LENGTH))
        return both, " · ".join([kinds, *chain_weight(made.model)])
    if made.focus:
        return " · ".join(_own(made, made.focus)), _kept(made.focus, made.analysis)
    cost = made.analysis.cost()
    totals = [*(_totals(cost) if cost else []), *_sizes(made), *(_work(cost) if cost else [])]
    return " · ".join(totals), " · ".join([*(_added(made, cost) if cost else []), *chain_weight(made.model)])


# -- one block ----------------------------------------------------------------------------------


def title(made: Subject) -> str:
    """Return the name of the model, or of the block that is drawn alone."""
    found = made.focus
    if found is None:
        alone = made.view.diff and made.view.diff.name == made.first.name
        return f"{names(made)}: what differs" if alone else names(made)
    if found.node.op or not has_body(found.node):
        return found.node.name
    return block_title(found.body, made.analysis)


def names(made: Subject) -> str:
    """Return the name of the model, or of both that are compared."""
    return " → ".join(dict.fromkeys([made.first.name, made.view.diff.name if made.view.diff else made.first.name]))


def place(found: Found, model: str) -> str:
    """Return where a block stands."""
    node, once = found.node, found.node.mode is Mode.CALL or found.copies
    return f"{model} · {found.path if once else join(found.path, span_text(node.start, node.count))}"


def _own(made: Subject, found: Found) -> list[str]:
    analysis, node = made.analysis, found.node
    inside = found.body if has_body(node) else None
    parts = Labels(analysis, made.view).about(inside) if inside else [op_title(node) if node.op else node.callee]
    total = analysis.parameters(inside) if inside else analysis.parameters(found.graph, node)
    active = analysis.active(inside) if inside else analysis.active(found.graph, node)
    parts += [f"{short(total)} parameters"] if total != 0 else []
    parts += [f"{short(active)} active"] if active != total else []
    work = analysis.work(inside) if inside else analysis.work(found.graph, node)
    return parts + ([f"{flops(work)} / token forward at T {number(LENGTH)}"] if work else [])


def _kept(found: Found, analysis: Analysis) -> str:
    """Return what decoding keeps of a block, and how much more multi-head attention would."""
    graph = found.body if has_body(found.node) else None
    values = analysis.decoding_cache.values(graph) if graph else {}
    shapes = [graph.type(ref).shape for ref, rows in values.items() if rows.last is None] if graph else []
    if graph is None or not shapes:
        return ""
    total = sum((prod(s[2:]) for s in shapes), start=0)
    parts = " + ".join(features(s) for s in shapes)
    text = f"KV cache: {parts}{f' = {number(total)}' if len(shapes) > 1 or '×' in parts else ''} values per token"
    text += " and layer"
    direct = next((n for n in graph.nodes.values() if n.callee == "attention" and n.op), None)
    if direct is None:
        return text
    heads, size = direct.input_types["q"].shape[2], direct.input_types["v"].shape[3]
    plain = 2 * heads * size
    if not (isinstance(plain, int) and isinstance(total, int)) or plain <= total:
        return text
    more = f"{plain / total:.0f}" if plain > 10 * total else f"{plain / total:.2g}"
    return f"{text} (plain MHA, {number(heads)} heads of {number(size)}: {number(plain)}, i.e. {more} × more)"


# -- the model ----------------------------------------------------------------------------------


def _totals(cost: Cost) -> list[str]:
    found = [f"{short(cost.parameters.inference)} parameters"]
    if cost.parameters.active != cost.parameters.inference:
        found.append(f"{short(cost.parameters.active)} active per token")
    return found


def _sizes(made: Subject) -> list[str]:
    """Layers, width and vocabulary, as far as the model has them."""
    found = []
    if layers := _layers(made):
        found.append(f"{number(layers)} layer{'' if layers == 1 else 's'}")
    for node in made.model.nodes.values():
        if node.op and node.op.kind is Kind.LOOKUP and "weight" in node.weights:
            num, dim = node.weights["weight"].shape
            return [*found, f"d {number(dim)}", f"vocab {number(num)}"]
    return found


def _layers(made: Subject) -> Size:
    """Layers of the main column, those of all copies."""
    roles, outside = made.analysis.roles, chains(made.model)
    if roles.is_layer_body(made.model):
        return roles.layers(made.model)
    return roles.layers_of(node for node in made.model.nodes.values() if node not in outside)


def _work(cost: Cost) -> list[str]:
    work = cost.flops.inference_forward_per_token
    return [f"{flops(work)} / token forward at T {number(LENGTH)}"] if work else []


def _added(made: Subject, cost: Cost) -> list[str]:
    more = cost.parameters.total - cost.parameters.inference
    names = [f"{readable(n.name)} depth {number(n.count)}" for n in chains(made.model)]
    if not names or not more:
        return []
    base = cost.flops.inference_forward_per_token
    work = cost.flops.forward_per_token - base
    share = f" (+ {100 * work / base:.1f} % of the main model's)" if base else ""
    return [f"{', '.join(names)}:  + {short(more)} parameters", f"+ {flops(work)} / token{share}"]
