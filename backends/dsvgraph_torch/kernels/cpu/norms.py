"""Norms, for training on a CPU.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch

from dsvgraph_torch.kernels.cpu.products import compute_dtype, eager_cpu, wide_dtype
from dsvgraph_torch.runtime import plain


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
