"""Faster versions of what emitted models are made of, for training on a CPU: same names, same results.

Emitted files hold the plain functions (plain.py); ``compile(graph, kernels="fast")`` runs the same
classes on these. Where nothing is gained (other devices, compilers, inference) they call the plain ones.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from dsvgraph_torch.runtime import plain, scoring
from dsvgraph_torch.runtime.products import (
    Linear as Linear,
)
from dsvgraph_torch.runtime.products import (
    compute_dtype,
    eager_cpu,
    grouped_rows,
    grouped_weight,
    product,
    weight_gradient,
    wide_dtype,
)
from dsvgraph_torch.runtime.products import linear as linear
from dsvgraph_torch.runtime.products import windows as windows

LONGEST = 2048  # positions for which attention in blocks beats the fused kernel of a CPU


# -- positions and attention ------------------------------------------------------------------------


def rope(x, ctx, theta, interleave=False, scaling=None):
    """plain.rope; neighbours turn as complex numbers, one product each way instead of a dozen."""
    if not (interleave and eager_cpu(x)):
        return plain.rope(x, ctx, theta, interleave, scaling)
    cos, sin = plain.rotary(ctx, x, theta, scaling)
    turn = torch.complex(cos, sin)
    pairs = x.to(wide_dtype(x)).unflatten(-1, (-1, 2))
    if pairs.storage_offset() % 2 or any(step % 2 for step in pairs.stride()[:-1]):
        pairs = pairs.clone(memory_format=torch.contiguous_format)  # a view as complex numbers starts at even places
    for _ in range(x.dim() - 3):
        turn = turn.unsqueeze(-2)
    turned = torch.view_as_complex(pairs) * turn
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """plain.attention, in blocks where rows are short and gradients are wanted."""
    T, C = q_BTHQ.shape[1], k_BCGQ.shape[1]
    simple = window is None and sinks is None and seen is None and ctx.documents is None
    triangle = causal and simple and 1 < T == C <= LONGEST
    if triangle and eager_cpu(q_BTHQ) and torch.is_grad_enabled():
        return CausalBlocks.apply(q_BTHQ, k_BCGQ, v_BCGV, scale)
    return plain.attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal, sinks, window, seen)


class CausalBlocks(torch.autograd.Function):
    """Causal attention in blocks of 64 queries against the keys they see.

    For rows of up to 2048 positions on a CPU, where it is 1.6 (float32) to 4 (bfloat16) times as
    fast as torch's kernel. It keeps the probabilities: B * H * T * T / 2 numbers.
    """

    @staticmethod
    def forward(ctx, q_BTHQ, k_BTGQ, v_BTGV, scale):
        (B, T, H, _), G = q_BTHQ.shape, k_BTGQ.shape[2]
        q, k, v = by_head(q_BTHQ * scale, G), by_head(k_BTGQ, G), by_head(v_BTGV, G)
        o, probabilities = v.new_empty(B * G, T * H // G, v.shape[-1]), []
        later = torch.full((64, 64), -math.inf, dtype=q.dtype).triu(1).repeat_interleave(H // G, 0)
        for rows, start, end in causal_blocks(T, H // G):
            s = q[:, rows] @ k[:, :end].transpose(1, 2)
            s[:, :, start:] += later[: s.shape[1], : end - start]
            probabilities.append(s.softmax(-1))
            o[:, rows] = probabilities[-1] @ v[:, :end]
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.scale, ctx.batch = scale, B
        return by_position(o, B, T)

    @staticmethod
    def backward(ctx, g_BTHV):
        q, k, v, *probabilities = ctx.saved_tensors
        T, G = k.shape[1], k.shape[0] // ctx.batch
        g = by_head(g_BTHV, G)
        gq, gk, gv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for p, (rows, _, end) in zip(probabilities, causal_blocks(T, q.shape[1] // T), strict=True):
            gv[:, :end].baddbmm_(p.transpose(1, 2), g[:, rows])
            gs = torch._softmax_backward_data(g[:, rows] @ v[:, :end].transpose(1, 2), p, -1, p.dtype)
            gq[:, rows] = gs @ k[:, :end]
            gk[:, :end].baddbmm_(gs.transpose(1, 2), q[:, rows])
        return *(by_position(t, ctx.batch, T) for t in (gq.mul_(ctx.scale), gk, gv)), None


def by_head(x_BTHQ, groups):
    """[B, T, H, Q] -> [B * G, T * H / G, Q]: the heads of one group side by side at each position."""
    B, T, _, Q = x_BTHQ.shape
    return x_BTHQ.reshape(B, T, groups, -1, Q).transpose(1, 2).reshape(B * groups, -1, Q)


def by_position(x, batch, positions):
    """What by_head did, undone."""
    return x.view(batch, x.shape[0] // batch, positions, -1, x.shape[-1]).transpose(1, 2).flatten(2, 3)


def causal_blocks(positions, heads):
    """For each 64 positions: their rows, where they start, and how many keys they see."""
    for start in range(0, positions, 64):
        end = min(start + 64, positions)
        yield slice(start * heads, end * heads), start, end


# -- norms ------------------------------------------------------------------------------------------


class RMSNorm(plain.RMSNorm):
    """plain.RMSNorm with half the passes over memory; under autocast the result has its dtype."""

    def forward(self, x):
        if eager_cpu(x):
            return RMSNormFunction.apply(x, self.weight, self.eps, compute_dtype(x))
        return super().forward(x).to(compute_dtype(x))


class RMSNormFunction(torch.autograd.Function):
    """Half the passes over memory of the composite that torch runs on a CPU."""

    @staticmethod
    def forward(ctx, x, weight, eps, dtype):
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide_dtype(x)).square()
        r = (square / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx, g):
        x, weight, r = ctx.saved_tensors  # once: checkpointing unpacks them only once
        wide, g = x.to(r.dtype), g.to(r.dtype)
        product_ND = (g * wide).flatten(0, -2)
        g_weight = torch.mv(product_ND.t(), r.flatten())
        inner = torch.mv(product_ND, weight.to(r.dtype)).view(r.shape) * r**3 / -x.shape[-1]
        gx = (g * weight).mul_(r).addcmul_(wide, inner)
        return gx.to(x.dtype), g_weight.to(weight.dtype), None, None


# -- experts ----------------------------------------------------------------------------------------


class Ragged(NamedTuple):
    """Tokens in the order of their experts."""

    x: torch.Tensor  # [S, D]: one row for each (token, choice)
    offsets: torch.Tensor  # [E] int32: where each expert's rows end
    order: torch.Tensor  # [S]: which (token, choice) each row is
    inverse: torch.Tensor  # [N, K]: in which row each (token, choice) is


def dispatch(x_BTD, index_BTK, experts):
    """Send each token to each of its experts: no token dropped, no padding."""
    expert_S, order = index_BTK.flatten().sort(stable=True)
    each = torch.arange(experts, device=order.device)
    offsets = torch.searchsorted(expert_S, each, right=True, out_int32=True)
    rows = torch.arange(order.numel(), device=order.device)
    inverse = torch.empty_like(order).scatter_(0, order, rows).view(-1, index_BTK.shape[-1])
    return Ragged(Spread.apply(x_BTD.flatten(0, 1), order, inverse), offsets, order, inverse)


def combine(sent, score_BTK):
    """Return the sum of what the experts made of each token, weighted by score: [B, T, D]."""
    y_ND = Gather.apply(sent.x, score_BTK.flatten(0, 1), sent.order, sent.inverse)
    return y_ND.unflatten(0, score_BTK.shape[:2])


class Spread(torch.autograd.Function):
    """Row s of the result is the token of choice order[s]; both ways gather, nothing scatters."""

    @staticmethod
    def forward(ctx, x_ND, order, inverse_NK):
        ctx.save_for_backward(inverse_NK)
        return x_ND.index_select(0, order // inverse_NK.shape[1])

    @staticmethod
    def backward(ctx, g_SD):
        (inverse_NK,) = ctx.saved_tensors
        return F.embedding_bag(inverse_NK, g_SD, mode="sum"), None, None


class Gather(torch.autograd.Function):
    """Row n of the result is the sum over k of score[n, k] * x[inverse[n, k]]."""

    @staticmethod
    def forward(ctx, x_SD, score_NK, order, inverse_NK):
        ctx.save_for_backward(x_SD, score_NK, order, inverse_NK)
        return F.embedding_bag(inverse_NK, x_SD, mode="sum", per_sample_weights=score_NK.to(x_SD.dtype))

    @staticmethod
    def backward(ctx, g_ND):
        x_SD, score_NK, order, inverse_NK = ctx.saved_tensors
        g_SD = g_ND.index_select(0, order // inverse_NK.shape[1])
        g_score = torch.linalg.vecdot(x_SD, g_SD)[inverse_NK].to(score_NK.dtype)
        return g_SD.mul_(score_NK.flatten()[order, None].to(g_SD.dtype)), g_score, None, None


class Linears(plain.Linears):
    """plain.Linears, whose product on a CPU is oneDNN's, expert by expert."""

    def forward(self, x_SD, sent):
        y_SF = grouped(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


def grouped(x_SD, weight_EFD, offsets_E):
    """plain.grouped, expert by expert on a CPU."""
    return (grouped_linear if eager_cpu(x_SD) else plain.grouped)(x_SD, weight_EFD, offsets_E)


def grouped_linear(x_SD, weight_EFD, offsets_E):
    """Rows of expert e times its weight transposed: [S, F]."""
    dtype = compute_dtype(x_SD)
    return GroupedLinear.apply(x_SD.to(dtype), weight_EFD.to(dtype), offsets_E)


class GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_SD, weight_EFD, offsets_E):
        ctx.save_for_backward(x_SD, weight_EFD, offsets_E)
        return grouped_rows(x_SD, weight_EFD, offsets_E)

    @staticmethod
    def backward(ctx, g_SF):
        x_SD, weight_EFD, offsets_E = ctx.saved_tensors
        g_SF = g_SF.contiguous()
        gx = grouped_rows(g_SF, weight_EFD.mT, offsets_E) if ctx.needs_input_grad[0] else None
        gw = grouped_weight(g_SF, x_SD, offsets_E) if ctx.needs_input_grad[1] else None
        return gx, gw, None


