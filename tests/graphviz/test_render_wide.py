"""Lines with hundreds of inputs or parts, and bodies of hundreds of lines: drawn with a count, or refused in words."""

from __future__ import annotations

import importlib
import json
import re
from html import unescape

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import drawn  # noqa: E402

SPEC = """
config: {{d: {size}, V: 16}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: V, dim: d}}
{body}
    z: {{linear: y, out: V}}
  out: {{logits: z}}
loss:
{loss}
"""
LOSS = "  next: {cross_entropy: logits, target: ids, shift: 1}"


def made(body, size=8, loss=LOSS):
    return dsvgraph.loads(SPEC.format(body=body, size=size, loss=loss))


def names(count, prefix=""):
    return ", ".join(f"{prefix}{i}" for i in range(count))


def row(count, line):
    """Lines of which each reads the one before."""
    return "\n".join(f"    l{i}: {line.format(f'l{i - 1}' if i else 'e')}" for i in range(count))


FAN = "\n".join(f"    l{i}: {{linear: e, out: 8}}" for i in range(100))
PARTS = ", ".join(f"p{i}: 1" for i in range(900))
MODELS = {
    "one value 1,000 times": (lambda: made(f"    y: {{add: [{', '.join(['e'] * 1_000)}]}}"), "B,T,8 × 1,000"),
    "sum": (lambda: made(f"{FAN}\n    y: {{add: [{names(100, 'l')}]}}"), "100 inputs: 12 are drawn"),
    "product": (lambda: made(f"{FAN}\n    y: {{mul: [{names(100, 'l')}]}}"), "100 inputs: 12 are drawn"),
    "concat": (lambda: made(f"{FAN}\n    y: {{concat: [{names(100, 'l')}]}}"), "100 inputs: 12 are drawn"),
    "norms in a concat": (
        lambda: made(FAN.replace("linear: e, out: 8", "rms_norm: e") + f"\n    y: {{concat: [{names(100, 'l')}]}}"),
        "100 inputs: 12 are drawn",
    ),
    "split": (
        lambda: made(f"    s: {{split: e, into: {{{PARTS}}}}}\n    y: {{concat: [{names(900, 's.p')}]}}", 900),
        "888 more",
    ),
    "views in a row": (lambda: made(row(400, "{{silu: {}}}") + "\n    y: {rms_norm: l399}"), "SiLU"),
    "norms in a row": (
        lambda: made("    a: {linear: e, out: 8}\n" + row(1_100, "{{rms_norm: {}}}").replace(": e}", ": a}")
                                    + "\n    y: {linear: l1099, out: 8}"), "RMSNorm"),
    "losses": (
        lambda: made("    y: {rms_norm: e}", 8, "\n".join(LOSS.replace("next", f"a{i}") for i in range(300))),
        "a299",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def wide(request):
    build, words = MODELS[request.param]
    return build(), words


def test_picture_says_how_many_there_are(wide):
    model, words = wide
    dot = graphviz_backend.dot_source(model)
    assert words in " ".join(unescape(re.sub(r"<[^>]*>", " ", dot)).split())
    assert dot.count("->") < 2_500
    if len(model.nodes) < 500:  # graphviz takes seconds for more
        assert drawn(dot).layout


def test_other_formats_are_written(wide, tmp_path):
    model, _ = wide
    page = pytest.importorskip("dsvgraph_html")
    assert page.page_data(model)["pictures"]
    assert "flowchart" in graphviz_backend.render(model, tmp_path / "m.mmd").read_text(encoding="utf-8")
    nodes = json.loads(graphviz_backend.render(model, tmp_path / "m.json").read_text(encoding="utf-8"))["graphs"][0][
        "nodes"
    ]
    assert len(nodes) == len(model.nodes) + 2


def test_values_that_part_and_meet_again_and_again_are_followed_once():
    """22 times beside the longest path of a column: 2 ** 22 ways."""
    meet = "\n".join(
        f"    a{i}: {{silu: d{i}}}\n    b{i}: {{gelu: d{i}}}\n    d{i + 1}: {{mul: [a{i}, b{i}]}}" for i in range(22)
    )
    body = (
        row(80, "{{silu: {}}}")
        + f"\n    d0: {{gelu: e}}\n{meet}\n    w: {{linear: d22, out: 8}}\n    y: {{add: [l79, w]}}"
    )
    assert '"main/w"' in graphviz_backend.dot_source(made(body))


def test_spread_values_in_a_row_are_read_to_their_beginning():
    """RoPE behind hundreds of `expand` in a row (of one head each) colours its cell in a concat."""
    lines = "    r: {rope: e}\n" + row(4, "{{expand: {}, size: 1}}").replace(": e,", ": r,")
    model = made(lines + "\n    c: {concat: [l3, l3]}\n    y: {linear: c, contract: 5, out: 8}")
    assert "#FFFBEB" in graphviz_backend.dot_source(model)


def test_more_boxes_than_anybody_reads_are_refused_at_their_line(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("dsvgraph_graphviz.scene.plan"), "MOST", 100)
    model = made(row(100, "{{silu: {}}}") + "\n    y: {rms_norm: l99}")
    for write in (graphviz_backend.dot_source, lambda m: graphviz_backend.render(m, tmp_path / "m.mmd")):
        with pytest.raises(DsvError, match="would have 104 boxes; at most 100 are drawn") as error:
            write(model)
        assert "--focus" in error.value.diagnostics[0].hint
    assert graphviz_backend.render(model, tmp_path / "m.json")
