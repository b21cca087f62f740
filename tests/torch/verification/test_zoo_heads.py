"""Heads of `blocks/heads.yaml` by formulas written by hand; gradients stop where lines say so."""

from __future__ import annotations

import re

import pytest

import dsvgraph
import dsvgraph_torch
from dsvgraph.loader import bundled

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from helpers import V3, randomised, split, tokens  # noqa: E402

CLOSE = dict(rtol=1e-4, atol=1e-5)
V = 61


def open_variant(name: str, **config: object) -> torch.nn.Module:
    """A variant with random weights and the identity as the model's head, so that its logits are its last state."""
    known = dsvgraph.load(f"variants/{name}").config
    sizes = {k: v for k, v in (V3 | {"vocab_size": V, "hidden_size": V + 3, **config}).items() if k in known}
    module = randomised(dsvgraph_torch.compile(dsvgraph.load(f"variants/{name}", sizes)))
    head = torch.zeros(module.state_dict()["lm_head.weight"].shape)
    module.load_state_dict({"lm_head.weight": head + torch.eye(*head.shape)}, strict=False)
    return module


def ahead(ids: torch.Tensor, by: int) -> torch.Tensor:
    """The tokens ``by`` positions further on, the first one where there is none."""
    return F.pad(ids[:, by:], (0, by))


@torch.no_grad()
def test_hydra_by_hand() -> None:
    """One matrix on [state ; embeddings of the tokens read], through SiLU, beside another one past it."""
    ids, module = tokens(2, 11), open_variant("hydra", hidden_size=V, num_nextn_predict_layers=3)
    found, w = module(ids), module.state_dict()
    h, table = found["logits"], w["model.embed_tokens.weight"]
    for k in range(3):
        names = [f"hydra_head.{k}.mlp.", *(f"hydra_head.{k}.mlp.tokens.{i}." for i in range(k + 1))]
        joined = torch.cat([h, *(table[ahead(ids, i + 1)] for i in range(k + 1))], -1)
        linear, past = (torch.cat([w[f"{n}{what}.weight"] for n in names], 1) for what in ("linear", "res_connection"))
        state = joined @ past.T + F.silu(joined @ linear.T)
        inside = found["mtp_logits"][k][:, : 10 - k]  # beyond, the tokens read are fill
        torch.testing.assert_close(inside, (state @ w[f"hydra_head.{k}.lm_head.weight"].T)[:, : 10 - k], **CLOSE)


@torch.no_grad()
def test_jtp_by_hand() -> None:
    """Softmax over the vectors of one position's window up to the token's own; the state is added."""
    ids, module = tokens(2, 11), open_variant("jtp", hidden_size=V + 1, num_attention_heads=2, vocab_size=V + 1)
    found, w = module(ids), module.state_dict()
    h, table, heads = found["logits"], w["model.embed_tokens.weight"], 2
    window = torch.stack([0.5 * h + table[ahead(ids, j)] for j in range(3)], 2)  # [B, T, N, d]
    q, k, v = ((window @ w[f"fetch.{n}_proj.weight"].T).unflatten(-1, (heads, -1)) for n in "qkv")
    for i in range(3):
        scores = torch.einsum("bthd,btjhd->bthj", q[:, :, i], k[:, :, : i + 1]) * q.shape[-1] ** -0.5
        attended = torch.einsum("bthj,btjhd->bthd", scores.softmax(-1), v[:, :, : i + 1]).flatten(2)
        want = h + attended @ w["fetch.o_proj.weight"].T
        torch.testing.assert_close(found["mtp_logits"][i][:, : 11 - i], want[:, : 11 - i], **CLOSE)


