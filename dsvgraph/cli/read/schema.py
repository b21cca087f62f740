"""`dsvgraph schema`: JSON Schema of the language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to. [default: the screen]")]


def run(path: Output = None) -> None:
    """Print the JSON Schema of the language, so that editors complete and check specs."""
    from dsvgraph.files import write_atomic
    from dsvgraph.passes.text.schema import schema

    text = json.dumps(schema(), indent=2, ensure_ascii=False)
    if path is None:
        print(text)
    else:
        write_atomic(path, text + "\n")
