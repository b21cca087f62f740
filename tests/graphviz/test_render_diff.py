"""Two models in one picture: what differs is marked with a word, a sign and what it costs."""

from __future__ import annotations

import re

import pytest

from dsvgraph.passes.compare.diff import diff

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import drawn as picture  # noqa: E402
from pictures import model, untidy  # noqa: E402

from dsvgraph_graphviz.model.comparison import ComparedGraph  # noqa: E402

DEPTH = "num_nextn_predict_layers"
PAIRS = [
    ("deepseek_v3", "deepseek_v2_lite"), ("deepseek_v3", "deepseek_v3_paper"), ("llama3_8b", "qwen3_8b"),
    ("deepseek_v3_tiny", "specs/variants/parallel.yaml"), ("deepseek_v3_tiny", "specs/variants/sandwich_norms.yaml"),
    ("mixtral_8x7b", "qwen3_30b_a3b"), ("deepseek_v3_tiny", "specs/variants/eagle.yaml"),
]  # fmt: skip
LINES = ("added", "removed", "replaced", "resized", "changed", "rewired")


def said(dot):
    """The words of a DOT without its markup, one space between."""
    return " ".join(re.sub(r"<[^>]*>", " ", dot).replace("&amp;", "&").split())


def drawn(a, b, config=None, **view):
    return graphviz_backend.dot_source(model(a), diff=model(b, **(config or {})), **view)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_lines_that_differ_are_those_of_diff(a, b):
    before, after = model(a), model(b)
    comparison = ComparedGraph()
    comparison.model(before, after)
    found = diff(before, after)
    for kind in LINES:
        marked = {(m.new or m.old)[1].name for m in comparison.diffs.values() if kind in m.kinds}
        borders = ("out ", "cache")  # of a block, no line of it
        told = {c.line for c in found.of(kind) if not c.line.startswith(borders) and c.line not in before.inputs}
        assert marked == told, kind


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_nothing_overlaps_and_no_line_runs_through_a_card(a, b):
    found = untidy(picture(drawn(a, b)).layout)
    on_lines = re.compile(r" (cuts|runs through) \(")  # the wires that are gone lie over the picture
    assert not [words for words in found if not on_lines.search(words)]


def test_the_title_has_both_totals():
    """Parameters of DeepSeek-V3 with its MTP layer and of V2-Lite: 685 B less the second copies of embedding and
    head on its model card are 682.6 B; 15.7 B on V2-Lite's."""
    words = said(drawn("deepseek_v3", "deepseek_v2_lite"))
    assert "DeepSeek-V3 → DeepSeek-V2-Lite" in words
    assert "682.6 B → 15.71 B parameters (− 666.9 B)" in words


def test_depths_of_a_chain_that_come_and_go_are_columns():
    more = said(drawn("deepseek_v3_tiny", "deepseek_v3_tiny", {DEPTH: 3}))
    assert "MTP depth 3 + added" in more and "MTP depth 2 +" not in more
    none = said(drawn("deepseek_v3_tiny", "deepseek_v3_tiny", {DEPTH: 0}))
    assert "MTP depth 1 − removed" in none and "MTP depth 2 − removed" in none


def test_each_change_says_what_it_costs():
    """One more layer of experts: 2,048 wide instead of 1,536, times three matrices, 256 experts and 7,168."""
    words = said(drawn("deepseek_v3", "deepseek_v3", {"moe_intermediate_size": 1536}))
    per_matrix = 256 * 7168 * (2048 - 1536)
    assert f"− {3 * per_matrix / 1e9:.3f} B parameters" in words
    assert "out [2048], weight [2048, 7168] → out [1536], weight [1536, 7168]" in words


def test_what_is_gone_and_what_is_new_differ_by_more_than_colour():
    dot = drawn("deepseek_v3", "deepseek_v2_lite")
    cards = dict(re.findall(r'^\t+"([^"]+)" (\[.*)$', dot, re.MULTILINE))
    gone = next(text for name, text in cards.items() if name.endswith("/q_a_proj"))
    new = next(text for name, text in cards.items() if name.endswith("/q_proj"))
    assert "− removed" in gone and "rounded,dashed" in gone
    assert "+ added" in new and "rounded,dashed" not in new
    was = [line for line in dot.splitlines() if "was q_b_proj" in line]
    assert was and all("dashed" in line for line in was)


def test_only_blocks_that_differ_are_opened():
    dot = drawn("deepseek_v3", "deepseek_v3", {"moe_intermediate_size": 1536})
    assert "cluster_inside" in dot and "kv_b_proj" not in dot


def test_a_model_and_itself():
    words = said(drawn("deepseek_v3_tiny", "deepseek_v3_tiny"))
    assert "no line differs" in words and "as before" in words
