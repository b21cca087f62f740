"""Lines, references, arguments, typed inputs and expressions: design of the language, 1 to 7."""

from __future__ import annotations

import pytest
from small import message, model, node, spec, types, weights

import dsvgraph
from dsvgraph.graph import Ref

SCALE = """
scale:
  args: {d, by: 2.0}
  in: {x: [B, T, d]}
  body: {y: {times: x, by: by}}
  out: y
"""


# -- lines and references ---------------------------------------------------------------------


def test_a_line_is_a_node_with_types() -> None:
    y = node("y: {linear: e, out: 6, bias: true}")
    assert (y.callee, y.at, y.inputs) == ("linear", "y", {"x": Ref("e", "y")})
    assert types(y) == {"y": "[B, T, 6]"}
    assert {n: str(w.type) for n, w in y.weights.items()} == {"weight": "[6, 4]", "bias": "[6]"}


@pytest.mark.parametrize("wired", ["e", "e.y", "{x: e}", "{x: e.y}"])
def test_one_input_is_a_reference_or_a_port(wired: str) -> None:
    assert node(f"y: {{silu: {wired}}}").inputs == {"x": Ref("e", "y")}


def test_an_input_of_a_node_is_a_port_too() -> None:
    found = model("a: {silu: e}\ny: {relu: a.x}")
    assert found.nodes["y"].inputs == {"x": Ref("e", "y")}


def test_variadic_ops_take_lists() -> None:
    y = node("y: {concat: [e, e, e]}")
    assert list(y.inputs) == ["x0", "x1", "x2"]
    assert types(y) == {"y": "[B, T, 12]"}


def test_named_outputs() -> None:
    found = model("s: {split: e, into: {a: 1, b: 3}}\ny: {silu: s.b}\nz: {silu: s}", "{y: y, z: z}")
    assert types(found.nodes["s"]) == {"a": "[B, T, 1]", "b": "[B, T, 3]"}
    assert [str(found.type(ref)) for ref in found.outputs.values()] == ["[B, T, 3]", "[B, T, 1]"]


def test_edges_carry_ports_and_types() -> None:
    found = model("s: {split: e, into: {a: 1, b: 3}}\ny: {linear: s.b, out: 4}")
    ((_, _, edge),) = found.net.out_edges("s", data=True)
    assert (edge["src"], edge["dst"], str(edge["type"])) == ("b", "x", "[B, T, 3]")


def test_references_look_up_the_page() -> None:
    assert message("y: {silu: z}\nz: {silu: e}") == "there is no node or input `z` here"


# -- expressions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("d * 2 + 1", 9), ("2 ** d", 16), ("(d + 2) // 4", 1), ("d / 2", 2), ("d * 2.5", 10), ("-d + 7", 3),
        ("max(d, 7)", 7), ("ceil(d / 3)", 2), ("int(sqrt(d))", 2), ("d % 3", 1), ("9 if d > 3 else 1", 9),
        ("1 if d == 4 and not V < 9 else 5", 1), ("r.k", 3), ("l[d - 3]", 8), ("r.m[0]", 5),
    ],
)  # fmt: skip
def test_sizes_are_expressions(text: str, size: int) -> None:
    config = "{d: 4, V: 9, r: {k: 3, m: [5]}, l: [7, 8]}"
    assert types(node(f'y: {{linear: e, out: "{text}"}}', config=config)) == {"y": f"[B, T, {size}]"}


def test_config_values_are_written_in_terms_of_each_other() -> None:
    found = model("y: {linear: e, out: wide}", config="{wide: 3 * d, d: half * 2, half: 2, V: 9}")
    assert found.config == {"wide": 12, "d": 4, "half": 2, "V": 9}


def test_words_are_choices() -> None:
    y = node("y: {router: e, experts: 4, top_k: 2, score: kind}", config="{d: 4, V: 9, kind: softmax}")
    assert y.op.score == "softmax"


# -- blocks and their arguments ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "config", "by"),
    [
        ("{scale: e, by: 3}", "{d: 4, V: 9, by: 5}", 3),  # the call
        ("{scale: e}", "{d: 4, V: 9, by: 5}", 5),  # then the config
        ("{scale: e}", "{d: 4, V: 9}", 2),  # then the default
        ("{scale: e, by: d * 2}", "{d: 4, V: 9}", 8),  # an expression of the caller
    ],
)
def test_an_argument_is_looked_up(line: str, config: str, by: float) -> None:
    y = node(f"y: {line}", blocks=SCALE, config=config)
    assert y.copies[0].graph.nodes["y"].op.by == by


def test_a_required_argument_is_missing() -> None:
    words = message("y: {need: e}", blocks="need: {args: {k}, in: {x: [...]}, body: {y: {silu: x}}, out: y}")
    assert words == "`need` needs the argument `k`"


def test_a_default_reads_the_arguments_before_it() -> None:
    block = "wide: {args: {d, k: 2 * d}, in: {x: [B, T, d]}, body: {y: {linear: x, out: k}}, out: y}"
    assert types(node("y: {wide: e}", blocks=block)) == {"y": "[B, T, 8]"}


def test_nothing_else_is_visible_in_a_block() -> None:
    block = "deaf: {in: {x: [...]}, body: {y: {linear: x, out: d}}, out: y}"
    assert message("y: {deaf: e}", blocks=block) == "there is no name `d` here"


HOLDER = """
gate:  {args: {d}, in: {x: [..., d]}, body: {a: {sigmoid: x}, y: {mul: [x, a]}}, out: y}
holds:
  args: {d, inner: gate}
  in: {x: [B, T, d]}
  body: {y: {inner: x}}
  out: y
"""


