"""Linear maps whose products are of 8-bit tiles while they train; otherwise they are those of their weights.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dsvgraph_torch.kernels.cpu import gated
from dsvgraph_torch.kernels.float8.grouped import grouped_product, grouped_weight_gradient
from dsvgraph_torch.kernels.float8.tiles import Tiles, by_block, product, split
from dsvgraph_torch.runtime import plain


def rounds(layer: Linear | Linears) -> bool:
    """Return whether the products of a layer are of 8-bit tiles now: while it trains."""
    return layer.rounded and layer.training and torch.is_grad_enabled()


class Linear(nn.Linear):
    """nn.Linear through 8-bit tiles, unless ``rounded`` is False."""

    rounded = True

    def forward(self, x):
        if not rounds(self):
            return F.linear(x, self.weight, self.bias)
        y = TiledProduct.apply(x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


def tiles_product(a_ND: torch.Tensor, b_FD: torch.Tensor) -> torch.Tensor:
    """Return a b^T, of 1 x 128 by 128 x 128 tiles."""
    return product(split(a_ND, turned=False)[0], by_block(b_FD), a_ND.dtype)[: len(a_ND), : len(b_FD)]


class TiledProduct(torch.autograd.Function):
    """x weight^T, [N, D] -> [N, F]; the gradient of x is of tiles of 1 x 128 along F, that of the weight along N."""

    @staticmethod
    def forward(ctx, x_ND, weight_FD):
        x, turned = split(x_ND, turned=ctx.needs_input_grad[1])
        ctx.save_for_backward(weight_FD, *(turned or ()))
        return product(x, by_block(weight_FD), x_ND.dtype)[: len(x_ND), : len(weight_FD)]

    @staticmethod
    def backward(ctx, g_NF):
        weight_FD, *turned = ctx.saved_tensors
        F, D = weight_FD.shape
        g, g_turned = split(g_NF, None, *ctx.needs_input_grad)
        gx = product(g, by_block(weight_FD).mT, g_NF.dtype)[: len(g_NF), :D] if g else None
        gw = product(g_turned, Tiles(*turned), weight_FD.dtype)[:F, :D] if g_turned else None
        return gx, gw


class Linears(plain.Linears):
    """plain.Linears through 8-bit tiles, unless ``rounded`` is False."""

    rounded = True

    def forward(self, x_SD, sent):
        if not rounds(self):
            return super().forward(x_SD, sent)
        y_SF = TiledGroupedProduct.apply(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


class TiledGroupedProduct(torch.autograd.Function):
    """Rows of expert e times its weight transposed, [S, D] -> [S, F]; tiles of the rows of one expert alone."""

    @staticmethod
    def forward(ctx, x_SD, weight_EFD, offsets_E):
        x, turned = split(x_SD, offsets_E, turned=ctx.needs_input_grad[1])
        ctx.save_for_backward(weight_EFD, offsets_E, *(turned or ()))
        y_SF = grouped_product(x, by_block(weight_EFD), offsets_E, len(x_SD), x_SD.dtype)
        return y_SF[:, : weight_EFD.shape[1]]

    @staticmethod
    def backward(ctx, g_SF):
        weight_EFD, offsets_E, *turned = ctx.saved_tensors
        _, F, D = weight_EFD.shape
        g, g_turned = split(g_SF, offsets_E, *ctx.needs_input_grad[:2])
        gx = gw = None
        if g:
            gx = grouped_product(g, by_block(weight_EFD).mT, offsets_E, len(g_SF), g_SF.dtype)[:, :D]
        if g_turned:
            gw = grouped_weight_gradient(g_turned, Tiles(*turned), offsets_E, weight_EFD.dtype)[:, :F, :D]
        return gx, gw, None


def gated_network(gate, up, down, x, *sent):
    """down(silu(gate(x)) * up(x)), layer by layer: no other function multiplies their weights."""
    return down(F.silu(gate(x, *sent)) * up(x, *sent), *sent)


FUNCTIONS: dict[str, Any] = {"Linear": Linear, "Linears": Linears, gated.NAME: gated_network}
"""What stands behind these names in the classes of a model."""


def keep_exact(module: nn.Module, paths: frozenset[str]) -> None:
    """Let the layers that hold the weights at ``paths`` multiply by these themselves: output layers."""
    weights = module.state_dict(keep_vars=True)
    held = {id(w if w._base is None else w._base) for path, w in weights.items() if path in paths}
    for layer in module.modules():
        if isinstance(layer, (Linear, Linears)) and any(id(p) in held for p in layer.parameters(recurse=False)):
            layer.rounded = False


def missing(device: torch.device) -> str:
    """Return what ``device`` lacks for products of 8-bit tiles, in words; nothing on a CPU, which emulates them."""
    if device.type == "cpu":
        return ""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return f"{name} has no products of 8-bit tiles with scales of 1 x 128: GPUs of compute capability 9.0 have them"
    if not hasattr(F, "scaled_mm") or tuple(map(int, (torch.version.cuda or "0.0").split("."))) < (12, 9):
        return (
            f"torch {torch.__version__} with CUDA {torch.version.cuda} has no such products: torch 2.10 with 12.9 has"
        )
    return "" if find_spec("triton") else "the products of experts need the package triton"
