"""Sending tokens to experts and back, and the products of experts, for training on a GPU.

Rows go to their experts and back by gathers, in the forward and in the backward: nothing is added by atomics.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from dsvgraph_torch.kernels.gpu.dtypes import cast, wide
from dsvgraph_torch.kernels.gpu.gathers import gathered_sum
from dsvgraph_torch.runtime import plain


class Ragged(NamedTuple):
    """Tokens in the order of their experts."""

    x: torch.Tensor  # [S, D]: one row for each (token, choice)
    offsets: torch.Tensor  # [E] int32: where each expert's rows end
    order: torch.Tensor  # [S]: which (token, choice) each row is
    inverse: torch.Tensor  # [N, K]: in which row each (token, choice) is


def dispatch(x_BTD, index_BTK, experts):
    """plain.dispatch; rows are counted, not sorted: a row is its expert's first plus the choices of it before."""
    index_NK = index_BTK.flatten(0, 1)
    offsets_E, inverse_NK = counted_rows(index_NK, experts)
    choices = torch.arange(index_NK.numel(), device=index_NK.device)
    order_S = torch.empty_like(choices).scatter_(0, inverse_NK.flatten(), choices)
    return Ragged(Spread.apply(x_BTD.flatten(0, 1), order_S, inverse_NK), offsets_E, order_S, inverse_NK)


def counted_rows(index_NK, experts):
    """Where each expert's rows end, [E] int32, and the row of each choice, [N, K], in the order of a stable sort."""
    N = len(index_NK)
    # scattered, not compared: inductor of torch 2.11 fails on a comparison in the kernel of a cumulative sum
    none_EN = torch.zeros(experts, N, dtype=torch.int32, device=index_NK.device)
    chosen_EN = none_EN.scatter_add_(0, index_NK.t(), torch.ones_like(index_NK.t(), dtype=torch.int32))
    until_EN = chosen_EN.cumsum(1, dtype=torch.int32)
    offsets_E = until_EN[:, -1].cumsum(0, dtype=torch.int32) if N else chosen_EN.sum(1, dtype=torch.int32)
    before_EN = until_EN - chosen_EN + (offsets_E - chosen_EN.sum(1, dtype=torch.int32))[:, None]
    twice_NK = (index_NK[:, :, None] == index_NK[:, None, :]).tril(-1).sum(-1)  # a token may choose an expert again
    return offsets_E, before_EN.t().gather(1, index_NK) + twice_NK


def combine(sent, score_BTK):
    """plain.combine, added up in float32."""
    return Gather.apply(sent.x, score_BTK.flatten(0, 1), sent.order, sent.inverse).unflatten(0, score_BTK.shape[:2])


class Spread(torch.autograd.Function):
    """Row s of the result is the token of choice order[s]."""

    @staticmethod
    def forward(ctx, x_ND, order_S, inverse_NK):
        ctx.save_for_backward(inverse_NK)
        return x_ND[order_S // inverse_NK.shape[1]]

    @staticmethod
    def backward(ctx, g_SD):
        (inverse_NK,) = ctx.saved_tensors
        return gathered_sum(g_SD, inverse_NK), None, None


class Gather(torch.autograd.Function):
    """Row n of the result is the sum over k of score[n, k] * x[inverse[n, k]]."""

    @staticmethod
    def forward(ctx, x_SD, score_NK, order_S, inverse_NK):
        ctx.save_for_backward(x_SD, score_NK, order_S, inverse_NK)
        return cast((wide(x_SD[inverse_NK]) * score_NK[..., None]).sum(1), x_SD.dtype)

    @staticmethod
    def backward(ctx, g_ND):
        x_SD, score_NK, order_S, inverse_NK = ctx.saved_tensors
        g_SD = wide(g_ND[order_S // inverse_NK.shape[1]])
        g_score = cast((wide(x_SD) * g_SD).sum(-1)[inverse_NK], score_NK.dtype)
        return cast(g_SD * score_NK.flatten()[order_S, None], x_SD.dtype), g_score, None, None


class Linears(plain.Linears):
    """plain.Linears through `grouped`."""

    def forward(self, x_SD, sent):
        y_SF = grouped(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


def grouped(x_SD, weight_EFD, offsets_E):
    """plain.grouped; torch.compile sees one product each way."""
    kind = x_SD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_SD.dtype
    return Grouped.apply(x_SD.to(dtype), weight_EFD.to(dtype), offsets_E)


class Grouped(torch.autograd.Function):
    """Rows of expert e times its weight transposed, [S, F]."""

    @staticmethod
    def forward(ctx, x_SD, weight_EFD, offsets_E):
        ctx.save_for_backward(x_SD, weight_EFD, offsets_E)
        return rows_product(x_SD, weight_EFD.mT, offsets_E)

    @staticmethod
    def backward(ctx, g_SF):
        x_SD, weight_EFD, offsets_E = ctx.saved_tensors
        g_SF = g_SF.contiguous()
        gx = rows_product(g_SF, weight_EFD, offsets_E) if ctx.needs_input_grad[0] else None
        gw = weight_product(g_SF, x_SD, offsets_E) if ctx.needs_input_grad[1] else None
        return gx, gw, None


def rows_product(x_SD, weight_EDF, offsets_E):
    """Rows of expert e times its weight: [S, F]."""
    if narrow(x_SD, weight_EDF):
        return grouped_mm(x_SD, weight_EDF, offsets_E)
    return row_loop(x_SD, weight_EDF, offsets_E)


def weight_product(g_SF, x_SD, offsets_E):
    """The sum of g^T x over the rows of each expert: [E, F, D]."""
    if narrow(g_SF, x_SD):
        return grouped_mm(g_SF.t(), x_SD, offsets_E)
    return weight_loop(g_SF, x_SD, offsets_E)


def narrow(*matrices):
    """Whether torch's grouped product takes them everywhere: bfloat16, and rows of 16 bytes."""
    return all(x.dtype == torch.bfloat16 and not any(n % 8 for n in x.shape[-2:]) for x in matrices)


# Ops of their own: how many rows an expert gets is known only while they run.
@torch.library.custom_op("dsvgraph::row_loop", mutates_args=())
def row_loop(x_SD: torch.Tensor, weight_EDF: torch.Tensor, offsets_E: torch.Tensor) -> torch.Tensor:
    """`rows_product` for other dtypes and widths, expert by expert."""
    parts = [x_SD[rows] @ w for rows, w in zip(spans(offsets_E), weight_EDF, strict=True)]
    return torch.cat(parts)


@row_loop.register_fake
def _(x_SD, weight_EDF, offsets_E):
    return x_SD.new_empty(x_SD.shape[0], weight_EDF.shape[2])


@torch.library.custom_op("dsvgraph::weight_loop", mutates_args=())
def weight_loop(g_SF: torch.Tensor, x_SD: torch.Tensor, offsets_E: torch.Tensor) -> torch.Tensor:
    """`weight_product` for other dtypes and widths, expert by expert."""
    return torch.stack([g_SF[rows].t() @ x_SD[rows] for rows in spans(offsets_E)])


@weight_loop.register_fake
def _(g_SF, x_SD, offsets_E):
    return x_SD.new_empty(offsets_E.shape[0], g_SF.shape[1], x_SD.shape[1])


def spans(offsets_E):
    """The rows of each expert; waits for the device."""
    ends = offsets_E.tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def grouped_mm(a, b, offsets):
    """torch's grouped product under its two names (public since torch 2.10)."""
    return (F.grouped_mm if hasattr(F, "grouped_mm") else torch._grouped_mm)(a, b, offs=offsets)
