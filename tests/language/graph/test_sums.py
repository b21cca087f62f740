"""What einsum makes of types and of what positions have seen."""

from __future__ import annotations

import pytest
from small import message, model, node, types

CHAIN = """
head:
  args: {d, V}
  in: {h: [B, T, d], ids: "int[B, T]", table: [V, d]}
  body:
    next: {shift: ids, by: 1}
    emb: {embedding: next, weight: table}
    s: {add: [h, emb]}
  out: {h: s, ids: next, seen: s}
"""
HEADS = "m: {head: {h: e, ids: ids, table: e.weight}, repeat: 3}\n"


def horizons(body: str) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """What each piece of `y` has seen of the ids and how much of it is fill; the same of the whole."""
    found = model(HEADS + body, blocks=CHAIN).nodes["y"]
    pieces = [(horizons.ahead("ids"), horizons.fill) for horizons in found.copy_horizons.get("y", [])]
    return pieces, (found.horizons["y"].ahead("ids"), found.horizons["y"].fill)


def test_types_follow_the_labels() -> None:
    body = 'h: {linear: e, out: [3, 5]}\ny: {einsum: [h, h], equation: "b t i d, b t i e -> b t e d"}'
    assert types(node(body)) == {"y": "[B, T, 5, 5]"}
    assert types(node('y: {einsum: [e, e.weight], equation: "b t d, v d -> b t v"}')) == {"y": "[B, T, 9]"}


def test_pieces_stay_apart_where_their_axis_stays_in_front() -> None:
    pieces, whole = horizons('y: {einsum: [m.seen, m.seen], equation: "k b t d, k b t d -> k b t d"}')
    assert pieces == [(1, 1), (2, 2), (3, 3)] and whole == (3, 3)


def test_pieces_that_are_mixed_have_seen_all() -> None:
    square = "p: {linear: e, out: 3}\nq: {linear: p, out: 3}\n"
    pieces, whole = horizons(square + 'y: {einsum: [m.seen, q.weight], equation: "k b t d, k e -> e b t d"}')
    assert pieces == [] and whole == (3, 3)


def test_what_is_joined_to_pieces_has_seen_both() -> None:
    pieces, whole = horizons('y: {einsum: [m.seen, e], equation: "k b t d, b t d -> k b t d"}')
    assert pieces == [(1, 1), (2, 2), (3, 3)] and whole == (3, 3)


STACKS = [  # the shape of `e` is [B, T, 4], of `h` [B, T, 2, 4], of `m.seen` [3, B, T, 4]
    ("m.seen", "k b t d -> b t d", "[B, T, 4]"),
    ("m.seen", "k b t d -> b t k d", "[B, T, 3, 4]"),
    ("m.seen, e", "k b t d, b t d -> b t k", "[B, T, 3]"),
    ("m.seen, w", "k b t d, b t k -> b t d", "[B, T, 4]"),
    ("h", "b t h d -> h b t d", "[2, B, T, 4]"),
    ("h", "b t h d -> d h b t", "[4, 2, B, T]"),
]
MAKERS = "h: {linear: e, out: [2, 4]}\nw: {linear: e, out: 3}\n"


@pytest.mark.parametrize(("inputs", "equation", "shape"), STACKS)
def test_axes_in_front_of_rows_and_positions_come_and_go(inputs: str, equation: str, shape: str) -> None:
    line = f'y: {{einsum: [{inputs}], equation: "{equation}"}}'
    found = model(HEADS + MAKERS + line, blocks=CHAIN).nodes["y"]
    assert str(found.outputs["y"]) == shape
    assert found.horizons["y"].ahead("ids") == (3 if "m.seen" in inputs else 0)


@pytest.mark.parametrize(
    ("inputs", "equation", "words"),
    [
        ("m.seen", "k b t d -> b k t d", "would move B, which counts rows of the batch: rows and positions stay side"),
        ("m.seen", "k b t d -> t b d", "would move T, which counts positions"),
        ("m.seen", "k b t d -> k t d", "would mix along B, which counts rows of the batch, not features"),
        ("m.seen", "k b t d -> b d", "would mix along T, which counts positions, not features"),
        ("h", "b t h d -> b h t d", "would move T"),
        ("e, e", "b t d, b s d -> b t s", "would move T"),
        ("e, e", "b t d, b s d -> b s t", "would move T"),
        ("e, e", "b t d, c t d -> c b t", "would move"),
        ("m.seen, e", "k b t d, b s d -> k b t s", "would move"),
        ("e, e", "b t d, b s d -> d b t s", "would move"),
    ],
)
def test_rows_and_positions_stay_side_by_side(inputs: str, equation: str, words: str) -> None:
    line = f'y: {{einsum: [{inputs}], equation: "{equation}"}}'
    assert words in message(HEADS + MAKERS + line, blocks=CHAIN)
