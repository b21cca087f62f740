"""Every multi-token wiring that implementations disagree about is a spec, and none sees its target.

Sources of the wirings: DeepSeek-V3 (arXiv 2412.19437), Megatron-LM, torchtitan, vLLM, DeepSeek-V4;
Gloeckle et al. (arXiv 2404.19737), Medusa (2401.10774), EAGLE (2401.15077), EAGLE-3 (2503.01840).
"""

from __future__ import annotations

import pytest
from tracing import horizon, trace

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.graph import Model, join, walk

TEXT = """
include: [blocks/decoder.yaml, blocks/gqa.yaml, blocks/mlp.yaml]
config:
  {{V: 11, d: 8, hidden_size: 8, D: 3, layers: 2, num_attention_heads: 2, intermediate_size: 12}}
blocks:
  layer: {{args: {{d}}, in: {{x: [B, T, d]}}, body: {{l: {{decoder_layer: x, attn: gqa, at: .}}}}, out: {{x: l}}}}
{block}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    embed: {{embedding: ids, num: V, dim: d, at: model.embed_tokens}}
{body}
  out: {{logits: {logits}, ahead: {ahead}}}
loss:
  next: {{cross_entropy: logits, target: ids}}
  ahead: {{cross_entropy: ahead, target: ids, shift: {shift}, weight: 0.3 / D}}
"""

TRUNK = """
trunk: {layer: embed, repeat: layers, at: model.layers}
norm: {rms_norm: trunk, at: model.norm}
lm_head: {linear: norm, out: V}
"""

CHAIN = """
chain:
  args: {d, V}
  in: {h: [B, T, d], ids: "int[B, T]", embed: [V, d], head: [V, d]}
  body:
    next_ids: {shift: ids}
    emb: {embedding: next_ids, weight: embed}
    enorm: {rms_norm: emb}
    hnorm: {rms_norm: h}
    EH
    layer: {layer: eh, at: .}
    norm: {rms_norm: layer}
    logits: {linear: norm, out: V, weight: head}
  out: {h: HANDED, ids: next_ids, logits: logits}
"""
EMB_H = "cat: {concat: [enorm, hnorm]}\n    eh: {linear: cat, out: d}"
H_EMB = "cat: {concat: [hnorm, enorm]}\n    eh: {linear: cat, out: d}"
SUM = "e_proj: {linear: enorm, out: d}\n    h_proj: {linear: hnorm, out: d}\n    eh: {add: [e_proj, h_proj]}"


def chain(first: str, joined: str, handed: str) -> tuple[str, str, str, str]:
    block = CHAIN.replace("EH", joined).replace("HANDED", handed)
    line = f"mtp: {{chain: {{h: {first}, ids: ids, embed: embed.weight, head: lm_head.weight}}, repeat: D}}"
    return block, TRUNK + line, "mtp.logits", "depth + 1"


MEDUSA = """
medusa:
  args: {d, V}
  in: {h: [B, T, d]}
  body: {w1: {linear: h, out: d, bias: true}, act: {silu: w1}, res: {add: [h, act]}, w2: {linear: res, out: V}}
  out: {logits: w2}
"""
GLOECKLE = """
head:
  args: {d, V}
  in: {z: [B, T, d], unembed: [V, d]}
  body: {l: {layer: z, at: .}, n: {rms_norm: l}, logits: {linear: n, out: V, weight: unembed}}
  out: {logits: logits}
"""
EAGLE = """
draft:
  args: {d, V}
  in: {f: [B, T, d], ids: "int[B, T]", embed: [V, d], head: [V, d], fc: [d, 2 * d], up: [d, d], down: [d, d]}
  body:
    next_ids: {shift: ids}
    emb: {embedding: next_ids, weight: embed}
    cat: {concat: [emb, f]}
    x: {linear: cat, out: d, weight: fc}
    a: {linear: x, out: d, weight: up}
    b: {silu: a}
    y: {linear: b, out: d, weight: down}
    logits: {linear: y, out: V, weight: head}
  out: {f: y, ids: next_ids, logits: logits}
owner:
  args: {d}
  in: {x: [B, T, d], xx: [B, T, 2 * d]}
  body: {fc: {linear: xx, out: d}, up: {linear: x, out: d}, down: {linear: x, out: d}}
  out: {fc: fc.weight, up: up.weight, down: down.weight}
"""
EAGLE_LINES = """
two: {concat: [norm, norm]}
own: {owner: {x: norm, xx: two}}
draft:
  draft: {f: norm, ids: ids, embed: embed.weight, head: lm_head.weight, fc: own.fc, up: own.up, down: own.down}
  repeat: D
"""
EAGLE3_LINES = """
low:  {layer: embed, repeat: 1, at: model.layers}
mid:  {layer: low, repeat: layers, at: model.layers}
high: {layer: mid, repeat: 1, at: model.layers}
norm: {rms_norm: high, at: model.norm}
lm_head: {linear: norm, out: V}
features: {concat: [low, mid, high]}
fused: {linear: features, out: d}
mtp: {chain: {h: fused, ids: ids, embed: embed.weight, head: lm_head.weight}, repeat: D}
"""

