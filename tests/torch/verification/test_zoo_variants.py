"""Variants of the tiny model: they train, and they are what their papers say, by hand and by transformers."""

from __future__ import annotations

from functools import cache

import pytest

import dsvgraph
import dsvgraph_torch
from dsvgraph.loader import bundled
from dsvgraph.passes.lint.unused import lint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402
from helpers import V3, built, gradients, randomised, split, tokens  # noqa: E402
from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer, Gemma2RotaryEmbedding  # noqa: E402

VARIANTS = sorted(path.stem for path in (bundled() / "variants").glob("*.yaml"))
CLOSE = dict(rtol=1e-4, atol=1e-5)


@cache
def graph(name, **config):
    """A variant at sizes that run in milliseconds."""
    known = dsvgraph.load(name)
    sizes = V3 if "mtp_logits" in known.outputs else {k: v for k, v in V3.items() if k != "num_nextn_predict_layers"}
    return dsvgraph.load(name, sizes | config)


def variant(name, seed=0, **config):
    """A variant with random weights."""
    return built(graph(f"variants/{name}", **config), seed)


def tiny():
    return built(graph("deepseek_v3_tiny"))


@pytest.mark.parametrize("name", VARIANTS)
def test_two_steps(name):
    assert lint(graph(f"variants/{name}")) == []
    module = variant(name).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    found = []
    for _ in range(3):
        losses = module(*split(tokens(4, 17)))
        found.append(losses["loss"].item())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        dsvgraph_torch.after_step(module)
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("name", VARIANTS)
def test_no_variant_is_the_tiny_model(name):
    """With all weights that have the same names and shapes, something else comes out, or goes back."""
    ids, module, other = tokens(2, 11), variant(name, seed=1), tiny()
    own, state = module.state_dict(), other.state_dict()
    shared = {path: weight for path, weight in state.items() if path in own and own[path].shape == weight.shape}
    module.load_state_dict(shared, strict=False)
    got, want = module(ids), other(ids)
    same = got.keys() == want.keys() and all(
        got[name].shape == want[name].shape and torch.allclose(got[name], want[name], atol=1e-2) for name in want
    )
    for outputs in (got, want):
        list(outputs.values())[-1].square().mean().backward()
    assert not same or not torch.allclose(gradients(module)["lm_head.weight"], gradients(other)["lm_head.weight"])


# -- the MTP chain ----------------------------------------------------------------------------


@torch.no_grad()
def test_two_projections_are_one_on_the_concat():
    ids, chain = tokens(2, 11), tiny()
    state = {}
    for path, weight in chain.state_dict().items():
        if path.endswith("eh_proj.weight"):  # [embedding ; hidden state] is what the columns stand for
            e, h = weight.chunk(2, 1)
            state |= {path.replace("eh_proj", "e_proj"): e, path.replace("eh_proj", "h_proj"): h}
        else:
            state[path] = weight
    module = variant("mtp_sum", seed=1)
    module.load_state_dict(state, strict=True)
    torch.testing.assert_close(module(ids)["mtp_logits"], chain(ids)["mtp_logits"], **CLOSE)


