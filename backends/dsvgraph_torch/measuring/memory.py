"""The most memory that a step takes: as a GPU's allocator counts it, or as a tracing allocator of a CPU is asked."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def held(module: nn.Module, optimizer: Any) -> int:
    """Return the bytes of the weights and their masters, the buffers and the optimizer's states."""
    masters = optimizer.masters.exact.values() if hasattr(optimizer, "masters") else ()
    groups = getattr(optimizer, "parts", (optimizer,))
    states = [value for part in groups for state in part.state.values() for value in state.values()]
    return sum(_bytes([*module.parameters(), *module.buffers(), *masters, *states]))


def _bytes(values: Iterable[Any]) -> Iterable[int]:
    return (v.numel() * v.element_size() for v in values if isinstance(v, torch.Tensor) and v.dim())


def traced(step: Callable[[], object], before: Callable[[], int]) -> int:
    """Return the most bytes that ``step`` holds on a CPU at any time, with those that are held ``before`` it."""
    start = before()
    with (
        silent(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
    ):
        step()
    found = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(found, key=lambda event: event.start_ns())]
    return start + max(itertools.accumulate(sizes), default=0)


@contextmanager
def silent() -> Iterator[None]:
    """Drop what libraries write to standard error: torch's profiler reports there that it starts and ends."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def on_gpu(step: Callable[[], object], others: int = 0) -> int:
    """Return the most bytes that ``step`` holds on a GPU, without workspaces of cuBLAS and what ``others`` hold."""
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch._C._cuda_clearCublasWorkspaces()
    workspaces = before - torch.cuda.memory_allocated()
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - workspaces - others