@pytest.mark.parametrize(
    ("given", "callee", "attributes"),
    [
        ("", "gate", {}),  # the default
        (", inner: gate", "gate", {}),
        (", inner: silu", "silu", {}),  # an op
        (", inner: {times, by: 3}", "times", {"by": 3}),  # with attributes
        (", inner: act", "relu", {}),  # by way of the config
        (", inner: {scale, by: 7}", "scale", {"by": 7}),  # a block with an argument
        (", inner: scale if d > 3 else silu", "scale", {"by": 2}),
    ],
)
def test_blocks_and_ops_are_arguments(given: str, callee: str, attributes: dict[str, float]) -> None:
    y = node(f"y: {{holds: e{given}}}", blocks=HOLDER + SCALE, config="{d: 4, V: 9, act: relu}")
    inner = y.copies[0].graph.nodes["y"]
    assert inner.callee == callee
    values = inner.op.model_dump() if inner.op else inner.copies[0].graph.args
    assert {k: values[k] for k in attributes} == attributes


def test_an_attribute_on_the_line_goes_before_that_of_the_block_argument() -> None:
    block = "holds: {args: {inner}, in: {x: [...]}, body: {y: {inner: x, by: 5}}, out: y}"
    y = node("y: {holds: e, inner: {times, by: 3}}", blocks=block)
    assert y.copies[0].graph.nodes["y"].op.by == 5


def test_an_argument_hides_a_block_of_its_name() -> None:
    block = "holds: {args: {silu: relu}, in: {x: [...]}, body: {y: {silu: x}}, out: y}"
    assert node("y: {holds: e}", blocks=block).copies[0].graph.nodes["y"].callee == "relu"


def test_equal_calls_share_one_graph() -> None:
    found = model("a: {scale: e}\nb: {scale: a}\ny: {scale: b, by: 3}", blocks=SCALE)
    a, b, y = (found.nodes[n].copies[0].graph for n in "aby")
    assert a is b and a is not y
    assert found.graphs() == dict.fromkeys([a, y, found])


# -- typed inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "out"),
    [
        ("[B, T, d]", "d"), ("[..., d]", "d"), ("[...]", "7"), ("[B, T, width]", "width * 2"),
        ("[rows, columns, width]", "width"), ("[..., 2 * 2]", "1"), ('"[B, T, d]"', "d"),
    ],
)  # fmt: skip
def test_typed_inputs_bind(declared: str, out: str) -> None:
    block = f"fit: {{args: {{d}}, in: {{x: {declared}}}, body: {{y: {{linear: x, out: {out}}}}}, out: y}}"
    size = {"d": 4, "width": 4, "width * 2": 8, "7": 7, "1": 1}[out]
    assert types(node("y: {fit: e}", blocks=block)) == {"y": f"[B, T, {size}]"}


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("[B, T, d + 1]", "expected [B, T, d + 1], found [B, T, 4]: `d + 1` (= 5) against 4"),
        ("[B, d]", "expected [B, d], found [B, T, 4]: another number of axes"),
        ("int[B, T]", "expected int[B, T], found [B, T, 4]: another kind of number"),
        ("[n, n, d]", "expected [n, n, d], found [B, T, 4]: `n` (= B) against T"),
        ("[..., 3, d]", "expected [..., 3, d], found [B, T, 4]: `3` against T"),
    ],
)
def test_a_mismatch_says_what_was_expected_and_found(declared: str, words: str) -> None:
    block = f'fit: {{args: {{d}}, in: {{x: "{declared}"}}, body: {{y: {{silu: x}}}}, out: y}}'
    assert message("y: {fit: e}", blocks=block) == f"input `x` of `fit`: {words}"


def test_inputs_may_share_a_size() -> None:
    block = "pair: {in: {a: [..., n], b: [..., n]}, body: {y: {add: [a, b]}}, out: y}"
    wrong = message("w: {linear: e, out: 5}\ny: {pair: {a: e, b: w}}", blocks=block)
    assert wrong == "input `b` of `pair`: expected [..., n], found [B, T, 5]: `n` (= 4) against 5"


# -- paths and the cache ----------------------------------------------------------------------

DEEP = """
inner: {args: {d}, in: {x: [..., d]}, body: {w: {linear: x, out: d}, v: {linear: w, out: d, at: far.off}}, out: v}
outer: {args: {d}, in: {x: [..., d]}, body: {i: {inner: x}, j: {inner: i, at: .}, k: {inner: j, at: a.b}}, out: k}
"""


def test_paths_are_addresses_joined() -> None:
    found = model("y: {outer: e, at: model}", blocks=DEEP)
    assert list(weights(found)) == [
        "e.weight", "model.i.w.weight", "model.i.far.off.weight", "model.w.weight", "model.far.off.weight",
        "model.a.b.w.weight", "model.a.b.far.off.weight",
    ]  # fmt: skip


def test_the_cache_names_what_decoding_keeps() -> None:
    block = "kept: {args: {d}, in: {x: [B, T, d]}, body: {k: {linear: x, out: 2}, y: {silu: k}}, out: y, cache: [k]}"
    inner = node("y: {kept: e}", blocks=block).copies[0].graph
    assert inner.cache == (Ref("k", "y"),)
    assert str(inner.type(inner.cache[0])) == "[B, T, 2]"


def test_a_spec_from_text_has_a_name() -> None:
    assert dsvgraph.loads(spec("y: {silu: e}")).name == "spec"
    assert dsvgraph.loads("name: Small\n" + spec("y: {silu: e}")).name == "Small"
