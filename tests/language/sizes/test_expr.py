"""Expressions against Python's own arithmetic, on generated texts; and everything that is refused."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsvgraph import DsvError, expr
from dsvgraph.dims import evaluate, symbol

NAMES = {"d": 4, "n": 3, "x": 0.5, "z": 0}
FUNCTIONS = {"min": min, "max": max, "abs": abs, "sqrt": math.sqrt, "floor": math.floor, "ceil": math.ceil}

leaves = st.one_of(
    st.integers(0, 99).map(str), st.floats(0, 99).map(lambda v: f"{v:.3f}"), st.sampled_from(sorted(NAMES)),
    st.sampled_from(["1e3", "2.", ".5", "1e-2"]),
)  # fmt: skip
BINARY = ["+", "-", "*", "/", "//", "%", "**"]
COMPARE = ["<", "<=", ">", ">=", "==", "!="]


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    test = st.tuples(inner, st.sampled_from(COMPARE), inner).map(" ".join)
    return st.one_of(
        st.tuples(inner, st.sampled_from(BINARY), inner).map(" ".join),
        st.tuples(st.sampled_from("-+"), inner).map("".join),
        inner.map(lambda a: f"({a})"),
        st.tuples(inner, test, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
        st.tuples(inner, test, test, inner).map(lambda p: f"({p[0]} if {p[1]} and not {p[2]} else {p[3]})"),
        st.tuples(st.sampled_from(["sqrt", "floor", "ceil", "abs"]), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
    )


texts = st.recursive(leaves, joined, max_leaves=7)


def ours(text: str) -> Any:
    return expr.evaluate(expr.parse(text), NAMES.__getitem__)


class Exact(ast.NodeTransformer):
    """Python, but for one thing: whole numbers that divide give a whole number."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        return ast.Call(ast.Name("divided", ast.Load()), [node.left, node.right], [])


def divided(a: Any, b: Any) -> Any:
    return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b


def theirs(text: str) -> Any:
    """Python's value of a generated text, which holds nothing but arithmetic."""
    tree = ast.parse(text, mode="eval")
    assert {type(n).__name__ for n in ast.walk(tree)}.isdisjoint({"Attribute", "Lambda", "Subscript"})
    code = compile(ast.fix_missing_locations(Exact().visit(tree)), "", "eval")
    return eval(code, {"__builtins__": {}}, {**NAMES, **FUNCTIONS, "divided": divided})


@given(texts)
@settings(max_examples=300, deadline=None)
def test_values_are_python_s(text: str) -> None:
    try:
        found = ours(text)
    except ValueError:
        return  # where Python divides by zero, overflows or leaves the real numbers; see the next test
    assert found == pytest.approx(theirs(text), rel=1e-12)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_only_what_python_cannot_or_what_is_too_large_is_refused(text: str) -> None:
    try:
        ours(text)
    except ValueError as error:
        limits = ("at most", "exponent", "real power")
        if not any(word in str(error) for word in limits):
            with pytest.raises((ArithmeticError, ValueError, TypeError)):
                theirs(text)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_a_tree_written_out_is_the_same_tree(text: str) -> None:
    tree = expr.parse(text)
    assert expr.parse(expr.to_text(tree)) == tree
    renamed = expr.to_text(tree, lambda name: f"{name}_")
    assert expr.parse(renamed).names() == {f"{name}_" for name in tree.names()}


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_expression_or_a_value_error(text: str) -> None:
    try:
        tree = expr.parse(text)
        expr.evaluate(tree, NAMES.__getitem__)
    except (ValueError, KeyError):
        pass


@given(texts, st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_symbolic_values_become_the_numbers(text: str, value: int) -> None:
    """With `d` left as a name, and then given, a size is what it is with the number at once."""
    try:
        size = expr.evaluate(expr.parse(text), lambda name: symbol("d") if name == "d" else NAMES[name])
        wanted = expr.evaluate(expr.parse(text), lambda name: value if name == "d" else NAMES[name])
    except (ValueError, DsvError):
        return
    if not isinstance(size, float):
        assert evaluate(size, {"d": value}) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["max(0, 0.5 * T)", "min(T, 1)", "floor(T / 4) ** 0", "(T + 0.5) * 2 - 1", "T % 2"])
def test_what_depends_on_a_symbolic_number_is_not_known(text: str) -> None:
    assert math.isnan(expr.evaluate(expr.parse(text), symbol))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ends where a value is expected"),
        ("1 +", "ends where a value is expected"),
        ("(1", "ends where `)` is expected"),
        ("1 2", "`2` is not expected here"),
        ("1 < 2 < 3", "comparisons do not chain"),
        ("d = 3", "`= 3` is not arithmetic"),
        ("lambda: 1", "`: 1` is not arithmetic"),
        ("'a'", "`'a'` is not arithmetic"),
        ("a; b", "`; b` is not arithmetic"),
        ("open(d)", "there is no function `open`"),
        ("d(3)", "there is no function `d`"),
        ("d.0", "`.0` is not expected here"),
        ("d.(1)", "a field's name is expected, found `(`"),
        ("sqrt()", "a value is expected, found `)`"),
        ("sqrt(1, 2)", "`sqrt` takes one number"),
        ("min(1)", "`min` takes two numbers or more"),
        ("sqrt(-1)", "`sqrt` of -1 is no real number"),
        ("1 / 0", "division by zero"),
        ("1 // z", "division by zero"),
        ("5 % 0", "division by zero"),
        ("(-8) ** 0.5", "-8 has no real power 0.5"),
        ("9 ** 9 ** 9", "an exponent is at most 64"),
        ("9 ** 64", "at most 1e30"),
        ("1e31", "at most 1e30"),
        ("exp(1000)", "cannot be computed here"),
        ("10 ** 30 * 10", "at most 1e30"),
        ("9" * 41, "at most 40 digits"),
        ("1" + " + 1" * 300, "at most 1000 characters"),
        ("1" + "+1" * 101, "at most 200 words and signs"),
        ("(" * 30 + "1" + ")" * 30, "nests at most 25 deep"),
        ("-" * 30 + "1", "nests at most 25 deep"),
        ("d if x", "ends where `else` is expected"),
        ("if", "a value is expected, found `if`"),
        ("d[0]", "there is no item 0"),
        ("d.k", "there is no field `k`"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        ours(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("T ** 65", "an exponent is at most 64"),
        ("T ** 17", "raised to the powers 0 to 16, not 17"),
        ("(T ** 16) ** 5", "at most 100 terms of degree 64"),
        ("(B + T + d) ** 16", "at most 100 terms, `**` gives more"),
        ("((10 * T) ** 16) ** 4", "at most 1e30"),
        ("2 ** T", "an exponent must be a number"),
        ("1 if T > 1 else 2", "cannot be compared while one is symbolic"),
        ("1 if T else 2", "symbolic here, so it can decide nothing"),
        ("T / (T + 1)", "cannot be divided"),
        ("T // 0", "division by zero"),
        ("1 if T * 0.5 > 1 else 2", "symbolic here can decide nothing"),
        ("1 if T * 0.5 == T * 0.5 else 2", "symbolic here can decide nothing"),
        ("1 if sqrt(T) else 2", "is neither true nor false"),
    ],
)
def test_refused_of_symbolic_sizes(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        expr.evaluate(expr.parse(text), symbol)
    assert words in str(caught.value)
