"""Where a mistake is, what it is, and how it is told: one error class at the border."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

MAX_ERRORS = 50  # told at once
MAX_NAMES = 1000  # that a misspelt one is compared with


@dataclass(frozen=True)
class Source:
    """One text: the name shown in errors, and its lines."""

    name: str
    lines: tuple[str, ...] = field(repr=False)

    def line(self, number: int) -> str:
        """Line ``number`` (from 1), or nothing if the text is shorter."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


@dataclass(frozen=True)
class Span:
    """A stretch of one line: line and column count from 1."""

    source: Source = field(repr=False)
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One mistake (or a warning): words, place, the path of the node, what came before, a hint."""

    message: str
    span: Span | None = None
    path: str = ""
    notes: tuple[tuple[str, Span | None], ...] = ()
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        return "\n".join(self.text())

    def text(self) -> list[str]:
        """The diagnostic as lines, in the manner of a compiler."""
        lines = [f"{self.severity}: {clipped(printable(self.message))}"]
        lines += excerpt(self.span)
        if self.path:
            lines.append(f"  = in: {printable(self.path)}")
        for words, span in self.notes:
            lines.append(f"  = note: {clipped(printable(words))}" + (f" ({printable(str(span))})" if span else ""))
        if self.hint:
            lines.append(f"  = help: {clipped(printable(self.hint))}")
        return lines

    def as_dict(self) -> dict[str, object]:
        """The diagnostic for ``--json``."""
        place = self.span and {
            "file": self.span.source.name,
            "line": self.span.line,
            "column": self.span.column,
            "width": self.span.width,
        }
        notes = [{"message": words, "at": str(span) if span else None} for words, span in self.notes]
        return {
            "severity": self.severity,
            "message": self.message,
            "span": place,
            "path": self.path,
            "notes": notes,
            "help": self.hint,
        }


def excerpt(span: Span | None) -> list[str]:
    """The place, the source line and a caret under the guilty words."""
    if span is None:
        return []
    gutter = " " * len(str(span.line))
    line = span.source.line(span.line)
    start = min(max(span.column - 1, 0), len(line))
    first = max(0, start - 60) if len(line) > 120 else 0
    shown = printable(line[first : first + 120])
    caret = " " * len(printable(line[first:start])) + "^" * max(1, min(span.width, 120))
    place = f"{gutter}--> {printable(str(span))}"
    return [place, f"{gutter} |", f"{span.line} | {shown}", f"{gutter} | {caret}"]


class DsvError(Exception):
    """Every error that a user may cause: one or more diagnostics, never a traceback."""

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        path: str = "",
        notes: Iterable[tuple[str, Span | None]] = (),
        hint: str = "",
    ) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (Diagnostic(message, span, path, tuple(notes), hint),)
        super().__init__(message)

    @classmethod
    def collect(cls, errors: Iterable[DsvError]) -> DsvError:
        """One error that holds the diagnostics of many (at most 50), in the order of the text."""
        found = [d for e in errors for d in e.diagnostics]
        unique = list({(d.message, d.span): d for d in reversed(found)}.values())
        unique.sort(key=lambda d: (d.span.source.name, d.span.line, d.span.column) if d.span else ("", 0, 0))
        error = cls(unique[0].message)
        error.diagnostics = tuple(unique[:MAX_ERRORS])
        return error

    def __str__(self) -> str:
        return "\n\n".join(str(d) for d in self.diagnostics)


def printable(text: str) -> str:
    """``text`` without control characters: a spec must not steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.replace("\t", " "))


def clipped(text: str, most: int = 400) -> str:
    """``text``, cut where it is longer than a reader would read."""
    return text if len(text) <= most else text[: most - 3] + "..."


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint with the name that ``name`` most resembles, or nothing."""
    known = [n for n in islice(names, MAX_NAMES) if n != name]
    close = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message, cut to a readable number."""
    found = [f"`{n}`" for n in names]
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more if found else "none"
