"""What pictures say is what the graph says: depths by their numbers, layers by what is in them."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph.ops import OPS
from dsvgraph.ops.registry import check

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import source  # noqa: E402

from dsvgraph_graphviz.model.analysis import Analysis  # noqa: E402
from dsvgraph_graphviz.text.titles import contents  # noqa: E402

ODD = "tests/specs/odd/{}.yaml".format
HEAD = """
include: [blocks/mlp.yaml, blocks/gqa.yaml, blocks/decoder.yaml, blocks/moe.yaml, blocks/mla.yaml]
config: {hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 96, attn: gqa}
"""
MODEL = """
graph:
  in: {{ids: "int[B, T]"}}
  body:
    embed: {{embedding: ids, num: 256, dim: 64}}
    layers: {{layer: embed, repeat: {count}{more}}}
    head: {{linear: layers, out: 256}}
  out: {{logits: head}}
loss: {{next: {{cross_entropy: logits, target: ids, shift: 1}}}}
"""
BLOCK = """
blocks:
  layer:
    args: {{}}
    in: {{x: [B, T, 64]}}
    body:
      n1: {{rms_norm: x}}
{body}
    out: {{x: y}}
"""
MOE = (
    "moe_intermediate_size: 32, n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 2, n_group: 1, "
    "topk_group: 1, routed_scaling_factor: 1.0"
)
ATTENTION = """
      q: {linear: n1, out: [4, 16]}
      k: {linear: n1, out: [4, 16]}
      v: {linear: n1, out: [4, 16]}
      a: {attention: {q: q, k: k, v: v}}
"""
BODIES = {  # a body, what it is made of, and how many layers it is
    "inline": (
        ATTENTION + "      o: {linear: a, contract: 2, out: 64}\n      r: {add: [x, o]}\n"
        "      up: {linear: r, out: 128}\n      act: {gelu: up}\n"
        "      down: {linear: act, out: 64}\n      y: {add: [r, down]}",
        "MHA + FFN 128", 1,
    ),
    "attention inline": (
        ATTENTION + "      o: {linear: a, contract: 2, out: 64}\n      r: {add: [x, o]}\n      m: {mlp: r}\n"
        "      y: {add: [r, m]}",
        "MHA + SwiGLU 96", 1,
    ),
    "network inline": (
        "      s: {gqa: n1}\n      r: {add: [x, s]}\n      g: {linear: r, out: 48}\n      u: {linear: r, out: 48}\n"
        "      act: {silu: g}\n      p: {mul: [act, u]}\n      y: {linear: p, out: 64}",
        "GQA + SwiGLU 48", 1,
    ),
    "two in one": (
        "      s: {gqa: n1}\n      r: {add: [x, s]}\n      m: {mlp: r}\n      t: {gqa: m}\n      z: {add: [m, t]}\n"
        "      y: {mlp: z}",
        "2 × (GQA + SwiGLU 96)", 2,
    ),
    "group": (
        "      a: {decoder_layer: n1}\n      b: {decoder_layer: a, repeat: 3}\n      y: {add: [x, b]}",
        "GQA + SwiGLU 96 + 3 × (GQA + SwiGLU 96)", 4,
    ),
    "side by side": ("      s: {gqa: n1}\n      m: {mlp: n1}\n      y: {add: [x, s, m]}", "GQA + SwiGLU 96", 1),
}  # fmt: skip
GATED = (
    ATTENTION
    + """
      gate: {linear: n1, out: [4, 16]}
      open: {sigmoid: gate}
      g: {mul: [a, open]}
      y: {linear: g, contract: 2, out: 64}
"""
)


def said(dot):
    """The words of a DOT without its markup, one space between."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", dot)).split())


def layered(body, count=3, more=""):
    """A model whose layer has ``body``, with a norm ``n1`` before it."""
    block = (
        f"blocks:\n  layer:\n    args: {{}}\n    in: {{x: [B, T, 64]}}\n    body:\n      n1: {{rms_norm: x}}\n{body}\n"
    )
    return dsvgraph.loads(HEAD + block + "    out: {x: y}\n" + MODEL.format(count=count, more=more))


