"""The machine that is measured on: its matrix rate, its nominal peak, and waiting for it."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

from dsvgraph.backends.benchmark import Machine, median
from dsvgraph.passes.estimate import devices

SIZES = {"cpu": 768, "cuda": 8192}
"""Rows of the square matrices whose product gives the rate of a device, large enough to reach it."""

ROUNDS = 9


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int | None = None, rounds: int = ROUNDS) -> float:
    """Return the FLOPs per second of a product of square matrices, the median of ``rounds`` after two more."""
    size = size or SIZES.get(device.type, SIZES["cpu"])
    a = torch.randn(size, size, device=device).to(dtype)
    times = list[float]()
    for _ in range(rounds + 2):
        synchronise(device)
        started = time.perf_counter()
        a @ a
        synchronise(device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 / median(times[2:])


def described(dtype: torch.dtype, device: torch.device) -> Machine:
    """Return what runs, and how fast it multiplies matrices of ``dtype``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return Machine(
        device=name,
        software=f"torch {torch.__version__}",
        threads=torch.get_num_threads() if device.type == "cpu" else 0,
        rate=matrix_rate(dtype, device),
        peak=nominal(name, str(dtype).removeprefix("torch.")),
    )


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor as Linux reports it, elsewhere the kind of machine."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def nominal(name: str, dtype: str) -> float | None:
    """Return the peak rate of the device of the table whose model ``name`` has as a word, None if there is none.

    >>> nominal("NVIDIA H200", "bfloat16")
    989400000000000.0
    """
    words = name.lower().replace("-", " ").split()
    for key, device in devices().items():
        if key in words or key in "".join(words):
            return device.flops.get(dtype)
    return None
