"""What variants are drawn with: copies that use one set of weights say so, blocks without experts show none."""

from __future__ import annotations

import re

import pytest

import dsvgraph

graphviz_backend = pytest.importorskip("dsvgraph_graphviz")

LINES = """
config: {{d: 8, V: 16}}
blocks:
  layer:
    args: {{d}}
    in: {{x: [B, T, d]}}
    body:
      q: {{linear: x, out: [2, 4]}}
      a: {{attention: {{q: q, k: q, v: q}}}}
      o: {{linear: a, contract: 2, out: d, at: o_proj}}
    out: {{x: o}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: V, dim: d}}
    y: {{layer: e, repeat: 3, tied: {tied}}}
    z: {{linear: y, out: V}}
  out: z
"""


def said(model: dsvgraph.Model) -> str:
    """The words of a picture without its markup, one space between."""
    return " ".join(re.sub(r"<[^>]*>", " ", graphviz_backend.dot_source(model)).split())


@pytest.mark.parametrize("tied", [True, False])
def test_a_fold_says_that_its_copies_share(tied: bool) -> None:
    words = said(dsvgraph.loads(LINES.format(tied=str(tied).lower())))
    assert "× 3" in words and ("× 3, one set of weights" in words) is tied


def test_the_columns_of_a_chain_say_it() -> None:
    words = said(dsvgraph.load("variants/eagle"))
    assert "MTP depth 1 one set of weights" in words and "MTP depth 2 one set of weights" in words
    assert "one set of weights" not in said(dsvgraph.load("deepseek_v3_tiny"))


def test_a_block_beside_experts_is_no_mixture_of_them() -> None:
    dot = graphviz_backend.dot_source(dsvgraph.load("variants/hyper_connections"))
    assert "Hyper-connections of one layer" in dot and "0 routed" not in dot
    assert "<tr></tr>" not in dot  # graphviz would leave out the card
