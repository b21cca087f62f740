"""What a user should know of a run before it begins: a line each, and no reason to refuse it."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from dsvgraph.names import listed
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.runs.schema import Record
from dsvgraph_torch.training.options import UNBOUNDED, TrainOptions
from dsvgraph_torch.training.schedule import learning_rate, rate_position

NATIVE = {"x86_64": {"avx512_bf16", "amx_bf16", "avx_ne_convert"}, "aarch64": {"bf16", "svebf16"}}
"""Flags of a processor that multiplies bfloat16 numbers, by machine."""

BUDGETS = ("minutes", "tokens", "steps")
"""Options that say how long a run is."""

CPUINFO = Path("/proc/cpuinfo")


def of_start(options: TrainOptions, corpus: Corpus) -> Iterator[str]:
    """Yield lines about data, numbers and the learning rate."""
    if corpus.left_out:
        yield f"--data: left out of {corpus.source}: {listed(corpus.left_out, 5)}"
    if options.warmup_steps > options.length:
        words = f"{options.warmup_steps} steps are more than the {options.length} of the run"
        last = learning_rate(options.length, options)
        yield f"--warmup: {words}: the learning rate ends at {last:.4g} and never reaches {options.lr:g}"


def of_resume(before: TrainOptions, now: TrainOptions, last: Record | None) -> Iterator[str]:
    """Yield where a run goes on, and whether the learning rate leaves its schedule after ``last``, the step saved."""
    if last is None:
        yield "no checkpoint: the run was stopped before the first, and begins again"
        return
    step = last.step
    yield f"going on after step {step}"
    rate, planned = (learning_rate(rate_position(step + 1, o, last.seconds), o) for o in (now, before))
    if not math.isclose(rate, planned, rel_tol=0.01):
        words = f"the learning rate goes from {last.lr:.4g} at step {step} to {rate:.4g} at step {step + 1}"
        option = next((name for name in BUDGETS if getattr(now, name) != getattr(before, name)), "steps")
        was = _length(before) if before.minutes else before.length
        yield f"--{option}: {words}, since its schedule is over {_length(now)} and was over {was}"


def _length(options: TrainOptions) -> str:
    """Return how long a run is, in words."""
    steps = [f"{options.length} steps"] if options.length < UNBOUNDED else []
    return " or ".join(steps + ([f"{options.minutes:g} minutes"] if options.minutes else []))


def emulated(device: torch.device) -> str:
    """Return what computes bfloat16 by other numbers, in words; nothing where it is native or not known."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return "" if torch.cuda.is_bf16_supported(including_emulation=False) else name
    flags = _flags() if device.type == "cpu" else None
    native = NATIVE.get(platform.machine())
    return "this processor" if flags is not None and native and not flags & native else ""


def _flags() -> set[str] | None:
    """Return the features of the processor as Linux reports them; None elsewhere."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), None)
    return None if line is None else set(line.partition(":")[2].split())
