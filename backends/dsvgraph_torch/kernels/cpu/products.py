"""Matrix products for training on a CPU: oneDNN's in float32 on AMD's processors, where torch's default is slower.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


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
    """a b^T; by oneDNN where `onednn_serves`."""
    if onednn_serves(a_ND) and a_ND.numel():
        return torch.ops.mkldnn._linear_pointwise(a_ND, b_FD, None, "none", [], "")
    return a_ND @ b_FD.t()


def weight_gradient(g_NF, x_ND):
    """g^T x, by torch's default product: oneDNN's copies the transposed factors and is slower for it."""
    return g_NF.t() @ x_ND


def onednn_serves(x):
    """Whether oneDNN's float32 product is the faster one for x: on AMD's processors, where MKL's is slower."""
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and x.dtype == torch.float32 and eager_cpu(x) and made_by_amd()


@cache
def made_by_amd() -> bool:
    """Whether the processor is AMD's, as far as the system tells."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = platform.processor()
    return "AuthenticAMD" in told


def grouped_rows(x_SD, weight_EDF, offsets_E):
    """Each row of x times its expert's weight."""
    y_SF = x_SD.new_empty(x_SD.shape[0], weight_EDF.shape[2])
    for weight, x, y in zip(weight_EDF, *per_expert(offsets_E, x_SD, y_SF), strict=True):
        torch.mm(x, weight, out=y)
    return y_SF


def grouped_weight(g_SF, x_SD, offsets_E):
    """The sum of g^T x over each expert's rows: [E, F, D]."""
    gw_EFD = g_SF.new_empty(offsets_E.numel(), g_SF.shape[1], x_SD.shape[1])
    for g, x, gw in zip(*per_expert(offsets_E, g_SF, x_SD), gw_EFD, strict=True):
        torch.mm(g.t(), x, out=gw)
    return gw_EFD


def per_expert(offsets_E, *tensors):
    """The rows of each expert, one tuple of views for each tensor."""
    ends = offsets_E.tolist()
    sizes = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [x.split(sizes) for x in tensors]
