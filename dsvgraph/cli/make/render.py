"""`dsvgraph render`: a diagram."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dsvgraph.backends import FULL, endings, renderer
from dsvgraph.cli.make.watch import watch
from dsvgraph.cli.options import SetOption, SpecArgument, bundled_names, load
from dsvgraph.graph import Model


def _format(path: Path | None) -> Path | None:
    """Refuse a file that nothing draws."""
    if path is not None and path.suffix.lower().removeprefix(".") not in (known := endings()):
        raise typer.BadParameter(f"`{path}` must end in one of {', '.join(f'.{ending}' for ending in known)}")
    return path


Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FILE", callback=_format,
        help="Where to, by its ending: {endings}. [default: SPEC.svg]",
    ),
]  # fmt: skip


def _depth(text: str) -> int:
    """Read a number of levels, or `full`."""
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


Theme = Annotated[
    Literal["light", "dark", "auto", "print"],
    typer.Option("--theme", help="The colours; auto is an SVG that follows its reader's setting."),
]
Shapes = Annotated[
    Literal["numbers", "symbolic", "off"], typer.Option("--shapes", help="Shapes on lines: 7168, hidden_size, or none.")
]
Weights = Annotated[bool, typer.Option("--weights", help="The checkpoint's names and shapes on the cards.")]
Heat = Annotated[
    Literal["params", "flops", "memory"] | None, typer.Option("--heat", help="Colour by the share of a cost.")
]
Direction = Annotated[
    Literal["BT", "TB", "LR"], typer.Option("--direction", help="Where data flows: to the top, down, to the right.")
]
Diff = Annotated[
    str | None,
    typer.Option(
        "--diff", metavar="OTHER", autocompletion=bundled_names,
        help="Draw what differs in this spec; given SPEC again, what --set changes.",
    ),
]  # fmt: skip
Watch = Annotated[bool, typer.Option("--watch", help="Draw again whenever a file of the spec is saved.")]
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
    theme: Theme = "light",
    shapes: Shapes = "numbers",
    weights: Weights = False,
    heat: Heat = None,
    direction: Direction = "BT",
    diff: Diff = None,
    again: Watch = False,
    settings: SetOption = None,
) -> None:
    """Draw a diagram: repeated layers folded, shapes on edges, the MTP chain and what it shares."""
    path = path or Path(f"{Path(spec).stem}.svg")
    view = {
        "focus": focus, "expand": tuple(expand or ()), "theme": theme, "shapes": shapes,
        "weights": weights, "heat": heat or "", "direction": direction,
    }  # fmt: skip
    drawing = renderer(path)

    def draw() -> list[Model]:
        model = load(spec, settings if diff != spec else None)
        other = load(diff, settings) if diff else None
        print(drawing.render(model, path, depth, **view, diff=other), flush=True)
        return [model, *([other] if other else [])]

    if again:
        watch([spec, *([diff] if diff else [])], draw, lambda error: drawing.render_error(error, path, theme))
    else:
        draw()
