"""What drafting gave: acceptance, tokens per step, and speed beside a plain step, measured and predicted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from dsvgraph.graph import Model
from dsvgraph.passes.estimate import PlanOptions, device, plan
from dsvgraph.passes.estimate.drafting import tokens_per_step
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.step import Step

PLAIN_STEPS = 16
"""Steps of one token that are timed to compare with."""

DTYPES = {torch.bfloat16: "bfloat16"}  # what the roofline has rates for; all others are as float32


class Timing:
    """Seconds of a generation: all of it, and of its steps after the prompts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.stepping = 0.0

    def of(self, rows: Rows) -> Iterator[tuple[int, list[int]]]:
        """Yield what ``rows`` yield; time spent by who takes it does not count as stepping."""
        found, started = rows.run(), time.perf_counter()
        for one in found:
            if rows.counts.steps:  # else a prompt was read
                self.stepping += time.perf_counter() - started
            yield one
            started = time.perf_counter()


def plain_step(rows: Rows) -> float:
    """Return the seconds of a step that reads one token of each row and drafts none; nothing is kept of it."""
    step = Step(rows.module, rows.cache, rows.sampler, rows.size)
    read = [min(row.read, max(0, rows.cache.slots - step.burst - 1)) for row in rows.rows]
    times = []
    for _ in range(1 + PLAIN_STEPS // step.burst):  # the first one records
        step.begin([row.window for row in rows.rows], read)
        started = time.perf_counter()
        step.run(step.burst, read).read()
        times.append((time.perf_counter() - started) / step.burst)
    return median(times[1:])


def drafting_report(rows: Rows, timing: Timing, model: Model, predict: str | None) -> dict[str, Any]:
    """Return acceptance by position, tokens per step and speed, and what is expected of them."""
    counts, heads = rows.counts, rows.heads
    assert heads
    acceptance = [a / r if r else None for a, r in zip(counts.accepted, counts.reached, strict=True)]
    measured = [a for a in acceptance if a is not None]
    plain = plain_step(rows)
    step = (timing.stepping - rows.step.recording) / counts.steps if counts.steps else None
    per_row = counts.tokens / counts.steps / len(rows.rows) if counts.steps else None
    found: dict[str, Any] = {
        "drafts": heads.drafting.count,
        "steps": counts.steps,
        "acceptance": acceptance,
        "tokens_per_step": per_row,
        "expected_tokens_per_step": tokens_per_step(measured),
        "seconds_per_step": step,
        "seconds_per_plain_step": plain,
        "speedup": per_row * plain / step if per_row and step else None,
    }
    if predict:
        found["predicted"] = predicted(rows, model, predict, [a or 0.0 for a in acceptance])
    return found


def predicted(rows: Rows, model: Model, name: str, acceptance: list[float]) -> dict[str, Any]:
    """Return what `cost --drafting` says of these rows on a device, with the acceptance that was measured."""
    heads, dtype = rows.heads, next(rows.module.parameters()).dtype
    assert heads
    context = max(1, max(row.read for row in rows.rows))
    options = PlanOptions(
        phase="decode", batch=len(rows.rows), context=context, dtype=DTYPES.get(dtype, "float32"), drafting=True,
        drafts=heads.drafting.count, reuse_last=True, acceptance=tuple(acceptance), device=device(name),
    )  # fmt: skip
    found = plan(model, options).drafting_estimate
    assert found and found.tokens_per_step
    return {
        "device": device(name).name,
        "tokens_per_step": found.tokens_per_step.value,
        "speedup": found.speedup.value if found.speedup else None,
        "break_even_acceptance": found.break_even_acceptance,
        "break_even_batch": found.break_even_batch,
    }
