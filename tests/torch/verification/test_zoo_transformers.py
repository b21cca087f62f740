"""Small random models of the zoo against transformers: files both ways, logits, gradients, greedy tokens."""

from __future__ import annotations

import json

import pytest

import dsvgraph
import dsvgraph_torch
from dsvgraph.passes.compare.zoo import compare_published

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402
from families import FAMILIES, config_of, loaded, saved, small, transformers_model  # noqa: E402
from helpers import furthest, gradients, hub_names, randomised, split, tokens  # noqa: E402
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe  # noqa: E402

EVERY = pytest.mark.parametrize("name", FAMILIES)


@EVERY
def test_its_file_is_ours_by_name(name, tmp_path):
    model = small(name)
    theirs, ours = transformers_model(name, model), dsvgraph_torch.compile(model)
    state = saved(theirs, tmp_path)
    assert {path: list(weight.shape) for path, weight in state.items()} == {
        path: list(weight.shape) for path, weight in ours.state_dict().items()
    }
    ours.load_state_dict(state, strict=True)
    assert_same(name, ours, theirs)


def test_deepseek_moe_is_llamas_attention_with_deepseeks_experts():
    """transformers has no class for it, but both of its parts."""
    sizes = dict(vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4)
    experts = dict(moe_intermediate_size=12, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3)
    sizes |= dict(intermediate_size=40, rms_norm_eps=1e-6)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    for layer in theirs.model.layers[1:]:
        layer.mlp = DeepseekV2Moe(transformers.DeepseekV2Config(**sizes, **experts))
    theirs = randomised(theirs.eval())
    ours = dsvgraph_torch.compile(dsvgraph.load("deepseek_moe_16b", sizes | experts))
    ours.load_state_dict(hub_names({path: w.detach() for path, w in theirs.state_dict().items()}), strict=True)
    assert_same("deepseek_moe_16b", ours, theirs)


BIASES = {
    "deepseek_v3": dict(attention_bias=True),
    "deepseek_v2_lite": dict(attention_bias=True),
    "llama3_8b": dict(attention_bias=True, mlp_bias=True),
    "qwen3_8b": dict(attention_bias=True),
}


@pytest.mark.parametrize("name", BIASES)
def test_biases_are_where_transformers_has_them(name, tmp_path):
    """No released model of these has biases; their configs have the switches."""
    config = {**FAMILIES[name].sizes, **BIASES[name]}
    model = dsvgraph.loads(f"extends: {name}.yaml\nconfig: {json.dumps(config)}")
    theirs, ours = transformers_model(name, model), dsvgraph_torch.compile(model)
    assert any(path.endswith("o_proj.bias") for path in ours.state_dict())
    ours.load_state_dict(saved(theirs, tmp_path), strict=True)
    assert_same(name, ours, theirs)


@EVERY
def test_our_file_is_its_own(name, tmp_path):
    model = small(name)
    ours = randomised(dsvgraph_torch.compile(model, kernels="fast"), seed=1)
    assert_same(name, ours, loaded(ours, config_of(name, model), tmp_path))


def assert_same(name, ours, theirs):
    """Logits within 1e-5; the gradient of every weight within 1e-4 of its largest entry."""
    ids, targets = split(tokens(2, 33))
    want = theirs(ids, use_cache=False).logits
    assert want.abs().max() > 0.1
    assert (ours.predict(ids) - want).abs().max() < 1e-5
    assert (ours(ids)["logits"] - want).abs().max() < 1e-5
    F.cross_entropy(want.flatten(0, 1), targets.flatten()).backward()
    ours(ids, targets)["next_token"].backward()
    wanted = {path: weight.grad for path, weight in theirs.named_parameters()}
    wanted = mixtral_names(wanted) if name == "mixtral_8x7b" else hub_names(wanted)
    found = gradients(ours)
    assert furthest({path: found[path] for path in wanted}, wanted) < 1e-4


def mixtral_names(state):
    """Names of transformers' module as Mistral's checkpoints have them."""
    words = {".mlp.": ".block_sparse_moe.", ".gate_proj.": ".w1.", ".up_proj.": ".w3.", ".down_proj.": ".w2."}
    found = {}
    for path, weight in hub_names(state).items():
        for theirs, ours in words.items():
            path = path.replace(theirs, ours)
        found[path] = weight
    return found


@torch.no_grad()
@EVERY
def test_greedy_tokens_are_the_same(name):
    model = small(name)
    theirs = transformers_model(name, model, seed=3)
    ours = dsvgraph_torch.compile(model).eval()
    state = {path: weight.detach() for path, weight in theirs.state_dict().items()}
    ours.load_state_dict(mixtral_names(state) if name == "mixtral_8x7b" else hub_names(state))
    prompt = tokens(1, 5, seed=3)
    want = theirs.generate(prompt, max_new_tokens=64, do_sample=False, use_cache=True)
    assert want.shape == (1, 69)
    assert len(set(want[0, 5:].tolist())) > 3
    assert torch.equal(theirs.generate(prompt, max_new_tokens=64, do_sample=False, use_cache=False), want)
    assert torch.equal(greedy(ours, prompt, {}), want)
    assert torch.equal(greedy(ours, prompt, None), want)


def greedy(module, ids, cache):
    """64 likeliest tokens after ``ids``, from the cache or from the whole row each time."""
    fresh = ids
    for _ in range(64):
        logits = module.predict(ids) if cache is None else module.predict(fresh, cache)
        fresh = logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, fresh], 1)
    return ids


@pytest.mark.parametrize("name", FAMILIES)
def test_totals_are_those_of_transformers_on_the_meta_device(name):
    """At the released sizes, nothing allocated; transformers' selection biases are buffers."""
    model = dsvgraph.load(name)
    with torch.device("meta"):
        theirs = getattr(transformers, f"{FAMILIES[name].kind}ForCausalLM")(config_of(name, model))
    total = sum(weight.numel() for weight in theirs.state_dict().values())
    assert compare_published(model).parameters == total
