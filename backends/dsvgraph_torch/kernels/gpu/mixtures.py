"""A mixture of experts whose first and last lines are linear maps, for training on a GPU.

Rows are not sent before the first products, which gather them, and gather them again in the backward; scores are
multiplied in before the last product, where rows are narrow, so that its result need not be kept.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch

from dsvgraph_torch.kernels.gpu.dtypes import cast, wide
from dsvgraph_torch.kernels.gpu.experts import Ragged, counted_rows, grouped, rows_product, weight_product
from dsvgraph_torch.kernels.gpu.gathers import gathered, gathered_sum


def ordered(x_BTD, index_BTK, experts):
    """What `dispatch` returns, with the tokens themselves, [N, D], in place of the rows that are sent."""
    index_NK = index_BTK.flatten(0, 1)
    offsets_E, inverse_NK = counted_rows(index_NK, experts)
    choices = torch.arange(index_NK.numel(), device=index_NK.device)
    order_S = torch.empty_like(choices).scatter_(0, inverse_NK.flatten(), choices)
    return Ragged(x_BTD.flatten(0, 1), offsets_E, order_S, inverse_NK)


def first_products(sent, *weights_EFD):
    """The sent rows times the weights of their experts: [S, F] for each weight."""
    kind = sent.x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else sent.x.dtype
    x_ND, weights = cast(sent.x, dtype), [cast(w, dtype) for w in weights_EFD]
    return FirstProducts.apply(x_ND, sent.order, sent.inverse, sent.offsets, *weights)


def last_product(sent, x_SF, weight_EDF, score_BTK):
    """The sum over a token's experts of score * (its row times the expert's weight): [B, T, D]."""
    scaled_SF = Scaled.apply(x_SF, score_BTK.flatten(0, 1), sent.order, sent.inverse)
    y_SD = grouped(scaled_SF, weight_EDF, sent.offsets)
    return Collect.apply(y_SD, sent.order, sent.inverse).unflatten(0, score_BTK.shape[:2])


class FirstProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_ND, order_S, inverse_NK, offsets_E, *weights_EFD):
        ctx.save_for_backward(x_ND, order_S, inverse_NK, offsets_E, *weights_EFD)
        return tuple(products(x_ND, order_S, inverse_NK.shape[1], offsets_E, list(weights_EFD)))

    @staticmethod
    def backward(ctx, *g_SF):
        x_ND, order_S, inverse_NK, offsets_E, *weights_EFD = ctx.saved_tensors
        g_SF = torch.cat(g_SF, 1)  # side by side: one product of all widths is faster than one of each
        grads = products_backward(g_SF, x_ND, order_S, inverse_NK, offsets_E, weights_EFD)
        return grads[0], None, None, None, *grads[1:]


# Ops of their own: torch.compile would keep the gathered rows for the backward.
@torch.library.custom_op("dsvgraph::products", mutates_args=())
def products(
    x_ND: torch.Tensor, order_S: torch.Tensor, top_k: int, offsets_E: torch.Tensor, weights_EFD: list[torch.Tensor]
) -> list[torch.Tensor]:
    """The gathered rows of x times each weight."""
    x_SD = gathered(x_ND, order_S, top_k)
    return [rows_product(x_SD, w.mT, offsets_E) for w in weights_EFD]


@products.register_fake
def _(x_ND, order_S, top_k, offsets_E, weights_EFD):
    return [x_ND.new_empty(order_S.shape[0], w.shape[1]) for w in weights_EFD]


@torch.library.custom_op("dsvgraph::products_backward", mutates_args=())
def products_backward(
    g_SF: torch.Tensor, x_ND: torch.Tensor, order_S: torch.Tensor, inverse_NK: torch.Tensor,
    offsets_E: torch.Tensor, weights_EFD: list[torch.Tensor],
) -> list[torch.Tensor]:  # fmt: skip
    """The gradients of x and of each weight, of those of their products side by side."""
    g_SF = g_SF.contiguous()
    gx = gathered_sum(rows_product(g_SF, torch.cat(weights_EFD, 1), offsets_E), inverse_NK)
    x_SD = gathered(x_ND, order_S, inverse_NK.shape[1])
    parts = g_SF.split([w.shape[1] for w in weights_EFD], 1)
    return [gx, *(weight_product(g, x_SD, offsets_E) for g in parts)]


@products_backward.register_fake
def _(g_SF, x_ND, order_S, inverse_NK, offsets_E, weights_EFD):
    return [x_ND.new_empty(x_ND.shape), *(w.new_empty(w.shape) for w in weights_EFD)]


class Scaled(torch.autograd.Function):
    """Row s of the result is x[s] times the score of choice order[s]."""

    @staticmethod
    def forward(ctx, x_SF, score_NK, order_S, inverse_NK):
        ctx.save_for_backward(x_SF, score_NK, order_S, inverse_NK)
        return cast(wide(x_SF) * score_NK.flatten()[order_S, None], x_SF.dtype)

    @staticmethod
    def backward(ctx, g_SF):
        x_SF, score_NK, order_S, inverse_NK = ctx.saved_tensors
        g_score = cast((wide(x_SF) * wide(g_SF)).sum(-1)[inverse_NK], score_NK.dtype)
        return cast(wide(g_SF) * score_NK.flatten()[order_S, None], x_SF.dtype), g_score, None, None


class Collect(torch.autograd.Function):
    """Row n of the result is the sum over k of x[inverse[n, k]]."""

    @staticmethod
    def forward(ctx, x_SD, order_S, inverse_NK):
        ctx.save_for_backward(order_S)
        ctx.top_k = inverse_NK.shape[1]
        return cast(wide(x_SD[inverse_NK]).sum(1), x_SD.dtype)

    @staticmethod
    def backward(ctx, g_ND):
        (order_S,) = ctx.saved_tensors
        return g_ND[order_S // ctx.top_k], None, None
