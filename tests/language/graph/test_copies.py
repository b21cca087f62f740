"""`repeat` and `each`: what is carried, shared, sliced and stacked; copies that differ; numbering."""

from __future__ import annotations

import pytest
from small import message, model, node, types, weights

import dsvgraph
from dsvgraph.graph import Node

BLOCKS = """
layer: {args: {d}, in: {x: [..., d]}, body: {w: {linear: x, out: d}}, out: {x: w}}
step:
  args: {d, by: 2}
  in: {h: [B, T, d], side: [B, T, d]}
  body:
    s: {add: [h, side]}
    h2: {times: s, by: by}
    seen: {linear: h2, out: 3}
  out: {h: h2, seen: seen}
full:    {args: {d}, in: {x: [B, T, d]}, body: {w: {linear: x, out: d}}, out: w}
sliding: {args: {d, window: 4}, in: {x: [B, T, d]}, body: {w: {linear: x, out: d}, t: {times: w, by: window}}, out: t}
holds:   {args: {d, attn: full}, in: {x: [B, T, d]}, body: {a: {attn: x}}, out: {x: a}}
"""


def copies(found: Node) -> list[str]:
    """The callee inside each copy of `holds`, with what it was given."""
    inner = [graph.nodes["a"].copies[0].graph for _, graph in found.copy_graphs()]
    return [f"{g.name} {g.args['window']}" if "window" in g.args else g.name for g in inner]


# -- repeat -----------------------------------------------------------------------------------


def test_repeat_carries_what_goes_in_and_out() -> None:
    found = model("y: {layer: e, repeat: 3, at: model.layers}", blocks=BLOCKS)
    y = found.nodes["y"]
    assert (y.mode, y.count, y.start, y.roles) == ("repeat", 3, 0, {"x": "carried"})
    assert types(y) == {"x": "[B, T, 4]"}
    assert weights(found) == {"e.weight": "[9, 4]", "model.layers.[0-2].w.weight": "[4, 4]"}
    assert [number for number, _ in y.copy_graphs()] == [0, 1, 2]


def test_repeat_shares_slices_and_stacks() -> None:
    body = """
    sides: {full: e, each: 3, share: [x]}
    y: {step: {h: e, side: sides}, repeat: 3, slice: [side]}
    z: {step: {h: e, side: e}, repeat: 5}
    """
    found = model(body, "{y: y.seen, z: z.seen}", blocks=BLOCKS)
    y, z = found.nodes["y"], found.nodes["z"]
    assert y.roles == {"h": "carried", "side": "sliced", "seen": "stacked"}
    assert z.roles == {"h": "carried", "side": "shared", "seen": "stacked"}
    assert types(found.nodes["sides"]) == {"y": "[3, B, T, 4]"}
    assert types(y) == {"h": "[B, T, 4]", "seen": "[3, B, T, 3]"}
    assert types(z) == {"h": "[B, T, 4]", "seen": "[5, B, T, 3]"}


def test_a_port_that_is_carried_can_be_shared_or_sliced_instead() -> None:
    shared = node("y: {layer: e, repeat: 3, share: [x]}", blocks=BLOCKS)
    assert (shared.roles, types(shared)) == ({"x": "shared"}, {"x": "[3, B, T, 4]"})
    sliced = node("a: {layer: e, repeat: 3, share: [x]}\ny: {layer: a, repeat: 3, slice: x}", blocks=BLOCKS)
    assert (sliced.roles, types(sliced)) == ({"x": "sliced"}, {"x": "[3, B, T, 4]"})


def test_a_slice_needs_one_piece_a_copy() -> None:
    words = message("a: {full: e, each: 2, share: x}\ny: {layer: a, repeat: 3, slice: x}", blocks=BLOCKS)
    assert words == "`x` is [2, B, T, 4]; one piece per copy needs a first axis of 3"


def test_repeat_of_an_op() -> None:
    found = model("y: {linear: e, out: d, repeat: 2}")
    assert weights(found)["y.[0-1].weight"] == "[4, 4]"
    assert (found.nodes["y"].roles, types(found.nodes["y"])) == ({"x": "carried"}, {"x": "[B, T, 4]"})


def test_repeat_of_an_op_with_a_shared_weight() -> None:
    found = model("w: {linear: e, out: d}\ny: {linear: w, out: d, weight: w.weight, repeat: 2}")
    assert list(weights(found)) == ["e.weight", "w.weight"]
    assert found.nodes["y"].roles == {"x": "carried", "weight": "shared"}


def test_no_copies_hand_on_what_came() -> None:
    found = model("y: {step: {h: e, side: e}, repeat: 0}", "{y: y, seen: y.seen}", blocks=BLOCKS)
    y = found.nodes["y"]
    assert (y.copies, list(y.copy_graphs())) == ((), [])
    assert types(y) == {"h": "[B, T, 4]", "seen": "[0, B, T, 3]"}
    assert found.horizons["y"] == found.nodes["e"].horizons["y"]
    assert list(weights(found)) == ["e.weight"]


def test_lists_at_one_address_continue_its_numbering() -> None:
    body = """
    a: {layer: e, repeat: 2, at: layers}
    b: {full: a, repeat: 0, at: layers, share: x}
    c: {linear: a, out: 4, repeat: 1, at: other}
    y: {layer: c, repeat: 3, at: layers}
    """
    found = model(body, blocks=BLOCKS)
    assert [found.nodes[n].start for n in "abcy"] == [0, 2, 0, 2]
    assert list(weights(found))[1:] == ["layers.[0-1].w.weight", "other.[0].weight", "layers.[2-4].w.weight"]


