"""Masks of attention as conditions on the positions `query` and `key`, and how far ahead they let a query look.

The answer is exact. A position is a multiple of a period, in which all divisors of the mask are contained, and a rest.
For fixed rests every comparison bounds one multiple or the difference of the two, so that a mask is a union of boxes
with a bound on the difference, of which the largest difference can be read off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import product
from typing import NamedTuple

from dsvgraph import expr
from dsvgraph.codes import Code
from dsvgraph.errors import Fault
from dsvgraph.expr import Expr

NAMES = ("query", "key")
MAX_PERIOD, MAX_BOXES, MAX_NUMBER = 64, 64, 10**6
MIRRORED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
ARITHMETIC = ("+", "-", "*", "//", "%", "neg", "pos")


class Linear(NamedTuple):
    """a * (multiple of the query) + b * (multiple of the key) + c."""

    a: int
    b: int
    c: int


@dataclass(frozen=True)
class Box:
    """Bounds, both included, of the query's multiple, the key's, and the key's less the query's."""

    query: tuple[float, float] = (0, math.inf)
    key: tuple[float, float] = (0, math.inf)
    ahead: tuple[float, float] = (-math.inf, math.inf)

    def meet(self, other: Box) -> Box:
        """Return the box of what lies in both."""
        pairs = ((self.query, other.query), (self.key, other.key), (self.ahead, other.ahead))
        return Box(*((max(x[0], y[0]), min(x[1], y[1])) for x, y in pairs))

    def furthest(self) -> float:
        """Return the largest difference in the box; -inf if it is empty."""
        low = max(self.ahead[0], self.key[0] - self.query[1])
        high = min(self.ahead[1], self.key[1] - self.query[0])
        empty = any(x[0] > x[1] for x in (self.query, self.key))
        return -math.inf if empty or low > high else high


ALL = (Box(),)


def parse(text: str) -> Expr:
    """Return the tree of a mask. Raise ValueError if it is no condition on the positions of a query and a key."""
    tree = expr.parse(text)
    _check_condition(tree)
    return tree


def _check_condition(tree: Expr) -> None:
    if tree.op in ("and", "or", "not"):
        for part in tree.args:
            _check_condition(part)
    elif tree.op in MIRRORED:
        for part in tree.args:
            _check_number(part)
    else:
        raise Fault(Code.BAD_VALUE, f"a mask is a condition such as `query - key < 8`, found `{expr.to_text(tree)}`")


def _check_number(tree: Expr) -> None:
    if tree.op == "number":
        value = tree.args[0]
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_NUMBER:
            raise Fault(Code.BAD_VALUE, f"numbers of a mask are whole, at most {MAX_NUMBER:,}, found `{value}`")
    elif tree.op == "name":
        if tree.args[0] not in NAMES:
            raise Fault(Code.NO_VALUE, f"a mask reads {' and '.join(NAMES)}, found `{tree.args[0]}`")
    elif tree.op in ARITHMETIC:
        if tree.op in ("//", "%") and not (tree.args[1].op == "number" and tree.args[1].args[0] >= 1):
            raise Fault(Code.BAD_VALUE, f"positions are divided by a number above zero: `{expr.to_text(tree)}`")
        for part in tree.args:
            _check_number(part)
    else:
        raise Fault(Code.BAD_VALUE, f"a mask has no `{expr.to_text(tree)}`: it has + - * // % and comparisons")


@lru_cache(maxsize=256)
def horizon(text: str, lanes: int = 1) -> float:
    """Return how many positions ahead of its own a query sees at most, infinite where there is no bound.

    Where ``lanes`` positions are one token, tokens are counted. Raise ValueError if a mask compares positions in a way
    of which that is not decided, and if it hides all keys.
    """
    tree = parse(text)
    period, furthest = _period(tree, lanes), -math.inf
    for query, key in product(range(period), repeat=2):
        ahead = _furthest(period, query, key, tree)
        furthest = max(furthest, period // lanes * ahead + key // lanes - query // lanes)
    if furthest == -math.inf:
        raise Fault(Code.BAD_VALUE, "the mask hides every key from every query")
    return furthest


@lru_cache(maxsize=256)
def lanes_alone(text: str, lanes: int) -> bool:
    """Return whether the first of every ``lanes`` positions see each other as if there were no others: up to their own
    all, and nothing else."""
    tree = parse(text)
    period = _period(tree, lanes)
    causal = expr.parse("key <= query")
    for query, key in product(range(0, period, lanes), range(period)):
        seen = _furthest(period, query, key, tree) > -math.inf
        hidden = _furthest(period, query, key, Expr("and", (causal, Expr("not", (tree,))))) > -math.inf
        ahead = _furthest(period, query, key, Expr("and", (tree, Expr("not", (causal,))))) > -math.inf
        if seen if key % lanes else hidden or ahead:
            return False
    return True


def _period(tree: Expr, lanes: int) -> int:
    """Return a number of positions after which the divisors of a mask, and lanes, begin anew."""
    period = reduce(lambda a, b: a * b, sorted({*_divisors(tree), lanes}), 1)
    if period > MAX_PERIOD:
        raise Fault(Code.NUMBER_LIMIT, f"the divisors of a mask multiply to at most {MAX_PERIOD}, found {period}")
    return period


def _furthest(period: int, query: int, key: int, tree: Expr) -> float:
    """Return how many multiples of the period a query sees ahead, of positions with two rests; -inf for no key."""
    boxes = _Region(period, query, key).of(tree, True)
    return max((box.furthest() for box in boxes), default=-math.inf)


def _divisors(tree: Expr) -> Iterator[int]:
    if tree.op in ("//", "%"):
        yield tree.args[1].args[0]
    for part in tree.args:
        if isinstance(part, Expr):
            yield from _divisors(part)


@dataclass(frozen=True)
class _Region:
    """What a mask lets through, of positions with two fixed rests: query = period * a + r, key = period * b + s."""

    period: int
    query: int
    key: int

    def of(self, tree: Expr, wanted: bool) -> tuple[Box, ...]:
        """Return the boxes where a condition is ``wanted``: they may overlap."""
        if tree.op == "not":
            return self.of(tree.args[0], not wanted)
        if tree.op not in ("and", "or"):
            return self.compared(tree.op if wanted else MIRRORED[tree.op], *map(self.linear, tree.args))
        left, right = (self.of(part, wanted) for part in tree.args)
        if (tree.op == "or") == wanted:
            return _few(dict.fromkeys([*left, *right]))
        met = (x.meet(y) for x, y in product(left, right))
        return _few(dict.fromkeys(box for box in met if box.furthest() > -math.inf))

    def compared(self, sign: str, left: Linear, right: Linear) -> tuple[Box, ...]:
        """Return the boxes of ``left sign right``."""
        a, b, c = (x - y for x, y in zip(left, right, strict=True))
        if not (a or b):
            true = {"<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0, "==": c == 0, "!=": c != 0}[sign]
            return ALL if true else ()
        if a and b and a + b:
            words = "a mask compares positions with numbers, or by their difference: of another comparison it is not "
            raise Fault(Code.BAD_VALUE, f"{words}decided how far ahead a query sees")
        field, factor = ("ahead", b) if a and b else ("query", a) if a else ("key", b)
        return tuple(replace(Box(), **{field: _inside(bounds, field)}) for bounds in _bounds(sign, factor, c))

    def linear(self, tree: Expr) -> Linear:
        """Return a number of the mask in terms of the two multiples. Raise ValueError if it is not linear in them."""
        if tree.op == "number":
            return Linear(0, 0, tree.args[0])
        if tree.op == "name":
            known = {"query": Linear(self.period, 0, self.query), "key": Linear(0, self.period, self.key)}
            return known[tree.args[0]]
        parts = [self.linear(part) for part in tree.args]
        if tree.op in ("neg", "pos"):
            return Linear(*(-x if tree.op == "neg" else x for x in parts[0]))
        x, y = parts
        if tree.op in ("+", "-"):
            sign = 1 if tree.op == "+" else -1
            return Linear(*(p + sign * q for p, q in zip(x, y, strict=True)))
        if tree.op == "*":
            return _times(x, y, tree)
        by = y.c
        if x.a % by or x.b % by:
            raise Fault(Code.BAD_VALUE, f"of `{expr.to_text(tree)}` it is not decided how far ahead a query sees")
        return Linear(x.a // by, x.b // by, x.c // by) if tree.op == "//" else Linear(0, 0, x.c % by)


def _times(x: Linear, y: Linear, tree: Expr) -> Linear:
    number, other = (x, y) if not (x.a or x.b) else (y, x)
    if number.a or number.b:
        raise Fault(Code.BAD_VALUE, f"`{expr.to_text(tree)}` multiplies two positions")
    return Linear(*(number.c * p for p in other))


def _bounds(sign: str, factor: int, c: int) -> Iterator[tuple[float, float]]:
    """Yield the whole numbers x, from and to, of which ``factor * x + c`` stands to zero as ``sign`` says."""
    sign = sign if factor > 0 else {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(sign, sign)
    below, above = -(c // factor) - (c % factor != 0), -(c // factor)  # the last x below the root or on it, the first
    whole = c % factor == 0
    if sign in ("<", "!="):
        yield -math.inf, below - whole
    if sign == "<=":
        yield -math.inf, below
    if sign in (">", "!="):
        yield above + whole, math.inf
    if sign == ">=":
        yield above, math.inf
    if sign == "==" and whole:
        yield above, above


def _inside(bounds: tuple[float, float], field: str) -> tuple[float, float]:
    return bounds if field == "ahead" else (max(0, bounds[0]), bounds[1])


def _few(boxes: dict[Box, None]) -> tuple[Box, ...]:
    if len(boxes) > MAX_BOXES:
        raise Fault(Code.NUMBER_LIMIT, f"a mask has at most {MAX_BOXES} cases")
    return tuple(boxes)
