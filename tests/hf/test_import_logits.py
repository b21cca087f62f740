"""Imported specs compute what transformers computes: folders that it saves are read and give its logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import folders  # noqa: E402
from configs import FAMILIES, hub  # noqa: E402

import dsvgraph  # noqa: E402
import dsvgraph_hf  # noqa: E402

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
DEEP = {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
KINDS = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
WINDOW = dict(use_sliding_window=True, sliding_window=3)
CASES = {
    "llama, biases, llama3": ("llama", dict(attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3)),
    "llama, tied, gelu, yarn": ("llama", dict(tie_word_embeddings=True, hidden_act="gelu", rope_parameters=YARN)),
    "llama, relu, wide heads": ("llama", dict(hidden_act="relu", head_dim=14, rms_norm_eps=0.01)),
    "qwen3, windows": ("qwen3", dict(num_hidden_layers=4, layer_types=KINDS, **WINDOW)),
    "qwen3, last windows": ("qwen3", dict(max_window_layers=2, **WINDOW)),
    "qwen3_moe, dense layers": ("qwen3_moe", dict(num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[1])),
    "qwen3_moe, window, norm": ("qwen3_moe", dict(norm_topk_prob=True, attention_bias=True, **WINDOW)),
    "mixtral, window": ("mixtral", dict(sliding_window=3)),
    "gpt_oss, all full": ("gpt_oss", dict(layer_types=["full_attention"] * 3, attention_bias=False, swiglu_limit=0.2)),
    "deepseek_v3, norms on latents": ("deepseek_v3", dict(rms_norm_eps=0.01, rope_parameters=DEEP, num_mtp_layers=0)),
    "deepseek_v3, no rank, biases": (
        "deepseek_v3",
        dict(q_lora_rank=None, rope_interleave=False, attention_bias=True, num_mtp_layers=0, norm_topk_prob=False),
    ),
    "deepseek_v2, groups, yarn": (
        "deepseek_v2",
        dict(topk_method="group_limited_greedy", n_group=4, topk_group=2, rope_parameters=DEEP, rms_norm_eps=0.01),
    ),
    "deepseek_v2, no rank": ("deepseek_v2", dict(q_lora_rank=None, routed_scaling_factor=2.0, attention_bias=True)),
}

CASES |= {kind: (kind, {}) for kind in FAMILIES if kind not in {family for family, _ in CASES.values()}}


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_a_folder_of_transformers_gives_its_logits(name, tmp_path):
    kind, changes = CASES[name]
    config = hub(kind, **changes)
    config._attn_implementation = "eager"
    theirs = folders.randomised(transformers.AutoModelForCausalLM.from_config(config).eval())
    theirs.save_pretrained(tmp_path)
    model = dsvgraph.loads(dsvgraph_hf.spec_of(tmp_path))
    ours = dsvgraph_hf.load(model, tmp_path)
    ids = folders.tokens(2, 33)
    want = theirs(ids, use_cache=False).logits
    assert (ours.predict(ids) - want).abs().max() < 1e-5 * max(1, want.abs().max())
