"""Sending tokens to experts and back, and the products of experts, for training on a CPU.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from dsvgraph_torch.kernels.cpu.products import compute_dtype, eager_cpu, grouped_rows, grouped_weight
from dsvgraph_torch.runtime import plain


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
    """plain.Linears through `grouped`."""

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
        return grouped_rows(x_SD, weight_EFD.mT, offsets_E)

    @staticmethod
    def backward(ctx, g_SF):
        x_SD, weight_EFD, offsets_E = ctx.saved_tensors
        g_SF = g_SF.contiguous()
        gx = grouped_rows(g_SF, weight_EFD, offsets_E) if ctx.needs_input_grad[0] else None
        gw = grouped_weight(g_SF, x_SD, offsets_E) if ctx.needs_input_grad[1] else None
        return gx, gw, None
