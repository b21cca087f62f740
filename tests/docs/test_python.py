"""docs/python.md and docs/architecture.md are sessions of Python: they are run, and print what they say."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pages
import pytest

import dsvgraph

PYTHON = (pages.DOCS / "python.md").read_text(encoding="utf-8")
ARCHITECTURE = (pages.DOCS / "architecture.md").read_text(encoding="utf-8")
ROOT = pages.DOCS.parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(page: str, text: str) -> None:
    """Run the sessions of a page one after the other, as one program; fail where an output is another."""
    plain = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)  # a fence would be read as the end of an output
    test = doctest.DocTestParser().get_doctest(plain, {}, page, page, 0)
    found: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=found.append)
    assert result.attempted > 5 and not result.failed, "".join(found)


def test_the_python_page_is_true(folder: Path) -> None:
    pytest.importorskip("torch")
    run("python.md", PYTHON)


def test_the_walk_of_a_line_is_true(folder: Path) -> None:
    pytest.importorskip("torch")
    run("architecture.md", ARCHITECTURE)


def test_every_public_name_is_documented() -> None:
    names = set(re.findall(r"`(?:dsvgraph\.)?(\w+)(?:\(.*?\))?`", PYTHON))
    assert set(dsvgraph.__all__) <= names
    assert {n for n in dir(dsvgraph) if not n.startswith("_")} >= set(dsvgraph.__all__)


def test_the_picture_of_the_architecture_has_every_folder() -> None:
    """The DOT names the rooms of passes and the backends that there are; the SVG holds the words of the DOT."""
    dot = (pages.DOCS / "images/architecture.dot").read_text(encoding="utf-8")
    svg = (pages.DOCS / "images/architecture.svg").read_text(encoding="utf-8")
    rooms = [p.parent.name for p in (ROOT / "dsvgraph/passes").glob("*/__init__.py")]
    backends = [p.parent.name.removeprefix("dsvgraph_") for p in (ROOT / "backends").glob("*/__init__.py")]
    listed = re.findall(r'<tr><td align="left"><b>(\w+)</b>', dot)
    assert sorted(listed) == sorted(rooms + backends)
    words = [word.strip() for label in re.findall(r"label=<(<table.*?</table>)>\]", dot, re.DOTALL) for word in
             re.findall(r">([^<>]+)<", label)]  # fmt: skip
    assert len(words) > 40 and [word for word in words if word and word not in svg] == []


@pytest.mark.parametrize("page", ["architecture.md", "python.md"])
def test_paths_in_a_page_exist(page: str) -> None:
    text = (pages.DOCS / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:dsvgraph|backends|tests|specs|docs|examples|benchmarks)/[\w./]*)`", text)
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links and [p for p in paths if not (ROOT / p).exists()] == []
    assert [link for link in links if not (pages.DOCS / link).exists()] == []
