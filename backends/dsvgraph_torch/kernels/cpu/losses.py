"""Cross entropy of an output layer, for training on a CPU.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch

from dsvgraph_torch.kernels.cpu.products import compute_dtype, eager_cpu, product, weight_gradient, wide_dtype
from dsvgraph_torch.runtime import scoring


def head_cross_entropy(factors, targets_BT, ahead, ctx, fill=0):
    """scoring.head_cross_entropy, each chunk's gradient taken while its logits exist."""
    x, weight = factors
    t_Bn = scoring.scored(targets_BT, ahead, fill, ctx)
    loss = linear_cross_entropy(x[:, : t_Bn.shape[1]].flatten(0, 1), weight, t_Bn.flatten())
    return loss, (t_Bn != -100).sum().clamp(min=1)


def linear_cross_entropy(x_ND, weight_VD, targets_N, chunk=None):
    """Sum of the cross-entropies of x weight^T against targets (-100: none), never all logits at once."""
    chunk = chunk or max(1, 2**22 // weight_VD.shape[0])
    wanted = torch.is_grad_enabled() and (x_ND.requires_grad or weight_VD.requires_grad)
    return LinearCrossEntropy.apply(x_ND.to(compute_dtype(x_ND)), weight_VD, targets_N, chunk, wanted)


class LinearCrossEntropy(torch.autograd.Function):
    """Chunks of rows; each chunk's gradient is taken while its logits exist."""

    @staticmethod
    def forward(ctx, x_ND, weight_VD, targets_N, chunk, wanted):
        w, keep_N = weight_VD.to(x_ND.dtype), targets_N != -100
        gx, gw, losses = torch.empty_like(x_ND), torch.zeros_like(weight_VD), []
        parts = (a.split(chunk) for a in (x_ND, targets_N.where(keep_N, 0), keep_N[:, None], gx))
        for x, t, keep, g in zip(*parts, strict=True):
            p = product(x, w)
            losses.append(softmax_gradient_(p, t))
            if wanted:
                torch.mul(product(p, w.t()), keep, out=g)
                gw += weight_gradient(p, x * keep)
        ctx.save_for_backward(gx, gw)
        return (torch.cat(losses) * keep_N).sum()

    @staticmethod
    def backward(ctx, g):
        gx, gw = ctx.saved_tensors
        return gx * g.to(gx.dtype), gw * g.to(gw.dtype), None, None, None


def softmax_gradient_(logits_NV, targets_N):
    """The losses, [N]; the logits become their gradients, softmax - onehot.

    In pieces that a core's cache holds on a CPU.
    """
    N, V = logits_NV.shape
    losses, piece = [], max(1, 2**18 // V) if eager_cpu(logits_NV) else N
    for logits, t in zip(logits_NV.split(piece), targets_N[:, None].split(piece), strict=True):
        log_p = logits.to(wide_dtype(logits)).log_softmax(-1)
        losses.append(-log_p.gather(1, t).squeeze(1))
        logits.copy_(log_p.exp_().scatter_add_(1, t, log_p.new_full((), -1.0).expand_as(t)))
    return torch.cat(losses)
