"""AdamW on a GPU: one kernel reads the gradient, moves the weight and its moments, and rounds the weight.

torch's fused kernel takes a gradient of the weight's dtype: a bfloat16 gradient of a float32 weight would be widened
before it, scaled, and the weight rounded after it, each a pass over memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 2048


@triton.jit
def _adamw(
    weight, rounded, gradient, mean, square, step, factor, skip, size, lr, beta1, beta2, eps, decay,
    ROUNDED: tl.constexpr, FACTOR: tl.constexpr, SKIP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if SKIP:
        size = tl.where(tl.load(skip) > 0, 0, size)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < size
    g = tl.load(gradient + at, mask=there, other=0.0).to(tl.float32)
    if FACTOR:
        g *= tl.load(factor).to(tl.float32)
    w = tl.load(weight + at, mask=there, other=0.0).to(tl.float32)
    m = tl.load(mean + at, mask=there, other=0.0).to(tl.float32)
    v = tl.load(square + at, mask=there, other=0.0).to(tl.float32)
    taken = tl.load(step).to(tl.float32)
    first, second = 1 - tl.exp2(taken * tl.log2(beta1)), 1 - tl.exp2(taken * tl.log2(beta2))
    m += (1 - beta1) * (g - m)
    v = beta2 * v + (1 - beta2) * g * g
    w -= lr * decay * w
    w -= lr / first * m / (tl.sqrt_rn(v) / tl.sqrt_rn(second) + eps)
    tl.store(mean + at, m.to(mean.dtype.element_ty), mask=there)
    tl.store(square + at, v.to(square.dtype.element_ty), mask=there)
    tl.store(weight + at, w.to(weight.dtype.element_ty), mask=there)
    if ROUNDED:
        tl.store(rounded + at, w.to(rounded.dtype.element_ty), mask=there)


def adamw(weight, rounded, gradient, state, settings, factor=None, skip=None):
    """Move ``weight`` as AdamW does (arXiv 1711.05101), and ``rounded``, its rounding, if it is not None.

    ``state`` has `step`, `exp_avg` and `exp_avg_sq` as torch's; the step is counted already. ``settings`` are those of
    a group of torch's optimizer. The gradient counts ``factor`` times; nothing moves where ``skip`` is 1.
    """
    size = weight.numel()
    beta1, beta2 = settings["betas"]
    other = state["step"]  # stands where a pointer is not read
    with torch.cuda.device(weight.device):
        _adamw[(triton.cdiv(size, BLOCK),)](
            weight, other if rounded is None else rounded, gradient,
            state["exp_avg"], state["exp_avg_sq"], state["step"],
            other if factor is None else factor, other if skip is None else skip, size, float(settings["lr"]),
            float(beta1), float(beta2), float(settings["eps"]), float(settings["weight_decay"]),
            ROUNDED=rounded is not None, FACTOR=factor is not None, SKIP=skip is not None, BLOCK=BLOCK, num_warps=8,
        )  # fmt: skip
