"""Places survive: whichever file, alias, copy or option a mistake comes by, it is told where it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

import dsvgraph
from dsvgraph import DsvError

LIBRARY = """\
blocks:
  inner:
    args: {width}
    in: {x: [..., d]}
    body:
      up: {linear: x, out: width}
      y:  {add: [up, x]}
    out: {x: y}
  outer:
    args: {width}
    in: {x: [..., d]}
    body: {y: {inner: x, repeat: 2}}
    out: {x: y}
"""
BASE = """\
include: [library.yaml]
config:
  d: 4
  width: d
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: 9, dim: d}
    layers: {outer: e, repeat: 3}
    head: {linear: layers, out: 9}
  out: {logits: head}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("library.yaml").write_text(LIBRARY)
    Path("base.yaml").write_text(BASE)


def places(own: str, **settings: object) -> list[list[str]]:
    """Of every mistake: its place, and those of its notes."""
    Path("own.yaml").write_text("extends: base.yaml\n" + own)
    with pytest.raises(DsvError) as caught:
        dsvgraph.load("own.yaml", settings)
    return [[str(d.span), *(str(span) for _, span in d.notes)] for d in caught.value.diagnostics]


INSIDE = ["library.yaml:7:7", "library.yaml:6:7", "library.yaml:4:10"]  # the line, and what it adds
CALLS = ["library.yaml:12:12", "base.yaml:9:5"]


def test_an_error_in_a_block_of_copies_of_a_block_of_copies() -> None:
    assert places("config: {width: 5}") == [[*INSIDE, "own.yaml:2:17", "base.yaml:4:10", *CALLS]]


def test_the_same_by_an_option() -> None:
    assert places("", width=5) == [[*INSIDE, "--set:1:7", "base.yaml:4:10", *CALLS]]


@pytest.mark.parametrize(
    ("own", "settings", "wanted"),
    [
        ("config: {width: 0}", {}, "own.yaml:2:17"),
        ("config: {width: half, half: d / 3}", {}, "own.yaml:2:29"),
        ("config: {d: 0}", {}, "own.yaml:2:13"),
        ("config: {some: &a {w: 0}, width: some.w}", {}, "own.yaml:2:34"),
        ("", {"width": "widht"}, "--set:1:7"),
        ("", {"d": -1}, "--set:1:3"),
        ("blocks: {inner: {in: {x: [..., d]}, body: {y: {sulu: x}}, out: y}}", {}, "own.yaml:2:48"),
        ("loss: {next: {cross_entropy: logits, target: idz}}", {}, "own.yaml:2:46"),
        ('init: {"**": {normal: -1}}', {}, "own.yaml:2:23"),
    ],
)
def test_a_value_is_told_where_it_was_written(own: str, settings: dict[str, object], wanted: str) -> None:
    (found,) = places(own, **settings)
    assert found[0] == wanted


def test_independent_mistakes_of_several_files_are_told_in_order() -> None:
    Path("library.yaml").write_text(LIBRARY.replace("add: [up", "add: [upp"))
    Path("base.yaml").write_text(BASE.replace("linear: layers", "linear: lairs"))
    found = places("init: {gain: {ones: 1}}")
    assert [place[0] for place in found] == ["base.yaml:10:20", "library.yaml:7:18", "own.yaml:2:21"]
