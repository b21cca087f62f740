"""When a run ends, and the learning rate on the way: budgets of steps, tokens and time, one schedule for all."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from dsvgraph.backends.training import ScheduleKind
from dsvgraph_torch.training.options import TrainOptions


class Reason(StrEnum):
    """Why a run took no further step: a budget was used up, somebody asked, or training failed."""

    STEPS = "steps"
    TOKENS = "tokens"
    MINUTES = "minutes"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"
    FAILED = "failed"


def learning_rate(position: float, options: TrainOptions) -> float:
    """Return the rate at ``position`` (from 1, as a step of all): linear warm-up, then what ``schedule`` says.

    cosine falls to ``lr_end`` of the peak at the last step; wsd is stable and falls linearly in the last share
    ``decay`` of the run (arXiv 2404.06395); constant stays.
    """
    if position <= options.warmup_steps:
        return options.lr * position / options.warmup_steps
    floor, last = options.end_share, options.length
    match options.schedule:
        case ScheduleKind.CONSTANT:
            return options.lr
        case ScheduleKind.WSD:
            falling = last * options.decay_share
            left = min(1.0, max(0.0, (last - position) / falling)) if falling else 1.0
            return options.lr * (floor + (1 - floor) * left)
        case ScheduleKind.COSINE:
            done = (position - options.warmup_steps) / max(1, last - options.warmup_steps)
            return options.lr * (floor + (1 - floor) * (1 + math.cos(math.pi * min(done, 1))) / 2)


def position(step: int, options: TrainOptions, seconds: float) -> float:
    """Return where ``step`` stands in a run of ``options.length`` steps, after ``seconds`` of training.

    That is the step itself, or the share of ``options.minutes`` that has passed if this is further.
    """
    return max(step, options.length * seconds / (60 * options.minutes)) if options.minutes else step


def rate_position(step: int, options: TrainOptions, seconds: float) -> float:
    """Return the position that the learning rate goes by: a warm-up that was given in steps is counted in steps."""
    return step if options.warmup and step <= options.warmup else position(step, options, seconds)


class Schedule:
    """The progress of a run by steps and by time.

    ``spent`` are the seconds of training before it was resumed, ``trained`` those of them without evaluations
    and checkpoints.
    """

    def __init__(self, options: TrainOptions, spent: float = 0.0, trained: float = 0.0) -> None:
        self.options, self.spent, self.trained = options, spent, trained
        self._started: float | None = None
        self._begun = 0.0

    def start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds of training so far, evaluations and checkpoints included."""
        return self.spent if self._started is None else self.spent + time.monotonic() - self._started

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the time of the block as training alone, in ``trained``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.trained += time.monotonic() - started

    def position(self, step: int) -> float:
        """Return where ``step`` stands in the schedule now."""
        return position(step, self.options, self.seconds)

    def begin(self, step: int) -> float:
        """Begin ``step``, and return the position that its learning rate goes by."""
        self._begun = self.position(step)
        return rate_position(step, self.options, self.seconds)

    def over(self, step: int) -> bool:
        """Return whether ``step`` is the last one: all are taken, or the time has passed."""
        return step > 0 and self.position(step) >= self.options.length

    def reason(self, step: int) -> Reason:
        """Return which budget ends a run at ``step``, or that it was interrupted where none does."""
        if not self.over(step):
            return Reason.INTERRUPTED
        if step < self.options.length:
            return Reason.MINUTES
        return Reason.TOKENS if self.options.ends_by_tokens else Reason.STEPS

    def last(self, step: int) -> int:
        """Return which step will be the last one, at the speed of the steps so far."""
        return min(self.options.length, math.ceil(step * self.options.length / self.position(step)))

    def due(self, step: int, every: int | None) -> bool:
        """Return whether what happens every ``every`` steps (None: each tenth of the run) happens after ``step``."""
        tenth = self.options.length / 10
        passed = every is None and self._begun // tenth < self.position(step) // tenth
        return passed or self.options.due(step, every)
