"""A shown spec checks to the same graph, and values survive being written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.graph.signature import signature
from dsvgraph.loader import parse
from dsvgraph.passes.text.show import _block, _flow, show

SPECS = ["deepseek_v3", "deepseek_v3_paper", "deepseek_v3_tiny", "tutorial_mtp"]
TEST_SPECS = ["tests/specs/parallel_heads.yaml", "tests/specs/patterns.yaml"]
SETTINGS: list[dict[str, Any]] = [{}, {"num_nextn_predict_layers": 0}, {"num_nextn_predict_layers": 5}]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", SPECS)
def test_shown_spec_is_the_same_graph(name: str, settings: dict[str, Any]) -> None:
    model = dsvgraph.load(name, settings)
    again = dsvgraph.loads(show(model))
    assert signature(again) == signature(model)
    assert show(again) == show(model)


@pytest.mark.parametrize("name", TEST_SPECS)
def test_shown_test_spec_is_the_same_graph(name: str) -> None:
    model = dsvgraph.load(name)
    assert signature(dsvgraph.loads(show(model))) == signature(model)


def test_settings_and_files_are_resolved() -> None:
    text = show(dsvgraph.load("deepseek_v3_tiny", {"hidden_size": 96, "hidden_act": "gelu"}))
    assert "include" not in text and "extends" not in text
    assert "  hidden_size: 96\n" in text and "  hidden_act: gelu\n" in text
    assert "  softmax_scale: 0.1443375" in text


def test_blocks_that_nothing_reaches_are_left_out() -> None:
    text = show(dsvgraph.load("deepseek_v3"))
    assert "  mtp_layer:" in text and "  moe:" in text
    assert "parallel_head" not in text and "mla_full_query" not in text and "gqa" not in text


def test_blocks_with_arguments_given_are_kept() -> None:
    spec = """
include: [blocks/gqa.yaml, blocks/mlp.yaml, blocks/decoder.yaml]
config: {hidden_size: 16, num_attention_heads: 2, wide: {mlp: , intermediate_size: 64}}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed:  {embedding: ids, num: 10, dim: hidden_size}
    layers: {decoder_layer: embed, attn: gqa, ffn: wide, repeat: 2}
  out: {states: layers}
"""
    model = dsvgraph.loads(spec)
    assert "  wide: {mlp: null, intermediate_size: 64}\n" in show(model)
    assert signature(dsvgraph.loads(show(model))) == signature(model)


def test_symbolic_model_is_shown_in_numbers() -> None:
    model = dsvgraph.load("deepseek_v3", symbolic=["num_nextn_predict_layers"])
    assert show(model) == show(dsvgraph.load("deepseek_v3"))


def test_model_without_a_spec_cannot_be_shown() -> None:
    model = dsvgraph.load("deepseek_v3_tiny")
    model.spec = None
    with pytest.raises(DsvError, match="not made from a spec"):
        show(model)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cn")), max_size=40)
WORDS = st.from_regex(r"[a-z0-9 .()*/+<>=%:#,\[\]{}&!|'\"-]{0,20}", fullmatch=True)
FLOATS = st.floats(-1e30, 1e30)
INTS = st.integers(-(10**30), 10**30)
SCALARS = st.one_of(st.none(), st.booleans(), INTS, FLOATS, TEXTS, WORDS)
KEYS = st.from_regex(r"[a-z*][a-z.*]{0,8}", fullmatch=True)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=4), max_leaves=12)


@given(VALUES)
def test_values_survive(value: Any) -> None:
    assert parse(f"a: {_block(value)}\nb: {{c: {_flow(value)}, d: 1}}\n").data == {
        "a": value,
        "b": {"c": value, "d": 1},
    }


@pytest.mark.parametrize("name", ["deepseek_v3_tiny", "tutorial_mtp"])
def test_golden(name: str, golden: Any) -> None:
    golden(f"show/{name}.yaml", show(dsvgraph.load(name)))
