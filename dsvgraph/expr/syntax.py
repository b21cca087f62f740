"""Text to a syntax tree, by a parser of our own, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dsvgraph.codes import Code
from dsvgraph.errors import Fault
from dsvgraph.names import described, why_no_name

MAX_LENGTH = 1000  # characters of one expression
MAX_TOKENS = 200
MAX_DEPTH = 25  # nested parentheses and operators
MAX_MAGNITUDE = 10**30

FUNCTIONS = ("min", "max", "abs", "sqrt", "log", "exp", "cos", "floor", "ceil", "int")


@dataclass(frozen=True)
class Expr:
    """A node of the syntax tree: an operator and its operands."""

    op: str
    args: tuple[Any, ...]

    def names(self) -> frozenset[str]:
        """Return the names that the expression reads."""
        if self.op == "name":
            return frozenset([self.args[0]])
        return frozenset(n for a in self.args if isinstance(a, Expr) for n in a.names())


TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<op>\*\*|//|<=|>=|==|!=|[-+*/%()<>,.\[\]]))",
    re.ASCII,
)
CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
GROUPED = re.compile(r"\d{1,3}(,\d{3})+\Z", re.ASCII)
DIGITS = "digits stand together, or apart as in 129_280"
WORDS = {"if", "else", "and", "or", "not", *CONSTANTS}
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
BINDING = {"or": 1, "and": 2, **dict.fromkeys(COMPARISONS, 4), "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6}
UNARY = 7


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """Return the syntax tree of ``text``; raise ValueError if it is no expression."""
    if len(text) > MAX_LENGTH:
        raise Fault(Code.NUMBER_LIMIT, f"an expression has at most {MAX_LENGTH} characters, this one has {len(text)}")
    parser = _Parser(_tokens(text))
    tree = parser.conditional(0)
    if parser.peek() != "":
        words = f"`{parser.peek()}` is not expected here"
        raise Fault(Code.NO_ARITHMETIC, words + (f": {DIGITS}" if GROUPED.match(text) else ""))
    return tree


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise Fault(Code.NO_ARITHMETIC, _no_token(text, at))
        kind = match.lastgroup or "op"
        tokens.append((kind, match.group(kind)))
        at = match.end()
        if len(tokens) > MAX_TOKENS:
            raise Fault(Code.NUMBER_LIMIT, f"an expression has at most {MAX_TOKENS} words and signs")
    return tokens


def _no_token(text: str, at: int) -> str:
    """Return what is wrong at a place of ``text`` where no number, name or sign begins."""
    rest = text[at:].lstrip()
    if rest[0].isalnum() and not rest[0].isascii():
        begins = re.search(r"\w*\Z", text[:at]) if not text[at].isspace() else None
        word = (begins[0] if begins else "") + re.match(r"\w+", rest)[0]  # type: ignore[index]
        return f"`{word[:40]}` is no name: {why_no_name(word)}"
    if not rest[0].isascii():
        return f"{described(rest[0])} is not arithmetic: its signs are ASCII"
    power = "; a power is written `**`" if rest[0] == "^" else ""
    return f"`{rest[:20]}` is not arithmetic{power}"


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise Fault(
                Code.NO_ARITHMETIC, f"the expression ends where {f'`{wanted}`' if wanted else 'a value'} is expected"
            )
        kind, text = self.tokens[self.at]
        if wanted and text != wanted:
            raise Fault(Code.NO_ARITHMETIC, f"expected `{wanted}`, found `{text}`")
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
            raise Fault(Code.NUMBER_LIMIT, f"an expression nests at most {MAX_DEPTH} deep")
        left = self.unary(depth)
        while (strength := BINDING.get(self.peek(), -1)) > least:
            op = self.take()[1]
            if op in COMPARISONS and left.op in COMPARISONS and self.tokens[self.at - 2][1] != ")":
                raise Fault(Code.NO_ARITHMETIC, f"comparisons do not chain: write `and`, or parentheses, before `{op}`")
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
            raise Fault(Code.NUMBER_LIMIT, f"an expression nests at most {MAX_DEPTH} deep")
        return Expr("**", (base, self.unary(depth + 1)))

    def postfix(self, depth: int) -> Expr:
        value = self.atom(depth)
        while self.peek() in (".", "["):
            if self.take()[1] == ".":
                value = Expr("field", (value, self.field()))
            else:
                value = Expr("item", (value, self.conditional(depth + 1)))
                self.take("]")
        return value

    def field(self) -> str:
        kind, text = self.take()
        if kind != "name":
            raise Fault(Code.NO_ARITHMETIC, f"a field's name is expected, found `{text}`")
        return text

    def atom(self, depth: int) -> Expr:
        kind, text = self.take()
        if kind == "number":
            return Expr("number", (_number(text),))
        if text == "(":
            inner = self.conditional(depth + 1)
            self.take(")")
            return inner
        if text in CONSTANTS:
            return Expr("number", (CONSTANTS[text],))
        if kind != "name" or text in WORDS:
            raise Fault(Code.NO_ARITHMETIC, f"a value is expected, found `{text}`")
        return self.call(text, depth) if self.peek() == "(" else Expr("name", (text,))

    def call(self, function: str, depth: int) -> Expr:
        if function not in FUNCTIONS:
            raise Fault(Code.NO_FUNCTION, f"there is no function `{function}`; there are {', '.join(FUNCTIONS)}")
        self.take("(")
        arguments = [self.conditional(depth + 1)]
        while self.peek() == ",":
            self.take()
            arguments.append(self.conditional(depth + 1))
        self.take(")")
        if (len(arguments) == 1) == (function in ("min", "max")):
            raise Fault(
                Code.NO_FUNCTION, f"`{function}` takes {'two numbers or more' if len(arguments) == 1 else 'one number'}"
            )
        return Expr("call", (function, *arguments))


def _number(text: str) -> int | float:
    if text.isdigit():
        if len(text) > 40:
            raise Fault(Code.NUMBER_LIMIT, f"a number has at most 40 digits, this one has {len(text)}")
        value: int | float = int(text)
    else:
        value = float(text)
    if value > MAX_MAGNITUDE and value != float(MAX_MAGNITUDE):
        raise Fault(Code.NUMBER_LIMIT, f"a number is at most 1e30 in magnitude, found {text}")
    if value == 0 and re.search(r"[1-9]", re.split("[eE]", text)[0]):
        raise Fault(Code.NUMBER_LIMIT, f"`{text}` is too small to be told from 0")
    return value


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
