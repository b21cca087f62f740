"""`tied: true` beside `repeat`: one set of weights, used by every copy."""

from __future__ import annotations

import pytest
from small import model, types, weights

import dsvgraph
from dsvgraph.graph.signature import signature
from dsvgraph.passes.compare.lines import compare

LAYER = "layer: {args: {d}, in: {x: [B, T, d]}, body: {w: {linear: x, out: d}, a: {silu: w}}, out: {x: a, seen: w}}"
TIED = "y: {layer: e, repeat: 3, tied: true, at: l}\nz: {layer: y, repeat: 2, at: l}"


def test_the_copies_have_one_path_and_the_numbering_goes_on_behind_it() -> None:
    found = model(TIED, "{y: z, seen: y.seen}", blocks=LAYER)
    y, z = found.nodes["y"], found.nodes["z"]
    assert (y.count, y.start, y.reused, z.start) == (3, 0, True, 1)
    assert [number for number, _ in y.copy_graphs()] == [0, 0, 0]
    assert types(y) == {"x": "[B, T, 4]", "seen": "[3, B, T, 4]"}
    assert weights(found) == {"e.weight": "[9, 4]", "l.[0].w.weight": "[4, 4]", "l.[1-2].w.weight": "[4, 4]"}


def test_tied_may_be_said_by_the_config_and_false_is_nothing_said() -> None:
    body = "y: {layer: e, repeat: 3, tied: one, at: l}"
    texts = {
        one: signature(model(body, blocks=LAYER, config=f"{{d: 4, V: 9, one: {one}}}")) for one in ("true", "false")
    }
    plain = body.replace(", tied: one", "")
    assert texts["false"] == signature(model(plain, blocks=LAYER))
    assert texts["true"] == signature(model(body.replace("one", "true"), blocks=LAYER)) != texts["false"]


def test_no_copies_have_no_weights() -> None:
    found = model("y: {layer: e, repeat: 0, tied: true, at: l}\nz: {layer: y, repeat: 1, at: l}", "z", blocks=LAYER)
    assert weights(found) == {"e.weight": "[9, 4]", "l.[0].w.weight": "[4, 4]"}


def test_weights_count_once_and_work_counts_every_time() -> None:
    body, plain = "y: {layer: e, repeat: 3, tied: true}", "y: {layer: e, repeat: 3}"
    one, three = (dsvgraph.cost(model(b, blocks=LAYER), 2, 5) for b in (body, plain))
    assert one.parameters.total == 9 * 4 + 4 * 4
    assert three.parameters.total == 9 * 4 + 3 * 4 * 4
    assert one.parameters.active == one.parameters.total
    assert one.flops == three.flops and one.flops.forward == 3 * 2 * (2 * 5) * 4 * 4
    row = next(row for row in one.blocks if row.block == "layer")
    assert (row.path, row.copies, row.parameters, row.flops) == ("y.[0]", 3, 16, one.flops.forward)


def test_a_difference_of_one_word_is_a_difference() -> None:
    before, after = (
        model("y: {layer: e, repeat: 3}", blocks=LAYER),
        model("y: {layer: e, repeat: 3, tied: true}", blocks=LAYER),
    )
    (change,) = compare(before, after)
    assert (change.kind, change.line) == ("changed", "y")
    assert (change.before, change.after) == ("copies 3", "copies 3 with one set of weights")
    assert dsvgraph.diff(before, after).deltas()["parameters"]["total"] == -2 * 4 * 4


CHAIN = """
head:
  args: {d, V}
  in: {h: [B, T, d], ids: "int[B, T]", table: [V, d]}
  body:
    next: {shift: ids, by: 1}
    emb: {embedding: next, weight: table}
    s: {add: [h, emb]}
    w: {linear: s, out: d}
    logits: {linear: w, out: V, weight: table}
  out: {h: w, ids: next, logits: logits}
"""
LOSS = "loss: {m: {cross_entropy: logits, target: ids, shift: depth + SHIFT}}"


def test_every_use_looks_one_token_further_and_no_head_may_see_its_target() -> None:
    body = "m: {head: {h: e, ids: ids, table: e.weight}, repeat: 3, tied: true}"
    found = model(body, "{logits: m.logits}", blocks=CHAIN, rest=LOSS.replace("SHIFT", "1"))
    horizons = found.nodes["m"].copy_horizons["logits"]
    assert [(r.by_input["ids"].ahead, r.fill) for r in horizons] == [(1, 1), (2, 2), (3, 3)]
    with pytest.raises(dsvgraph.DsvError, match="already seen tokens up to"):
        model(body, "{logits: m.logits}", blocks=CHAIN, rest=LOSS.replace("SHIFT", "0"))
