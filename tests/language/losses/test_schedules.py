"""Formulas that depend on tokens: one that is found to have no value somewhere is refused at its line."""

import math
import random

import pytest

import dsvgraph
from dsvgraph.build.losses.schedules import has_value
from dsvgraph.expr import bounds, evaluate, parse
from dsvgraph.expr.values import FUNCTIONS

SPEC = """
graph:
  in: {{ids: "int[B, T]"}}
  body: {{e: {{embedding: ids, num: 13, dim: 4}}, y: {{linear: e, out: 13}}}}
  out: {{logits: y}}
loss:
  main:
    cross_entropy: logits
    target: ids
    {key}: "{formula}"
"""


def refusal(formula, key="weight"):
    with pytest.raises(dsvgraph.DsvError) as caught:
        dsvgraph.loads(SPEC.format(formula=formula, key=key), name="s.yaml")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span.line == 10
    return diagnostic.message


@pytest.mark.parametrize(
    "formula, words",
    [
        ("exp(tokens)", "`exp` gives a larger one (at 100 tokens)"),
        ("tokens ** 64", "`**` gives a larger one (at 10 tokens)"),
        ("1 / tokens", "division by zero (at 0 tokens)"),
        ("1 / (tokens - 1000)", "division by zero (at 1,000 tokens)"),
        ("tokens % (7 - tokens)", "division by zero (at 7 tokens)"),
        ("1 // (3 * tokens - 123456 * 3)", "division by zero (at 123,456 tokens)"),
        ("1 / (tokens ** 2 - 12345 ** 2)", "division by zero (at 12,345 tokens)"),
        ("1 / (sqrt(tokens) - 1111)", "division by zero (at 1,234,321 tokens)"),
        ("sqrt(1 - tokens / 1e12)", "`sqrt` of -1.000088900582341e-12 is no real number (at 1,000,000,000,001 tokens)"),
        ("log(tokens)", "`log` of 0 is no real number (at 0 tokens)"),
        ("(5 - tokens) ** 0.5", "-1 has no real power 0.5 (at 6 tokens)"),
        ("1 if tokens < 777 else 1 / 0", "division by zero (at 777 tokens)"),
        ("1 if tokens < 777 else tokens > 3", "is a number, found `true` (at 777 tokens)"),
    ],
)
def test_a_schedule_without_a_value_somewhere_is_refused(formula, words):
    assert words in refusal(formula)


@pytest.mark.parametrize("formula", ["-valid", "valid - 4096", "exp(valid)", "log(valid - 5000)", "0"])
def test_a_divisor_without_a_value_is_refused(formula):
    refusal(formula, "divide")


def test_where_a_value_is_proved():
    proved = ["exp(-tokens / 9)", "1 / (1 + tokens)", "tokens ** 2", "cos(tokens)", "0.3 if tokens < 9 else 0", "depth"]
    unproved = ["1 / (tokens - 0.5)", "sqrt(1 - tokens)", "tokens ** 3", "tokens ** 0.5 - 1 / (depth - 1)"]
    assert all(has_value("weight", parse(text), (1, 3)) for text in proved)
    assert not any(has_value("weight", parse(text), (1, 3)) for text in unproved)
    assert has_value("divide", parse("B * T"), (0,)) and not has_value("divide", parse("B * T - 1"), (0,))


def test_bounds_hold_every_value():
    """Random formulas at random values: what is proved has a value there, and the value lies in the bounds."""
    chance, judged = random.Random(1), 0
    for _ in range(3000):
        tree = parse(written(chance, 3))
        low, high = sorted(chance.choice([-9, -2, -0.5, 0, 0.5, 1, 3, 8]) for _ in range(2))
        found = bounds(tree, {"tokens": (low, high)})
        if found is None:
            continue
        for value in (low, high, *(chance.uniform(low, high) for _ in range(5))):
            got = evaluate(tree, lambda _, value=value: value)
            slack = 1e-6 * max(1, abs(got))
            assert math.isfinite(got) and found[0] - slack <= got <= found[1] + slack, (tree, low, high, value)
            judged += 1
    assert judged > 5000


def written(chance, depth):
    """A formula in `tokens` at random, of every operator and function."""
    if depth == 0 or chance.random() < 0.15:
        return chance.choice(["tokens", "tokens", "2", "0.5", "3", "(-1)", "0"])
    a, b, c = (written(chance, depth - 1) for _ in range(3))
    form = chance.choice(
        ["({a} + {b})", "({a} - {b})", "({a} * {b})", "({a} / {b})", "({a} // {b})", "({a} % {b})", "({a} ** {b})",
         "({a} if {c} > {b} else {b})", "min({a}, {b})", "max({a}, {b}, {c})", "(-{a})", "(+{a})"]
        + [f"{name}({{a}})" for name in FUNCTIONS if name not in ("min", "max")]
    )  # fmt: skip
    return form.format(a=a, b=b, c=c)
