"""`dsvgraph ops`: the primitive ops."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption
from dsvgraph.cli.read import reference
from dsvgraph.cli.read.reference import MarkdownOption, name_argument


def _names() -> Iterable[str]:
    """Return the names that a shell may complete."""
    from dsvgraph.ops import OPS

    return OPS


Name = Annotated[str | None, name_argument(_names)]


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
