"""What a model is, in a few lines; and the tutorial's sizes."""

from __future__ import annotations

from typing import Any

import pytest

import dsvgraph
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.graph.paths import last_matches
from dsvgraph.passes.text.summary import summary

SPECS = ["deepseek_v3", "deepseek_v3_tiny", "tutorial_mtp", "tests/specs/patterns.yaml"]


@pytest.mark.parametrize("name", SPECS)
def test_golden(name: str, golden: Any) -> None:
    stem = name.rpartition("/")[2].removesuffix(".yaml")
    lines = [f"{label}: {value}" for label, value in summary(dsvgraph.load(name))]
    golden(f"summary/{stem}.txt", "\n".join(lines))


def test_sums_fit_on_a_screen() -> None:
    assert all(len(summary(dsvgraph.load(name))) <= 18 for name in SPECS)


def test_tutorial_sizes() -> None:
    """28.84 M and 2.79 M per head with V = 50257 tied; 640 cached numbers a layer; 2.75 MFLOPs of experts."""
    found = cost(dsvgraph.load("tutorial_mtp"), seq=64)
    head = (found.parameters.total - found.parameters.inference) // 2
    assert round((found.parameters.inference - found.parameters.selection_biases) / 1e6, 2) == 28.84
    assert round(head / 1e6, 2) == 2.79
    assert round(2 * (head - 4) / 1e6, 2) == 5.59
    assert found.kv_cache.elements_per_token == 6 * (128 + 8 * 64)
    experts = [row for row in found.blocks if row.path.startswith("model.layers") and "expert" in row.line]
    assert sum(row.flops for row in experts) == 6 * 64 * 2_752_512


def test_tutorial_weights_decay() -> None:
    lines = dict(summary(dsvgraph.load("tutorial_mtp", {"num_nextn_predict_layers": 3})))
    assert [lines[f"mtp {k}"].rpartition(" ")[2] for k in (1, 2, 3)] == ["0.3", "0.24", "0.192"]


def test_copies_are_told_apart_where_a_pattern_names_a_number() -> None:
    assert dict(last_matches("a.[3-60].b", [("a.7.*", "x")])) == {"x": 1, None: 57}
    assert dict(last_matches("a.[3-60].b", [("**", "x")])) == {"x": 58}
    twice = list(last_matches("a.[3-4].b.[3-5]", [("a.4.**", "x"), ("**.b.4", "y")]))
    assert {said: sum(n for s, n in twice if s == said) for said, _ in twice} == {None: 2, "x": 2, "y": 2}
    assert dict(last_matches("a.[8-12].b", [("a.1*.b", "x")])) == {None: 2, "x": 3}
