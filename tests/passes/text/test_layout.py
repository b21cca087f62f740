"""The canonical style: data, comments and anchors stay, and doing it again changes nothing."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.graph.signature import signature
from dsvgraph.loader import bundled, parse
from dsvgraph.passes.text.layout import layout

HERE = Path(__file__).parents[1]
BUNDLED = sorted(bundled().rglob("*.yaml"))
SHORT = [path for path in BUNDLED if path.stat().st_size < 3000]
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
LONG = " ".join(["word"] * 38)


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
        ("a: |\n    two\n    lines # none\nb: 1e-6\n", "a: |\n  two\n  lines # none\nb: 1e-6\n"),
        ("a: |+\n  two\n\n\nb: 1\n", 'a: "two\\n\\n\\n"\n\nb: 1\n'),
        ("a: >\n  one\n  two\n\n  three\n", "a: >\n  one two\n\n  three\n"),
        (f"doc: {LONG}\n", f"doc: >-\n  {LONG[:94]}\n  {LONG[95:]}\n"),
        (f"b: {LONG}\n", f"b: {LONG}\n"),  # an expression may be long
        (
            "a:\n- b: 1\n  c: 2\n-\n  - d # e\n",
            "a:\n  - b: 1\n    c: 2\n  - - d                                    # e\n",
        ),
        ("a: [{b: 1, #c\n d: 2} #e\n]\n", "a:\n  #e\n  - b: 1                                   #c\n    d: 2\n"),
        ("a: [b:, -, #c\n 1]\n", 'a:\n  - "b:"\n  - "-"                                    #c\n  - 1\n'),
        ("a:\n  :-b: 1\n  c: ?d\n", 'a:\n  ":-b": 1\n  c: "?d"\n'),
        ("a: {b: 'c'}#d\n", "a: {b: c}                                  #d\n"),
        ("a: # b\n  'c' # d\n", "# b\na: c                                       # d\n"),
        ("\ufeffa: 'b#c' # d\n", "a: b#c                                     # d\n"),
        ("a:\n  - 7\n  # b\n# c\n", "a:\n  - 7\n  # b\n# c\n"),
        ("a: >-\n  short\n\n\nb: no\n", "a: short\n\nb: no\n"),
        ("a: 'no'\nb: 'null'\nc: '1e-6'\n", 'a: no\nb: "null"\nc: "1e-6"\n'),
        ("a: {b, c: 1, d: null}\n", "a: {b, c: 1, d: null}\n"),
        ("a: {'b, c', d: 1}\n", 'a: {"b, c", d: 1}\n'),
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


def is_whole(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return "graph:" in text and "extends:" not in text


@pytest.mark.parametrize("path", [path for path in [*OTHERS, *BUNDLED] if is_whole(path)], ids=lambda p: p.stem)
def test_the_graph_stays(path):
    text = path.read_text(encoding="utf-8")
    assert signature(dsvgraph.loads(layout(text))) == signature(dsvgraph.loads(text))


def comments(text: str) -> Counter[str]:
    return Counter(re.findall(r"#mark\w+", text))


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


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([*SHORT, *OTHERS]), st.randoms(use_true_random=False))
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


def dumped(data: object, flow: bool | None, style: str | None) -> str:
    """The data as a YAML library writes it: anchors for what comes twice, block scalars, lists without indentation."""
    yaml, out = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style, yaml.default_style, yaml.width = flow, style, 30
    yaml.dump([data, data] if flow is None else data, out)
    return out.getvalue()


STYLES = [
    lambda data: json.dumps(data, ensure_ascii=chr(0x7F) in str(data)),
    lambda data: json.dumps(data, indent=2, ensure_ascii=False).replace("\n", "\r\n"),
    lambda data: dumped(data, False, None),
    lambda data: dumped(data, True, None),
    lambda data: dumped({"a": data, "b": data}, False, "|").replace("!!null ", ""),
    lambda data: dumped(data, None, "'"),
]


def marked(text: str, chance: random.Random) -> str:
    """The text with comments between the parser's tokens, wherever one may stand; some with no space before."""
    want = repr(parse(text).data)
    for number in range(chance.randint(0, 4)):
        token = chance.choice(list(YAML(typ="safe", pure=True).scan(text)))
        at = chance.choice([token.start_mark.index, token.end_mark.index])
        before, after = chance.choice(["", " ", "\n", "\n\n  "]), chance.choice(["\n", "\n   ", "\n\n    "])
        found = f"{text[:at]}{before}#mark{number} {after}{text[at:]}"
        with suppress(DsvError):  # no comment may stand there
            text = found if repr(parse(found).data) == want else text
    return text


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), VALUES, min_size=1), st.sampled_from(STYLES), st.randoms())
def test_any_data_stays(data, style, chance):
    try:
        text = marked(style(data), chance)
    except DsvError:
        return  # the loader's limits: no control characters, ...
    found = layout(text)
    assert repr(parse(found).data) == repr(parse(text).data)
    assert layout(found) == found
    assert comments(found) == comments(text)
