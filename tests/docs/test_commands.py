"""Commands of pages whose runs take long: every option and value is one that the command takes."""

from __future__ import annotations

import re
import shlex

import pages
import pytest
from typer.main import get_command

from dsvgraph.cli import app

README = ("bench", "compare", "data", "generate", "probe", "report", "runs")
"""Commands of the README that are not run by other tests."""

STARTS = tuple(f"$ dsvgraph {name}" for name in README)
PAGES = ("bench.md", "performance.md", "compare.md", "training.md", "data.md", "decoding.md")


def joined(text: str) -> str:
    """Return a text whose commands stand on one line each."""
    return re.sub(r"\\\n *", "", text)


def lines() -> list[str]:
    found = [(page, fence) for page in PAGES for fence in pages.fences(page) if fence.kind == "console"]
    assert {page for page, _ in found} == set(PAGES)
    text = (pages.DOCS.parent / "README.md").read_text(encoding="utf-8")
    readme = [line for line in text.splitlines() if line.startswith(STARTS)]
    shown = [line for _, fence in found for line in re.findall(r"^\$ .*$", joined(fence.text), re.MULTILINE)]
    return readme + [line for line in shown if not line.startswith(BENCHMARK)]


BENCHMARK = "$ python benchmarks/"
"""Programs of this folder are no commands: `test_benchmarks_are_there` reads them."""


def test_benchmarks_are_there() -> None:
    text = "".join((pages.DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"python (benchmarks/\w+\.py)", text))
    assert named and all((pages.DOCS.parent / name).is_file() for name in named)


@pytest.mark.parametrize("line", lines())
def test_a_command_is_understood(line: str) -> None:
    program, *words = shlex.split(line.removeprefix("$ "), comments=True)
    command, parent = get_command(app), None
    assert program == "dsvgraph"
    while words and words[0] in getattr(command, "commands", {}):
        parent = command.make_context(command.name, [], resilient_parsing=True)
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words, parent=parent)
