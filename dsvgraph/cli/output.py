"""Print tables, JSON and errors; with colours on a terminal only."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dsvgraph.errors import Diagnostic, DsvError, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PLAIN_WIDTH = 100  # columns, if there is no terminal to ask
SECTIONS = {"parameters": "parameters", "flops": "FLOPs", "kv_cache": "KV cache"}
STYLES = {
    r"^error(\[\w+\])?:": "bold red",
    r"^warning(\[\w+\])?:": "bold yellow",
    r"^ +\| +\^+$": "bold red",
    r"^ +\| +-+( .*)?$": "cyan",
    r"^ *(-->|:::)|^ *\d* \|": "blue",  # later patterns override earlier ones
    r"^  = \w+:": "cyan",
}


def write(*parts: RenderableType, widest: int | None = None) -> None:
    """Print tables and text, without spaces at the ends of lines; a table up to ``widest`` is not cut.

    ``widest`` is in columns, PLAIN_WIDTH unless given.
    """
    from rich.measure import Measurement

    to = console()
    wide = to.options.update(width=PLAIN_WIDTH if widest is None else widest)
    least = [Measurement.get(to, wide, part).minimum for part in parts if not isinstance(part, str)]
    to.width = max([to.width, *least])  # words are not cut: a narrow terminal breaks the lines
    for part in parts:
        with to.capture() as capture:
            to.print(part)
        print(*(line.rstrip() for line in capture.get().splitlines()), sep="\n")


def console(stream: TextIO | None = None) -> Console:
    """Return the console to print tables on; without a terminal, its width is PLAIN_WIDTH and it has no colours."""
    from rich.console import Console

    stream = stream or sys.stdout
    plain = not coloured(stream)
    width = None if is_terminal(stream) else PLAIN_WIDTH
    return Console(
        file=stream, width=width, markup=False, emoji=False, highlight=False,
        color_system=None if plain else "auto", no_color=plain,
    )  # fmt: skip


def is_terminal(stream: TextIO | None) -> bool:
    """Whether ``stream`` is a terminal."""
    return stream is not None and stream.isatty()


def coloured(stream: TextIO | None) -> bool:
    """Whether to use colours on ``stream``; see https://no-color.org."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def data(value: object) -> None:
    """Print ``value`` as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], wraps: Sequence[str] = ()) -> Table:
    """Return a table without boxes. Columns written `>name` are aligned to the right; those in ``wraps`` may break."""
    from rich.table import Table

    titled = any(column.strip(">") for column in columns)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=titled)
    for column in columns:
        name = column.removeprefix(">")
        side: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        made.add_column(name, justify=side, no_wrap=column not in wraps, overflow="fold")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def pairs(rows: Iterable[Sequence[object]]) -> Table:
    """Return a table of labels and values, one pair a line."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: object) -> str:
    """Return a value as text for a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def nested(rows: Iterable[Any]) -> Iterator[str]:
    """Yield the paths of the rows of a cost, indented as they nest and without the path of the row around them."""
    parents: list[str] = []
    for row in rows:
        parents = parents[: row.depth]
        inner = row.path.removeprefix(parents[-1]).lstrip(".") if parents else row.path
        yield "  " * row.depth + (inner or f"({row.line})")
        parents.append(row.path)


def title(section: str, name: str) -> str:
    """Return the label of a quantity of a cost."""
    return f"{SECTIONS[section]}, {name.replace('_', ' ')}"


def short(value: float, units: str = "KMGTPEZY", sign: str = "") -> str:
    """Return a number with four digits and a unit: 671.0 G."""
    steps = ["", *(f" {unit}" for unit in units)]
    while abs(value) >= 999.95 and len(steps) > 1:
        value, steps = value / 1000, steps[1:]
    digits = 0 if value == int(value) and not steps[0] else max(0, 4 - len(str(int(abs(value)))))
    return f"{value:{sign}.{digits}f}{steps[0]}"


def errors(error: DsvError, form: str = "text") -> None:
    """Print an error: as text on standard error, in the other forms on standard output."""
    if form != "text":
        diagnostics_as(form, error.diagnostics)
        return
    diagnostics(error.diagnostics, sys.stderr)
    codes = sorted({str(d.code) for d in error.diagnostics if d.code})
    if codes and is_terminal(sys.stderr):
        print(f"\n`dsvgraph explain {codes[0]}` tells more", file=sys.stderr)
    if len(error.diagnostics) > 1:
        print(f"\n{len(error.diagnostics)} errors", file=sys.stderr)


def diagnostics_as(form: str, found: Iterable[Diagnostic]) -> None:
    """Print errors or warnings as JSON, as SARIF, or (`short`) one a line."""
    if form == "json":
        data({"ok": False, "errors": [d.as_dict() for d in found]})
    elif form == "sarif":
        from dsvgraph.cli.sarif import sarif

        data(sarif(found))
    else:
        for diagnostic in found:
            print(diagnostic.short())


def diagnostics(found: Iterable[Diagnostic], stream: TextIO) -> None:
    """Print errors or warnings as text, with an empty line between them."""
    for i, diagnostic in enumerate(found):
        lines = [*([""] if i else []), *diagnostic.text()]
        if is_terminal(stream):
            lines = [part for line in lines for part in _wrapped(line, console(stream).width)]
        if coloured(stream):
            _print_styled(lines, stream)
        else:
            print(*lines, sep="\n", file=stream)


def _wrapped(line: str, width: int) -> list[str]:
    """Return a sentence in lines of at most ``width``; excerpts of a file stay as they are."""
    if not re.match(r"(error|warning)\b|  = ", line):
        return [line]
    indent = "  " + " " * (line.find(":") if line.startswith(" ") else 0)
    return textwrap.wrap(line, max(width, 20), subsequent_indent=indent, break_on_hyphens=False) or [line]


def _print_styled(lines: list[str], stream: TextIO) -> None:
    from rich.text import Text

    to = console(stream)
    for line in lines:
        text = Text(line)
        for pattern, style in STYLES.items():
            text.highlight_regex(pattern, style)
        to.print(text, soft_wrap=True)
