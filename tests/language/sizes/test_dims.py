"""Sizes against sympy: the laws of a ring, floor division, and what values give."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from dsvgraph import DsvError, dims
from dsvgraph.dims import Poly, Size, divide, evaluate, floordiv, names, substitute, symbol

NAMES = ("B", "T", "d")
SYMBOLS = {n: sympy.Symbol(n, integer=True, positive=True) for n in NAMES}
numbers = st.integers(-20, 20)
leaves = st.one_of(numbers, st.sampled_from([symbol(n) for n in NAMES]))


def combined(inner: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]), pairs.map(lambda p: p[0] * p[1]), pairs.map(lambda p: p[0] - p[1]),
        st.tuples(inner, st.integers(1, 6)).map(lambda p: floordiv(*p)),
    )  # fmt: skip


sizes = st.recursive(leaves, combined, max_leaves=8)
values = st.fixed_dictionaries({n: st.integers(1, 30) for n in NAMES})


def judge(size: Any) -> sympy.Expr:
    """The same size as sympy has it."""
    if not isinstance(size, Poly):
        return sympy.Rational(Fraction(size).numerator, Fraction(size).denominator)
    terms = []
    for monomial, factor in size.terms.items():
        powers = [atom(a) ** power for a, power in monomial]
        terms.append(judge(factor) * sympy.prod(powers))
    return sympy.Add(*terms)


def atom(found: Any) -> sympy.Expr:
    return SYMBOLS[found] if isinstance(found, str) else sympy.floor(judge(found.above) / judge(found.below))


@given(sizes, sizes, sizes)
@settings(max_examples=100, deadline=None)
def test_the_laws_of_a_ring(a: Size, b: Size, c: Size) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert a + 0 == a == a * 1
    assert a * 0 == 0
    assert hash(a + b) == hash(b + a)


@given(sizes, sizes)
@settings(max_examples=60, deadline=None)
def test_sums_and_products_are_those_of_sympy(a: Size, b: Size) -> None:
    assert sympy.expand(judge(a + b) - (judge(a) + judge(b))) == 0
    assert sympy.expand(judge(a * b) - judge(a) * judge(b)) == 0


@given(sizes, sizes)
@settings(max_examples=60, deadline=None)
def test_equal_is_equal_to_sympy(a: Size, b: Size) -> None:
    """Without floors, two sizes are equal where their difference expands to nothing."""
    if "//" not in f"{a}{b}":
        assert (a == b) == (sympy.expand(judge(a) - judge(b)) == 0)


@given(sizes, values)
@settings(max_examples=100, deadline=None)
def test_values(size: Size, at: dict[str, int]) -> None:
    wanted = judge(size).subs({SYMBOLS[n]: v for n, v in at.items()})
    found = evaluate(size, at)
    assert sympy.Rational(Fraction(found).numerator, Fraction(found).denominator) == wanted
    assert substitute(size, at) == found
    assert evaluate(substitute(size, {"B": at["B"]}), at) == found
    assert names(substitute(size, {"B": at["B"]})) <= {"T", "d"}


@given(sizes, st.integers(1, 12), values)
@settings(max_examples=100, deadline=None)
def test_floor_division(a: Size, b: int, at: dict[str, int]) -> None:
    assert evaluate(floordiv(a, b), at) == evaluate(a, at) // b
    assert floordiv(a * b, b) == a == divide(a * b, b)


@given(leaves, sizes, values)
@settings(max_examples=60, deadline=None)
def test_division_by_a_name_is_exact(a: Size, b: Size, at: dict[str, int]) -> None:
    if a == 0:
        with pytest.raises(ZeroDivisionError):
            divide(b, a)
    else:
        assert divide(a * b, a) == b


@given(sizes, st.integers(0, 4), values)
@settings(max_examples=60, deadline=None)
def test_powers(a: Size, power: int, at: dict[str, int]) -> None:
    assert evaluate(a**power, at) == evaluate(a, at) ** power


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (2 * symbol("B") * (symbol("T") + 1), "2*B + 2*B*T"),
        (symbol("T") ** 2 - 3 * symbol("T"), "-3*T + T**2"),
        (floordiv(symbol("T") + 1, 2), "((1 + T)//2)"),
        (floordiv(symbol("T"), symbol("d") * 2), "(T//(2*d))"),
        (3 * floordiv(symbol("T"), 2) + 1, "1 + 3*(T//2)"),
        (divide(symbol("B") * 3, 2), "3*B/2"),
        (7 - symbol("T"), "7 - T"),
    ],
)
def test_text(size: Size, text: str) -> None:
    assert str(size) == text


@pytest.mark.parametrize(
    "wrong", [lambda: divide(symbol("T"), 0), lambda: floordiv(symbol("T"), 0), lambda: floordiv(3, 0)]
)
def test_division_by_zero(wrong: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        wrong()


def test_nested_floors_stay_short() -> None:
    size: Size = symbol("T")
    for _ in range(60):
        size = floordiv(size, 3) + 1
    assert len(str(size)) < 1000
    assert evaluate(size, {"T": 10}) == evaluate(floordiv(size, 1), {"T": 10})


def test_a_product_of_endless_sums_is_refused() -> None:
    many = dims.total(symbol(f"s{i}") for i in range(400))
    with pytest.raises(DsvError, match="sum of more than 100,000 products"):
        _ = many * many
