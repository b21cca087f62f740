"""Attention for training on a GPU.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch

from dsvgraph_torch.runtime import plain

NARROW = (torch.bfloat16, torch.float16)


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """plain.attention; cuDNN's kernel where keys and values differ in width, which others would pad to one width."""
    masked = sinks is not None or window is not None or seen is not None or ctx.documents is not None
    if masked or not causal or not cudnn_serves(q_BTHQ, k_BCGQ, v_BCGV):
        return plain.attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal, sinks, window, seen)
    q, k, v = (x.transpose(1, 2) for x in (q_BTHQ, k_BCGQ, v_BCGV))
    y = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, True, False, scale=scale)[0]
    return y.transpose(1, 2)


def cudnn_serves(q_BTHQ, k_BCGQ, v_BCGV):
    """Whether cuDNN has a kernel for it: unequal widths of at most 192 and 128, on Hopper or later."""
    Q, V = q_BTHQ.shape[-1], v_BCGV.shape[-1]
    fits = V < Q <= 192 and V <= 128 and Q % 8 == 0 and V % 8 == 0
    alike = q_BTHQ.shape[1:3] == k_BCGQ.shape[1:3] and q_BTHQ.shape[1] > 1
    narrow = q_BTHQ.dtype in NARROW and q_BTHQ.dtype == k_BCGQ.dtype == v_BCGV.dtype
    return fits and alike and narrow and q_BTHQ.device.type == "cuda" and _has_kernel(q_BTHQ.device)


@torch.compiler.assume_constant_result
def _has_kernel(device):
    """Whether the device and cuDNN are new enough (cuDNN's notes: 192 and 128 are for Hopper, from 9.11 on)."""
    recent = torch.cuda.get_device_capability(device) >= (9, 0)
    return recent and (torch.backends.cudnn.version() or 0) >= 91100
