"""Matrix products for training on a CPU: oneDNN's in float32, where torch's default is slower.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

MOST_EXPERTS = 64  # with more of them torch's own loop over experts is the shorter one


def eager_cpu(x: Tensor) -> bool:
    """Whether the CPU's detours apply: a compiler would rather see the plain functions."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a matrix product of x has here: autocast's, if it is on."""
    kind = x.device.type
    lowered = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if lowered else x.dtype


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype for sums over x: float32 or better."""
    return torch.promote_types(x.dtype, torch.float32)


def linear(x, weight, bias=None):
    """x weight^T + bias, [..., D] -> [..., F]."""
    if not (onednn_serves(x) and compute_dtype(x) == x.dtype == weight.dtype):
        return F.linear(x, weight, bias)
    y = OneDNNLinear.apply(x, weight)
    return y if bias is None else y + bias


class Linear(nn.Linear):
    """nn.Linear through `linear`."""

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return product(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        gx = product(rows, weight.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        gw = weight_gradient(rows, x.reshape(-1, x.shape[-1])) if ctx.needs_input_grad[1] else None
        return gx, gw


def product(a_ND, b_FD):
    """a b^T. oneDNN's float32 product is twice as fast as MKL's, torch's default, on AMD CPUs."""
    if onednn_serves(a_ND) and a_ND.numel():
        return torch.ops.mkldnn._linear_pointwise(a_ND, b_FD, None, "none", [], "")
    return a_ND @ b_FD.t()


def weight_gradient(g_NF, x_ND):
    """g^T x; oneDNN copies its first factor, so that is the narrower one."""
    return product(g_NF.t(), x_ND.t()) if g_NF.shape[1] <= x_ND.shape[1] else product(x_ND.t(), g_NF.t()).t()


def onednn_serves(x):
    """Whether oneDNN's float32 product can be had for x."""
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and x.dtype == torch.float32 and eager_cpu(x)


def grouped_rows(x_SD, weight_EFD, offsets_E):
    """Each row of x times the transpose of its expert's weight."""
    if not eager_cpu(x_SD) or offsets_E.numel() > MOST_EXPERTS:
        return grouped_mm(x_SD, weight_EFD.mT, offsets_E)
    y_SF = x_SD.new_empty(x_SD.shape[0], weight_EFD.shape[1])
    for e, rows, _ in windows(offsets_E, x_SD.shape[0]):
        if onednn_serves(x_SD):
            y_SF[rows] = product(x_SD[rows], weight_EFD[e])
        else:
            torch.mm(x_SD[rows], weight_EFD[e].t(), out=y_SF[rows])
    return y_SF


def grouped_weight(g_SF, x_SD, offsets_E):
    """The sum of g^T x over each expert's rows: [E, F, D]."""
    if not eager_cpu(g_SF) or offsets_E.numel() > MOST_EXPERTS:
        return grouped_mm(g_SF.t(), x_SD, offsets_E)
    gw_EFD = g_SF.new_zeros(offsets_E.numel(), g_SF.shape[1], x_SD.shape[1])
    for e, rows, own in windows(offsets_E, x_SD.shape[0]):
        g = g_SF[rows]
        if own != rows:
            g = torch.zeros_like(g)
            g[own.start - rows.start : own.stop - rows.start] = g_SF[own]
        if onednn_serves(g):
            gw_EFD[e] += weight_gradient(g, x_SD[rows])
        else:
            gw_EFD[e].addmm_(g.t(), x_SD[rows])
    return gw_EFD


def windows(offsets_E, size):
    """Windows of 64 n rows over each expert's rows: (expert, the window, which of its rows are his).

    oneDNN compiles a kernel for each number of rows (a millisecond: more than the product itself),
    and the number of tokens of an expert is always new; multiples of 64 repeat. What a window does
    beyond its own rows, the next expert's does again.
    """
    start = 0
    for e, end in enumerate(offsets_E.tolist()):
        stop = end + (start - end) % 64
        if start < end and stop <= size:
            yield e, slice(start, stop), slice(start, end)
        elif start < end:  # no room behind: go back into its own rows
            if start < stop - 64:
                yield e, slice(start, stop - 64), slice(start, stop - 64)
            yield e, slice(max(start, end - 64), end), slice(stop - 64, end)
        start = end


def grouped_mm(a, b, offsets):
    """torch's grouped product under its two names (public since torch 2.10)."""
    return (F.grouped_mm if hasattr(F, "grouped_mm") else torch._grouped_mm)(a, b, offs=offsets)
