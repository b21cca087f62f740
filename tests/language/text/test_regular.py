"""What is read without ruamel.yaml is what ruamel.yaml reads: the same events at the same places, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml.error import YAMLError

from dsvgraph import loader
from dsvgraph.loader import regular
from dsvgraph.loader.events import Event, EventKind, translated
from dsvgraph.loader.scan import yaml

BUNDLED = sorted(loader.bundled().rglob("*.yaml"))
OTHERS = sorted(Path(__file__).parents[2].rglob("*.yaml"))  # good and bad ones
TEXTS = [text for path in BUNDLED + OTHERS if "node_modules" not in path.parts if (text := path.read_text("utf-8"))]

PARTS = [  # of texts: what is regular, what is not, and what is no YAML
    "a", "b: ", "- ", "-", "\n", "\n  ", "\n    ", " ", "{", "}", "[", "]", ", ", ",", ": ", ":", "#", " # c", "'",
    '"', "'x'", '"y"', r'"\n\"\\ \ud83d\ude00 \/"', r'"\x41"', "''", '""', ">-\n", ">\n", "|\n", "|-\n", "two words",
    "-1", "1e-6", "~", "&a ", "*a", "!t ", "? ", "%", "@", "`", "---\n", "...", "\t", "\r", "\r\n", "\u2028", "\x85",
    "\xa0", "é", "\ufeff", "\x07", "\\", "**", "<<: ", "a: 1\n", "b:\n", "c: [1, 2]\n", "d: {e: f}\n",
    "k:\n- x\n- y\n", "k:\n  - x\n  - y: 1\n    z: 2\n", "   \n", "\n\n", "t: >-\n  some\n  text\n",
    "t: |\n    some\n    text\n\n", '"q": {a, b: c, }\n', "# note\n", "  # note\n",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A piece of a text from the repository, with parts of other texts in places of its own."""
    lines = draw(st.sampled_from(TEXTS)).split("\n")
    begin = draw(st.integers(0, len(lines) - 1))
    text = "\n".join(lines[begin : begin + draw(st.integers(1, 12))])
    for part in draw(st.lists(st.sampled_from(["", *PARTS]), max_size=3)):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + part + text[place + draw(st.integers(0, 2)) :]
    return text


def ruamel(text: str) -> list[Event] | str:
    try:
        return [event for event in translated(yaml().parse(text)) if event.kind is not EventKind.DOCUMENT]
    except (YAMLError, ValueError, AssertionError) as error:
        return f"not YAML: {error}"


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join) | damaged())
@example("k" * 990 + ": 1")
@example("{" + "k" * 1100 + ": 1}")
@example("a: " + "[" * 30 + "]" * 30)
@example("- " * 19 + "a")
@example("- " * 1000 + "a")
@example("a: b\n  c\n")
@example("a: >-\n  b\n\n  c\n")
@example("a: >-\n  b\n   c\n")
@example("a: |\n  b\n   ")
@settings(max_examples=400, deadline=None)
def test_random_texts_have_the_same_events(text: str) -> None:
    events = regular.events(text)
    assert events is None or events == ruamel(text)


@pytest.mark.parametrize("text", TEXTS)
def test_the_texts_of_the_repository_have_the_same_events(text: str) -> None:
    events = regular.events(text)
    assert events is None or events == ruamel(text)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_what_is_bundled_is_regular(path: Path) -> None:
    """Else it would be read ten times more slowly, which nobody would notice."""
    assert regular.events(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# c\n",
        "a: &b 1\n",
        "a: !t 1\n",
        "a: b\n---\nc: d\n",
        "a:\tb\n",
        "a: b\r\n",
        "a: [b\n",
        "a: 'b\n",
        "a\n",
        "? a\n",
    ],
)
def test_everything_else_is_left_to_ruamel(text: str) -> None:
    assert regular.events(text) is None
