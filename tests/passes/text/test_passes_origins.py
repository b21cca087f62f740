"""Where each value comes from: held against what the lines of the files say."""

from __future__ import annotations

from pathlib import Path

import pytest

import dsvgraph
from dsvgraph.passes.graph.origins import argument_origins, config_origins

BASE = """\
config: {d: 4, V: 9, wide: 3 * d}
blocks:
  ff:
    args: {d, wide: 2 * d, bias: false}
    in: {x: [..., d]}
    body: {up: {linear: x, out: wide, bias: bias}, y: {linear: up, out: d}}
    out: y
  layer: {args: {d, ffn: {ff: , bias: true}}, in: {x: [..., d]}, body: {h: {ffn: x}, y: {ff: h, wide: 5}}, out: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: V, dim: d}
    y: {layer: e}
  out: y
"""
OWN = """\
extends: base.yaml
config:
  V: 10
  d: 8
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dsvgraph.Model:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    Path("own.yaml").write_text(OWN)
    return dsvgraph.load("own.yaml", {"d": 16})


def test_config(model: dsvgraph.Model) -> None:
    found = {o.name: (o.value, str(o.span), [(s.text, str(s)) for s in o.overridden]) for o in config_origins(model)}
    assert found == {
        "d": ("16", "--set:1:3", [("8", "own.yaml:4:6"), ("4", "base.yaml:1:13")]),
        "V": ("10", "own.yaml:3:6", [("9", "base.yaml:1:19")]),
        "wide": ("48", "base.yaml:1:28", []),
    }


def test_arguments(model: dsvgraph.Model) -> None:
    calls = {call.line: call for call in argument_origins(model)}
    assert list(calls) == ["own > y", "layer > h", "layer > y"]
    how = {
        line: {o.name: (o.value, o.how, [s.text for s in o.overridden]) for o in c.arguments}
        for line, c in calls.items()
    }
    assert how["layer > h"] == {
        "d": ("16", "config", []),
        "wide": ("48", "config", ["2 * d"]),
        "bias": ("true", "block", ["false"]),
    }
    assert how["layer > y"]["wide"] == ("5", "line", ["3 * d", "2 * d"])
    assert {c.block for c in calls.values()} == {"ff", "layer"}
