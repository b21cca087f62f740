"""How fast this machine multiplies matrices. The other benchmarks print it beside their figures.

python benchmarks/machine.py
"""

from __future__ import annotations

import statistics
import time

import torch

from dsvgraph_torch.runs.notices import emulated

SIZE = 256


def rate(dtype: torch.dtype, device: str = "cpu", rounds: int = 9) -> float:
    """Return the operations a second of a product of square matrices, as the median of some rounds after one more."""
    a, times = torch.randn(SIZE, SIZE, device=device).to(dtype), list[float]()
    for _ in range(rounds + 1):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * SIZE**3 / statistics.median(times[1:])


def described(device: str = "cpu") -> str:
    """Return the rate in float32 in words."""
    return f"float32 matrix products at {rate(torch.float32, device) / 1e9:,.1f} GFLOP/s"


def left_out(device: str = "cpu") -> str:
    """Return why bfloat16 is not measured on a device; nothing where its processor multiplies bfloat16."""
    if not (slow := emulated(torch.device(device))):
        return ""
    rates = [rate(dtype, device) / 1e9 for dtype in (torch.bfloat16, torch.float32)]
    return f"bfloat16 is left out: {slow} emulates it, at {rates[0]:,.1f} GFLOP/s where float32 has {rates[1]:,.1f}"


if __name__ == "__main__":
    print(described())
    print(left_out() or f"bfloat16 matrix products at {rate(torch.bfloat16) / 1e9:,.1f} GFLOP/s")