# -- losses -----------------------------------------------------------------------------------------


def head_cross_entropy(factors, targets_BT, ahead, ctx, fill=0):
    """scoring.head_cross_entropy, each chunk's gradient taken while its logits exist."""
    x, weight = factors
    t_Bn = scoring.scored(targets_BT, ahead, fill, ctx)
    loss = linear_cross_entropy(x[:, : t_Bn.shape[1]].flatten(0, 1), weight, t_Bn.flatten())
    return loss, (t_Bn != -100).sum().clamp(min=1)


def linear_cross_entropy(x_ND, weight_VD, targets_N, chunk=None):
    """Sum of the cross-entropies of x weight^T against targets (-100: none), never all logits at once."""
    chunk = chunk or max(1, 2**22 // weight_VD.shape[0])
    wanted = torch.is_grad_enabled() and (x_ND.requires_grad or weight_VD.requires_grad)
    return LinearCrossEntropy.apply(x_ND.to(compute_dtype(x_ND)), weight_VD, targets_N, chunk, wanted)


class LinearCrossEntropy(torch.autograd.Function):
    """Chunks of rows; each chunk's gradient is taken while its logits exist."""

    @staticmethod
    def forward(ctx, x_ND, weight_VD, targets_N, chunk, wanted):
        w, keep_N = weight_VD.to(x_ND.dtype), targets_N != -100
        gx, gw, losses = torch.empty_like(x_ND), torch.zeros_like(weight_VD), []
        parts = (a.split(chunk) for a in (x_ND, targets_N.where(keep_N, 0), keep_N[:, None], gx))
        for x, t, keep, g in zip(*parts, strict=True):
            p = product(x, w)
            losses.append(softmax_gradient_(p, t))
            if wanted:
                torch.mul(product(p, w.t()), keep, out=g)
                gw += weight_gradient(p, x * keep)
        ctx.save_for_backward(gx, gw)
        return (torch.cat(losses) * keep_N).sum()

    @staticmethod
    def backward(ctx, g):
        gx, gw = ctx.saved_tensors
        return gx * g.to(gx.dtype), gw * g.to(gw.dtype), None, None, None


def softmax_gradient_(logits_NV, targets_N):
    """The losses, [N]; the logits become their gradients, softmax - onehot.

    In pieces that a core's cache holds on a CPU.
    """
    N, V = logits_NV.shape
    losses, piece = [], max(1, 2**18 // V) if eager_cpu(logits_NV) else N
    for logits, t in zip(logits_NV.split(piece), targets_N[:, None].split(piece), strict=True):
        log_p = logits.to(wide_dtype(logits)).log_softmax(-1)
        losses.append(-log_p.gather(1, t).squeeze(1))
        logits.copy_(log_p.exp_().scatter_add_(1, t, log_p.new_full((), -1.0).expand_as(t)))
    return torch.cat(losses)
