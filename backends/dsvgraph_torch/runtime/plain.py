"""What emitted models are made of besides torch: short, plain functions, copied as far as they are used.

Letters in names of tensors: B batch, T positions, C positions of the keys (T and what is cached),
D width, H heads, G key and value heads, Q and V width of a head, R rotated width, E experts,
K experts per token, N tokens (B * T), S pairs of token and expert (N * K), F width of an expert.
"""

import math
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from dsvgraph_torch.runtime.context import Context as Context
from dsvgraph_torch.runtime.context import CopyContext as CopyContext


def rotary(ctx, x, theta, scaling=None):
    """Return cosines and sines of the positions, [T, R / 2] or [B, T, R / 2], computed once per pass."""
    key = (x.shape[1], x.shape[-1], theta, *(scaling or {}).items())
    if key not in ctx.memo:
        angle = ctx.at(x)[..., None] * frequencies(x.shape[-1], theta, scaling).float().to(x.device)
        ctx.memo[key] = angle.cos() * gain(scaling), angle.sin() * gain(scaling)
    return ctx.memo[key]


def frequencies(dim, theta, scaling=None):
    """Return the angle per position of each pair, [dim / 2]. ``scaling`` is rope_scaling of config.json."""
    kind = scaling["type"] if scaling else None
    if kind == "yarn":
        return yarn(dim, theta, scaling)
    if kind == "llama3":
        return llama3(dim, theta, scaling)
    return unscaled(dim, theta) / scaling["factor"] if scaling else unscaled(dim, theta)


def unscaled(dim, theta):
    """Return the angle per position of each pair, [dim / 2]."""
    return theta ** -(torch.arange(0, dim, 2).double() / dim)


