"""What the tests of compiled models share: small models, random weights, checkpoints' names."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import torch

import dsvgraph
import dsvgraph_torch

SPECS = Path(__file__).parents[1] / "specs"
V3 = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=3, first_k_dense_replace=1, num_nextn_predict_layers=2,
    num_attention_heads=2, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4,
    v_head_dim=6, intermediate_size=40, moe_intermediate_size=12, n_routed_experts=8,
    num_experts_per_tok=3, n_group=4, topk_group=2, initializer_range=0.3,
)  # fmt: skip
TUTORIAL = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, q_lora_rank=12, kv_lora_rank=8,
    head_dim=8, rope_dim=4, moe_intermediate_size=12, shared_intermediate_size=16, initializer_range=0.3,
)  # fmt: skip
GPT_OSS = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=4, sliding_window=3, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, intermediate_size=24, num_local_experts=8, num_experts_per_tok=3, initializer_range=0.3,
)  # fmt: skip
SMALL = {
    "deepseek_v3": V3,
    "deepseek_v3_paper": V3,
    "deepseek_v3_tiny": V3,
    "tutorial_mtp": TUTORIAL,
    "gpt_oss_20b": GPT_OSS,
    str(SPECS / "parallel_heads.yaml"): dict(vocab_size=61, hidden_size=32),
    str(SPECS / "patterns.yaml"): dict(vocab_size=61, hidden_size=32, sliding_window=3, num_hidden_layers=6),
}
"""Every spec, at sizes that run in milliseconds."""


@cache
def small(name: str, **config: object) -> dsvgraph.Model:
    """A spec of SMALL as a graph."""
    return dsvgraph.load(name, {**SMALL[name], **config})


def built(model: dsvgraph.Model | str, seed: int = 0, kernels: str = "plain", **config: object) -> torch.nn.Module:
    """The module of a graph, or of a spec of SMALL, with nothing at zero or one."""
    graph = small(model, **config) if isinstance(model, str) else model
    return randomised(copy.deepcopy(_compiled(graph, kernels)), seed)


@cache
def _compiled(graph: dsvgraph.Model, kernels: str) -> torch.nn.Module:
    return dsvgraph_torch.compile(graph, kernels=kernels)


@torch.no_grad()
def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module with random weights: matrices that keep a vector's size, gains near one, biases that matter."""
    generator = torch.Generator().manual_seed(seed)
    for path, weight in module.state_dict().items():
        noise = torch.randn(weight.shape, generator=generator)
        spread = 0.1 if weight.dim() < 2 else 0.7 * weight.shape[-1] ** -0.5
        weight.copy_(noise * spread + path.endswith("norm.weight"))
    return module


def tokens(rows: int = 2, length: int = 11, vocab: int = 61, seed: int = 0) -> torch.Tensor:
    """Random token ids, [rows, length]."""
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(seed))


def split(row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and the tokens after them."""
    return row[:, :-1].clone(), row[:, 1:].clone()


def hub_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state_dict of transformers with experts by name instead of stacked, as checkpoints have them."""
    found: dict[str, torch.Tensor] = {}
    for path, weight in state.items():
        head, _, last = path.rpartition(".")
        if last not in ("gate_up_proj", "down_proj") or not head.endswith("experts"):
            found[path] = weight
            continue
        for i, expert in enumerate(weight):
            parts = zip(("gate_proj", "up_proj"), expert.chunk(2)) if last == "gate_up_proj" else [(last, expert)]
            found.update({f"{head}.{i}.{name}.weight": part for name, part in parts})
    return found


def hub_stacked(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The other way round: experts stacked, as transformers' modules have them."""
    found = {path: weight for path, weight in state.items() if ".experts." not in path}
    parts: dict[str, dict[str, list[torch.Tensor]]] = {}
    for path, weight in state.items():
        head, inside, tail = path.partition(".experts.")
        if inside:
            parts.setdefault(head, {}).setdefault(tail.split(".")[1], []).append(weight)
    for head, by_name in parts.items():
        gate, up, down = (torch.stack(by_name[n]) for n in ("gate_proj", "up_proj", "down_proj"))
        found[f"{head}.experts.gate_up_proj"], found[f"{head}.experts.down_proj"] = torch.cat([gate, up], 1), down
    return found


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradient of every weight by its name in the checkpoint; zeros where there is none."""
    weights = module.state_dict(keep_vars=True).items()
    return {path: _gradient(weight) for path, weight in weights if weight.requires_grad}


def _gradient(weight: torch.Tensor) -> torch.Tensor:
    if weight._base is None:
        return torch.zeros_like(weight) if weight.grad is None else weight.grad
    base = weight._base
    grad = torch.zeros_like(base) if base.grad is None else base.grad
    return grad.as_strided(weight.shape, weight.stride(), weight.storage_offset())


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of tensors of the same names, each relative to its own largest entry."""
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max() / b[k].abs().max().clamp(min=1e-12)) for k in a)
