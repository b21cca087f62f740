"""Rows gathered for experts, and sums of them: by kernels of Triton where there are such.

torch.compile would put a sum into a reduction that follows, and read all rows twice.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

from dsvgraph_torch.kernels.gpu.dtypes import cast, wide


def gathered(x_ND, order_S, top_k):
    """Row s of the result is the token of choice order[s]: [S, D]."""
    if x_ND.device.type == "cuda" and has_triton():
        from dsvgraph_torch.kernels.gpu.triton import gathered as kernel

        return kernel(x_ND.contiguous(), order_S.contiguous(), top_k)
    return x_ND[order_S // top_k]


@torch.library.custom_op("dsvgraph::gathered_sum", mutates_args=())
def gathered_sum(x_SD: torch.Tensor, inverse_NK: torch.Tensor) -> torch.Tensor:
    """The sum over k of the rows inverse[n, k] of x, added up in float32: [N, D]."""
    if x_SD.device.type == "cuda" and x_SD.dtype != torch.float64 and has_triton():
        from dsvgraph_torch.kernels.gpu.triton import gathered_sum as kernel

        return kernel(x_SD.contiguous(), inverse_NK.contiguous())
    return cast(wide(x_SD[inverse_NK]).sum(1), x_SD.dtype)


@gathered_sum.register_fake
def _(x_SD, inverse_NK):
    return x_SD.new_empty(inverse_NK.shape[0], x_SD.shape[1])


@cache
def has_triton():
    """Whether kernels of Triton can be compiled here."""
    return find_spec("triton") is not None