@torch.no_grad()
def test_the_papers_chain_is_the_released_one_with_columns_in_another_order_and_no_norm_between():
    ids, chain, module = tokens(2, 11), tiny(), variant("mtp_paper", seed=1)
    state = {
        path: torch.cat(weight.chunk(2, 1)[::-1], 1) if path.endswith("eh_proj.weight") else weight
        for path, weight in chain.state_dict().items()
    }
    module.load_state_dict(state, strict=True)
    got, want = module(ids)["mtp_logits"], chain(ids)["mtp_logits"]
    torch.testing.assert_close(got[0], want[0], **CLOSE)
    assert not torch.allclose(got[1], want[1], atol=1e-2)
    for model in (module, chain):  # hnorm takes the size away, so only the gains of the norm between can matter
        model.load_state_dict({"model.layers.3.shared_head.norm.weight": torch.ones(32)}, strict=False)
    torch.testing.assert_close(module(ids)["mtp_logits"], chain(ids)["mtp_logits"], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_medusa_by_hand():
    """With the identity as the model's head, its logits are the last state."""
    ids, module = tokens(2, 11), variant("medusa", vocab_size=61, hidden_size=61)
    module.load_state_dict({"lm_head.weight": torch.eye(61)}, strict=False)
    found = module(ids)
    h, state = found["logits"], module.state_dict()
    for k in 0, 1:
        w1, w2 = state[f"medusa_head.{k}.w1.weight"], state[f"medusa_head.{k}.w2.weight"]
        torch.testing.assert_close(found["mtp_logits"][k], (h + F.silu(h @ w1.T)) @ w2.T, **CLOSE)


def test_medusas_heads_begin_without_their_layer_and_count_less_and_less():
    module = dsvgraph_torch.compile(graph("variants/medusa", num_nextn_predict_layers=3))
    weights = {path: float(w.abs().max()) for path, w in module.state_dict().items() if "medusa_head" in path}
    assert {path.split(".")[2] for path, size in weights.items() if size == 0} == {"w1"}
    losses = module(*split(tokens(2, 17)))
    heads = [losses[f"mtp.{k}"].item() for k in (1, 2, 3)]
    rest = losses["next_token"].item() + 1e-4 * losses["balance"].item()
    want = rest + sum(0.2 * 0.8**k * loss for k, loss in enumerate(heads, 1))
    assert losses["loss"].item() == pytest.approx(want, rel=1e-5)


@torch.no_grad()
def test_a_parallel_head_with_the_last_layers_weights_is_the_model():
    """The first head of Gloeckle et al. is the model itself: its last layer and norm, and the shared head."""
    ids, module = tokens(2, 11), variant("parallel_heads")
    before, state = module(ids)["mtp_logits"], module.state_dict()
    last = {path.removeprefix("model.layers.2."): w for path, w in state.items() if path.startswith("model.layers.2.")}
    assert len(last) > 10
    copied = {f"model.heads.0.{path}": weight for path, weight in last.items()}
    copied["model.heads.0.norm.weight"] = state["model.norm.weight"]
    module.load_state_dict(copied, strict=False)
    found = module(ids)
    torch.testing.assert_close(found["mtp_logits"][0], found["logits"], **CLOSE)
    assert torch.equal(found["mtp_logits"][1], before[1])  # heads do not see each other
    assert not torch.allclose(before[0], found["logits"], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize(("name", "ahead"), [("medusa", 0), ("parallel_heads", 0), ("mtp_sum", 2), ("mtp_paper", 2)])
def test_what_the_second_head_sees(name, ahead):
    """At position 5, the chain's depth 2 has read two tokens more than the model; other heads none."""
    ids, module = tokens(1, 11), variant(name)
    before = module(ids)["mtp_logits"][1, 0, 5]
    for seen in range(5, 9):
        changed = ids.clone()
        changed[0, seen] = (ids[0, seen] + 1) % 61
        moved = not torch.allclose(module(changed)["mtp_logits"][1, 0, 5], before, **CLOSE)
        assert moved == (seen <= 5 + ahead)


# -- the layer --------------------------------------------------------------------------------

LAYER = """
include: [blocks/gqa.yaml, blocks/mla.yaml, blocks/mlp.yaml, blocks/decoder.yaml]
config: {hidden_size: 32, intermediate_size: 40, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, attn: gqa,
  q_lora_rank: 12, kv_lora_rank: 8, qk_nope_head_dim: 8, qk_rope_head_dim: 4, v_head_dim: 6, rms_norm_eps: 1e-6}
graph:
  in: {x: "[B, T, hidden_size]"}
  body: {y: {LAYER: x}}
  out: {y: y}
"""


def layer(block, attn="gqa"):
    """One layer as a model: the stream in and out."""
    text = LAYER.replace("LAYER", block).replace("attn: gqa", f"attn: {attn}")
    return randomised(dsvgraph_torch.compile(dsvgraph.loads(text)))


def stream(seed=0):
    return torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_sandwich_norms_are_gemmas():
    config = transformers.Gemma2Config(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        query_pre_attn_scalar=8, attn_logit_softcapping=None, hidden_activation="silu", num_hidden_layers=1,
        layer_types=["full_attention"], attn_implementation="eager",
    )  # fmt: skip
    ours, theirs = layer("sandwich_layer"), Gemma2DecoderLayer(config, 0).eval()
    state = {path.removeprefix("y."): weight for path, weight in ours.state_dict().items()}
    theirs.load_state_dict({path: w - float(path.endswith("norm.weight")) for path, w in state.items()}, strict=True)
    x, mask = stream(), torch.full((1, 1, 9, 9), float("-inf")).triu(1)
    rotation = Gemma2RotaryEmbedding(config)(x, torch.arange(9)[None])
    want = theirs(x, position_embeddings=rotation, attention_mask=mask)
    torch.testing.assert_close(ours(x)["y"], want[0] if isinstance(want, tuple) else want, **CLOSE)


@torch.no_grad()
def test_parallel_branches_add_up():
    """With one branch closed, the usual layer gives the other; both read the same norm."""
    x, parallel = stream(), layer("parallel_layer")
    branches = {}
    for closed in ("self_attn.o_proj", "mlp.down_proj"):
        usual = layer("decoder_layer")
        usual.load_state_dict(parallel.state_dict(), strict=False)
        gain = parallel.state_dict()["y.input_layernorm.weight"]
        shut = torch.zeros_like(usual.state_dict()[f"y.{closed}.weight"])
        usual.load_state_dict({"y.post_attention_layernorm.weight": gain, f"y.{closed}.weight": shut}, strict=False)
        branches[closed] = usual(x)["y"] - x
    torch.testing.assert_close(parallel(x)["y"], x + sum(branches.values()), **CLOSE)
    both = layer("decoder_layer")
    both.load_state_dict(parallel.state_dict(), strict=False)
    both.load_state_dict({"y.post_attention_layernorm.weight": gain}, strict=False)
    assert not torch.allclose(both(x)["y"], parallel(x)["y"], atol=1e-2)


@torch.no_grad()
def test_query_key_norms_take_the_size_of_queries_and_keys_away():
    x, normed, plain = stream(), layer("decoder_layer", "mla_qk_norm"), layer("decoder_layer", "mla")
    for module, moved in ((normed, False), (plain, True)):
        before = module(x)["y"]
        for path in ("q_b_proj", "kv_a_proj_with_mqa"):  # kv_a_layernorm makes the latent's size no matter
            weight = module.state_dict()[f"y.self_attn.{path}.weight"]
            module.load_state_dict({f"y.self_attn.{path}.weight": weight * 5}, strict=False)
        assert torch.allclose(module(x)["y"], before, rtol=1e-3, atol=1e-3) != moved
