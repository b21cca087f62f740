"""Modules without their numbers: memory for weights that a caller brings, and first values one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.module import constructed
from dsvgraph_torch.training.preflight import memory_of


def empty(
    model: Model, device: str | torch.device = "cpu", dtype: torch.dtype | None = None, kernels: str = "plain",
    functions: Mapping[str, Any] | None = None,
) -> nn.Module:  # fmt: skip
    """Return the module of `compile` with weights that hold nothing yet: never more in memory than they take.

    Parameters are of ``dtype``, buffers of float32. Raise DsvError if ``device`` has less memory.
    """
    module, dtype = constructed(model, "meta", kernels, functions, device), dtype or torch.float32
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    if str(device) == "meta":
        return module
    saved = module.state_dict()
    needed, there = sum(weight.nbytes for weight in saved.values()), memory_of(torch.device(device))
    if needed > there:
        words = f"{needed / 1e9:,.1f} GB as {str(dtype).removeprefix('torch.')}; {device} has {there / 1e9:,.1f} GB"
        hint = "smaller sizes by --set, or a machine with more; `check` and `cost` need none of it"
        raise DsvError(f"the weights of {model.name} take {words}", hint=hint)
    module.to_empty(device=device)
    for name, buffer in module.named_buffers():
        if name not in saved:
            buffer.zero_()
    return module


def initial(module: Any, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield path and value of every weight as ``initialise`` sets it; the module itself may be on the meta device."""
    generator = torch.Generator().manual_seed(seed)
    for path, weight in module.state_dict().items():
        start, spread = [rule[1:] for rule in module.init if re.fullmatch(rule[0], path)][-1]
        yield path, torch.randn(weight.shape, generator=generator) * spread + start
