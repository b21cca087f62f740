"""`dsvgraph render`: a diagram."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dsvgraph.backends import backend
from dsvgraph.cli.options import SetOption, SpecArgument, load

FULL = 1_000  # levels, more than any spec has
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


def _depth(text: str) -> int:
    """Reads a number of levels, or `full`."""
    if text == "full":
        return FULL
    if not text.isdecimal() or not 0 < int(text) <= FULL:
        raise typer.BadParameter(f"`{text}` is neither a number from 1 nor `full`")
    return int(text)


Depth = Annotated[
    Any,
    typer.Option(
        "--depth", metavar="N", parser=_depth,
        help="1 shows the model, 2 and more open its blocks beside it, each once; or `full`.",
    ),
]  # fmt: skip


class Theme(StrEnum):
    """The colours of a picture."""

    light = "light"
    dark = "dark"
    auto = "auto"
    print = "print"


class Shapes(StrEnum):
    """What stands on the lines."""

    numbers = "numbers"
    symbolic = "symbolic"
    off = "off"


class Heat(StrEnum):
    """The cost that cards are coloured by."""

    params = "params"
    flops = "flops"
    memory = "memory"


ShapesOption = Annotated[Shapes, typer.Option("--shapes", help="Shapes on lines: 7168, hidden_size, or none.")]
Weights = Annotated[bool, typer.Option("--weights", help="The checkpoint's names and shapes on the cards.")]
HeatOption = Annotated[Heat | None, typer.Option("--heat", help="Colour by the share of a cost.")]
ThemeOption = Annotated[Theme, typer.Option("--theme", help="auto: an SVG that follows its reader's setting.")]
Focus = Annotated[str, typer.Option("--focus", metavar="PATH", help="Draw one block, with what enters and leaves it.")]
Expand = Annotated[
    list[str] | None, typer.Option("--expand", metavar="PATH", help="Open a block in its place; repeatable.")
]


def run(
    spec: SpecArgument,
    path: Output = None,
    depth: Depth = "1",
    focus: Focus = "",
    expand: Expand = None,
    theme: ThemeOption = Theme.light,
    shapes: ShapesOption = Shapes.numbers,
    weights: Weights = False,
    heat: HeatOption = None,
    settings: SetOption = None,
) -> None:
    """Draw a diagram: repeated layers folded, shapes on edges, the MTP chain and what it shares."""
    model = load(spec, settings)
    path = path or Path(f"{Path(spec).stem}.svg")
    view = {
        "focus": focus, "expand": tuple(expand or ()), "theme": theme.value, "shapes": shapes.value,
        "weights": weights, "heat": heat.value if heat else "",
    }  # fmt: skip
    print(backend("graphviz", "drawing").render(model, path, depth, **view))
