"""What `dsvgraph compare` asks of a testbed: variants, seeds, a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dsvgraph.graph import Model


class BudgetKind(StrEnum):
    """What is held equal between variants."""

    TOKENS = "tokens"
    FLOPS = "flops"
    MINUTES = "minutes"


class Pairs(StrEnum):
    """Which variants are compared with which."""

    ALL = "all"
    FIRST = "first"


@dataclass(frozen=True)
class Budget:
    """How long the first variant trains."""

    kind: BudgetKind
    amount: float

    def __str__(self) -> str:
        return f"{self.kind}={self.amount:g}"


@dataclass(frozen=True)
class Variant:
    """A model that is compared, and how it is called in the report."""

    name: str
    model: Model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A question to a testbed: which of ``variants`` has the lower held-out loss, the first being the baseline.

    ``training`` holds the options of `compile --train` that all runs have in common, by name. With ``anneal``
    each budget has runs of its own, whose learning rate falls to its end there; without it the learning rate
    is constant after warm-up, and all budgets are read from one run. ``confidence`` is that of all verdicts
    of one table together. ``jobs`` is the number of processes at a time (None: one for each free GPU, else one).
    """

    variants: tuple[Variant, ...]
    budget: Budget
    folder: Path
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    training: Mapping[str, Any] = field(default_factory=dict)
    anneal: bool = False
    pairs: Pairs = Pairs.ALL
    confidence: float = 0.95
    jobs: int | None = None
    command: str = ""
    question: str = ""
