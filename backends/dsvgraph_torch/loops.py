"""Lowering of `repeat` and `each`: loops over lists of modules, and stacked weights for experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model, Node, Ref

if TYPE_CHECKING:
    from dsvgraph_torch.lower import Writer

LONGEST = 6  # copies of a pattern that one line lists


def each(writer: Writer, node: Node) -> None:
    """Copies side by side: grouped products over sent tokens, or a loop over a first axis."""
    if not node.runs:
        return _none(writer, node)
    inner = node.runs[0].graph
    wired = [node.inputs[p] for p in inner.inputs if p in node.inputs]
    if any(r in writer.ragged for r in wired):
        _side_by_side(writer, node, inner, wired)
    else:
        _stacked(writer, node)


def _side_by_side(writer: Writer, node: Node, inner: Graph, wired: list[Ref]) -> None:
    """Copies that tokens were sent to: stacked weights, grouped products."""
    if len(wired) != 1 or node.tied or len(node.runs) != 1 or len(inner.outputs) != 1:
        raise DsvError("experts have one input, one output and equal copies", node.span, code=Code.NOT_LOWERED)
    copies = int(node.count)  # type: ignore[arg-type]
    writer.container(node.at)
    writer.out.text.init.append(f"self.{node.at} = {writer.lowering.unit(inner, copies)}")
    value = writer.value(wired[0])
    writer.ragged.add(Ref(node.name, node.first))
    writer.line(f"{writer.targets(node)} = self.{node.at}({value})", node, writer.shapes(node))


def _extend(writer: Writer, node: Node) -> str:
    """Adds a repeated node's copies to the list at its address; the text of its part, or of the one
    that all copies use."""
    path = writer.at(node)
    writer.container(node.at)
    if node.at not in writer.out.lists:
        writer.out.lists.add(node.at)
        writer.out.text.init.append(f"{path} = nn.ModuleList()")
    runs = [(writer.lowering.unit(run.graph), int(run.count)) for run in node.stored]  # type: ignore[arg-type]
    for made, count in _patterns(runs):
        writer.out.text.init.append(f"{path}.{_added(made, count)}")
    if node.reused:
        return f"{path}[{node.start}]"
    end = node.start + node.count
    return f"{path}[{node.start}:{end}]"


def _patterns(runs: list[tuple[str, int]]) -> list[tuple[list[str], int]]:
    """What is made of copies, and how often: single copies that come in turns are one pattern."""
    for period in range(2, len(runs) // 2 + 1):
        turns, rest = divmod(len(runs), period)
        pattern = [made for made, count in runs[:period] for _ in range(min(count, LONGEST + 1))]
        if rest == 0 and runs == runs[:period] * turns and len(pattern) <= LONGEST:
            return [(pattern, turns)]
    return [([made], count) for made, count in runs]


def _added(made: list[str], count: int) -> str:
    """The call that appends ``count`` times what is made."""
    if len(made) > 1:
        return f"extend(copy for _ in range({count}) for copy in ({', '.join(made)}))"
    return f"append({made[0]})" if count == 1 else f"extend({made[0]} for _ in range({count}))"


def _stacked(writer: Writer, node: Node) -> None:
    """Copies over a first axis that is a number: a loop, results stacked."""
    part = _extend(writer, node)
    outs = _loop(writer, node, part, carried=[])
    for port, name in outs.items():
        writer.line(f"{name} = torch.stack({name})", note=str(node.outputs[port]))


def repeat(writer: Writer, node: Node) -> None:
    """A chain of copies: carried values go round the loop, the others are collected."""
    if not node.runs:
        return _none(writer, node)
    part = _extend(writer, node)
    carried = [p for p, r in node.roles.items() if r == "carried"]
    outs = _loop(writer, node, part, carried)
    consumed = {r for n in writer.graph.nodes.values() for r in n.sources.values()}
    returned = set(writer.graph.outputs.values()) if not isinstance(writer.graph, Model) else set()
    for port, name in outs.items():
        if Ref(node.name, port) in consumed | returned and port not in carried:
            writer.line(f"{name} = torch.stack({name})", note=str(node.outputs[port]))


def _none(writer: Writer, node: Node) -> None:
    """No copies: what is carried passes by, what is stacked has nothing in it."""
    for port in node.outputs:
        carried = node.roles.get(port) == "carried"
        writer.vars[Ref(node.name, port)] = writer.value(node.inputs[port]) if carried else "[]"


def _loop(writer: Writer, node: Node, part: str, carried: list[str]) -> dict[str, str]:
    """The loop over copies; returns the variables of the collected outputs."""
    names = {p: writer.new(f"{node.name}_{p}" if len(node.outputs) > 1 else node.name) for p in node.outputs}
    first = [writer.value(node.inputs[p]) if p in carried else "[]" for p in names]
    writer.line(f"{', '.join(names.values())} = {', '.join(first)}", node, writer.shapes(node))
    sliced = [p for p, r in node.roles.items() if r == "sliced"]
    one = f"for i in range({node.count}):" if node.reused else f"for copy in {part}:"
    writer.line(f"for i, copy in enumerate({part}):" if sliced and not node.reused else one)
    _step(writer, node, part if node.reused else "copy", names, carried, sliced)
    for port, name in names.items():
        writer.vars[Ref(node.name, port)] = name
    return {p: n for p, n in names.items() if p not in carried}


def _step(writer: Writer, node: Node, copy: str, names: dict[str, str], carried: list[str], sliced: list[str]) -> None:
    """One turn of the loop."""
    inner = node.runs[0].graph
    replaced = {p: names[p] for p in carried}
    replaced.update({p: f"{writer.value(node.sources[p])}[i]" for p in sliced})
    results = {p: names[p] if p in carried else writer.new(f"{node.name}_{p}_i") for p in names}
    args = writer.arguments(node, inner, replaced)
    writer.line(f"    {', '.join(results.values())} = {copy}({args})")
    for port, name in results.items():
        if port not in carried:
            writer.line(f"    {names[port]}.append({name})")
