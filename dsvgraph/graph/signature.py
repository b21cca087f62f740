"""The canonical text of a graph, one fact per line: two graphs are the same if their texts are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dsvgraph.expr import Expr, to_text
from dsvgraph.graph.losses import Loss
from dsvgraph.graph.model import Model
from dsvgraph.graph.nodes import Graph, Mode, Node, Ref, join
from dsvgraph.types import shown

CONSTANTS = (
    "smoothing", "temperature", "beta", "window", "decay", "vocabulary", "sample", "end_to_end", "detach",
    "target_gradient",
)  # fmt: skip
LARGE = re.compile(r"\b\d{7,}\.0\b")


def signature(graph: Graph) -> str:
    """Return what ``graph`` is, without the names of its files, its documentation and its blocks' arguments.

    Lines begin with the folded path and the name on the page::

        model.layers.[3-60].mlp.gate: gate = router(x=x) {experts: 256, ...} -> index int[B, T, 8], ...
        model.layers.[3-60].mlp.gate.weight: [256, 7168]

    >>> import dsvgraph
    >>> print(signature(dsvgraph.load("deepseek_v3_tiny")).splitlines()[0])
    in input_ids int[B, T]
    """
    return "\n".join([*_graph(graph, ""), *(_model(graph) if isinstance(graph, Model) else ())]) + "\n"


def _graph(graph: Graph, prefix: str) -> Iterator[str]:
    head = f"{prefix}: " if prefix else ""
    for name, type_ in graph.inputs.items():
        yield f"{head}in {name} {type_}"
    for node in graph.nodes.values():
        yield from _node(node, prefix)
    for name, ref in graph.outputs.items():
        yield f"{head}out {name} = {ref} {graph.type(ref)}"
    if graph.cache:
        yield f"{head}cache {', '.join(map(str, graph.cache))}"


def _node(node: Node, prefix: str) -> Iterator[str]:
    path = join(prefix, node.at)
    yield f"{path}: {line(node)}"
    for name, weight in node.weights.items():
        yield f"{join(path, name)}: {weight.type}" + ("" if weight.trained else " without gradient")
    for numbers, copies in node.numbered():
        yield from _graph(copies.graph, join(path, numbers))


def line(node: Node) -> str:
    """Return one node as text: what it is, what is wired into it, its attributes, its types."""
    types = ", ".join(f"{port} {type_}" for port, type_ in node.outputs.items())
    return f"{node.name} = {node.callee}({wiring(node.sources)}){attributes(node)}{_copies(node)} -> {types}"


def wiring(sources: Mapping[str, Ref]) -> str:
    """Return ports and what is wired into them as text."""
    return ", ".join(f"{port}={ref}" for port, ref in sources.items())


def attributes(node: Node) -> str:
    """Return the attributes of an op as text, defaults included; nothing for a block."""
    found = node.op.model_dump() if node.op else {}
    return " " + shown(found) if found else ""


def _copies(node: Node) -> str:
    if node.mode is Mode.CALL:
        return ""
    roles = ", ".join(f"{port} {role}" for port, role in sorted(node.roles.items()))
    return f" {node.mode} {node.count} from {node.start}{' tied' if node.reused else ''} ({roles})"


def _model(model: Model) -> Iterator[str]:
    for found in model.losses:
        yield loss(found)
    for pattern, init in model.init:
        yield f"init {pattern}: {init}"
    for pattern, trained in model.trained:
        yield f"trained {pattern}: {shown(trained)}"


def loss(found: Loss) -> str:
    """Return one loss as text, its expressions with config names filled in."""
    return f"loss {found.name}: " + " ".join(f"{part} {text}" for part, text in loss_parts(found).items())


def loss_parts(found: Loss) -> dict[str, str]:
    """Return the parts of a loss as text: what is scored against what, shift, divisor, weight, depths."""
    trees = {"shift": found.shift, "stride": found.stride, "divide": found.divide, "weight": found.weight}
    parts: dict[str, str] = {found.kind: found.output or found.routers or ""}
    parts |= {"target": found.target or "", "draft": found.draft or "", "against": found.against or ""}
    parts |= {key: expression(tree) for key, tree in trees.items() if tree is not None}
    parts |= {name: shown(value) for name in CONSTANTS if (value := getattr(found, name)) != _default(name)}
    if found.depths != (0,):
        parts["depths"] = ", ".join(map(str, found.depths)) or "none"
    return {key: text for key, text in parts.items() if text}


def _default(name: str) -> object:
    return Loss.__dataclass_fields__[name].default


def expression(tree: Expr) -> str:
    """Return an expression as text, without the outer brackets."""
    text = LARGE.sub(lambda match: f"{float(match[0]):g}".replace("e+", "e"), to_text(tree))
    return text[1:-1] if text.startswith("(") and tree.op not in ("number", "name", "call") else text
