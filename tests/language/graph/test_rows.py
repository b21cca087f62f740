"""Inputs with rows of their own: what is seen of each, and attention from one into another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing import fill, horizon, trace
from two_rows import Program, model, programs

import dsvgraph
from dsvgraph.graph import Model


@pytest.mark.slow
@given(programs(), st.sampled_from(["S", "T"]))
@settings(max_examples=150, deadline=None)
def test_random_wirings_of_two_rows(program: Program, length: str) -> None:
    found = model(program.lines, program.rows["x"][-1], length)
    seen = trace(found, lengths={"z": 48} if length == "S" else None)
    for node in found.nodes.values():
        for port, horizons in node.horizons.items():
            value = seen[(node.name, port)]
            assert [horizons.ahead(n) for n in "xz"] == [horizon(value, n) for n in "xz"], (node.name, port)
            if math.inf not in (horizons.ahead("x"), horizons.ahead("z")):
                assert horizons.fill == fill(value), (node.name, port)


# -- by hand ----------------------------------------------------------------------------------

ENCODER = """
name: encoder
graph:
  in: {src: "int[B, S]", ids: "int[B, T]"}
  body:
    es: {embedding: src, num: 9, dim: 4}
    e: {embedding: ids, num: 9, dim: 4}
    ks: {linear: es, out: [2, 2]}
    q: {linear: e, out: [2, 2]}
    over: {attention: {q: ks, k: ks, v: ks}, causal: false}
    enc: {linear: over, contract: 2, out: [2, 2]}
    own: {attention: {q: q, k: q, v: q}, causal: OWN}
    a: {attention: {q: own, k: enc, v: enc}, CROSS}
    y: {linear: a, contract: 2, out: 9}
  out: {y: y}
loss: {next: {cross_entropy: y, target: ids}}
"""


def encoder(cross: str = "causal: false", own: str = "true") -> Model:
    return dsvgraph.loads(ENCODER.replace("CROSS", cross).replace("OWN", own))


def test_a_whole_look_at_another_row_is_no_leak() -> None:
    horizons = encoder().horizons["y"]
    assert (horizons.ahead("src"), horizons.ahead("ids"), horizons.fill) == (math.inf, 0, 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"own": "false"}, "label leak: `y` predicts token i \\+ 1, .* the whole row"),
        ({"cross": "causal: true"}, "attention over another row is `causal: false`, without a window"),
        ({"cross": "causal: false, window: 3"}, "attention over another row is `causal: false`, without a window"),
    ],
)
def test_what_is_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(dsvgraph.DsvError, match=words):
        encoder(**given)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{add: [x, z]}", "operands have different shapes"),
        ("{concat: [x, z]}", "the others differ: [B, T] against [B, S]"),
        ('{einsum: [x, z], equation: "b t d, b s d -> b t s"}', "would move S, which counts positions"),
        ('{einsum: [x, z], equation: "b t d, b s e -> b t d e"}', "would mix along S, which counts positions"),
        ("{mul: [x, z]}", "operands have different shapes"),
    ],
)
def test_rows_of_two_lengths_meet_in_attention_alone(line: str, words: str) -> None:
    with pytest.raises(dsvgraph.DsvError) as caught:
        model([f"y: {line}"], "y")
    assert words in caught.value.diagnostics[0].message


def test_flops_are_counted_per_token_of_the_row_that_comes_out() -> None:
    found = dsvgraph.cost(encoder(), batch=3, seq=10)
    scores = 3 * 2 * 10 * 10 * (2 + 2)  # B H pairs (Q + V)
    products = 3 * 10 * 2 * (4 * 4 * 3 + 4 * 9)
    assert found.flops.forward == products + 2 * scores * 2 + scores
    assert found.flops.forward_per_token * 30 == found.flops.forward
    assert "/S" not in str(found.symbolic) and "S/T" in str(found.symbolic)
