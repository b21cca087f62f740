"""Modules without their numbers: memory for weights that a caller brings, and first values one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.module import constructed
from dsvgraph_torch.runtime.modules import normal
from dsvgraph_torch.training.preflight import memory_of

Rules = tuple[tuple[str, float, float], ...]


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
    for path, weight in module.state_dict().items():
        yield path, draw(module.init, path, tuple(weight.shape), seed=seed)


def draw(
    rules: Rules,
    path: str,
    shape: tuple[int, ...],
    index: tuple[slice, ...] = (),
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Return the part ``index`` of the weight at ``path`` as ``initialise`` sets it, in float32, drawn on ``device``.

    ``rules`` is the attribute `init` of a compiled module, ``shape`` that of the whole weight. Rows of the first axis
    are drawn whole, about a million numbers at a time, and only those in ``index``. Raise ValueError if a slice has a
    step.
    """
    if not shape:
        return draw(rules, path, (1,), (), seed, device)[0]
    parts = (*index, *[slice(None)] * (len(shape) - len(index)))
    first, *others = (range(size)[part] for part, size in zip(parts, shape, strict=True))
    if any(kept.step != 1 for kept in (first, *others)):
        raise ValueError("a part of a weight is a slice of each axis, without steps")
    mean, std = next(rule[1:] for rule in reversed(rules) if re.fullmatch(rule[0], path))
    inner = tuple(slice(kept.start, kept.stop) for kept in others)
    drawn, row = torch.empty(len(first), *map(len, others), device=device), prod(shape[1:])
    for part in drawn.split(max(1, 2**20 // max(row, 1))):
        rows = part.new_empty(len(part) * row)
        values = normal(f"{seed} {path}", first.start * row, rows).mul_(std).add_(mean)
        part.copy_(values.view(len(part), *shape[1:])[:, *inner])
        first = first[len(part) :]
    return drawn
