"""Losses: what is scored against what, weights as expressions, and label leaks."""

from __future__ import annotations

import math

import pytest
from small import message, messages, model, spec

import dsvgraph
from dsvgraph.build.losses.lines import number
from dsvgraph.expr import to_text
from dsvgraph.graph import Loss

STEP = """
step:
  args: {d, V}
  in: {h: [B, T, d], ids: "int[B, T]"}
  body:
    n: {shift: ids}
    e: {embedding: n, num: V, dim: d}
    s: {add: [h, e]}
    o: {linear: s, out: V}
  out: {h: s, ids: n, o: o}
"""
BODY = "l: {linear: e, out: V}\nm: {step: {h: e, ids: ids}, repeat: D}"
OUT = "{logits: l, ahead: m.o}"
CONFIG = "{d: 4, V: 9, D: 3, lam: 0.3, beta: 0.5, ws: [0.5, 0.3, 0.2], half: [1, 2]}"


def losses(*lines: str) -> dict[str, Loss]:
    found = model(BODY, OUT, blocks=STEP, config=CONFIG, rest="loss:\n" + "\n".join(f"  {x}" for x in lines))
    return {loss.name: loss for loss in found.losses}


def refused(*lines: str) -> list[str]:
    rest = "loss:\n" + "\n".join(f"  {x}" for x in lines)
    return messages(BODY, OUT, blocks=STEP, config=CONFIG, rest=rest)


def weights(text: str, tokens: float = 0) -> list[float]:
    """The weight of every depth."""
    loss = losses(f'a: {{cross_entropy: ahead, target: ids, shift: depth + 1, weight: "{text}"}}')["a"]
    return [number(loss.weight, depth=depth, tokens=tokens) for depth in loss.depths]


# -- what a line says -------------------------------------------------------------------------


def test_defaults() -> None:
    loss = losses("a: {cross_entropy: logits, target: ids}")["a"]
    assert (loss.kind, loss.output, loss.target, loss.depths) == ("cross_entropy", "logits", "ids", (0,))
    assert [to_text(t) for t in (loss.weight, loss.shift, loss.divide)] == ["1", "1", "valid"]


def test_a_stacked_output_has_depths() -> None:
    loss = losses("a: {cross_entropy: ahead, target: ids, shift: depth + 1, divide: B * T}")["a"]
    assert loss.depths == (1, 2, 3)
    assert [number(loss.shift, depth=k) for k in loss.depths] == [2, 3, 4]
    assert number(loss.divide, B=2, T=5) == 10


def test_no_depths_are_no_loss() -> None:
    rest = "loss: {a: {cross_entropy: ahead, target: ids, shift: depth + 1, weight: lam / D}}"
    found = model(BODY, OUT, {"D": 0}, blocks=STEP, config=CONFIG, rest=rest)
    assert found.losses[0].depths == ()


def test_router_losses() -> None:
    body = "r: {router: e, experts: 4, top_k: 2, at: m.gate}\ny: {silu: e}"
    rest = 'loss: {b: {sequence_balance: "**.gate", weight: 0.5}, u: {bias_update: m.*, speed: 1 if tokens < 9 else 0}}'
    balance, bias = model(body, rest=rest).losses
    assert (balance.kind, balance.routers, number(balance.weight)) == ("sequence_balance", "**.gate", 0.5)
    assert [number(bias.weight, tokens=n) for n in (0, 9)] == [1, 0]


