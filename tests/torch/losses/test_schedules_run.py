"""Formulas of losses while a model trains: their numbers are Python's own, and one without a value ends the run."""

import math

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from helpers import tokens  # noqa: E402

from dsvgraph_torch import after_step, compile, emit  # noqa: E402
from dsvgraph_torch.data.batch import Batch  # noqa: E402
from dsvgraph_torch.optimizers.optimizer import optimizer_for  # noqa: E402
from dsvgraph_torch.training.options import TrainOptions  # noqa: E402
from dsvgraph_torch.training.step import evaluate, train_step  # noqa: E402

SPEC = """
config: {V: 13, steps: [0.5, 0.25]}
blocks:
  h: {in: {x: "[B, T, 4]"}, body: {y: {linear: x, out: 4}}, out: {x: x, y: y}}
  moe:
    in: {x: "[B, T, 4]"}
    body:
      gate: {router: x, experts: 2, top_k: 1}
      sent: {dispatch: {x: x, index: gate.index}, experts: 2}
      each: {e: sent, each: 2}
      y: {combine: {x: each, index: gate.index, score: gate.score}}
    out: y
  e: {in: {x: "[..., 4]"}, body: {y: {linear: x, out: 4}}, out: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: V, dim: 4}
    m: {moe: e}
    y: {linear: m, out: V}
  out: {logits: y}
loss:
  main: {cross_entropy: logits, target: ids, KEY: "FORMULA"}
  bias: {bias_update: "**.gate", speed: "SPEED"}
"""
NAMESPACE = {
    "min": min, "max": max, "abs": abs, "int": int, "sqrt": math.sqrt, "log": math.log, "exp": math.exp,
    "cos": math.cos, "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip
WEIGHTS = [
    "exp(-tokens / 1e3)", "sqrt(tokens)", "log(tokens + 1)", "cos(tokens / 1e9)", "min(1, tokens / 1e3)",
    "max(0.1, 1 - tokens / 1e9, -5)", "floor(tokens / 7)", "ceil(tokens / 7)", "int(tokens / 7)", "abs(5 - tokens)",
    "tokens ** 2", "(tokens + 1) ** -0.5", "2 ** (tokens / 1e15)", "tokens % 3", "tokens // 7", "7 // (tokens + 1)",
    "-tokens / 3", "+tokens", "0.3 if tokens < 1000 else 0.1", "1 if tokens > 5 and not tokens == 1000 else 2",
    "(1 if tokens >= 1000 or tokens <= 1 else 3) - 0.5", "1 / (tokens - 1024.5)", "1 - (tokens != 1000)",
    "0.5 * (1 + cos(3.14159 * min(tokens / 1e4, 1)))", "1 / (cos(tokens) - 2)",
]  # fmt: skip
DIVISORS = [
    "valid", "B * T", "B * (T - 1)", "sqrt(valid)", "valid ** 0.5", "floor(valid / 2)", "valid // 2",
    "max(valid, B, 3)", "log(valid) + 1", "int(valid)", "1 / valid", "valid % 100 + T", "abs(valid - 100)",
    "valid if valid > 2 else T", "ceil(valid / 4)", "2 if valid == 8 and B < 5 else 7", "cos(valid) + 2",
]  # fmt: skip
AT = [0, 1, 999, 1000, 123_456_789]


def spec(formula="1", key="weight", speed="0.001"):
    return dsvgraph.loads(SPEC.replace("KEY", key).replace("FORMULA", formula).replace("SPEED", speed), name="s.yaml")


@pytest.mark.parametrize("formula", WEIGHTS)
def test_weights_and_speeds_are_what_python_computes(formula):
    """Python's own evaluation of the text is the judge; the spec's language is a part of it."""
    module = compile(spec(formula, speed=formula), seed=1)
    module.eval()
    with torch.no_grad():
        for seen in AT:
            want = eval(formula, NAMESPACE, {"tokens": seen})
            module.tokens_seen = seen
            found = module(tokens(2, 4, 13), targets=tokens(2, 4, 13, seed=1))
            assert found["loss"].item() == pytest.approx(found["main"].item() * want, rel=1e-5)
            router = module.m.gate
            router.e_score_correction_bias.zero_()
            router.tokens_per_expert.copy_(torch.tensor([3.0, 1.0]))
            after_step(module)
            torch.testing.assert_close(router.e_score_correction_bias, torch.tensor([-1.0, 1.0]) * want)


@pytest.mark.parametrize("formula", DIVISORS)
def test_divisors_are_what_python_computes(formula):
    parts, whole = compile(spec(formula, "divide"), seed=1), compile(spec("1", "divide"), seed=1)
    with torch.no_grad():
        for rows, length in ((2, 4), (1, 9)):
            ids, targets = tokens(rows, length, 13), tokens(rows, length, 13, seed=1)
            want = eval(formula, NAMESPACE, {"valid": rows * length, "B": rows, "T": length})
            sums, found = whole(ids, targets=targets)["main"].item(), parts(ids, targets=targets)["main"].item()
            assert found == pytest.approx(sums / want, rel=1e-5)


HIDDEN = "1 / ((tokens * 7919) % 104729 - 15)"  # without a value at one number of tokens in 104,729
WHERE = 15 * pow(7919, -1, 104729) % 104729


def test_a_schedule_without_a_value_ends_the_run_with_words():
    """Before, the run ended in a ZeroDivisionError."""
    module = compile(spec(HIDDEN), seed=1)
    optimizer = optimizer_for(module, TrainOptions())
    batch, cpu = Batch(tokens(2, 4, 13), tokens(2, 4, 13, seed=1)), torch.device("cpu")
    module.tokens_seen = WHERE - 1
    train_step(module, optimizer, [batch], 0.1, 1.0, cpu)
    module.tokens_seen = WHERE
    words = rf"^error: `weight` of `main` \(s\.yaml:22\) has no value at {WHERE} tokens: division by zero"
    with pytest.raises(dsvgraph.DsvError, match=words):
        train_step(module, optimizer, [batch], 0.1, 1.0, cpu)
    with pytest.raises(dsvgraph.DsvError, match=words):
        evaluate(module, [batch], cpu)


@pytest.mark.parametrize(
    "key, formula, words",
    [
        ("divide", "B * (T - 1)", "`divide` of `main` .* has no value at 0 tokens: 0"),
        ("divide", "log(valid)", "`divide` of `main` .*: 0"),
        ("divide", "valid - 1 - (B - 1)", "`divide` of `main` .*: "),
        ("weight", "(-2.5) ** 0.5 if (tokens * 7919) % 104729 == 15 else 1", "`weight` of `main` .*: "),
    ],
)
def test_a_formula_never_gives_what_is_no_number(key, formula, words):
    """A divisor of zero (a row of one token), a complex number: neither goes on as inf or NaN."""
    module = compile(spec(formula, key), seed=1)
    module.tokens_seen = WHERE if key == "weight" else 0
    with pytest.raises(ArithmeticError, match=words):
        module(tokens(1, 1, 13), targets=tokens(1, 1, 13, seed=1))


def test_what_is_proved_to_have_a_value_is_written_as_it_is():
    assert "loss = loss + min(1, self.tokens_seen / 1000.0) * losses['main']" in emit(spec("min(1, tokens / 1e3)"))
    assert "def real(" not in emit(spec("exp(-tokens / 1e3)")) and "def real(" in emit(spec(HIDDEN))
