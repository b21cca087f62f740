"""What the tests of the testbed share: small variants, comparisons, and a trainer whose losses a table gives."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import dsvgraph
from dsvgraph.backends import Budget, BudgetKind, Comparison, Variant

SPEC = """\
name: {name}
config: {{d: {width}}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    embed: {{embedding: ids, num: 256, dim: d}}
    head:  {{linear: embed, out: 256}}
  out: {{logits: head}}
loss: {{next_token: {{cross_entropy: logits, target: ids, shift: 1}}}}
"""


def variant(name: str, width: int = 4) -> Variant:
    return Variant(name, dsvgraph.loads(SPEC.format(name=name, width=width)))


def scheduled(name: str) -> Variant:
    """A variant whose steps leave out a loss until the 50th."""
    aside = "{next_token: {cross_entropy: logits, target: ids, shift: 1}, z: {z_loss: logits, weight: step // 50}}"
    text = SPEC.format(name=name, width=4).replace(
        "{next_token: {cross_entropy: logits, target: ids, shift: 1}}", aside
    )
    return Variant(name, dsvgraph.loads(text))


def quiet() -> Console:
    return Console(file=io.StringIO(), width=160)


def stand_in(folder: Path, patch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets runs be trained by `trained.py`, with the table that it is given."""
    from dsvgraph_testbed.runs import PlannedRun

    program = Path(__file__).with_name("trained.py")
    real = PlannedRun.command

    def command(self: Any, steps: int, at: Any = ()) -> list[str]:
        return [sys.executable, "-S", str(program), *real(self, steps, at)[4:]]

    def use(**table: Any) -> None:
        (folder / "table.json").write_text(json.dumps(table))
        patch.setenv("TRAINED", str(folder / "table.json"))
        patch.setattr(PlannedRun, "command", command)
        patch.setattr("dsvgraph_testbed.training.POLL", 0.01)

    return use


def asking(folder: Path) -> Callable[..., Comparison]:
    """Return a function that makes a comparison of 100 steps with 64 tokens each, below ``folder``."""

    def ask(*variants: Variant, seeds: int = 4, **more: Any) -> Comparison:
        budget = more.pop("budget", Budget(BudgetKind.TOKENS, 6400))
        return Comparison(
            variants=variants,
            budget=budget,
            folder=folder / "compared",
            seeds=tuple(range(seeds)),
            training={"batch": 4, "seq": 16, **more.pop("training", {})},
            command="dsvgraph compare",
            **more,
        )

    return ask
