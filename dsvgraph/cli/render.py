"""`dsvgraph render`: a diagram."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsvgraph.backends import backend
from dsvgraph.cli.options import SetOption, SpecArgument, load

FORMATS = (".svg", ".png", ".pdf", ".dot")


def _format(path: Path | None) -> Path | None:
    """Refuses a file whose ending is no picture's."""
    if path is not None and path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"`{path}` must end in one of {', '.join(FORMATS)}")
    return path


Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FILE", callback=_format,
        help="Where to; svg, png, pdf or dot by its ending. [default: SPEC.svg]",
    ),
]  # fmt: skip
Depth = Annotated[
    int,
    typer.Option("--depth", metavar="N", min=1, help="1 shows the graph, 2 and more open blocks."),
]


def run(spec: SpecArgument, path: Output = None, depth: Depth = 1, settings: SetOption = None) -> None:
    """Draw a diagram: repeated layers folded, shapes on edges, the MTP chain and what it shares."""
    model = load(spec, settings)
    path = path or Path(f"{Path(spec).stem}.svg")
    print(backend("graphviz", "drawing").render(model, path, depth))
