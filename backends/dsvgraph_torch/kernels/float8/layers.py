"""Linear maps whose products are of 8-bit tiles while they train; otherwise they are those of their weights.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dsvgraph_torch.kernels.cpu import gated
from dsvgraph_torch.kernels.float8.ops import TiledProduct, tiled_product
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
        y = TiledProduct.apply(x.flatten(0, -2), self.weight, None).unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


def tiles_product(a_ND: torch.Tensor, b_FD: torch.Tensor) -> torch.Tensor:
    """Return a b^T, of 1 x 128 by 128 x 128 tiles."""
    return tiled_product(a_ND, b_FD, None, False)[0]


class Linears(plain.Linears):
    """plain.Linears through 8-bit tiles, unless ``rounded`` is False."""

    rounded = True

    def forward(self, x_SD, sent):
        if not rounds(self):
            return super().forward(x_SD, sent)
        y_SF = TiledProduct.apply(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


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


def of_layers(module: nn.Module) -> Iterator[str]:
    """Yield a line about which layers multiply 8-bit tiles, where there are any."""
    tiled = [layer for layer in module.modules() if isinstance(layer, (Linear, Linears)) and layer.rounded]
    if tiled:
        experts = sum(isinstance(layer, Linears) for layer in tiled)
        kept = "the embedding, output layers, routers and all that does not train multiply bfloat16 numbers"
        yield f"--precision fp8: 8-bit tiles in {len(tiled) - experts} linear maps and {experts} of experts; {kept}"


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
