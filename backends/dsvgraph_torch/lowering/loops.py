"""Lowering of `repeat` and `each`: loops over lists of modules, and stacked weights for experts."""

from __future__ import annotations

import ast

from dsvgraph.graph import Model, Node, PortRole, Ref
from dsvgraph_torch.lowering.sharing import Construction, construction
from dsvgraph_torch.lowering.source import NOTHING, assign, block, expression, literal, path, statement, tree
from dsvgraph_torch.lowering.writer import ClassWriter

LONGEST = 6  # copies of a pattern that one line lists


def each(writer: ClassWriter, node: Node) -> None:
    """Copies side by side: grouped products over sent tokens, or a loop over a first axis."""
    if not node.copies:
        return _none(writer, node)
    sent = next((ref for port, ref in node.inputs.items() if node.input_types[port].order), None)
    if sent:
        _side_by_side(writer, node, path(writer.value(sent, _all_rows(writer, node))))
    else:
        _stacked(writer, node)


def _side_by_side(writer: ClassWriter, node: Node, sent: ast.expr) -> None:
    """Copies that tokens were sent to: stacked weights, grouped products."""
    writer.container(node.at)
    writer.construct(node.at, _experts(writer, node))
    value = expression("sent._replace(x=module(sent.x, sent))", sent=sent, module=path(writer.at(node)))
    writer.line(assign(writer.targets(node), value), node, writer.shapes(node))


def _experts(writer: ClassWriter, node: Node) -> ast.expr:
    """Return the construction of all copies: of one class, or of a class for each group of equal ones."""
    found = writer.lowering.inside(writer.found, node)
    groups = [(f, int(copies.count)) for f, copies in zip(found, node.copies, strict=True)]  # type: ignore[arg-type]
    if len(groups) == 1:
        return writer.lowering.unit(*groups[0])
    parts = [expression("(count, part)", count=n, part=writer.lowering.unit(f, n, whole=False)) for f, n in groups]
    return expression("Runs(*parts)", parts=parts)


def _extend(writer: ClassWriter, node: Node) -> ast.expr:
    """Add a repeated node's copies to the list at its address; return its part of it, or the one that all
    copies use."""
    whole = path(writer.at(node))
    writer.container(node.at)
    if node.at not in writer.out.lists:
        writer.out.lists.add(node.at)
        writer.construct(node.at, expression("nn.ModuleList()"))
    found = writer.lowering.inside(writer.found, node)
    groups = [(writer.unit(f).number, int(r.count)) for f, r in zip(found, node.stored, strict=False)]  # type: ignore[arg-type]
    for numbers, count in _patterns(groups):
        writer.out.source.init.append(_added(whole, [construction(n) for n in numbers], count))
    if node.reused:
        return expression("whole[first]", whole=whole, first=node.start)
    return expression("whole[first:end]", whole=whole, first=node.start, end=node.start + node.count)


