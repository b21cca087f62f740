"""Bounds of an expression over ranges of its open names: a proof that it has a value wherever they lie in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from dsvgraph.expr.syntax import COMPARISONS, MAX_MAGNITUDE, Expr

Range = tuple[float, float]
LARGEST = MAX_MAGNITUDE * 1.000001  # as rounded here
WHOLE = 2.0**53  # beyond, neighbouring whole numbers are equal


class Unproved(Exception):
    """Somewhere in the ranges there may be no value."""


def bounds(tree: Expr, ranges: Mapping[str, Range]) -> Range | None:
    """Return the least and the largest value of ``tree``, never too narrow; None where it may have none somewhere.

    No operation is proved to have a value that divides by what may be zero, takes a root or a logarithm of what may
    be negative, or may exceed the largest magnitude of the language.

    >>> from dsvgraph.expr import parse
    >>> bounds(parse("1 / (1 + tokens)"), {"tokens": (0, 9)}), bounds(parse("1 / (tokens - 4)"), {"tokens": (0, 9)})
    ((0.1, 1.0), None)
    """
    try:
        return _of(tree, ranges)
    except (Unproved, OverflowError):
        return None


def _of(tree: Expr, ranges: Mapping[str, Range]) -> Range:
    if tree.op == "name":
        if tree.args[0] not in ranges:
            raise Unproved
        return ranges[tree.args[0]]
    if tree.op == "number":
        value = tree.args[0]
        if not isinstance(value, (int, float)):
            raise Unproved
        return float(value), float(value)
    operation = tree.args[0] if tree.op == "call" else tree.op
    operands = [_of(a, ranges) for a in tree.args if isinstance(a, Expr)]
    low, high = RULES[operation](*operands)
    if not -LARGEST <= low <= high <= LARGEST:
        raise Unproved
    return low, high


def _corners(function: Callable[[float, float], float]) -> Callable[[Range, Range], Range]:
    """Return the bounds of what is monotonic in both operands."""

    def apply(a: Range, b: Range) -> Range:
        found = [function(x, y) for x in a for y in b]
        return min(found), max(found)

    return apply


def _apart(b: Range) -> None:
    """Raise Unproved if a divisor may be zero."""
    if b[0] <= 0 <= b[1]:
        raise Unproved


def _divided(a: Range, b: Range) -> Range:
    _apart(b)
    return _corners(lambda x, y: x / y)(a, b)


def _floored(a: Range, b: Range) -> Range:
    low, high = _divided(a, b)
    return math.floor(low) - 1, math.floor(high) + 1  # a quotient that is whole but for rounding goes either way


def _remainder(a: Range, b: Range) -> Range:
    _apart(b)
    return min(b[0], 0.0), max(b[1], 0.0)


def _power(a: Range, b: Range) -> Range:
    if max(map(abs, b)) > 64:
        raise Unproved
    if a[0] > 0 or (a[0] >= 0 and b[0] >= 0):
        return _corners(lambda x, y: x**y)(a, b)
    if b[0] != b[1] or b[0] < 0 or b[0] != int(b[0]):
        raise Unproved
    most = max(map(abs, a)) ** b[0]
    return -most, most


def _increasing(function: Callable[[float], float], least: float = -math.inf) -> Callable[[Range], Range]:
    """Return the bounds of a function that grows and has values from ``least`` on."""

    def apply(a: Range) -> Range:
        if a[0] < least:
            raise Unproved
        return function(a[0]), function(a[1])

    return apply


def _whole(a: Range) -> Range:
    if max(map(abs, a)) > WHOLE:
        raise Unproved
    return math.floor(a[0]), math.ceil(a[1])


def _absolute(a: Range) -> Range:
    return 0.0 if a[0] <= 0 <= a[1] else min(map(abs, a)), max(map(abs, a))


TRUTH: Range = (0.0, 1.0)
RULES: dict[str, Callable[..., Range]] = {
    "+": _corners(lambda x, y: x + y),
    "-": _corners(lambda x, y: x - y),
    "*": _corners(lambda x, y: x * y),
    "/": _divided,
    "//": _floored,
    "%": _remainder,
    "**": _power,
    "neg": lambda a: (-a[1], -a[0]),
    "pos": lambda a: a,
    "not": lambda a: TRUTH,
    "and": lambda a, b: TRUTH,
    "or": lambda a, b: TRUTH,
    "if": lambda a, test, b: (min(a[0], b[0]), max(a[1], b[1])),
    **dict.fromkeys(COMPARISONS, lambda a, b: TRUTH),
    "min": lambda *all_: (min(a[0] for a in all_), min(a[1] for a in all_)),
    "max": lambda *all_: (max(a[0] for a in all_), max(a[1] for a in all_)),
    "abs": _absolute,
    "sqrt": _increasing(math.sqrt, 0.0),
    "log": _increasing(math.log, 5e-324),
    "exp": _increasing(math.exp),
    "cos": lambda a: (-1.0, 1.0),
    "floor": _whole,
    "ceil": _whole,
    "int": _whole,
}
