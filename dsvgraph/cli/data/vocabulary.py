"""`dsvgraph data vocabulary`: the tokens met most, for a draft that knows these alone."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption, JsonOption
from dsvgraph.files import note_input, write_atomic
from dsvgraph.spec.vocabulary import written

Data = Annotated[Path, typer.Argument(metavar="PATH", help="What `compile --train --data` takes.", show_default=False)]
Size = Annotated[int, typer.Option("--size", metavar="N", min=1, help="How many tokens are kept.", show_default=False)]
Out = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A file NAME.txt.", show_default=False)]
Tokenizer = Annotated[str | None, typer.Option("--tokenizer", metavar="NAME", help="As `compile --train` takes it.")]
WIDTH = 100


def run(
    path: Data,
    size: Size,
    file: Out,
    tokenizer: Tokenizer = None,
    as_json: JsonOption = False,
    backend: BackendOption = None,
) -> None:
    """Write the ids of the tokens met most in training data, as `vocabulary: FILE` of a loss takes them."""
    note_input(path)
    options = {"data": path, **({"tokenizer": tokenizer} if tokenizer else {})}
    found = backends.datasets(backend).frequent(options, size)
    ids = found.pop("ids")
    note = f"{len(ids):,} token ids of {found['vocabulary']}, {100 * found['share']:.2f} % of what is met in training"
    lines = [f"# {note} on {found['source']}", *textwrap.wrap(written(ids), WIDTH)]
    write_atomic(file, "\n".join(lines) + "\n")
    if as_json:
        output.data({"file": str(file), **found, "ids": ids})
    else:
        rows = {**found, "share": f"{100 * found['share']:.2f} %", "tokens": f"{found['tokens']:,}", "written": file}
        output.write(output.pairs(rows.items()))
