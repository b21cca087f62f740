"""What einsum makes of types and of what positions have seen."""

from __future__ import annotations

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
    pieces = [(reach.horizon("ids"), reach.tail) for reach in found.copies.get("y", [])]
    return pieces, (found.reach["y"].horizon("ids"), found.reach["y"].tail)


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


def test_batch_and_positions_stay_behind_the_pieces() -> None:
    line = 'y: {einsum: [m.seen, e], equation: "k b t d, b t d -> k b t d"}'
    assert "would move B" in message(HEADS + line, blocks=CHAIN)
