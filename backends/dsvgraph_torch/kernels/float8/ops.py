"""Linear maps of 8-bit tiles as operations that torch.compile sees as one each.

Letters in names of tensors are those of plain.py. Without offsets S rows of x meet one weight, [F, D]; with them those
of expert e meet weight[e], [E, F, D].
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsvgraph_torch.kernels.float8.grouped import grouped_product, grouped_weight_gradient
from dsvgraph_torch.kernels.float8.tiles import TILE, Tiles, by_block, most_blocks, product, split


@torch.library.custom_op(
    "dsvgraph::tiled_product",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? offsets, bool keep) -> (Tensor, Tensor, Tensor)",
)
def tiled_product(x_SD, weight, offsets_E, keep):
    """x weight^T, [S, F], and with ``keep`` the tiles of x^T, whose scales are transposed."""
    x, turned = split(x_SD, offsets_E, turned=keep)
    assert x is not None
    values, scales = turned or (x_SD.new_empty(0, 0, dtype=torch.float8_e4m3fn), x_SD.new_empty(0, 0).float())
    y_SF = rows_product(x, by_block(weight), offsets_E, x_SD)[:, : weight.shape[-2]]
    return y_SF.contiguous(), values, scales.t().contiguous()


@tiled_product.register_fake
def _(x_SD, weight, offsets_E, keep):
    blocks = most_blocks(x_SD, offsets_E) if keep else 0
    wide = -(-x_SD.shape[1] // TILE) * TILE if keep else 0
    values = x_SD.new_empty(wide, blocks * TILE, dtype=torch.float8_e4m3fn)
    return x_SD.new_empty(len(x_SD), weight.shape[-2]), values, x_SD.new_empty(blocks, wide, dtype=torch.float32)


def rows_product(x: Tiles, weight: Tiles, offsets_E: Tensor | None, like: Tensor) -> Tensor:
    """Return x weight^T of as many rows as ``like`` has, in its numbers; the columns are filled up."""
    if offsets_E is None:
        return product(x, weight, like.dtype)[: len(like)]
    return grouped_product(x, weight, offsets_E, len(like), like.dtype)


@torch.library.custom_op(
    "dsvgraph::tiled_product_backward",
    mutates_args=(),
    schema="(Tensor g, Tensor weight, Tensor? offsets, Tensor values, Tensor scales, bool x, bool w)"
    " -> (Tensor, Tensor)",
)
def tiled_product_backward(g_SF, weight, offsets_E, values, scales, of_x, of_weight):
    """The gradients of x and of the weight, of x^T's tiles; an empty one that is not asked for."""
    F, D = weight.shape[-2:]
    g, turned = split(g_SF, offsets_E, of_x, of_weight)
    gx, gw = g_SF.new_empty(0), weight.new_empty(0)
    if g:
        gx = rows_product(g, by_block(weight).mT, offsets_E, g_SF)[:, :D].contiguous()
    if turned:
        x = Tiles(values, scales.t())
        one = product(turned, x, weight.dtype) if offsets_E is None else None
        gw = grouped_weight_gradient(turned, x, offsets_E, weight.dtype) if one is None else one
        gw = gw[..., :F, :D].contiguous()
    return gx, gw


@tiled_product_backward.register_fake
def _(g_SF, weight, offsets_E, values, scales, of_x, of_weight):
    gx = g_SF.new_empty(len(g_SF), weight.shape[-1]) if of_x else g_SF.new_empty(0)
    return gx, torch.empty_like(weight, memory_format=torch.contiguous_format) if of_weight else weight.new_empty(0)


class TiledProduct(torch.autograd.Function):
    """x weight^T; the gradient of x is of tiles of 1 x 128 along F, that of the weight along the rows of one weight."""

    @staticmethod
    def forward(ctx, x_SD, weight, offsets_E):
        y_SF, values, scales = tiled_product(x_SD, weight, offsets_E, ctx.needs_input_grad[1])
        ctx.save_for_backward(weight, offsets_E, values, scales)
        return y_SF

    @staticmethod
    def backward(ctx, g_SF):
        of_x, of_weight, _ = ctx.needs_input_grad
        gx, gw = tiled_product_backward(g_SF, *ctx.saved_tensors, of_x, of_weight)
        return gx if of_x else None, gw if of_weight else None, None
