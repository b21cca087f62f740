"""`dsvgraph data show`: some rows as a model is trained on them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph import backends
from dsvgraph.backends.training import Packing
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption, JsonOption
from dsvgraph.errors import printable

if TYPE_CHECKING:
    from rich.text import Text

Data = Annotated[
    Path | None,
    typer.Argument(metavar="[PATH]", help="What --data takes. [the standard library]", show_default=False),
]
TaskOption = Annotated[str | None, typer.Option("--task", metavar="NAME[:K=V,...]", help="A task, in place of PATH.")]
Tokenizer = Annotated[str | None, typer.Option("--tokenizer", metavar="NAME", help="As `compile --train` takes it.")]
PackOption = Annotated[Packing, typer.Option("--pack", metavar="MODE", help="none, cut or whole.")]
Seq = Annotated[int | None, typer.Option("--seq", metavar="N", min=2, help="Tokens of one row. [128, or the task's]")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="What the order depends on.")]
Rows = Annotated[int, typer.Option("--rows", metavar="N", min=1, help="How many rows.")]
Heldout = Annotated[bool, typer.Option("--heldout", help="Held-out rows, in place of those of the first batch.")]

ANSWER, COUNTED, GIVEN = "bold green", "", "dim"
BOUNDARY = "‖"
NOTE = f"dim or [...]: not counted by the loss; green or <<...>>: an answer; {BOUNDARY}: a document begins"


def run(
    path: Data = None,
    task: TaskOption = None,
    tokenizer: Tokenizer = None,
    pack: PackOption = Packing.NONE,
    seq: Seq = None,
    seed: Seed = 0,
    rows: Rows = 2,
    heldout: Heldout = False,
    as_json: JsonOption = False,
    backend: BackendOption = None,
) -> None:
    """Show rows as text: where documents begin, which targets are counted, and what belongs to an answer."""
    given = {"data": path, "task": task, "tokenizer": tokenizer, "seq": seq, "seed": seed, "pack": pack.value}
    options = {name: value for name, value in given.items() if value is not None}
    found = backends.datasets(backend).rows(options, rows, heldout=heldout)
    if as_json:
        output.data(found)
        return
    output.write(output.pairs((name, found[name]) for name in ("source", "vocabulary", "heldout")), "")
    colours = output.coloured(sys.stdout)
    for number, row in enumerate(found["rows"], 1):
        output.write(f"row {number}", _text(row, colours), "")
    output.write(NOTE)


def _text(row: dict[str, Any], colours: bool) -> Text:
    """Return a row as text: in colours, or with brackets around what is not plain."""
    from rich.text import Text

    shown = Text()
    for piece, style in _stretches(row):
        before, after = ("", "") if colours else {ANSWER: ("<<", ">>"), GIVEN: ("[", "]")}.get(style, ("", ""))
        words = BOUNDARY if style == BOUNDARY else f"{before}{''.join(map(_visible, piece))}{after}"
        shown.append(words, style="" if style == BOUNDARY else style)
    return shown


def _stretches(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the stretches of a row that look alike, and the boundaries between documents."""
    piece, style, document = "", "", 0
    parts = zip(row["pieces"], row["counted"], row["answers"], row["documents"], strict=True)
    for text, counted, answer, number in parts:
        now = ANSWER if answer else COUNTED if counted else GIVEN
        if piece and (now != style or number != document):
            yield piece, style
            piece = ""
        if number != document:
            yield "", BOUNDARY
        piece, style, document = piece + text, now, number
    yield piece, style


def _visible(character: str) -> str:
    return character if character in "\n\t" else printable(character)
