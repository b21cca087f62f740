"""What people and programs read: tables, JSON, errors. Colours on a terminal only."""

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

PLAIN_WIDTH = 100  # where no terminal says how wide it is
SECTIONS = {"parameters": "parameters", "flops": "FLOPs", "kv_cache": "KV cache"}
STYLES = {
    r"^error(\[\w+\])?:": "bold red",
    r"^warning(\[\w+\])?:": "bold yellow",
    r"^ +\| +\^+$": "bold red",
    r"^ +\| +-+( .*)?$": "cyan",
    r"^ *(-->|:::)|^ *\d* \|": "blue",  # over the two before
    r"^  = \w+:": "cyan",
}


def write(*parts: RenderableType) -> None:
    """Prints tables and text, no spaces at the ends of lines."""
    from rich.measure import Measurement

    to = console()
    wide = to.options.update(width=PLAIN_WIDTH)
    least = [Measurement.get(to, wide, part).minimum for part in parts if not isinstance(part, str)]
    to.width = max([to.width, *least])  # no word is cut: a narrow terminal breaks the lines
    for part in parts:
        with to.capture() as capture:
            to.print(part)
        print(*(line.rstrip() for line in capture.get().splitlines()), sep="\n")


def console(stream: TextIO | None = None) -> Console:
    """Where tables go; without a terminal the same text for everybody."""
    from rich.console import Console

    stream = stream or sys.stdout
    plain = not coloured(stream)
    width = None if is_terminal(stream) else PLAIN_WIDTH
    return Console(
        file=stream, width=width, markup=False, emoji=False, highlight=False,
        color_system=None if plain else "auto", no_color=plain,
    )  # fmt: skip


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is likely to look at what ``stream`` gets."""
    return stream is not None and stream.isatty()


def coloured(stream: TextIO | None) -> bool:
    """Whether to use colours on ``stream``: https://no-color.org."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def data(value: object) -> None:
    """Prints ``value`` as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], wraps: Sequence[str] = ()) -> Table:
    """A table without boxes. A column written `>name` is of numbers; those in ``wraps`` may break."""
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
    """Labels and values, one pair a line."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: object) -> str:
    """A value as it stands in a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def nested(rows: Iterable[Any]) -> Iterator[str]:
    """The paths of a cost's rows, indented as they nest and without what the row around them says."""
    parents: list[str] = []
    for row in rows:
        parents = parents[: row.depth]
        inner = row.path.removeprefix(parents[-1]).lstrip(".") if parents else row.path
        yield "  " * row.depth + (inner or f"({row.line})")
        parents.append(row.path)


def title(section: str, name: str) -> str:
    """How people read a quantity of a cost."""
    return f"{SECTIONS[section]}, {name.replace('_', ' ')}"


def short(value: float, units: str = "KMGTPEZY", sign: str = "") -> str:
    """A number with four digits and a unit: 671.0 G."""
    steps = ["", *(f" {unit}" for unit in units)]
    while abs(value) >= 999.95 and len(steps) > 1:
        value, steps = value / 1000, steps[1:]
    digits = 0 if value == int(value) and not steps[0] else max(0, 4 - len(str(int(abs(value)))))
    return f"{value:{sign}.{digits}f}{steps[0]}"


def errors(error: DsvError, form: str = "text") -> None:
    """Tells what is wrong: for people on standard error, in other forms on standard output."""
    if form != "text":
        told(error.diagnostics, form)
        return
    diagnostics(error.diagnostics, sys.stderr)
    codes = sorted({str(d.code) for d in error.diagnostics if d.code})
    if codes and is_terminal(sys.stderr):
        print(f"\n`dsvgraph explain {codes[0]}` tells more", file=sys.stderr)
    if len(error.diagnostics) > 1:
        print(f"\n{len(error.diagnostics)} errors", file=sys.stderr)


def told(found: Iterable[Diagnostic], form: str) -> None:
    """Prints errors (or warnings) a line each, as JSON, or as SARIF."""
    if form == "json":
        data({"ok": False, "errors": [d.as_dict() for d in found]})
    elif form == "sarif":
        from dsvgraph.cli.sarif import sarif

        data(sarif(found))
    else:
        for diagnostic in found:
            print(diagnostic.short())


def diagnostics(found: Iterable[Diagnostic], stream: TextIO) -> None:
    """Tells of errors or warnings, an empty line between them."""
    for i, diagnostic in enumerate(found):
        lines = [*([""] if i else []), *diagnostic.text()]
        if is_terminal(stream):
            lines = [part for line in lines for part in _wrapped(line, console(stream).width)]
        if coloured(stream):
            _print_styled(lines, stream)
        else:
            print(*lines, sep="\n", file=stream)


def _wrapped(line: str, width: int) -> list[str]:
    """A sentence in as many rows as it needs; excerpts of a file stay as they are."""
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