def yarn(dim, theta, scaling):
    """Return the angle per position of each pair: slow rotations are slowed, fast ones kept (arXiv 2309.00071)."""
    f = unscaled(dim, theta)
    length = scaling["original_max_position_embeddings"]
    low, high = (
        dim * math.log(length / (2 * math.pi * n)) / (2 * math.log(theta))
        for n in (scaling.get("beta_fast", 32), scaling.get("beta_slow", 1))
    )
    low, high = (
        max(math.floor(low) if scaling.get("truncate", True) else low, 0),
        min(math.ceil(high) if scaling.get("truncate", True) else high, dim - 1),
    )
    ramp = ((torch.arange(dim // 2) - low) / (high - low or 0.001)).clamp(0, 1)
    return f / scaling["factor"] * ramp + f * (1 - ramp)


def gain(scaling=None):
    """Return the factor of cosines and sines: YaRN's temperature, 1 where both mscales are equal and not 0."""
    if not scaling or scaling["type"] != "yarn":
        return 1.0
    if scaling.get("attention_factor") is not None:
        return scaling["attention_factor"]
    grow = 0.1 * math.log(max(scaling["factor"], 1))
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return (grow * scaling["mscale"] + 1) / (grow * scaling["mscale_all_dim"] + 1)
    return grow + 1


def llama3(dim, theta, scaling):
    """Return the angle per position of each pair: long waves are slowed, short ones kept (Llama 3.1)."""
    f = unscaled(dim, theta)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    waves = scaling["original_max_position_embeddings"] * f / (2 * math.pi)
    keep = ((waves - low) / (high - low)).clamp(0, 1)
    return f / scaling["factor"] * (1 - keep) + f * keep


def rope(x, ctx, theta, interleave=False, scaling=None):
    """Rotate pairs of the last axis by the angle of their position (arXiv 2104.09864)."""
    # axes of size 1 for heads, and what else stands between
    cos, sin = (t.to(x.dtype)[(..., *[None] * (x.dim() - 3), slice(None))] for t in rotary(ctx, x, theta, scaling))
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1) if interleave else x.chunk(2, -1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1 if interleave else -2).flatten(-2)


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """Return softmax(scale q k^T + mask) v, [B, T, H, V]; the queries are the last T of C positions.

    sinks: a logit per head, [H], that joins the softmax and carries no value. seen: whether a query sees a key, as a
    function of their places; a query that sees none gives zeros.
    """
    T, C, V = q_BTHQ.shape[1], k_BCGQ.shape[1], v_BCGV.shape[-1]
    mask = (
        None  # where it can, the kernel masks
        if window is None and sinks is None and seen is None and ctx.documents is None and (not causal or T in (1, C))
        else q_BTHQ.new_ones(T, C, dtype=torch.bool).tril(C - T if causal else C)
    )
    if window is not None:
        mask = mask.triu(C - T - window + 1)  # type: ignore[union-attr]
    if seen is not None:
        at_C = ctx.at(k_BCGQ, counted=True)
        meet = seen(at_C[..., -T:, None], at_C[..., None, :])
        mask = mask & (meet.unsqueeze(1) if at_C.dim() > 1 else meet)
    if ctx.documents is not None:
        mask = mask & (ctx.documents[:, None, -T:, None] == ctx.documents[:, None, None, -C:])
    blind = None if seen is None or sinks is not None else ~mask.any(-1, keepdim=True)  # type: ignore[union-attr]
    if blind is not None:
        mask = mask | blind
    if sinks is not None:
        q_BTHQ, k_BCGQ, v_BCGV, mask = with_sinks(q_BTHQ, k_BCGQ, v_BCGV, mask, sinks / scale)
    # fused kernels want equal widths; zeros change nothing
    q, k, v = (F.pad(x, (0, max(q_BTHQ.shape[-1], V) - x.shape[-1])).transpose(1, 2) for x in (q_BTHQ, k_BCGQ, v_BCGV))
    y = F.scaled_dot_product_attention(
        q, k, v, mask, is_causal=causal and mask is None and T > 1, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    if blind is not None:
        y = y.masked_fill(blind, 0)
    return y.transpose(1, 2)[..., :V]


def with_sinks(q_BTHQ, k_BCGQ, v_BCGV, mask, sinks_H):
    """Put a key in front of all that every query sees: its score is the head's sink, its value zero."""
    sinks_H8 = F.pad(sinks_H[:, None], (7, 0)).to(q_BTHQ.dtype)  # fused kernels want widths in steps of 8
    k_BCGQ = F.pad(k_BCGQ, (0, 8, 0, 0, 1, 0))
    k_BCGQ[:, 0, :, -1] = 1
    v_BCGV = F.pad(v_BCGV, (0, 0, 0, 0, 1, 0))
    q_BTHQ = torch.cat([q_BTHQ, sinks_H8.expand(*q_BTHQ.shape[:3], 8)], -1)
    return q_BTHQ, k_BCGQ, v_BCGV, F.pad(mask, (1, 0), value=True)


def stack_attention(q_NBTHQ, k_NBTGQ, v_NBTGV, scale, causal=True):
    """Return attention along the first axis, [N, B, T, H, V]: a piece sees the pieces up to its own, or all."""
    rows, V = q_NBTHQ.shape[1:3], v_NBTGV.shape[-1]
    by_position = (x.flatten(1, 2).transpose(0, 1) for x in (q_NBTHQ, k_NBTGQ, v_NBTGV))
    wide = max(q_NBTHQ.shape[-1], V)
    q, k, v = (F.pad(x, (0, wide - x.shape[-1])).transpose(1, 2) for x in by_position)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return y.permute(2, 0, 1, 3)[..., :V].unflatten(1, rows)


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight, statistics in float32 (arXiv 1910.07467)."""

    def forward(self, x):
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps)


def shift(x_BT, by, ctx, fill=0):
    """Return y[i] = x[i + by] along dim 1, ``fill`` where the row, or the document of i, does not reach so far."""
    y = torch.roll(x_BT, -by, 1)
    (y[:, -by:] if by > 0 else y[:, :-by]).fill_(fill)
    if ctx.documents is not None:
        y = torch.where(ctx.within(by, y).unflatten(1, (-1, *[1] * (y.dim() - 2))), y, fill)
    return y


def overwrite(x_BT, start, value, ctx):
    """Return x with ``value`` in place of every position from ``start`` on, counted in each document."""
    late = ctx.at(x_BT) >= start
    return torch.where(late.unflatten(-1, (-1, *[1] * (x_BT.dim() - 2))), value, x_BT)


def precise(x):
    """Return x in float32, or in its dtype if that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Router(nn.Module):
    """Choose top_k experts by biased score and weigh them by unbiased score (arXiv 2412.19437, 12-16).

    ``fill`` is how many last positions of a row are fill and are not counted (none unless ``filled``): a number, or
    with ``shared`` (weights that several copies use) a mapping from the copy index of the context.
    """

    def __init__(self, dim, experts, top_k, groups=1, top_groups=1, score="sigmoid", normalize=True, scaling=1.0,
                 correction_bias=True, bias=False, group_score="top2_sum", balanced=True, filled=True,
                 shared=False):  # fmt: skip
        super().__init__()
        self.top_k, self.groups, self.top_groups, self.scaling, self.fill = top_k, groups, top_groups, scaling, 0
        self.score, self.normalize, self.biased = score, normalize, bias
        self.corrected = correction_bias
        self.group_score, self.balanced, self.filled, self.shared = group_score, balanced, filled, shared
        self.weight = nn.Parameter(torch.empty(experts, dim))
        if bias:
            self.bias = nn.Parameter(torch.empty(experts))
        if correction_bias:
            self.register_buffer("e_score_correction_bias", torch.zeros(experts))
        self.register_buffer("tokens_per_expert", torch.zeros(experts), persistent=False)

    def forward(self, x_BTD, ctx):
        with torch.autocast(x_BTD.device.type, enabled=False):  # near ties decide: never in bfloat16
            logits = F.linear(precise(x_BTD), precise(self.weight))
            if self.biased:
                logits = logits + precise(self.bias)
        s_BTE = logits.sigmoid() if self.score == "sigmoid" else logits.softmax(-1)
        index_BTK = self.choose(s_BTE.detach() + self.e_score_correction_bias if self.corrected else s_BTE.detach())
        score_BTK = s_BTE.gather(-1, index_BTK)
        if self.normalize:
            score_BTK = score_BTK / (score_BTK.sum(-1, keepdim=True) + 1e-20)
        if ctx.collect:
            kept_BT1 = (
                torch.ones_like(s_BTE[..., :1])
                if not self.filled
                else shift(
                    torch.ones_like(s_BTE[..., :1]),
                    self.fill[ctx.copy_index] if self.shared and self.fill else self.fill,  # type: ignore[index]
                    ctx,
                )
            )
            if self.training:
                self.tokens_per_expert.scatter_add_(
                    0, index_BTK.flatten(), kept_BT1.expand_as(index_BTK).flatten().type_as(self.tokens_per_expert)
                )
            if self.balanced:
                ctx.balance[self] = ctx.balance.get(self, 0.0) + sequence_balance(s_BTE, self.top_k, kept_BT1)
        return index_BTK, score_BTK * self.scaling

    def choose(self, c_BTE):
        """Return the indices of the top_k experts, out of the top_groups groups if there are several."""
        if self.groups > 1:
            grouped = c_BTE.unflatten(-1, (self.groups, -1))
            best = grouped.amax(-1) if self.group_score == "max" else grouped.topk(2).values.sum(-1)
            closed = torch.ones_like(best).scatter(-1, best.topk(self.top_groups).indices, 0).bool()
            c_BTE = grouped.masked_fill(closed[..., None], -math.inf).flatten(-2)
        return c_BTE.topk(self.top_k, sorted=False).indices

    def update_bias(self, speed):
        """Add speed * sign(mean load - load) to the bias and clear the counts (arXiv 2408.15664)."""
        load = self.tokens_per_expert
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(load)
        if self.corrected:
            self.e_score_correction_bias += speed * (load.mean() - load).sign()
        load.zero_()


def sequence_balance(s_BTE, top_k, kept_BT1):
    """Return the batch's mean of sum_i f_i P_i over a row's kept positions, 1 if even (arXiv 2412.19437, 17-20)."""
    top_BTK = s_BTE.topk(top_k, sorted=False).indices
    f_BE = s_BTE.new_zeros(len(s_BTE), s_BTE.shape[-1]).scatter_add_(
        1, top_BTK.flatten(1), kept_BT1.expand(top_BTK.shape).flatten(1)
    )
    P_BE = (s_BTE / s_BTE.sum(-1, keepdim=True) * kept_BT1).sum(1)
    return ((f_BE * P_BE).sum(-1) / kept_BT1.sum((1, 2)).clamp(min=1) ** 2).mean() * s_BTE.shape[-1] / top_k


class Ragged(NamedTuple):
    """Tokens sorted by expert: x [S, D], where each expert's rows end, and where each choice's row is."""

    x: torch.Tensor
    offsets: torch.Tensor
    inverse: torch.Tensor


def dispatch(x_BTD, index_BTK, experts):
    """Send each token to each of its experts: no token is dropped, nothing is padded."""
    expert_S, order_S = index_BTK.flatten().sort(stable=True)
    offsets_E = torch.searchsorted(expert_S, torch.arange(experts, device=x_BTD.device), right=True, out_int32=True)
    return Ragged(x_BTD.flatten(0, 1)[order_S // index_BTK.shape[-1]], offsets_E, order_S.argsort().view_as(index_BTK))


def combine(sent, score_BTK):
    """Return the sum of what the experts made of each token, weighted by score: [B, T, D]."""
    return (sent.x[sent.inverse] * score_BTK[..., None].to(sent.x.dtype)).sum(-2)


class Linears(nn.Module):
    """One linear map per copy, the weights stacked: [copies, out, in]."""

    def __init__(self, copies, inputs, outputs, bias=False):
        super().__init__()
        self.biased = bias
        self.weight = nn.Parameter(torch.empty(copies, outputs, inputs))
        if bias:
            self.bias = nn.Parameter(torch.empty(copies, outputs))

    def forward(self, x_SD, sent):
        y_SF = grouped(x_SD, self.weight, sent.offsets)
        return y_SF + per_row(self.bias, sent, y_SF) if self.biased else y_SF


def grouped(x_SD, weight_EFD, offsets_E):
    """Each expert's rows times its weight: torch's grouped product, or a loop for what that does not take."""
    # autocast does not know this product
    dtype = torch.get_autocast_dtype(x_SD.device.type) if torch.is_autocast_enabled(x_SD.device.type) else x_SD.dtype
    x_SD, weight_EFD = x_SD.to(dtype), weight_EFD.to(dtype)
    odd = dtype == torch.float64 or any(n * dtype.itemsize % 16 for n in weight_EFD.shape[1:])
    if odd or (torch.compiler.is_compiling() and dtype != torch.bfloat16):
        ends = offsets_E.tolist()
        return torch.cat([x_SD[a:b] @ w.t() for a, b, w in zip([0, *ends[:-1]], ends, weight_EFD, strict=True)])
    y_SF = (getattr(F, "grouped_mm", None) or torch._grouped_mm)(x_SD, weight_EFD.transpose(1, 2), offs=offsets_E)
    if y_SF.requires_grad:
        y_SF.register_hook(torch.Tensor.contiguous)  # its backward wants plain strides
    return y_SF


class Norms(nn.Module):
    """One RMSNorm per copy, the gains stacked: [copies, width]."""

    def __init__(self, copies, width, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(copies, width))

    def forward(self, x_SD, sent):
        return F.rms_norm(precise(x_SD), x_SD.shape[-1:], eps=self.eps) * per_row(self.weight, sent, x_SD)


def per_row(weight_EF, sent, like):
    """Each row's own entry of a stacked weight, with axes of size 1 so that it meets the last axes of ``like``."""
    rows = torch.arange(like.shape[0], device=like.device, dtype=sent.offsets.dtype)
    own_SF = weight_EF[torch.searchsorted(sent.offsets, rows, right=True)].to(like.dtype)
    return own_SF.view(len(own_SF), *[1] * (like.dim() - own_SF.dim()), *own_SF.shape[1:])
