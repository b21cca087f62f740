"""Every example of the documentation is run, and every message and number in it is the real one."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

import dsvgraph
from dsvgraph.loader import parse
from dsvgraph.passes.text.schema import schema

EXECUTED = ["language.md", "tutorial.md"]


@pytest.mark.torch
@pytest.mark.parametrize("page", EXECUTED)
def test_a_page_is_true(page, folder, golden, monkeypatch):
    monkeypatch.setattr("dsvgraph_torch.training.loop.SAMPLE_TOKENS", 4)
    golden(f"../../docs/{page}", pages.rewritten(page))


@pytest.mark.parametrize("page", EXECUTED)
def test_wrong_examples_are_told_with_their_message(page):
    found = pages.fences(page)
    for fence, after in zip(found, [*found[1:], None]):
        assert fence.kind in ("yaml", "text", "console", "python"), f"{page}:{fence.line}: nothing runs this"
        assert (fence.word == "wrong") == (after is not None and after.kind == "text"), f"{page}:{fence.line}"


def test_shapes_in_comments_are_true(folder):
    told = 0
    for fence in pages.fences("language.md"):
        if fence.kind == "yaml" and fence.word != "wrong":
            pages.keep(fence)
            model = None if pages.is_library(fence.text) else dsvgraph.load(fence.word or "model.yaml")
            for name, shape in re.findall(r"^ *(\w+): .*#.*?(\[.*\])$", fence.text, re.MULTILINE):
                types = model.inputs if name in model.inputs else model.nodes[name].outputs
                assert str(types.get(name) or next(iter(types.values()))) == shape, f"line {fence.line}: {name}"
                told += 1
    assert told >= 3


def test_the_schema_accepts_every_right_example():
    jsonschema = pytest.importorskip("jsonschema", reason="of the extra `dev`")
    accepts = jsonschema.Draft202012Validator(schema())
    for page in EXECUTED:
        for fence in pages.fences(page):
            if fence.kind == "yaml" and fence.word != "wrong":
                text = fence.text if pages.is_library(fence.text) else pages.whole(fence.text)
                assert [e.message for e in accepts.iter_errors(parse(text).data)] == [], f"{page}:{fence.line}"


@pytest.mark.parametrize("page", EXECUTED)
def test_files_are_written_as_fmt_writes_them(page, folder):
    for fence in pages.fences(page):
        if fence.word.endswith(".yaml"):
            Path("page.yaml").write_text(fence.text, encoding="utf-8")
            pages.run("$ dsvgraph fmt page.yaml")
            assert fence.text == Path("page.yaml").read_text(encoding="utf-8"), fence.id


@pytest.mark.torch
@pytest.mark.parametrize("page", EXECUTED)
def test_every_right_example_decodes_as_its_whole_row(page, folder):
    decodes = pytest.importorskip("decodes", reason="needs torch")
    found = []
    for fence in pages.fences(page):
        if fence.kind == "yaml" and fence.word != "wrong":
            pages.keep(fence)
            if not pages.is_library(fence.text):
                model = dsvgraph.load(fence.word or "model.yaml")
                found.append(decodes.check(model, [[1] * 5, [3, 2]]))
    assert len(found) > 3 and any(found)
