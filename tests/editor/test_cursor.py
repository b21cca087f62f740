"""The path of the cursor in incomplete text, and requests about broken texts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="of the extra `lsp`")

from client import cursor

from dsvgraph.loader import bundled
from dsvgraph_lsp.completion import completion
from dsvgraph_lsp.cursor import cursor_at
from dsvgraph_lsp.definition import definition
from dsvgraph_lsp.diagnostics import diagnostics
from dsvgraph_lsp.hover import hover
from dsvgraph_lsp.scope import Scope
from dsvgraph_lsp.symbols import symbols
from dsvgraph_lsp.workspace import Workspace, check_document

TEXT = """
doc: >-
  prose with a: colon, {braces and
  # no comment
include: [blocks/mla.yaml, blocks/mlp.yaml]
blocks:
  mine:
    args:
      a:
      b: {c: d
    in: {x: "[B, T]"}
    body:
      q: {linear: x, out: [a, b + c]}
      r:
        router: x
        experts: n
graph:
  body:
    embed: {embedding: ids, num: 256}
    %s
  out: {logits: head}
"""
BODY = ("graph", "body")


@pytest.mark.parametrize(
    ("line", "path", "is_key"),
    [
        ("|", BODY, True),
        ("he|", BODY, True),
        ("he|ad: {linear: embed}", BODY, True),
        ("head: |", (*BODY, "head"), False),
        ("head: {|", (*BODY, "head"), True),
        ("head: {li|near: embed}", (*BODY, "head"), True),
        ("head: {linear: |", (*BODY, "head", "linear"), False),
        ("head: {linear: em|bed, out: 3}", (*BODY, "head", "linear"), False),
        ('head: {linear: "em|bed", out: 3}', (*BODY, "head", "linear"), False),
        ("head: {linear: embed, o|", (*BODY, "head"), True),
        ("head: {linear: embed, out: [a, |", (*BODY, "head", "out", 1), False),
        ("head: {attention: {q: embed, k|", (*BODY, "head", "attention"), True),
        ("head: {attention: {q: embed, k: e|", (*BODY, "head", "attention", "k"), False),
        ("head: {add: [embed, |]}", (*BODY, "head", "add", 1), False),
        ("head: {linear: embed,\n      out: |}", (*BODY, "head", "out"), False),
        ("head:\n      |", (*BODY, "head"), True),
        ("head:\n      linear: embed\n      out: d|", (*BODY, "head", "out"), False),
        ("head:\n      concat:\n      - a\n      - b|", (*BODY, "head", "concat", 1), False),
        ("head: {linear: embed} # {a: [\n    next: {|", (*BODY, "next"), True),
        ("head: {linear: embed\n    next: {|", (*BODY, "next"), True),  # braces that nobody closed
        ("\n|", (), True),
    ],
)
def test_path(line, path, is_key):
    text, row, column = cursor(TEXT % line)
    found = cursor_at(text, row, column)
    assert (found.path, found.is_key) == (path, is_key)


@pytest.mark.parametrize(
    ("before", "path", "is_key"),
    [
        ("prose with a", ("doc",), False),
        ("# no com", ("doc",), False),
        ("include: [bl", ("include", 0), False),
        ("{c: d", ("blocks", "mine", "args", "b", "c"), False),
        ("a, b +", ("blocks", "mine", "body", "q", "out", 1), False),
        ("experts: n", ("blocks", "mine", "body", "r", "experts"), False),
        ("{logits: he", ("graph", "out", "logits"), False),
    ],
)
def test_path_elsewhere(before, path, is_key):
    text = TEXT % ""
    end = text.index(before) + len(before)
    found = cursor_at(text, text.count("\n", 0, end), end - text.rfind("\n", 0, end) - 1)
    assert (found.path, found.is_key) == (path, is_key)


def test_what_stands_above():
    text, row, column = cursor(TEXT % "head: {linear: embed, |")
    found = cursor_at(text, row, column)
    assert found.siblings == ("linear",)
    assert found.keys_before[BODY] == ("embed", "head")


@pytest.mark.parametrize("seed", range(20))
def test_broken_texts_are_answered(seed, tmp_path):
    """Every request about a bundled spec that was cut or mixed up is answered without an internal error."""
    rng = random.Random(seed)
    good = rng.choice(sorted(bundled().rglob("*.yaml")))
    path, text = tmp_path.resolve() / "a.yaml", good.read_text(encoding="utf-8")
    workspace = Workspace()
    for whole in (text, broken(text, rng)):
        workspace.texts[path] = whole
        workspace.update(check_document(path, workspace.texts))
    document = workspace.documents[path]
    assert [
        diagnostic.message for diagnostic in diagnostics(document) if "please report it" in diagnostic.message
    ] == []
    lines = whole.split("\n")
    for _ in range(12):
        row = rng.randrange(len(lines))
        scope = Scope(workspace, path, cursor_at(whole, row, rng.randint(0, len(lines[row]))))
        for answer in (completion, hover, definition):
            answer(scope)
    doc = workspace.doc(path)
    assert doc is None or isinstance(symbols(doc), list)


def broken(text: str, rng: random.Random) -> str:
    """``text`` with a few pieces dropped, doubled or put elsewhere."""
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randrange(len(text)) for _ in range(2))
        piece, b = text[a : a + 40], min(b, a + 40)
        at = rng.randrange(len(text))
        text = rng.choice([text[:a] + text[b:], text[:at] + piece + text[at:], text[: max(a, 1)]])
    return text


def test_an_internal_error_is_one_diagnostic(tmp_path, monkeypatch):
    path = Path(tmp_path).resolve() / "a.yaml"
    monkeypatch.setattr("dsvgraph_lsp.workspace.read_open", lambda *_: 1 // 0)
    (diagnostic,) = diagnostics(check_document(path, {path: "graph: {}"}))
    assert "please report it" in diagnostic.message
