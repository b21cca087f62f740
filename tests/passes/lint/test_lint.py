"""Warnings: what nothing uses. The specs that ship have none."""

from __future__ import annotations

from typing import Any

import pytest

import dsvgraph

SPECS = ["deepseek_v3", "deepseek_v3_paper", "deepseek_v3_tiny", "tutorial_mtp"]
TEST_SPECS = ["tests/specs/parallel_heads.yaml", "tests/specs/patterns.yaml"]

SPEC = """
config: {dim: 8, unused: 3, half: dim // 2, vocab: 10}
blocks:
  layer:
    args: {dim, half}
    in: {x: [B, T, dim], spare: [B, T, dim]}
    body:
      p:    {linear: x, out: half}
      idle: {linear: x, out: half}
      o:    {linear: p, out: dim}
    out: {x: o}
  never:
    in: {x: [B, T, d]}
    body: {y: {silu: x}}
    out: y
graph:
  in: {ids: "int[B, T]", other: "int[B, T]", labels: "int[B, T]"}
  body:
    embed:  {embedding: ids, num: vocab, dim: dim}
    layers: {layer: {x: embed, spare: embed}, repeat: 2}
    lost:   {linear: layers, out: 4}
    head:   {linear: layers, out: vocab}
  out: {logits: head, states: layers}
loss:
  next: {cross_entropy: logits, target: labels}
init:
  "**": {normal: 0.1}
  "layers.1.p.weight": zeros
  "layers.7.p.weight": zeros
  "**.gain": ones
trained:
  "heads.*": false
"""


def lint(text: str) -> dict[str, int]:
    return {d.message: d.span.line for d in dsvgraph.lint(dsvgraph.loads(text)) if d.span}


@pytest.mark.parametrize("name", [*SPECS, *TEST_SPECS])
def test_specs_that_ship_are_clean(name: str) -> None:
    assert dsvgraph.lint(dsvgraph.load(name)) == []


def test_each_warning_at_its_line() -> None:
    assert lint(SPEC) == {
        "nothing uses the config value `unused`": 2,
        "nothing reads the input `spare` of `layer`": 6,
        "nothing depends on `idle`": 9,
        "nothing calls the block `never`": 12,
        "nothing reads the input `other` of `spec`": 17,
        "nothing depends on `lost`": 21,
        "no loss reads the output `states`": 23,
        "`layers.7.p.weight` in `init` fits no weight": 29,
        "`**.gain` in `init` fits no weight": 30,
        "`heads.*` in `trained` fits no weight": 32,
    }


def test_warnings_are_no_errors(golden: Any) -> None:
    found = dsvgraph.lint(dsvgraph.loads(SPEC))
    assert {d.severity for d in found} == {"warning"}
    golden("lint/warnings.txt", "\n\n".join(str(d) for d in found))


def test_values_that_only_other_values_use() -> None:
    used = SPEC.replace("num: vocab, dim: dim", "num: vocab + half, dim: dim").replace("unused: 3", "deep: 3")
    assert "nothing uses the config value `half`" not in lint(used)
    chained = SPEC.replace("unused: 3", "third: 3").replace("half: dim // 2", "half: dim // third")
    assert not [words for words in lint(chained) if "config value" in words]


def test_cached_values_are_used() -> None:
    spec = SPEC.replace("    out: {x: o}", "    out: {x: o}\n    cache: [idle]")
    assert "nothing depends on `idle`" not in lint(spec)


def test_without_losses_outputs_are_free() -> None:
    spec = SPEC[: SPEC.index("loss:")] + SPEC[SPEC.index("init:") :]
    assert not [words for words in lint(spec) if "no loss" in words]
    assert "nothing reads the input `labels` of `spec`" in lint(spec)


HEADS = """
config: {lam: [0.3, 0], max_position_embeddings: 3}
blocks:
  layer:
    in: {x: [..., d]}
    body:
      a:    {linear: x, out: d}
      side: {linear: x, out: 5}
    out: {x: a, aux: side}
graph:
  in: {ids: "int[B, T]"}
  body:
    e:     {embedding: ids, num: 9, dim: 4}
    layer: {layer: e}
    heads: {linear: layer, out: 9, each: 2, share: [x]}
  out: {logits: heads, aux: layer.aux}
loss:
  mtp: {cross_entropy: logits, target: ids, shift: depth + 1, weight: "lam[depth - 1]"}
  off: {cross_entropy: logits, target: ids, shift: depth, weight: "0 if depth > 0 else 1"}
  on:  {cross_entropy: logits, target: ids, shift: depth, weight: "0.3 if tokens < 1e9 else 0"}
"""


def test_what_training_never_reaches() -> None:
    assert lint(HEADS) == {
        "no loss reaches the weights of `side`": 8,
        "the weight of `mtp` is zero at depth 2": 18,
        "depth 2 of `mtp` predicts token i + 3, and a row has at most 3 tokens (max_position_embeddings)": 18,
        "the weight of `off` is zero, so it trains nothing": 19,
    }


def test_an_output_is_told_where_no_weight_is_lost() -> None:
    spec = HEADS.replace("aux: side", "aux: x").replace("      side: {linear: x, out: 5}\n", "")
    told = {words for words in lint(HEADS) if "side" not in words}
    assert lint(spec).keys() == told | {"no loss reads the output `aux`"}


def test_weights_that_are_frozen_need_no_loss() -> None:
    frozen = HEADS + "trained: {layer.side.weight: false}\n"
    assert not [words for words in lint(frozen) if "side" in words]


def test_what_a_base_says_is_the_base_s() -> None:
    """Config, blocks and patterns that `extends` brings are not told, what the spec itself says or sets is."""
    graph = 'graph: {in: {i: "int[B, T]"}, body: {x: {embedding: i, num: 8, dim: 4}}, out: {y: x}}\nloss: {}\n'
    base = "extends: deepseek_v3_tiny\n" + graph
    assert not dsvgraph.passes.lint.unused.lint(dsvgraph.loads(base))
    own = "config: {hidden_size: 64}\nblocks: {b: {in: {x: [d]}, body: {y: {silu: x}}, out: y}}\ninit: {z.*: ones}\n"
    told = [found.message for found in dsvgraph.passes.lint.unused.lint(dsvgraph.loads(base + own, {"vocab_size": 7}))]
    assert sorted(told) == [
        "`z.*` in `init` fits no weight",
        "nothing calls the block `b`",
        "nothing uses the config value `hidden_size`",
        "nothing uses the config value `vocab_size`",
    ]
