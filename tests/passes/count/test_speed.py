"""Passes stay cheap: they grow with distinct graphs. What is counted are calls, which no busy machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

import dsvgraph
from dsvgraph.passes.compare.diff import diff
from dsvgraph.passes.count.cost import cost

SMALL = dsvgraph.load("deepseek_v3")
LARGE = dsvgraph.load("deepseek_v3", {"num_hidden_layers": 1000, "n_routed_experts": 1024})


def calls(action: Callable[[], Any]) -> int:
    """The number of functions that are called, those in C among them."""
    action()  # what is only done once is not counted
    number = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return number


@pytest.mark.parametrize(
    "work", [cost, lambda m: diff(m, SMALL), dsvgraph.lint, dsvgraph.show], ids=["cost", "diff", "lint", "show"]
)
def test_passes_do_not_grow_with_layers_or_experts(work: Callable[[Any], Any]) -> None:
    assert calls(lambda: work(LARGE)) < 2 * calls(lambda: work(SMALL))


@pytest.mark.slow
def test_cost_of_layers_that_alternate_is_bounded() -> None:
    """Layers that take turns: ten times as many cost ten times as much at the most."""
    few, many = (dsvgraph.load("tests/specs/patterns.yaml", {"num_hidden_layers": n}) for n in (100, 1000))
    assert len(cost(many).blocks) == 14
    assert calls(lambda: cost(many)) < 10 * calls(lambda: cost(few))