# -- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("lam / D", [0.1, 0.1, 0.1]),  # uniform mean (DeepSeek-V3)
        ("1", [1, 1, 1]),  # plain sum (Gloeckle)
        ("lam", [0.3, 0.3, 0.3]),
        ("lam * beta ** depth", [0.15, 0.075, 0.0375]),  # geometric, from 1 (Medusa)
        ("lam * beta ** (depth - 1)", [0.3, 0.15, 0.075]),  # geometric, from 0
        ("lam * beta ** (depth - 1) * (1 - beta) / (1 - beta ** D)", [0.3 / 1.75, 0.15 / 1.75, 0.075 / 1.75]),
        ("ws[depth - 1]", [0.5, 0.3, 0.2]),  # a list
        ("1 / depth", [1, 1 / 2, 1 / 3]),
        ("exp(-depth)", [math.exp(-1), math.exp(-2), math.exp(-3)]),
        ("1 if depth == 1 else 0", [1, 0, 0]),
    ],
)
def test_every_scheme_is_an_expression(text: str, wanted: list[float]) -> None:
    assert weights(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "tokens", "wanted"),
    [
        ("(0.3 if tokens < 10e12 else 0.1) / D", 0, 0.1),  # DeepSeek-V3
        ("(0.3 if tokens < 10e12 else 0.1) / D", 10e12, 0.1 / 3),
        ("lam * min(1, tokens / 1e9)", 5e8, 0.15),  # a linear ramp
        ("lam * (1 - cos(3.14159265 * min(1, tokens / 1e9))) / 2", 5e8, 0.15),  # a sine ramp
        ("lam * beta ** depth if tokens > 5 else 0", 6, 0.15),
    ],
)
def test_schedules_over_tokens(text: str, tokens: float, wanted: float) -> None:
    assert weights(text, tokens)[0] == pytest.approx(wanted)


def test_config_values_are_filled_in() -> None:
    loss = losses("a: {cross_entropy: logits, target: ids, weight: lam * tokens}")["a"]
    assert to_text(loss.weight) == "(0.3 * tokens)"


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ("weight: lamb", "there is no name `lamb` here"),
        ("weight: depth", "`depth` counts the pieces of a stacked output, and this one is not stacked"),
        ("weight: valid", "`weight` cannot depend on `valid`, only on depth, tokens, step and the config"),
        ("weight: 1 / (D - 3)", "`weight`: division by zero"),
        ("weight: 1 / tokens", "`weight`: division by zero (at 0 tokens)"),
        ("weight: ws", "a number is expected, found `[0.5, 0.3, 0.2]`"),
        ("weight: [1, 2]", "`weight` is a number or an expression, found `[1, 2]`"),
        ("weight: true", "`weight` is a number, found `true`"),
        ("weight: D > 2", "`weight` is a number, found `true`"),
        ("weight: 1 +", "`1 +`: the expression ends where a value is expected"),
        ("weight: __import__('os')", "`__import__('os')`: `'os')` is not arithmetic"),
        ("divide: 0", "`divide` must be above zero, found 0"),
        ("divide: tokens", "`divide` cannot depend on `tokens`, only on depth, valid, B, T and the config"),
        ("shift: 0", "`shift` is a whole number of at least 1, found 0"),
        ("shift: 1.5", "`shift` is a whole number of at least 1, found 1.5"),
        ("shift: T", "`shift` cannot depend on `T`, only on depth and the config"),
        ("wait: 1", "there is no attribute `wait` on `cross_entropy`"),
    ],
)
def test_wrong_formulas(attributes: str, words: str) -> None:
    assert refused(f"a: {{cross_entropy: logits, target: ids, {attributes}}}") == [words]


def test_a_list_must_have_an_item_for_every_depth() -> None:
    words = refused('a: {cross_entropy: ahead, target: ids, shift: depth + 1, weight: "half[depth - 1]"}')
    assert words == ["`weight`: there is no item 2 (at depth 3)"]


def test_a_config_value_cannot_be_called_depth() -> None:
    rest = "loss: {a: {cross_entropy: y, target: ids, weight: depth}}"
    words = message("y: {linear: e, out: V}", out="{y: y}", config="{d: 4, V: 9, depth: 4}", rest=rest)
    assert words == "`depth` is a config value, and in a loss it has a meaning of its own"


