"""`dsvgraph zoo`: the bundled models beside the figures that others publish of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.exits import WRONG
from dsvgraph.cli.options import JsonOption, load

if TYPE_CHECKING:
    from dsvgraph.errors import Diagnostic
    from dsvgraph.graph import Model
    from dsvgraph.passes.compare.zoo import PublishedComparison

COUNTS = {"all": "all", "without_embedding": "no embedding", "without_embedding_and_head": "neither"}
AGREES = {"rounded": "yes", "cut": "cut", "": "NO", None: None}  # by the values of Agreement
NOTES = (
    "parameters: what the first output depends on; active: what one of its tokens meets,",
    "counted whole (all), without the embedding table, or without table and head (neither).",
    "agrees: the counts give the published figures rounded, or one with its other digits cut off.",
)

Specs = Annotated[
    list[str] | None, typer.Argument(metavar="[SPEC]...", help="More specs for the table.", show_default=False)
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print the table as docs/zoo.md has it.")]


def run(specs: Specs = None, as_json: JsonOption = False, markdown: MarkdownOption = False) -> None:
    """List the bundled models: parameters and active parameters, beside the published figures.

    The exit code is 1 where a published figure is contradicted.
    """
    from dsvgraph.passes.compare.zoo import compare_published, contradictions

    models = [*bundled(), *map(load, specs or ())]
    found = [compare_published(model) for model in models]
    wrong = [words for model, entry in zip(models, found, strict=True) for words in contradictions(model, entry)]
    if as_json:
        _print_json(found, wrong)
    elif markdown:
        print(*markdown_lines(found), sep="\n")
    else:
        columns = ["model", ">parameters", ">published", ">active", "counts", ">published", "agrees"]
        output.write(output.table(columns, map(_row, found), wraps=columns[:1]), "", *NOTES)
    if wrong and not as_json:
        output.diagnostics(wrong, sys.stderr)
    if wrong:
        raise typer.Exit(WRONG)


def bundled() -> list[Model]:
    """The bundled models by name, those of which figures are published first."""
    from dsvgraph import loader

    models = [load(path.stem) for path in sorted(loader.bundled().glob("*.yaml"))]
    return sorted(models, key=lambda model: model.spec is None or model.spec.published is None)


def markdown_lines(found: list[PublishedComparison]) -> Iterator[str]:
    """The table of docs/zoo.md: every convention in a column of its own."""
    yield "| model | parameters | published | active: all | no embedding | neither | published | counts | agrees |"
    yield "|---|--:|--:|--:|--:|--:|--:|---|---|"
    for entry in found:
        name, parameters, published, _, *rest = map(output.cell, _row(entry))
        cells = [name, parameters, published, *(f"{n:,}" for n in entry.active.values()), *rest[1:2], rest[0], rest[2]]
        yield f"| {' | '.join(cells)} |"


def _row(entry: PublishedComparison) -> tuple[object, ...]:
    """The cells of one model: its active count is by the convention that is published."""
    from dsvgraph.passes.compare.zoo import Agreement

    figures, agree = entry.published or {}, entry.agree or {}
    counts = figures.get("active_counts", "all")
    word = next((word for word in reversed(Agreement) if word in agree.values()), None)
    return (
        entry.name, entry.parameters, figures.get("parameters"),
        entry.active[counts], COUNTS[counts], figures.get("active"), AGREES[word],
    )  # fmt: skip


def _print_json(found: list[PublishedComparison], wrong: list[Diagnostic]) -> None:
    errors = [diagnostic.as_dict() for diagnostic in wrong]
    output.data({"ok": not wrong, "models": [entry.as_dict() for entry in found], "errors": errors})
