"""Models that are built one after the other with one build cache are those that are built alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.build import BuildCache, build, state
from dsvgraph.graph.signature import signature
from dsvgraph.spec import Spec, with_settings

TINY: Spec = dsvgraph.load("deepseek_v3_tiny").spec  # type: ignore[assignment]
MANY = {
    "hidden_size": st.sampled_from([64, 96]),
    "q_lora_rank": st.sampled_from([24, 48]),
    "moe_intermediate_size": st.sampled_from([32, 64]),
    "n_routed_experts": st.sampled_from([8, 15, 16]),  # 15 do not fall into groups
    "first_k_dense_replace": st.sampled_from([0, 1, 5]),  # 5 are more than there are layers
    "num_nextn_predict_layers": st.sampled_from([0, 1, 3]),
}


def lines_of(spec: Spec, cache: BuildCache | None = None) -> list[str]:
    """What a spec becomes: every node with its types, or every error with its place."""
    try:
        return signature(build(spec, cache)).splitlines()
    except DsvError as error:
        return [f"{d.span}: {d.message}" for d in error.diagnostics]


@pytest.mark.slow
@given(st.lists(st.fixed_dictionaries({}, optional=MANY), min_size=2, max_size=6))
@settings(max_examples=12, deadline=None)
def test_a_build_cache_changes_nothing(every: list[dict[str, Any]]) -> None:
    cache = BuildCache()
    for chosen in every:
        spec = with_settings(TINY, chosen)
        assert lines_of(spec, cache) == lines_of(spec)


def test_what_does_not_change_is_built_once() -> None:
    """Attention knows nothing of experts."""
    cache = BuildCache()
    first, second = (build(with_settings(TINY, {"n_routed_experts": n}), cache) for n in (8, 16))
    shared = {graph.name for graph in first.graphs()} & {graph.name for graph in second.graphs()}
    same = {graph.name for graph in first.graphs().keys() & second.graphs().keys()}
    assert "mla" in same and {"moe", "mtp_layer"} <= shared - same


def test_lines_from_a_build_cache_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on distinct lines refuses a model as early with a build cache as alone."""
    lines = sum(len(graph.nodes) for graph in build(TINY).graphs())
    for limit, refused in ((lines, False), (lines - 1, True)):
        cache = BuildCache()
        build(with_settings(TINY, {"num_hidden_layers": 3}), cache)
        monkeypatch.setattr(state, "MAX_LINES", limit)
        assert [any("distinct lines" in line for line in lines_of(TINY, s)) for s in (cache, None)] == [
            refused,
            refused,
        ]
        monkeypatch.undo()
