"""`dsvgraph blocks`: the blocks of the bundled library."""

from __future__ import annotations

from typing import Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption
from dsvgraph.cli.read import reference
from dsvgraph.cli.read.reference import MarkdownOption


def _names(incomplete: str) -> list[str]:
    """Return the names that complete what was typed in a shell."""
    from dsvgraph.passes.text.reference import blocks

    return sorted(name for name in blocks() if name.startswith(incomplete))


Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Print all of this one.", autocompletion=_names, show_default=False),
]


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