def test_losses_of_two_chains_are_named_by_their_lines():
    words = said(source(ODD("two_chains")))
    for part in ("mtp₁ … mtp₄ predicts t₃ … t₆ to t₆ … t₉ × 4", "mtp₅ … mtp₇ predicts t₇ … t₁₀ to t₉ … t₁₂ × 3",
                 "heads₁ predicts t₃ … t₆", "heads₂ predicts t₄ … t₇", "L₀ predicts t₂ … t₅"):  # fmt: skip
        assert part in words, part
    assert not re.findall(r"\bL[₁-₉]", words)
    assert "MTP depths 1 … 4 × 4" in words and "MTP depths 5 … 7 × 3" in words
    assert "Heads depth 1" in words and "Heads depth 2" in words


def test_weights_of_depths_that_are_drawn_together_are_those_of_the_first_and_the_last():
    """0.5 * 0.8 ** depth: 0.4 at depth 1, 0.2048 at 4, 0.16384 at 5, 0.104858 at 7, as `check` tells them."""
    words = said(source(ODD("two_chains")))
    assert "( 0.40 … 0.205 ) · ( mtp₁ + … + mtp₄ ) + ( 0.164 … 0.105 ) · ( mtp₅ + … + mtp₇ )" in words
    assert "+ 0.20 · ( heads₁ + heads₂ )" in words
    assert "× 0.40 … 0.205" in words and "× 0.164 … 0.105" in words


def test_rows_of_tokens_are_those_of_the_first_depth_of_a_column():
    """Depth 5 has seen five tokens more than the main model."""
    lines = [line for line in source(ODD("two_chains")).splitlines() if re.match(r'\s+"mtp-\d/next_ids" \[label', line)]
    assert [" ".join(re.findall(r">(t[₀-₉]+)<", line)) for line in lines] == ["t₂ t₃ t₄ t₅", "t₆ t₇ t₈ t₉"]


def test_what_is_handed_on_has_the_depth_of_its_maker():
    """In the second chain too, whose columns stand further right."""
    spec = source(ODD("two_chains")).replace("heads", "more")
    assert '"  h₄"' in spec and '"  h₂"' not in spec


@pytest.mark.parametrize("kind", BODIES)
def test_layers_are_found_whether_they_are_blocks_or_lines(kind):
    body, made_of, layers = BODIES[kind]
    model = layered(body)
    words = said(graphviz_backend.dot_source(model))
    assert contents(model.nodes["layers"].copies[0].graph, Analysis(model)) == made_of
    assert f"× 3 {made_of} " in words
    assert f"{3 * layers} layers" in words
    assert "Multi-head attention × 3" not in words and "Mixture of experts × 3" not in words


def test_a_gate_on_attention_is_no_feed_forward_network():
    words = said(graphviz_backend.dot_source(layered(GATED)))
    assert "Multi-head attention × 3" in words and not re.search(r"\d layers", words)


def test_a_group_of_moe_layers_is_no_mixture_of_experts():
    spec = HEAD.replace("attn: gqa}", f"attn: gqa, {MOE}}}") + BLOCK.format(
        body=BODIES["group"][0].replace(": n1", ": n1, ffn: moe")
    )
    model = dsvgraph.loads(spec + MODEL.format(count=2, more=""))
    words = said(graphviz_backend.dot_source(model))
    assert "GQA + mixture of experts + 3 × (GQA" in words and "8 layers" in words
    assert "Mixture of experts × 2" not in words and "routed" not in words.partition("Model")[2]


def test_layers_that_share_keys_and_values_are_counted_each():
    words = said(source(ODD("cross_layer"), 1_000))
    assert "4 layers" in words and "× 2 2 × (MHA + SwiGLU 128)" in words


