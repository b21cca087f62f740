"""Nodes of lines that stand once: an op with its types, or the call of a block."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dsvgraph.build import attributes, horizons, mismatches
from dsvgraph.build.checks import modules, rules
from dsvgraph.build.context import Context
from dsvgraph.build.line import Line
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Fault
from dsvgraph.graph import Copies, Node, Ref
from dsvgraph.ops import OPS, Op
from dsvgraph.ops.interleaving import SeparateTokens
from dsvgraph.types import Interleaving, Type

MAX_AXES = 8


def of_op(context: Context, line: Line) -> Node:
    """Return the node of a line that is an op; raise DsvError if its attributes or inputs do not fit."""
    cls = OPS[line.callee]
    sources = context.wire(line, list(cls.ports), cls.variadic)
    op, tied = attributes.read(context, line, context.scope)
    ins = {p: context.graph.type(r) for p, r in sources.items()}
    node = Node(
        name=line.name, callee=line.callee, at=line.at, inputs=sources, input_types=ins, outputs={}, op=op, tied=tied,
        span=line.span,
    )  # fmt: skip
    finish_op(context, node, {p: context.graph.type(r) for p, r in tied.items()}, line)
    horizons.of_op(context.graph, node)
    return node


def finish_op(context: Context, node: Node, tied: dict[str, Type], line: Line) -> None:
    """Set the types of the outputs and weights of an op; raise DsvError if shapes do not fit."""
    op, known = node.op, {**node.input_types, **tied}
    assert op is not None
    try:
        weights = op.weights(known)
        rules.check_countable(weights)
        rules.check_tied(op, weights, tied)
        modules.check_alone(op, node, weights)
        outputs = op.outputs(known)
        rules.check_positions(op, node.input_types, weights, context.state.positions, context.state.lengths)
        order = _order(context, op, node)
        places = rules.interleaving(op, node.input_types)
        places = None if isinstance(op, SeparateTokens) else places
    except ValueError as error:
        raise mismatches.error_of(context, error, node, line) from None
    for type_ in outputs.values():
        if type_.rank > MAX_AXES:
            raise DsvError(f"a value has at most {MAX_AXES} axes, found {type_}", line.span, code=Code.AXES)
    node.outputs = {port: _placed(replace(type_, order=order), places) for port, type_ in outputs.items()}
    node.weights = {n: w for n, w in weights.items() if n not in tied}


def _placed(type_: Type, places: Interleaving | None) -> Type:
    """Return the type of an output, whose rows have the inserted tokens ``places`` of the inputs'."""
    if places is None or type_.interleaving or not (type_.order or places.length in type_.shape):
        return type_
    return replace(type_, interleaving=places)


def _order(context: Context, op: Op, node: Node) -> str:
    """Return the order of the rows of the outputs; raise ValueError if rows of two orders meet."""
    sorts, unsorts = op.positions.sorts, op.positions.unsorts
    orders = {port: type_.order for port, type_ in node.input_types.items()}
    if unsorts and orders.pop(op.ports[0]) != _token(context, node.inputs[unsorts]):
        words = "was not sent by this index, in this body"
        raise Fault(Code.ROW_ORDER, f"the rows of `{op.ports[0]}` cannot be brought back: it {words}")
    if len(set(orders.values())) > 1 or ((sorts or unsorts) and any(orders.values())):
        raise Fault(Code.ROW_ORDER, "rows sorted by expert meet rows in another order")
    if sorts:
        _check_experts(context, op, node.inputs[sorts])
        return _token(context, node.inputs[sorts])
    return "" if unsorts else next(iter(orders.values()), "")


def _check_experts(context: Context, op: Op, index: Ref) -> None:
    """Raise ValueError if the router that made an index chooses among another number of experts."""
    maker = context.graph.nodes.get(index.node)
    chosen, here = getattr(maker and maker.op, "experts", None), getattr(op, "experts", None)
    if chosen is not None and chosen != here:
        raise Fault(
            Code.INDIVISIBLE,
            f"`{index.node}` chooses among {chosen} experts, here are {here}",
            about=[chosen, here],
        )


def _token(context: Context, index: Ref) -> str:
    """Return the name of the order that sorting by ``index`` gives, unique among the bodies that are being built."""
    return f"{len(context.state.stack)}:{index}"


def of_call(context: Context, line: Line) -> Node:
    """Return the node of a line that calls a block; raise DsvError if its arguments or inputs do not fit."""
    part = context.state.library.blocks[line.callee]
    sources = context.wire(line, list(part.model.inputs))
    ins = {p: context.graph.type(r) for p, r in sources.items()}
    wired = partial(mismatches.notes, context, sources)
    inner = context.state.call(line, context.given(line, context.scope), ins, context.scope, wired)
    node = Node(
        name=line.name, callee=line.callee, at=line.at, inputs=sources, input_types=ins, outputs={},
        copies=(Copies(inner, 1),), span=line.span,
    )  # fmt: skip
    node.outputs = {o: inner.type(r) for o, r in inner.outputs.items()}
    horizons.of_call(context.graph, node)
    return node
