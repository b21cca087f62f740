"""`dsvgraph report`: a page about a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption, JsonOption

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to write. [the folder of the run]")
]


def run(folder: Folder, out: Output = None, as_json: JsonOption = False, backend: BackendOption = None) -> None:
    """Draw a run: losses by depth, learning rate, gradients, experts; an offline page and its Markdown."""
    files = backends.run_reader(backend).report(folder, out or folder)
    if as_json:
        output.data({"files": [str(path) for path in files]})
    else:
        output.write(f"wrote {files[0]}", f"wrote {files[1]} with {len(files) - 2} pictures")
