"""AdamW as DeepSeek-V3 uses it; the learning rate of a step, and when a run ends."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from dsvgraph_torch.training.options import TrainOptions

BETAS = (0.9, 0.95)
FLOOR = 0.1
"""The learning rate's end, as a share of its peak."""


def optimizer_for(model: nn.Module, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW over the trained parameters, with weight decay on matrices only."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in trained if is_matrix(name, p)]
    others = [p for name, p in trained if not is_matrix(name, p)]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    devices = {p.device.type for _, p in trained}
    return torch.optim.AdamW(groups, lr=options.lr, betas=BETAS, fused=devices <= {"cpu", "cuda"})


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Return whether it is a matrix, or a stack of them (experts); norms and biases are not."""
    stacked_vectors = ("bias", "norm.weight")
    return parameter.dim() >= 2 and not name.endswith(stacked_vectors)


def learning_rate(step: float, options: TrainOptions) -> float:
    """Return the rate of optimizer step ``step`` (from 1): linear warm-up, then cosine to a tenth."""
    warmup = options.warmup_steps
    if step <= warmup:
        return options.lr * step / warmup
    done = (step - warmup) / max(1, options.steps - warmup)
    return options.lr * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(done, 1))) / 2)


def position(step: int, options: TrainOptions, seconds: float) -> float:
    """Return where ``step`` stands in the schedule, as a step of ``options.steps``, after ``seconds`` of training.

    That is the step itself, or the share of ``options.minutes`` that has passed if this is further.
    """
    return max(step, options.steps * seconds / (60 * options.minutes)) if options.minutes else step


class Schedule:
    """The progress of a run by steps and by time. ``spent`` are the seconds of training before it was resumed."""

    def __init__(self, options: TrainOptions, spent: float = 0.0) -> None:
        self.options, self.spent = options, spent
        self._started: float | None = None
        self._begun = 0.0

    def start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds of training so far, evaluations and checkpoints included."""
        return self.spent if self._started is None else self.spent + time.monotonic() - self._started

    def position(self, step: int) -> float:
        """Return where ``step`` stands in the schedule now."""
        return position(step, self.options, self.seconds)

    def begin(self, step: int) -> float:
        """Begin ``step``, and return its position."""
        self._begun = self.position(step)
        return self._begun

    def over(self, step: int) -> bool:
        """Return whether ``step`` is the last one: all are taken, or the time has passed."""
        return step > 0 and self.position(step) >= self.options.steps

    def last(self, step: int) -> int:
        """Return which step will be the last one, at the speed of the steps so far."""
        return min(self.options.steps, math.ceil(step * self.options.steps / self.position(step)))

    def due(self, step: int, every: int | None) -> bool:
        """Return whether what happens every ``every`` steps (None: each tenth of the run) happens after ``step``."""
        tenth = self.options.steps / 10
        passed = every is None and self._begun // tenth < self.position(step) // tenth
        return passed or self.options.due(step, every)
