"""Faster versions of what emitted models are made of, for training on a CPU: same names, same results.

Emitted files hold the plain functions (plain.py); ``compile(graph, kernels="fast")`` runs the same
classes on these. Where nothing is gained (other devices, compilers, inference) they call the plain ones.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dsvgraph_torch import plain

LONGEST = 2048  # positions for which attention in blocks beats the fused kernel of a CPU
MOST_EXPERTS = 64  # with more of them torch's own loop over experts is the shorter one


def eager_cpu(x: Tensor) -> bool:
    """Whether the CPU's detours apply: a compiler would rather see the plain functions."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a matrix product of x has here: autocast's, if it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype for sums over x: float32 or better."""
    return torch.promote_types(x.dtype, torch.float32)


# -- positions and attention ------------------------------------------------------------------------


def rope(x, ctx, theta, interleave=False, scaling=None):
    """plain.rope; neighbours turn as complex numbers, one product each way instead of a dozen."""
    if not (interleave and eager_cpu(x)):
        return plain.rope(x, ctx, theta, interleave, scaling)
    cos, sin = plain.rotary(ctx, x, theta, scaling)
    turn = torch.complex(cos, sin)
    pairs = x.to(wide_dtype(x)).unflatten(-1, (-1, 2))
    if pairs.storage_offset() % 2 or any(step % 2 for step in pairs.stride()[:-1]):
        pairs = pairs.contiguous()  # a view as complex numbers starts at even places
    turned = torch.view_as_complex(pairs) * (turn.unsqueeze(-2) if x.dim() == 4 else turn)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, window=None):
    """plain.attention, in blocks where rows are short and gradients are wanted."""
    T, C = q_BTHQ.shape[1], k_BCGQ.shape[1]
    triangle = causal and window is None and ctx.documents is None and 1 < T == C <= LONGEST
    if triangle and eager_cpu(q_BTHQ) and torch.is_grad_enabled():
        return CausalBlocks.apply(q_BTHQ, k_BCGQ, v_BCGV, scale)
    return plain.attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal, window)


class CausalBlocks(torch.autograd.Function):
    """Causal attention in blocks of 64 queries against the keys they see.

    For rows of up to 2048 positions on a CPU, where it is 1.6 (float32) to 4 (bfloat16) times as
    fast as torch's kernel. It keeps the probabilities: B * H * T * T / 2 numbers.
    """

    @staticmethod
    def forward(ctx, q_BTHQ, k_BTGQ, v_BTGV, scale):
        (B, T, H, _), G = q_BTHQ.shape, k_BTGQ.shape[2]
        q, k, v = by_head(q_BTHQ, G) * scale, by_head(k_BTGQ, G), by_head(v_BTGV, G)
        o, probabilities = v.new_empty(B * G, T * H // G, v.shape[-1]), []
        later = torch.full((64, 64), -math.inf, dtype=q.dtype).triu(1).repeat_interleave(H // G, 0)
        for rows, end in causal_blocks(T, H // G):
            s = q[:, rows] @ k[:, :end].transpose(1, 2)
            size = (end - 1) % 64 + 1
            s[:, :, end - size :] += later[: s.shape[1], :size]
            probabilities.append(s.softmax(-1))
            o[:, rows] = probabilities[-1] @ v[:, :end]
        ctx.save_for_backward(q, k, v, o, *probabilities)
        ctx.scale, ctx.batch = scale, B
        return by_position(o, B, T)

    @staticmethod
    def backward(ctx, g_BTHV):
        q, k, v, o, *probabilities = ctx.saved_tensors
        T, G = k.shape[1], k.shape[0] // ctx.batch
        g = by_head(g_BTHV, G)
        common = torch.linalg.vecdot(g, o)[..., None]
        gq, gk, gv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for p, (rows, end) in zip(probabilities, causal_blocks(T, q.shape[1] // T), strict=True):
            gv[:, :end].baddbmm_(p.transpose(1, 2), g[:, rows])
            gs = (g[:, rows] @ v[:, :end].transpose(1, 2)).sub_(common[:, rows]).mul_(p)
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
    """For each 64 positions: their rows, and how many keys they see."""
    for start in range(0, positions, 64):
        end = min(start + 64, positions)
        yield slice(start * heads, end * heads), end


# -- norms and products -----------------------------------------------------------------------------


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
        dtype = x.dtype
        x, g = x.to(r.dtype), g.to(r.dtype)
        g_weight = torch.mv((g * x).flatten(0, -2).t(), r.flatten())
        gx = g * weight
        inner = torch.linalg.vecdot(gx, x)[..., None] * r**3 / -x.shape[-1]
        gx = gx.mul_(r).addcmul_(x, inner)
        return gx.to(dtype), g_weight.to(weight.dtype), None, None


def linear(x, weight, bias=None):
    """x weight^T + bias, [..., D] -> [..., F]."""
    if not (onednn_serves(x) and compute_dtype(x) == x.dtype == weight.dtype):
        return F.linear(x, weight, bias)
    y = OneDNNLinear.apply(x, weight)
    return y if bias is None else y + bias


class Linear(nn.Linear):
    """nn.Linear through `linear`."""

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return product(x.flatten(0, -2), weight).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.flatten(0, -2)
        gx = product(rows, weight.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        gw = weight_gradient(rows, x.flatten(0, -2)) if ctx.needs_input_grad[1] else None
        return gx, gw


def product(a_ND, b_FD):
    """a b^T. oneDNN's float32 product is twice as fast as MKL's, torch's default, on AMD CPUs."""
    if onednn_serves(a_ND):
        return torch.ops.mkldnn._linear_pointwise(a_ND, b_FD, None, "none", [], "")
    return a_ND @ b_FD.t()


