"""`dsvgraph data prepare`: encode documents once, into files that training maps into memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.cli import output, progress
from dsvgraph.cli.options import BackendOption, JsonOption
from dsvgraph.files import note_input

Data = Annotated[
    Path,
    typer.Argument(metavar="PATH", help="Text, JSON lines, Parquet, a saved dataset, or a folder.", show_default=False),
]
Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder.", show_default=False)]
Tokenizer = Annotated[
    str, typer.Option("--tokenizer", metavar="NAME", help="bytes, bpe:SIZE (trained on PATH), or a tokenizer.json.")
]
Column = Annotated[str, typer.Option("--field", metavar="NAME", help="The field of records that holds the text.")]


def run(
    path: Data,
    folder: Folder,
    tokenizer: Tokenizer = "bytes",
    field: Column = "text",
    as_json: JsonOption = False,
    backend: BackendOption = None,
) -> None:
    """Encode documents once, into a folder for `compile --train --data DIR`; it is there whole or not at all."""
    datasets = backends.datasets(backend)
    note_input(path)
    with progress.bytes_done("preparing", sys.stderr if as_json else sys.stdout) as advance:
        found = datasets.prepare(path, folder, tokenizer=tokenizer, field=field, progress=advance)
    if as_json:
        output.data(found)
    else:
        output.write(output.pairs((name.replace("_", " "), value) for name, value in found.items()))
