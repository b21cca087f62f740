"""The canonical style: data, comments and anchors stay, and doing it again changes nothing."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.loader import bundled, parse
from dsvgraph.passes.layout import layout
from dsvgraph.passes.signature import signature

HERE = Path(__file__).parent
BUNDLED = sorted(bundled().rglob("*.yaml"))
OTHERS = sorted((HERE.parent / "specs").glob("*.yaml"))

UGLY = """\

# what this is
name:   'small'   # a name


config: {d: 8 , "vocab" : 256,
         # how many
         layers: 2}
graph:
    in:
        ids: "int[B, T]"
    # the lines
    body:
        embed: {embedding: ids, num: vocab, dim: d}  # first
        head:
            linear: embed
            out:   vocab

        # the end of the body
    out: {logits: head}
loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
# the end
"""
CLEAN = """\
# what this is
name: small                                # a name

config:
  d: 8
  vocab: 256
  # how many
  layers: 2

graph:
  in:
    ids: int[B, T]
  # the lines
  body:
    embed: {embedding: ids, num: vocab, dim: d}  # first
    head:
      linear: embed
      out: vocab

    # the end of the body
  out: {logits: head}

loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
# the end
"""


def test_an_ugly_page_becomes_a_clean_one():
    assert layout(UGLY) == CLEAN


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.relative_to(bundled()).as_posix())
def test_bundled_specs_are_in_the_canonical_style(path):
    text = path.read_text(encoding="utf-8")
    assert layout(text) == text


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", ""),
        ("# only a comment\n", "# only a comment\n"),
        ("a: &x {b: 1}\nc: *x\n", "a: &x {b: 1}\nc: *x\n"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n", "a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n"),
        ("a: '# no comment'  # one\n", 'a: "# no comment"                          # one\n'),
        ("a: x#y\n", "a: x#y\n"),
        ("a:\n- 1\n-   b\n- {c: d}\n", "a:\n  - 1\n  - b\n  - {c: d}\n"),
        ("a: |\n  two\n  lines # none\nb: 1e-6\n", 'a: "two\\nlines # none\\n"\nb: 1e-6\n'),
        ("a: >-\n  short\n\n\nb: no\n", "a: short\n\nb: no\n"),
        ("a: 'no'\nb: 'null'\nc: '1e-6'\n", 'a: no\nb: "null"\nc: "1e-6"\n'),
        ("a: {b, c: 1, d: null}\n", "a: {b, c: 1, d: null}\n"),
        ("a:\r\n  b: 1 # one\r\n", "a:\n  b: 1                                     # one\n"),
        ("a: one\n  two\n", "a: one two\n"),
        ("a:\n  # nothing else\nb: 1\n", "a:\n# nothing else\nb: 1\n"),
        ("[1, 2]\n", "- 1\n- 2\n"),
    ],
)
def test_pieces(text, want):
    assert layout(text) == want


def test_a_line_that_is_too_long_is_opened():
    text = f"loss:\n  a: {{{', '.join(f'word{n}: {n}' for n in range(20))}}}\n"
    assert layout(text).startswith("loss:\n  a:\n    word0: 0\n    word1: 1\n")


def test_what_is_no_yaml_is_told_at_its_place():
    with pytest.raises(DsvError) as error:
        layout("a: [1,\n", "page.yaml")
    assert error.value.diagnostics[0].span.line == 2


@pytest.mark.parametrize("path", [*OTHERS, *BUNDLED], ids=lambda p: p.stem)
def test_the_graph_stays(path):
    text = path.read_text(encoding="utf-8")
    if "graph:" not in text or "extends:" in text:
        pytest.skip("a part of a spec")
    assert signature(dsvgraph.loads(layout(text))) == signature(dsvgraph.loads(text))


def comments(text: str) -> Counter[str]:
    return Counter(word for word in text.split() if word.startswith("#mark"))


def scattered(text: str, chance: random.Random) -> str:
    """The text with comments and blank lines wherever they may stand."""
    lines, found, prose = text.split("\n"), [], 0
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        prose = prose if prose and (indent >= prose or not line.strip()) else 0
        if not prose and chance.random() < 0.2:
            found.append(" " * chance.choice([0, indent, indent + 2]) + f"#mark{number}")
        if not prose and chance.random() < 0.1:
            found += [""] * chance.randint(1, 3)
        beside = bool(line.strip()) and not prose and not set("#>") & set(line) and chance.random() < 0.2
        found.append(line + f" #mark{number}b" * beside)
        prose = indent + 1 if line.endswith(">-") else prose
    return "\n".join(found)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*BUNDLED, *OTHERS]), st.randoms(use_true_random=False))
def test_comments_stay_wherever_they_stand(path, chance):
    text = scattered(path.read_text(encoding="utf-8"), chance)
    found = layout(text)
    assert comments(found) == comments(text)
    assert layout(found) == found
    assert repr(parse(found).data) == repr(parse(text).data)


VALUES = st.recursive(
    st.integers(-9, 9)
    | st.booleans()
    | st.none()
    | st.text(max_size=12)
    | st.sampled_from(["1e-6", "no", "a: b", "#", "-"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab é#:-'\"", min_size=1, max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), VALUES, min_size=1), st.booleans())
def test_any_data_stays(data, opened):
    text = json.dumps(data, indent=2 if opened else None, ensure_ascii=chr(0x7F) in str(data))
    try:
        want = parse(text).data
    except DsvError:
        return  # the loader's limits: no control characters, ...
    assert repr(parse(layout(text)).data) == repr(want)
    assert layout(layout(text)) == layout(text)