def weight_gradient(g_NF, x_ND):
    """g^T x; oneDNN copies its first factor, so that is the narrower one."""
    return product(g_NF.t(), x_ND.t()) if g_NF.shape[1] <= x_ND.shape[1] else product(x_ND.t(), g_NF.t()).t()


def onednn_serves(x):
    """Whether oneDNN's float32 product can be had for x."""
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and x.dtype == torch.float32 and eager_cpu(x)


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


def combine(sent, index_BTK, score_BTK):
    """Add up what the experts made of each token, weighted by score: [B, T, D]."""
    y_ND = Gather.apply(sent.x, score_BTK.flatten(0, 1), sent.order, sent.inverse)
    return y_ND.unflatten(0, index_BTK.shape[:2])


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
        if not eager_cpu(x_SD):
            return super().forward(x_SD, sent)
        y_SF = grouped_linear(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


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


def grouped_rows(x_SD, weight_EFD, offsets_E):
    """Each row of x times the transpose of its expert's weight."""
    if not eager_cpu(x_SD) or offsets_E.numel() > MOST_EXPERTS:
        return grouped_mm(x_SD, weight_EFD.mT, offsets_E)
    y_SF = x_SD.new_empty(x_SD.shape[0], weight_EFD.shape[1])
    for e, start, end, _ in windows(offsets_E):
        y_SF[start:end] = product(x_SD[start:end], weight_EFD[e])
    return y_SF


def grouped_weight(g_SF, x_SD, offsets_E):
    """The sum of g^T x over each expert's rows: [E, F, D]."""
    if not eager_cpu(g_SF) or offsets_E.numel() > MOST_EXPERTS:
        return grouped_mm(g_SF.t(), x_SD, offsets_E)
    gw_EFD = g_SF.new_zeros(offsets_E.numel(), g_SF.shape[1], x_SD.shape[1])
    for e, start, end, seen in windows(offsets_E):
        g = g_SF[start:end]
        if seen > start:  # rows that the window before had
            g = g.clone()
            g[: seen - start] = 0
        gw_EFD[e] += weight_gradient(g, x_SD[start:end])
    return gw_EFD


def windows(offsets_E):
    """Cover each expert's rows by one or two windows: (expert, start, end, first row not yet seen).

    oneDNN compiles a kernel for each number of rows (a millisecond: more than the product itself),
    and the number of tokens of an expert is always new. Windows of 64 n or 2^n rows repeat.
    """
    start = 0
    for e, end in enumerate(offsets_E.tolist()):
        whole = start + (end - start) // 64 * 64
        if whole > start:
            yield e, start, whole, start
        if end > whole:
            size = 1 << (end - whole - 1).bit_length()
            if size > end - start:
                size //= 2
                yield e, start, start + size, start
                whole = start + size
            yield e, end - size, end, whole
        start = end


def grouped_mm(a, b, offsets):
    """torch's grouped product under its two names (public since torch 2.10)."""
    return (F.grouped_mm if hasattr(F, "grouped_mm") else torch._grouped_mm)(a, b, offs=offsets)


# -- losses -----------------------------------------------------------------------------------------


def head_cross_entropy(factors, targets_BT, ahead, tail=0):
    """plain.head_cross_entropy, each chunk's gradient taken while its logits exist."""
    x, weight = factors
    n = max(0, targets_BT.shape[1] - max(ahead - 1, tail))
    t_N = targets_BT[:, ahead - 1 : ahead - 1 + n].flatten()
    loss = linear_cross_entropy(x[:, :n].flatten(0, 1), weight, t_N)
    return loss, (t_N != -100).sum().clamp(min=1)


def linear_cross_entropy(x_ND, weight_VD, targets_N, chunk=None):
    """Sum of the cross-entropies of x weight^T against targets (-100: none), never all logits at once."""
    dtype = compute_dtype(x_ND)
    chunk = chunk or max(1, 2**22 // weight_VD.shape[0])
    return LinearCrossEntropy.apply(x_ND.to(dtype), weight_VD, targets_N, chunk, dtype)


class LinearCrossEntropy(torch.autograd.Function):
    """Chunks of rows; each chunk's gradient is taken while its logits exist."""

    @staticmethod
    def forward(ctx, x_ND, weight_VD, targets_N, chunk, dtype):
        w = weight_VD.to(dtype)
        gx, gw = torch.empty_like(x_ND), torch.zeros_like(weight_VD)
        total = x_ND.new_zeros((), dtype=torch.promote_types(dtype, torch.float32))
        for x, t, g in zip(x_ND.split(chunk), targets_N.split(chunk), gx.split(chunk), strict=True):
            logits = (x @ w.t()).to(total.dtype)
            loss, p = softmax_gradient(logits, t)
            total += loss
            p = p.to(dtype)
            torch.mm(p, w, out=g)
            gw += p.t() @ x
        ctx.save_for_backward(gx, gw)
        return total

    @staticmethod
    def backward(ctx, g):
        gx, gw = ctx.saved_tensors
        return gx * g.to(gx.dtype), gw * g.to(gw.dtype), None, None, None


def softmax_gradient(logits_NV, targets_N):
    """Sum of the losses and d loss / d logits = softmax - onehot, in place of the logits."""
    keep = targets_N != -100
    index = targets_N.where(keep, 0)[:, None]
    lse = logits_NV.logsumexp(-1, keepdim=True)
    loss = ((lse - logits_NV.gather(1, index)).squeeze(1) * keep).sum()
    p = logits_NV.sub_(lse).exp_()
    p.scatter_add_(1, index, p.new_full((), -1.0).expand_as(index)).mul_(keep[:, None])
    return loss, p
