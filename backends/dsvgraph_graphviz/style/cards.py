"""The labels of cards as graphviz's tables: pills, cards with a badge, cells with ports, rows of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.markup import box, cell, label, plain, table, words
from dsvgraph_graphviz.style.theme import Hue

WIDE, NARROW, PILL, CELL = 190, 126, 110, 60
BADGE = 22  # height
LETTER = 5.4  # width of a letter of a caption
CHIP, GAP, DOTS = 26, 4, 16  # widths in the row of experts


class Expert(StrEnum):
    """What a small cell in the row of experts stands for."""

    OPEN = "open"  # a routed expert
    CHOSEN = "chosen"  # one that the token is sent to
    SHARED = "shared"  # an expert of every token
    GAP = "gap"  # no expert: room, or dots


@dataclass
class Cell:
    """One cell of a card: its port, its text, and whether it stands out by its colour."""

    port: str
    text: str
    highlighted: bool = False


def pill(
    title: str, hue: Hue, width: int = PILL, bold: bool = False, captions: Sequence[str] = (), mono: Sequence[str] = ()
) -> str:
    """Return a card of one word, with captions or its weights under it."""
    inner = [cell(words(title, hue.title, theme.BODY, bold), width=width), *_captions(captions, hue)]
    return label(box([*inner, *_mono(mono, hue)], hue, cellpadding=5))


def _captions(lines: Sequence[str], hue: Hue, **span: object) -> list[str]:
    return [cell(words(line, hue.text, theme.CAPTION), **span) for line in lines]


def _mono(lines: Sequence[str], hue: Hue, **span: object) -> list[str]:
    """Return names of weights, as code."""
    return [cell(words(line, hue.text, theme.SHAPE, face=theme.MONO), **span) for line in lines]


def card(
    title: str, lines: Sequence[str], hue: Hue, *, badge: str = "", width: int = WIDE, direction: str = "BT",
    above: Sequence[Cell] = (), below: Sequence[Cell] = (), mono: Sequence[str] = (),
    notes: Sequence[str] = (), frame: Mapping[str, object] | None = None,
) -> str:  # fmt: skip
    """Return a title in bold over captions, with cells that values leave by (``above``) and enter by (``below``).

    ``notes`` stand over the name; ``frame`` is another border.
    """
    span = {"colspan": 2, "align": "left"} if badge else {}
    notes = [note.replace("<td", '<td colspan="2"', 1) for note in notes] if badge else notes
    rows = [*notes, _title_row(title, [*lines, *map(plain, notes)], hue, badge, width)]
    rows += _captions(lines, hue, **span)
    rows += _mono(mono, hue, **span)
    if direction == "LR" and (above or below):
        middle = [cell(table(rows, border=0, cellspacing=2, cellpadding=0))]
        rows = ["".join([*_stack(below, hue), *middle, *_stack(above, hue)])]
    else:
        first, last = (above, below) if direction == "BT" else (below, above)
        rows = [*_cells(first, hue), *rows, *_cells(last, hue)]
    return label(box(rows, hue, cellspacing=2, **(frame or {})))


def _title_row(title: str, lines: Sequence[str], hue: Hue, badge: str, width: int) -> str:
    """Return the name, and a badge beside it; where a line is longer, the room is the name's."""
    name = words(title, hue.title, theme.TITLE, bold=True)
    if not badge:
        return cell(name, width=width)
    longest = round(max((LETTER * len(line) for line in lines), default=0))
    mark = words(f" {badge} ", theme.PAPER, theme.BODY, bold=True)
    room = max(width - 50, longest - round(LETTER * 1.4 * (len(badge) + 2)))
    return cell(name, width=room, align="left") + cell(mark, bgcolor=hue.badge, style="rounded", height=BADGE)


