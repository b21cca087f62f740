"""Hostile input is refused at once, and nothing of it reaches the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pace import too_long
from small import model, spec

import dsvgraph
from dsvgraph import DsvError, loader
from dsvgraph.build import builder, state
from dsvgraph.passes.lint.unused import lint
from dsvgraph.passes.text.layout import layout

pytestmark = pytest.mark.usefixtures("timed")


def refused(action: Callable[[], object]) -> str:
    """The words that ``action`` is refused with, in a second of computing."""
    start = time.process_time()
    with pytest.raises(DsvError) as caught:
        action()
    assert not too_long(time.process_time() - start)
    return str(caught.value)


def deep(inner: bytes) -> bytes:
    return b"[" * 15 + inner + b"]" * 15


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"graph: \x00", "unacceptable character #x0000"),
        (b"\x80\x81", "is not UTF-8 text (line 1, byte 0)"),
        (b"graph: 1\n# \xff", "is not UTF-8 text (line 2, byte 11)"),
        (b"\xff\xfeg\x00r\x00", "is not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00", "unacceptable character"),
        (b"[" * 100_000, "values nest at most 40 deep"),
        (b"{a: " * 37_000, "values nest at most 40 deep"),
        (b"a: " + b"[" * 70_000 + b"]" * 70_000, "values nest at most 40 deep"),
        (b"a: b" + b"\n" * 140_000, "has more than 10,000 lines"),
        (b"- " * 70_000, "values nest at most 40 deep"),
        (b"? " * 70_000, "a key must be a plain word"),
        (b"a: &a [x]\n" + b"b: [" + b"*a, " * 30_000 + b"]", "more than 5,000 values"),
        (b"".join(b"k%d: v\n" % i for i in range(9_000)), "more than 5,000 values"),
        (b"a: [*b, &b x]", "there is no anchor `&b` before this"),
        (b"a: &a {x: *a}", "there is no anchor `&a` before this"),
        (b"a: &a %b\nb: &b %b\nc: %b" % (deep(b"x"), deep(b"*a"), deep(b"*b")), "values nest at most 40 deep"),
        (b"a: " + b"9" * 5_000, "a number has at most 40 digits"),
        (b"[1]: 2", "a key must be a plain word"),
        (b"'" + b"k" * 300 + b"': 1", "a key is a printable word of at most 200 characters"),
        (b"a: 1\x1b[2J", "unacceptable character"),
        (b'a: "x\\ud800"', "half of a surrogate pair is no character"),
        (b"include: [" + b"gone, " * 4_000 + b"]", "there is no spec `gone`"),
        (b"a: !!python/name:os.system x", "tags such as"),
        (b"%YAML 1.0\n---\na: 1", "this is not YAML: version"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)  # fmt: skip
def test_hostile_files(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(raw)
    assert words in refused(lambda: dsvgraph.load(str(path)))


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    assert "is larger than 150,000 bytes" in refused(lambda: dsvgraph.load(str(path)))


def test_many_files_are_not_read(tmp_path: Path) -> None:
    """Every file includes the next twice."""
    for i in range(30):
        (tmp_path / f"f{i}.yaml").write_text(f"include: [f{i + 1}.yaml, f{i + 1}.yaml]")
    (tmp_path / "f30.yaml").write_text("blocks: {}")
    assert "a spec reads at most 200 files" in refused(lambda: dsvgraph.load(str(tmp_path / "f0.yaml")))


def test_a_chain_of_config_values_ends(tmp_path: Path) -> None:
    chain = ", ".join(f"a{i}: a{i + 1} + 1" for i in range(500))
    text = spec("y: {silu: e}", config="{d: 4, V: 9, a500: 1, " + chain + "}")
    assert "at most 40 deep" in refused(lambda: dsvgraph.loads(text))


def test_blocks_that_open_into_ever_more_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block calls the next twice, each time otherwise."""
    monkeypatch.setattr(state, "MAX_LINES", 100)
    line = "b{0}: {{args: {{n}}, in: {{x: [...]}}, body: {{p: {{b{1}: x, n: 2 * n}}, q: {{b{1}: p, n: -n}}}}, out: q}}"
    blocks = "\n".join(line.format(i, i + 1) for i in range(12))
    blocks += "\nb12: {args: {n}, in: {x: [...]}, body: {p: {times: x, by: n}}, out: p}"
    words = refused(lambda: model("y: {b0: e, n: 1}", blocks=blocks))
    assert "the blocks open into more than 100 distinct lines" in words
    assert words.count("error[") == 1


