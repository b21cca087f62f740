"""Qwen2: the published number of parameters, and the logits of transformers with sliding windows."""

from __future__ import annotations

from pathlib import Path

import pytest

import dsvgraph
import dsvgraph_hf
from dsvgraph.passes.count.cost import cost

PUBLISHED = Path(__file__).parent / "qwen2_0.5b.json"


def test_the_published_model_has_its_parameters():
    """Model card of Qwen2-0.5B: 0.49B parameters, exactly those of its safetensors."""
    model = dsvgraph.loads(dsvgraph_hf.spec_of(PUBLISHED))
    assert cost(model).parameters.total == 494_032_768
    assert dsvgraph_hf.config_of(model)["architectures"] == ["Qwen2ForCausalLM"]


def test_sliding_windows_give_the_logits_of_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    config = transformers.Qwen2Config(
        vocab_size=61, hidden_size=32, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, use_sliding_window=True, sliding_window=3, layer_types=kinds,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.Qwen2ForCausalLM(config).eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(tmp_path)
    ours = dsvgraph_hf.load(dsvgraph.loads(dsvgraph_hf.spec_of(tmp_path)), tmp_path)
    ids = torch.randint(61, (2, 33))
    with torch.no_grad():
        want = theirs(ids, use_cache=False).logits
        assert want.abs().max() > 0.1
        assert (ours.predict(ids) - want).abs().max() < 1e-5 * max(1, want.abs().max())
