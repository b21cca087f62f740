"""What the tests of the testbed share: small variants, and a trainer whose losses a table gives."""

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


def quiet() -> Console:
    return Console(file=io.StringIO(), width=160)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unplotted: None) -> Callable[..., None]:
    """``trained(a={"ratio": 0.99})`` lets runs be trained by the stand-in, with this table."""
    from dsvgraph_testbed.runs import Run

    program = Path(__file__).with_name("trained.py")
    real = Run.command

    def command(self: Any, steps: int, at: Any = ()) -> list[str]:
        return [sys.executable, "-S", str(program), *real(self, steps, at)[4:]]

    def use(**table: Any) -> None:
        (tmp_path / "table.json").write_text(json.dumps(table))
        monkeypatch.setenv("TRAINED", str(tmp_path / "table.json"))
        monkeypatch.setattr(Run, "command", command)
        monkeypatch.setattr("dsvgraph_testbed.training.POLL", 0.01)

    return use


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which take most of a small comparison's time."""
    monkeypatch.setattr("dsvgraph_testbed.report.page.plots", lambda results: {})
    monkeypatch.setattr("dsvgraph_testbed.report.facts.differences", lambda results: [])


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Comparison]:
    """``asked(variants, seeds=3)`` is a comparison of 100 steps with 64 tokens each."""

    def ask(*variants: Variant, seeds: int = 4, **more: Any) -> Comparison:
        budget = more.pop("budget", Budget(BudgetKind.TOKENS, 6400))
        return Comparison(
            variants=variants,
            budget=budget,
            folder=tmp_path / "compared",
            seeds=tuple(range(seeds)),
            training={"batch": 4, "seq": 16, **more.pop("training", {})},
            command="dsvgraph compare",
            **more,
        )

    return ask
