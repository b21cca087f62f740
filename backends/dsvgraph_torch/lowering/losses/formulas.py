"""Formulas of the losses in the emitted file.

Every operator and function in a weight, a shift or a divisor has its own in Python.
"""

from __future__ import annotations

import ast
from typing import Any

from dsvgraph.build.losses.schedules import has_value
from dsvgraph.expr import Expr
from dsvgraph.graph import Loss
from dsvgraph_torch.lowering.names import where
from dsvgraph_torch.lowering.source import expression, literal, path

FUNCTIONS = {
    "min": "min", "max": "max", "abs": "abs", "int": "int", "sqrt": "math.sqrt", "log": "math.log",
    "exp": "math.exp", "cos": "math.cos", "floor": "math.floor", "ceil": "math.ceil",
}  # fmt: skip
OPERATORS = {
    **{sign: f"a {sign} b" for sign in ("+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=")},
    "neg": "-a", "pos": "+a", "not": "not a", "if": "a if b else c", "and": "a and b", "or": "a or b",
}  # fmt: skip
TIMES = {"tokens": "self.tokens_seen", "step": "self.steps_taken"}
TRUTHS = {"<", "<=", ">", ">=", "==", "!=", "not", "and", "or"}


def formula(loss: Loss, key: str) -> ast.expr:
    """Return the ``weight``, ``speed`` or ``divide`` of a loss line, checked while it runs if it may have no value."""
    tree = loss.divide if key == "divide" else loss.weight
    assert tree is not None
    value = arithmetic(tree)
    if has_value(key, tree, loss.depths):
        return value
    words = f"`{key}` of `{loss.name}`{f' ({where(loss.span)})' if loss.span else ''}"
    more = {"positive": True} if key == "divide" else {}
    return expression("real(lambda: value, words, self.tokens_seen, **more)", value=value, words=words, more=more)


def arithmetic(tree: Expr) -> ast.expr:
    """Return an expression of a loss line, its config values filled in, as it stands in the emitted file."""
    if tree.op == "number":
        return literal(tree.args[0])
    if tree.op == "name":
        return path(TIMES.get(tree.args[0], tree.args[0]))
    if tree.op == "call":
        return expression("f(*args)", f=path(FUNCTIONS[tree.args[0]]), args=[arithmetic(a) for a in tree.args[1:]])
    operands: list[Any] = [arithmetic(a) for a in tree.args]
    if tree.op in ("and", "or"):  # truths, where Python gives an operand
        operands = [o if _is_truth(a) else expression("bool(a)", a=o) for a, o in zip(tree.args, operands, strict=True)]
    return expression(OPERATORS[tree.op], **dict(zip("abc", operands, strict=False)))


def _is_truth(tree: Expr) -> bool:
    return tree.op in TRUTHS or (tree.op == "number" and isinstance(tree.args[0], bool))