def test_few_lines_that_open_into_very_many() -> None:
    """Every block calls the next twice, each time the same: what is built once is walked as often as it stands."""
    line = "b{0}: {{in: {{x: [...]}}, body: {{p: {{b{1}: x}}, q: {{b{1}: p}}}}, out: q}}"
    blocks = "\n".join(line.format(i, i + 1) for i in range(25))
    blocks += "\nb25: {in: {x: [...]}, body: {p: {silu: x}}, out: p}"
    words = refused(lambda: model("y: {b0: e}", blocks=blocks))
    assert "the blocks open into more than 20,000 nodes" in words
    assert words.count("error[") == 1


@pytest.mark.parametrize("levels", [31, 33, 200])
def test_deep_calls(levels: int) -> None:
    block = "b{0}: {{in: {{x: [...]}}, body: {{p: {{b{1}: x, repeat: 1, at: a}}}}, out: {{x: p}}}}"
    blocks = "\n".join(block.format(i, i + 1) for i in range(levels))
    blocks += f"\nb{levels}: {{in: {{x: [...]}}, body: {{p: {{silu: x}}}}, out: {{x: p}}}}"
    if levels < builder.MAX_CALLS:
        assert model("y: {b0: e}", blocks=blocks).outputs
    else:
        assert "blocks nest too deep" in refused(lambda: model("y: {b0: e}", blocks=blocks))


def test_many_mistakes_are_cut() -> None:
    body = "\n".join(f"y{i}: {{silo{i}: e}}" for i in range(1200))
    words = refused(lambda: model(body, "e"))
    assert words.count("error[") == 50


def test_long_texts_are_cut() -> None:
    words = refused(lambda: model(f"y: {{silu: {'z' * 100_000}}}"))
    assert max(map(len, words.splitlines())) < 600


@pytest.mark.parametrize("where", ["y: {{silu: '{}'}}", "y: {{'{}': e}}", "y: {{silu: e, at: '{}'}}"])
@pytest.mark.parametrize("hidden", ["\u202e", "\u2028", "\u200b", "\x85"])
def test_nothing_unprintable_is_echoed(where: str, hidden: str) -> None:
    words = refused(lambda: model(where.format(f"a{hidden}b")))
    assert words.replace("\n", "").isprintable()


