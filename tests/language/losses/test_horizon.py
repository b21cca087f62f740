"""How far ahead a position has seen: by hand for every wiring, by a judge for random ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import message, messages, model, node, spec
from tracing import fill, horizon, trace

import dsvgraph
from dsvgraph.graph import Model
from dsvgraph.types import Horizon, Horizons

BLOCKS = """
look:
  args: {d, causal: true}
  in: {x: [B, T, d]}
  body:
    q: {linear: x, out: [2, 2]}
    a: {attention: {q: q, k: q, v: q}, causal: causal}
    o: {linear: a, contract: 2, out: d}
  out: {x: o}
next: {in: {x: [B, T, d]}, body: {s: {shift: x, by: 1}}, out: {x: s}}
step:
  args: {d}
  in: {h: [B, T, d], s: [B, T, d]}
  body: {n: {shift: s, by: 1}, l: {look: n}, h2: {add: [h, l]}, q: {linear: h2, out: [2, 2]}}
  out: {h: h2, s: n, seen: h2, heads: q}
fetch:
  args: {d, causal: true}
  in: {x: [n, B, T, d]}
  body:
    q: {linear: x, out: [2, 2]}
    a: {stack_attention: {q: q, k: q, v: q}, causal: causal}
    o: {linear: a, contract: 2, out: d}
  out: {y: o}
double: {in: {x: [n, B, T, d]}, body: {a: {fetch: x}, b: {fetch: a}}, out: {y: b}}
take:
  in: {h: [B, T, d], piece: [B, T, d]}
  body: {a: {add: [h, piece]}}
  out: {h: a, all: piece}
