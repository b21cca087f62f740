"""Weights: owned or wired, their names, and what sections by path say of them."""

from __future__ import annotations

import pytest
from small import message, messages, model, weights

from dsvgraph.graph import Ref
from dsvgraph.types import ONES, ZEROS, Init, InitKind

HEAD = """
head: {args: {d, V}, in: {x: [..., d], table: [V, d]}, body: {y: {linear: x, out: V, weight: table}}, out: y}
"""


def test_a_weight_is_a_port() -> None:
    found = model("y: {linear: e, out: V, weight: e.weight}")
    y = found.nodes["y"]
    assert (y.tied, y.weights) == ({"weight": Ref("e", "weight")}, {})
    assert list(weights(found)) == ["e.weight"]
    ports = {edge["dst"]: edge["src"] for _, _, edge in found.net.in_edges("y", data=True)}
    assert ports == {"x": "y", "weight": "weight"}


def test_a_weight_enters_a_block_by_an_input() -> None:
    found = model("y: {head: {x: e, table: e.weight}}", blocks=HEAD)
    y = found.nodes["y"]
    assert y.inputs == {"x": Ref("e", "y"), "table": Ref("e", "weight")}
    assert y.copies[0].graph.nodes["y"].tied == {"weight": Ref("table", "table")}
    assert list(weights(found)) == ["e.weight"]


def test_a_tied_weight_can_be_handed_on() -> None:
    found = model("a: {linear: e, out: V, weight: e.weight}\ny: {linear: e, out: V, weight: a.weight}")
    assert found.nodes["y"].tied == {"weight": Ref("e", "weight")}


def test_an_embedding_takes_its_sizes_from_a_wired_table() -> None:
    found = model("y: {embedding: ids, weight: e.weight}")
    assert str(found.nodes["y"].outputs["y"]) == "[B, T, 4]"


def test_a_weight_may_be_an_output_of_a_block() -> None:
    giver = "giver: {args: {d}, in: {x: [..., d]}, body: {w: {linear: x, out: d}}, out: {x: w, w: w.weight}}"
    found = model("a: {giver: e}\ny: {linear: a, out: d, weight: a.w}", blocks=giver)
    assert found.nodes["y"].tied == {"weight": Ref("a", "w")}
    assert list(weights(found)) == ["e.weight", "a.w.weight"]


def test_one_module_applied_many_times_is_a_block_whose_weights_are_inputs() -> None:
    block = "again: {args: {d}, in: {x: [..., d], w: [d, d]}, body: {y: {linear: x, out: d, weight: w}}, out: {x: y}}"
    found = model("a: {linear: e, out: d}\ny: {again: {x: a, w: a.weight}, repeat: 3}", blocks=block)
    assert list(weights(found)) == ["e.weight", "a.weight"]
    assert found.nodes["y"].roles == {"x": "carried", "w": "shared"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("y: {linear: e, out: V, weight: e}", "the wired `weight` is [B, T, 4], expected [9, 4]"),
        ("y: {linear: e, out: 5, weight: e.weight}", "the wired `weight` is [9, 4], expected [5, 4]"),
        ("y: {silu: e, weight: e.weight}", "`silu` has no weight `weight` here; it has none"),
        ("y: {rms_norm: e, bias: e.weight}", "`rms_norm` has no weight `bias` here; it has weight"),
    ],
)
def test_a_wired_weight_must_fit(line: str, words: str) -> None:
    assert message(line) == words


def test_two_weights_cannot_have_one_name() -> None:
    assert message("a: {linear: e, out: d, at: m.w}\ny: {linear: a, out: d, at: m.w}") == (
        "`m.w.weight` would be the name of two weights, of this line"
    )


def test_copies_cannot_have_one_name_by_way_of_two_blocks() -> None:
    blocks = """
    layer: {args: {d}, in: {x: [..., d]}, body: {w: {linear: x, out: d}}, out: {x: w}}
    trunk: {args: {d}, in: {x: [..., d]}, body: {y: {layer: x, repeat: 3, at: layers}}, out: y}
    """
    body = "a: {layer: e, repeat: 2, at: m.layers}\ny: {trunk: a, at: m}"
    assert message(body, blocks=blocks) == "`m.layers` lies below the address of a module of another line"
    apart = body.replace("m.layers", "n.layers")
    assert "n.layers.[0-1].w.weight" in weights(model(apart, blocks=blocks))


def test_a_weight_is_no_folder() -> None:
    assert message("a: {linear: e, out: d, at: m}\ny: {linear: a, out: d, at: m.weight}") == (
        "`m.weight.weight` would lie below a weight, `m.weight`, of this line"
    )


# -- sections by path -------------------------------------------------------------------------


def test_init_and_trained_are_kept_in_order() -> None:
    rest = """
    init:
      "**": {normal: std / 2}
      "y.weight": zeros
      "**.bias": ones
    trained: {"e.**": false}
    """
    found = model("y: {linear: e, out: 4}", rest=rest, config="{d: 4, V: 9, std: 0.5}")
    assert found.init == (("**", Init(InitKind.NORMAL, 0.25)), ("y.weight", ZEROS), ("**.bias", ONES))
    assert found.trained == (("e.**", False),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("one", "`one` is no initialisation"),
        ("{normal: -1}", "`normal` needs a number of at least 0, found `-1`"),
        ("{normal: stdd}", "there is no name `stdd` here"),
        ("{normal: }", "`normal` needs a number of at least 0, found `null`"),
        ("{zeros: 3}", "`zeros` takes no number, found `3`"),
        ("{normal: 1, zeros: }", "`{normal: 1, zeros: null}` is no initialisation"),
    ],
)
def test_a_wrong_init_is_refused(value: str, words: str) -> None:
    assert messages("y: {silu: e}", rest=f'init: {{"**": {value}}}') == [words]
