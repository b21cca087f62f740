"""Compiled models against transformers: checkpoints load strictly; logits and gradients are the same."""

import copy

import pytest

import dsvgraph
import dsvgraph_torch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402
from helpers import SPECS, furthest, gradients, hub_names, hub_stacked, randomised, split, tokens  # noqa: E402
from transformers.modeling_layers import MtpModel  # noqa: E402

SCALE = 48**-0.5 * (0.1 * torch.tensor(4.0, dtype=torch.float64).log().item() + 1) ** 2  # YaRN's, mscale 1
YARN = dict(
    type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=32, beta_slow=1, mscale=1.0,
    mscale_all_dim=1.0,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
DEEPSEEK_V3 = {
    "as released": {},
    "halves rotated": dict(rope_interleave=False),
    "yarn": dict(rope_scaling=YARN, softmax_scale=SCALE),
    "yarn, one mscale": dict(rope_scaling={**YARN, "mscale": 0.7, "mscale_all_dim": 0.0}),
    "one group, no renormalisation": dict(n_group=1, topk_group=1, norm_topk_prob=False, n_shared_experts=2),
}
ROUTED = dict(attn="gqa", first_k_dense_replace=0, num_hidden_layers=2)
HEADS = dict(num_key_value_heads=4)  # transformers wants the number even where the keys have none
OTHERS = {  # what transformers calls it, the config of tests/specs/decoder.yaml, what else transformers is told
    "grouped queries": ("Llama", dict(), dict()),
    "one head of keys, llama3": ("Llama", dict(num_key_value_heads=1, rope_scaling=LLAMA3), dict()),
    "linear": ("Llama", dict(rope_scaling={"type": "linear", "factor": 4.0}), dict()),
    "yarn, not truncated": (
        "Llama", dict(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
                                    "truncate": False, "attention_factor": 1.2}), dict(),
    ),
    "routed": (
        "Mixtral", dict(ROUTED, later_ffn="moe_routed"),
        dict(num_local_experts=8, intermediate_size=24, sliding_window=None),
    ),
    "softmax": (
        "DeepseekV2", dict(attn="mla", later_ffn="moe_softmax", routed_scaling_factor=4.0),
        dict(HEADS, topk_method="group_limited_greedy"),
    ),
    "softmax, no query rank": (
        "DeepseekV2", dict(attn="mla_full_query", later_ffn="moe_softmax", n_group=1, topk_group=1),
        dict(HEADS, q_lora_rank=None),
    ),
    "sigmoid, no query rank": (
        "DeepseekV3", dict(attn="mla_full_query", later_ffn="moe"), dict(HEADS, q_lora_rank=None),
    ),
}  # fmt: skip


def transformers_model(model, kind, **other):
    """The model of transformers with the sizes of a graph's config and random weights."""
    config_class = getattr(transformers, f"{kind}Config")
    known = {k: v for k, v in model.config.items() if k in config_class.__dataclass_fields__}
    known["hidden_act"] = "silu"
    scaling = model.config.get("rope_scaling") or {"type": "default"}
    rope = {"rope_theta": 10000.0, "rope_type": str(scaling.get("type")), **scaling}
    known.update(rope_parameters=rope, max_position_embeddings=64, tie_word_embeddings=False)
    config = config_class(**{**known, **other})
    return randomised(getattr(transformers, f"{kind}ForCausalLM")(config).eval())


def tiny(**config):
    return dsvgraph.load("deepseek_v3_tiny", config)


def assert_same(ours, theirs):
    """Logits within 1e-5, the gradient of every weight within 1e-4 of its largest entry."""
    ids, targets = split(tokens(2, 33, theirs.config.vocab_size))
    want = theirs(ids, use_cache=False).logits
    assert (ours.predict(ids) - want).abs().max() < 1e-5
    assert (ours(ids)["logits"] - want).abs().max() < 1e-5
    F.cross_entropy(want.flatten(0, 1), targets.flatten()).backward()
    ours(ids, targets)["next_token"].backward()
    wanted = hub_names({k: p.grad for k, p in theirs.named_parameters()})
    found = gradients(ours)
    assert furthest({k: found[k] for k in wanted}, wanted) < 1e-4


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("variant", DEEPSEEK_V3)
def test_deepseek_v3_loads_strictly_and_is_the_same(variant, kernels):
    model = tiny(num_nextn_predict_layers=0, **DEEPSEEK_V3[variant])
    theirs = transformers_model(model, "DeepseekV3")
    ours = dsvgraph_torch.compile(model, kernels=kernels)
    ours.load_state_dict(hub_names(theirs.state_dict()), strict=True)
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", OTHERS)
def test_other_blocks_are_those_of_other_models(name):
    kind, config, told = OTHERS[name]
    model = dsvgraph.load(str(SPECS / "decoder.yaml"), config)
    theirs = transformers_model(model, kind, **told)
    ours = dsvgraph_torch.compile(model)
    ours.load_state_dict(hub_names(theirs.state_dict()), strict=True)
    assert_same(ours, theirs)


def test_a_checkpoint_with_mtp_modules_is_the_main_model_and_the_modules_own_weights():
    model = tiny()
    theirs = transformers_model(model, "DeepseekV3")
    ours = randomised(dsvgraph_torch.compile(model), seed=1)
    state = {**ours.state_dict(), **hub_names(theirs.state_dict())}
    own = state.keys() - hub_names(theirs.state_dict())
    assert {path.split(".")[2] for path in own} == {"4", "5"}
    ours.load_state_dict(state, strict=True)
    assert_same(ours, theirs)


def test_what_is_trained_here_runs_there():
    model = tiny()
    ours, theirs = randomised(dsvgraph_torch.compile(model)), transformers_model(model, "DeepseekV3")
    main = {k: w for k, w in ours.state_dict().items() if not k.startswith(("model.layers.4.", "model.layers.5."))}
    theirs.load_state_dict(hub_stacked(main), strict=True)
    assert_same(ours, theirs)


@torch.no_grad()
def test_the_mtp_chain_is_that_of_transformers():
    model = tiny()
    ours, theirs = randomised(dsvgraph_torch.compile(model)), transformers_model(model, "DeepseekV3")
    state = hub_stacked(ours.state_dict())
    theirs.load_state_dict({k: state[k] for k in theirs.state_dict()}, strict=True)
    chain = MtpModel(copy.deepcopy(theirs), 2).eval()
    chain.load_state_dict({k: mtp_weight(k, state) for k in chain.state_dict()}, strict=True)
    ids = tokens(2, 33, 256)
    got = ours(ids)["mtp_logits"]
    h = theirs(ids, use_cache=False, output_hidden_states=True).hidden_states[-1]
    for k in 1, 2:
        seen = ids[:, k:]  # transformers drops the positions whose token is beyond the row
        h = chain.forward_layer(k - 1, h[:, : seen.shape[1]], torch.arange(k, 33)[None], None, input_ids=seen)
        assert (got[k - 1, :, : seen.shape[1]] - chain._project_to_logits(h)).abs().max() < 1e-5


def mtp_weight(path, state):
    """What transformers' MTP chain calls `path`, from a checkpoint of four layers and the chain."""
    if not path.startswith("layers."):
        return state[{"embed_tokens.weight": "model.embed_tokens.weight"}.get(path, "lm_head.weight")]
    _, number, rest = path.split(".", 2)
    name = rest.replace("mtp_block.", "").replace("post_norm.", "shared_head.norm.")
    return state[f"model.layers.{4 + int(number)}.{name}"]
