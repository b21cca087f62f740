"""Counts against transformers: the numel of its meta model, and the FLOPs that torch sees run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import dsvgraph
from dsvgraph.passes.count.cost import cost
from dsvgraph.spec import with_settings

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NAMES = [  # of config.json, the same here and there
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "first_k_dense_replace",
    "num_attention_heads",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
]


def hugging(model: dsvgraph.Model, device: str) -> Any:
    """transformers' model of the same sizes."""
    sizes = {name: model.config[name] for name in NAMES}
    config = transformers.DeepseekV3Config(
        **sizes, num_key_value_heads=sizes["num_attention_heads"], attn_implementation="eager"
    )
    with torch.device(device):
        return transformers.DeepseekV3ForCausalLM(config)


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v3_tiny"])
def test_parameters(name: str) -> None:
    model = dsvgraph.load(name)
    other = hugging(model, "meta")
    biases = sum(b.numel() for n, b in other.named_buffers() if n.endswith("e_score_correction_bias"))
    counted = cost(model).parameters
    assert counted.selection_biases == biases
    assert counted.inference == sum(p.numel() for p in other.parameters()) + biases


def test_flops_that_run() -> None:
    """FlopCounterMode sees matrix products and whole squares, and no gains of norms."""
    from torch.utils.flop_counter import FlopCounterMode

    spec = dsvgraph.load("deepseek_v3_tiny").spec
    dense = with_settings(spec, {"first_k_dense_replace": 4, "num_nextn_predict_layers": 0})
    model = dsvgraph.build(replace(dense, loss={}))  # no routers to balance
    other = hugging(model, "cpu").train()
    ids = torch.zeros(2, 48, dtype=torch.long)
    with FlopCounterMode(display=False) as forward:
        loss = other(ids).logits.sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    found = cost(model, batch=2, seq=48, attention="full").flops
    assert forward.get_total_flops() == found.by_op["linear"] + found.by_op["attention"]
    gains = 3 * found.by_op["rms_norm"]
    assert forward.get_total_flops() + backward.get_total_flops() == found.train - gains


def test_flops_of_experts_that_run() -> None:
    """A loop over experts multiplies what the types say: B T K / E rows each on average."""
    from torch.utils.flop_counter import FlopCounterMode

    model = dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": 0})
    rows, (d, f) = 2 * 48, (128, 64)
    gate = torch.randn(rows, d) @ torch.randn(d, 16)
    chosen = gate.topk(4).indices
    with FlopCounterMode(display=False) as counter:
        for expert in range(16):
            x = torch.randn(int((chosen == expert).sum()), d)
            (x @ torch.randn(d, f)) * (x @ torch.randn(d, f)) @ torch.randn(f, d)
    row = next(r for r in cost(model, 2, 48).blocks if r.line == "experts")
    assert counter.get_total_flops() * 3 == row.flops  # three layers of them