# -- outputs, targets and leaks ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{cross_entropy: logit, target: ids}", "there is no output `logit`"),
        ("{cross_entropy: logits, target: id}", "there is no input `id`"),
        ("{cross_entropy: logits}", "`target` is missing: the input whose tokens are predicted"),
        ("{cross_entropie: logits, target: ids}", "there is no loss `cross_entropie`"),
        ('{bias_update: "**.gate"}', "no router matches `**.gate`"),
        ("{}", "`a` says nothing"),
    ],
)
def test_wrong_lines(line: str, words: str) -> None:
    assert refused(f"a: {line}") == [words]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("y: {linear: e, out: [V, 2]}", "[B, T, 9, 2]"),
        ("y: {shift: ids}", "int[B, T]"),
        ("y: {linear: e, out: V, each: 2, share: x, at: a}\nz: {expand: y, size: 3}", "[2, B, T, 3, 9]"),
    ],
)
def test_what_is_no_logits(body: str, shown: str) -> None:
    out = "{y: z}" if "z:" in body else "{y: y}"
    words = message(body, out=out, rest="loss: {a: {cross_entropy: y, target: ids}}")
    assert words == f"`y` is {shown} and `ids` is int[B, T]: logits are [B, T, V] or stacked [D, B, T, V]"


def leak(body: str, shift: str = "1", out: str = "y") -> str:
    rest = f"loss: {{a: {{cross_entropy: y, target: ids, shift: {shift}}}}}"
    return message(body, out=f"{{y: {out}}}", blocks=STEP, rest=rest).removeprefix("label leak: ")


ATTENTION = """
q: {linear: e, out: [2, 2]}
a: {attention: {q: q, k: q, v: q}, causal: false, repeat: N}
y: {linear: a, contract: 2, out: V}
"""


@pytest.mark.parametrize(
    ("body", "shift", "seen"),
    [
        ("a: {shift: e}\ny: {linear: a, out: V}", 1, "tokens up to i + 1"),
        ("a: {shift: e, by: 2}\ny: {linear: a, out: V}", 2, "tokens up to i + 2"),
        ("a: {shift: e, by: 5}\ny: {linear: a, out: V}", 3, "tokens up to i + 5"),
        ("a: {shift: e, by: -1}\nb: {shift: a, by: 3}\ny: {linear: b, out: V}", 2, "tokens up to i + 2"),
        (ATTENTION.replace(", repeat: N", ""), 1, "the whole row"),
        (ATTENTION.replace("N", "2"), 9, "the whole row"),
    ],
)
def test_leaks(body: str, shift: int, seen: str) -> None:
    words = f"`y` predicts token i + {shift}, but at position i it has already seen {seen}"
    assert leak(body, str(shift)) == words


@pytest.mark.parametrize("out", ["m.o", "z"])
def test_leaks_of_a_depth(out: str) -> None:
    """Also where the stacked output went through another op."""
    body = "m: {step: {h: e, ids: ids}, repeat: 3}\nz: {times: m.o, by: 2.0}"
    shift = "depth + 1 - depth // 3"
    words = "`y` at depth 3 predicts token i + 3, but at position i it has already seen tokens up to i + 3"
    assert leak(body, shift, out) == words
    rest = "loss: {a: {cross_entropy: y, target: ids, shift: depth + 1}}"
    assert model(body, f"{{y: {out}}}", blocks=STEP, rest=rest).losses[0].depths == (1, 2, 3)


def test_a_stack_inside_a_block_keeps_its_depths() -> None:
    blocks = (
        STEP
        + """
chain: {args: {d, V}, in: {h: [B, T, d], ids: "int[B, T]"}, body: {m: {step: {h: h, ids: ids}, repeat: 3}}, out: m.o}
"""
    )
    rest = "loss: {a: {cross_entropy: y, target: ids, shift: depth + 1}}"
    found = model("c: {chain: {h: e, ids: ids}}", "{y: c}", blocks=blocks, rest=rest)
    assert found.losses[0].depths == (1, 2, 3)


def test_another_input_is_another_row() -> None:
    """What is seen of one input says nothing of a target in another."""
    rest = "loss: {a: {cross_entropy: y, target: other}}"
    text = spec("a: {shift: e}\ny: {linear: a, out: V}", "{y: y}", rest=rest)
    found = dsvgraph.loads(text.replace('{ids: "int[B, T]"}', '{ids: "int[B, T]", other: "int[B, T]"}'))
    assert found.losses[0].target == "other"
