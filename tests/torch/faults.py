"""Failures of the file system at a chosen call."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dsvgraph_torch.optimizers.masters import Masters
from dsvgraph_torch.optimizers.optimizer import Optimizer, optimizer_for
from dsvgraph_torch.training.options import TrainOptions

CALLS = ((os, "replace"), (os, "rename"), (os, "fsync"), (os, "open"), (Path, "mkdir"), (Path, "open"))
"""What files are made, ordered and named by."""


@contextmanager
def at_call(number: int, act: Callable[[], object]) -> Iterator[None]:
    """While entered, ``act`` is done before the call number ``number`` of all in CALLS."""
    calls = count(1)

    def watched(original: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if next(calls) == number:
                act()
            return original(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, watched(getattr(owner, name)))
        yield


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A real failure to write, as on a full disk: no file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def trained(value: float) -> tuple[Masters, Optimizer]:
    """A module with all weights and moments at ``value``, made without a gradient."""
    model = nn.Linear(3, 5)
    masters = Masters(model, {})
    optimizer = optimizer_for(model, TrainOptions(), masters=masters)
    for weight in model.parameters():
        weight.data.fill_(value)
        moments = {key: torch.full_like(weight, value) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.parts[0].state[weight] = {"step": torch.tensor(value), **moments}
    return masters, optimizer