def _patterns(groups: list[tuple[int, int]]) -> list[tuple[list[int], int]]:
    """Return the classes of which copies are made, and how often: single copies that alternate are one pattern."""
    for period in range(2, len(groups) // 2 + 1):
        turns, rest = divmod(len(groups), period)
        pattern = [made for made, count in groups[:period] for _ in range(min(count, LONGEST + 1))]
        if rest == 0 and groups == groups[:period] * turns and len(pattern) <= LONGEST:
            return [(pattern, turns)]
    return [([made], count) for made, count in groups]


def _added(whole: ast.expr, parts: list[Construction], count: int) -> ast.stmt:
    """Return the line that appends ``count`` times what is made."""
    if len(parts) > 1:
        template = "whole.extend(copy for _ in range(count) for copy in parts)"
        return statement(template, whole=whole, count=count, parts=ast.Tuple([*parts], ast.Load()))
    if count == 1:
        return statement("whole.append(part)", whole=whole, part=parts[0])
    return statement("whole.extend(part for _ in range(count))", whole=whole, part=parts[0], count=count)


def _stacked(writer: ClassWriter, node: Node) -> None:
    """Copies over a first axis that is a number: a loop, results stacked."""
    part = _extend(writer, node)
    outs = _loop(writer, node, part, carried=())
    for port, name in outs.items():
        writer.line(stacked(name), note=str(node.outputs[port]))


def stacked(name: str) -> ast.stmt:
    """Return the line that makes one tensor of a list."""
    return assign(name, expression("torch.stack(parts)", parts=path(name)))


def repeat(writer: ClassWriter, node: Node, drafted: tuple[str, ...] = ()) -> None:
    """A chain of copies: carried values go round the loop, the others are collected.

    What a copy makes at the ports ``drafted`` is yielded before the next copy runs.
    """
    if not node.copies:
        return _none(writer, node)
    part = _extend(writer, node)
    carried = node.carried
    outs = _loop(writer, node, part, carried, drafted)
    consumed = {r for n in writer.graph.nodes.values() for r in n.sources.values()}
    returned = set(writer.graph.outputs.values()) if not isinstance(writer.graph, Model) else set()
    for port, name in outs.items():
        ref = Ref(node.name, port)
        cut = writer.forms.cut(ref, writer.lowering.decoder.length) is not None
        if (cut or ref in consumed | returned) and port not in carried:
            writer.line(stacked(name), note=str(node.outputs[port]))


def _none(writer: ClassWriter, node: Node) -> None:
    """No copies: what is carried passes by, what is stacked has nothing in it."""
    for port in node.outputs:
        carried = port in node.carried
        rows = _all_rows(writer, node)
        value = writer.value(node.inputs[port], rows) if carried else NOTHING
        writer.forms.bind(Ref(node.name, port), value, rows)


def _all_rows(writer: ClassWriter, node: Node) -> bool:
    """Return whether a line runs over the rows of earlier positions too."""
    return node.name in writer.found.between


def _loop(
    writer: ClassWriter, node: Node, part: ast.expr, carried: tuple[str, ...], drafted: tuple[str, ...] = ()
) -> dict[str, str]:
    """Write the loop over copies; return the variables of the collected outputs."""
    names, rows = {p: writer.target(node, p) for p in node.outputs}, _all_rows(writer, node)
    first = [tree(writer.value(node.inputs[p], rows) if p in carried else NOTHING) for p in names]
    value = first[0] if len(first) == 1 else ast.Tuple(first, ast.Load())
    writer.line(assign(list(names.values()), value), node, writer.shapes(node))
    sliced = [p for p, r in node.roles.items() if r is PortRole.SLICED]
    copy = part if node.reused else expression("copy")
    body = _step(writer, node, copy, names, carried, sliced)
    body += [statement("yield parts[-1:]", parts=path(names[port])) for port in drafted]
    if node.name in writer.lowering.skippable and writer.graph is writer.lowering.model:
        body = [_skipped([name for port, name in names.items() if port not in carried]), *body]
        writer.line(_over_needed(writer, node, part, body, bool(sliced)))
    elif node.reused:
        count = expression("ctx.depths or count" if drafted else "count", count=node.count)
        writer.line(block("for i in range(count):", body, count=count))
    elif drafted:
        writer.line(block("for i, copy in enumerate(ctx.copies(part)):", body, part=part))
    else:
        writer.line(block("for i, copy in enumerate(part):" if sliced else "for copy in part:", body, part=part))
    return {p: n for p, n in names.items() if p not in carried}


def _skipped(stacks: list[str]) -> ast.stmt:
    """Return the lines that pass over a copy that need not run."""
    empty = [statement("parts.append(None)", parts=path(name)) for name in stacks]
    return block("if not runs:", [*empty, ast.Continue()])


def _over_needed(writer: ClassWriter, node: Node, part: ast.expr, body: list[ast.stmt], sliced: bool) -> ast.stmt:
    """Return the loop over copies of which a training step needs not all."""
    names = [literal(loss.name) for loss in writer.lowering.skippable[node.name]]
    more = {"chain": True} if node.carried else {}
    needed = expression("needed(self, weights, count, *names, **more)", count=node.count, names=names, more=more)
    if node.reused:
        return block("for i, runs in enumerate(needed):", body, needed=needed)
    loop = "for i, (copy, runs) in enumerate(zip(part, needed)):" if sliced else "for copy, runs in zip(part, needed):"
    return block(loop, body, part=part, needed=needed)


def _step(
    writer: ClassWriter, node: Node, copy: ast.expr, names: dict[str, str], carried: tuple[str, ...], sliced: list[str]
) -> list[ast.stmt]:
    """Return the lines of one pass of the loop."""
    inner = node.copies[0].graph
    replaced = {p: path(names[p]) for p in carried}
    stacks = {p: path(writer.value(node.sources[p], _all_rows(writer, node))) for p in sliced}
    replaced.update({p: expression("parts[i]", parts=parts) for p, parts in stacks.items()})
    results = {p: names[p] if p in carried else writer.new(f"{node.name}_{p}_i") for p in names}
    args = writer.arguments(node, inner, replaced)
    lines = [assign(list(results.values()), expression("copy_(*args)", copy_=copy, args=args))]
    for port, name in results.items():
        if port not in carried:
            lines.append(statement("parts.append(one)", parts=path(names[port]), one=path(name)))
    return lines