"""


def horizon_of(found: Model, name: str = "y", port: str = "") -> tuple[float, int]:
    horizons = found.nodes[name].horizons[port or found.nodes[name].first]
    return horizons.ahead("ids"), horizons.fill


# -- by hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("y: {silu: e}", (0, 0)),
        ("y: {shift: e}", (1, 1)),
        ("y: {shift: e, by: 3}", (3, 3)),
        ("y: {shift: e, by: -2}", (-2, 0)),
        ("a: {shift: e, by: -2}\ny: {shift: a, by: 3}", (1, 3)),
        ("a: {shift: e, by: 3}\ny: {shift: a, by: -3}", (0, 3)),  # fill counts on, to be safe
        ("a: {shift: e}\ny: {add: [a, e]}", (1, 1)),  # a join takes the largest
        ("a: {shift: e, by: -1}\ny: {mul: [a, e]}", (0, 0)),
        ("y: {shift: e, repeat: 4}", (4, 4)),
        ("y: {shift: e, by: index + 1, repeat: 3}", (6, 6)),
        ("y: {next: e, repeat: 1000}", (1000, 1000)),
        ("y: {shift: e, repeat: 0}", (0, 0)),
        ("y: {look: e}", (0, 0)),
        ("a: {shift: e}\ny: {look: a}", (1, 1)),
        ("a: {look: e}\ny: {shift: a}", (1, 1)),
        ("y: {look: e, causal: false}", (math.inf, 0)),
        ("y: {look: e, causal: index < 2, repeat: 3}", (math.inf, 0)),
        ("a: {shift: ids}\ny: {embedding: a, weight: e.weight}", (1, 1)),
        ("a: {next: e}\ny: {next: a}", (2, 2)),
    ],
)
def test_ops_and_blocks(body: str, wanted: tuple[float, int]) -> None:
    assert horizon_of(model(body, blocks=BLOCKS)) == wanted


def test_a_weight_has_seen_nothing() -> None:
    found = model("y: {rms_norm: e.weight}")
    assert found.nodes["y"].horizons["y"] == Horizons()
    assert found.nodes["y"].horizons["y"].ahead("ids") == -math.inf


def test_inputs_are_told_apart() -> None:
    text = spec("a: {embedding: b, weight: e.weight}\ns: {shift: a, by: 2}\ny: {add: [e, s]}")
    found = dsvgraph.loads(text.replace('{ids: "int[B, T]"}', '{ids: "int[B, T]", b: "int[B, T]"}'))
    horizons = found.horizons["y"]
    assert (horizons.ahead("ids"), horizons.ahead("b")) == (0, 2)


def test_a_chain_sees_one_more_in_every_copy() -> None:
    y = node("y: {step: {h: e, s: e}, repeat: 3}", blocks=BLOCKS)
    assert [horizons.ahead("ids") for horizons in y.copy_horizons["seen"]] == [1, 2, 3]
    assert [y.horizons[port].ahead("ids") for port in ("h", "s", "seen")] == [3, 3, 3]


def test_a_long_chain_settles_where_nothing_moves() -> None:
    text = "y: {look: e, repeat: 10000}"
    y = node(text, blocks=BLOCKS)
    assert (len(y.copy_horizons["x"]), horizon_of(model(text, blocks=BLOCKS))) == (
        10000,
        (0, 0),
    )


PIECES = "c: {step: {h: e, s: e}, repeat: 3}\n"


@pytest.mark.parametrize(
    "line",
    [
        "y: {silu: c.seen}",
        "y: {linear: c.seen, out: V}",
        "y: {look: c.seen, each: 3}",
        "y: {take: {h: e, piece: c.seen}, repeat: 3, slice: [piece], share: [h]}",
        "a: {relu: c.seen}\nb: {rms_norm: a}\ny: {add: [a, b]}",
        "y: {stack_attention: {q: c.heads, k: c.heads, v: c.heads}}",
        "y: {fetch: c.seen}",  # through a block, which is analysed once for all that is wired into it
        "y: {double: c.seen}",
        "f: {fetch: c.seen}\ny: {take: {h: e, piece: f}, repeat: 3, slice: [piece], share: [h]}",
    ],
)
def test_pieces_of_a_stack_are_told_apart(line: str) -> None:
    y = node(PIECES + line, blocks=BLOCKS)
    assert [horizons.ahead("ids") for horizons in y.copy_horizons[y.first]] == [1, 2, 3]


@pytest.mark.parametrize(
    "line",
    [
        "y: {fetch: c.seen, causal: false}",
        'y: {einsum: c.seen, equation: "n b t d -> b t d"}',
        "f: {fetch: c.seen, causal: false}\ny: {double: f}",
    ],
)
def test_pieces_that_see_each_other_are_not(line: str) -> None:
    found = model(PIECES + line, blocks=BLOCKS)
    assert horizon_of(found)[0] == 3
    assert {horizons.ahead("ids") for horizons in found.nodes["y"].copy_horizons.get("y", [])} <= {3}


def test_pieces_that_are_gathered_are_joined() -> None:
    y = node(PIECES + "y: {take: {h: e, piece: c.seen}, repeat: 3, slice: piece}", blocks=BLOCKS)
    assert [horizons.ahead("ids") for horizons in y.copy_horizons["h"]] == [1, 2, 3]
    assert y.horizons["h"].ahead("ids") == 3


def test_copies_of_a_carried_stack_are_not_its_pieces() -> None:
    """Every piece of the stack goes through all three copies."""
    move = "move: {in: {x: [n, B, T, d]}, body: {m: {next: x, each: n}}, out: {x: m}}"
    body = "s: {silu: e, each: 3, share: x}\nc: {move: s, repeat: 3}\ny: {silu: c}"
    found = model(body, blocks=BLOCKS + move)
    assert found.nodes["y"].copy_horizons == {}
    assert horizon_of(found) == (3, 3)
    rest = "loss: {a: {cross_entropy: y, target: ids, shift: depth}}"
    assert "at depth 1 predicts token i + 1" in "".join(messages(body, "{y: y}", blocks=BLOCKS + move, rest=rest))


def test_after_a_number_of_copies_that_is_not_known_all_may_have_been_seen() -> None:
    text = spec("y: {step: {h: e, s: e}, repeat: n}", blocks=BLOCKS, config="{d: 4, V: 9, n: 3}")
    found = dsvgraph.build(dsvgraph.spec.with_settings(dsvgraph.spec.read_text(text), {}, frozenset(["n"])))
    assert horizon_of(found, port="h")[0] == math.inf


def test_a_chain_of_released_layers() -> None:
    found = dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": 3})
    mtp = found.nodes["mtp"]
    stacked = mtp.copy_horizons["logits"]
    assert [r.by_input["input_ids"] for r in stacked] == [
        Horizon(1, 1),
        Horizon(2, 2),
        Horizon(3, 3),
    ]
    assert found.horizons["logits"].by_input["input_ids"] == Horizon(0, 0)


# -- by the judge -----------------------------------------------------------------------------


@dataclass
class Program:
    """A random body: lines, and the names that hold [B, T, d] and stacks of three."""

    lines: list[str]
    rows: list[str]
    stacks: list[str]


@st.composite
def programs(draw: st.DrawFn, backwards: bool) -> Program:
    made = Program([], ["e"], [])
    for number in range(draw(st.integers(1, 7))):
        name, a, b = f"n{number}", draw(st.sampled_from(made.rows)), draw(st.sampled_from(made.rows))
        by, way = draw(st.integers(-2 if backwards else 1, 2)), draw(st.sampled_from([-1, 1] if backwards else [1]))
        rows = {
            f"{{silu: {a}}}": name, f"{{add: [{a}, {b}]}}": name, f"{{shift: {a}, by: {by}}}": name,
            f"{{look: {a}}}": name, f"{{look: {a}, causal: false}}": name, f"{{next: {a}, repeat: 2}}": name,
            f"{{shift: {a}, by: {way} * index, repeat: 3}}": name,
            f"{{step: {{h: {a}, s: {b}}}, repeat: 3}}": name,
        }  # fmt: skip
        stacks = {f"{{step: {{h: {a}, s: {b}}}, repeat: 3}}": f"{name}.seen"}
        if made.stacks:
            piece = draw(st.sampled_from(made.stacks))
            rows |= {f"{{take: {{h: {a}, piece: {piece}}}, repeat: 3, slice: [piece]}}": name}
            stacks |= {f"{{look: {piece}, each: 3}}": name, f"{{relu: {piece}}}": name}
            stacks |= {f"{{{call}}}": name for call in (f"fetch: {piece}", f"fetch: {piece}, causal: false")}
            stacks |= {f"{{double: {piece}}}": name}
        line = draw(st.sampled_from(sorted({**rows, **stacks})))
        made.lines.append(f"{name}: {line}")
        made.rows += [rows[line]] if line in rows else []
        made.stacks += [stacks[line]] if line in stacks else []
    return made


def judged(program: Program, exact_fill: bool) -> None:
    found = model("\n".join(program.lines), program.rows[-1], blocks=BLOCKS)
    seen = trace(found)
    for name in found.nodes.keys() - {"e"}:
        line = found.nodes[name]
        for port, horizons in line.horizons.items():
            value = seen[(name, port)]
            assert horizons.ahead("ids") == horizon(value, "ids"), (name, port)
            if horizons.ahead("ids") < math.inf:
                assert horizons.fill == fill(value) if exact_fill else horizons.fill >= fill(value), (name, port)
            if isinstance(value, list):
                pieces = line.copy_horizons.get(port, [horizons] * len(value))
                assert [p.ahead("ids") for p in pieces] == [horizon(v, "ids") for v in value], (name, port)


@pytest.mark.slow
@given(programs(backwards=False))
@settings(max_examples=150, deadline=None)
def test_random_wirings(program: Program) -> None:
    judged(program, exact_fill=True)


@pytest.mark.slow
@given(programs(backwards=True))
@settings(max_examples=150, deadline=None)
def test_random_wirings_that_look_back_too(program: Program) -> None:
    judged(program, exact_fill=False)


@pytest.mark.parametrize("name", ["deepseek_v3_tiny", "deepseek_v3_paper", "tutorial_mtp"])
def test_shipped_models(name: str) -> None:
    sizes = {"num_hidden_layers": 2, "num_nextn_predict_layers": 3, "n_routed_experts": 16}
    found = dsvgraph.load(name, sizes | ({"first_k_dense_replace": 1} if "deepseek" in name else {}))
    seen = trace(found)
    for ref, horizons in zip(found.outputs.values(), found.horizons.values()):
        assert horizons.ahead("input_ids") == horizon(seen[ref], "input_ids")
        assert horizons.fill == fill(seen[ref])


# -- ways to hide a look ahead ----------------------------------------------------------------

MOE = """
r: {router: e, experts: 4, top_k: 2}
o: {router: e, experts: 4, top_k: 2}
s: {dispatch: {x: e, index: r.index}, experts: 4}
"""
RETURN = "cannot be brought back: it was not sent by this index, in this body"
ORDERS = "rows sorted by expert meet rows in another order"
RUNNING = "known only when the model runs, here a number is needed"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (MOE + "y: {combine: {x: s, index: o.index, score: r.score}}", RETURN),
        (MOE + "i: {shift: r.index}\ny: {combine: {x: s, index: i, score: r.score}}", RETURN),
        (MOE + "t: {dispatch: {x: e, index: o.index}, experts: 4}\ny: {add: [s, t]}", ORDERS),
        (MOE + "t: {dispatch: {x: e, index: o.index}, experts: 4}\ny: {concat: [s, t]}", ORDERS),
        (MOE + "y: {shift: s}", "looks along axis 1, which must be positions, found [4, B*T/2, 4]"),
        (MOE + "y: {linear: s, contract: 2, out: 4}", "mix along B*T/2, which counts positions"),
        (MOE + "y: {relu: s, each: 4, share: x}", "`x` is sorted by expert: only `each` cuts it"),
        (MOE + "y: {relu: s, repeat: 4, slice: x}", "`x` is sorted by expert: only `each` cuts it"),
        (MOE + "y: {relu: s, repeat: 2, share: x}", "sorted by expert, so it cannot be stacked"),
        (MOE + "y: {silu: s, each: 4}", "the rows of `y` are sorted by expert, so they cannot leave this body"),
        (MOE + "y: {silu: s}", "`s.y` is sorted by expert: only `each` and `combine` read it"),
        ("y: {concat: [e, e], each: 2}", "one piece per copy needs a first axis of 2"),
        ("y: {linear: e, contract: 2, out: 4}", "mix along T, which counts positions"),
        ("y: {linear: e, out: 4, weight: e}", "the wired `weight` is [B, T, 4], expected [4, 4]"),
        ("y: {embedding: ids, weight: e}", "an embedding's weight has two axes"),
        ("y: {rms_norm: e, weight: e}", "the wired `weight` is [B, T, 4], expected [4]"),
        ("s: {silu: e, each: 2, share: x}\ny: {shift: s}", "looks along axis 1, which must be positions, found [2, B"),
        ("s: {silu: e, each: 2, share: x}\ny: {look: s}", "expected [B, T, d], found [2, B, T, 4]"),
    ],
)
def test_hidden_looks_are_refused(body: str, words: str) -> None:
    assert words in message(body, blocks=BLOCKS)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("y: {linear: x, out: T}", RUNNING),
        ("y: {expand: x, size: T}", RUNNING),
        ("y: {split: x, into: {a: T, b: d - T}}", RUNNING),
        ("y: {silu: x, repeat: T}", RUNNING),
        ("y: {silu: x, each: B}", RUNNING),
        ("y: {times: x, by: T ** -0.5}", RUNNING),
        ("y: {copy: x, n: 2 * T}", RUNNING),
    ],
)
def test_sizes_of_the_data_are_no_numbers(lines: str, words: str) -> None:
    blocks = "hide: {args: {d}, in: {x: [B, T, d]}, body: {" + lines + "}, out: y}\n"
    blocks += "copy: {args: {n}, in: {x: [...]}, body: {y: {silu: x}}, out: y}"
    assert words in message("y: {hide: e}", blocks=blocks)


@pytest.mark.parametrize(
    ("op", "rank"), [("{rms_norm: x}", 2), ("{layer_norm: x}", 2), ("{linear: x, out: 3}", 2),
                     ("{concat: [x, x]}", 2), ("{split: x, into: {a: 1, b: 1}}", 2), ("{expand: x, size: 2}", 2),
                     ("{linear: x, contract: 2, out: 3}", 3), ("{linear: x, contract: 3, out: 3}", 3)],
)  # fmt: skip
def test_no_op_mixes_positions(op: str, rank: int) -> None:
    text = f"graph:\n  in: {{x: {['', '', '[B, T]', '[B, T, 4]'][rank]}}}\n  body: {{y: {op}}}\n  out: y\n"
    with pytest.raises(dsvgraph.DsvError) as caught:
        dsvgraph.loads(text)
    assert ", not features" in str(caught.value) or "do not add up" in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ('{ids: "int[2, T]"}', "axis 0 counts rows of the batch, a name without a value such as B, found `2`"),
        ('{ids: "int[B, 16]"}', "axis 1 counts positions, a name without a value such as T, found `16`"),
        ('{ids: "int[B, d]"}', "axis 1 counts positions, a name without a value such as T, found `d`"),
        ('{ids: "int[T, T]"}', "`T` cannot count both rows of the batch and positions"),
        ('{ids: "int[B, T]", z: "int[T, B]"}', "axis 0 counts rows of the batch, `B` in the inputs before, found `T`"),
        ('{ids: "int[B, T]", z: "int[T]"}', "axis 0 counts rows of the batch, `B` in the inputs before, found `T`"),
        ('{ids: "int[B, T]", z: "int[B, S]", y: "int[S, T]"}', "axis 0 counts rows of the batch, `B` in the inputs"),
        ('{ids: "int[B, T]", z: "[B, T, dd]"}', "there is no name `dd` here"),
    ],
)
def test_positions_of_all_inputs_are_the_same(inputs: str, words: str) -> None:
    with pytest.raises(dsvgraph.DsvError) as caught:
        dsvgraph.loads(spec("y: {silu: e}").replace('{ids: "int[B, T]"}', inputs))
    assert caught.value.diagnostics[0].message.startswith(words)
