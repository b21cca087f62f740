"""Cross entropy of an output layer, for training on a GPU.

Letters in names of tensors are those of scoring.py.
"""

from __future__ import annotations

from functools import cache

import torch

from dsvgraph_torch.runtime import plain, scoring

CHUNK = 2**30
"""Bytes of the logits of a chunk."""


def head_cross_entropy(factors, targets_BT, ahead, ctx, fill=0):
    """scoring.head_cross_entropy, each chunk's gradient taken while its logits exist."""
    x, weight = factors
    t_Bn = scoring.scored(targets_BT, ahead, fill, ctx)
    loss = linear_cross_entropy(x[:, : t_Bn.shape[1]].flatten(0, 1), weight, t_Bn.flatten())
    return loss, (t_Bn != -100).sum().clamp(min=1)


def linear_cross_entropy(x_ND, weight_VD, targets_N, chunk=None):
    """Sum of the cross entropies of x weight^T against targets (-100: none); at most ``chunk`` rows of logits exist."""
    kind = x_ND.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_ND.dtype
    chunk = chunk or max(1, CHUNK // (dtype.itemsize * weight_VD.shape[0]))
    wanted = torch.is_grad_enabled() and (x_ND.requires_grad or weight_VD.requires_grad)
    return LinearCrossEntropy.apply(x_ND.to(dtype), weight_VD, targets_N, chunk, wanted)


class LinearCrossEntropy(torch.autograd.Function):
    """The gradient of each chunk is made in the forward, in the place of its logits."""

    @staticmethod
    def forward(ctx, x_ND, weight_VD, targets_N, chunk, wanted):
        w = weight_VD.to(x_ND.dtype)
        total = plain.precise(x_ND.new_zeros(()))
        gx, gw = torch.empty_like(x_ND if wanted else x_ND[:0]), None
        for start in range(0, len(x_ND), chunk):
            rows = slice(start, start + chunk)
            logits_nV = x_ND[rows] @ w.t()
            total = total + softmax_gradient_(logits_nV, targets_N[rows], wanted)
            if wanted:
                torch.mm(logits_nV, w, out=gx[rows])
                gw = added(gw, logits_nV.t() @ x_ND[rows])
        ctx.save_for_backward(gx, gw)
        ctx.dtype = weight_VD.dtype
        return total

    @staticmethod
    def backward(ctx, g):
        gx, gw = ctx.saved_tensors
        return gx * g.to(gx.dtype), (gw * g).to(ctx.dtype), None, None, None


def added(total, part):
    """The sum of parts in float32 or better; a single part stays as it is."""
    return part if total is None else plain.precise(total).add_(part)


def softmax_gradient_(logits_NV, targets_N, wanted):
    """The sum of the losses; if ``wanted`` the logits become their gradient, softmax - onehot."""
    run = _compiled() if logits_NV.device.type == "cuda" else _softmax_gradient_
    return run(logits_NV, targets_N, wanted)


@cache
def _compiled():
    return torch.compile(_softmax_gradient_)


def _softmax_gradient_(logits_NV, targets_N, wanted):
    wide = plain.precise(logits_NV)
    top = wide.amax(1, keepdim=True)
    total = (wide - top).exp().sum(1, keepdim=True)
    kept = (targets_N != -100)[:, None]
    t = targets_N.where(kept[:, 0], 0)[:, None]
    loss = (total.log() + top - wide.gather(1, t)).where(kept, 0).sum()
    if wanted:
        hit = torch.arange(logits_NV.shape[1], device=t.device) == t
        logits_NV.copy_((((wide - top).exp() / total) - hit.to(wide.dtype)) * kept)
    return loss
