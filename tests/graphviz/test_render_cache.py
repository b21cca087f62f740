"""What pictures mark as cached is what `cost` counts: each value that decoding keeps, and nothing else."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph.passes.graph.decoding import looks_ahead

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import model, source  # noqa: E402

from dsvgraph.backends import View  # noqa: E402
from dsvgraph_graphviz.scene.plan import plan  # noqa: E402

ROOT = Path(__file__).parents[2]
FOLDERS = ("specs", "specs/variants", "specs/losses", "specs/templates", "tests/specs", "tests/specs/odd")
SPECS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.yaml"))]
SHARED = """
config: {{d: 64}}
blocks:
  reader:
    in: {{x: [B, T, 64], k: [B, T, 4, 16], v: [B, T, 4, 16]}}
    body:
      q: {{linear: x, out: [4, 16]}}
      a: {{attention: {{q: q, k: k, v: v}}}}
      o: {{linear: a, contract: 2, out: 64}}
    out: {{x: o}}
    {cache}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 256, dim: 64}}
    k: {{linear: e, out: [4, 16]}}
    {value}
    r: {{reader: {{x: e, k: k, v: {v}}}, repeat: 3}}
    z: {{linear: r, out: 256}}
  out: {{logits: z}}
"""


def bodies(graph, copies=1):
    """Every body with the number of its copies, each time it is used."""
    yield graph, copies
    for node in graph.nodes.values():
        for group in node.copies:
            yield from bodies(group.graph, copies * group.count)


def elements(graph, refs):
    """Numbers per position of some values."""
    found = 0
    for ref in refs:
        size = 1
        for axis in graph.type(ref).shape[2:]:
            size = size * axis
        found = found + size
    return found


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_cards_that_are_cached_make_up_the_count(spec):
    found = model(str(spec))
    made = plan(found, View(1_000))
    marked = {}
    for body in made.scene.bodies:
        cards = {card.id.removeprefix(body.id).removesuffix("-kept") for card in made.scene.cards.values()
                 if card.key == "kept" and card.id.rpartition("/")[0].rpartition("/")[0] + "/" == body.id}  # fmt: skip
        marked.setdefault(body.graph, cards)
        assert marked[body.graph] == cards
    for graph, cards in marked.items():
        assert cards == {f"{ref.node}/{ref.port}" for ref in made.analysis.decoding_cache.values(graph)}
    total = 0
    for graph, copies in bodies(found):
        growing = [ref for ref, rows in made.analysis.decoding_cache.values(graph).items() if rows.last is None]
        total = total + copies * elements(graph, growing)
    assert total == (0 if looks_ahead(found) else dsvgraph.cost(found).kv_cache.elements_per_token_all_outputs)


def said(dot):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", dot)).split())


def test_keys_that_are_values_too_are_cached_once():
    words = said(source("tests/specs/odd/caches.yaml", 1_000))
    assert "4 heads · caches 4 × 16 · 49.15 K" in words and "4 heads · caches 4 × 8 + 4 × 8 " in words
    assert "p CACHED, the last 2 " in words


@pytest.mark.parametrize(
    ("cache", "value", "v", "cached"),
    [
        ("cache: [k, v]", "w: {linear: e, out: [4, 16]}", "w", {"k", "w"}),
        ("", "w: {linear: e, out: [4, 16]}", "w", {"k", "w"}),
        ("", "", "k", {"k"}),
    ],
)
def test_values_that_all_copies_read_are_cached_where_they_are_made(cache, value, v, cached):
    """Three copies read one key and one value (or one for both): each is kept once, not by every copy."""
    found = dsvgraph.loads(SHARED.format(cache=cache, value=value, v=v))
    words = said(graphviz_backend.dot_source(found, 1_000))
    assert dsvgraph.cost(found).kv_cache.elements_per_token == 64 * len(cached)
    assert set(re.findall(r"(\w+) CACHED", words)) == cached and words.count("CACHED") == len(cached)
