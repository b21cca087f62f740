"""`dsvgraph import`: a spec from a Hugging Face config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsvgraph.backends import importer
from dsvgraph.files import write_atomic

Config = Annotated[Path, typer.Argument(metavar="PATH", help="A config.json, or a model's folder.", show_default=False)]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to. [default: print it]")]


def run(config: Config, path: Output = None) -> None:
    """Turn a Hugging Face config.json into a spec, or say what in it has no meaning here."""
    text = importer(config).spec_of(config)
    if path is None:
        print(text, end="")
    else:
        write_atomic(path, text)
        print(path)
