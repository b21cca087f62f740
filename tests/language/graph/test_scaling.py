"""Cost grows with what is distinct, not with layers or experts: graphs and lines are counted, not seconds."""

from __future__ import annotations

from typing import Any

import pytest

import dsvgraph
from dsvgraph.build.body import Body
from dsvgraph.graph import walk


def built(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, Any]) -> tuple[int, int, int]:
    """Graphs of a DeepSeek-V3, nodes in them, and lines that were looked at to build them."""
    lines = []
    with monkeypatch.context() as patch:
        line = Body._line
        patch.setattr(Body, "_line", lambda self, name, raw: (lines.append(name), line(self, name, raw)))
        graphs = dsvgraph.load("deepseek_v3", sizes).graphs()
    return len(graphs), sum(len(graph.nodes) for graph in graphs), len(lines)


def test_layers_and_experts_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    released = built(monkeypatch, {})
    assert released == (9, 64, 64)
    for sizes in (
        {"num_hidden_layers": 1000}, {"num_nextn_predict_layers": 100},
        {"n_routed_experts": 8192}, {"num_hidden_layers": 8000, "n_routed_experts": 64},
    ):  # fmt: skip
        assert built(monkeypatch, sizes) == released


def test_equal_copies_are_one_object() -> None:
    found = dsvgraph.load("deepseek_v3")
    dense, sparse, mtp = (found.nodes[name].copies[0].graph for name in ("dense", "sparse", "mtp"))
    attention = {
        graph.nodes["self_attn"].copies[0].graph for graph in (dense, sparse, mtp.nodes["layer"].copies[0].graph)
    }
    assert len(attention) == 1
    assert mtp.nodes["layer"].copies[0].graph is sparse


def test_a_walk_visits_a_folded_copy_once() -> None:
    few, many = (list(walk(dsvgraph.load("deepseek_v3", {"num_hidden_layers": n}))) for n in (61, 1000))
    assert len(few) == len(many)
    assert {v.path.replace("[3-60]", "#").replace("[61]", "@") for v in few} == {
        v.path.replace("[3-999]", "#").replace("[1000]", "@") for v in many
    }
