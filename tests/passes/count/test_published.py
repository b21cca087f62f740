"""Models by others, written with the blocks that ship, against their published counts.

Totals are the sums of the released checkpoints; caches are arXiv 2505.09343's table 1 (bytes, KB = 1000)
and the DeepSeek-V2 report's; 155 GFLOPs per token of DeepSeek-V2 is table 2's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

import dsvgraph
from dsvgraph.passes.count.cost import cost

SPEC = """
include: [blocks/mla.yaml, blocks/gqa.yaml, blocks/mlp.yaml, blocks/moe.yaml, blocks/decoder.yaml]
config: {CONFIG}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed:   {embedding: ids, num: vocab_size, dim: hidden_size}
    dense:   {decoder_layer: embed, attn: attention, ffn: mlp, at: layers, repeat: dense_layers}
    sparse:  {decoder_layer: dense, attn: attention, ffn: experts, at: layers, repeat: layers - dense_layers}
    norm:    {rms_norm: sparse}
    lm_head: {linear: norm, out: vocab_size}
  out: {logits: lm_head}
"""

LATENT = {"num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "v_head_dim": 128}
LATENT |= {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "attention": "mla", "experts": "moe_softmax"}
GROUPED = {
    "attention": "gqa",
    "experts": "mlp",
    "intermediate_size": 1,
    "num_key_value_heads": 8,
    "head_dim": 128,
}


class Published(NamedTuple):
    """What is said of a model: total, cached bytes, and active in billions: all, without the input
    embedding, without the head too."""

    config: dict[str, Any]
    total: int
    active: tuple[float, float, float]
    cache: int


MODELS = {
    "DeepSeek-V2": Published(
        LATENT
        | {"vocab_size": 102400, "hidden_size": 5120, "layers": 60, "dense_layers": 1}
        | {"intermediate_size": 12288, "n_group": 8, "topk_group": 3, "moe_intermediate_size": 1536}
        | {"n_routed_experts": 160, "n_shared_experts": 2, "num_experts_per_tok": 6},
        235_741_434_880, (21.38, 20.85, 20.33), 69_120,  # "21B activated"
    ),
    "DeepSeek-V2-Lite": Published(
        {k: v for k, v in LATENT.items() if k != "q_lora_rank"}
        | {"attention": "mla_full_query", "num_attention_heads": 16, "vocab_size": 102400}
        | {"hidden_size": 2048, "layers": 27, "dense_layers": 1, "intermediate_size": 10944}
        | {"moe_intermediate_size": 1408}
        | {"n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6},
        15_706_484_224, (2.66, 2.45, 2.24), 31_104,
    ),
    "Mixtral-8x7B": Published(
        GROUPED
        | {"experts": "moe_routed", "vocab_size": 32000, "hidden_size": 4096, "layers": 32}
        | {"dense_layers": 0, "num_attention_heads": 32, "num_experts": 8, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 14336},
        46_702_792_704, (12.88, 12.75, 12.62), 2 * 2 * 32 * 8 * 128,
    ),
    "Llama-3-8B": Published(
        GROUPED
        | {"vocab_size": 128256, "hidden_size": 4096, "layers": 32, "dense_layers": 32}
        | {"num_attention_heads": 32, "intermediate_size": 14336},
        8_030_261_248, (8.03, 7.50, 6.98), 2 * 2 * 32 * 8 * 128,
    ),
    "Llama-3.1-405B": Published(
        GROUPED
        | {"vocab_size": 128256, "hidden_size": 16384, "layers": 126, "dense_layers": 126}
        | {"num_attention_heads": 128, "intermediate_size": 53248},
        405_853_388_800, (405.85, 403.75, 401.65), 516_096,
    ),
}  # fmt: skip


def model(published: Published) -> dsvgraph.Model:
    entries = ", ".join(f"{name}: {value}" for name, value in published.config.items())
    return dsvgraph.loads(SPEC.replace("CONFIG", entries))


@pytest.mark.parametrize("name", MODELS)
def test_counts(name: str) -> None:
    published = MODELS[name]
    found = cost(model(published))
    assert found.parameters.total == found.parameters.inference == published.total
    names = ("active", "active_without_embedding", "active_without_embedding_and_head")
    assert tuple(round(getattr(found.parameters, n) / 1e9, 2) for n in names) == published.active
    assert found.kv_cache.bytes_per_token == published.cache


def test_flops_of_deepseek_v2() -> None:
    found = cost(model(MODELS["DeepSeek-V2"]))
    assert round(found.flops.train_per_token / 1e9, 2) == 155.31
