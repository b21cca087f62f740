"""`dsvgraph ops`: the primitive ops."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption
from dsvgraph.cli.read import reference
from dsvgraph.cli.read.reference import MarkdownOption


def _names(incomplete: str) -> list[str]:
    """Return the names that complete what was typed in a shell."""
    from dsvgraph.ops import OPS

    return sorted(name for name in OPS if name.startswith(incomplete))


Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Print all of this one.", autocompletion=_names, show_default=False),
]


def run(name: Name = None, as_json: JsonOption = False, markdown: MarkdownOption = False) -> None:
    """List the primitive ops; with NAME, all of one: ports, weights, attributes, formula, FLOPs."""
    from dsvgraph.ops import OPS
    from dsvgraph.passes.text.reference import blocks, ops

    pages = ops()
    if name is None and not as_json and not markdown:
        for words in OPS.failures():
            print(f"warning: {words}", file=sys.stderr)
        rows = [(page.name, page.summary) for page in pages.values()]
        output.write(output.table(["op", "what it does"], rows, wraps=["what it does"]))
    else:
        reference.tell("op", "Ops", pages, name, as_json, markdown, {"block": blocks})
