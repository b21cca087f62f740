"""The canonical text: what it tells, and what it does not depend on."""

from __future__ import annotations

from typing import Any

import pytest

import dsvgraph
from dsvgraph.graph.signature import signature

SPECS = ["deepseek_v3", "deepseek_v3_paper", "deepseek_v3_tiny", "tutorial_mtp"]
TEST_SPECS = ["tests/specs/parallel_heads.yaml", "tests/specs/patterns.yaml"]


@pytest.mark.parametrize("name", [*SPECS, *TEST_SPECS])
def test_golden(name: str, golden: Any) -> None:
    stem = name.rpartition("/")[2].removesuffix(".yaml")
    golden(f"signature/{stem}.txt", signature(dsvgraph.load(name)))


def test_each_change_shows() -> None:
    base = signature(dsvgraph.load("deepseek_v3_tiny"))
    settings: dict[str, Any] = {
        "rope_theta": 5000,
        "hidden_size": 64,
        "norm_topk_prob": False,
        "initializer_range": 0.1,
    }
    for name, value in settings.items():
        assert signature(dsvgraph.load("deepseek_v3_tiny", {name: value})) != base, name


def test_wiring_shows() -> None:
    released, paper = (signature(dsvgraph.load(name)).splitlines() for name in ("deepseek_v3", "deepseek_v3_paper"))
    differing = [line for line in released if line not in paper]
    assert len(differing) == 5  # the call, the concat, the state handed on, two divisors
    assert any("concat(x0=enorm.y, x1=hnorm.y)" in line for line in differing)


def test_names_and_documentation_do_not_matter() -> None:
    text = dsvgraph.show(dsvgraph.load("deepseek_v3_tiny"))
    other = text.replace("name: DeepSeek-V3-tiny", "name: another").replace("doc: SwiGLU", "doc: The SwiGLU")
    assert text != other
    assert signature(dsvgraph.loads(text)) == signature(dsvgraph.loads(other))


@pytest.mark.parametrize("name", [*SPECS, *TEST_SPECS])
def test_str_is_the_signature_and_repr_one_short_line(name: str) -> None:
    model = dsvgraph.load(name)
    for graph in model.graphs():
        assert f"{graph}\n" == signature(graph)
        for made in (graph, *graph.nodes.values()):
            assert made.name in repr(made) and len(repr(made)) <= 120 and "\n" not in repr(made)


def test_repr_names_what_it_shows() -> None:
    model = dsvgraph.load("deepseek_v3")
    assert repr(model) == "<Model DeepSeek-V3: 6 nodes, input_ids -> logits, mtp_logits>"
    assert repr(model.nodes["lm_head"]) == "<Node lm_head: linear(x) -> [B, T, 129280]>"
    assert repr(model.nodes["dense"].copies[0].graph) == "<Graph decoder_layer: 6 nodes, x -> x>"
