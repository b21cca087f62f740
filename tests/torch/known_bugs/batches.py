"""Batches on which an emitted DeepSeek-V3 with an MTP chain is held to the reference: losses, gradients, routers.

Shape legend: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from helpers import V3, randomised, small, tokens
from reference import IGNORED, Reference, moved
from torch import Tensor

import dsvgraph_torch

SIZES = dict(V3, hidden_size=16, num_hidden_layers=2, vocab_size=23, intermediate_size=12, moe_intermediate_size=6)
SPEED = 0.001
Module = Any


@dataclass(frozen=True)
class Case:
    """A batch, in micro-batches: ids, targets and documents, each [B, T] or None, after ``tokens_seen`` tokens."""

    batches: tuple[tuple[Tensor, Tensor, Tensor | None], ...]
    tokens_seen: float = 0.0


@dataclass(frozen=True)
class Expected:
    """The reference's losses of each micro-batch, gradients, and load and bias of each router."""

    losses: tuple[dict[str, float], ...]
    gradients: dict[str, Tensor]
    load: dict[str, list[int]]
    bias: dict[str, Tensor]


def rows(seed: int, count: int = 2, length: int = 8) -> tuple[Tensor, Tensor]:
    row = tokens(count, length + 1, SIZES["vocab_size"], seed)
    return row[:, :-1].clone(), row[:, 1:].clone()


def packed(lengths: list[list[int]]) -> Tensor:
    """Return document numbers of rows, [B, T]."""
    return torch.tensor([[d for d, n in enumerate(row) for _ in range(n)] for row in lengths])


def prompted(seed: int) -> tuple[Tensor, Tensor, None]:
    """A batch in which the targets of a prompt do not count, as many as differ by row."""
    ids, targets = rows(seed)
    targets[0, :5] = targets[1, :2] = IGNORED
    return ids, targets, None


def cases() -> dict[str, Case]:
    """Return the batches by name."""
    return {
        "plain": Case(((*rows(0), None),)),
        "packed": Case(((*rows(1), packed([[3, 1, 4], [2, 6]])),)),
        "prompts": Case((prompted(2),)),
        "short": Case(((*rows(3, 2, 2), None),)),  # depth 2 has no target
        "accumulated": Case(((*rows(4), None), (*rows(5), None)), tokens_seen=11e12),
        "late": Case(((*rows(6), None),), tokens_seen=14.5e12),
    }


@cache
def text() -> str:
    """The emitted model."""
    return dsvgraph_torch.emit(small("deepseek_v3_tiny", **SIZES), full=True)


def module_of(source: str) -> Module:
    """Return the model of a source text, in float64, with weights that matter and biases of both signs."""
    names: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(source, "emitted", "exec"), names)
    module = randomised(names["DeepSeekV3Tiny"]()).double()
    for path, buffer in module.named_buffers():
        if path.endswith("e_score_correction_bias"):
            generator = torch.Generator().manual_seed(len(path))
            buffer.copy_(torch.randn(buffer.shape, generator=generator) - 2)
    return module.train()


@cache
def expected(name: str) -> Expected:
    case, module = cases()[name], module_of(text())
    state = {path: value.detach().clone() for path, value in module.state_dict().items()}
    leaves = {p: v.requires_grad_() for p, v in state.items() if not p.endswith("e_score_correction_bias")}
    config = small("deepseek_v3_tiny", **SIZES).config
    reference = Reference(state, SimpleNamespace(**dict(config)))
    losses, load = [], {}
    for ids, targets, documents in case.batches:
        found, counts = reference.losses(ids, targets, documents, case.tokens_seen)
        (found["loss"] / len(case.batches)).backward()
        losses.append({key: value.item() for key, value in found.items()})
        load = {p: [a + b for a, b in zip(n, load.get(p, [0] * len(n)), strict=True)] for p, n in counts.items()}
    speed = SPEED if case.tokens_seen < 14.3e12 else 0.0
    names = [p.removesuffix(".e_score_correction_bias") for p in state if p.endswith("e_score_correction_bias")]
    none = [0] * SIZES["n_routed_experts"]
    bias = {p: moved(state[f"{p}.e_score_correction_bias"], load.get(p, none), speed) for p in names}
    gradients = {p: v.grad if v.grad is not None else torch.zeros_like(v) for p, v in leaves.items()}
    return Expected(losses=tuple(losses), gradients=gradients, load=load, bias=bias)