WIRINGS = {
    "paper": chain("trunk", H_EMB, "layer"),
    "released": chain("norm", EMB_H, "norm"),  # and Megatron-LM, SGLang
    "torchtitan": chain("trunk", EMB_H, "norm"),
    "vllm before 2026": chain("norm", EMB_H, "layer"),
    "deepseek v4": chain("trunk", SUM, "layer"),
    "gloeckle": (GLOECKLE, TRUNK + "h: {head: {z: trunk, unembed: lm_head.weight}, repeat: D}", "h.logits", "depth"),
    "medusa": (MEDUSA, TRUNK + "h: {medusa: norm, repeat: D}", "h.logits", "depth + 1"),
    "eagle": (EAGLE, TRUNK + EAGLE_LINES, "draft.logits", "depth + 1"),
    "eagle 3": (chain("x", EMB_H, "norm")[0], EAGLE3_LINES, "mtp.logits", "depth + 1"),
}
SEES = {"gloeckle": [0, 0, 0], "medusa": [0, 0, 0]}  # heads of a chain see one token more each


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.strip("\n").splitlines())


def load(block: str, body: str, ahead: str, shift: str) -> Model:
    return dsvgraph.loads(
        TEXT.format(block=indented(block, 2), body=indented(body, 4), logits="lm_head", ahead=ahead, shift=shift)
    )


@pytest.mark.parametrize("name", WIRINGS)
def test_a_wiring_is_accepted_and_sees_what_the_judge_says(name: str) -> None:
    found = load(*WIRINGS[name])
    ref = found.outputs["ahead"]
    seen = trace(found)
    copies = [horizons.ahead("ids") for horizons in found.nodes[ref.node].copy_horizons[ref.port]]
    assert copies == SEES.get(name, [1, 2, 3]) == [horizon(piece, "ids") for piece in seen[ref]]
    assert found.horizons["logits"].ahead("ids") == 0 == horizon(seen[found.outputs["logits"]], "ids")


@pytest.mark.parametrize("name", [n for n in WIRINGS if n not in SEES])
def test_the_same_wiring_predicting_what_it_reads_is_refused(name: str) -> None:
    with pytest.raises(DsvError, match=r"label leak: `ahead` at depth 1 predicts token i \+ 1"):
        load(*WIRINGS[name][:3], "depth")


@pytest.mark.parametrize("name", ["paper", "released"])
def test_a_shift_too_many_is_refused(name: str) -> None:
    block, *rest = WIRINGS[name]
    with pytest.raises(DsvError, match=r"predicts token i \+ 2, but .* already seen tokens up to i \+ 2"):
        load(block.replace("{shift: ids}", "{shift: ids, by: 2}"), *rest)


def test_a_reused_module_has_its_weights_once() -> None:
    found = load(*WIRINGS["eagle"])
    owned = [join(v.path, w) for v in walk(found) for w in v.node.weights if v.path.startswith(("own", "draft"))]
    assert owned == ["own.fc.weight", "own.up.weight", "own.down.weight"]


def test_separate_modules_have_theirs_each() -> None:
    found = load(*WIRINGS["paper"])
    assert any("mtp.[0-2].cat" in v.path or "mtp.[0-2].eh" in v.path for v in walk(found) if v.node.weights)


def test_dropping_the_heads_leaves_the_main_model() -> None:
    found = load(*WIRINGS["released"])
    assert found.needed(["logits"]) == {"ids", "embed", "trunk", "norm", "lm_head"}
    assert "mtp" in found.needed(["ahead"])
