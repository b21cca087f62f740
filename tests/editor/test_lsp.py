"""The language server over its protocol: errors as one types, definition, hover, completion, outline, layout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="the server is built on pygls, of the extra `lsp`")

from client import Editor, cursor
from lsprotocol import types as lsp

from dsvgraph.loader import bundled

BASE = """
config: {d: 8, unused: 3}
graph:
  in: {ids: "int[B, T]"}
  body: {e: {embedding: ids, num: 16, dim: d}}
  out: e
"""
LIBRARY = """
blocks:
  wide:
    doc: Twice as wide.
    args: {d: , factor: 2, inner: narrow}
    in: {x: [B, T, d]}
    body:
      up:   {linear: x, out: d * factor}
      halves: {split: up, into: {left: d, right: d}}
      down: {inner: halves.left}
    out: {y: down, rest: halves.right}
  narrow:
    args: {d: }
    in: {x: [B, T, d]}
    body: {y: {linear: x, out: d}}
    out: {x: y}
"""
SPEC = """
include: [library.yaml]
config:
  d: 8
  wider: d * 2
graph:
  in:
    ids: int[B, T]
  body:
    embed:  {embedding: ids, num: 256, dim: d}
    layers: {narrow: embed, repeat: 3}
    both:   {wide: layers}
    %s
  out: {logits: head}
loss:
  next: {cross_entropy: logits, target: ids, shift: 1, weight: 1 / wider}
