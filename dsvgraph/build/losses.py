"""The loss lines of a spec: what is scored, against what, and that no head sees its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsvgraph import expr
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import Scope
from dsvgraph.dims import Poly, symbol
from dsvgraph.errors import DsvError, Span, nearest
from dsvgraph.expr import Expr
from dsvgraph.graph import Graph, Loss, Node, Ref, walk
from dsvgraph.patterns import matches
from dsvgraph.spec import Part

KINDS = {
    "cross_entropy": ("target", "shift", "weight", "divide"),
    "sequence_balance": ("weight",),
    "bias_update": ("speed",),
}
OPEN = ("depth", "tokens", "valid", "B", "T")
ONE = Expr("number", (1,))


def build(graph: Graph, lines: Mapping[str, Part], scope: Scope) -> tuple[Loss, ...]:
    """The checked losses; raises DsvError with every mistake, label leaks among them."""
    found, errors = [], []
    for name, part in lines.items():
        try:
            found.append(_line(name, part, graph, scope))
        except DsvError as error:
            errors.append(error)
    if errors:
        raise DsvError.collect(errors)
    return tuple(loss for loss in found if loss is not None)


def _line(name: str, part: Part, graph: Graph, scope: Scope) -> Loss | None:
    raw: dict[str, Any] = part.model
    kind = next(iter(raw), "")
    if not raw:
        raise DsvError(f"`{name}` says nothing", part.key(), hint=f"losses are {', '.join(KINDS)}")
    if kind not in KINDS:
        message, hint = unknown("loss", kind, KINDS)
        raise DsvError(message, part.key(kind) or part.key(), hint=hint)
    for key in list(raw)[1:]:
        if key not in KINDS[kind]:
            message, hint = unknown(f"attribute on `{kind}`", key, KINDS[kind])
            raise DsvError(message, part.key(key), hint=hint)
    if name == "loss":
        raise DsvError("`loss` is the name of the sum; call the line something else", part.key())
    reader = _Reader(part, scope)
    if kind == "cross_entropy":
        return _cross_entropy(name, part, graph, reader)
    _check_routers(raw[kind], graph, part, kind)
    weight = reader.tree("speed" if kind == "bias_update" else "weight", ONE)
    return Loss(name, kind, None, None, weight, None, None, (0,), raw[kind], part.key())


class _Reader:
    """Reads the expressions of one line, config names filled in."""

    def __init__(self, part: Part, scope: Scope) -> None:
        self.part, self.scope, self.raw = part, scope, part.model

    def tree(self, key: str, default: Expr) -> Expr:
        raw = self.raw.get(key)
        if raw is None:
            return default
        span = self.part.value(key)
        try:
            return self._filled(expr.parse(str(raw)) if isinstance(raw, str) else Expr("number", (raw,)), span)
        except ValueError as error:
            raise DsvError(f"`{raw}`: {error}", span) from None

    def _filled(self, tree: Expr, span: Span | None) -> Expr:
        if tree.op == "name":
            return self._name(tree, span)
        return Expr(tree.op, tuple(self._filled(a, span) if isinstance(a, Expr) else a for a in tree.args))

    def _name(self, tree: Expr, span: Span | None) -> Expr:
        name = tree.args[0]
        if name in OPEN:
            return tree
        if name not in self.scope.values:
            hint = nearest(name, [*OPEN, *self.scope.values])
            raise DsvError(f"there is no name `{name}` here", span, hint=hint)
        value = self.scope.values[name]
        if isinstance(value, Poly):
            return tree
        if not isinstance(value, (int, float)):
            raise DsvError(f"`{name}` is `{value}`, a number is expected", span)
        return Expr("number", (value,))


def _cross_entropy(name: str, part: Part, graph: Graph, reader: _Reader) -> Loss | None:
    output, target = part.model["cross_entropy"], part.model.get("target")
    ref = _output(output, graph, part)
    ids = _target(target, graph, part)
    logits, row = graph.type(ref), graph.inputs[ids]
    stacked = logits.rank == row.rank + 2
    if logits.shape[-row.rank - 1 : -1] != row.shape or logits.rank not in (row.rank + 1, row.rank + 2):
        words = f"`{output}` is {logits} and `{ids}` is {row}: logits are [B, T, V] or stacked [D, B, T, V]"
        raise DsvError(words, part.value("cross_entropy"))
    depths = tuple(range(1, _count(graph, ref) + 1)) if stacked else (0,)
    loss = Loss(
        name, "cross_entropy", output, ids, reader.tree("weight", ONE), reader.tree("shift", ONE),
        reader.tree("divide", Expr("name", ("valid",))), depths, None, part.key(),
    )  # fmt: skip
    for depth in depths:
        _check_depth(loss, depth, graph, ref, part)
    return loss


def _output(name: Any, graph: Graph, part: Part) -> Ref:
    if name not in graph.outputs:
        message, hint = unknown("output", str(name), graph.outputs)
        raise DsvError(message, part.value("cross_entropy"), hint=hint)
    return graph.outputs[name]


def _target(name: Any, graph: Graph, part: Part) -> str:
    if name is None:
        raise DsvError("`target` is missing: the input whose tokens are predicted", part.key())
    if name not in graph.inputs:
        message, hint = unknown("input", str(name), graph.inputs)
        raise DsvError(message, part.value("target"), hint=hint)
    return str(name)


def _count(graph: Graph, ref: Ref) -> int:
    """Number of copies behind a stacked output (two where it is symbolic)."""
    return len(_copies(graph, ref))


def _copies(graph: Graph, ref: Ref) -> list[Any]:
    node: Node | None = graph.nodes.get(ref.node)
    return node.copies.get(ref.port, []) if node else []


def number(tree: Expr, **values: float) -> Any:
    """The value of a loss expression with its open names given; others stay symbolic."""
    return expr.evaluate(tree, lambda name: values[name] if name in values else symbol(name))


def _check_depth(loss: Loss, depth: int, graph: Graph, ref: Ref, part: Part) -> None:
    """Raises DsvError where the prediction of ``depth`` has seen its target (a label leak)."""
    try:
        assert loss.shift is not None
        shift = number(loss.shift, depth=depth)
        number(loss.weight, depth=depth, tokens=0)
    except ValueError as error:
        raise DsvError(f"{error} (at depth {depth})", part.value("weight")) from None
    if isinstance(shift, Poly):
        raise DsvError("`shift` must be a number", part.value("shift"))
    if not isinstance(shift, int) or shift < 1:
        raise DsvError(f"`shift` is a whole number of at least 1, found {shift}", part.value("shift"))
    reach = _copies(graph, ref)[depth - 1] if depth else graph.reach_of(ref)
    horizon = reach.horizon(loss.target or "")
    if shift <= horizon:
        raise DsvError(_leak_words(loss, depth, shift, horizon), part.key(), notes=_leak_notes(graph, ref, loss))


def _leak_words(loss: Loss, depth: int, shift: int, horizon: float) -> str:
    which = f"`{loss.output}` at depth {depth}" if depth else f"`{loss.output}`"
    seen = "the whole row" if horizon == float("inf") else f"tokens up to i + {int(horizon)}"
    return f"label leak: {which} predicts token i + {shift}, but at position i it has already seen {seen}"


def _leak_notes(graph: Graph, ref: Ref, loss: Loss) -> list[tuple[str, Span | None]]:
    """The lines that look ahead, in the parts that the output depends on."""
    notes = []
    for name in graph.needed([o for o, r in graph.outputs.items() if r == ref]):
        node = graph.nodes.get(name)
        inner = [node] if node and node.op else [v.node for r in (node.runs if node else ()) for v in walk(r.graph)]
        notes += [("this looks ahead", n.span) for n in inner if n.op and n.op.shift() > 0]
    return list(dict.fromkeys(notes))[:4]


def _check_routers(pattern: Any, graph: Graph, part: Part, kind: str) -> None:
    if not isinstance(pattern, str):
        raise DsvError(f"`{kind}` names routers by a path pattern", part.value(kind))
    routers = [v.path for v in walk(graph) if v.node.op and v.node.op.op == "router"]
    if not any(matches(pattern, path) for path in routers):
        raise DsvError(f"no router matches `{pattern}`", part.value(kind), hint=nearest(pattern, routers))
