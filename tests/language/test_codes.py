"""Codes of errors: each has a story, whose wrong example gives exactly that code and whose right one none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.codes import Code
from dsvgraph.codes.stories import Example, page, stories
from dsvgraph.passes.lint import lint

STORIES = stories()


def codes(example: Example, others: list[Example], folder: Path) -> list[str]:
    """What a check (or compilation) of an example gives: errors, else warnings."""
    for other in others:
        (folder / other.kind).write_text(other.text, encoding="utf-8")
    text = example.text.encode().replace(rb"\xff", b"\xff")
    (folder / "model.yaml").write_bytes(text)
    settings = dict(o.split("=") for o in example.options if "=" in o)
    try:
        model = dsvgraph.load("model.yaml", {name: int(value) for name, value in settings.items()})
        if "compile" in example.options:
            pytest.importorskip("dsvgraph_torch").compile(model)
    except DsvError as error:
        return [str(d.code) for d in error.diagnostics]
    return [str(d.code) for d in lint(model, "alignment" in example.options)]


@pytest.mark.parametrize("code", STORIES)
def test_examples(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spec"
    folder.mkdir()
    monkeypatch.chdir(folder)
    story = STORIES[code]
    others = [example for example in story.examples if example.kind not in ("wrong", "right")]
    assert codes(story.example("wrong"), others, folder) == [code]
    assert codes(story.example("right"), others, folder) == []


def test_every_code_has_its_story_and_number() -> None:
    assert list(STORIES) == [str(code) for code in Code]
    assert all(re.fullmatch(r"[EW]\d{4}", code) for code in Code)
    assert len({story.title for story in STORIES.values()}) == len(STORIES)


def test_no_code_is_an_alias_of_another() -> None:
    assert len(Code.__members__) == len(list(Code))


def test_the_page_of_errors(golden: Any) -> None:
    head = (
        "# Errors and warnings\n\n"
        "Every message has a code, and `dsvgraph explain CODE` tells its story. This page is made of those stories\n"
        "(`dsvgraph/codes`); the tests run all examples, and the wrong ones give exactly their code.\n\n"
    )
    golden("../../docs/errors.md", head + page())