def test_a_carried_port_keeps_its_type() -> None:
    block = "grow: {in: {x: [..., n]}, body: {y: {linear: x, out: 2 * n}}, out: {x: y}}"
    assert message("y: {grow: e, repeat: 2}", blocks=block) == (
        "`x` is carried from copy to copy, so it must keep its type: [B, T, 4] goes in, [B, T, 8] comes out"
    )


# -- each -------------------------------------------------------------------------------------


def test_each_slices_and_stacks() -> None:
    body = "a: {layer: e, each: 3, share: [x], at: heads}\ny: {layer: a, each: 3, at: heads}"
    found = model(body, blocks=BLOCKS)
    assert [found.nodes[n].roles for n in "ay"] == [{"x": "shared"}, {"x": "sliced"}]
    assert [types(found.nodes[n]) for n in "ay"] == [{"x": "[3, B, T, 4]"}] * 2
    assert list(weights(found))[1:] == ["heads.[0-2].w.weight", "heads.[3-5].w.weight"]


def test_each_over_experts() -> None:
    body = """
    r: {router: e, experts: 6, top_k: 2}
    sent: {dispatch: {x: e, index: r.index}, experts: 6}
    done: {layer: sent, each: 6, at: experts}
    y: {combine: {x: done, index: r.index, score: r.score}}
    """
    found = model(body, blocks=BLOCKS)
    assert [types(found.nodes[n]) for n in ("sent", "done", "y")] == [
        {"y": "[6, B*T/3, 4]"}, {"x": "[6, B*T/3, 4]"}, {"y": "[B, T, 4]"},
    ]  # fmt: skip
    assert weights(found)["experts.[0-5].w.weight"] == "[4, 4]"


# -- copies that differ -----------------------------------------------------------------------

LIST = "{d: 4, V: 9, layer_types: [sliding, sliding, full]}"


@pytest.mark.parametrize(
    ("attn", "wanted"),
    [
        ("full", ["full"] * 5),
        ("full if index < 2 else sliding", ["full", "full", *["sliding 4"] * 3]),
        ("sliding if index % 2 else full", ["full", "sliding 4", "full", "sliding 4", "full"]),
        ("[sliding, full]", ["sliding 4", "full"] * 2 + ["sliding 4"]),
        ("[{sliding, window: 8}, full]", ["sliding 8", "full"] * 2 + ["sliding 8"]),
        ("layer_types", ["sliding 4", "sliding 4", "full", "sliding 4", "sliding 4"]),
        ("layer_types[2 - index % 3]", ["full", "sliding 4", "sliding 4", "full", "sliding 4"]),
        ("{sliding, window: index * 2 + 1}", [f"sliding {2 * i + 1}" for i in range(5)]),
    ],
)
def test_copies_differ_by_index(attn: str, wanted: list[str]) -> None:
    y = node(f"y:\n  holds: e\n  attn: {attn}\n  repeat: 5", blocks=BLOCKS, config=LIST)
    assert copies(y) == wanted


def test_the_index_is_the_number_in_the_address() -> None:
    body = """
    a: {layer: e, repeat: 1, at: layers}
    y: {holds: a, attn: [sliding, full], repeat: 2, at: layers}
    """
    assert copies(node(body, blocks=BLOCKS)) == ["full", "sliding 4"]


def test_equal_copies_are_one_graph_and_runs_are_folded() -> None:
    y = node("y: {holds: e, attn: [full, full, full, sliding], repeat: 10}", blocks=BLOCKS)
    assert [copies.count for copies in y.copies] == [3, 1, 3, 1, 2]
    assert len({copies.graph for copies in y.copies}) == 2


def test_a_size_may_depend_on_the_index() -> None:
    block = "ff: {args: {d, n}, in: {x: [..., d]}, body: {a: {linear: x, out: n}, y: {linear: a, out: d}}, out: {x: y}}"
    found = model("y: {ff: e, n: 8 * (index + 1), repeat: 3}", blocks=block)
    assert [weights(found)[f"y.[{i}].a.weight"] for i in range(3)] == ["[8, 4]", "[16, 4]", "[24, 4]"]


def test_an_op_may_depend_on_the_index() -> None:
    y = node("y: {times: e, by: index + 1, repeat: 3}")
    assert [graph.nodes["times_"].op.by for _, graph in y.copy_graphs()] == [1, 2, 3]


def test_each_may_depend_on_the_index() -> None:
    y = node("y: {sliding: e, window: index, each: 3, share: x}", blocks=BLOCKS)
    assert [graph.args["window"] for _, graph in y.copy_graphs()] == [0, 1, 2]


def test_copies_give_the_same_types() -> None:
    block = "grow: {args: {n}, in: {x: [...]}, body: {y: {linear: x, out: n}}, out: y}"
    assert message("y: {grow: e, n: index + 1, each: 2, share: x}", blocks=block) == (
        "copies must give the same types, `y` is [B, T, 1] and then [B, T, 2]"
    )


def test_symbolic_counts() -> None:
    found = dsvgraph.load("deepseek_v3_tiny", symbolic=["num_nextn_predict_layers"])
    mtp = found.nodes["mtp"]
    assert str(mtp.outputs["logits"]) == "[num_nextn_predict_layers, B, T, 256]"
    assert (mtp.roles["ids"], mtp.roles["logits"], mtp.roles["head"]) == ("carried", "stacked", "shared")
