"""Rotary positions, for training on a GPU: their tables are made before the layers, from frequencies on the device.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from functools import cache

import torch

from dsvgraph_torch.runtime import plain


def rope(x, ctx, theta, interleave=False, scaling=None):
    """plain.rope, with tables made of frequencies that stay on the device."""
    rotary(ctx, x, theta, scaling)
    return plain.rope(x, ctx, theta, interleave, scaling)


def rotary(ctx, x, theta, scaling=None):
    """plain.rotary, without a copy from the host in every pass."""
    numbers = tuple((scaling or {}).items())
    key = (x.shape[1], x.shape[-1], theta, *numbers)
    if key not in ctx.memo:
        angle = ctx.at(x)[..., None] * _frequencies(x.shape[-1], theta, numbers, x.device)
        ctx.memo[key] = angle.cos() * plain.gain(scaling), angle.sin() * plain.gain(scaling)
    return ctx.memo[key]


@cache
def _frequencies(dim, theta, numbers, device):
    return plain.frequencies(dim, theta, dict(numbers) or None).float().to(device)


def tables(ctx, row_BT, rotations):
    """Put the tables of ``rotations``, (width, theta, scaling) each, into the context of a pass over ``row_BT``."""
    for dim, theta, scaling in rotations:
        rotary(ctx, row_BT.new_empty(1, dtype=torch.float32).expand(1, row_BT.shape[1], dim), theta, scaling)