"""
HEAD = "head: {add: [both, both.rest]}"


@pytest.fixture(scope="module")
def editor(tmp_path_factory) -> Iterator[Editor]:
    folder = tmp_path_factory.mktemp("specs").resolve()
    (folder / "library.yaml").write_text(LIBRARY)
    (folder / "base.yaml").write_text(BASE)
    opened = Editor(folder, sys.executable, "-m", "dsvgraph", "lsp", options={"pause": 0.01})
    opened.open("a.yaml", SPEC % HEAD)
    opened.open("b.yaml", SPEC % HEAD)
    yield opened
    opened.close()


def underlined(text: str, found: lsp.Range) -> str:
    """The text of a range, counted as the protocol does."""
    assert found.start.line == found.end.line
    line = text.split("\n")[found.start.line].encode("utf-16-le")
    return line[found.start.character * 2 : found.end.character * 2].decode("utf-16-le")


# -- diagnostics --------------------------------------------------------------------------------


def test_a_mistake_comes_and_goes(editor):
    assert editor.type("a.yaml", SPEC % HEAD) == []
    wrong = SPEC % HEAD.replace("both.rest", "both.rst")
    (found,) = editor.type("a.yaml", wrong)
    assert underlined(wrong, found.range) == "both.rst"
    assert "there is no port `rst` on `both`" in found.message
    assert "did you mean `rest`?" in found.message
    assert (found.severity, found.source) == (lsp.DiagnosticSeverity.Error, "dsvgraph")
    assert editor.type("a.yaml", SPEC % HEAD) == []


def test_a_code_and_a_fix(editor):
    wrong = SPEC % HEAD.replace("both.rest", "both.rst")
    (found,) = editor.type("a.yaml", wrong)
    assert found.code == "E0302"
    (action,) = editor.fixes("a.yaml", found)
    ((uri, (edit,)),) = action.edit.changes.items()
    assert (uri, action.title, edit.new_text) == (editor.uri("a.yaml"), "Write `rest`", "rest")
    assert underlined(wrong, edit.range) == "rst"
    (found,) = editor.type("a.yaml", SPEC % HEAD.replace("add:", "softmax2:"))
    assert editor.fixes("a.yaml", found) == []
    editor.type("a.yaml", SPEC % HEAD)


def test_the_last_text_counts(editor):
    for end in range(len(HEAD)):
        editor.send("a.yaml", SPEC % HEAD[:end])
    assert editor.type("a.yaml", SPEC % HEAD) == []
    for end in range(len(HEAD)):
        editor.send("a.yaml", SPEC % HEAD[:end])
    assert editor.type("a.yaml", SPEC % HEAD[:-1]) != []


def test_every_mistake_is_told(editor):
    wrong = (SPEC % HEAD).replace("embedding: ids", "embedding: idz").replace("d * 2", "dd * 2")
    found = editor.type("a.yaml", wrong)
    assert [underlined(wrong, d.range) for d in found] == ["dd * 2", "idz"]
    wrong = (SPEC % HEAD).replace("embedding: ids", "embedding: idz").replace("target: ids", "target: idz")
    found = editor.type("a.yaml", wrong)
    assert [underlined(wrong, d.range) for d in found] == ["idz", "idz"]


def test_columns_are_utf_16(editor):
    line = 'graph: {doc: "🦊🦊", in: {ids: "int[B, T]"}, body: {e: {embedding: idz, num: 4, dim: 4}}, out: e}\n'
    (found,) = editor.open("fox.yaml", line)
    assert underlined(line, found.range) == "idz"
    assert editor.type("fox.yaml", line.replace("idz", "ids")) == []
    text, *where = cursor(line.replace("embedding: idz", "embedding: i|ds"))
    assert "int[B, T]" in editor.words("fox.yaml", *where)
    where = editor.ask("definition", "fox.yaml", *where)
    assert underlined(text, where.range) == "ids"
    text, *where = cursor(line.replace("embedding: idz", "embedding: |"))
    editor.send("fox.yaml", text)
    (item,) = editor.items("fox.yaml", *where)
    assert (item.label, item.text_edit.range.start.character) == ("ids", where[1])


def test_columns_are_what_the_editor_asks_for(tmp_path):
    line = 'graph: {doc: "🦊é", in: {ids: "int[B, T]"}, body: {e: {embedding: idz, num: 4, dim: 4}}, out: e}\n'
    asked = [lsp.PositionEncodingKind.Utf8]
    other = Editor(tmp_path, sys.executable, "-m", "dsvgraph", "lsp", "--stdio", encodings=asked)
    assert other.server.position_encoding == asked[0]
    (found,) = other.open("fox.yaml", line)
    assert line.encode()[found.range.start.character : found.range.end.character] == b"idz"
    other.close()


def test_warnings(editor):
    (found,) = editor.open("warned.yaml", BASE)
    assert found.severity == lsp.DiagnosticSeverity.Warning
    assert underlined(BASE, found.range) == "3"
    assert "nothing uses the config value `unused`" in found.message


def test_errors_inside_a_block_stand_at_the_call(editor):
    wrong = (SPEC % HEAD).replace("{wide: layers}", "{wide: layers, factor: 3}")
    (found,) = editor.type("a.yaml", wrong)
    assert underlined(wrong, found.range) == "both"
    assert "library.yaml:9" in found.message
    first = found.related_information[0].location
    assert (first.uri, underlined(LIBRARY, first.range)) == (editor.uri("library.yaml"), "halves")


def test_errors_of_an_included_file_stand_at_the_include(editor):
    (editor.folder / "broken.yaml").write_text("blocks:\n  wide: {in: {x: [B]}, bdy: {}, out: y}\n")
    text = (SPEC % HEAD).replace("library", "broken")
    (found,) = editor.type("a.yaml", text)
    assert underlined(text, found.range) == "broken.yaml"
    assert "unknown key `bdy`" in found.message
    near = found.related_information[0]
    assert (near.location.uri, near.location.range.start.line) == (editor.uri("broken.yaml"), 1)


def test_unsaved_texts_of_included_files_count(editor):
    assert editor.type("a.yaml", SPEC % HEAD) == []
    unsaved = LIBRARY.replace("rest: halves.right", "rest: halves.rght")
    (there,) = editor.open("library.yaml", unsaved)  # told in the library, by the spec that reads it
    assert underlined(unsaved, there.range) == "halves.rght"
    (here,) = editor.hear_next("a.yaml")
    assert underlined(SPEC % HEAD, here.range) == "both"
    editor.shut("library.yaml")  # what is on disk counts again
    assert editor.hear_next("a.yaml") == []


def test_files_on_disk_change_too(editor):
    text = (SPEC % HEAD).replace("library", "moved")
    (found,) = editor.open("c.yaml", text)
    assert "there is no spec `moved.yaml`" in found.message
    (editor.folder / "moved.yaml").write_text(LIBRARY)
    assert editor.watched == ["**/*.{yaml,yml}"]
    change = lsp.FileEvent(editor.uri("moved.yaml"), lsp.FileChangeType.Created)
    editor.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([change]))
    assert editor.hear_next("c.yaml") == []
    editor.shut("c.yaml")


def test_a_library_alone_is_no_mistake(editor):
    (editor.folder / "other.yaml").write_text(LIBRARY)
    assert editor.open("other.yaml", LIBRARY) == []
    (found,) = editor.type("other.yaml", LIBRARY.replace("out: {x: y}", "oot: {x: y}"))
    assert "unknown key `oot`" in found.message
    editor.shut("other.yaml")
    assert editor.hear_next("other.yaml") == []


def test_extends_is_resolved_near_the_file(editor):
    text = "extends: base.yaml\nconfig: {d: 16}\n"
    assert editor.open("own.yaml", text) == []  # what the base does not use is told in the base
    words = editor.words("own.yaml", 1, 9)
    assert "**d**: `16`" in words
    assert "set in [own.yaml:2]" in words
    assert "overrides [base.yaml:2]" in words
    found = editor.ask("definition", "own.yaml", 1, 9)
    assert (found.uri, underlined(BASE, found.range)) == (editor.uri("base.yaml"), "8")
    assert [i.detail for i in editor.items("own.yaml", 1, 9) if i.label == "unused"] == ["3, of base.yaml"]


# -- definition ---------------------------------------------------------------------------------

HERE, THERE = "b.yaml", "library.yaml"


@pytest.mark.parametrize(
    ("line", "file", "target"),
    [
        ("head: {add: [bo|th, both.rest]}", HERE, "both:"),
        ("head: {add: [both, both.re|st]}", THERE, "rest: halves"),
        ("head: {linear: both, weight: embed.wei|ght}", HERE, "embed:"),
        ("head: {add: [id|s, both]}", HERE, "ids: int"),
        ("head: {wi|de: both}", THERE, "wide:"),
        ("head: {wide: both, fac|tor: 4}", THERE, "factor: 2"),
        ("head: {wide: {|x: both}}", THERE, "x: [B"),
        ("head: {wide: both, inner: narr|ow}", THERE, "narrow:"),
        ("head: {linear: both, out: wid|er + 1}", HERE, "d * 2"),
        ("head: {lin|ear: both, out: 3}", HERE, None),
    ],
)
def test_definition(line, file, target, editor):
    text, *where = cursor(SPEC % line)
    editor.send("b.yaml", text)
    found = editor.ask("definition", "b.yaml", *where)
    if target is None:
        assert found is None
        return
    assert found.uri == editor.uri(file)
    start = found.range.start
    assert {HERE: text, THERE: LIBRARY}[file].split("\n")[start.line][start.character :].startswith(target)


@pytest.mark.parametrize(
    ("old", "marked", "file", "target"),
    [
        ("{logits: head}", "{logits: he|ad}", HERE, "head:"),
        ("cross_entropy: logits", "cross_entropy: log|its", HERE, "logits: head"),
        ("target: ids", "target: i|ds", HERE, "ids: int"),
        ("1 / wider", "1 / wi|der", HERE, "d * 2"),
        ("[library", "[libr|ary", THERE, ""),
        ("wider: d", "wider: |d", HERE, "8"),
    ],
)
def test_definition_outside_of_lines(old, marked, file, target, editor):
    text, *where = cursor((SPEC % HEAD).replace(old, marked))
    editor.send("b.yaml", text)
    found = editor.ask("definition", "b.yaml", *where)
    assert found.uri == editor.uri(file)
    start = found.range.start
    assert {HERE: text, THERE: LIBRARY}[file].split("\n")[start.line][start.character :].startswith(target)


def test_definition_inside_a_library(editor):
    text, *where = cursor(LIBRARY.replace("out: d * factor", "out: d * fac|tor"))
    editor.show("library.yaml", text)
    found = editor.ask("definition", "library.yaml", *where)
    assert text.split("\n")[found.range.start.line][found.range.start.character :].startswith("factor: 2")
    text, *where = cursor(LIBRARY.replace("down: {inner", "down: {inn|er"))
    editor.send("library.yaml", text)
    found = editor.ask("definition", "library.yaml", *where)
    assert text.split("\n")[found.range.start.line][found.range.start.character :].startswith("inner: narrow")
    editor.shut("library.yaml")


# -- hover --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (  # a line: shapes, weights, parameters, FLOPs, path
            "he|ad: {linear: both, out: wider, at: lm.head}",
            [
                "**head**: `linear`", "out `y` `[B, T, wider]` = `[B, T, 16]`",
                "weight `weight` `[wider, d]` = `[16, 8]`",
                "parameters 128 = `d*wider`", "FLOPs 256 a token", "path `lm.head`",
            ],
        ),
        (
            "head: {linear: lay|ers, out: 3}",
            ["**layers**: `narrow`", "repeat `3` from 0", "parameters 192 = `3*d**2`", "path `layers.[0-2]`"],
        ),
        ("head: {wide: i|ds}", ["**ids**: input `int[B, T]`"]),
        ("head: {lin|ear: both, out: 3}", ["**linear**: op", "y = x weight^T + bias"]),
        ("head: {wi|de: both}", ["block of library.yaml", "Twice as wide.", "`factor: 2`"]),
        ("head: {wide: both, fact|or: 3}", ["argument of `wide`, default `2`"]),
        ("head: {linear: both, contr|act: 1}", ["whole number, at least 1 and at most 8; default `1`"]),
        ("head: {linear: both, out: 3, rep|eat: 1}", ["like a scan"]),
        ("head: {linear: both, out: wi|der}", ["**wider**: `d * 2` = `16`", "set in [b.yaml:5]"]),
    ],
)  # fmt: skip
def test_hover(line, words, editor):
    text, *where = cursor(SPEC % line)
    editor.type("b.yaml", text)
    found = editor.words("b.yaml", *where)
    assert [word for word in words if word not in found] == []


def test_hover_inside_a_block_that_a_spec_calls(editor):
    editor.type("b.yaml", SPEC % HEAD)
    text, *where = cursor(LIBRARY.replace("  up: ", "  u|p: "))
    editor.open("library.yaml", text)
    found = editor.words("library.yaml", *where)
    assert "out `y` `[B, T, 2*d]` = `[B, T, 16]`" in found
    assert "path `both.up`" in found
    editor.shut("library.yaml")


def test_hover_inside_a_block_that_nothing_calls(editor):
    (editor.folder / "lonely.yaml").write_text(LIBRARY)
    text, *where = cursor(LIBRARY.replace("  halves: ", "  hal|ves: "))
    assert editor.open("lonely.yaml", text) == []
    found = editor.words("lonely.yaml", *where)
    assert "out `left` `[B, T, d]`" in found
    assert "FLOPs" not in found


def test_hover_of_the_large_model(editor):
    text = (bundled() / "deepseek_v3.yaml").read_text(encoding="utf-8")
    assert editor.open("deepseek_v3.yaml", text) == []
    row = next(i for i, line in enumerate(text.split("\n")) if line.lstrip().startswith("lm_head:"))
    found = editor.words("deepseek_v3.yaml", row, 6)
    assert "[vocab_size, hidden_size]` = `[129280, 7168]" in found
    assert "parameters 926,679,040" in found  # 129280 x 7168


# -- completion ---------------------------------------------------------------------------------


def labels(editor: Editor, text: str) -> list[str]:
    """What is offered at the mark in a text."""
    text, *where = cursor(text)
    editor.send("b.yaml", text)
    return editor.labels("b.yaml", *where)


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("head: {add: [|", ["both", "layers", "embed", "ids"], ["head", "d"]),
        ("head: {add: [both, bo|", ["both", "layers"], []),
        ("head: {linear: both.|", ["y", "rest", "x"], ["embed"]),
        ("head: {linear: both, weight: embed.|", ["weight", "y"], []),
        ("head: {|", ["linear", "rms_norm", "wide", "narrow"], ["out"]),
        ("head:\n      li|", ["linear", "wide"], ["out"]),
        ("head: {linear: both, |", ["out", "contract", "bias", "repeat", "at"], ["linear", "experts"]),
        ("head:\n      router: both\n      |", ["experts", "top_k"], ["router", "contract"]),
        ("head: {wide: both, |", ["factor", "inner", "d"], ["out"]),
        ("head: {attention: {|", ["q", "k", "v"], []),
        ("head: {attention: {q: both, |", ["k", "v"], ["q"]),
        ("head: {router: both, score: |", ["sigmoid", "softmax"], []),
        ("head: {linear: both, bias: |", ["true", "false"], []),
        ("head: {linear: both, out: wi|", ["wider", "d"], []),
        ("head: {wide: both, inner: |", ["narrow", "wide"], []),
    ],
)
def test_completion(line, offered, not_offered, editor):
    assert editor.type("b.yaml", SPEC % HEAD) == []  # what is known comes from here
    found = labels(editor, SPEC % line)
    assert [name for name in offered if name not in found] == []
    assert [name for name in not_offered if name in found] == []


@pytest.mark.parametrize(
    ("old", "marked", "offered"),
    [
        ("loss:", "|", ["name", "init", "blocks", "trained"]),
        ("[library.yaml]", "[|]", ["library.yaml", "blocks/mla.yaml"]),
        ("cross_entropy: logits, target: ids", "cross_entropy: |", ["logits"]),
        ("target: ids", "target: |", ["ids"]),
        ("cross_entropy: logits, target: ids", "kl: |", ["logits"]),
        ("cross_entropy: logits, target: ids", "kl: logits, against: |", ["logits"]),
        (
            "cross_entropy: logits, target: ids, shift: 1,",
            "total_variation: logits, |",
            ["against", "end_to_end", "sample"],
        ),
        (
            "{cross_entropy: logits, target: ids, shift: 1, weight: 1 / wider}",
            "{|}",
            ["listnet", "smooth_l1", "z_loss"],
        ),
        ("wider: d * 2", "a: {b: 3}\n  wider: d * a.|", ["b"]),
        ("1 / wider", "1 / |", ["wider", "depth", "tokens"]),
        ("\nconfig:", "\npublished: {|}\nconfig:", ["parameters", "active", "source"]),
        ("\nconfig:", "\npublished: {active_counts: |}\nconfig:", ["all", "without_embedding"]),
        ("shift: 1,", "|", ["stride", "weight", "divide"]),
        ("  out: {logits: head}", "  |", ["doc", "cache", "out"]),
    ],
)
def test_completion_outside_of_lines(old, marked, offered, editor):
    assert editor.type("b.yaml", SPEC % HEAD) == []
    found = labels(editor, (SPEC % HEAD).replace(old, marked))
    assert [name for name in offered if name not in found] == []


def test_completion_writes_what_it_says(editor):
    text, *where = cursor(SPEC % "head: {linear: both, ou|}")
    editor.send("b.yaml", text)
    item = next(i for i in editor.items("b.yaml", *where) if i.label == "out")
    assert (underlined(text, item.text_edit.range), item.text_edit.new_text) == ("ou", "out: ")
    text, *where = cursor(SPEC % "head: {add: [both, both.re|]}")
    editor.send("b.yaml", text)
    item = next(i for i in editor.items("b.yaml", *where) if i.label == "rest")
    assert (underlined(text, item.text_edit.range), item.text_edit.new_text) == ("re", "rest")
    assert item.detail == "[B, T, 8]"
    text, *where = cursor(SPEC % "head: {linear: both, out: 2*wi|}")
    editor.send("b.yaml", text)
    item = next(i for i in editor.items("b.yaml", *where) if i.label == "wider")
    assert (underlined(text, item.text_edit.range), item.text_edit.new_text) == ("wi", "wider")
    text, *where = cursor((SPEC % HEAD).replace("library.yaml", "blocks/m|"))
    editor.send("b.yaml", text)
    item = next(i for i in editor.items("b.yaml", *where) if i.label == "blocks/mla.yaml")
    assert (underlined(text, item.text_edit.range), item.text_edit.new_text) == ("blocks/m", "blocks/mla.yaml")


# -- whole files --------------------------------------------------------------------------------


def test_outline(editor):
    editor.type("b.yaml", SPEC % HEAD)
    where = lsp.TextDocumentIdentifier(editor.uri("b.yaml"))
    found = editor.wait(editor.client.text_document_document_symbol_async(lsp.DocumentSymbolParams(where)))
    assert [symbol.name for symbol in found] == ["include", "config", "graph", "loss"]
    graph = found[2]
    assert (graph.range.start.line, graph.range.end.line) == (5, 13)
    body = next(symbol for symbol in graph.children if symbol.name == "body")
    assert [(s.name, s.detail) for s in body.children] == [
        ("embed", "embedding"), ("layers", "narrow"), ("both", "wide"), ("head", "add"),
    ]  # fmt: skip


def layout(editor: Editor, text: str, name: str = "b.yaml") -> str | None:
    """The text as the server lays it out; None where it cannot."""
    editor.send(name, text)
    options = lsp.FormattingOptions(tab_size=2, insert_spaces=True)
    params = lsp.DocumentFormattingParams(lsp.TextDocumentIdentifier(editor.uri(name)), options)
    edits = editor.wait(editor.client.text_document_formatting_async(params))
    if not edits:
        return None if edits is None else text
    (edit,) = edits
    lines = text.split("\n")
    assert (edit.range.start, edit.range.end) == (lsp.Position(0, 0), lsp.Position(len(lines) - 1, len(lines[-1])))
    return edit.new_text


def test_layout(editor):
    found = layout(editor, SPEC % "head:     {add:   [both,both.rest]}   # the end")
    assert "    head:   {add: [both, both.rest]}" in found
    assert "# the end" in found
    assert layout(editor, found) == found
    assert layout(editor, "a: {b") is None


# -- what is no spec ----------------------------------------------------------------------------

HOSTILE = {
    "a list": "[1, 2]",
    "tabs": "config:\n\tb: 1",
    "an alias bomb": "config:\n  a: &a [x, x]\n"
    + "".join(f"  {c}: &{c} [*{b}, *{b}, *{b}]\n" for b, c in zip("abcdefghij", "bcdefghijk")),
    "deep": "config: " + "[" * 1000,
    "large": "config:\n" + "  a: b\n" * 100_000,
    "a tag": "config: {a: !!python/object/apply:os.system [ls]}",
    "a power": BASE.replace("unused: 3", "a: 9 ** 9 ** 9"),
    "control characters": "name: \x00\x1b[2J",
    "files elsewhere": "include: [/etc/passwd, ../../x.yaml]",
    "itself": "extends: strange.yaml",
    "other types": "blocks: [a]\ngraph: {in: 3, body: [], out: {}}\nloss: 3\ninclude: {a: b}\nextends: [1]",
}


def test_hostile_texts_are_answered(editor):
    editor.open("strange.yaml", SPEC)
    for text in HOSTILE.values():
        assert editor.type("strange.yaml", text)
        row = text.count("\n")
        for column in (0, 3, 10_000):
            editor.labels("strange.yaml", row, column)
            editor.words("strange.yaml", row, column)
            editor.ask("definition", "strange.yaml", row + 1, column)
    assert editor.type("a.yaml", SPEC % HEAD) == []  # still there


@pytest.mark.parametrize(
    "text", ["", "- hosts: all\n  tasks: []\n", "name: ci\non: push\njobs: {a: {steps: [{run: make}]}}\n"]
)
def test_other_yaml_is_left_alone(text, editor):
    editor.open("ci.yaml", text)
    assert editor.type("ci.yaml", text + "# more\n") == []
    editor.send("ci.yaml", text + "\n")
    assert bool(editor.labels("ci.yaml", text.count("\n") + 1, 0)) == (not text)
    if text:
        assert layout(editor, text.replace(": ", ":   "), "ci.yaml") is None


@pytest.mark.slow
def test_without_pygls_there_is_a_hint():
    code = (
        "import sys; sys.modules['pygls'] = None; sys.argv = ['dsvgraph', 'lsp']; from dsvgraph.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 1
    assert "pip install 'dsvgraph[lsp]'" in done.stderr
    assert "Traceback" not in done.stderr
