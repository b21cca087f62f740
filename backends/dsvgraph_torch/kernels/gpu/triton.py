"""Kernels of Triton for training on a GPU.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

WIDEST = 2048
"""Columns of a block."""


@triton.jit
def _gathered_sum(source, inverse, out, columns, CHOICES: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = column < columns
    total = tl.zeros((BLOCK,), tl.float32)
    for choice in tl.static_range(CHOICES):
        row = tl.load(inverse + token * CHOICES + choice)
        total += tl.load(source + row * columns + column, mask=there, other=0.0).to(tl.float32)
    tl.store(out + token * columns + column, total.to(out.dtype.element_ty), mask=there)


def gathered_sum(x_SD, inverse_NK):
    """The sum over k of the rows inverse[n, k] of x: [N, D]."""
    (N, K), D = inverse_NK.shape, x_SD.shape[1]
    out_ND = x_SD.new_empty(N, D)
    block = min(WIDEST, triton.next_power_of_2(D))
    if N:
        _gathered_sum[N, triton.cdiv(D, block)](x_SD, inverse_NK, out_ND, D, CHOICES=K, BLOCK=block)
    return out_ND


@triton.jit
def _gathered(source, order, out, columns, CHOICES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    token = tl.load(order + row) // CHOICES
    there = column < columns
    tl.store(out + row * columns + column, tl.load(source + token * columns + column, mask=there), mask=there)


def gathered(x_ND, order_S, top_k):
    """Row s of the result is the token of choice order[s]: [S, D]."""
    S, D = order_S.shape[0], x_ND.shape[1]
    out_SD = x_ND.new_empty(S, D)
    block = min(WIDEST, triton.next_power_of_2(D))
    if S:
        _gathered[S, triton.cdiv(D, block)](x_ND, order_S, out_SD, D, CHOICES=top_k, BLOCK=block)
    return out_SD
