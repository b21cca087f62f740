"""`dsvgraph blocks`: the blocks of the bundled library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption
from dsvgraph.cli.read import reference
from dsvgraph.cli.read.reference import MarkdownOption, name_argument


def _names() -> Iterable[str]:
    """Return the names that a shell may complete."""
    from dsvgraph.passes.text.reference import blocks

    return blocks()


Name = Annotated[str | None, name_argument(_names)]


def run(name: Name = None, as_json: JsonOption = False, markdown: MarkdownOption = False) -> None:
    """List the bundled blocks; with NAME, all of one: arguments, ports, weights, formula, YAML."""
    from dsvgraph.passes.text.reference import blocks, ops

    pages = blocks()
    if name is None and not as_json and not markdown:
        rows = [(page.name, page.file, page.summary) for page in pages.values()]
        output.write(output.table(["block", "file to include", "what it is"], rows, wraps=["what it is"]))
        return
    reference.tell("block", "Blocks", pages, name, as_json, markdown, {"op": ops})
    if name is not None and not as_json and not markdown:
        output.write("", output.cell(pages[name].file) + ":", "")
        print(pages[name].yaml)
