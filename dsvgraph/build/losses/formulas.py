"""Weights, shifts and divisors of losses: expressions that stay open in what training will know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsvgraph import expr
from dsvgraph.build.losses.schedules import TIMES, has_value, samples
from dsvgraph.build.scope import Scope, Word
from dsvgraph.codes import Code
from dsvgraph.dims import Poly, symbol
from dsvgraph.errors import DsvError, Fault, Span
from dsvgraph.expr import Expr
from dsvgraph.graph import LossKind
from dsvgraph.names import listed, nearest
from dsvgraph.spec import SpecPart
from dsvgraph.types import shown

OPEN = {  # names that a formula may read beside those of the config
    "weight": ("depth", "tokens", "step"),
    "speed": ("tokens", "step"),
    "shift": ("depth",),
    "stride": (),
    "divide": ("depth", "valid", "B", "T"),
}
EVERYWHERE = "a schedule has a value for every number of tokens and steps up to 10**15: bound it with min, max or if"
DEFAULT = {"weight": 1, "speed": 1, "shift": 1, "stride": 1, "divide": "valid"}


def number(tree: Expr, **values: float) -> Any:
    """Return the value of a loss expression with its open names given; others stay symbolic."""
    return expr.evaluate(tree, lambda name: values[name] if name in values else symbol(name))


@dataclass(frozen=True, kw_only=True)
class Formula:
    """One expression of a loss line: ``tree`` with config values filled in, ``raw`` as written."""

    key: str
    tree: Expr
    raw: Expr
    span: Span | None
    scope: Scope

    def check(self, values: Mapping[str, float]) -> Any:
        """Return the value with ``values`` for the open names; raise DsvError if it is no number."""
        where = self._where(values)
        if "depth" in self.raw.names() - values.keys():
            words = "`depth` counts the pieces of a stacked output, and this one is not stacked"
            raise DsvError(words, self.span, code=Code.LOSS_NUMBER)
        try:
            found = expr.evaluate(self.raw, lambda name: values[name] if name in values else self.scope.number(name))
        except ValueError as error:
            hint = EVERYWHERE if any(values.get(name) for name in TIMES) else ""
            raise DsvError.of(error, self.span, Code.LOSS_NUMBER, f"`{self.key}`: ", after=where, hint=hint) from None
        if isinstance(found, bool) or not isinstance(found, (int, float, Poly)):
            raise DsvError(f"`{self.key}` is a number, found `{shown(found)}`{where}", self.span, code=Code.LOSS_NUMBER)
        if self.key == "divide" and not isinstance(found, Poly) and found <= 0:
            raise DsvError(f"`divide` must be above zero, found {found}{where}", self.span, code=Code.LOSS_NUMBER)
        return found

    def check_schedule(self, at: Mapping[str, float]) -> None:
        """Raise DsvError if the formula is found to have no value at some number of tokens."""
        start = {**at, **dict.fromkeys(TIMES, 0)}
        self.check(start)
        if not has_value(self.key, self.tree, (int(at.get("depth", 1)),)):
            for name in sorted(TIMES & self.tree.names()):
                for count in samples(self.tree, name, start):
                    self.check({**start, name: count})

    def _where(self, values: Mapping[str, float]) -> str:
        """For a message: which depth and which number of tokens is spoken of."""
        read = self.raw.names() & values.keys()
        depth = [f"depth {values['depth']}"] if values.get("depth") else []
        tokens = [f"{values['tokens']:,} tokens"] if "tokens" in read else []
        step = [f"step {values['step']:,}"] if "step" in read else []
        return f" (at {', '.join(depth + tokens + step)})" if depth or tokens or step else ""


def read(key: str, part: SpecPart, scope: Scope, kind: LossKind) -> Formula:
    """Return the formula ``key`` of a loss line, or its default."""
    raw, span = part.model.get(key), part.value(key)
    default = 0 if key == "shift" and kind.compares else DEFAULT[key]
    raw = default if raw is None else raw
    if isinstance(raw, (list, dict)):
        raise DsvError(f"`{key}` is a number or an expression, found `{shown(raw)}`", span, code=Code.LOSS_NUMBER)
    try:
        tree = expr.parse(raw) if isinstance(raw, str) else Expr("number", (raw,))
    except ValueError as error:
        raise DsvError.of(error, span, Code.NO_ARITHMETIC, f"`{raw}`: ", hint=scope.near(Word(raw))) from None
    for name in sorted(tree.names()):
        _check_name(name, key, scope, span)
    filled = _filled(tree, OPEN[key], scope, span)
    return Formula(key=key, tree=filled, raw=tree, span=span, scope=scope)


def _check_name(name: str, key: str, scope: Scope, span: Span | None) -> None:
    everywhere = {n for names in OPEN.values() for n in names}
    if name in OPEN[key] and name in scope.values:
        words = f"`{name}` is a config value, and in a loss it has a meaning of its own"
        raise DsvError(
            words, span, code=Code.LOSS_NUMBER, notes=scope.origins(name), hint="give the config value another name"
        )
    if name in everywhere and name not in OPEN[key] and name not in scope.values:
        words = (
            f"`{key}` cannot depend on `{name}`, only on {', '.join(OPEN[key])}{' and ' if OPEN[key] else ''}the config"
        )
        raise DsvError(words, span, code=Code.LOSS_NUMBER)
    if name not in OPEN[key] and name not in scope.values:
        known = [*OPEN[key], *scope.values]
        hint = nearest(name, known) or f"there are: {listed(known, 6)}"
        raise DsvError(f"there is no name `{name}` here", span, code=Code.NO_VALUE, hint=hint)


def _filled(tree: Expr, free: tuple[str, ...], scope: Scope, span: Span | None) -> Expr:
    """``tree`` with config values in place of their names."""
    if tree.op in ("name", "field", "item") and not tree.names() & {*free}:
        return _constant(tree, scope, span)
    if tree.op == "item":
        return _chosen(tree, free, scope, span)
    return Expr(tree.op, tuple(_filled(a, free, scope, span) if isinstance(a, Expr) else a for a in tree.args))


def _constant(tree: Expr, scope: Scope, span: Span | None) -> Expr:
    try:
        value = expr.evaluate(tree, scope.number)
    except ValueError as error:
        raise DsvError.of(error, span, Code.NO_RESULT, f"`{expr.to_text(tree)}`: ") from None
    if isinstance(value, Poly):
        return tree
    if not isinstance(value, (int, float)):
        raw = tree.args[0] if tree.op == "name" else None
        fault = Fault(Code.BAD_VALUE, f"a number is expected, found `{shown(value)}`")
        raise scope.fault(raw, None, span, fault, "a number")
    return Expr("number", (value,))


def _chosen(tree: Expr, free: tuple[str, ...], scope: Scope, span: Span | None) -> Expr:
    """Return an item of a config list by a number that is open: a choice among its items."""
    items = expr.evaluate(tree.args[0], scope.number) if not tree.args[0].names() & {*free} else None
    if not isinstance(items, list) or not items or not all(isinstance(i, (int, float)) for i in items):
        raise DsvError(f"`{expr.to_text(tree.args[0])}` is no list of numbers", span, code=Code.LOSS_NUMBER)
    index = _filled(tree.args[1], free, scope, span)
    chosen = Expr("number", (items[-1],))
    for i, item in reversed(list(enumerate(items[:-1]))):
        chosen = Expr("if", (Expr("number", (item,)), Expr("==", (index, Expr("number", (i,)))), chosen))
    return chosen
