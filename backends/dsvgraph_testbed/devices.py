"""The places where runs are trained: GPUs that nobody uses, or shares of the processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

BUSY = 1024
"""MiB of memory in use from which a GPU counts as taken by somebody else."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Places:
    """What each process at a time gets of the machine: environment variables. ``contended`` says what they share."""

    environments: tuple[Mapping[str, str], ...]
    words: str
    contended: str = ""
    free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free.extend(range(len(self.environments)))


def places(jobs: int | None, device: str = "auto") -> Places:
    """Return places for ``jobs`` processes at a time (None: one for each free GPU, one without GPUs)."""
    gpus = free_gpus() if device in ("auto", "cuda") else []
    return _on_gpus(jobs or len(gpus), gpus) if gpus else _on_processor(jobs or 1, device)


def _on_gpus(jobs: int, gpus: list[str]) -> Places:
    chosen = [gpus[job % len(gpus)] for job in range(jobs)]
    shared = f"{jobs} processes share {len(gpus)} GPUs" if jobs > len(gpus) else ""
    used = sorted(set(chosen))
    words = f"{jobs} at a time on GPU {', '.join(used)}" if jobs > 1 else f"one at a time on GPU {used[0]}"
    return Places(tuple({"CUDA_VISIBLE_DEVICES": gpu} for gpu in chosen), words, shared)


def _on_processor(jobs: int, device: str) -> Places:
    where = "the processor" if device in ("auto", "cpu") else device
    if jobs == 1:
        return Places(({},), f"one at a time on {where}")
    threads = str(max(1, cores() // jobs))
    environment = dict.fromkeys(THREADS, threads)
    words = f"{jobs} at a time on {where}, {threads} of {cores()} cores each"
    return Places((environment,) * jobs, words, f"{jobs} processes share {where}")


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_gpus() -> list[str]:
    """Return the numbers of NVIDIA GPUs that hardly hold memory, of those that CUDA_VISIBLE_DEVICES allows.

    If all are in use, all are returned.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    used = _memory_used()
    if allowed is not None:
        names = [name.strip() for name in allowed.split(",") if name.strip()]
        used = {name: used.get(name, 0) for name in names} if used else {}
    return [name for name, mebibytes in used.items() if mebibytes < BUSY] or list(used)


def _memory_used() -> dict[str, int]:
    """Return the memory in use of each GPU in MiB, by number; nothing where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition(",") for line in done.stdout.splitlines() if "," in line)
    return {index.strip(): int(used) if used.strip().isdecimal() else 0 for index, _, used in pairs}
