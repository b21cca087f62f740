"""How slow this machine is at the moment: tests bound what dsvgraph computes, not what else runs beside it."""

from __future__ import annotations

import time

ROUNDS = 500_000
PLAIN = 0.03  # seconds of computing that the rounds take on a plain machine with nothing else to do


def slowness() -> float:
    """How many times longer than on a plain machine computing takes; at least 1."""
    start, number = time.process_time(), 0
    for i in range(ROUNDS):
        number += i
    return max(1.0, (time.process_time() - start) / PLAIN)


def too_long(took: float, seconds: float = 1.0) -> bool:
    """Whether what took so long would take more than ``seconds`` on a plain machine."""
    return took > seconds and took > seconds * slowness()
