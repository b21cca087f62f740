"""The models of the zoo that transformers implements, small: sizes, twins, and the two ways of their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import transformers
from helpers import V3, randomised
from safetensors.torch import load_file, save_file

import dsvgraph

LATENT = dict(num_attention_heads=2, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
GROUPED = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)


class Family(NamedTuple):
    """What transformers calls a model, the sizes of a small one, and what else transformers is told."""

    kind: str
    sizes: dict[str, Any]
    told: Mapping[str, Any] = MappingProxyType({})


FAMILIES = {
    "deepseek_v3": Family("DeepseekV3", {**V3, "num_nextn_predict_layers": 0}),
    "deepseek_v2_lite": Family(
        "DeepseekV2",
        LATENT
        | dict(vocab_size=61, hidden_size=32, num_hidden_layers=3, intermediate_size=40, moe_intermediate_size=12)
        | dict(n_routed_experts=8, num_experts_per_tok=3, initializer_range=0.3),
        dict(q_lora_rank=None, topk_method="greedy", num_key_value_heads=2),
    ),
    "llama3_8b": Family("Llama", GROUPED | dict(intermediate_size=40)),
    "qwen3_8b": Family("Qwen3", GROUPED | dict(head_dim=12, intermediate_size=40)),
    "qwen3_30b_a3b": Family(
        "Qwen3Moe", GROUPED | dict(head_dim=12, moe_intermediate_size=12, num_experts=8, num_experts_per_tok=3)
    ),
    "mixtral_8x7b": Family("Mixtral", GROUPED | dict(intermediate_size=24, num_local_experts=8, num_experts_per_tok=2)),
}


def small(name: str, **config: Any) -> dsvgraph.Model:
    """A model of the zoo at sizes that run in milliseconds."""
    return dsvgraph.load(name, FAMILIES[name].sizes | config)


def config_of(name: str, model: dsvgraph.Model) -> Any:
    """transformers' config for a model of the zoo: the same names, the same values."""
    family = FAMILIES[name]
    made = getattr(transformers, f"{family.kind}Config")
    fields = {*made.__dataclass_fields__, *made.attribute_map, "head_dim"}  # which Qwen3Moe takes undeclared
    known = {key: value for key, value in model.config.items() if key in fields}
    known["hidden_act"] = "silu"
    scaling = model.config.get("rope_scaling") or {"type": "default"}
    reach = scaling.get("factor", 1) * scaling.get("original_max_position_embeddings", 4096)
    known["max_position_embeddings"] = reach
    known["rope_parameters"] = {"rope_theta": model.config["rope_theta"], "rope_type": scaling["type"], **scaling}
    tokens = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
    return made(**known | tokens | dict(tie_word_embeddings=False, **family.told))


def transformers_model(name: str, model: dsvgraph.Model, seed: int = 0) -> Any:
    """transformers' model of the same sizes, with random weights."""
    made = getattr(transformers, f"{FAMILIES[name].kind}ForCausalLM")
    return randomised(made(config_of(name, model)).eval(), seed)


def saved(theirs: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the file that transformers writes."""
    theirs.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def loaded(ours: torch.nn.Module, config: Any, folder: Path) -> Any:
    """What transformers makes of our weights; fails unless it misses nothing and understands everything."""
    weights = {path: weight.detach().clone().contiguous() for path, weight in ours.state_dict().items()}
    config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model, found = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(found.values()), found
    return model.eval()
