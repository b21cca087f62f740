"""Tokens that nobody predicts: told at the line, and said in the line where they are meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dsvgraph
from dsvgraph.build.losses.predictions import Prediction, gaps, stride
from dsvgraph.codes import Code
from dsvgraph.expr import Expr
from dsvgraph.graph import Loss, LossKind

SPEC = """
blocks:
  step:
    in: {{h: "[B, T, 8]", ids: "int[B, T]"}}
    body:
      n: {{shift: ids, by: {by}}}
      e: {{embedding: n, num: 9, dim: 8}}
      s: {{add: [h, e]}}
      o: {{linear: s, out: 9}}
    out: {{h: s, ids: n, o: o}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 9, dim: 8}}
    l: {{linear: e, out: 9}}
    m: {{step: {{h: e, ids: ids}}, repeat: 3}}
    p: {{linear: e, out: 9, repeat: 3, share: x}}
  out: {{logits: l, chain: m.o, heads: p}}
loss:
  next: {{cross_entropy: logits, target: ids, {next}}}
  mtp:  {{cross_entropy: {scored}, target: ids, {mtp}}}
  also: {{cross_entropy: logits, target: ids, {also}}}
"""
CHAIN = {"scored": "chain", "next": "shift: 1", "also": "shift: 1", "by": 1}
HEADS = CHAIN | {"scored": "heads"}


def model(**given: object) -> dsvgraph.Model:
    return dsvgraph.loads(SPEC.format(**given))


def told(**given: object) -> dict[int, str]:
    """Lines of the loss and what is said of gaps there."""
    found = [d for d in dsvgraph.lint(model(**given)) if d.code is Code.GAP]
    return {d.span.line - 19: d.message for d in found if d.span}


CHAINED = "depth 1 of `mtp` has seen tokens up to i + 1 and predicts i + 3; nothing predicts i + 2"


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (CHAIN | {"mtp": "shift: depth + 1"}, {}),
        (CHAIN | {"mtp": "shift: depth + 2"}, {2: CHAINED}),  # shifted twice
        (CHAIN | {"mtp": "shift: depth + 2", "also": "shift: 2"}, {}),
        (CHAIN | {"mtp": "shift: 2 * depth + 1"}, {2: CHAINED}),
        (CHAIN | {"mtp": "shift: 2 * depth + 1, stride: 2"}, {}),
        (CHAIN | {"mtp": "shift: 4"}, {2: CHAINED.replace("i + 3", "i + 4").replace("s i + 2", "s i + 2 to i + 3")}),
        (CHAIN | {"mtp": "shift: 2 * depth + 1", "by": 2},  # i + 2 is read by all and predicted by none
         {2: CHAINED.replace("i + 1", "i + 2")}),
        (CHAIN | {"mtp": "shift: depth + 1", "next": "shift: 2", "also": "shift: 2"},
         {1: "`next` has seen tokens up to i and predicts i + 2; nothing predicts i + 1"}),
        (CHAIN | {"mtp": "shift: depth + 1", "next": "shift: 2"}, {}),
        (HEADS | {"mtp": "shift: depth + 1"}, {}),  # side by side: each predicts what the next one jumps over
        (HEADS | {"mtp": "shift: 1"}, {}),  # all of them the next token
        (HEADS | {"mtp": "shift: depth + 2"}, {2: CHAINED.replace("up to i + 1", "up to i")}),
        (HEADS | {"mtp": "shift: 2 * depth + 1, stride: 2"}, {}),
    ],
)  # fmt: skip
def test_what_is_left_out_is_told_at_its_line(given: dict[str, object], lines: dict[int, str]) -> None:
    assert told(**given) == lines


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (HEADS | {"mtp": "shift: depth + 1, stride: 2"}, "the stride is 2, and depth 1 of `mtp` .* 1 after"),
        (HEADS | {"mtp": "shift: 3 * depth, stride: 3"}, "the stride is 3, and depth 1 of `mtp` .* 2 after"),
        (CHAIN | {"mtp": "shift: depth + 2, stride: 2"}, "the stride is 2, and depth 2 of `mtp` .* 1 after"),
        (HEADS | {"mtp": "shift: depth + 1, stride: 0"}, "`stride` is a whole number of at least 1, found 0"),
        (HEADS | {"mtp": "shift: depth + 1, stride: depth"}, "`stride` cannot depend on `depth`, only on the config"),
        (HEADS | {"mtp": "shift: depth + 1, next: 1", "next": "shift: 2, stride: 3"}, "there is no attribute `next`"),
    ],
)
def test_the_stride_that_is_said_is_the_one_that_is(given: dict[str, object], words: str) -> None:
    with pytest.raises(dsvgraph.DsvError, match=words):
        model(**given)


def test_only_a_stride_that_holds_at_every_depth_is_proposed() -> None:
    (twice,) = (d for d in dsvgraph.lint(model(**CHAIN | {"mtp": "shift: depth + 2"})) if d.code is Code.GAP)
    (leap,) = (d for d in dsvgraph.lint(model(**CHAIN | {"mtp": "shift: 2 * depth + 1"})) if d.code is Code.GAP)
    assert twice.hint == "a `shift` that is 1 less predicts i + 2 there"
    assert leap.hint == f"{twice.hint}; where it is meant, say it: `stride: 2`"


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 6)), min_size=1, max_size=5))
def test_gaps_are_the_tokens_that_a_head_jumps_over_and_nobody_predicts(pairs: list[tuple[int, int]]) -> None:
    """Drafting from a position, token by token: what comes after what is known, up to the furthest prediction."""
    line = Loss(name="a", kind=LossKind.CROSS_ENTROPY, output="y", target="ids", weight=Expr("number", (1,)))
    heads = sorted((Prediction(line, 0, seen, seen + ahead) for seen, ahead in pairs), key=lambda h: h.ahead)
    told = {n for gap in gaps(heads) for n in range(gap.first, gap.last + 1)}
    predicted = {head.ahead for head in heads}
    between = set(range(min(predicted), max(predicted))) - predicted
    before = {n for head in heads for n in range(int(head.horizon) + 1, min(predicted))}
    assert told >= between and told - between <= before and bool(told - between) == bool(before)
    assert all(gap.last < gap.prediction.ahead for gap in gaps(heads))
    assert bool(told) == any(stride(head, heads) > 1 for head in heads) or before
