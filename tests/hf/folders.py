"""What the tests of weights share: folders that transformers writes, folders that it reads, tensors of both."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import families
import torch
import transformers
from families import FAMILIES
from helpers import randomised, tokens
from safetensors.torch import load_file, save_file

import dsvgraph
import dsvgraph_hf
import dsvgraph_torch

GPT_OSS = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=2, sliding_window=6, num_attention_heads=4,
    num_key_value_heads=2, head_dim=12, intermediate_size=40, num_local_experts=4, num_experts_per_tok=2,
)  # fmt: skip
NAMES = [*FAMILIES, "gpt_oss_20b"]
LAYERS = FAMILIES["deepseek_v3"].sizes["num_hidden_layers"]


@cache
def small(name: str = "deepseek_v3", **config: Any) -> dsvgraph.Model:
    """A model of the zoo at sizes that run in milliseconds."""
    return dsvgraph.load(name, GPT_OSS | config) if name == "gpt_oss_20b" else families.small(name, **config)


def compiled(model: dsvgraph.Model) -> torch.nn.Module:
    """A module of the model, with random weights."""
    return copy.deepcopy(_compiled(model))


@cache
def _compiled(model: dsvgraph.Model) -> torch.nn.Module:
    return randomised(dsvgraph_torch.compile(model), seed=9)


def hub_config(model: dsvgraph.Model, name: str = "deepseek_v3") -> Any:
    """transformers' config of a small model."""
    if name != "gpt_oss_20b":
        return families.config_of(name, model)
    rope = {**model.config["rope_scaling"], "rope_theta": model.config["rope_theta"]}
    ends = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
    return transformers.GptOssConfig(**GPT_OSS, **ends, rope_parameters=rope, attn_implementation="eager")


def theirs_of(model: dsvgraph.Model, name: str = "deepseek_v3", **other: Any) -> Any:
    """transformers' model of the same sizes, with random weights."""
    config = hub_config(model, name)
    for key, value in other.items():
        setattr(config, key, value)
    kind = type(config).__name__.replace("Config", "ForCausalLM")
    return randomised(getattr(transformers, kind)(config).eval())


def exported(model: dsvgraph.Model, folder: Path, name: str = "deepseek_v3", **options: Any) -> Any:
    """Writes a folder as transformers reads it; what `save` says of it."""
    config = hub_config(model, name)
    config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config.save_pretrained(folder)
    return dsvgraph_hf.save(model, folder, json.loads((folder / "config.json").read_text()), **options)


def pretrained(folder: Path, **options: Any) -> tuple[Any, dict[str, set[str]]]:
    """The model that transformers makes of a folder, and what it says of its names."""
    auto = transformers.AutoModelForCausalLM
    model, found = auto.from_pretrained(folder, output_loading_info=True, **options)
    return model.eval(), found


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder, as safetensors itself reads them."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        own = load_file(path)
        assert not own.keys() & found.keys()
        found |= own
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are equal in names, types and bits."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def furthest_logits(ours: torch.nn.Module, theirs: Any) -> float:
    """The largest difference of the two models' logits, which are large enough to differ."""
    ids = tokens(2, 33)
    with torch.no_grad():
        want = theirs(ids, use_cache=False).logits
        assert want.abs().max() > 0.1
        return float((ours.predict(ids) - want).abs().max())


def with_mtp(folder: Path, depth: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """A folder as DeepSeek's released ones, written by safetensors alone: copies in the MTP modules; its tensors."""
    model = small(num_nextn_predict_layers=depth)
    state = randomised(dsvgraph_torch.compile(model), seed).state_dict()
    found = {path: weight.clone().contiguous() for path, weight in state.items()}
    for layer in range(LAYERS, LAYERS + depth):
        found[f"model.layers.{layer}.embed_tokens.weight"] = found["model.embed_tokens.weight"].clone()
        found[f"model.layers.{layer}.shared_head.head.weight"] = found["lm_head.weight"].clone()
    write(folder, found, num_hidden_layers=LAYERS)
    return found


def write(folder: Path, found: dict[str, torch.Tensor], **config: Any) -> Path:
    """One file of tensors and a config.json that says nothing but ``config``."""
    folder.mkdir(exist_ok=True)
    save_file(found, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder
