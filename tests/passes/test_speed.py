"""Passes stay cheap: they grow with distinct graphs, and no process of theirs imports torch."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import dsvgraph
from dsvgraph.passes.cost import cost
from dsvgraph.passes.diff import diff

CODE = """
import sys, dsvgraph
from dsvgraph.passes.summary import summary
model = dsvgraph.load("deepseek_v3")
{work}
heavy = {{"torch", "numpy", "sympy", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
WORK = {
    "check": "dsvgraph.lint(model), summary(model)",
    "cost": "dsvgraph.cost(model).as_dict()",
    "diff": 'dsvgraph.diff(model, dsvgraph.load("deepseek_v3_paper")).as_dict()',
}


def process(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def best(action: Callable[[], Any], times: int = 5) -> float:
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return min(durations)


def test_processes_take_less_than_importing_torch() -> None:
    pytest.importorskip("torch")
    rounds = [{name: process(CODE.format(work=work)) for name, work in WORK.items()} for _ in range(3)]
    torch = min(process("import torch") for _ in range(3))
    for name in WORK:
        assert min(r[name] for r in rounds) < torch, name


def test_cost_does_not_grow_with_layers_or_experts() -> None:
    small = dsvgraph.load("deepseek_v3")
    large = dsvgraph.load("deepseek_v3", {"num_hidden_layers": 1000, "n_routed_experts": 1024})
    for work in (cost, lambda m: diff(m, small), dsvgraph.lint, dsvgraph.show):
        assert best(lambda: work(large)) < 2 * best(lambda: work(small)) + 0.01


def test_cost_of_layers_that_alternate_is_bounded() -> None:
    model = dsvgraph.load("tests/specs/patterns.yaml", {"num_hidden_layers": 1000})
    assert len(cost(model).blocks) == 14
    assert best(lambda: cost(model), 2) < 2
