"""Tabs in YAML 1.2: they separate as blanks do, stand inside of texts, and never indent."""

from __future__ import annotations

from typing import Any

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.loader import parse
from dsvgraph.passes.text.layout import layout

READ: dict[str, Any] = {  # judged by the package `yaml` of JavaScript, which passes the YAML test suite
    "a:\tb\n": {"a": "b"},
    "a:\t\tb\t\nc: d\n": {"a": "b", "c": "d"},
    "a\t: b\n": {"a": "b"},
    "a: b\t# c\nd: e\n": {"a": "b", "d": "e"},
    "a:\t# c\n  b: c\n": {"a": {"b": "c"}},
    "{a:\t1,\tb:\t2}\n": {"a": 1, "b": 2},
    "a: x\ty\n": {"a": "x\ty"},
    "a: x\n  \ty\nb: c\n": {"a": "x y", "b": "c"},
    "a: |\t# c\n  x\ty\n": {"a": "x\ty\n"},
    "a: >-\t\n  x\n": {"a": "x"},
    "a: |2-\t\n   x\nb: c\n": {"a": " x", "b": "c"},
    "\t\na: b\n": {"a": "b"},
    "  \t# c\na: b\n": {"a": "b"},
    "a: b\n\t\n \t \nc: d\n": {"a": "b", "c": "d"},
    "a: b\n\t# c\nc: d\n": {"a": "b", "c": "d"},
    "-\ta\n-\tb\n": ["a", "b"],
    'a: "x\ty"\n': {"a": "x\ty"},
    "a: 'x\n \ty'\n": {"a": "x y"},
    "a: &x\tb\nc:\t*x\n": {"a": "b", "c": "b"},
    "? a\t\n:\tb\n": {"a": "b"},
    "a:\t[x,\ty]\t# e\n": {"a": ["x", "y"]},
}
MARGINS = [  # a tab before the first word of a line
    "a:\n\tb: c\n", "a:\n  \tb: c\n", "a:\n  b: c\n\td: e\n", "a:\n  b: c\n  \td: e\n", "\ta: b\n", "a:\n\t- b\n",
]  # fmt: skip
BETWEEN = ["a:\t- b\n", "-\t- a\n", "-\ta: b\n"]


@pytest.mark.parametrize("text", READ)
def test_a_tab_separates(text: str) -> None:
    assert parse(text).data == READ[text]


@pytest.mark.parametrize("text", [*MARGINS, *BETWEEN])
def test_a_tab_indents_nothing(text: str) -> None:
    with pytest.raises(DsvError) as caught:
        parse(text)
    (found,) = caught.value.diagnostics
    assert (found.hint == "indent with spaces, never with tabs") == (text in MARGINS)


def test_a_spec_with_tabs_is_read_and_laid_out() -> None:
    """A tab between values is a blank, for the formatter too; inside a text it stays."""
    graph = 'graph:\n  in: {ids: "int[B, T]"}\n  body:\n    x: {embedding: ids, num: 8, dim: 4}\n  out: x  # c\n'
    blanks = f"name: t\n{graph}"
    tabs = blanks.replace(": ", ":\t").replace(", ", ",\t").replace("B,\tT", "B, T").replace("  #", "\t#")
    assert tabs.count("\t") == 11
    assert parse(tabs).data == parse(blanks).data
    assert layout(tabs) == layout(blanks)
    assert dsvgraph.loads(tabs).name == "t"