def test_the_name_of_a_file_is_not_echoed_raw(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m.yaml"
    path.write_text("graph: 1")
    assert "\x1b" not in refused(lambda: dsvgraph.load(str(path)))


def test_equal_texts_are_read_once() -> None:
    assert loader.parse("a: [1]") is loader.parse("a: [1]")


def test_files_together_are_not_too_much(tmp_path: Path) -> None:
    """Each file is within the limits of a file."""
    block = "b{0}: {{in: {{x: [...]}}, body: {{p: {{silu: [{1}]}}}}, out: p}}"
    for i in range(8):
        (tmp_path / f"f{i}.yaml").write_text("blocks:\n  " + block.format(i, "x, " * 4_000))
    (tmp_path / "a.yaml").write_text("include: [" + ", ".join(f"f{i}.yaml" for i in range(8)) + "]")
    assert "6,000 values together" in refused(lambda: dsvgraph.load(str(tmp_path / "a.yaml")))


@pytest.mark.parametrize("name", ["a" * 5_000, "a/" * 3_000, "a\x00b", "\ud800"], ids=["long", "deep", "nul", "half"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    refused(lambda: dsvgraph.load(name))
    (tmp_path / "a.yaml").write_text(f"include: [{json.dumps(name)}]")
    assert max(map(len, refused(lambda: dsvgraph.load(str(tmp_path / "a.yaml"))).splitlines())) < 600


@pytest.mark.parametrize("text", ["", "# nothing\n", "~", "---\n...\n"])
def test_a_file_that_holds_nothing_has_a_place(text: str) -> None:
    with pytest.raises(DsvError) as caught:
        dsvgraph.loads(text)
    (found,) = caught.value.diagnostics
    assert str(found.span).startswith("<spec>:")


@pytest.mark.parametrize(
    "line", ['y: {silu: e, at: "a\\n"}', 'y: {silu: "e\\n"}', 'y: {einsum: [e], equation: "abc->acb\\n"}']
)
def test_a_name_does_not_end_in_a_line_break(line: str) -> None:
    """In a pattern `$` fits before a last line break too."""
    refused(lambda: model(line))


def test_a_layout_keeps_a_last_line_break() -> None:
    text = "doc: >\n  two\n  words\n"
    assert loader.parse(layout(text)).data == {"doc": "two words\n"}


FIRST = ["{ # c\n a: 1}", "--- # c\na: 1", "&a # c\na: 1", "? # c\n  a\n: 1", "{} # c"]


@pytest.mark.parametrize("text", FIRST)
def test_a_layout_keeps_a_comment_before_the_first_key(text: str) -> None:
    found = layout(text)
    assert found.count("# c") == 1
    assert layout(found) == found


def test_a_loss_of_what_is_no_name_beside_another_mistake() -> None:
    with pytest.raises(DsvError) as caught:
        model("y: {silu: nothing}", rest="loss: {a: {cross_entropy: {x: 1}, target: ids}}")
    assert [d.span.line for d in caught.value.diagnostics] == [6, 8]


@pytest.mark.parametrize("text", ["a\n  \n,", "x # c", "|+\n a\n\n"])
def test_a_bare_word_is_left_as_it_is(text: str) -> None:
    assert layout(text) == text


NESTED = """
blocks:
  b0: {in: {x: "[B, T, 4]"}, body: {l: {linear: x, out: 4}}, out: {x: l}}
BLOCKS
graph:
  in: {ids: "int[B, T]"}
  body: {e: {embedding: ids, num: 9, dim: 4}, y: {b6: e, repeat: COUNT}}
  out: {logits: y}
loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
init: {"**": ones, "**.0.**.1.**.2.**": zeros, MORE}
trained: {MORE}
"""


def nested(count: int) -> str:
    """Copies of copies of copies, seven deep, with patterns that name the numbers of many of them."""
    blocks = "\n".join(
        f'  b{i}: {{in: {{x: "[B, T, 4]"}}, body: {{c: {{b{i - 1}: x, repeat: {count}}}}}, out: {{x: c}}}}'
        for i in range(1, 7)
    )
    more = ", ".join(f'"**.{i}.**.c.**": VALUE' for i in range(60))
    text = NESTED.replace("BLOCKS", blocks).replace("COUNT", str(count))
    init, _, trained = text.partition("\ntrained:")
    return (
        init.replace("MORE", more.replace("VALUE", "ones"))
        + "\ntrained:"
        + trained.replace("MORE", more.replace("VALUE", "false"))
    )


def test_copies_of_copies_are_not_walked() -> None:
    words = refused(lambda: dsvgraph.loads(nested(10_000)))
    assert "the copies inside of copies are more than" in words
    start = time.process_time()
    lint(dsvgraph.loads(nested(4)))
    assert not too_long(time.process_time() - start)


def test_an_equation_of_many_letters() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz" * 4_000
    line = f"y: {{einsum: [e], equation: {letters}->a}}"
    assert "E0409" in refused(lambda: model(line))


def test_a_line_of_many_inputs() -> None:
    assert "at most 1,000 inputs, found 4,000" in refused(lambda: model(f"y: {{add: [{', '.join(['x'] * 4_000)}]}}"))
