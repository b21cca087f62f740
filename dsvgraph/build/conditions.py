"""Attributes that are conditions or expressions, such as the mask of an attention: text, config values filled in."""

from __future__ import annotations

from typing import Any

from dsvgraph import expr
from dsvgraph.build.scope import Scope, Word
from dsvgraph.codes import Code
from dsvgraph.dims import Poly
from dsvgraph.errors import DsvError, Span
from dsvgraph.expr import Expr
from dsvgraph.types import shown


def condition(key: str, raw: Any, names: tuple[str, ...], scope: Scope, span: Span | None) -> str | None:
    """Return a condition, or an expression, in which all names but ``names`` have their values; None for none.

    Raise DsvError where it is no expression, or reads what has no value.
    """
    if raw is None:
        return None
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        words = f"`{key}` is an expression of {' and '.join(names)}, found `{shown(raw)}`"
        raise DsvError(words, span, code=Code.BAD_VALUE)
    try:
        tree = expr.parse(raw)
    except ValueError as error:
        raise DsvError.of(error, span, Code.NO_ARITHMETIC, f"`{raw}`: ") from None
    for name in sorted(tree.names()):
        _check_name(key, name, names, scope, span)
    return expr.to_text(_filled(tree, names, scope, span))


def _check_name(key: str, name: str, names: tuple[str, ...], scope: Scope, span: Span | None) -> None:
    if name in names and name in scope.values:
        words = f"`{name}` is a value here, and `{key}` gives it another meaning"
        raise DsvError(words, span, code=Code.BAD_VALUE, notes=scope.origins(name), hint="give the value another name")
    if name not in names and name not in scope.values:
        hint = scope.near(Word(name)) or f"`{key}` reads {', '.join(names)} and values"
        raise DsvError(f"there is no name `{name}` here", span, code=Code.NO_VALUE, hint=hint)


def _filled(tree: Expr, names: tuple[str, ...], scope: Scope, span: Span | None) -> Expr:
    if tree.names() & {*names}:
        return Expr(tree.op, tuple(_filled(a, names, scope, span) if isinstance(a, Expr) else a for a in tree.args))
    try:
        value = expr.evaluate(tree, scope.number)
    except ValueError as error:
        raise DsvError.of(error, span, Code.NO_RESULT, f"`{expr.to_text(tree)}`: ") from None
    if isinstance(value, Poly):
        words = f"`{expr.to_text(tree)}` depends on what is known only when the model runs"
        raise DsvError(words, span, code=Code.TOO_LATE)
    return Expr("number", (value,))
