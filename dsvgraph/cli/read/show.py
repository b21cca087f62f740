"""`dsvgraph show`: print the spec with everything resolved, or where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption, SetOption, SpecArgument, load
from dsvgraph.errors import clipped

if TYPE_CHECKING:
    from dsvgraph.errors import Span
    from dsvgraph.graph import Model
    from dsvgraph.passes.graph.origins import Origin

WIDTH = 22  # of a value in the table

OriginOption = Annotated[
    bool, typer.Option("--origin", help="For every config value and argument, the line that set it.")
]


def run(
    spec: SpecArgument, settings: SetOption = None, origin: OriginOption = False, as_json: JsonOption = False
) -> None:
    """Print the spec with everything resolved, as YAML that checks to the same graph."""
    from dsvgraph.passes.text.show import show

    model = load(spec, settings)
    if origin:
        _origins(model, as_json)
    elif as_json:
        output.data({"name": model.name, "spec": show(model)})
    else:
        print(show(model), end="")


def _origins(model: Model, as_json: bool) -> None:
    from dsvgraph.passes.graph.origins import argument_origins, config_origins

    config, calls = config_origins(model), list(argument_origins(model))
    if as_json:
        output.data({"config": [o.as_dict() for o in config], "calls": [call.as_dict() for call in calls]})
        return
    output.write(output.table(("config", "value", "set at"), [row for o in config for row in _rows(o, "")]))
    for call in calls:
        output.write("", output.cell(f"{call.line}: {call.block}, {_place(call.span)}"))
        output.write(output.table(("", "", ""), [row for o in call.arguments for row in _rows(o, "  ")]))


def _rows(origin: Origin, indent: str) -> Iterator[tuple[str, str, str]]:
    """Yield a value, and below it those that it overrides."""
    place = _place(origin.span)
    yield indent + origin.name, clipped(origin.value, WIDTH), place if not indent else f"{place} ({origin.how})"
    for span in origin.overridden:
        yield f"{indent}  over", clipped(span.text, WIDTH), _place(span)


def _place(span: Span | None) -> str:
    """Return file and line; `-` or `--set` for a value that has none."""
    if span is None:
        return "-"
    return span.source.name if span.source.name == "--set" else f"{span.source.name}:{span.line}"