def _cells(cells: Sequence[Cell], hue: Hue) -> list[str]:
    """Return one row of cells with ports, as a table of its own so that its columns are free; none for no cells."""
    width = max(CELL, WIDE // max(1, len(cells)))  # cells of one number stand over each other
    inner = "".join(_cell(c, theme.AMBER if c.highlighted else hue, width) for c in cells)
    return [cell(table([inner], border=0, cellspacing=3, cellpadding=0))] if cells else []


def _stack(cells: Sequence[Cell], hue: Hue) -> list[str]:
    """Return cells under each other."""
    rows = [_cell(c, theme.AMBER if c.highlighted else hue) for c in cells]
    return [cell(table(rows, border=0, cellspacing=3, cellpadding=0))] if cells else []


def _cell(one: Cell, hue: Hue, width: int = CELL) -> str:
    return cell(
        words(one.text, hue.title, theme.CAPTION), port=one.port, border=1, style="rounded",
        color=hue.cell_border, bgcolor=hue.cell, cellpadding=4, width=width,
    )  # fmt: skip


def cached(title: str, rows: str = "") -> str:
    """Return the card of a value that decoding caches; ``rows`` says which rows, if not all."""
    hue = theme.CACHED
    note = words(f"CACHED{rows}", hue.text, theme.SMALL, bold=True)
    return label(box([cell(words(title, hue.title, theme.TITLE, bold=True), width=92), cell(note)], hue, border=2))


def end(name: str, around: str, readers: int = 0, direction: str = "BT") -> str:
    """Return what enters a block that is drawn alone, or leaves it; many readers have a place each, in their order."""
    hue = theme.SLATE
    space = "   " if name and around else ""
    inner = words(name, hue.title, theme.BODY, bold=True) + words(space + around, hue.title)
    if readers < 2:
        return label(box([cell(inner, width=PILL)], hue, cellpadding=6))
    half, odd = divmod(readers, 2)
    sides = [cell("", port=f"out{i}", width=PILL) for i in range(readers)]
    middle = cell(inner, **({"port": f"out{half}"} if odd else {}))
    row = [*sides[:half], middle, *sides[half + odd :]]
    return label(box(row if direction == "LR" else ["".join(row)], hue, cellpadding=6))


def shared(title: str, hue: Hue, note: str = "shared", width: int = NARROW, captions: Sequence[str] = ()) -> str:
    """Return the dashed card of a node whose weight is another's."""
    pale = theme.SHARED_FILL
    rows = [
        cell(words(title, hue.title, theme.BODY), width=width),
        cell(words(note, hue.text, theme.CAPTION, italic=True)),
        *_captions(captions, hue),
    ]
    return label(box(rows, hue, style="rounded,dashed", bgcolor=pale))


def tokens(names: Sequence[str]) -> str:
    """Return the first tokens of a row, one cell each."""
    cells = "".join(cell(words(n, theme.INK), style="rounded", bgcolor=theme.PAPER) for n in names)
    return label(table([cells], border=0, cellborder=1, cellspacing=3, cellpadding=5, color=theme.RESIDUAL))


def text(title: str, caption: str = "") -> str:
    """Return words without a frame: what enters and leaves an open block."""
    name = words(title, theme.MUTED, 12, italic=True)
    return label(
        table([cell(name + (words(f"  {caption}", theme.MUTED, 12) if caption else ""))], border=0, cellpadding=3)
    )


def experts(title: str, lines: Sequence[str], router: str, shown: Sequence[tuple[str, Expert]], hue: Hue) -> str:
    """Return a card with one small cell per copy: see `Expert`."""
    chips = ["".join(_expert(n, kind, hue) for n, kind in shown)]
    width = 3 + sum(_chip(n, kind) + 3 for n, kind in shown)
    fixed = {"fixedsize": "true", "width": width, "height": CHIP + 6} if shown else {}  # else it fills a wide card
    rows = [
        cell(words(title, hue.title, theme.TITLE, bold=True)),
        cell(table(chips, border=0, cellborder=1, cellspacing=3, cellpadding=0, **fixed)),
    ]
    if router:
        inner = words(router, hue.title, theme.CAPTION)
        rows.append(cell(inner, border=1, style="rounded", color=hue.cell_border, bgcolor=hue.cell, cellpadding=5))
    rows += _captions(lines, hue)
    return label(box(rows, hue, cellpadding=2, cellspacing=3))


def _chip(name: str, kind: Expert) -> int:
    """Return how wide the place of one expert, or of a gap, is."""
    if kind is Expert.GAP:
        return DOTS if name else GAP
    return max(CHIP, 7 * len(name) + 4)


def _expert(name: str, kind: Expert, hue: Hue) -> str:
    width = _chip(name, kind)
    if kind is Expert.GAP:
        return cell(words(name, hue.text, 12), border=0, width=width)
    size = {"width": width, "height": CHIP, "style": "rounded"}
    if kind is Expert.SHARED:
        return cell(
            words(name, theme.AMBER.title, theme.SMALL, bold=True),
            color=theme.AMBER.border,
            bgcolor=theme.BESIDE,
            **size,
        )
    if kind is Expert.CHOSEN:
        return cell(words(name, theme.PAPER, theme.SMALL, bold=True), color=hue.border, bgcolor=hue.badge, **size)
    return cell(words(name, hue.text, theme.SMALL), color=hue.cell_border, bgcolor=theme.PAPER, **size)


def loss(name: str, predicts: str, hue: Hue, times: str = "") -> str:
    """Return a loss and the tokens it predicts."""
    inner = words(name, hue.title, theme.BODY, bold=True) + words(f"   {predicts}", hue.title)
    inner += words(f"   {times}", hue.title, bold=True) if times else ""
    return label(box([cell(inner, width=150)], hue, cellpadding=5))
