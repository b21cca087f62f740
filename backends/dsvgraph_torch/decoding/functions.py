"""What stands behind the names of plain.py in a module that is decoded.

Letters in names of tensors are those of plain.py; n are the query heads of a group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsvgraph_torch.decoding.context import DraftContext, StepContext
from dsvgraph_torch.decoding.experts import Linears, Router, combine, dispatch, gated_network, grouped
from dsvgraph_torch.kernels.cpu import norms, products
from dsvgraph_torch.kernels.cpu.gated import NAME as GATED
from dsvgraph_torch.runtime import plain, scoring

FEW = 16
"""Rows of a product or norm up to which what torch does before it counts for more than the numbers."""


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """plain.attention; where rows differ in length, each position sees what counts of its own row."""
    whole = not causal and seen is None  # a mask that is decoded step by step lets no query look ahead
    if whole or not isinstance(ctx, StepContext):
        return plain.attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal, sinks, window, seen)
    if isinstance(ctx.past, int):
        if q_BTHQ.shape[1] > 1 or sinks is not None or seen is not None:
            return plain.attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal, sinks, window, seen)
        first = 0 if window is None else -window  # one query sees all, or the last ones: no mask
        return by_group(q_BTHQ, k_BCGQ[:, first:], v_BCGV[:, first:], None, scale)
    keys = k_BCGQ.shape[1]
    if sinks is None and seen is None:
        return by_group(q_BTHQ, k_BCGQ, v_BCGV, ctx.bias(keys, window, q_BTHQ.dtype), scale)
    mask = ctx.visible(keys, window, seen)
    blind = None if seen is None or sinks is not None else ~mask.any(-1, keepdim=True)
    mask = mask if blind is None else mask | blind
    if sinks is not None:
        q_BTHQ, k_BCGQ, v_BCGV, mask = plain.with_sinks(q_BTHQ, k_BCGQ, v_BCGV, mask, sinks / scale)
    y_BTHV = by_group(q_BTHQ, k_BCGQ, v_BCGV, mask, scale)
    return y_BTHV if blind is None else y_BTHV.masked_fill(blind.transpose(1, 2), 0)


def by_group(q_BTHQ: Tensor, k_BCGQ: Tensor, v_BCGV: Tensor, mask_B1TC: Tensor | None, scale: float) -> Tensor:
    """Attention in which the heads of a group are so many more queries: nothing of the cache is copied."""
    T, groups, V = q_BTHQ.shape[1], k_BCGQ.shape[2], v_BCGV.shape[-1]
    n = q_BTHQ.shape[2] // groups
    q_BGSQ = q_BTHQ.transpose(1, 2) if n == 1 else q_BTHQ.unflatten(2, (groups, n)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    if mask_B1TC is not None and T > 1 and n > 1:
        mask_B1TC = mask_B1TC.repeat(1, 1, n, 1)
    wide = max(q_BTHQ.shape[-1], V)  # fused kernels want equal widths; zeros change nothing
    q, k, v = (F.pad(x, (0, wide - x.shape[-1])) if wide > x.shape[-1] else x for x in (q_BGSQ, k_BCGQ, v_BCGV))
    y = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), mask_B1TC, scale=scale)
    return y[..., :V].unflatten(2, (n, T)).permute(0, 3, 1, 2, 4).flatten(2, 3)


def rope(x, ctx, theta, interleave=False, scaling=None):
    """plain.rope, by a table of all positions of a cache."""
    if not isinstance(ctx, StepContext):
        return plain.rope(x, ctx, theta, interleave, scaling)
    spread = (..., *[None] * (x.dim() - 3), slice(None))
    cos, sin = (t[spread] for t in _rotation(ctx, x, theta, interleave, scaling))
    other = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleave else x.roll(x.shape[-1] // 2, -1)
    return torch.addcmul(x * cos, other, sin)


def _rotation(ctx: StepContext, x: Tensor, theta: float, interleave: bool, scaling: Any) -> tuple[Tensor, Tensor]:
    """Return cosines, and sines with the sign of the other half of a pair, of the positions of x, [.., T, R]."""
    name = x.shape[-1], theta, interleave, x.dtype, *(scaling or {}).items()
    key = ("rotation", x.shape[1], *name)
    if key not in ctx.memo:
        if name not in ctx.cache.tables:
            ctx.cache.tables[name] = _table(ctx.cache.slots, x, theta, interleave, scaling)
        tables, last = ctx.cache.tables[name], ctx.past + ctx.length if isinstance(ctx.past, int) else x.shape[1]
        if isinstance(ctx.past, Tensor) and x.shape[1] == ctx.length:
            ctx.memo[key] = tuple(table[ctx.at_BT] for table in tables)
        else:
            ctx.memo[key] = tuple(table[last - x.shape[1] : last] for table in tables)
    return ctx.memo[key]


def _table(positions: int, x: Tensor, theta: float, interleave: bool, scaling: Any) -> tuple[Tensor, Tensor]:
    angle = torch.arange(positions)[:, None] * plain.frequencies(x.shape[-1], theta, scaling).float()
    cos, sin = angle.cos() * plain.gain(scaling), angle.sin() * plain.gain(scaling)
    if interleave:
        found = cos.repeat_interleave(2, -1), torch.stack([-sin, sin], -1).flatten(-2)
    else:
        found = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    return tuple(table.to(x.device, x.dtype) for table in found)


def shift(x_BT, by, ctx, fill=0):
    """plain.shift; where heads draft, the tokens of later positions are known."""
    ahead = ctx.ahead_of(x_BT) if isinstance(ctx, DraftContext) else None
    return plain.shift(x_BT, by, ctx, fill) if ahead is None else ctx.tokens(ahead + by)


class Linear(products.Linear):
    """nn.Linear; of few rows by the product that begins the soonest."""

    def forward(self, x):
        few = x.numel() <= FEW * x.shape[-1]
        return F.linear(x, self.weight, self.bias) if few else super().forward(x)


class RMSNorm(norms.RMSNorm):
    """plain.RMSNorm; of few rows by torch's own function."""

    def forward(self, x):
        few = x.numel() <= FEW * x.shape[-1]
        return plain.RMSNorm.forward(self, x) if few else super().forward(x)


def head(x, weight, ctx):
    """scoring.head; of the one position of each row whose logits are wanted, if the context says so."""
    if isinstance(ctx, StepContext) and ctx.last_B is not None:
        x = x[torch.arange(len(x), device=x.device), ctx.last_B][:, None]
    return scoring.head(x, weight, ctx)


def CopyContext(ctx, i):
    """The context of copy i of a module whose copies share their weights: each copy has its own cache entries."""
    return ctx.copied(i) if isinstance(ctx, StepContext) else plain.CopyContext(ctx, i)


_STEPS = (attention, rope, shift, head, CopyContext, Linear, RMSNorm, Router, dispatch, combine, Linears, grouped)
NAMES = {one.__name__: one for one in _STEPS} | {GATED: gated_network}
