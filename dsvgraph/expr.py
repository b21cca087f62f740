"""Arithmetic in specs: a small language of its own, parsed here and never evaluated as Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from dsvgraph import dims
from dsvgraph.dims import Poly

MAX_LENGTH = 1000  # characters of one expression
MAX_DEPTH = 50  # nested parentheses and operators
MAX_MAGNITUDE = 10**30
MAX_POWER = 64

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "cos": math.cos,
    "floor": math.floor,
    "ceil": math.ceil,
    "int": int,
}


@dataclass(frozen=True)
class Expr:
    """A node of the syntax tree: an operator and its operands."""

    op: str
    args: tuple[Any, ...]

    def names(self) -> frozenset[str]:
        """The names that the expression reads."""
        if self.op == "name":
            return frozenset([self.args[0]])
        return frozenset(n for a in self.args if isinstance(a, Expr) for n in a.names())


TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<op>\*\*|//|<=|>=|==|!=|[-+*/%()<>,.\[\]]))",
    re.ASCII,
)
WORDS = {"if", "else", "and", "or", "not", "true", "false", "null"}
BINDING = {
    "or": 1,
    "and": 2,
    "<": 4,
    "<=": 4,
    ">": 4,
    ">=": 4,
    "==": 4,
    "!=": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "//": 6,
    "%": 6,
}
UNARY, POWER = 7, 8


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """The syntax tree of ``text``; raises ValueError where it is no expression."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"an expression has at most {MAX_LENGTH} characters, this one has {len(text)}")
    parser = _Parser(_tokens(text))
    tree = parser.conditional(0)
    if parser.peek() != "":
        raise ValueError(f"`{parser.peek()}` is not expected here")
    return tree


def is_expression(text: str) -> bool:
    """Whether ``text`` is an expression of the language."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise ValueError(f"`{text[at:].strip()[:20]}` is not arithmetic")
        kind = match.lastgroup or "op"
        tokens.append((kind, match.group(kind)))
        at = match.end()
    return tokens


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise ValueError(f"the expression ends where `{wanted or 'a value'}` is expected")
        kind, text = self.tokens[self.at]
        if wanted and text != wanted:
            raise ValueError(f"expected `{wanted}`, found `{text}`")
        self.at += 1
        return kind, text

    def conditional(self, depth: int) -> Expr:
        value = self.binary(0, depth)
        if self.peek() != "if":
            return value
        self.take()
        test = self.binary(0, depth)
        self.take("else")
        return Expr("if", (value, test, self.conditional(depth + 1)))

    def binary(self, least: int, depth: int) -> Expr:
        if depth > MAX_DEPTH:
            raise ValueError(f"an expression nests at most {MAX_DEPTH} deep")
        left = self.unary(depth)
        while (strength := BINDING.get(self.peek(), -1)) > least:
            op = self.take()[1]
            left = Expr(op, (left, self.binary(strength, depth + 1)))
        return left

    def unary(self, depth: int) -> Expr:
        if self.peek() in ("-", "+"):
            op = self.take()[1]
            return Expr("neg" if op == "-" else "pos", (self.binary(UNARY - 1, depth + 1),))
        if self.peek() == "not":
            self.take()
            return Expr("not", (self.binary(3, depth + 1),))
        return self.power(depth)

    def power(self, depth: int) -> Expr:
        base = self.postfix(depth)
        if self.peek() != "**":
            return base
        self.take()
        if depth > MAX_DEPTH:
            raise ValueError(f"an expression nests at most {MAX_DEPTH} deep")
        return Expr("**", (base, self.unary(depth + 1)))

    def postfix(self, depth: int) -> Expr:
        value = self.atom(depth)
        while self.peek() in (".", "["):
            if self.take()[1] == ".":
                value = Expr("field", (value, self.take()[1]))
            else:
                value = Expr("item", (value, self.conditional(depth + 1)))
                self.take("]")
        return value

    def atom(self, depth: int) -> Expr:
        kind, text = self.take()
        if kind == "number":
            return Expr("number", (_number(text),))
        if text == "(":
            inner = self.conditional(depth + 1)
            self.take(")")
            return inner
        if text in ("true", "false", "null"):
            return Expr("number", ({"true": True, "false": False, "null": None}[text],))
        if kind != "name" or text in WORDS:
            raise ValueError(f"a value is expected, found `{text}`")
        return self.call(text, depth) if self.peek() == "(" else Expr("name", (text,))

    def call(self, function: str, depth: int) -> Expr:
        if function not in FUNCTIONS:
            raise ValueError(f"there is no function `{function}`; there are {', '.join(FUNCTIONS)}")
        self.take("(")
        arguments = [self.conditional(depth + 1)]
        while self.peek() == ",":
            self.take()
            arguments.append(self.conditional(depth + 1))
        self.take(")")
        return Expr("call", (function, *arguments))


def _number(text: str) -> int | float:
    if text.isdigit():
        if len(text) > 40:
            raise ValueError(f"a number has at most 40 digits, this one has {len(text)}")
        return int(text)
    return float(text)


def evaluate(tree: Expr, lookup: Callable[[str], Any]) -> Any:
    """The value of ``tree``, names answered by ``lookup``; raises ValueError in plain words."""
    if tree.op == "number":
        return tree.args[0]
    if tree.op == "name":
        return lookup(tree.args[0])
    if tree.op == "if":
        value, test, other = tree.args
        return evaluate(value if _truth(evaluate(test, lookup)) else other, lookup)
    if tree.op in ("field", "item"):
        return _member(evaluate(tree.args[0], lookup), tree, lookup)
    if tree.op in ("and", "or"):
        left = _truth(evaluate(tree.args[0], lookup))
        return left if left == (tree.op == "or") else _truth(evaluate(tree.args[1], lookup))
    function = [tree.args[0]] if tree.op == "call" else []
    operands = [evaluate(a, lookup) for a in tree.args[len(function) :]]
    return _apply(function[0] if function else tree.op, operands)


def _truth(value: Any) -> bool:
    if isinstance(value, Poly):
        raise ValueError(f"`{value}` is symbolic here, so it can decide nothing")
    return bool(value)


def _member(value: Any, tree: Expr, lookup: Callable[[str], Any]) -> Any:
    if tree.op == "field":
        if not isinstance(value, Mapping) or tree.args[1] not in value:
            raise ValueError(f"there is no field `{tree.args[1]}`")
        return value[tree.args[1]]
    index = evaluate(tree.args[1], lookup)
    if not isinstance(value, (list, tuple)) or not isinstance(index, int) or not 0 <= index < len(value):
        raise ValueError(f"there is no item {index}")
    return value[index]


def _apply(op: str, operands: list[Any]) -> Any:
    if op not in ("==", "!="):
        for value in operands:
            if not isinstance(value, (int, float, Poly, Fraction)):
                raise ValueError(f"a number is expected, found `{_shown(value)}`")
    try:
        result = OPERATIONS[op](*operands)
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except (OverflowError, TypeError) as error:
        raise ValueError(f"`{op}` cannot be computed here ({error})") from None
    if isinstance(result, (int, float)) and not abs(result) <= MAX_MAGNITUDE and not math.isnan(result):
        raise ValueError(f"a number is at most 1e30 in magnitude, `{op}` gives a larger one")
    return result


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return math.nan if isinstance(a, Poly) or isinstance(b, Poly) else a / b
    if isinstance(a, Poly) or isinstance(b, Poly):
        return dims.divide(a, b)
    return a // b if a % b == 0 else a / b


def _power(a: Any, b: Any) -> Any:
    if isinstance(b, Poly):
        raise ValueError("an exponent must be a number")
    if abs(b) > MAX_POWER:
        raise ValueError(f"an exponent is at most {MAX_POWER}, found {b}")
    if isinstance(a, Poly):
        return a**b if isinstance(b, int) and b >= 0 else math.nan
    if abs(a) > MAX_MAGNITUDE:
        raise ValueError("the base of a power is at most 1e30")
    if isinstance(a, int) and isinstance(b, int) and b >= 0:
        return _bounded_power(a, b)
    result = float(a) ** b
    if isinstance(result, complex):
        raise ValueError(f"{a} has no real power {b}")
    return result


def _bounded_power(a: int, b: int) -> int:
    if abs(a) > 1 and b * math.log10(abs(a)) > 30:
        raise ValueError("a number is at most 1e30 in magnitude, `**` gives a larger one")
    return a**b


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``function``, where a float meeting a symbolic size gives a number not known yet."""

    def apply(a: Any, b: Any) -> Any:
        mixed = {type(a), type(b)} == {float, Poly}
        return math.nan if mixed else function(a, b)

    return apply


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*operands: Any) -> Any:
        return math.nan if any(isinstance(v, Poly) for v in operands) else function(*operands)

    return apply