def trained_once(module: Module, name: str) -> None:
    """Assert that one optimizer step's losses, gradients, counts and biases are those of the reference."""
    case, want = cases()[name], expected(name)
    module.tokens_seen = case.tokens_seen
    for (ids, targets, documents), losses in zip(case.batches, want.losses, strict=True):
        found = module(ids, targets, documents=documents)
        assert found.keys() == losses.keys(), (name, found.keys())
        for key, value in losses.items():
            assert math.isclose(found[key].item(), value, rel_tol=1e-7, abs_tol=1e-9), (name, key)
        (found["loss"] / len(case.batches)).backward()
    _same_gradients(module, want.gradients, name)
    routers = dict(module.named_modules())
    for path, load in want.load.items():
        assert routers[path].tokens_per_expert.tolist() == load, (name, path)
    module.after_step()
    for path, bias in want.bias.items():
        torch.testing.assert_close(routers[path].e_score_correction_bias, bias, rtol=0, atol=1e-9)
        assert not routers[path].tokens_per_expert.any(), (name, path)


def _same_gradients(module: Module, gradients: dict[str, Tensor], name: str) -> None:
    """Assert equality by the names of a checkpoint, where experts have one each."""
    stacked = {path: p.grad if p.grad is not None else torch.zeros_like(p) for path, p in module.named_parameters()}
    found = {path: grad for path, grad in stacked.items() if path in gradients}
    for path, grad in stacked.items():
        if path not in gradients:
            head, _, rest = path.partition(".experts.")
            found |= {f"{head}.experts.{i}.{rest}": piece for i, piece in enumerate(grad)}
    assert found.keys() == gradients.keys()
    for path, grad in gradients.items():
        torch.testing.assert_close(found[path], grad, rtol=1e-6, atol=1e-9, msg=f"{name}: gradient of {path}")


@torch.no_grad()
def evaluated(module: Module, _: str) -> None:
    """Assert that an evaluation neither counts tokens nor moves biases."""
    module.eval()
    before = {path: buffer.clone() for path, buffer in module.named_buffers()}
    ids, targets, documents = cases()["plain"].batches[0]
    module(ids, targets, documents=documents)
    assert all(torch.equal(buffer, before[path]) for path, buffer in module.named_buffers())


@torch.no_grad()
def decoded(module: Module, _: str) -> None:
    """Assert that decoding step by step gives the logits of the whole row, and leaves out the MTP chain."""
    module.eval()
    ids = cases()["plain"].batches[0][0]
    whole, cache_ = module.predict(ids), {}
    torch.testing.assert_close(whole, module(ids)["logits"])
    steps = [module.predict(piece, cache=cache_) for piece in ids.split([3, *[1] * 5], 1)]
    torch.testing.assert_close(torch.cat(steps, 1), whole)


@torch.no_grad()
def routed_precisely(module: Module, _: str) -> None:
    """Assert that routers score in float32 under autocast to bfloat16."""
    module.float()
    router, x = module.model.layers[1].mlp.gate, torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    context = SimpleNamespace(collect=False)
    index, score = router(x, context)
    with torch.autocast("cpu", torch.bfloat16):
        index_low, score_low = router(x, context)
    assert torch.equal(index, index_low) and torch.equal(score, score_low)


CHECKS: dict[str, Callable[[Module, str], None]] = {
    **dict.fromkeys(cases(), trained_once),
    "evaluated": evaluated,
    "decoded": decoded,
    "routed precisely": routed_precisely,
}


def failure(source: str) -> str:
    """Return the first check that a source text fails, and how; "" if it passes all."""
    for name, check in CHECKS.items():
        try:
            check(module_of(source), name)
        except Exception as error:  # noqa: BLE001 - a mutant may fail in any way
            return f"{name}: {type(error).__name__}: {error}"
    return ""
