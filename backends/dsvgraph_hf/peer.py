"""transformers' model of a graph, to be measured beside the compiled one: its best ways of running it by name.

Shape legend: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
)

from dsvgraph.errors import DsvError
from dsvgraph.graph import LossKind, Model
from dsvgraph_hf.config.graph_reader import main_output
from dsvgraph_hf.exporting.find_class import config_of

CAUSAL = "dsvgraph_causal"
"""The name under which transformers knows an attention that is causal without a mask."""


class Way(NamedTuple):
    """How transformers runs a model: its experts, its attention, and what of it is compiled."""

    experts: str
    attention: str = "sdpa"
    compiled: Callable[[Any], object] = lambda module: None


def _layers(module: Any) -> None:
    for layer in module.model.layers:
        layer.compile()


WAYS = {
    "grouped_mm": Way("grouped_mm"),
    "expert loop": Way("eager"),
    "by layer": Way("grouped_mm", compiled=_layers),
    "whole, no mask": Way("grouped_mm", CAUSAL, lambda module: module.compile()),
}


def ways(model: Model, device: str, compile: bool) -> Sequence[str]:
    """Return the ways worth measuring: eager with grouped products, and on a CPU with a loop over the experts.

    With ``compile`` too: compiled layer by layer, and as a whole with an attention that needs no mask.
    """
    eager = ["grouped_mm", *(["expert loop"] if device == "cpu" else [])]
    whole = ["whole, no mask"] if causal_alone(config_of(model)) else []
    return [*eager, *(["by layer", *whole] if compile else [])]


def causal_alone(config: Mapping[str, Any]) -> bool:
    """Return whether the attention of a config is causal and nothing else: no window, no sinks."""
    windows = config.get("sliding_window") or any("sliding" in kind for kind in config.get("layer_types") or ())
    return not windows and config["model_type"] != "gpt_oss"


def check(model: Model) -> Sequence[str]:
    """Return what transformers' step leaves out. Raise DsvError if it has no such model, or not the same work."""
    config_of(model)
    main = main_output(model.outputs)
    others = [one for one in model.losses if one.output is not None and one.output != main and one.names]
    if others:
        words = f"transformers trains `{main}` alone, and {model.name} has the loss `{others[0].name}` too"
        hint = "`--set num_nextn_predict_layers=0` leaves out the MTP modules" if model.depths else ""
        raise DsvError(f"--against: {words}: the steps would not be the same work", others[0].span, hint=hint)
    left = [one.name for one in model.losses if one.kind is not LossKind.CROSS_ENTROPY]
    return [f"transformers does not compute the lines of the loss {', '.join(left)}"] if left else []


def build(model: Model, way: str, device: Any, seed: int, positions: int) -> Any:
    """Return transformers' model in float32, initialised by its own rules."""
    chosen = WAYS[way]
    if chosen.attention == CAUSAL:
        register()
    found = config_of(model)
    kind = found.pop("model_type")
    config = AutoConfig.for_model(kind, **found)
    config.max_position_embeddings = max(positions, config.max_position_embeddings)
    config._attn_implementation, config._experts_implementation = chosen.attention, chosen.experts
    torch.manual_seed(seed)
    with torch.device(device):
        module = AutoModelForCausalLM.from_config(config)
    chosen.compiled(module)
    return module


def register() -> None:
    """Give transformers the attention CAUSAL: a mask hides from the kernels that attention is causal."""

    def causal(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: Any = None, **_: Any) -> Any:
        shared = q.shape[1] != k.shape[1]  # groups of queries have one key
        y = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, scale=scaling, enable_gqa=shared)
        return y.transpose(1, 2).contiguous(), None

    AttentionInterface.register(CAUSAL, causal)
    AttentionMaskInterface.register(CAUSAL, lambda *args, **options: None)


def loss(module: nn.Module, ids: Tensor) -> Tensor:
    """Return the loss of the next token over rows of ids, [B, T]."""
    found: Tensor = module(input_ids=ids, labels=ids, use_cache=False).loss
    return found


CACHES: dict[str, dict[str, Any]] = {
    "dynamic cache": {},
    "static cache, compiled": {"cache_implementation": "static"},
}


def decode_ways(device: str) -> Sequence[str]:
    """Return the caches worth measuring: on a GPU `generate` compiles a step of a static one by itself."""
    return ["dynamic cache", *(["static cache, compiled"] if device == "cuda" else [])]


class Clock(StoppingCriteria):
    """Never stops, and marks the time at which each token is there."""

    def __init__(self) -> None:
        self.marks = [time.perf_counter()]

    def __call__(self, input_ids: Any, scores: Any, **more: Any) -> Any:
        input_ids[0, -1].item()
        self.marks.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def decode(module: Any, way: str, ids: Tensor, tokens: int) -> Sequence[float]:
    """Continue rows of ids, [B, T], greedily by `generate`; return the seconds of each token, the prompt's first."""
    module.generation_config.eos_token_id = None
    clock = Clock()
    module.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([clock]), **CACHES[way],
    )  # fmt: skip
    return [end - start for start, end in pairwise(clock.marks)]