def test_a_layer_in_lines_is_opened_with_their_names():
    words = said(source(ODD("inline")))
    assert "Inside one dense block" in words and "4 layers" in words
    assert "softmax( s · q kᵀ + causal mask )" in words and "down 128 → 64" in words
    root = dsvgraph.loads(MODEL.format(count=1, more="").replace("layers: {layer: embed, repeat: 1}",
        "n1: {rms_norm: embed}" + BODIES["inline"][0].replace("\n      ", "\n    ").replace("[x,", "[embed,")
    ).replace("linear: layers", "linear: y"))  # fmt: skip
    assert "1 layer ·" in said(graphviz_backend.dot_source(root))


def test_a_chain_of_many_kinds_of_copies_is_a_card():
    spec = Path(ODD("two_chains")).read_text(encoding="utf-8").replace("96 if index < 4 else 128", "96 + index")
    spec = spec.replace("repeat: 7", "repeat: 9")
    words = said(graphviz_backend.dot_source(dsvgraph.loads(spec)))
    assert "MTP depths" not in words and "× 9" in words and "mtp₁ … mtp₉" in words


# -- ops of other packages ----------------------------------------------------------------------

MERGED = """
name: model
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 64, dim: 16}
    norm: {rms_norm: embed}
    both: {concat: [norm, embed]}
    proj: {linear: both, out: 24}
    parts: {split: proj, into: {a: 8, b: 16}}
    heads: {expand: parts.a, size: 2}
    y: {add: [parts.b, embed]}
    gated: {mul: [y, embed]}
  out: {y: gated, heads: heads}
"""


class Glued(OPS["concat"]):
    """Joins inputs along the last axis: [..., a], [..., b] -> [..., a + b]."""

    op, title, formula = "glue", "glue", "y = [x0; x1; ...]"


class Cut(OPS["split"]):
    """Cuts the last axis into named parts: [..., a + b] -> a: [..., a], b: [..., b]."""

    op, title, formula = "cut_up", "cut_up", "[a; b; ...] = x"


class Summed(OPS["add"]):
    """Sum of inputs of one shape: [...], [...] -> [...]."""

    op, title, formula = "plus", "plus", "y = x0 + x1 + ..."


class Normed(OPS["rms_norm"]):
    """Scales each vector: [..., d] -> [..., d]."""

    op, title, formula = "scale", "RMSNorm", "y = x / |x|"


@pytest.fixture
def others(monkeypatch):
    """Ops under other names, as a package may bring them."""
    names = {"concat": Glued, "split": Cut, "add": Summed, "rms_norm": Normed}
    for cls in names.values():
        monkeypatch.setitem(OPS, cls.op, cls)
        check(cls)
    return {old: cls.op for old, cls in names.items()}


@pytest.mark.parametrize("view", ({}, {"heat": "memory"}, {"focus": "proj"}))
def test_an_op_is_drawn_by_what_it_declares_and_not_by_its_name(others, view):
    text, expected = MERGED, graphviz_backend.dot_source(dsvgraph.loads(MERGED), **view)
    for old, new in others.items():
        text = text.replace(f"{{{old}: ", f"{{{new}: ")
        expected = re.sub(rf"\b{old}\b", new, expected)
    assert text != MERGED
    assert graphviz_backend.dot_source(dsvgraph.loads(text), **view) == expected


LOSSES = {
    "losses/self_distillation": ["KL to logits at i + 1", "KL to logits at i + 2", "predicts t₃ … t₆"],
    "losses/eagle": ["smooth L1 to states at i + 1", "soft targets logits at i + 2"],
    "losses/end_to_end_tv": ["total variation to logits at i + 2, end to end", "L  =  L₀ + acceptance+"],
    "losses/top": ["order of t₂ … t₅, 256 each"],
    "losses/fsp": ["tokens in t₃ … t₆, 11 each"],
}


@pytest.mark.parametrize("name", LOSSES)
def test_cards_say_what_a_loss_scores(name: str) -> None:
    plain = unescape(re.sub(r"<[^>]+>", "", source(name)))
    assert [words for words in LOSSES[name] if words not in plain] == []
