"""Blocks drawn alone, beside the model and in their place."""

from __future__ import annotations

import re

import pytest

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.graph import walk

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

FULL = 1_000
MLA = "model.layers.5.self_attn"
TITLE = re.compile(r'subgraph "?cluster_inside\d*"? \{.*?label=<<font[^>]*><b>(.*?)</b>', re.DOTALL)


@pytest.fixture(scope="module")
def deepseek():
    return dsvgraph.load("deepseek_v3")


def said(dot):
    """The words of a DOT without its markup, one space between."""
    return " ".join(re.sub(r"<[^>]*>", " ", dot).split())


def panels(model, depth):
    return TITLE.findall(graphviz_backend.dot_source(model, depth))


def ids(dot):
    return re.findall(r' id="?([^"\s\]]+)', dot)


# -- one block alone ----------------------------------------------------------------------------


def test_the_inside_of_mla_says_what_the_hand_drawn_one_says(deepseek):
    """Sizes and words of the reference picture of the inside of MLA (facts from the report and the checkpoint)."""
    words = said(graphviz_backend.dot_source(deepseek, focus=MLA))
    for part in (
        "Multi-head latent attention", "d 7,168 · 128 heads · q rank 1,536 · kv rank 512",
        "nope 128 + rope 64 per head · v 128 · 187.1 M parameters",
        "KV cache: 512 + 64 = 576 values per token and layer",
        "(plain MHA, 128 heads of 128: 32,768, i.e. 57 × more)",
        "x after RMSNorm", "Query", "Key and value", "q_a_proj 7,168 → 1,536 · 11.01 M", "RMSNorm",
        "rope 128 × 64", "nope 128 × 128", "q_b_proj 1,536 → 24,576 · 37.75 M",
        "rope 64", "latent 512", "kv_a_proj_with_mqa 7,168 → 576 · 4.129 M", "k_rope CACHED", "kv_a_layernorm CACHED",
        "value 128 × 128", "kv_b_proj 512 → 32,768 · 16.78 M", "expand", "RoPE",
        "softmax( s · q kᵀ + causal mask )", "s = 1.874 / √192", "weights · v",
        "o_proj 16,384 → 7,168 · 117.4 M", "to residual sum",
        "B,128,T,T", "B,T,128,192", "B,T,128,128", "B,T,128,64", "B,T,1536", "B,T,512", "B,T,7168",
    ):  # fmt: skip
        assert part in words, part


def test_strands_are_framed_and_hold_what_only_they_read(deepseek):
    dot = graphviz_backend.dot_source(deepseek, focus=MLA)
    frames = dict(re.findall(r'subgraph "cluster_main/(\w+)" \{(.*?)\n\t\t\}', dot, re.DOTALL))
    held = {name: set(re.findall(r'id="main/([\w/-]+)" ', body)) for name, body in frames.items()}
    assert held["query"] == {"q_a_proj", "q_a_layernorm", "q_b_proj", "q_rope", "query"}
    assert held["key"] >= {"kv_a_proj_with_mqa", "k_rope", "k_rope/y-kept", "kv_a_layernorm/y-kept", "kv_b_proj", "key"}


@pytest.mark.parametrize("path", ["model.layers.5.mlp", "model.layers.*.mlp.gate", "sparse.60.mlp", "mtp", "lm_head"])
def test_any_line_can_be_drawn_alone(deepseek, path):
    dot = graphviz_backend.dot_source(deepseek, focus=path)
    assert "main/in-" in dot and "main/out-" in dot
    assert "cluster_sum" not in dot and "Main model" not in dot


def test_every_line_of_a_spec_can_be_drawn_alone():
    model = dsvgraph.load("deepseek_v3_tiny")
    for visit in walk(model):
        assert "main/out-" in graphviz_backend.dot_source(model, focus=visit.path)


def test_a_weight_from_outside_enters_dashed(deepseek):
    dot = graphviz_backend.dot_source(deepseek, focus="mtp")
    (line,) = [line for line in dot.splitlines() if '"main/in-head" ->' in line]
    assert "dashed" in line
    assert "weight of lm_head" in said(dot)


@pytest.mark.parametrize("option", ("focus", "expand"))
def test_a_wrong_path_names_the_nearest(deepseek, option):
    path = "model.layers.5.self_attn.q_a_prj"
    with pytest.raises(DsvError, match=f"--{option}: `{path}` is no path") as error:
        graphviz_backend.dot_source(deepseek, **{option: path if option == "focus" else (path,)})
    assert error.value.diagnostics[0].hint == "did you mean `model.layers.5.self_attn.q_a_proj`?"


# -- blocks beside the model ---------------------------------------------------------------------


def test_every_distinct_block_is_opened_once(deepseek):
    assert panels(deepseek, 1) == ["Inside one MoE block"]
    assert sorted(panels(deepseek, 2)) == ["Inside one MoE block", "Inside one dense block"]
    full = sorted(panels(deepseek, FULL))
    inside = ["Mixture of experts", "Multi-head latent attention", "SwiGLU feed-forward network"]
    assert full == ["Inside one MoE block", "Inside one dense block", *inside]


def test_kinds_of_layers_that_differ_by_a_window_are_two():
    words = said(graphviz_backend.dot_source(dsvgraph.load("tests/specs/patterns.yaml"), FULL))
    places = re.findall(r"Multi-head attention (model\.layers\.\S+)", words)
    assert len(places) == len(set(places)) == 2  # sliding and full
    assert "Inside one MoE block × 5" in words and "Inside one MoE block × 2" in words


def test_a_panel_holds_every_line_of_its_block(deepseek):
    block = next(g for g in deepseek.graphs() if g.name == "mla")
    dot = graphviz_backend.dot_source(deepseek, FULL)
    prefix = next(i.partition("/")[0] for i in ids(dot) if i.endswith("/q_a_proj"))
    drawn = {i.split("/")[1] for i in ids(dot) if i.startswith(f"{prefix}/")}
    fused = {"q", "kv_a", "kv"}  # splits are cells of what they cut
    assert set(block.nodes) - drawn == fused


def test_sizes_that_are_left_open_stay_names():
    model = dsvgraph.load("deepseek_v3", symbolic=["num_hidden_layers", "n_routed_experts"])
    words = said(graphviz_backend.dot_source(model, FULL))
    assert "× -3 + num_hidden_layers" in words and "1 shared + n_routed_experts routed" in words


# -- in their place -----------------------------------------------------------------------------


def test_a_block_and_what_is_around_it_open_in_place(deepseek):
    dot = graphviz_backend.dot_source(deepseek, expand=("model.layers.5.self_attn",))
    assert {"main/sparse/self_attn/q_a_proj", "main/sparse/mlp"} <= set(ids(dot))
    assert "main/sparse/mlp/gate" not in ids(dot) and "main/dense/self_attn" not in ids(dot)


def test_what_has_nothing_in_it_cannot_be_opened(deepseek):
    with pytest.raises(DsvError, match="--expand: `lm_head` is a single linear, there is nothing to open"):
        graphviz_backend.dot_source(deepseek, expand=("lm_head",))


# -- layers of several kinds --------------------------------------------------------------------


def test_layers_that_alternate_are_opened_once_and_say_how_many_are_alike():
    """gpt-oss-20b: 24 layers, every other one with a window of 128 (its config.json)."""
    words = said(graphviz_backend.dot_source(dsvgraph.load("gpt_oss_20b")))
    assert "Inside one MoE block × 12 of 24" in words
    assert "12 × GQA (window 128) + mixture of experts 12 × GQA + mixture of experts" in words
