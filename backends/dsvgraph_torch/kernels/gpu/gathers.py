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
def gathered_sum(sources_SD: list[torch.Tensor], inverse_NK: torch.Tensor) -> torch.Tensor:
    """The sum over k and the sources of their rows inverse[n, k], added up in float32: [N, D]."""
    first = sources_SD[0]
    if first.device.type == "cuda" and first.dtype != torch.float64 and len(sources_SD) <= 2 and has_triton():
        from dsvgraph_torch.kernels.gpu.triton import gathered_sum as kernel

        return kernel([x.contiguous() for x in sources_SD], inverse_NK.contiguous())
    return cast(sum(wide(x[inverse_NK]).sum(1) for x in sources_SD), first.dtype)


@gathered_sum.register_fake
def _(sources_SD, inverse_NK):
    return sources_SD[0].new_empty(inverse_NK.shape[0], sources_SD[0].shape[1])


@cache
def has_triton():
    """Whether kernels of Triton can be compiled here."""
    return find_spec("triton") is not None