def _compare(function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def apply(a: Any, b: Any) -> bool:
        if isinstance(a, Poly) or isinstance(b, Poly):
            if a == b:
                return function(0, 0)
            raise ValueError(f"`{a}` and `{b}` cannot be compared while one is symbolic")
        return function(a, b)

    return apply


OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": _arithmetic(lambda a, b: a + b),
    "-": _arithmetic(lambda a, b: a - b),
    "*": _arithmetic(lambda a, b: a * b),
    "/": _divide,
    "//": lambda a, b: dims.floordiv(a, b) if isinstance(a, Poly) or isinstance(b, Poly) else a // b,
    "%": _on_numbers(lambda a, b: a % b),
    "**": _power,
    "neg": lambda a: -a,
    "pos": lambda a: a,
    "not": lambda a: not _truth(a),
    "<": _compare(lambda a, b: a < b),
    "<=": _compare(lambda a, b: a <= b),
    ">": _compare(lambda a, b: a > b),
    ">=": _compare(lambda a, b: a >= b),
    "==": _compare(lambda a, b: a == b),
    "!=": _compare(lambda a, b: a != b),
    **{name: _on_numbers(f) for name, f in FUNCTIONS.items()},
}

PYTHON = {"neg": "-", "pos": "+", "not": "not "}


def to_text(tree: Expr, rename: Callable[[str], str] = str) -> str:
    """``tree`` as text again, names passed through ``rename``; the text is valid Python too."""
    inner = [to_text(a, rename) if isinstance(a, Expr) else str(a) for a in tree.args]
    if tree.op == "number":
        return repr(tree.args[0])
    if tree.op == "name":
        return rename(tree.args[0])
    if tree.op == "if":
        return f"({inner[0]} if {inner[1]} else {inner[2]})"
    if tree.op == "call":
        return f"{inner[0]}({', '.join(inner[1:])})"
    if tree.op == "field":
        return f"{inner[0]}.{inner[1]}"
    if tree.op == "item":
        return f"{inner[0]}[{inner[1]}]"
    if tree.op in PYTHON:
        return f"({PYTHON[tree.op]}{inner[0]})"
    return f"({inner[0]} {tree.op} {inner[1]})"
