"""Attributes that a family does not read: transformers' model is the same with them, so they are accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from configs import CLASSES, FAMILIES, SMALL, hub, plain, saved, text_of, without_comments

from dsvgraph.errors import DsvError
from dsvgraph_hf.config.ignored import FOREIGN
from dsvgraph_hf.families import architecture, families

RUN: dict[str, Any] = {  # as public configs have them
    "_attn_implementation_autoset": True, "_flash_attn_2_enabled": True, "_pre_quantization_dtype": "float16",
    "gradient_checkpointing": True, "max_sequence_length": 2048, "neftune_noise_alpha": 5.0, "output_past": True,
    "tokenizer_padding_side": "right", "transformers.js_config": {"dtype": "q4"}, "use_flash_attn": True,
}  # fmt: skip
OF_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"is_llama_config": True, "max_window_layers": 2, "layer_types": ["full_attention"] * 3},
    "mixtral": {"use_sliding_window": False, "max_window_layers": 2, "layer_types": ["full_attention"] * 3},
    "qwen3_moe": {"max_window_layers": 2, "layer_types": ["full_attention"] * 3},
    "deepseek_v3": {"layer_types": ["full_attention"] * 3},
    "deepseek_v2": {"layer_types": ["full_attention"] * 3},
}


def foreign(kind: str) -> dict[str, tuple[Any, ...]]:
    """The attributes of other families, with what is accepted of them in this one."""
    config = families()[kind].Config
    own = {*config.model_fields, *config.attribute_map, *config.fixed}
    return {name: values for name, values in {**FOREIGN, **config.foreign}.items() if name not in own}


def extra(kind: str, which: int) -> dict[str, Any]:
    chosen = {name: values[which % len(values)] for name, values in foreign(kind).items()}
    return {**RUN, **chosen, **OF_FAMILIES.get(kind, {})}


def logits(kind: str, more: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], torch.Tensor]:
    """The shapes of transformers' weights and its logits, of a config.json with ``more``."""
    made = getattr(transformers, f"{CLASSES[kind]}Config").from_dict({**saved(hub(kind)), **more})
    torch.manual_seed(0)
    model = getattr(transformers, architecture(kind))(made).eval()
    with torch.no_grad():
        found = model(torch.arange(12)[None] % SMALL[kind]["vocab_size"], use_cache=False).logits
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}, found


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_transformers_does_not_read_changes_nothing(kind):
    """All of them at once, each with its first value and its last: the same weights, and logits to the bit."""
    shapes, usual = logits(kind, {})
    text = without_comments(text_of(json.loads(json.dumps(plain(kind)))))
    for which in (0, -1):
        more = extra(kind, which)
        there, found = logits(kind, more)
        assert there == shapes and torch.equal(found, usual)
        assert without_comments(text_of(plain(kind, **more))) == text


@pytest.mark.parametrize("kind", FAMILIES)
def test_anything_else_asks_for_another_model(kind):
    """A value that asks for what the family has not is refused by name, although transformers would not say a word."""
    for name, values in foreign(kind).items():
        for other in (True, False, 0, 2, 0.5, "x", [1]):
            if not any(other == v and type(other) is type(v) for v in values):
                with pytest.raises(DsvError, match=f"^error: `{name}: .*` is of another family"):
                    text_of(plain(kind, **{name: other}))