@torch.no_grad()
def test_eagle3_reads_three_layers_and_its_own_state() -> None:
    """The taps are what hooks on the layers see; from there on the first step by hand, with attention by torch."""
    ids, module = tokens(1, 9), open_variant("eagle3", num_hidden_layers=4, hidden_size=64, vocab_size=64)
    seen = {}
    for i, layer in enumerate(list(module.model.layers)[:3]):
        layer.register_forward_hook(lambda _, args, out, i=i: seen.__setitem__(i, out))
    found, w = module(ids), {k.removeprefix("draft.0."): v for k, v in module.state_dict().items()}
    norm = lambda x, name: F.rms_norm(x, x.shape[-1:], w[f"{name}.weight"], 1e-6)  # noqa: E731
    h = torch.cat([seen[i] for i in range(3)], -1) @ w["fc.weight"].T
    e = w["model.embed_tokens.weight"][ahead(ids, 1)]
    eh = torch.cat([norm(e, "midlayer.input_layernorm"), norm(h, "midlayer.hidden_norm")], -1)
    q, k, v = ((eh @ w[f"midlayer.self_attn.{n}_proj.weight"].T).unflatten(-1, (2, -1)).transpose(1, 2) for n in "qkv")
    angles = torch.arange(9.0)[:, None] * 10000 ** (-torch.arange(0, 32, 2) / 32)
    turn = torch.polar(torch.ones_like(angles), angles)
    q, k = (torch.view_as_complex(torch.stack(x.chunk(2, -1), -1).contiguous()) * turn for x in (q, k))
    q, k = (torch.cat([x.real, x.imag], -1) for x in (q, k))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    h = h + attended @ w["midlayer.self_attn.o_proj.weight"].T
    x = norm(h, "midlayer.post_attention_layernorm")
    gate, up, down = (w[f"midlayer.mlp.{n}_proj.weight"].T for n in ("gate", "up", "down"))
    h = h + (F.silu(x @ gate) * (x @ up)) @ down
    torch.testing.assert_close(found["mtp_logits"][0][:, :8], (norm(h, "norm") @ w["lm_head.weight"].T)[:, :8], **CLOSE)


@torch.no_grad()
def test_an_answer_is_predicted_from_its_prompt_alone() -> None:
    ids, module = tokens(2, 11), open_variant("teacherless", prompt_length=5)
    other, same = ids.clone(), module(ids)["logits"]
    other[:, 5:] = (ids[:, 5:] + 1) % V
    assert torch.equal(module(other)["logits"], same)
    assert not torch.equal(same[:, 5:-1], same[:, 6:])  # places are told apart
    for place in range(5):
        other = ids.clone()
        other[:, place] = (ids[:, place] + 1) % V
        assert ((module(other)["logits"] - same).abs().amax((0, 2))[5:] > 1e-6).all()


# -- where gradients stop -----------------------------------------------------------------------------

GRAPH = """
extends: deepseek_v3_tiny.yaml
config: {mtp_layer: mtp_layer_x}
blocks:
  BLOCK
graph:
  in: {input_ids: "int[B, T]"}
  body:
    embed:   {embedding: input_ids, num: vocab_size, dim: hidden_size, at: model.embed_tokens}
    dense:   {decoder_layer: embed, at: model.layers, repeat: 1}
    norm:    {rms_norm: dense, eps: rms_norm_eps, at: model.norm}
    lm_head: {linear: norm, out: vocab_size}
    trunk:   {detach: norm}
    mtp:     {mtp_layer: {h: trunk, ids: input_ids, embed: embed.weight, head: lm_head.weight}, ffn: mlp, repeat: 2}
  out: {logits: lm_head, mtp_logits: mtp.logits}
loss: {mtp: {cross_entropy: mtp_logits, target: input_ids, shift: depth + 1}}
"""
STOPS = ("trunk", "state", "table", "unembedding")


@pytest.mark.parametrize("kept", [(), *((stop,) for stop in STOPS), STOPS])
def test_gradients_stop_at_the_lines_that_say_so(kept: tuple[str, ...]) -> None:
    """Of the loss of depth 2: each `detach` that is no more lets its gradient pass, and no other."""
    text = (bundled() / "blocks/heads.yaml").read_text(encoding="utf-8")
    block = re.search(r"^  mtp_layer_detached:\n.*?(?=^  \w+:$|\Z)", text, re.M | re.S)
    spec = GRAPH.replace("  BLOCK", block[0].replace("mtp_layer_detached", "mtp_layer_x"))  # type: ignore[index]
    for stop in set(STOPS) - {*kept}:
        spec, count = re.subn(rf"(\n *{stop}: *){{detach: (\w+)}}", r"\1{times: \2, by: 1}", spec)
        assert count == 1
    module = randomised(dsvgraph_torch.compile(dsvgraph.loads(spec, V3 | {"num_hidden_layers": 1})))
    module(*split(tokens(2, 12)))["mtp.2"].backward()
    moved = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    through_trunk = not {"trunk", "state"} & {*kept}
    assert ("model.layers.0.mlp.up_proj.weight" in moved) == through_trunk
    assert ("mtp.0.eh_proj.weight" in moved) == ("state" not in kept)
    assert ("model.embed_tokens.weight" in moved) == ("table" not in kept or through_trunk)
    assert ("lm_head.weight" in moved) == ("unembedding" not in kept)
    assert "mtp.1.eh_proj.weight" in moved
