"""Codes of errors: each has a story, whose wrong example gives exactly that code and whose right one none."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.codes import Code
from dsvgraph.codes.stories import Example, page, stories
from dsvgraph.passes.compare.zoo import compare_published, contradictions
from dsvgraph.passes.lint.unused import lint

STORIES = stories()
PACKAGE = Path(dsvgraph.__file__).parent


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
        if "zoo" in example.options:
            return [str(d.code) for d in contradictions(model, compare_published(model))]
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


def raised(folder: Path) -> list[tuple[str, ast.Call]]:
    """Every DsvError that a file of ``folder`` makes itself."""
    found = []
    for path in sorted([folder] if folder.is_file() else folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("DsvError", "Fatal", "ValueError"):
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", node))
    return found


@pytest.mark.parametrize("part", ["loader", "spec", "expr", "types.py", "ops", "build"])
def test_every_mistake_of_a_spec_has_a_code(part: str) -> None:
    calls = raised(PACKAGE / part)
    assert calls or part in ("expr", "types.py", "ops")
    without = [place for place, call in calls if "code" not in {keyword.arg for keyword in call.keywords}]
    assert without == []


def test_no_code_is_an_alias_of_another() -> None:
    assert len(Code.__members__) == len(list(Code))


def test_the_page_of_errors(golden: Any) -> None:
    golden("../../docs/errors.md", page())
